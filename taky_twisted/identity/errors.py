"""What can be wrong with an endpoint string, or with the keys and certificates that it names."""

from __future__ import annotations


class EndpointError(ValueError):
    """An endpoint cannot be made, or its files cannot be used; the text is one line for the operator."""


class AccountError(Exception):
    """Something cannot be done with an account; the text is for the operator."""


class BadCredentials(Exception):
    """Somebody does not prove to be who he says; the text is for the operator, and the peer hears nothing of it."""


class Busy(Exception):
    """Too many passwords are to be checked; the text is for whoever has to try again."""
