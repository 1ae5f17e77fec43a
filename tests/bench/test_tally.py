"""What counts as lost, doubled, out of order and late."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.events import stream_key
from bench.tally import ORIGINAL_EVERY, Tally

A, B = stream_key(0), stream_key(1)


def marks(*numbers: int, key: bytes = A, said: int = 0) -> list[bytes]:
    """Spell what `bench.events.mark_finder` finds."""
    return [b"%s %08d %016d" % (key, number, said) for number in numbers]


class TallyTests(SynchronousTestCase):
    def setUp(self) -> None:
        """One speaks (0) and two hear."""
        self.tally = Tally(3)
        self.tally.open(A, [1, 2])

    def say(self, count: int, key: bytes = A) -> None:
        """Say some events."""
        for _ in range(count):
            self.tally.say(key)

    def counts(self) -> tuple[int, int, int, int]:
        """Say how many were lost, doubled, out of order, and heard by the wrong client."""
        tally = self.tally
        return tally.lost, tally.duplicated, tally.reordered, tally.unexpected

    def test_all_is_well(self) -> None:
        """Everything in order is no mistake, and complete when all have it."""
        self.say(3)
        self.tally.hear(1, marks(0, 1, 2))
        self.assertFalse(self.tally.complete())
        self.assertEqual(self.tally.heard_by_all(A), 0)
        self.tally.hear(2, marks(0))
        self.tally.hear(2, marks(1, 2))
        self.assertTrue(self.tally.complete())
        self.assertEqual(self.counts(), (0, 0, 0, 0))
        self.assertEqual(self.tally.delivered, 6)

    def test_lost(self) -> None:
        """What is left out, and what never comes at the end, is lost."""
        self.say(4)
        self.tally.hear(1, marks(0, 2, 3))
        self.tally.hear(2, marks(0, 1))
        self.assertEqual(self.counts(), (1 + 2, 0, 0, 0))

    def test_reordered(self) -> None:
        """What comes after a later one is out of order, and not lost."""
        self.say(3)
        self.tally.hear(1, marks(0, 2, 1))
        self.tally.hear(2, marks(0, 1, 2))
        self.assertEqual(self.counts(), (0, 0, 1, 0))

    def test_duplicated(self) -> None:
        """What comes again is doubled, and does not count as delivered."""
        self.say(2)
        self.tally.hear(1, marks(0, 1, 1, 0))
        self.tally.hear(2, marks(0, 1))
        self.assertEqual(self.counts(), (0, 2, 0, 0))
        self.assertEqual(self.tally.delivered, 4)

    def test_unexpected(self) -> None:
        """An echo, a stream that is not for this client, and one that nobody opened are found."""
        self.tally.open(B, [0])
        self.say(1)
        self.say(1, B)
        self.tally.hear(0, marks(0))
        self.tally.hear(1, marks(0, key=B))
        self.tally.hear(1, marks(0, key=stream_key(7)))
        self.assertEqual(self.tally.unexpected, 3)

    def test_repeated(self) -> None:
        """What the server says again and again is not counted."""
        self.tally.repeated.add(B)
        self.tally.hear(1, marks(0, 0, key=B))
        self.assertEqual(self.tally.unexpected, 0)

    def test_join_and_leave(self) -> None:
        """Who comes later is owed what is said from then on; who leaves is owed nothing."""
        self.say(3)
        self.tally.leave(1)
        self.tally.join(2, [A])
        self.tally.hear(2, marks(2))  # under way when it came
        self.say(2)
        self.tally.hear(2, marks(4))
        self.assertEqual(self.counts(), (1, 0, 0, 0))
        self.tally.leave(2)
        self.assertTrue(self.tally.complete())

    def test_give_up(self) -> None:
        """After a stall senders may go on, and what was under way counts as lost, unless it comes at last."""
        self.say(2)
        self.tally.give_up()
        self.assertTrue(self.tally.complete())
        self.assertEqual(self.counts(), (4, 0, 0, 0))
        self.tally.hear(1, marks(0, 1))
        self.assertEqual(self.counts(), (2, 0, 2, 0))

    def test_compare(self) -> None:
        """Of those that were kept, one that is not found as it was said is altered."""
        for number in range(ORIGINAL_EVERY + 1):
            self.tally.say(A, b"event %d" % number)
        heard = marks(*range(ORIGINAL_EVERY + 1))
        self.tally.compare(heard, lambda document: document in (b"event 0", b"event %d" % ORIGINAL_EVERY))
        self.assertEqual(self.tally.altered, 0)
        self.tally.compare(heard, lambda document: document == b"event 0")
        self.assertEqual(self.tally.altered, 1)

    def test_latency(self) -> None:
        """Percentiles are those of what was measured, and can be begun anew."""
        self.assertEqual(self.tally.latency_ms(), {})
        for late in range(1, 101):
            self.tally.time(marks(0, said=0), late * 1_000_000)
        self.assertEqual(self.tally.latency_ms(), {"p50_ms": 51.0, "p99_ms": 100.0, "max_ms": 100.0})
        self.tally.forget_latencies()
        self.assertEqual(self.tally.latency_ms(), {})
