from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import PROLOG
from taky_twisted.identity.tls import MutualTLS
from taky_twisted.identity.transport import TLSFactory
from taky_twisted.routing.tak_stream import CLOSE_SECONDS
from taky_twisted.streaming.factory import CoTFactory
from taky_twisted.streaming.protocol import CoTProtocol
from taky_twisted.takproto.batch import Batch
from tests.fakes import Client, LogLines, MemoryRecorder, Site, WireTransport, principal
from tests.identity.pairs import Peer, PeerFactory
from tests.pki import PKI, ClientTLS
from tests.samples import NOW, chat, event, marker, ping, sa, to

LIMITS = Limits(input_events_per_second=10, input_bytes_per_second=100_000, outbox_bytes=4096, max_event_to_client=4096)
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def events_in(transport: WireTransport) -> list[bytes]:
    """Cut what was written into events; offers of other protocols are left out."""
    events = bytes(transport.written).split(PROLOG)[1:]
    return [event for event in events if b"t-x-takp-v" not in event]


class ProtocolTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site(limits=LIMITS)
        self.log = LogLines(self)

    def lines(self, word: str) -> list[str]:
        """Read the log lines with a word in them."""
        return [line for line in self.log() if word in line]

    def pending(self) -> int:
        """Count what the clock still has to do, the saving of contacts not counted."""
        self.site.router.contacts.save()
        return len(self.site.clock.getDelayedCalls())


class IdentifyingTests(ProtocolTestCase):
    """From nobody to somebody."""

    def test_unidentified(self) -> None:
        """A connection counts as unidentified until its first self-report, and not again when it is lost."""
        client = self.site.connect()
        self.assertEqual(len(self.site.connections.unidentified), 1)
        client.say(marker())
        self.assertEqual(len(self.site.connections.unidentified), 1)
        client.say(sa("A", "A"))
        client.say(sa("A", "A"))
        self.assertEqual(len(self.site.connections.unidentified), 0)
        client.leave()
        self.assertEqual((len(self.site.connections.unidentified), len(self.site.connections)), (0, 0))

    def test_gone_unidentified(self) -> None:
        """A connection that goes without a report is no longer counted."""
        self.site.connect().leave()
        self.assertEqual(len(self.site.connections.unidentified), 0)

    def test_monitor(self) -> None:
        """A monitor never has to say who it is."""
        monitor = self.site.connect(monitor=True)
        self.assertEqual(len(self.site.connections.unidentified), 0)
        monitor.leave()
        self.assertEqual(len(self.site.connections.unidentified), 0)

    def test_left(self) -> None:
        """The log says who left, from where, and how."""
        self.site.join("A", "FOX1").leave()
        self.site.join("B", "FOX2").vanish()
        self.site.pass_time(6)
        first, second = self.lines("left")
        self.assertRegex(first, r"^FOX1 left: it said goodbye \(10\.0\.0\.1:\d+ at test\)$")
        self.assertRegex(second, r"^FOX2 left: the connection broke \(10\.0\.0\.1:\d+ at test\)$")

    def test_nobody_left(self) -> None:
        """Who never said anything comes and goes without a line."""
        self.site.connect().leave()
        self.assertEqual(self.log(), [])

    def test_peer(self) -> None:
        """Addresses are shown as people write them."""
        addresses: list[tuple[IAddress, str]] = [
            (IPv4Address("TCP", "10.0.0.1", 4000), "10.0.0.1:4000 at test"),
            (IPv6Address("TCP", "fe80::1", 4000), "[fe80::1]:4000 at test"),
            (UNIXAddress("/run/taky.sock"), "a local process at test"),
        ]
        for address, shown in addresses:
            self.assertEqual(CoTProtocol(self.site.factory, address).peer, shown)


class PongTests(ProtocolTestCase):
    """Whoever asks is answered."""

    def test_every_ping(self) -> None:
        """Each of many pings in one segment is answered, before the client has said who it is and afterwards."""
        client = self.site.connect()
        client.say(ping(), ping())
        self.assertEqual(client.types(), ["t-x-c-t-r"] * 2)
        client.say(sa("A", "A"), ping())
        self.assertEqual(client.types(), ["t-x-c-t-r"])

    def test_full(self) -> None:
        """A client that does not read gets one pong a second at most, so that pings cannot fill our memory."""
        client = self.site.join("A")
        client.full()
        client.say(ping(), ping())
        client.say(ping())
        self.assertEqual(client.types(), ["t-x-c-t-r"])
        self.site.clock.advance(0.9)
        client.say(ping())
        self.assertEqual(client.types(), [])
        self.site.clock.advance(0.1)
        client.say(ping())
        self.assertEqual(client.types(), ["t-x-c-t-r"])

    def test_ahead_of_what_waits(self) -> None:
        """A pong does not wait behind the backlog: the client would think us dead."""
        a, b = self.site.join("A"), self.site.join("B")
        b.heard()
        b.full()
        a.say(marker())
        b.say(ping())
        self.assertEqual(b.types(), ["t-x-c-t-r"])
        b.reads_on()
        self.assertEqual(b.uids(), ["MARK-1"])


class BackPressureTests(ProtocolTestCase):
    """One reader's slowness is that reader's alone."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.site.join("A"), self.site.join("B")
        self.a.heard()
        self.b.heard()

    def test_waits(self) -> None:
        """Nothing is written to a full transport; once it reads again it gets everything, in order."""
        self.b.full()
        self.a.say(marker("M-1"))
        self.a.say(chat("A", marti=to("B")))
        self.a.say(marker("M-2"))
        self.assertEqual(self.b.heard(), [])
        self.b.reads_on()
        self.assertEqual(self.b.uids(), ["M-1", "GeoChat.A.All Chat Rooms.m-1", "M-2"])
        self.a.say(marker("M-3"))
        self.assertEqual(self.b.uids(), ["M-3"])

    def test_full_in_the_middle(self) -> None:
        """When the transport is full again while the backlog drains, the rest waits for the next time."""
        self.b.full()
        for number in range(3):
            self.a.say(marker(f"M-{number}"))
        self.b.transport.room = 10
        self.b.reads_on()
        self.assertEqual(self.b.uids(), ["M-0"])
        self.b.transport.room = None
        self.b.reads_on()
        self.assertEqual(self.b.uids(), ["M-1", "M-2"])

    def test_replay_waits(self) -> None:
        """What a newcomer is shown goes out piece by piece, as its transport takes it."""
        for number in range(40):
            self.a.say(marker(f"M-{number}", extra=f"<remarks>{'x' * 3000}</remarks>"))
        client = self.site.connect()
        first = len(client.heard())
        self.assertEqual(first, 42)
        transport = WireTransport(IPv4Address("TCP", "10.0.0.9", 1))
        transport.room = 10
        protocol = self.site.factory.buildProtocol(transport.getPeer())
        assert protocol is not None
        protocol.makeConnection(transport)
        self.assertLess(len(events_in(transport)), 42)
        for _ in range(5):
            protocol.resumeProducing()
        self.assertEqual(len(events_in(transport)), 42)

    def test_replay_to_a_full_transport(self) -> None:
        """What is shown waits like everything else, behind what was said before."""
        self.b.full()
        self.a.say(marker("M-1"))
        self.b.protocol.replay([("M-2", (event(marker("M-2")),))])
        self.assertEqual(self.b.heard(), [])
        self.b.reads_on()
        self.assertEqual(self.b.uids(), ["M-1", "M-2"])

    def test_too_slow(self) -> None:
        """Who lets too much wait that must not be dropped is closed, with the reason in the log."""
        self.b.full()
        for number in range(10):
            self.a.say(chat("A", "x" * 400, number=number, marti=to("B")))
        self.assertEqual(self.b.transport.lost, "abort")
        self.b.leave()
        (line,) = self.lines("left")
        self.assertIn("B left: it reads too slowly: over 4096 bytes of messages wait for it", line)

    def test_after_the_end(self) -> None:
        """What is delivered to a connection that is closed already goes nowhere and harms nobody."""
        protocol = self.b.protocol
        self.b.leave()
        protocol.deliver(Batch((event(marker()),)))
        protocol.resumeProducing()
        self.assertEqual((self.b.heard(), protocol.unsent()), ([], []))

    def test_producer_stopped(self) -> None:
        """A transport that is lost stops its producer; nothing is written to it any more."""
        self.b.protocol.stopProducing()
        self.a.say(marker())
        self.assertEqual(self.b.heard(), [])

    def test_undelivered_chat(self) -> None:
        """A direct message that was queued when the connection broke is shown when its reader is back."""
        self.b.full()
        self.a.say(chat("A", marti=to("B")))
        self.b.vanish()
        again = self.site.connect()
        again.heard()
        again.say(sa("B", "B", now=self.site.clock.seconds()))
        self.assertEqual(again.types(), ["b-t-f"])


class StalledTests(ProtocolTestCase):
    """A connection that takes or says nothing is closed in the end."""

    def look(self, client: Client, seconds: float) -> None:
        """Let time pass, then do what the sweep does."""
        while seconds > 5:
            self.site.clock.advance(5)
            client.protocol.look(self.site.clock.seconds())
            seconds -= 5
        self.site.clock.advance(seconds)
        client.protocol.look(self.site.clock.seconds())

    def test_stalled(self) -> None:
        """A client that takes no byte for ``stall_seconds`` is closed then, and not before."""
        client = self.site.join("A")
        client.full()
        self.look(client, self.site.limits.stall_seconds - 0.1)
        self.assertIsNone(client.transport.lost)
        self.look(client, 0.1)
        self.assertEqual(client.transport.lost, "abort")
        client.leave()
        self.assertIn("A left: it took nothing for 30 seconds (stall_seconds)", self.lines("left")[0])

    def test_slow_is_not_stalled(self) -> None:
        """As long as some bytes leave it may take its time."""
        client = self.site.join("A")
        client.full()
        for _ in range(5):
            assert client.transport.sent is not None
            client.transport.sent += 1
            client.say(ping())
            self.look(client, 29)
        self.assertIsNone(client.transport.lost)
        self.look(client, 5)  # that the last byte had left was seen 29 seconds ago
        self.assertIsNone(client.transport.lost)
        self.look(client, 1)
        self.assertEqual(client.transport.lost, "abort")

    def test_full_again_and_again(self) -> None:
        """A transport says that it is full with every write; the time counts from the first."""
        client = self.site.join("A")
        client.full()
        self.site.clock.advance(20)
        client.full()
        self.look(client, 10)
        self.assertEqual(client.transport.lost, "abort")

    def test_read_in_between(self) -> None:
        """Who has read everything starts anew."""
        client = self.site.join("A")
        client.full()
        self.look(client, 29)
        client.reads_on()
        self.look(client, 29)
        self.assertIsNone(client.transport.lost)

    def test_not_counted(self) -> None:
        """Where nobody counts what leaves (a unix socket) only emptying the queue is progress."""
        client = self.site.join("A")
        client.transport.sent = None
        client.full()
        self.look(client, 29)
        self.assertIsNone(client.transport.lost)
        self.look(client, 1)
        self.assertEqual(client.transport.lost, "abort")

    def test_idle(self) -> None:
        """A client that identified and is silent for more than ``idle_seconds`` is closed; a byte is enough to stay."""
        client = self.site.join("A")
        self.look(client, 300)
        self.assertIsNone(client.transport.lost)
        client.say(b"\n")
        self.look(client, 300)
        self.assertIsNone(client.transport.lost)
        self.look(client, 0.1)
        self.assertEqual(client.transport.lost, "abort")
        client.leave()
        self.assertIn("A left: nothing was heard from it for 300 seconds (idle_seconds)", self.lines("left")[0])

    def test_idle_pinger(self) -> None:
        """A client that has pinged counts as one that would ping."""
        client = self.site.connect()
        client.say(ping())
        self.look(client, 301)
        self.assertEqual(client.transport.lost, "abort")

    def test_idle_listener(self) -> None:
        """Who only listens (a PyTAK receiver, a monitor) may be silent for ever."""
        for client in (self.site.connect(), self.site.connect(monitor=True)):
            client.say(marker())
            self.look(client, 100_000)
            self.assertIsNone(client.transport.lost)


class InputBudgetTests(ProtocolTestCase):
    """Who says too much is read more slowly; nothing is dropped."""

    def setUp(self) -> None:
        super().setUp()
        self.reader = self.site.join("B")
        self.client = self.site.connect()
        self.client.heard()

    def say(self, count: int) -> None:
        """Say a number of events in one segment."""
        self.client.say(*(marker(f"M-{number}") for number in range(count)))

    def test_events(self) -> None:
        """Reading goes on at the limit and pauses for the rest of the second above it."""
        self.say(10)
        self.assertTrue(self.client.transport.reading)
        self.say(1)
        self.assertFalse(self.client.transport.reading)
        self.assertEqual(len(self.reader.heard()), 11)
        self.site.clock.advance(1.09)
        self.assertFalse(self.client.transport.reading)
        self.site.clock.advance(0.02)
        self.assertTrue(self.client.transport.reading)

    def test_bytes(self) -> None:
        """Bytes count too, whatever they are."""
        self.say(1)
        self.client.say(b" " * 100_000)
        self.assertFalse(self.client.transport.reading)
        self.site.clock.advance(1.1)
        self.assertTrue(self.client.transport.reading)

    def test_overdrawn(self) -> None:
        """Who says three seconds' worth at once is read again after three seconds, so that the rate holds."""
        self.say(30)
        self.assertEqual(len(self.reader.heard()), 30)
        self.site.clock.advance(2.9)
        self.assertFalse(self.client.transport.reading)
        self.site.clock.advance(0.2)
        self.assertTrue(self.client.transport.reading)
        self.say(10)
        self.assertTrue(self.client.transport.reading)

    def test_next_second(self) -> None:
        """What was said more than a second ago is forgotten."""
        self.say(10)
        self.site.clock.advance(1)
        self.say(10)
        self.assertTrue(self.client.transport.reading)

    def test_still_arriving(self) -> None:
        """What was received before reading paused is routed all the same, and one pause is one pause."""
        self.say(11)
        self.say(2)
        self.assertEqual(len(self.reader.heard()), 13)
        self.site.clock.advance(1.2)
        self.assertTrue(self.client.transport.reading)

    def test_gone_while_paused(self) -> None:
        """A connection that is lost while it is not read leaves no timer behind."""
        self.say(11)
        self.site.clock.advance(2)
        self.say(11)
        self.client.leave()
        self.assertEqual(self.pending(), 0)

    def test_gone_after_a_pause(self) -> None:
        """A pause that is over is no trouble when the connection ends."""
        self.say(11)
        self.site.clock.advance(2)
        self.client.leave()
        self.assertEqual(self.pending(), 0)


class EndingTests(ProtocolTestCase):
    """How the server ends a connection."""

    def test_nothing_waits(self) -> None:
        """With nothing to send the connection is closed at once, politely."""
        client = self.site.join("A")
        self.site.router.stop()
        client.protocol.finish()
        self.assertEqual(client.transport.lost, "lose")
        self.assertIsNone(client.transport.producer)
        client.leave()
        self.assertEqual(self.pending(), 0)
        self.assertIn("A left: the server stops", self.lines("left")[0])

    def test_flush(self) -> None:
        """What is for this client in particular is sent first; what was for everybody is not."""
        a, b = self.site.join("A"), self.site.join("B")
        b.heard()
        b.full()
        a.say(marker())
        a.say(chat("A", marti=to("B")))
        b.protocol.finish()
        self.assertIsNone(b.transport.lost)
        b.reads_on()
        self.assertEqual(b.types(), ["b-t-f"])
        self.assertEqual(b.transport.lost, "lose")

    def test_dead_peer(self) -> None:
        """A peer that does not answer the goodbye is cut off after some seconds."""
        client = self.site.join("A")
        client.protocol.finish()
        client.protocol.finish()
        self.site.clock.advance(CLOSE_SECONDS - 0.1)
        self.assertEqual(client.transport.lost, "lose")
        self.site.clock.advance(0.1)
        self.assertEqual(client.transport.lost, "abort")

    def test_close(self) -> None:
        """The reason that the router gives is the one in the log."""
        client = self.site.join("A")
        client.protocol.close("it connected anew")
        client.leave()
        self.assertIn("A left: it connected anew", self.lines("left")[0])

    def test_abort(self) -> None:
        """An abort is immediate: nothing is written any more."""
        client, other = self.site.join("A"), self.site.join("B")
        client.heard()
        client.protocol.abort("no reason")
        other.say(marker())
        self.assertEqual((client.transport.lost, client.heard()), ("abort", []))

    def test_server_stops_for_nobody(self) -> None:
        """An anonymous connection that the server closes is in the log as closed, not as refused."""
        client = self.site.connect()
        client.protocol.finish()
        client.leave()
        self.assertRegex(self.log()[-1], r"^10\.0\.0\.1:\d+ at test closed: the server stops$")


class UnreadableTests(ProtocolTestCase):
    """What is no CoT."""

    def setUp(self) -> None:
        super().setUp()
        self.recorder = MemoryRecorder()
        self.site.factory.recorder = self.recorder

    def test_recorded(self) -> None:
        """With a recorder everything that is said is written down, under the address until there is a uid."""
        client = self.site.connect()
        client.say(marker())
        client.say(sa("A", "A"))
        client.say(marker())
        senders = [sender for sender, _ in self.recorder.recorded]
        self.assertEqual(senders, ["10.0.0.1", "A", "A"], "not by its port: a thousand short ones are one sender")
        self.assertIn(b'uid="MARK-1"', self.recorder.recorded[0][1])

    def test_unreadable(self) -> None:
        """An event that cannot be read is told of with its reason and written down; the next one counts."""
        client, other = self.site.join("A"), self.site.join("B")
        other.heard()
        client.say(b'<event uid="x"><point></event>', marker())
        self.assertEqual(other.uids(), ["MARK-1"])
        (line,) = self.lines("is not passed on")
        self.assertRegex(line, r"^an event from 10\.0\.0\.1:\d+ at test is not passed on: not well-formed XML")
        ((sender, data, reason),) = self.recorder.failures
        self.assertEqual((sender, data[:6]), ("A", b"<event"))
        self.assertIn("not well-formed", reason)

    def test_unreadable_without_recorder(self) -> None:
        """Without a recorder it is only told of."""
        self.site.factory.recorder = None
        client = self.site.join("A")
        client.say(b'<event uid="x"><point></event>')
        self.assertEqual(len(self.lines("is not passed on")), 1)

    def test_garbage(self) -> None:
        """A stream without any CoT is given up, with one line why."""
        client = self.site.connect()
        client.say(b"\0" * (self.site.limits.max_unidentified_bytes + 1))
        self.assertEqual(client.transport.lost, "abort")
        client.leave()
        (line,) = self.log()
        self.assertIn("closed: no valid event within the first 65536 bytes", line)

    def test_tls_on_a_plain_port(self) -> None:
        """A client that speaks TLS to a plain port is refused with one line that says so."""
        client = self.site.connect()
        client.say(CLIENT_HELLO)
        self.assertEqual(client.transport.lost, "abort")
        client.leave()
        (line,) = self.log()
        self.assertIn("refused: the client speaks TLS; this port is plain TCP", line)

    def test_looks_like_tls_later(self) -> None:
        """Only the first bytes are looked at."""
        client = self.site.join("A")
        client.say(CLIENT_HELLO, marker())
        self.assertIsNone(client.transport.lost)

    def test_after_it_moved(self) -> None:
        """What arrives on a connection that was closed for a newer one is not routed."""
        old = self.site.join("A", proved=principal("a"))
        other = self.site.join("B")
        self.site.join("A", proved=principal("a"))
        other.heard()
        old.say(marker())
        self.assertEqual(other.heard(), [])

    def test_too_early_and_too_late(self) -> None:
        """Bytes before the handshake's end and after the connection's end are nobody's."""
        client = self.site.connect()
        client.leave()
        client.protocol.dataReceived(marker())
        self.assertEqual(self.site.connect().heard(), [])


class TLSPair:
    """A TLS client and the server's `CoTProtocol`, in memory."""

    def __init__(self, factory: CoTFactory, tls: MutualTLS, client: ClientTLS | None) -> None:
        clock = cast(Any, factory.clock)
        below = TLSFactory(tls, factory, clock).buildProtocol(IPv4Address("TCP", "10.0.0.1", 4000))
        assert below is not None
        self.protocol = cast(CoTProtocol, below.wrappedProtocol)
        peers = PeerFactory(b"")
        other: Any = (
            peers.buildProtocol(None)
            if client is None
            else TLSMemoryBIOFactory(client, True, peers, clock).buildProtocol(None)
        )
        self.peer: Peer = peers.peers[0]
        self.server_side = iosim.FakeTransport(below, isServer=True)
        self.client_side = iosim.FakeTransport(other, isServer=False)
        self._clock = clock
        self._pump = iosim.connect(below, self.server_side, other, self.client_side)
        self.flush()

    def flush(self) -> None:
        """Let bytes flow until there are none."""
        self._clock.advance(0)
        self._pump.flush()

    def say(self, data: bytes) -> None:
        """Send from the client."""
        assert self.peer.transport is not None
        self.peer.transport.write(data)
        self.flush()
        self.flush()


class TLSTests(ProtocolTestCase):
    """The same through TLS: nobody is anybody before the handshake is complete."""

    def setUp(self) -> None:
        super().setUp()
        from taky_twisted.endpoints import server_endpoint

        self.pki = PKI(self.mktemp())
        endpoint = server_endpoint(self.site.clock, self.pki.endpoint(register=self.pki.register_path))
        self.tls: MutualTLS = endpoint.tls  # type: ignore[attr-defined]
        self.factory = CoTFactory(self.site.clock, self.site.router, self.site.connections, "tls", tls=True)

    def connect(self, client: ClientTLS | None = None) -> TLSPair:
        """Connect; by default with a good certificate."""
        return TLSPair(self.factory, self.tls, client or ClientTLS(self.pki.ca, self.pki.client))

    def test_good(self) -> None:
        """A client with a certificate is who the certificate says, hears, speaks and is answered."""
        other = self.site.join("B")
        pair = self.connect()
        self.assertIn(b'uid="B"', pair.peer.received)
        pair.say(sa("A", "FOX1"))
        pair.say(ping())
        self.assertIn(b"takPong", pair.peer.received)
        self.assertEqual(other.uids(), ["A"])
        self.assertEqual((len(self.site.connections.handshakes), self.site.connections.handshaken), (0, 1))
        self.assertIn("FOX1 (A) joined as ALPHA-1 from 10.0.0.1:4000 at tls", self.lines("joined")[-1])

    def failures(self) -> list[tuple[str, str, str, str]]:
        """Say what the doctor will: address, door, name and reason."""
        return [(each.address, each.door, each.subject, each.reason) for each in self.site.connections.failures]

    def test_doctor(self) -> None:
        """Who was refused in the handshake, after it, or while it was connected is remembered with its name."""
        self.connect(ClientTLS(self.pki.ca, self.pki.expired))
        (address, door, name, reason) = self.failures()[-1]
        self.assertEqual((address, door, name), ("10.0.0.1", "tls", "EXPIRED-4"))
        self.assertIn("expired on", reason)
        pair = self.connect()
        self.pki.write_register(R=[self.pki.client])
        self.tls.reload()
        self.site.connections.close_refused()
        pair.flush()
        self.assertEqual(self.failures()[-1][2], "ALPHA-1")
        self.assertIn("is revoked in the certificate register", self.failures()[-1][3])
        self.assertEqual(len(self.failures()), 2)

    def test_left_without_a_word(self) -> None:
        """Who leaves without a word after the handshake may not accept our name; who says something does."""
        for calls, said, told in (
            (b"localhost", [], 0),
            (b"tak.example", [ping()], 0),
            (b"tak.example", [], 1),
        ):
            pair = self.connect(ClientTLS(self.pki.ca, self.pki.client, calls=calls))
            for each in said:
                pair.say(each)
            assert pair.peer.transport is not None
            pair.peer.transport.loseConnection()
            pair.flush()
            self.assertEqual(len(self.failures()), told)
        self.assertIn("probably because it called us tak.example, which is not in it", self.failures()[-1][3])
        self.assertEqual(self.failures()[-1][2], "ALPHA-1")

    def test_finish(self) -> None:
        """Closing takes the TLS goodbye of both sides and leaves nothing behind."""
        pair = self.connect()
        pair.say(sa("A", "FOX1"))
        self.site.router.stop()
        pair.protocol.finish()
        pair.flush()
        assert pair.peer.reason is not None
        self.assertTrue(pair.peer.reason.check(ConnectionDone))
        self.assertEqual((len(self.site.connections), self.pending()), (0, 0))

    def test_said_to_who_said_goodbye(self) -> None:
        """What is directed to a client between its TLS goodbye and the end of its connection is not lost."""
        other = self.site.join("B")
        pair = self.connect()
        pair.say(sa("A", "FOX1"))
        handle = cast(Any, pair.peer.transport).getHandle()
        handle.shutdown()
        pair.server_side.protocol.dataReceived(handle.bio_read(4096))
        other.say(chat("B", "still there?", marti=to("FOX1")))
        pair.server_side.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(other.types().count("b-t-f-s"), 0)
        again = self.connect()
        again.say(sa("A", "FOX1"))
        self.assertIn(b"still there?", again.peer.received)

    def test_handshake_pending(self) -> None:
        """A handshake is counted while it lasts; nothing is heard and nothing taken from the peer."""
        pair = TLSPair(self.factory, self.tls, None)
        self.assertEqual((len(self.site.connections.handshakes), len(self.site.router.subscriptions)), (1, 0))
        pair.protocol.dataReceived(marker())
        pair.protocol.check_certificate()
        pair.protocol.look(NOW + 10_000)
        self.assertEqual(len(self.site.connections.handshakes), 1)
        pair.protocol.finish()
        self.site.turn()
        pair.flush()
        self.assertEqual((len(self.site.connections.handshakes), len(self.site.connections)), (0, 0))

    def test_T45_handshake_never_finished(self) -> None:
        """A handshake that takes too long is closed, with one line in the log."""
        pair = TLSPair(self.factory, self.tls, None)
        self.site.clock.advance(self.site.limits.handshake_seconds - 0.1)
        self.assertEqual(len(self.site.connections), 1)
        self.site.clock.advance(0.1)
        pair.flush()
        self.assertEqual((len(self.site.connections), len(self.site.connections.handshakes)), (0, 0))
        self.assertEqual(
            self.log(), ["10.0.0.1:4000 at tls refused: the client did not finish the TLS handshake in time"]
        )

    def test_handshakes_of_one_address(self) -> None:
        """Where too many are pending, the oldest of the address that has most gives way to one from elsewhere."""
        self.site.connections.limits = replace(self.site.limits, max_handshakes=2)
        silent = [TLSPair(self.factory, self.tls, None) for _ in range(2)]
        self.assertFalse(self.factory.admits(IPv4Address("TCP", "10.0.0.1", 5000)))
        self.assertTrue(self.factory.admits(IPv4Address("TCP", "10.0.0.2", 5000)))
        self.assertEqual((len(self.site.connections.handshakes), len(self.site.connections.unidentified)), (1, 1))
        for pair in silent:
            pair.flush()
        self.assertEqual(len(self.site.connections), 1)
        (line,) = self.lines("others need its place")
        self.assertTrue(line.startswith("10.0.0.1:4000 at tls refused: "), line)
        self.assertTrue(self.factory.admits(IPv4Address("TCP", "10.0.0.1", 5000)))

    def test_refused_certificate(self) -> None:
        """A client whose certificate is not accepted is never subscribed or told anything, and the log says why."""
        pair = self.connect(ClientTLS(self.pki.ca, self.pki.foreign))
        self.assertEqual(pair.peer.received, b"")
        (line,) = self.log()
        self.assertIn("10.0.0.1:4000 at tls refused: the client's certificate (FOREIGN-6", line)
        self.assertEqual((len(self.site.connections), len(self.site.connections.handshakes), self.pending()), (0, 0, 0))
        self.assertEqual(self.site.connections.handshaken, 0)

    def test_revoked_while_connected(self) -> None:
        """Who is revoked while it is connected is dropped when the files are read again; the others stay."""
        pair, other = self.connect(), self.connect(ClientTLS(self.pki.ca, self.pki.second_client))
        pair.say(sa("A", "FOX1"))
        self.site.connections.close_refused()
        pair.flush()
        self.assertEqual(len(self.site.connections), 2)
        self.pki.write_register(R=[self.pki.client])
        self.tls.reload()
        self.site.connections.close_refused()
        pair.flush()
        other.flush()
        self.assertEqual(list(self.site.connections), [other.protocol])
        self.assertRegex(self.lines("left")[0], r"^FOX1 left: the client's certificate \(ALPHA-1, .*is revoked in the")

    def test_revoked_before_resuming(self) -> None:
        """A revoked client that resumes its session, which OpenSSL does not ask us about, is refused with one line."""
        client = ClientTLS(self.pki.ca, self.pki.client, version=SSL.TLS1_2_VERSION)
        self.connect(client).protocol.abort("")
        self.pki.write_register(R=[self.pki.client])
        assert self.tls.settings.register is not None
        self.tls.settings.register.reload()
        client.session = client.connections[-1].get_session()
        before = len(self.log())
        pair = self.connect(client)
        self.assertEqual(pair.peer.received, b"")
        (line,) = self.log()[before:]
        self.assertRegex(
            line, r"refused: the client's certificate \(ALPHA-1, .*is revoked in the certificate register$"
        )

    def test_not_tls(self) -> None:
        """Plain CoT on a TLS port is refused with one line that says so."""
        pair = TLSPair(self.factory, self.tls, None)
        pair.say(sa("A", "A"))
        (line,) = self.log()
        self.assertIn("refused: the client speaks plain XML (CoT without TLS); this port wants TLS", line)

    def test_lost_in_the_handshake(self) -> None:
        """A client that goes away in the middle is told of once."""
        pair = TLSPair(self.factory, self.tls, None)
        pair.protocol.connectionLost(Failure(ConnectionDone()))
        (line,) = self.log()
        self.assertIn("refused: the client closed the connection without sending anything", line)
