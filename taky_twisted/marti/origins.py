"""Which web pages may use the API with the certificate of whoever looks at them.

A browser shows a client certificate for any page that asks us something, and reaches a door that only the local
network should. It keeps our answer from that page, but what was asked for is done, and a WebSocket it lets through; it
only says which page it is (RFC 6454, section 7; RFC 6455, section 10.2).
"""

from __future__ import annotations

from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}

Place = tuple[str, int]
"""A host in lower case, and a port."""


def is_same_place(origin: bytes, host: str | bytes | None, public_url: str | None) -> bool:
    """Whether a page comes from where its request went, or from our public address.

    Args:
        origin: the header of that name.
        host: the header of that name.
        public_url: how we are reached from outside, if that is known.
    """
    scheme, _, _ = origin.decode("latin-1").partition("://")
    place = _place(origin.decode("latin-1"))
    if place is None:
        return False
    asked = host.decode("latin-1") if isinstance(host, bytes) else host
    # Browsers leave out the port that their scheme implies, whatever a proxy makes of the scheme on the way to us.
    ours = [f"{scheme}://{asked}" if asked else None, public_url]
    return any(place == _place(url) for url in ours if url is not None)


def _place(url: str) -> Place | None:
    """Read where a URL leads; None for what leads nowhere, like ``null``."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.scheme not in _PORTS:
        return None
    return host, port or _PORTS[parts.scheme]
