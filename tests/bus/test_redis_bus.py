from __future__ import annotations

from taky_twisted.bus import telling
from taky_twisted.bus.envelope import open_batch
from taky_twisted.bus.trimming import KEPT_SECONDS
from tests.bus.bus_case import BusCase
from tests.bus.ear import kick, left, said


class WordTests(BusCase):
    def test_start(self) -> None:
        """A node says at once that it is there; the words of others come after it is known who they are."""
        a = self.node("a", clients=3)
        self.run_for(0.01)
        self.assertTrue(a.bus.up)
        self.successResultOf(a.bus.started)
        self.assertEqual(a.ear.take(), [("back",)])
        b = self.node("b")
        b.tell(left(1))  # before it works: nobody has to hear this
        self.run_for(0.02)
        self.assertEqual(a.ear.take(), [("joined", "b")])
        b.tell(left(2))
        self.run_for(0.02)
        self.assertEqual(a.ear.take(), [("heard", b.bus.instance, left(2))])
        self.assertEqual(b.ear.take(), [("back",)])
        self.run_for(1.0)
        self.assertEqual(b.ear.take(), [("joined", "a")])
        (node,) = b.bus.nodes
        self.assertEqual((node.name, node.version, node.counts), ("a", "1.0", {"clients": 3}))

    def test_order(self) -> None:
        """What a node tells is heard by all others, once, in its order; not by itself."""
        a, b = self.pair()
        c = self.node("c")
        self.run_for(0.05)
        for number in range(500):
            a.tell(left(number) if number % 3 else kick(number))
            if number % 7 == 0:
                self.run_for(0.001)
        self.run_for(0.1)
        self.assertEqual(b.heard, list(range(500)))
        self.assertEqual(c.heard, list(range(500)))
        self.assertEqual(a.heard, [])
        self.assertEqual((a.bus.tally.told, b.bus.tally.heard, b.bus.tally.gaps), (500, 500, 0))

    def test_batches(self) -> None:
        """What is told in one turn is one entry, and a busy node sends one entry in a while only."""
        a, b = self.pair()
        before = len(self.server.entries)
        for number in range(100):
            a.tell(left(number))
        self.run_for(0.005)
        self.assertEqual((len(self.server.entries) - before, len(b.heard)), (1, 100))
        self.run_for(0.1)
        before = len(self.server.entries)
        for number in range(100):
            a.tell(left(number))
            self.run_for(0.001)
        self.assertIn(len(self.server.entries) - before, range(8, 13))

    def test_large(self) -> None:
        """A batch is cut before it gets too large; a word that is larger goes alone."""
        a, b = self.pair()
        before = len(self.server.entries)
        for _ in range(1000):
            a.tell(said())
        self.run_for(0.2)
        sizes = [len(fields[1]) for _, fields in self.server.entries[before:]]
        self.assertEqual(len(b.ear.words), 1000)
        self.assertGreater(len(sizes), 1)
        self.assertLess(max(sizes), telling.BATCH_BYTES)

    def test_alive(self) -> None:
        """Who has nothing to tell says every second that it is there, with what it counts."""
        a = self.node("a", clients=1)
        self.run_for(10.0)
        batches = [open_batch(fields[1]) for _, fields in self.server.entries]
        self.assertIn(len(batches), (10, 11, 12))
        self.assertEqual({batch.node.counts["clients"] for batch in batches[1:]}, {1})
        self.assertEqual([batch.number for batch in batches], list(range(1, len(batches) + 1)))
        self.assertEqual(a.names, [])

    def test_bye(self) -> None:
        """Who stops says so, after its last words; the others need not wait for that."""
        a, b = self.pair()
        a.tell(left(1))
        stopped = a.bus.stopService()
        self.run_for(0.05)
        self.successResultOf(stopped)
        self.assertEqual(b.ear.take(), [("heard", a.bus.instance, left(1)), ("gone", "a", True)])
        self.assertEqual(b.names, [])
        a.tell(left(2))
        self.run_for(7.0)
        self.assertEqual(b.ear.take(), [])

    def test_stop_late(self) -> None:
        """A node stops even if Redis does not answer; whoever waits for something hears that it is lost."""
        a, _ = self.pair()
        self.server.hangs = True
        a.tell(kick(1))
        self.run_for(0.01)
        a.tell(kick(2))
        stopped = a.bus.stopService()
        self.assertNoResult(stopped)
        self.run_for(telling.FINISH_SECONDS + 0.1, 0.01)
        self.successResultOf(stopped)
        self.assertEqual(a.ear.lost, [kick(1), kick(2)])

    def test_listener_fails(self) -> None:
        """A bug where words are taken is logged, and the next word is taken all the same."""
        a, b = self.pair()

        def fail(word: object) -> None:
            if word == left(1):
                raise ZeroDivisionError

        b.ear.on_word = fail
        for number in range(4):
            a.tell(left(number))
        self.run_for(0.05)
        self.assertEqual(b.heard, [0, 1, 2, 3])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        a.tell(left(4))
        self.run_for(0.05)
        self.assertEqual(b.heard, [0, 1, 2, 3, 4])

    def test_slices(self) -> None:
        """A backlog is taken a few milliseconds at a time, in order, and nothing is read before that is done."""
        a, b = self.pair()
        behind: list[int] = []
        reads: set[int] = set()

        def take_long(word: object) -> None:
            self.clock.rightNow += 0.001
            taken = len(b.heard)
            self.clock.callLater(0, lambda: behind.append(len(b.heard) - taken))
            if len(b.heard) < 200:
                reads.add(sum(command[0] == "XREAD" for command in b.reader.commands))

        b.ear.on_word = take_long
        for number in range(200):
            a.tell(left(number))
        self.run_for(0.5)
        self.assertEqual(b.heard, list(range(200)))
        self.assertLessEqual(max(behind), 8, "others in the reactor waited")
        self.assertEqual(len(reads), 1, "it read on although it had not taken what it had")

    def test_expiry(self) -> None:
        """When no node is left Redis forgets what was said, after a while."""
        self.node("a")
        self.run_for(125.0, 0.05)
        expiries = [command for command in self.server.commands if command[0] == "EXPIRE"]
        self.assertEqual(expiries, [("EXPIRE", "taky:site:bus", 3600)] * 3)

    def test_trimmed(self) -> None:
        """The stream keeps half a minute, by Redis' clock, even if ours is wrong by hours."""
        self.server.ahead = -7200
        a, b = self.pair()
        self.run_for(60.0, 0.05)
        a.tell(left(1))
        self.run_for(0.05)
        self.assertEqual(b.heard, [1])
        self.assertIn(len(self.server.entries), range(2 * KEPT_SECONDS - 4, 2 * KEPT_SECONDS + 6))


class MemberTests(BusCase):
    def test_silent(self) -> None:
        """A node that is not heard is gone within ten seconds, and there again when it is heard; it is asked anew."""
        a, b = self.pair()
        a.writer.mute = True
        self.run_for(4.5, 0.01)
        self.assertEqual(b.names, ["a"])
        self.run_for(3.0, 0.01)
        self.assertEqual(b.ear.take(), [("gone", "a", False)])
        self.assertEqual(b.names, [])
        self.assertEqual(a.names, ["b"])

    def test_own_outage(self) -> None:
        """Who was away itself gives everybody time to be heard again."""
        a, b = self.pair()
        self.server.hangs = True
        self.run_for(20.0, 0.01)
        self.assertEqual((a.names, b.names), (["b"], ["a"]))
        self.server.hangs = False
        self.server.start()
        self.run_for(4.0, 0.01)
        self.assertEqual((a.names, b.names), (["b"], ["a"]))
        self.assertEqual([call for call in a.ear.told + b.ear.told if call[0] != "back"], [])

    def test_time_after_outage(self) -> None:
        """Not even what was silent before an outage counts after it."""
        a, b = self.pair()
        a.writer.mute = True
        self.run_for(4.0, 0.01)
        self.server.hangs = True
        self.run_for(10.0, 0.01)
        self.server.hangs = False
        self.server.start()
        self.run_for(4.0, 0.01)
        self.assertEqual(b.names, ["a"])
        self.run_for(3.0, 0.01)
        self.assertEqual(b.names, [])

    def test_heard_again(self) -> None:
        """Who was thought gone and is heard again has joined again, and is asked anew; nothing is heard twice."""
        a, b = self.pair()
        a.writer.mute = True
        self.run_for(8.0, 0.01)
        self.assertEqual(b.ear.take(), [("gone", "a", False)])
        a.writer.mute = False
        self.run_for(2.0, 0.01)
        self.assertEqual(b.ear.take()[:2], [("joined", "a"), ("missed", a.bus.instance)])
        self.assertEqual(b.names, ["a"])
