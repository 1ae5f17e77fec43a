from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.delays import FORGET_SECONDS, MAX_REMEMBERED, MAX_SECONDS, MAX_WAITING, Delays
from taky_twisted.identity.errors import Busy

FOX = ("192.0.2.1", "fox")


class DelaysTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_000_000.0
        self.delays = Delays(self.clock)

    def wait(self, who: tuple[str, str] = FOX) -> Deferred[None]:
        """Let an attempt wait."""
        return Deferred.fromCoroutine(self.delays.wait(who))

    def test_nobody_waits(self) -> None:
        """Who has not failed does not wait."""
        self.successResultOf(self.wait())

    def test_grows(self) -> None:
        """Each failure makes the next attempt wait longer, up to 5 seconds and never more: nobody is locked out."""
        seconds = []
        for _ in range(1000):
            self.delays.failed(FOX)
            seconds.append(self.delays.seconds(FOX))
        self.assertEqual(seconds[:6], [0.25, 0.5, 1, 2, 4, 5])
        self.assertEqual(set(seconds[5:]), {MAX_SECONDS})

    def test_waits(self) -> None:
        """An attempt waits as long as that, no longer."""
        self.delays.failed(FOX)
        waiting = self.wait()
        self.clock.advance(0.24)
        self.assertNoResult(waiting)
        self.clock.advance(0.01)
        self.successResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_others(self) -> None:
        """The same name from elsewhere, and another name from there, do not wait."""
        self.delays.failed(FOX)
        self.successResultOf(self.wait(("192.0.2.2", "fox")))
        self.successResultOf(self.wait(("192.0.2.1", "wolf")))

    def test_success(self) -> None:
        """A success makes good all failures."""
        for _ in range(9):
            self.delays.failed(FOX)
        self.delays.succeeded(FOX)
        self.successResultOf(self.wait())
        self.delays.failed(FOX)
        self.assertEqual(self.delays.seconds(FOX), 0.25)

    def test_forgotten(self) -> None:
        """So does a quarter of an hour."""
        for _ in range(9):
            self.delays.failed(FOX)
        self.clock.advance(FORGET_SECONDS - 1)
        self.assertEqual(self.delays.seconds(FOX), MAX_SECONDS)
        self.clock.advance(1)
        self.successResultOf(self.wait())
        self.delays.failed(FOX)
        self.assertEqual(self.delays.seconds(FOX), 0.25)

    def test_parallel(self) -> None:
        """Who guesses on many connections at once is told to come back: that is no faster."""
        self.delays.failed(FOX)
        waiting = [self.wait() for _ in range(MAX_WAITING)]
        self.failureResultOf(self.wait(), Busy)
        self.clock.advance(1)
        for each in waiting:
            self.successResultOf(each)
        again = self.wait()
        self.clock.advance(1)
        self.successResultOf(again)

    def test_bounded(self) -> None:
        """However many names are tried, so many are remembered; the latest failures count."""
        for number in range(MAX_REMEMBERED + 10):
            self.delays.failed(("192.0.2.1", str(number)))
        self.assertEqual(len(self.delays._failed), MAX_REMEMBERED)
        self.assertEqual(self.delays.seconds(("192.0.2.1", "9")), 0)
        self.assertEqual(self.delays.seconds(("192.0.2.1", str(MAX_REMEMBERED + 9))), 0.25)
