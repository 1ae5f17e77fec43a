"""A feed's place, spelled as one URL or as protocol, address, port and path: two views of the same.

Sources: TAK Server ``video/FeedV2.java`` (one from the other), ATAK-CIV ``android/video/ConnectionEntry.java`` (the
protocols that ATAK knows; anything else it hands to its player as it is, ``raw``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from twisted.internet.abstract import isIPv6Address

RAW = "raw"
"""The protocol of an address that is a whole URL, or whatever else a player understands."""
PROTOCOLS = frozenset({"udp", "rtsp", "rtmp", "rtmps", "http", "https", "file", "tcp", "rtp", "dir", "srt"})
NO_PORT = -1

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)
_PORT = re.compile(r"(.*(?:@|\]|^)[^@:\]]*):([1-9][0-9]{0,4})", re.DOTALL)
"""A port behind a host, which has no colons but in brackets."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a feed comes from, in parts."""

    protocol: str
    address: str
    port: int
    """`NO_PORT` for none."""
    path: str
    """With a leading slash, and with the query if there is one; or empty."""


def is_protocol(protocol: str) -> bool:
    """Whether a word can begin a URL."""
    return _SCHEME.fullmatch(protocol) is not None


def join(protocol: str, address: str, port: int, path: str) -> str:
    """Spell a URL of its parts."""
    if protocol == RAW or "://" in address:
        return address  # some put the whole URL there
    if ":" in address and isIPv6Address(address):
        address = f"[{address}]"
    number = f":{port}" if 0 < port < 65536 else ""
    slash = "/" if path and not path.startswith(("/", "?", "#")) else ""
    return f"{protocol}://{address}{number}{slash}{path}"


def split(url: str) -> Place:
    """Take a URL apart; what ATAK could not put together again stays whole."""
    match = _URL.fullmatch(url)
    if match is None or match[1].lower() not in PROTOCOLS:
        return Place(RAW, url, NO_PORT, "")
    protocol, address, path = match.groups()
    port = _PORT.fullmatch(address)
    if port is not None and int(port[2]) < 65536:
        return Place(protocol.lower(), port[1], int(port[2]), path)
    return Place(protocol.lower(), address, NO_PORT, path)
