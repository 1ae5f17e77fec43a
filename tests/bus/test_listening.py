from __future__ import annotations

import json

from twisted.logger import LogLevel

from taky_twisted.bus import listening, members
from taky_twisted.bus.envelope import Outgoing
from taky_twisted.bus.listening import READ_COUNT
from taky_twisted.interfaces import Node
from tests.bus.bus_case import STEP_SECONDS, BusCase
from tests.bus.ear import kick, left

NODE = Node("other", "host-9")


def batch(number: int, *numbers: int, node: Node = NODE, bye: bool = False) -> bytes:
    """Spell a batch of another node's."""
    outgoing = Outgoing(node, number)
    for each in numbers:
        outgoing.add(left(each))
    return outgoing.finish(bye=bye)


class NonsenseTests(BusCase):
    def test_newer(self) -> None:
        """What a version writes that is too far ahead is not read; the operator learns it once."""
        a = self.node("a")
        self.run_for(0.1)
        for number in range(3):
            self.server.add(batch(number, 1).replace(b"taky-bus 1 ", b"taky-bus 2 "))
        self.run_for(0.1)
        self.assertEqual((a.heard, a.names), ([], []))
        (line,) = self.log(LogLevel.warn)
        self.assertIn("version 2 of the bus", line)
        self.assertIn("Update this node", line)

    def test_garbage(self) -> None:
        """What is no batch is passed over, and said once."""
        a = self.node("a")
        self.run_for(0.1)
        for data in (b"", b"\n", b"{}", b"x" * 1000):
            self.server.add(data)
        self.server.add(batch(1, 1), b"something else")
        self.server.add(batch(1, 2))
        self.run_for(0.1)
        self.assertEqual(a.heard, [2])
        self.assertEqual(len(self.log(LogLevel.warn)), 1)

    def test_unreadable(self) -> None:
        """A batch that cannot be read is lost, and no other one; its node is asked for what was in it."""
        a = self.node("a")
        self.run_for(0.1)
        self.server.add(batch(7, 1))
        good = batch(8, 2)
        self.server.add(good[: good.index(b"\n") + 1] + b"[]\n")
        self.run_for(0.1)
        self.assertEqual(a.ear.told[-1], ("missed", "other"))
        self.server.add(batch(9, 3))
        self.server.add(good[: good.index(b"\n") + 1] + b"[]\n")  # once more: it was missed before
        self.run_for(0.1)
        told = [call if call[0] != "heard" else call[2] for call in a.ear.told]
        self.assertEqual(told, [("back",), ("joined", "host-9"), left(1), ("missed", "other"), left(3)])
        self.assertEqual(a.bus.tally.gaps, 1)

    def test_unreadable_stranger(self) -> None:
        """Of a node that is not known yet nothing is missed."""
        a = self.node("a")
        self.run_for(0.1)
        self.server.add(b"taky-bus 1 other 8\n[]\n")
        self.run_for(0.1)
        self.assertEqual(a.ear.take(), [("back",)])

    def test_unreadable_rest(self) -> None:
        """What stands before the unreadable is heard."""
        a = self.node("a")
        self.run_for(0.1)
        first, header, _ = batch(1, 1, 2).split(b"\n")
        told = json.loads(header)
        told["words"].insert(1, {"word": "Left"})
        self.server.add(b"%b\n%b\n" % (first, json.dumps(told).encode()))
        self.server.add(batch(2, 3))
        self.run_for(0.1)
        told = [call if call[0] != "heard" else call[2] for call in a.ear.told]
        self.assertEqual(told, [("back",), ("joined", "host-9"), left(1), ("missed", "other"), left(3)])

    def test_too_many_nodes(self) -> None:
        """There are never more nodes than can be kept in mind; those that are known are heard on."""
        self.patch(members, "MAX_NODES", 3)
        a = self.node("a")
        self.run_for(0.1)
        for number in range(5):
            self.server.add(batch(1, number, node=Node(f"i-{number}", f"host-{number}")))
        self.server.add(batch(2, 9, node=Node("i-0", "host-0")))
        self.run_for(0.1)
        self.assertEqual(a.names, ["host-0", "host-1", "host-2"])
        self.assertEqual(sorted(a.heard), [0, 1, 2, 9])
        self.assertIn("Run fewer nodes", self.log(LogLevel.warn)[0])


class PlaceTests(BusCase):
    def test_end_of_stream(self) -> None:
        """A node that starts hears what is said from then on, and nothing older."""
        self.server.add(batch(1, 1))
        self.run_for(0.01)
        a = self.node("a")
        self.run_for(0.1)
        self.server.add(batch(2, 2))
        self.run_for(0.1)
        self.assertEqual(a.heard, [2])

    def test_emptied(self) -> None:
        """A stream that is emptied while nodes talk costs what was in it, and nothing else."""
        a, b = self.pair()
        for number in range(200):
            a.tell(left(number))
            self.run_for(0.003)
            if number == 100:
                self.server.entries.clear()
        self.run_for(0.1)
        self.assertEqual(b.heard, sorted(set(b.heard)))
        self.assertGreater(len(b.heard), 190)
        self.assertEqual(b.heard[-1], 199)

    def test_restarted_empty(self) -> None:
        """A Redis that was restarted empty goes on where it was."""
        a, b = self.pair()
        a.tell(left(1))
        self.run_for(0.1)
        self.server.stop()
        self.server.entries.clear()
        a.tell(kick(2))
        self.run_for(1.0)
        self.server.start()
        self.run_for(0.1)
        a.tell(left(3))
        b.tell(left(4))
        self.run_for(0.1)
        self.assertEqual((b.heard, a.heard), ([1, 2, 3], [4]))

    def test_restarted_with_another_clock(self) -> None:
        """So does one whose clock was put back: everybody's next word is heard, and nothing twice."""
        a, b = self.pair()
        a.tell(left(1))
        self.run_for(0.1)
        self.server.stop()
        self.server.entries.clear()
        self.server.ahead = -86_400.0
        a.tell(kick(2))
        self.run_for(0.5)
        self.server.start()
        self.run_for(3.0)
        a.tell(left(3))
        b.tell(left(4))
        self.run_for(1.1)
        self.assertEqual((b.heard, a.heard), ([1, 2, 3], [4]))
        self.assertEqual((b.bus.tally.gaps, a.bus.tally.gaps), (0, 0))

    def test_put_back(self) -> None:
        """A Redis that comes back with what it had some time ago tells nobody that again."""
        a, b = self.pair()
        c = self.node("c")
        c.tell(kick(0))
        self.run_for(0.1)
        c.bus.stopService()
        for number in range(3):
            a.tell(left(number))
            self.run_for(0.1)
        before = list(self.server.entries)
        self.run_for(10.0)
        self.server.stop()
        self.server.entries[:] = before
        self.server.ahead = -30.0
        b.ear.take()
        self.server.start()
        self.run_for(3.0)
        a.tell(left(3))
        self.run_for(1.1)
        told = [call for call in b.ear.told if call[0] != "back"]
        self.assertEqual(told, [("heard", a.bus.instance, left(3))])

    def test_behind(self) -> None:
        """Who has not read everything yet cannot know that somebody is silent."""
        self.patch(listening, "READ_COUNT", 4)
        _, b = self.pair()

        def take_long(word: object) -> None:
            self.clock.rightNow += 0.3

        b.ear.on_word = take_long
        for number in range(40):
            self.server.add(batch(number + 1, number))
        self.run_for(14.0, 0.01)
        self.assertEqual(b.heard, list(range(40)))
        self.assertNotIn(("gone", "a", False), b.ear.told)

    def test_slow(self) -> None:
        """Who was busy for long has not listened meanwhile, so nobody is gone for that."""
        _, b = self.pair()
        self.server.add(batch(1, 1))
        self.run_for(1.1)
        b.ear.on_word = lambda word: setattr(self.clock, "rightNow", self.clock.rightNow + 2 * members.SILENT_SECONDS)
        self.server.add(batch(1, 1, node=Node("busy", "host-8")))
        self.run_for(2 * members.SILENT_SECONDS + 1.0)
        self.assertEqual(b.names, ["a", "host-8", "host-9"])

    def test_clock_set_back(self) -> None:
        """Who listens does not pause for as long as the clock was set back meanwhile."""
        a, b = self.pair()

        def set_back(word: object) -> None:
            b.ear.on_word = lambda word: None
            self.clock.rightNow -= 3600.0
            for call in self.clock.getDelayedCalls():  # as Timekeeping does
                call.time -= 3600.0  # type: ignore[attr-defined]

        b.ear.on_word = set_back
        for number in (1, 2):
            a.tell(left(number))
            self.clock.pump([STEP_SECONDS] * 1500)  # not until a time, which would be an hour later
        self.assertEqual(b.heard, [1, 2])

    def test_full_reads(self) -> None:
        """Who has much to read at once reads it all, and thinks nobody gone meanwhile."""
        _, b = self.pair()
        for number in range(3 * READ_COUNT):
            self.server.add(batch(number + 1, number))
        self.run_for(0.3)
        self.assertEqual(b.heard, list(range(3 * READ_COUNT)))
        self.assertEqual(b.names, ["a", "host-9"])

    def test_refused(self) -> None:
        """A Redis that does not let us read is said once, and asked again every second."""
        self.server.refusals["XREAD"] = "NOPERM no permissions to run XREAD"
        a = self.node("a")
        self.run_for(5.0, 0.01)
        self.assertFalse(a.bus.up)
        self.assertEqual(len(self.log(LogLevel.warn)), 1)
        self.assertIn(len(a.reader.commands), range(4, 8))
        self.server.refusals.clear()
        a.reader.lose("cut")
        self.run_for(0.3, 0.01)
        self.assertTrue(a.bus.up)
        asked = len(a.reader.commands)
        self.run_for(0.5, 0.01)
        self.assertLessEqual(len(a.reader.commands), asked + 2)

    def test_reader_alone_lost(self) -> None:
        """When only the connection that listens is lost, nothing is missed."""
        a, b = self.pair()
        b.reader.lose("cut")
        self.assertFalse(b.bus.up)
        a.tell(left(1))
        self.run_for(0.5)
        self.assertEqual(b.heard, [1])
        self.assertTrue(b.bus.up)
        self.assertEqual(b.bus.tally.gaps, 0)

    def test_lost_while_taking(self) -> None:
        """A connection that is lost while words are taken does not disturb that."""
        a, b = self.pair()

        def cut(word: object) -> None:
            if word == left(3):
                b.reader.lose("cut")

        b.ear.on_word = cut
        for number in range(10):
            a.tell(left(number))
        self.run_for(0.5)
        a.tell(left(10))
        self.run_for(0.5)
        self.assertEqual(b.heard, list(range(11)))

    def test_stopped_while_taking(self) -> None:
        """Who stops takes nothing more."""
        a, b = self.pair()
        b.ear.on_word = lambda word: b.bus._listening.stop()
        a.tell(left(1))
        self.run_for(0.02)
        a.tell(left(2))
        self.run_for(0.02)
        self.assertEqual(b.heard, [1])

    def test_stop_between_entries(self) -> None:
        """Even of what it has read already."""
        a, b = self.pair()
        b.ear.on_word = lambda word: b.bus._listening.stop()
        self.server.entries += [
            ((round(self.clock.seconds() * 1000) + n, 0), [b"batch", batch(n + 1, n)]) for n in range(3)
        ]
        self.run_for(1.5)
        self.assertEqual(b.heard, [0])
        self.assertEqual(a.heard, [0, 1, 2])
