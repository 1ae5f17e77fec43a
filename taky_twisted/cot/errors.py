"""What can be wrong with an event; always the sender's fault."""

from __future__ import annotations


class MalformedEvent(ValueError):
    """An event that is not passed on; the text says why in plain words."""
