"""One text, one value: what ``taky.conf`` and the command line options allow, and the words that say so.

Every parser raises `ValueError` with a text for the operator: what is wrong, then what is allowed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Literal, cast

Direction = Literal["in", "out", "both"]
TakProtocol = Literal["auto", "xml"]
LogFormat = Literal["text", "json"]

_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"0", "no", "false", "off"})
_SIZE = re.compile(r"([0-9]{1,15})[ \t]*(k|kib|m|mib|g|gib)?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_HOST = re.compile(r"[\w.-]{1,253}")
_URL = re.compile(r"(https?)://(\[([0-9A-Fa-f:.]+)\]|[\w.-]{1,253})(:[0-9]{1,5})?/?", re.ASCII | re.IGNORECASE)
_NODE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ENDPOINT = re.compile(r"[a-z][a-z0-9]*:.+")
_IN_URL = re.compile(r"(?<=//).*(?=@)|(?<=[?&]password=)[^&]*")


MAX_GROUP_NAME = 255
"""Characters."""
MAX_WORKERS = 64
"""Processes of one server on one machine."""
LOOPBACK: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
"""Where programs on this machine are."""


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line that says where, what, and what is allowed."""


@dataclass(frozen=True, slots=True)
class MulticastSpec:
    """A multicast group to hear, to speak to, or both."""

    group: str
    """An IPv4 multicast address."""
    port: int
    interface: str | None = None
    """The IPv4 address of the network card to use; None leaves it to the system's routes."""
    direction: Direction = "in"

    @property
    def hears(self) -> bool:
        """Whether events from the group are taken in."""
        return self.direction != "out"

    @property
    def speaks(self) -> bool:
        """Whether routed events go out to the group."""
        return self.direction != "in"


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How a Redis server is reached."""

    endpoint: str
    """A Twisted client endpoint string, such as ``tcp:localhost:6379``."""
    user: str | None = None
    """An ACL user; None is Redis' default user."""
    password_file: Path | None = None
    """Holds the password in one line."""
    db: int = 0
    password: str | None = field(default=None, repr=False)
    """The password itself, where taky's ``redis://`` address has it; the file counts first."""


def parse_boolean(text: str) -> bool:
    """Read yes or no as configparser spells them, in any case."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("neither yes nor no; allowed: true, yes, on, 1, false, no, off, 0")


def parse_integer(text: str, low: int, high: int, what: str) -> int:
    """Read a whole number from ``low`` to ``high``, both allowed."""
    text = text.strip()
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
        raise ValueError(f"not {what}; allowed: a whole number from {low} to {high}")
    return int(text)


def parse_port(text: str) -> int:
    """Read a TCP or UDP port."""
    return parse_integer(text, 1, 65535, "a port")


def parse_size(text: str) -> int:
    """Read a number of bytes: ``8388608``, ``8 MiB`` and ``8M`` are the same (k, M and G count in 1024)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a size; allowed: a whole number of bytes, or with KiB, MiB, GiB, k, M or G (of 1024)")
    return int(match[1]) * _FACTORS[(match[2] or "")[:1].lower()]


def parse_address(text: str) -> str:
    """Read an IP address to listen on; names are not looked up."""
    text = text.strip()
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("not an IP address; allowed: an IPv4 or IPv6 address like 0.0.0.0, 127.0.0.1 or ::") from None
    return text


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read addresses and networks with commas between, ``192.0.2.7,10.1.0.0/16``; ``none`` is no address at all."""
    if text.strip() == "none":
        return ()
    networks = []
    for word in (word.strip() for word in text.split(",")):
        try:
            networks.append(ip_network(word))
        except ValueError as error:
            raise ValueError(
                f"{word!r} is no address and no network ({error}); allowed: addresses like 192.0.2.7 and networks like"
                " 10.1.0.0/16 with commas, or none"
            ) from None
    return tuple(networks)


def parse_workers(text: str) -> int:
    """Read how many processes there shall be."""
    return parse_integer(text, 1, MAX_WORKERS, "a number of processes")


def parse_worker(text: str) -> int:
    """Read which of several processes one is."""
    return parse_integer(text, 1, MAX_WORKERS, "the number of a process among several")


def parse_host(text: str) -> str:
    """Read how clients find this server: a host name or an IP address."""
    text = text.strip()
    if _HOST.fullmatch(text):
        return text
    try:
        return parse_address(text)
    except ValueError:
        raise ValueError(
            "neither a host name nor an IP address; allowed: letters, digits, '.', '-' and '_', or an IP address"
        ) from None


def parse_node_id(text: str) -> str:
    """Read this server's name among servers; it becomes part of an XML attribute's name in flow tags."""
    if not _NODE_ID.fullmatch(text.strip()):
        raise ValueError("not a node id; allowed: 1 to 64 letters (A-Z, a-z), digits, '.', '-' and '_'")
    return text.strip()


def parse_multicast(text: str) -> MulticastSpec:
    """Read ``GROUP:PORT[:INTERFACE][:in|out|both]``; the direction is ``in`` if not named."""
    allowed = "allowed: GROUP:PORT[:INTERFACE][:in|out|both], like 239.2.3.1:6969 or 239.2.3.1:6969:192.168.1.5:both"
    group, *rest = text.strip().split(":")
    direction = rest.pop() if rest and rest[-1] in ("in", "out", "both") else "in"
    if len(rest) not in (1, 2):
        raise ValueError(f"not a multicast group with its port; {allowed}")
    if (address := _ipv4(group)) is None or not address.is_multicast:
        raise ValueError(f"{group!r} is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255); {allowed}")
    try:
        port = parse_port(rest[0])
    except ValueError as error:
        raise ValueError(f"{rest[0]!r} is {error}; {allowed}") from None
    interface = rest[1] if len(rest) == 2 else None
    if interface is not None and ((address := _ipv4(interface)) is None or address.is_multicast):
        raise ValueError(f"{interface!r} is not the IPv4 address of an interface; {allowed}")
    return MulticastSpec(group, port, interface, cast(Direction, direction))


def _ipv4(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def parse_path(text: str, base: Path) -> Path:
    """Read a path; a relative one starts at ``base``. The result is absolute; links are not followed."""
    return Path(os.path.abspath(base / text))


def parse_store(text: str, base: Path = Path(".")) -> str:
    """Read where retained items are kept: ``memory:``, ``sqlite:PATH`` or ``redis:ENDPOINT``.

    Returns:
        The same with an absolute path; a relative one starts at ``base``.
    """
    kind, colon, rest = text.strip().partition(":")
    if colon and kind == "memory" and not rest:
        return "memory:"
    if colon and kind == "sqlite" and rest.strip():
        return f"sqlite:{parse_path(rest.strip(), base)}"
    if kind in ("redis", "rediss"):
        return f"redis:{parse_redis_endpoint(text)}"
    raise ValueError("not a store; allowed: memory:, sqlite:PATH or redis:ENDPOINT, or nothing for the default")


def parse_redis_endpoint(text: str) -> str:
    """Read ``redis:ENDPOINT``, where ENDPOINT is what Twisted calls a client endpoint string; returns that."""
    kind, _, endpoint = text.strip().partition(":")
    if kind == "redis" and _ENDPOINT.fullmatch(endpoint):
        return endpoint
    allowed = "allowed: redis:tcp:HOST:PORT, redis:unix:PATH or redis:tls:HOST:PORT"
    if "://" in text:
        raise ValueError(f"an address as taky's key redis in [taky] takes it; {allowed}")
    raise ValueError(f"not a Redis server; {allowed}")


def parse_redis_db(text: str) -> int:
    """Read the number of a database in Redis."""
    return parse_integer(text, 0, 65535, "a database of Redis")


def parse_group_names(text: str) -> tuple[str, ...]:
    """Read the names of groups, with commas between; ``none`` is no group at all."""
    names = tuple(name.strip() for name in text.split(","))
    if names == ("none",):
        return ()
    if not all(0 < len(name) <= MAX_GROUP_NAME and name.isprintable() for name in names):
        raise ValueError(
            f"not names of groups; allowed: names of 1 to {MAX_GROUP_NAME} characters with commas, or none"
        )
    return names


def without_password(text: str) -> str:
    """Leave out what stands before the @ of an address, or in it as ``password=``."""
    return _IN_URL.sub("(not shown)", text)


def parse_url(text: str) -> str:
    """Read how clients reach the Marti API: ``http`` or ``https``, a host and perhaps a port; no path."""
    refused = ValueError("not an address of a server; allowed: http://HOST:PORT or https://HOST:PORT, without a path")
    match = _URL.fullmatch(text.strip())
    if match is None or not 0 < int((match[4] or ":1")[1:]) < 65536:
        raise refused
    if match[3] is not None:
        try:
            ip_address(match[3])
        except ValueError:
            raise refused from None
    return f"{match[1].lower()}://{match[2]}{match[4] or ''}"


def parse_tak_protocol(text: str) -> TakProtocol:
    """Read what clients are offered: ``auto`` (protobuf, and XML for who does not answer) or ``xml``."""
    word = text.strip().lower()
    if word == "auto":
        return "auto"
    if word == "xml":
        return "xml"
    raise ValueError("not a choice; allowed: auto (protobuf is offered) or xml (it is not)")


def parse_log_format(text: str) -> LogFormat:
    """Read how the log is written: ``text`` for people, or ``json`` for programs, an object a line."""
    word = text.strip().lower()
    if word == "text":
        return "text"
    if word == "json":
        return "json"
    raise ValueError("not a format of the log; allowed: text or json (one object a line)")
