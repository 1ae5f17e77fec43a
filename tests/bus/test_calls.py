from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.calls import SLICE_SECONDS, Call, Calls


class CallsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.calls = Calls(self.clock, "calling")
        self.made: list[object] = []

    def test_order(self) -> None:
        """All calls are made, in the order in which they were put; none at once."""
        self.calls.put([(self.made.append, 1), (self.calls.put, [(self.made.append, 4)])])
        self.calls.put([(self.made.append, 2), (self.made.append, 3)])
        self.assertEqual(self.made, [])
        self.clock.advance(0)
        self.assertEqual(self.made, [1, 2, 3, 4])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.calls.put([(self.made.append, 5)])
        self.clock.advance(0)
        self.assertEqual(self.made[-1], 5)

    def test_slices(self) -> None:
        """Others get their turn after a few milliseconds."""

        def take_long(number: int) -> None:
            self.clock.rightNow += SLICE_SECONDS / 2
            self.made.append(number)

        self.calls.put((take_long, number) for number in range(6))
        self.clock.callLater(0, self.made.append, "before")
        self.clock.callLater(SLICE_SECONDS / 4, self.made.append, "between")
        self.clock.advance(0)
        self.assertEqual(self.made, [0, 1, "before", "between", 2, 3, 4, 5])

    def test_failures(self) -> None:
        """A call that fails is logged as a bug, and so is who cannot say what to call; the others are made."""

        def broken() -> Iterator[Call]:
            yield self.made.append, 2
            raise IndexError

        self.calls.put([(self.made.append, 1), (lambda: 1 // 0,), (self.made.append, "behind it")])
        self.calls.put(broken())
        self.calls.put([(self.made.append, 3)])
        self.clock.advance(0)
        self.assertEqual(self.made, [1, "behind it", 2, 3])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

    def test_close(self) -> None:
        """At the end what is left is done at once, however long it takes."""

        def take_long(number: int) -> None:
            self.clock.rightNow += SLICE_SECONDS
            self.made.append(number)

        self.calls.put([(take_long, 1), (lambda: 1 // 0,), (take_long, 2)])
        self.calls.put([(take_long, 3)])
        self.calls.close()
        self.assertEqual(self.made, [1, 2, 3])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.calls.close()
        self.flushLoggedErrors(ZeroDivisionError)
