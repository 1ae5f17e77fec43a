"""Whose fault it is.

::

    RemoteProtocolError    the peer broke the rules for good: say so in the log and close
    (anything else)        a bug of ours: let it fly

One event that cannot be read is no error here: it is reported as `Unreadable` and the stream goes on.
"""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """The peer sends what is no TAK stream; the text is for the operator."""


class FrameTooLong(RemoteProtocolError):
    """The peer announces more in one piece than is taken."""
