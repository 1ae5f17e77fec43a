from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import PROLOG
from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.routing.tak_stream import CLOSE_SECONDS, TAKStream, bytes_sent
from taky_twisted.takproto.batch import Batch
from taky_twisted.takproto.connection import MAX_ERRORS, TAKConnection
from tests.fakes import LogLines, MemoryRecorder, Site, WireTransport
from tests.samples import NOW, chat, event, marker, ping, sa, to

HERE = IPv4Address("TCP", "10.0.0.1", 4000)
LIMITS = Limits(input_events_per_second=10, input_bytes_per_second=100_000, outbox_bytes=4096, max_event_to_client=4096)


class Plain(TAKStream):
    """Nothing but a stream: the peer is known from the first byte."""

    def __init__(self, site: Site, address: IAddress = HERE, recorder: MemoryRecorder | None = None) -> None:
        tak = TAKConnection(site.limits.max_event_bytes, site.limits.max_unidentified_bytes)
        super().__init__(
            site.clock, site.limits, tak, address, "test", site.router.notices, recorder, site.router.audiences.tally
        )
        self._site = site

    def connectionMade(self) -> None:
        self._start()
        self._subscription = self._site.router.subscribe(ANONYMOUS, self, self.peer)


class StreamTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site(limits=LIMITS)
        self.log = LogLines(self)
        self.recorder = MemoryRecorder()
        self.stream = Plain(self.site, recorder=self.recorder)
        self.transport = WireTransport(HERE)
        self.stream.makeConnection(self.transport)

    def say(self, *documents: bytes) -> None:
        """Let the peer send documents in one piece."""
        self.stream.dataReceived(b"".join(documents))
        self.site.turn()

    def written(self) -> list[bytes]:
        """Take what was written, cut into events."""
        written, self.transport.written = bytes(self.transport.written), bytearray()
        return written.split(PROLOG)[1:]

    def lose(self, error: Exception) -> None:
        """End the connection; nothing is left to be done for it."""
        self.stream.connectionLost(Failure(error))
        self.assertEqual([call for call in self.site.clock.getDelayedCalls() if "Contacts" not in str(call)], [])

    def lines(self, word: str) -> list[str]:
        """Read the log lines with a word in them."""
        return [line for line in self.log() if word in line]


class HearingTests(StreamTestCase):
    def test_both_ways(self) -> None:
        """What is said is passed on and written down; what others say is written to the peer at once."""
        other = self.site.join("OTHER")
        self.written()
        self.say(sa("A", "FOX"), ping("A"))
        self.assertEqual(other.uids(), ["A"])
        self.assertEqual([name for name, _ in self.recorder.recorded], ["A"])
        (pong,) = self.written()
        self.assertIn(b"t-x-c-t-r", pong)
        other.say(marker("M-1"))
        self.assertEqual(len(self.written()), 1)

    def test_without_recorder(self) -> None:
        """Nothing needs to be written down."""
        stream = Plain(self.site)
        stream.makeConnection(WireTransport(HERE))
        stream.dataReceived(marker("M-1") + b"<event/>")
        self.assertEqual(len(self.lines("not passed on")), 1)

    def test_unreadable(self) -> None:
        """What cannot be read is named in the log, and kept by the recorder under who or where it came from."""
        self.say(b"<event/>", sa("A", "FOX"), b"<event/>")
        self.assertEqual([name for name, _, _ in self.recorder.failures], ["10.0.0.1", "A"])
        self.assertEqual(len(self.lines("an event from 10.0.0.1:4000 at test is not passed on")), 2)

    def test_broken(self) -> None:
        """Who speaks no CoT is cut off, and the log says why."""
        self.say(b"<event/>" * MAX_ERRORS)
        self.assertEqual(self.transport.lost, "abort")
        self.lose(ConnectionLost())
        self.assertEqual(len(self.lines("closed: 20 unreadable events")), 1)

    def test_closed_in_the_middle(self) -> None:
        """Nothing is passed on after the subscription was closed, nor before it or after the end of the connection."""
        other = self.site.join("OTHER")
        assert self.stream._subscription is not None
        self.stream._subscription.close()
        self.say(marker("M-1"), marker("M-2"))
        self.lose(ConnectionDone())
        self.say(marker("M-3"))
        Plain(self.site).dataReceived(marker("M-4"))
        self.assertEqual(other.uids(), [])

    def test_left(self) -> None:
        """The log says who left and how, or why we closed it; of who said nothing there is no line."""
        self.lose(ConnectionDone())
        self.assertEqual(self.log(), [])
        for error, words in ((ConnectionDone(), "said goodbye"), (ConnectionLost(), "connection broke")):
            self.stream.makeConnection(self.transport)
            self.say(sa("A", "FOX"))
            self.lose(error)
            self.assertEqual(len(self.lines(words)), 1)

    def test_few_attributes(self) -> None:
        """A connection is small and quick: of more than 29 attributes Python 3.11 makes a dict of its own.

        What is here counts for none of that, so that whoever builds upon it has all of them.
        """
        self.assertEqual(vars(self.stream).keys(), {"_site", "connected", "transport"})
        self.assertLess(len(vars(self.site.connect().protocol)), 30)

    def test_peer(self) -> None:
        """Addresses are shown as people write them."""
        addresses: list[tuple[IAddress, str]] = [
            (HERE, "10.0.0.1:4000 at test"),
            (IPv6Address("TCP", "fe80::1", 4000), "[fe80::1]:4000 at test"),
            (UNIXAddress("/run/taky.sock"), "a local process at test"),
        ]
        for address, shown in addresses:
            self.assertEqual(Plain(self.site, address).peer, shown)


class FullTests(StreamTestCase):
    def test_waits(self) -> None:
        """What the peer does not take waits, is written when it takes more, and is cut where it takes no more."""
        self.stream.pauseProducing()
        self.stream.pauseProducing()
        for number in range(3):
            self.stream.deliver(Batch([event(marker(f"M-{number}"))]))
        self.assertEqual(self.written(), [])
        self.transport.room = 0
        self.stream.resumeProducing()
        self.assertEqual(len(self.written()), 1)
        self.transport.room = None
        self.stream.resumeProducing()
        self.assertEqual(len(self.written()), 2)

    def test_replay(self) -> None:
        """What a newcomer is told waits, too."""
        self.stream.pauseProducing()
        self.stream.replay([("M-1", (event(marker("M-1")),))])
        self.assertEqual(self.written(), [])
        self.stream.resumeProducing()
        self.assertEqual(len(self.written()), 1)
        self.stream.replay([("M-2", (event(marker("M-2")),))])
        self.assertEqual(len(self.written()), 1)

    def test_too_slow(self) -> None:
        """Who takes too little is cut off; what it did not get is given back for whoever comes in its place."""
        self.stream.pauseProducing()
        for number in range(40):
            self.stream.deliver(Batch([event(chat("B", "x" * 100, number=number))]))
        self.assertEqual(self.transport.lost, "abort")
        self.assertGreater(len(self.stream.unsent()), 5)
        self.assertEqual(self.stream.unsent(), [])

    def test_after_the_end(self) -> None:
        """After the end of the connection nothing is kept or written."""
        self.stream.stopProducing()
        self.lose(ConnectionDone())
        self.stream.resumeProducing()
        self.stream.deliver(Batch([event(marker("M-1"))]))
        self.assertEqual((self.stream.unsent(), self.written()), ([], []))

    def test_pongs(self) -> None:
        """Who asks and does not read gets one pong a second, so that its pings do not fill our memory."""
        self.say(sa("A", "FOX"))
        self.stream.pauseProducing()
        self.say(ping(), ping())
        self.assertEqual(len(self.written()), 1)
        self.site.clock.advance(1)
        self.say(ping())
        self.assertEqual(len(self.written()), 1)

    def test_stalled(self) -> None:
        """Who takes nothing for `stall_seconds` is cut off; who takes a little is not."""
        self.stream.pauseProducing()
        self.transport.sent = 1
        self.stream.look(NOW + LIMITS.stall_seconds)
        self.stream.look(NOW + 2 * LIMITS.stall_seconds - 1)
        self.assertIsNone(self.transport.lost)
        self.stream.look(NOW + 2 * LIMITS.stall_seconds)
        self.assertEqual(self.transport.lost, "abort")

    def test_bytes_sent(self) -> None:
        """TLS counts as what the socket under it counts; what does not count says nothing."""

        class Counting:
            sent = 5

        class TLS:
            transport = Counting()

        self.assertEqual((bytes_sent(Counting()), bytes_sent(TLS()), bytes_sent(object())), (5, 5, None))


class SilenceTests(StreamTestCase):
    def test_listener(self) -> None:
        """Who only listens may be silent; who has said who it is, or asks whether we live, may not."""
        self.look_until(LIMITS.idle_seconds + 1)
        self.assertIsNone(self.transport.lost)
        for said in (sa("A", "FOX"), ping("A")):
            self.setUp()
            self.say(said)
            self.look_until(LIMITS.idle_seconds)
            self.assertIsNone(self.transport.lost)
            self.stream.look(NOW + LIMITS.idle_seconds + 1)
            self.assertEqual(self.transport.lost, "abort")

    def look_until(self, seconds: float) -> None:
        """See to the connection every few seconds."""
        for second in range(5, int(seconds) + 1, 5):
            self.stream.look(NOW + second)
        self.stream.look(NOW + seconds)

    def test_clock_is_set(self) -> None:
        """Nobody counts as silent, or as stalled, because the clock was set ahead, back, or because we stood still."""
        for jump in (7200.0, -7200.0):
            self.setUp()
            self.say(sa("A", "FOX"))
            self.stream.pauseProducing()
            self.stream.look(NOW + 5)
            for second in range(10, 25, 5):
                self.stream.look(NOW + jump + second)
            self.assertIsNone(self.transport.lost, jump)
            self.assertEqual(self.stream.state.began, NOW + jump + 5, "it is shown as connected for as long as it is")
            for second in range(25, 60, 5):
                self.stream.look(NOW + jump + second)
            self.assertEqual(self.transport.lost, "abort", "but who takes nothing is closed in the end")

    def test_gone(self) -> None:
        """A connection that is gone is not looked for."""
        self.lose(ConnectionDone())
        self.stream.look(NOW + LIMITS.idle_seconds + 1)
        self.assertIsNone(self.transport.lost)


class BudgetTests(StreamTestCase):
    def test_paused(self) -> None:
        """Who says more than it may in a second is read on later, and so much later that the rate holds."""
        self.say(*[marker(f"M-{number}") for number in range(10)])
        self.assertTrue(self.transport.reading)
        self.say(*[marker(f"M-{number}") for number in range(20)])
        self.assertFalse(self.transport.reading)
        self.say(marker())
        self.site.clock.advance(2.9)
        self.assertFalse(self.transport.reading)
        self.site.clock.advance(0.2)
        self.assertTrue(self.transport.reading)

    def test_bytes(self) -> None:
        """Bytes count, too; a second later all is forgiven."""
        self.say(sa("A", "FOX"))
        self.site.clock.advance(1)
        self.say(b" " * 100_000)
        self.site.clock.advance(1)
        self.say(b" " * 100_000)
        self.assertTrue(self.transport.reading)
        self.say(b" ")
        self.assertFalse(self.transport.reading)
        self.lose(ConnectionDone())


class EndTests(StreamTestCase):
    def test_finish(self) -> None:
        """A server that stops sends what is directed to the peer, and nothing else, before it closes."""
        self.say(sa("A", "FOX"))
        other = self.site.join("B")
        self.stream.pauseProducing()
        other.say(marker("M-1"), chat("B", "for you", room="A", uids=("A",), marti=to("FOX")))
        self.stream.finish()
        self.assertIsNone(self.transport.lost)
        self.written()
        self.stream.resumeProducing()
        self.assertEqual((len(self.written()), self.transport.lost), (1, "lose"))
        self.lose(ConnectionDone())
        self.assertEqual(len(self.lines("FOX left: the server stops")), 1)

    def test_dead(self) -> None:
        """A peer that does not let the connection close is cut off."""
        self.stream.close("a newer one took its place")
        self.assertEqual(self.transport.lost, "lose")
        self.site.clock.advance(CLOSE_SECONDS)
        self.assertEqual(self.transport.lost, "abort")
        self.lose(ConnectionLost())
        self.assertEqual(len(self.lines("closed: a newer one took its place")), 1)

    def test_unknown(self) -> None:
        """A peer that is not known yet is cut off when the server stops, without a word."""
        stream, transport = Plain(self.site), WireTransport(HERE)
        stream.transport = transport
        stream.finish()
        stream.connectionLost()
        self.assertEqual((transport.lost, self.log()), ("abort", []))


class StateTests(StreamTestCase):
    def test_state(self) -> None:
        """An operator sees since when a client is there, what it said, and how much waits for it."""
        state = self.stream.state
        self.assertEqual((state.address, state.door, state.protocol), ("10.0.0.1", "test", "xml"))
        self.assertEqual((state.began, state.heard, state.events, state.backlog), (NOW, 0.0, 0, 0))
        self.site.clock.advance(5)
        self.say(sa("A", "A"), ping())
        self.stream.pauseProducing()
        other = self.site.join("B")
        for number in range(40):
            other.say(marker(f"M{number % 2}"))
        state = self.stream.state
        self.assertEqual((state.began, state.heard, state.events, state.full), (NOW, NOW + 5, 2, True))
        self.assertTrue(0 < state.backlog <= 2 * LIMITS.outbox_bytes, state.backlog)
        self.assertGreater(state.dropped, 0)
