"""What can go wrong when identities are given out."""

from __future__ import annotations


class EnrollmentError(Exception):
    """A certificate, a package or an entry in the register cannot be made; the text is one line that says why."""


class BadName(EnrollmentError):
    """A name that cannot be a certificate's."""


class Banned(EnrollmentError):
    """The name is banned, and gets no certificate."""


class BadRequest(EnrollmentError):
    """A certificate signing request that is not signed."""
