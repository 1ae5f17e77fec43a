from __future__ import annotations

from dataclasses import replace

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.routing.offers import Reached
from taky_twisted.streaming.factory import CoTFactory
from taky_twisted.streaming.protocol import CoTProtocol
from tests.fakes import LogLines, Site
from tests.samples import chat, marker, to

ADDRESS = IPv4Address("TCP", "10.0.0.1", 4000)


class CoTFactoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site(limits=replace(Limits(), max_connections=1))
        self.log = LogLines(self)

    def test_refused(self) -> None:
        """One connection too many gets no protocol, and one line in the log says why."""
        self.assertIsInstance(self.site.factory.buildProtocol(ADDRESS), CoTProtocol)
        self.site.connect()
        self.assertIsNone(self.site.factory.buildProtocol(ADDRESS))
        self.assertEqual(self.log(), ["10.0.0.1 refused at test: there are 1 connections (max_connections)"])
        (attempt,) = self.site.connections.failures
        self.assertEqual((attempt.address, attempt.door), ("10.0.0.1", "test"))

    def test_tls(self) -> None:
        """Behind TLS the question was asked before the handshake and is not asked again."""
        factory = CoTFactory(self.site.clock, self.site.router, self.site.connections, "tls", tls=True)
        self.assertTrue(factory.admits(ADDRESS))
        self.site.connect()
        self.assertFalse(factory.admits(ADDRESS))
        self.assertIsInstance(factory.buildProtocol(ADDRESS), CoTProtocol)
        self.assertEqual(len(self.log()), 1)

    def test_handshakes(self) -> None:
        """Pending handshakes close TLS doors, not the others."""
        tls = CoTFactory(self.site.clock, self.site.router, self.site.connections, "tls", tls=True)
        for number in range(self.site.limits.max_handshakes):
            self.site.connections.handshakes.add(number, f"10.1.0.{number}")  # type: ignore[arg-type]
        self.assertFalse(tls.admits(ADDRESS))
        self.assertTrue(self.site.factory.admits(ADDRESS))

    def test_monitor(self) -> None:
        """A monitor hears what is for others too, is shown nothing old, and may speak."""
        site = Site()
        a, b = site.join("A"), site.join("B")
        a.say(marker())
        monitor = site.connect(monitor=True)
        b.heard()
        self.assertEqual(monitor.heard(), [])
        a.say(chat("A", marti=to("B")))
        self.assertEqual((monitor.types(), b.types()), (["b-t-f"], ["b-t-f"]))
        monitor.say(marker("M-2"))
        self.assertEqual((monitor.uids(), b.uids()), ([], ["M-2"]))

    def test_size(self) -> None:
        """A client is sent no event above ``max_event_to_client``, a monitor any."""
        site = Site(limits=replace(Limits(), max_event_to_client=2000))
        a, b, monitor = site.join("A"), site.join("B"), site.connect(monitor=True)
        length = len(marker()) + len(b'<?xml version="1.0" encoding="UTF-8"?>\n')
        a.say(*(marker(extra=" " * (2000 - length + more)) for more in (-1, 0, 1)))
        self.assertEqual([len(event.xml) for event in b.heard()], [1999, 2000])
        self.assertEqual([len(event.xml) for event in monitor.heard()], [1999, 2000, 2001])

    def test_subscriptions(self) -> None:
        """What the router knows of a connection is its address and its door."""
        protocol = self.site.factory.buildProtocol(ADDRESS)
        assert protocol is not None
        client = self.site.connect()
        self.assertEqual([subscription.peer for subscription in self.site.router.subscriptions], [client.protocol.peer])
        self.assertEqual(next(iter(self.site.router.subscriptions)).principal, ANONYMOUS)

    def test_reached(self) -> None:
        """The router knows at which of our addresses a client arrived, and whether over TLS; of a local one neither."""
        client = self.site.connect()
        (subscription,) = self.site.router.subscriptions
        self.assertEqual(subscription.reached, Reached("192.0.2.10", tls=False))
        tls = CoTFactory(self.site.clock, self.site.router, self.site.connections, "tls", tls=True)
        reached = tls.subscribe(ANONYMOUS, client.protocol).reached
        self.assertEqual(reached, Reached("192.0.2.10", tls=True))
        client.transport.address = UNIXAddress("/run/cot")
        self.assertIsNone(tls.subscribe(ANONYMOUS, client.protocol).reached)
