from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.routing.audience import SAMPLE_TURNS
from taky_twisted.routing.tally import BOUNDS, KINDS, MAX_TYPES, TYPE_CHARS, Latency, Tally, kind_of
from taky_twisted.streaming.datagrams import CoTDatagrams
from tests.fakes import Site
from tests.samples import chat, control, marker, sa, to


class KindTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """What an event is counted as goes by its type; a type that nobody knows is something else."""
        for kind, types in {
            "marker": ("a-h-G", "b-m-p-s-m", "b-m-r", "u-d-f", "u-rb-a", "b-i-v", "b-r-f-h-c"),
            "chat": ("b-t-f", "b-t-f-d", "b-t-f-s"),
            "emergency": ("b-a-o-tbl", "b-a-g", "b-a-o-can"),
            "delete": ("t-x-d-d",),
            "file_offer": ("b-f-t-r", "b-f-t-a"),
            "other": ("t-x-c-t", "", "y", "A-f-G", "t-x-d-d-x"),
        }.items():
            for type_ in types:
                self.assertEqual(kind_of(type_), kind, type_)
                self.assertIn(kind, KINDS)

    def test_positions(self) -> None:
        """What a client says of itself is a position, and a marker with the same type is none."""
        tally = Tally()
        self.assertIs(tally.of(decode(sa("A", "A"))), tally.kinds["position"])
        self.assertIs(tally.of(decode(marker("M"))), tally.kinds["marker"])
        self.assertIs(tally.of(decode(chat("A"))), tally.kinds["chat"])

    def test_bounded(self) -> None:
        """Whatever types clients make up, little is remembered, and all of it is counted."""
        tally = Tally()
        long = "a-" + "x" * (TYPE_CHARS - 1)
        for number in range(MAX_TYPES + 10):
            tally.types[f"a-{number}"].heard += 1
        self.assertEqual(len(tally.types), MAX_TYPES)
        tally = Tally()
        for type_ in (long[:-1], long):
            tally.types[type_].heard += 1
        self.assertEqual(list(tally.types), [long[:-1]])
        self.assertEqual(tally.kinds["marker"].heard, 2)


class LatencyTests(SynchronousTestCase):
    def test_classes(self) -> None:
        """Each value is in the class that ends at it or above it; a clock that was set back does not count."""
        latency = Latency()
        for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1], 3600, -1.0, float("-inf")):
            latency.observe(seconds)
        self.assertEqual((latency.counts[0], latency.counts[1], latency.counts[-2:]), (2, 1, [1, 1]))
        self.assertEqual(sum(latency.counts), 5)
        self.assertAlmostEqual(latency.total, BOUNDS[0] * 2.01 + BOUNDS[-1] + 3600)


class CountingTests(SynchronousTestCase):
    """What the counters say about a server in use."""

    def setUp(self) -> None:
        self.site = Site(limits=Limits().replaced({"outbox_bytes": 65536, "stall_seconds": 10, "idle_seconds": 60}))
        self.tally = self.site.router.audiences.tally

    def heard(self) -> dict[str, int]:
        """Tell what was heard, without what was not."""
        return {name: kind.heard for name, kind in self.tally.kinds.items() if kind.heard}

    def test_heard_and_delivered(self) -> None:
        """Every event is counted once where it is heard, and once for each who hears it, however it is addressed."""
        a, b, _ = self.site.join("A"), self.site.join("B"), self.site.join("C")
        before = self.tally.delivered
        a.say(marker("M"), marker("N"))
        self.assertEqual(self.tally.delivered - before, 4)
        a.say(chat("A", marti=to("B")))
        self.assertEqual(self.tally.delivered - before, 5)
        a.say(marker("O"))
        b.say(marker("P"))
        self.assertEqual(self.tally.delivered - before, 9)
        self.assertEqual(self.heard(), {"position": 3, "marker": 4, "chat": 1})

    def test_filtered(self) -> None:
        """Who asked not to hear something does not count as having heard it."""
        a, b = self.site.join("A"), self.site.join("B")
        b.say(control("t-b", '<subscription><tests xpath="//nothing"/></subscription>', uid="wish"))
        before = self.tally.delivered
        a.say(marker("M"))
        self.assertEqual(self.tally.delivered, before)
        b.say(control("t-b-c", uid="wish"))
        a.say(marker("N"))
        self.assertEqual(self.tally.delivered, before + 1)

    def test_unreadable(self) -> None:
        """What cannot be read is counted, on streams and in datagrams."""
        self.site.join("A").say(b"<event uid='x'/>")
        self.assertEqual(self.tally.unreadable, 1)
        port = CoTDatagrams(self.site.clock, self.site.router, "udp", self.site.connections.notices)
        port.datagramReceived(b"rubbish", ("192.0.2.1", 1))
        self.assertEqual(self.tally.unreadable, 2)
        for _ in range(2):
            port.datagramReceived(marker("U"), ("192.0.2.1", 1))
        self.assertEqual(self.heard(), {"position": 1, "marker": 1}, "a datagram that comes twice is one event")

    def test_slow(self) -> None:
        """What a slow reader does not get is counted, and so is its end, once."""
        a, b = self.site.join("A"), self.site.join("B")
        b.full()
        for _ in range(5):
            self.site.clock.advance(0.5)
            a.say(marker("M"), chat("A", marti=to("B")))
        self.assertGreaterEqual(self.tally.thinned, 1)
        thinned = self.tally.thinned
        for number in range(400):
            a.say(marker(f"M{number}", now=self.site.clock.seconds()))
        self.assertEqual(b.transport.lost, "abort")
        self.assertEqual((self.tally.closed["overflow"], self.tally.thinned), (1, thinned))
        self.assertGreater(self.tally.waited["overflow"], 100)
        self.assertEqual(self.tally.waited["stalled"], 0)

    def test_stalled_and_silent(self) -> None:
        """Who takes nothing and who says nothing are closed, and told apart."""
        a, b, c = self.site.join("A"), self.site.join("B"), self.site.join("C")
        b.full()
        a.say(marker("M"))
        for _ in range(13):
            self.site.clock.advance(5)
            a.say(sa("A", "A", now=self.site.clock.seconds()))
            for each in (b, c):
                if not each.gone:
                    each.protocol.look(self.site.clock.seconds())
                    if each.transport.lost:
                        each.vanish()
        self.assertEqual(self.tally.closed, {"overflow": 0, "stalled": 1, "idle": 1})
        self.assertGreaterEqual(self.tally.waited["stalled"], 1)

    def test_latency(self) -> None:
        """It is the time from the arrival of the first bytes in a turn to the end of handing everything over."""
        a, _ = self.site.join("A"), self.site.join("B")
        latency = self.tally.latency
        before = sum(latency.counts)
        for number in range(SAMPLE_TURNS * 2):
            a.protocol.dataReceived(marker(f"M{number}"))
            self.site.clock.advance(0.02)
        self.assertEqual(sum(latency.counts) - before, 2)
        self.assertAlmostEqual(latency.total, 0.04)

    def test_unknown_beginning(self) -> None:
        """What the server says by itself, and what came in by UDP, is not measured: nobody knows when it began."""
        self.site.join("A")
        before = sum(self.tally.latency.counts)
        port = CoTDatagrams(self.site.clock, self.site.router, "udp", self.site.connections.notices)
        for number in range(SAMPLE_TURNS * 2):
            port.datagramReceived(marker(f"U{number}"), ("192.0.2.1", 1))
            self.site.turn()
        for number in range(SAMPLE_TURNS * 2):
            self.site.router.announce(decode(marker(f"S{number}")), frozenset({"__ANON__"}))
            self.site.turn()
        self.assertEqual(sum(self.tally.latency.counts), before)
