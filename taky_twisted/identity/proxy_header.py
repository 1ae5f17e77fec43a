"""The header of the PROXY protocol, by which a load balancer says whose connection it passes on.

Source: HAProxy, ``doc/proxy-protocol.txt``, sections 2.1 (version 1, a line of text) and 2.2 (version 2, binary).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from twisted.internet.address import IPv4Address, IPv6Address

V1_BYTES = 107
"""The longest line of version 1, with its end."""
V2_BYTES = 4096
"""The longest header of version 2 that is read. Balancers add a few hundred bytes to the addresses at most."""

_V1_START = b"PROXY "
_V2_START = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16  # bytes before the addresses
_PORT = 65535
_FAMILIES = {1: 4, 2: 16}  # AF_INET and AF_INET6: bytes of one address
_LOCAL, _PROXY = 0x20, 0x21
_STREAM = 1

Address = IPv4Address | IPv6Address


class ProxyHeaderError(Exception):
    """What came is no header of the PROXY protocol; the text says why."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a balancer says about a connection."""

    size: int
    """Bytes that it has; what comes after is the client's."""
    source: Address | None = None
    """Where the client is. None: the balancer speaks for itself, as in health checks, or knows no IP address."""
    destination: Address | None = None
    """Where the client has reached the balancer."""


def read_header(data: bytes | bytearray) -> ProxyHeader | None:
    """Read the header at the start of a connection; None as long as more of it must come.

    Raises:
        ProxyHeaderError: there is none, or it is wrong or too long.
    """
    if data[: len(_V2_START)] == _V2_START[: len(data)]:
        return _read_v2(bytes(data[:V2_BYTES]))
    if data[: len(_V1_START)] == _V1_START[: len(data)]:
        return _read_v1(bytes(data[:V1_BYTES]))
    raise ProxyHeaderError("it does not begin with a PROXY header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data.partition(b"\r\n")
    if not end:
        if len(data) == V1_BYTES:
            raise ProxyHeaderError(f"its PROXY header does not end within {V1_BYTES} bytes")
        return None
    size = len(line) + len(end)
    words = line.decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(size)  # whatever else is on the line does not count
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6 or "%" in words[2] + words[3]:
        raise ProxyHeaderError("its PROXY header is not as version 1 has it")
    read = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
    try:
        source, destination = read(words[2]), read(words[3])
    except ValueError as error:
        raise ProxyHeaderError("its PROXY header has something else in place of an address") from error
    return ProxyHeader(size, _address(source, _port(words[4])), _address(destination, _port(words[5])))


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_FIXED:
        return None
    command, kind, size = data[12], data[13], _V2_FIXED + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"its PROXY header has version and command {command:#04x}, which is not known")
    if size > V2_BYTES:
        raise ProxyHeaderError(f"its PROXY header has {size} bytes, and at most {V2_BYTES} are read")
    if len(data) < size:
        return None
    length = _FAMILIES.get(kind >> 4)
    if command == _LOCAL or length is None or kind & 15 == 0:
        return ProxyHeader(size)
    if kind & 15 != _STREAM or size < _V2_FIXED + 2 * length + 4:
        raise ProxyHeaderError("its PROXY header has no addresses of a stream")
    at = _V2_FIXED
    source, destination = data[at : at + length], data[at + length : at + 2 * length]
    ports = data[at + 2 * length : at + 2 * length + 4]
    return ProxyHeader(
        size,
        _address(ipaddress.ip_address(source), int.from_bytes(ports[:2], "big")),
        _address(ipaddress.ip_address(destination), int.from_bytes(ports[2:], "big")),
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= _PORT):
        raise ProxyHeaderError("its PROXY header has something else in place of a port")
    return int(text)


def _address(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> Address:
    # One client has one address, however the balancer spells it.
    plain = getattr(address, "ipv4_mapped", None) or address
    return (IPv4Address if plain.version == 4 else IPv6Address)("TCP", str(plain), port)
