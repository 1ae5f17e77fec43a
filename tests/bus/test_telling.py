from __future__ import annotations

from dataclasses import replace

from twisted.logger import LogLevel

from taky_twisted.bus import telling
from taky_twisted.bus.envelope import open_batch
from taky_twisted.bus.telling import CROWDED_BYTES, MAX_BACKLOG, WAIT_BYTES, WAIT_SECONDS
from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.routing.words import Handed, Kick, Switched, Word
from taky_twisted.timekeeping import Timekeeping
from tests.bus.bus_case import BusCase, OneBus
from tests.bus.ear import CHAT, SPEAKER, kick, left, said


class ClockTests(BusCase):
    def test_set_back(self) -> None:
        """A node whose clock was set back by hours while it said nothing is heard as before, a second later."""
        a, b = self.pair()
        steady = self.clock.seconds()
        keeping = Timekeeping(self.clock, [], self.clock.seconds, lambda: steady)
        keeping.startService()
        self.addCleanup(keeping.stopService)
        self.clock.rightNow -= 7200
        keeping.look()
        self.run_for(2.1)
        a.tell(kick(1))
        self.run_for(0.1)
        self.assertEqual(b.heard, [1])
        self.assertEqual((a.names, b.names), (["b"], ["a"]))


class OutageTests(BusCase):
    def heard_since(self, node: OneBus) -> list[object]:
        """Take the words that a node has heard."""
        return [call[2] for call in node.ear.take() if call[0] == "heard"]

    def test_what_waits(self) -> None:
        """While Redis is away, chat, deletes, what is handed over and kicks wait; then they come first and in order."""
        a, b = self.pair()
        handed = Handed(b.bus.instance, 1, "B", CHAT, frozenset({"x"}))
        self.server.stop()
        waiting: list[Word] = [kick(1), said(protected=True), handed, kick(2)]
        for word in (left(1), kick(1), said(), *waiting[1:], left(2)):
            a.tell(word)
        self.run_for(5.0, 0.01)
        self.assertFalse(a.bus.up)
        self.server.start()
        self.run_for(0.05)
        self.assertTrue(a.bus.up)
        heard = self.heard_since(b)
        self.assertEqual([type(word) for word in heard], [type(word) for word in waiting])
        self.assertEqual([heard[0], heard[3]], [kick(1), kick(2)])
        self.assertEqual(a.ear.take(), [("back",)])
        self.assertEqual((a.bus.tally.dropped, a.bus.tally.undelivered, a.bus.tally.outages), (3, 0, 1))

    def test_log(self) -> None:
        """An outage is one warning, and one line when it is over."""
        a, _ = self.pair()
        for _ in range(2):
            self.server.stop()
            a.tell(left(1))
            self.run_for(3.0, 0.01)
            self.server.start()
            self.run_for(0.1)
        lines = [line for line in self.log() if "the other nodes" in line]
        self.assertEqual(len(lines), 8)  # two nodes, two outages
        self.assertIn("cannot be reached through Redis: the connection was lost. Start Redis", lines[0])
        self.assertIn("reached again, after 3.0 s; 1 words", next(line for line in lines if " 1 words" in line))
        self.assertEqual(len(self.log(LogLevel.warn)), 4)

    def test_too_long(self) -> None:
        """What has waited for half a minute is given up, and whoever told it hears that; what is younger waits on."""
        a, b = self.pair()
        self.server.stop()
        a.tell(kick(1))
        self.run_for(WAIT_SECONDS / 2, 0.1)
        a.tell(kick(2))
        self.run_for(WAIT_SECONDS / 2 - 0.5, 0.1)
        self.assertEqual(a.ear.lost, [])
        self.run_for(2.0, 0.1)
        self.assertEqual(a.ear.lost, [kick(1)])
        self.server.start()
        self.run_for(0.05)
        self.assertEqual(b.heard, [2])
        self.assertEqual(a.bus.tally.undelivered, 1)

    def test_too_much(self) -> None:
        """At most a megabyte waits; the oldest goes first."""
        a, b = self.pair()
        self.server.stop()
        one = Kick("x", "y")
        size = 200
        room = WAIT_BYTES // size
        for _ in range(room - 1):
            a.tell(one)
        a.tell(kick(7))
        self.run_for(0.01)
        self.assertEqual(a.ear.lost, [])
        a.tell(kick(8))
        self.run_for(0.01)
        self.assertEqual(a.ear.lost, [one])
        self.server.start()
        self.run_for(0.5)
        self.assertEqual(len(b.ear.words), room)
        self.assertEqual(b.ear.words[-2:], [kick(7), kick(8)])

    def test_reply_lost(self) -> None:
        """A batch whose reply was lost is sent again as it was, before what came later; nobody hears it twice."""
        a, b = self.pair()
        self.server.loses_replies = True
        a.tell(left(1))
        a.tell(kick(2))
        self.run_for(0.005)
        self.server.loses_replies = False
        a.tell(left(3))  # dropped: the bus is away
        a.tell(kick(4))
        self.run_for(1.0)
        self.assertEqual(b.heard, [1, 2, 4])
        self.assertEqual((a.bus.tally.resent, b.bus.tally.gaps), (b.bus.tally.doubled, 0))
        sent = [command[-1] for command in a.writer.commands if command[0] == "XADD" and b"Kick" in command[-1]]
        self.assertEqual(sent[0], sent[1])

    def test_crash(self) -> None:
        """What Redis has taken, and lost in a crash before all have read it, is told again; nobody hears it twice."""
        a, b = self.pair()
        c = self.node("c")
        self.run_for(0.1)
        a.tell(left(1))
        self.run_for(0.1)
        b.reader.lose("so that it does not read at once")
        for number in range(2, 5):
            a.tell(kick(number))
            self.run_for(0.015)
        self.server.stop()
        self.server.entries.clear()
        self.assertEqual((b.heard, c.heard), ([1], [1, 2, 3, 4]))
        a.tell(kick(5))
        self.server.start()
        self.run_for(0.1)
        self.assertEqual((b.heard, c.heard), ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]))
        self.assertEqual((a.bus.tally.told, b.bus.tally.gaps, c.bus.tally.gaps), (5, 0, 0))

    def test_hanging(self) -> None:
        """Redis that does not answer is away after two seconds; what it may have got is sent again when it is back."""
        a, b = self.pair()
        self.server.hangs = True
        a.tell(left(1))
        self.run_for(1.9, 0.01)
        self.assertTrue(a.bus.up)
        a.tell(left(2))
        a.tell(kick(3))
        self.run_for(0.2, 0.01)
        self.assertFalse(a.bus.up)
        self.server.hangs = False
        self.server.start()
        self.run_for(1.0, 0.01)
        self.assertEqual(b.heard, [1, 3])
        self.assertEqual(b.bus.tally.gaps, 0)

    def test_in_flight_too_long(self) -> None:
        """What was on its way waits no longer than anything else; the others notice that a batch is missing."""
        a, b = self.pair()
        self.server.hangs = True
        a.tell(left(1))
        a.tell(kick(2))
        self.run_for(WAIT_SECONDS + 2, 0.05)
        self.assertEqual(a.ear.lost, [kick(2)])
        self.server.hangs = False
        self.server.start()
        self.run_for(0.2)
        a.tell(left(3))
        self.run_for(0.2)
        self.assertEqual(b.heard, [3])
        self.assertIn(("missed", a.bus.instance), b.ear.told)

    def test_on_its_way_late(self) -> None:
        """What has waited for some time before it was on its way does not wait for half a minute again."""
        a, _ = self.pair()
        self.server.stop()
        a.tell(kick(1))
        self.run_for(20.0, 0.05)
        self.server.start()
        self.server.hangs = True
        self.run_for(8.0, 0.05)
        self.assertEqual(a.ear.lost, [])
        self.run_for(4.0, 0.05)
        self.assertEqual(a.ear.lost, [kick(1)])

    def test_in_flight_too_large(self) -> None:
        """A batch of more than a megabyte does not wait, and takes nobody's place who does."""
        a, b = self.pair()
        large = replace(CHAT, xml=CHAT.xml[:-8] + b" " * WAIT_BYTES + b"</event>")
        self.server.hangs = True
        a.tell(replace(said(True), event=large))
        self.run_for(0.1)
        a.tell(kick(2))
        self.run_for(5.0, 0.01)
        self.assertEqual(len(a.ear.lost), 1)
        self.server.hangs = False
        self.server.start()
        self.run_for(0.2)
        self.assertEqual(b.heard, [2])

    def test_refused(self) -> None:
        """Redis that refuses (it is full) is tried again every second; the number is used again, so there is no gap."""
        a, b = self.pair()
        self.server.refusals["XADD"] = "OOM command not allowed when used memory > 'maxmemory'."
        a.tell(left(1))
        a.tell(kick(2))
        self.run_for(3.0, 0.01)
        self.assertFalse(a.bus.up)
        self.assertIn(sum(command[0] == "XADD" for command in a.writer.commands), range(5, 8))
        self.assertIn("raise its maxmemory", " ".join(self.log(LogLevel.warn)))
        self.server.refusals.clear()
        self.run_for(1.5, 0.01)
        self.assertEqual(b.heard, [2])
        self.assertEqual((b.bus.tally.gaps, a.bus.tally.dropped), (0, 1))

    def test_refused_later(self) -> None:
        """What Redis may have taken keeps its number, even if it is refused when it is sent again."""
        a, b = self.pair()
        self.server.loses_replies = True
        a.tell(kick(1))
        self.run_for(0.005)
        self.server.loses_replies = False
        self.server.refusals["XADD"] = "MISCONF no disk"
        self.run_for(2.0, 0.01)
        a.tell(kick(2))
        self.server.refusals.clear()
        self.run_for(2.0, 0.01)
        self.assertEqual(b.heard, [1, 2])
        self.assertEqual(b.bus.tally.gaps, 0)
        self.assertGreater(b.bus.tally.doubled, 0)

    def test_start_without(self) -> None:
        """A node starts without Redis, says so after five seconds, and joins the others later."""
        self.server.running = False
        a = self.node("a")
        self.run_for(4.0, 0.01)
        self.assertNoResult(a.bus.started)
        a.tell(kick(1))
        self.run_for(2.0, 0.01)
        self.successResultOf(a.bus.started)
        self.assertFalse(a.bus.up)
        self.assertEqual(len(self.log(LogLevel.warn)), 1)
        self.server.start()
        self.run_for(0.1)
        self.assertTrue(a.bus.up)
        self.assertEqual(a.ear.take(), [("back",)])
        self.assertEqual(open_batch(self.server.entries[0][1][1]).number, 1)

    def test_start_refused(self) -> None:
        """A Redis that does not let us write is said at once."""
        self.server.refusals["XADD"] = "NOPERM this user has no permissions"
        a = self.node("a")
        self.run_for(0.01)
        self.successResultOf(a.bus.started)
        self.assertIn("NOPERM", self.log(LogLevel.warn)[0])
        self.run_for(5.0, 0.01)
        self.assertEqual(len(self.log(LogLevel.warn)), 1)

    def test_stop_without(self) -> None:
        """Who stops while Redis is away says which words are lost."""
        a, _ = self.pair()
        self.server.loses_replies = True
        a.tell(kick(1))
        self.run_for(0.01)
        self.server.stop()
        a.tell(kick(2))
        self.successResultOf(a.bus.stopService())
        self.assertEqual(a.ear.lost, [kick(1), kick(2)])

    def test_never_started(self) -> None:
        """A bus that was never started can be stopped."""
        node = OneBus(self.clock, self.server, "a", {})
        node.tell(kick(1))
        self.successResultOf(node.bus.stopService())
        self.assertEqual(node.ear.lost, [kick(1)])

    def test_goes_at_once(self) -> None:
        """What was told just before Redis went is not sent into the void."""
        a, b = self.pair()
        a.tell(left(1))
        a.tell(kick(2))
        self.server.stop()
        self.run_for(0.1)
        self.server.start()
        self.run_for(0.1)
        self.assertEqual((b.heard, b.bus.tally.gaps), ([2], 0))

    def test_goes_while_stopping(self) -> None:
        """Redis that goes away while the last words are told holds up nothing."""
        a, _ = self.pair()
        a.tell(kick(1))
        stopped = a.bus.stopService()
        self.server.stop()
        self.successResultOf(stopped)
        self.assertEqual(a.ear.lost, [kick(1)])
        a.tell(kick(2))
        self.run_for(0.01)
        self.assertEqual(a.ear.lost, [kick(1), kick(2)])

    def test_late_reply(self) -> None:
        """A reply that comes after the end changes nothing."""
        a, b = self.pair()
        self.server.latency = 1.0
        self.patch(telling, "FINISH_SECONDS", 0.1)
        a.tell(kick(1))
        self.run_for(0.005)
        self.server.latency = 0.001
        finished = a.bus._telling.finish()
        self.run_for(0.2)
        self.successResultOf(finished)
        self.run_for(1.0, 0.01)
        self.assertEqual((a.ear.lost, b.heard), ([kick(1)], [1]))


class SlowTests(BusCase):
    def test_bounded(self) -> None:
        """A node that talks faster than Redis listens drops words; the others learn that they missed some."""
        a, b = self.pair()
        self.server.hangs = True  # for a moment only: this is no outage yet
        a.tell(left(0))
        self.run_for(0.01)
        large = replace(said().event, xml=said().event.xml[:-8] + b" " * (1 << 20) + b"</event>")
        for _ in range(20):
            a.tell(replace(said(), event=large))
        a.tell(kick(1))
        self.assertIn(a.bus.tally.dropped, range(4, 6))
        self.run_for(0.01)
        self.assertEqual(a.ear.lost, [kick(1)])
        self.assertLess(a.bus._telling._backlog.size, MAX_BACKLOG + (2 << 20))
        self.server.hangs = False
        self.server.stop()
        self.server.start()
        self.run_for(1.0)
        a.tell(left(2))
        self.run_for(0.1)
        self.assertIn(("missed", a.bus.instance), b.ear.told)

    def test_crowded(self) -> None:
        """Who has a lot to tell is told when so much waits that others would wait long; not while Redis is away."""
        a, _ = self.pair()
        large = replace(said().event, xml=said().event.xml[:-8] + b" " * (CROWDED_BYTES // 4) + b"</event>")
        self.assertFalse(a.bus.crowded)
        for _ in range(4):
            a.tell(replace(said(), event=large))
        self.assertTrue(a.bus.crowded)
        self.run_for(0.1)
        self.assertFalse(a.bus.crowded)
        self.server.stop()
        for number in range(6000):
            a.tell(kick(number))
        self.assertFalse(a.bus.crowded)

    def test_cannot_be_told(self) -> None:
        """A word that cannot be told is a bug and logged as one; the others are told all the same."""
        a, b = self.pair()
        a.tell(left(1))
        a.tell(Switched(replace(SPEAKER, since=float("nan"))))
        a.tell(Switched(replace(SPEAKER, granted=replace(ANONYMOUS, name="x" * (128 << 10)))))
        a.tell(left(2))
        self.run_for(0.1)
        self.assertEqual(b.heard, [1, 2])
        a.tell(Switched(replace(SPEAKER, since=float("nan"))))
        self.run_for(0.1)
        a.tell(left(3))
        self.run_for(0.1)
        self.assertEqual((b.heard, b.bus.tally.gaps), ([1, 2, 3], 0))
        (line,) = self.log(LogLevel.error)
        self.assertIn("a word cannot be told to the other nodes: Switched: nan is no number", line)

    def test_counts_fail(self) -> None:
        """Who cannot count itself is there all the same."""
        a = self.node("a")
        a.count = lambda: {"clients": 1 // 0}
        self.run_for(3.1, 0.01)
        self.assertGreaterEqual(len(self.server.entries), 4)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
