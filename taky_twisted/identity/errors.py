"""What can be wrong with an endpoint string, or with the keys and certificates that it names."""

from __future__ import annotations


class EndpointError(ValueError):
    """An endpoint cannot be made, or its files cannot be used; the text is one line for the operator."""
