from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.proxied import HEADER_SECONDS, MAX_WAITING, NOT_BELIEVED, ProxiedFactory, ProxiedProtocol
from tests.identity.test_proxy_header import SIGNATURE, ipv4, v2

BALANCER = IPv4Address("TCP", "10.0.0.5", 40000)
HERE = IPv4Address("TCP", "10.0.0.9", 8089)
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 8089\r\n"
LOCAL = v2(0x20, 0, b"")


class Recording(Protocol):
    """What stands behind: it notes what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


class Application(Factory):
    """A factory that is asked whom it wants, and told who was refused."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[tuple[Any, Recording]] = []
        self.told: list[tuple[str, str]] = []
        self.unwanted: set[str] = set()

    def admits(self, address: Any) -> bool:
        return address.host not in self.unwanted

    def refused(self, address: Any, reason: str) -> None:
        self.told.append((address.host, reason))

    def buildProtocol(self, addr: IAddress | None) -> Recording:
        self.made.append((addr, Recording()))
        return self.made[-1][1]


class ProxiedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.application = Application()
        self.factory = self.make("10.0.0.5", "fd00::/8")

    def make(self, *believed: str) -> ProxiedFactory:
        """Describe a door that believes some load balancers."""
        networks = [ip_network(each) for each in believed]
        return ProxiedFactory(self.application, self.application, networks, self.clock)

    def connect(self, address: Any = BALANCER) -> tuple[ProxiedProtocol, StringTransport]:
        """Take in a connection from a balancer."""
        protocol = self.factory.buildProtocol(address)
        assert protocol is not None
        transport = StringTransport(peerAddress=address, hostAddress=HERE)
        protocol.makeConnection(transport)
        return protocol, transport

    def end(self, protocol: ProxiedProtocol) -> None:
        """Let the other end close it."""
        protocol.connectionLost(Failure(ConnectionDone()))

    def assert_quiet(self) -> None:
        """Nothing was built, said or left behind."""
        self.assertEqual((self.application.made, self.application.told), ([], []))
        self.assertEqual((self.factory.waiting, self.factory.protocols, self.clock.getDelayedCalls()), (0, {}, []))

    def test_passed_on(self) -> None:
        """What stands behind is made for the client, sees its address, and gets what came after the header."""
        for header in (HEADER, ipv4("192.0.2.7", 4711)):
            protocol, transport = self.connect()
            protocol.dataReceived(header + b"<event")
            address, behind = self.application.made[-1]
            self.assertEqual(address, IPv4Address("TCP", "192.0.2.7", 4711))
            assert behind.transport is not None
            self.assertEqual(behind.transport.getPeer(), address)
            self.assertEqual(behind.transport.getHost(), IPv4Address("TCP", "198.51.100.1", 8089))
            protocol.dataReceived(b"/>")
            self.assertEqual(behind.received, b"<event/>")
            behind.transport.write(b"hello")
            self.assertEqual(transport.value(), b"hello")
            self.assertEqual((self.factory.waiting, self.clock.getDelayedCalls()), (0, []))
            self.end(protocol)
            self.assertTrue(behind.lost)
        self.assertEqual(self.factory.protocols, {})

    def test_cut_anywhere(self) -> None:
        """However the network cuts header and data, the same arrives."""
        whole = HEADER + b"<event/>"
        for cut in range(1, len(whole)):
            protocol, _ = self.connect()
            protocol.dataReceived(whole[:cut])
            protocol.dataReceived(whole[cut:])
            self.assertEqual(self.application.made[-1][1].received, b"<event/>", f"cut at {cut}")
            self.end(protocol)

    def test_not_believed(self) -> None:
        """Who is no believed balancer gets nowhere, and the door says so."""
        for address in (IPv4Address("TCP", "10.0.0.6", 1), IPv6Address("TCP", "2001:db8::5", 1)):
            self.assertIsNone(self.factory.buildProtocol(address))
            self.assertEqual(self.application.told.pop(), (address.host, NOT_BELIEVED))
        self.assert_quiet()

    def test_believed(self) -> None:
        """Networks, IPv4 on an IPv6 socket, link-local addresses and unix sockets are recognized."""
        self.factory = self.make("10.0.0.0/24", "fe80::/10")
        for address in (
            IPv6Address("TCP", "::ffff:10.0.0.5", 1),
            IPv6Address("TCP", "fe80::1%eth0", 1),
            UNIXAddress("/run/taky/cot.sock"),
        ):
            protocol, _ = self.connect(address)
            protocol.dataReceived(HEADER)
            self.end(protocol)
        self.assertEqual(len(self.application.made), 3)

    def test_no_header(self) -> None:
        """A connection without a header is refused with the first byte that does not fit, whatever else comes."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"<event")
        self.assertTrue(transport.disconnected)
        protocol.dataReceived(HEADER)
        self.end(protocol)
        ((host, reason),) = self.application.told
        self.assertEqual((host, reason), ("10.0.0.5", "it does not begin with a PROXY header"))
        self.application.told.clear()
        self.assert_quiet()

    def test_too_slow(self) -> None:
        """Nobody waits for a header for longer than five seconds."""
        protocol, transport = self.connect()
        protocol.dataReceived(HEADER[:-1])
        self.clock.advance(HEADER_SECONDS - 0.1)
        self.assertFalse(transport.disconnected)
        self.clock.advance(0.1)
        self.assertTrue(transport.disconnected)
        self.end(protocol)
        self.assertEqual(self.application.told.pop(), ("10.0.0.5", "no PROXY header came within 5 seconds"))
        self.assert_quiet()

    def test_broken_off(self) -> None:
        """A header that ends in the middle is told of."""
        protocol, _ = self.connect()
        protocol.dataReceived(SIGNATURE)
        self.end(protocol)
        self.assertIn("in the middle of its PROXY header", self.application.told.pop()[1])
        self.assert_quiet()

    def test_health_checks(self) -> None:
        """A balancer that only looks whether somebody is there leaves no trace, in whatever way it looks."""
        own = ipv4("10.0.0.5", 40000)
        for sent in (b"", LOCAL, own, b"PROXY UNKNOWN\r\n", b"PROXY TCP4 10.0.0.5 10.0.0.9 40000 8089\r\n"):
            protocol, _ = self.connect()
            if sent:
                protocol.dataReceived(sent)
            self.end(protocol)
            self.assert_quiet()

    def test_health_check_by_ipv6_socket(self) -> None:
        """So it is at a door for IPv6 that IPv4 balancers reach too: there their addresses are spelled otherwise."""
        protocol, _ = self.connect(IPv6Address("TCP", "::ffff:10.0.0.5", 40000))
        protocol.dataReceived(b"PROXY TCP4 10.0.0.5 10.0.0.9 40000 8089\r\n")
        self.end(protocol)
        self.assert_quiet()

    def test_asking_health_check(self) -> None:
        """A health check that asks something is answered; its address is the balancer's."""
        protocol, _ = self.connect()
        protocol.dataReceived(LOCAL)
        protocol.dataReceived(b"GET /")
        ((address, behind),) = self.application.made
        self.assertEqual((address, behind.received), (BALANCER, b"GET /"))
        assert behind.transport is not None
        self.assertEqual((behind.transport.getPeer(), behind.transport.getHost()), (BALANCER, HERE))

    def test_patient_connection(self) -> None:
        """A connection that stays is no health check: who listens only, on the balancer's machine, is served."""
        protocol, _ = self.connect()
        protocol.dataReceived(LOCAL)
        self.clock.advance(HEADER_SECONDS)
        ((address, behind),) = self.application.made
        self.assertEqual((address, behind.lost, self.factory.waiting), (BALANCER, False, 0))
        self.end(protocol)
        self.assertTrue(behind.lost)

    def test_client_not_admitted(self) -> None:
        """Limits are asked with the client's address; who is not wanted is closed, and what it says is nobody's."""
        self.application.unwanted.add("192.0.2.7")
        protocol, transport = self.connect()
        protocol.dataReceived(HEADER + b"<event")
        self.assertTrue(transport.disconnected)
        protocol.dataReceived(b"/>")
        self.end(protocol)
        self.assert_quiet()

    def test_many_waiting(self) -> None:
        """Only so many connections may be without a header; when they have sent it, others may come."""
        protocols = [self.connect()[0] for _ in range(MAX_WAITING)]
        self.assertIsNone(self.factory.buildProtocol(BALANCER))
        self.assertIn("have sent no PROXY header", self.application.told.pop()[1])
        protocols[0].dataReceived(HEADER)
        self.connect()
        self.assertIsNone(self.factory.buildProtocol(BALANCER))

    def test_plain_application(self) -> None:
        """An application that wants to be told nothing has the refusal in its log."""
        plain = Factory.forProtocol(Recording)
        factory = ProxiedFactory(plain, plain, (), self.clock)
        with capturedLogs() as events:
            self.assertIsNone(factory.buildProtocol(BALANCER))
        self.assertEqual([(each["host"], each["reason"]) for each in events], [("10.0.0.5", NOT_BELIEVED)])
