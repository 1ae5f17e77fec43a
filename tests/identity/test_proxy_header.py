from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.proxy_header import V1_BYTES, V2_BYTES, ProxyHeader, ProxyHeaderError, read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, kind: int, body: bytes) -> bytes:
    """Make a header of version 2 byte by byte."""
    return SIGNATURE + bytes([command, kind]) + len(body).to_bytes(2, "big") + body


def ipv4(source: str, port: int, more: bytes = b"") -> bytes:
    """Make one as a balancer does for a client on IPv4."""
    addresses = socket.inet_aton(source) + socket.inet_aton("198.51.100.1")
    return v2(0x21, 0x11, addresses + port.to_bytes(2, "big") + (8089).to_bytes(2, "big") + more)


def ipv6(source: str, port: int) -> bytes:
    """Make one as a balancer does for a client on IPv6."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    return v2(0x21, 0x21, addresses + port.to_bytes(2, "big") + (8089).to_bytes(2, "big"))


GOOD = {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 8089\r\n": ("192.0.2.7", 4711, "198.51.100.1"),
    b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 4711 8089\r\n": ("2001:db8::7", 4711, "2001:db8::1"),
    b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 0 65535\r\n": ("192.0.2.7", 0, "2001:db8::1"),
    ipv4("192.0.2.7", 4711): ("192.0.2.7", 4711, "198.51.100.1"),
    ipv4("192.0.2.7", 4711, b"\x03\x00\x04abcd"): ("192.0.2.7", 4711, "198.51.100.1"),
    ipv6("2001:db8::7", 4711): ("2001:db8::7", 4711, "2001:db8::1"),
    ipv6("::ffff:192.0.2.7", 1): ("192.0.2.7", 1, "2001:db8::1"),
}
WITHOUT_ADDRESS = (
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff::1 what ever\r\n",
    v2(0x20, 0x00, b""),
    v2(0x20, 0x11, socket.inet_aton("192.0.2.7") * 2 + b"\x00\x01\x00\x02"),
    v2(0x21, 0x00, b""),
    v2(0x21, 0x10, b""),
    v2(0x21, 0x31, b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")),
    v2(0x21, 0xF1, b"what nobody knows yet"),
)


class ReadHeaderTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """Both versions say where the client is; one client has one address, however it is spelled."""
        for data, (host, port, destination) in GOOD.items():
            header = read_header(data + b"<event")
            assert header is not None
            assert header.source is not None and header.destination is not None
            self.assertEqual((header.size, header.source.host, header.source.port), (len(data), host, port))
            self.assertEqual(header.destination.host, destination)
            self.assertIsInstance(header.source, IPv6Address if ":" in host else IPv4Address)

    def test_without_address(self) -> None:
        """A balancer that speaks for itself, or for something without an IP address, is understood."""
        for data in WITHOUT_ADDRESS:
            self.assertEqual(read_header(data + b"\0"), ProxyHeader(len(data)), data)

    def test_cut_anywhere(self) -> None:
        """However the network cuts a header, it is waited for, and nothing behind it is taken."""
        for data in (*GOOD, *WITHOUT_ADDRESS):
            for cut in range(len(data)):
                self.assertIsNone(read_header(bytearray(data[:cut])), f"{data!r} cut at {cut}")

    def test_wrong(self) -> None:
        """What is no header is told from one at the first byte that does not fit, and why is said."""
        for data, why in (
            (b"<", "does not begin with a PROXY header"),
            (b"\x16\x03\x01", "does not begin with a PROXY header"),
            (b"PROXXY", "does not begin with a PROXY header"),
            (SIGNATURE[:5] + b"x", "does not begin with a PROXY header"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", "not as version 1 has it"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", "not as version 1 has it"),
            (b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", "not as version 1 has it"),
            (b"PROXY \r\n", "not as version 1 has it"),
            (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "not as version 1 has it"),
            (b"PROXY TCP4 ::1 198.51.100.1 1 2\r\n", "in place of an address"),
            (b"PROXY TCP6 192.0.2.7 ::1 1 2\r\n", "in place of an address"),
            (b"PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n", "in place of an address"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n", "in place of a port"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 -2\r\n", "in place of a port"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 \xb2\r\n", "in place of a port"),
            (v2(0x11, 0x11, bytes(12)), "version and command 0x11"),
            (v2(0x22, 0x11, bytes(12)), "version and command 0x22"),
            (v2(0x21, 0x11, bytes(11)), "no addresses of a stream"),
            (v2(0x21, 0x21, bytes(35)), "no addresses of a stream"),
            (v2(0x21, 0x12, bytes(12)), "no addresses of a stream"),
        ):
            self.assertIn(why, str(self.assertRaises(ProxyHeaderError, read_header, data)), data)

    def test_bounds(self) -> None:
        """A header may be so long and not a byte longer; what is too long is refused before it has all come."""
        end = b"\r\n"
        exactly = b"PROXY UNKNOWN ".ljust(V1_BYTES - len(end), b"x")
        self.assertEqual(read_header(exactly + end), ProxyHeader(V1_BYTES))
        self.assertIsNone(read_header(exactly + b"\r"))
        for longer in (exactly + b"x" + end, exactly + b"xx"):
            self.assertIn("within 107 bytes", str(self.assertRaises(ProxyHeaderError, read_header, longer)))
        room = V2_BYTES - len(ipv4("192.0.2.7", 1))
        header = read_header(ipv4("192.0.2.7", 1, bytes(room)) + b"more")
        assert header is not None
        self.assertEqual(header.size, V2_BYTES)
        start = ipv4("192.0.2.7", 1, bytes(room + 1))[:16]
        self.assertIn("at most 4096 are read", str(self.assertRaises(ProxyHeaderError, read_header, start)))

    @given(st.sampled_from([*GOOD, *WITHOUT_ADDRESS]), st.binary(max_size=40), st.integers(0, 60))
    def test_hostile(self, data: bytes, put: bytes, at: int) -> None:
        """Whatever comes is a header, the beginning of one, or refused."""
        data = data[:at] + put + data[at + len(put) :]
        try:
            header = read_header(data)
        except ProxyHeaderError:
            return
        self.assertTrue(header is None or header.size <= len(data))
