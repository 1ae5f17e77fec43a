"""Make what listens: the sockets under our TLS, and all endpoints that are Twisted's.

Whether a load balancer's PROXY header comes first on a connection is decided here, too, and whose header counts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from taky_twisted.endpoints.strings import COLON_HINT, check_number, interface_address, joined, named_keys, split
from taky_twisted.identity.errors import EndpointError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamServerEndpoint

    from taky_twisted.identity.proxied import Network

    Networks = Sequence[Network]

TLS_PREFIXES = ("ssl", "taktls")
BACKLOG = 1024
"""Connections that may wait to be accepted (Twisted: 50), enough for all clients to come back at once after a restart.

The system has a limit of its own (``net.core.somaxconn``)."""

OF_THE_SOCKET = ("port", "interface", "backlog", "reusePort")
_KEYS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
_MORE_KEYS = {"tcp": ("reusePort",), "tcp6": ("reusePort",)}  # never as words: they are not Twisted's
_INNER = ("tcp", "tcp6", "systemd")
NO_PROXY = "proxy_from= is for doors behind a load balancer: haproxy:tcp:PORT, or inside of inner="


def inner_endpoint(
    reactor: Any, description: str, outer: Mapping[str, str], balancers: Networks | None
) -> tuple[IStreamServerEndpoint, Networks | None]:
    """Make what TLS runs on.

    Args:
        reactor: listens.
        description: what ``inner=`` says.
        outer: the keys of the string around it.
        balancers: who is believed if the string does not say; None: who is on this machine.
    """
    words, keys = split(description)
    kinds = [word.lower() for word in words]
    socket_words = kinds[1:] if kinds[:1] == ["haproxy"] else kinds
    if socket_words[:1] not in [[kind] for kind in _INNER]:
        raise EndpointError(
            f"inner={description}: allowed are {', '.join(_INNER)}, each also after 'haproxy:'; "
            r"every ':' in it is written '\:'"
        )
    # The port may stand in front as well, so that one sees at once which door this is.
    same_port = outer.get("port") == keys.get("port", (*socket_words, "")[1])
    for key in OF_THE_SOCKET:
        if key in outer and not (key == "port" and same_port):
            raise EndpointError(f"{key}= and inner= exclude each other; write it inside of inner=")
    try:
        if "proxy_from" in outer:
            if kinds[0] != "haproxy":
                raise EndpointError(NO_PROXY)
            if "proxy_from" in keys:
                raise EndpointError("proxy_from= is there twice, inside of inner= and outside")
            keys["proxy_from"] = outer["proxy_from"]
        return socket_endpoint(reactor, kinds[0], words[1:], keys, balancers)
    except EndpointError as error:
        raise EndpointError(f"inner={description}: {error}") from error


def socket_endpoint(
    reactor: Any, kind: str, words: list[str], keys: dict[str, str], balancers: Networks | None
) -> tuple[IStreamServerEndpoint, Networks | None]:
    """Make an endpoint that is not our TLS, and say whose PROXY header comes first on it; None if none does."""
    if kind != "haproxy":
        if "proxy_from" in keys:
            raise EndpointError(NO_PROXY)
        return twisted_endpoint(reactor, kind, words, keys), None
    behind = words[0].lower() if words else ""
    if behind in (*TLS_PREFIXES, "tls"):
        raise EndpointError(
            "TLS inside of the PROXY protocol would not know its clients by their certificates: write "
            r"ssl:inner=haproxy\:tcp\:PORT and the other keys"
        )
    if behind == "haproxy":
        raise EndpointError("haproxy: is there twice; only one balancer says whose a connection is: haproxy:tcp:PORT")
    believed = _networks(keys.pop("proxy_from", None), balancers)
    return twisted_endpoint(reactor, behind, words[1:], keys), believed


def _networks(text: str | None, balancers: Networks | None) -> Networks:
    from taky_twisted.config.values import LOOPBACK, parse_networks

    if text is None:
        return LOOPBACK if balancers is None else balancers
    try:
        return parse_networks(text)
    except ValueError as error:
        raise EndpointError(f"proxy_from={text}: {error}") from error


def twisted_endpoint(reactor: Any, kind: str, words: Sequence[str], keys: Mapping[str, str]) -> IStreamServerEndpoint:
    """Make what Twisted makes of it, after a look at what its own parser says nothing clear about."""
    from twisted.internet.endpoints import serverFromString
    from twisted.python.filepath import LinkError

    if kind == "tls" and not (words and os.path.isdir(words[0])):
        # Without a name Twisted looks through the whole current folder.
        raise EndpointError("Twisted's tls: begins with a folder of certificates, tls:FOLDER:tcp:PORT; ours is ssl:")
    if kind in _KEYS:
        known = _KEYS[kind]
        placed = dict(zip(known, words, strict=False))
        if len(words) > len(known) or placed.keys() & keys.keys():
            stray = next(iter(placed.keys() & keys.keys()), None)
            problem = f"{stray} is given twice" if stray else f"{words[len(known)]!r} is one word too many"
            raise EndpointError(f"{problem}; {COLON_HINT}")
        checked = _checked_socket(kind, named_keys([], {**placed, **keys}, (*known, *_MORE_KEYS.get(kind, ()))))
        if checked.pop("reusePort", "no") == "yes":
            return _shared_port(reactor, kind, checked)
        words, keys = [], checked
    try:
        return cast("IStreamServerEndpoint", serverFromString(reactor, joined([kind, *words], keys)))
    except (ValueError, TypeError, LookupError, AttributeError, OSError, LinkError) as error:
        raise EndpointError(f"Twisted does not take it: {error}") from error


def _shared_port(reactor: Any, kind: str, keys: Mapping[str, str]) -> IStreamServerEndpoint:
    from taky_twisted.endpoints.shared_port import SharedPortEndpoint

    interface = keys.get("interface", "::" if kind == "tcp6" else "")
    return SharedPortEndpoint(reactor, int(keys["port"]), int(keys["backlog"]), interface)


def _checked_socket(kind: str, named: Mapping[str, str]) -> dict[str, str]:
    checked = dict(named)
    if kind in ("tcp", "tcp6"):
        if not checked.get("port"):
            raise EndpointError("no port; write it as the first word or with port=")
        check_number("port", checked["port"], 65535)
        checked.setdefault("backlog", str(BACKLOG))
    if "backlog" in checked:
        check_number("backlog", checked["backlog"], 1 << 30)
    if checked.get("reusePort", "no") not in ("yes", "no"):
        raise EndpointError(f"reusePort={checked['reusePort']}: allowed are yes and no")
    if checked.get("reusePort") == "yes" and not hasattr(socket, "SO_REUSEPORT"):
        raise EndpointError("reusePort=yes: this system cannot let several processes listen on one port")
    if checked.get("interface"):
        checked["interface"] = interface_address(checked["interface"])
    return checked
