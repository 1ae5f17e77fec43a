"""Endpoints that are for this machine alone, unless an interface is named."""

from __future__ import annotations

import ipaddress

from taky_twisted.endpoints.strings import joined, split
from taky_twisted.identity.errors import EndpointError

_LOOPBACK = {"tcp": "127.0.0.1", "ssl": "127.0.0.1", "taktls": "127.0.0.1", "tcp6": "::1"}
_INTERFACE_WORD = {"tcp": 2, "tcp6": 3}
"""Where Twisted's own strings may have the interface without a key: ``tcp:9100:127.0.0.1``."""


def on_loopback(description: str, further: int = 0) -> str:
    """Add the interface to an endpoint string that names none.

    Args:
        description: as the operator wrote it.
        further: is added to its port, for one of several processes.

    Raises:
        EndpointError: it cannot be read; the text has nothing of it, since it may hold a password.
    """
    words, keys = split(description)
    kind = words[0].lower() if words else ""
    if kind == "haproxy":
        return "haproxy:" + on_loopback(joined(words[1:], keys), further)
    if kind not in _LOOPBACK:
        return description
    if "inner" in keys:
        return joined(words, {**keys, "inner": on_loopback(keys["inner"], further)})
    port = keys.get("port") or (words[1] if len(words) > 1 else "")
    if further and port.isdigit() and int(port):
        moved = str(int(port) + further)
        if "port" in keys:
            keys["port"] = moved
        else:
            words[1] = moved
    if not _interface(words, keys):
        keys["interface"] = _LOOPBACK[kind]
    return joined(words, keys)


def is_wide(description: str) -> bool:
    """Whether others than this machine reach an endpoint that `on_loopback` has made; unknown ones may be."""
    try:
        words, keys = split(on_loopback(description))
    except EndpointError:
        return False  # it is no endpoint at all
    kind = words[0].lower() if words else ""
    if kind == "haproxy":
        return is_wide(joined(words[1:], keys))
    if "inner" in keys:
        return is_wide(keys["inner"])
    if kind not in _LOOPBACK:
        return kind != "unix"
    interface = _interface(words, keys)
    return interface != "localhost" and not is_loopback(interface)


def is_loopback(address: str) -> bool:
    """Whether an IP address is of this machine alone; what is no address is not."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _interface(words: list[str], keys: dict[str, str]) -> str:
    at = _INTERFACE_WORD.get(words[0].lower(), len(words))
    return keys.get("interface") or (words[at] if at < len(words) else "")
