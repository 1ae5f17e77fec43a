from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.batches import RECENT_BYTES, RECENT_SECONDS, Batch, Batches


def batch(number: int, size: int = 10, since: float = 0.0) -> Batch:
    """Make a batch."""
    return Batch(b"x" * size, [], number, since, False)


class BatchesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.batches = Batches()

    def numbers(self) -> list[int]:
        """Take all that are to be sent."""
        return [each.number for each in self.batches.clear()]

    def send(self, number: int, now: float, size: int = 10) -> None:
        """Have one sent, and taken."""
        self.batches.put(batch(number, size, now))
        self.batches.sent(now)

    def test_order(self) -> None:
        """They are sent one after the other."""
        self.assertIsNone(self.batches.first)
        one, two = batch(1), batch(2, 5)
        self.batches.put(one)
        self.batches.put(two)
        self.assertIs(self.batches.first, one)
        self.assertEqual(self.batches.size, 15)
        self.batches.sent(0.0)
        self.assertTrue(one.taken)
        self.assertIs(self.batches.first, two)
        self.assertIs(self.batches.take_back(), two)
        self.assertIsNone(self.batches.first)
        self.assertEqual(self.batches.size, 0)

    def test_again(self) -> None:
        """After a crash those come first that were taken within the last second before; then what was on its way."""
        for number in range(5):
            self.send(number, number * RECENT_SECONDS / 2)
        self.batches.put(batch(5))
        self.batches.send_again()
        self.assertEqual(self.batches.size, 40)
        first = self.batches.first
        assert first is not None
        self.assertTrue(first.maybe_there)
        self.assertEqual(self.numbers(), [2, 3, 4, 5])
        self.batches.send_again()
        self.assertEqual(self.numbers(), [])

    def test_again_and_again(self) -> None:
        """So it is when Redis crashes once more meanwhile."""
        for number in range(4):
            self.send(number, 0.0)
        self.batches.send_again()
        self.batches.sent(1.0)
        self.batches.sent(1.0)
        self.batches.send_again()
        self.assertEqual(self.numbers(), [0, 1, 2, 3])

    def test_bounded(self) -> None:
        """Little is remembered, but always the last one."""
        for number in range(10):
            self.send(number, 0.0, RECENT_BYTES // 4)
        self.send(10, 0.0, 1)
        self.batches.send_again()
        self.assertEqual(self.numbers(), [7, 8, 9, 10])
        self.send(11, 0.0, 2 * RECENT_BYTES)
        self.batches.send_again()
        self.assertEqual(self.numbers(), [11])

    def test_overdue(self) -> None:
        """What waits too long, or takes too much room, is given up from the oldest on."""
        for number in range(6):
            self.batches.put(batch(number, since=float(number)))
        self.assertEqual([each.number for each in self.batches.overdue(1.0, 1000)], [0, 1])
        self.assertEqual([each.number for each in self.batches.overdue(1.0, 39)], [2])
        self.assertEqual(self.batches.overdue(1.0, 30), [])
        self.assertEqual([each.number for each in self.batches.overdue(9.0, 1000)], [3, 4, 5])
        self.assertEqual(self.batches.size, 0)
