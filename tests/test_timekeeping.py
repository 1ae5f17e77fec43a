from __future__ import annotations

import time

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase, TestCase

from taky_twisted.timekeeping import Timekeeping
from tests.fakes import LogLines


class SetClock(Clock):
    """A clock that can be set, beside one that cannot; and a reactor with calls from threads."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = 1e9
        self.steady = 0.0

    def set(self, seconds: float) -> None:
        """Set the clock ahead, or back, as an operator does: no time passes."""
        self.rightNow += seconds

    def advance(self, amount: float) -> None:
        """Let time pass."""
        self.steady += amount
        super().advance(amount)


class LookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = LogLines(self)
        self.clock = SetClock()
        self.jumps: list[float] = []
        self.time = Timekeeping(self.clock, [self.jumps.append], self.clock.seconds, lambda: self.clock.steady)
        self.time.startService()
        self.addCleanup(self.time.stopService)
        self.fired: list[str] = []

    def test_set_back(self) -> None:
        """After the clock was set back, what is due in five seconds is, and not hours later."""
        self.clock.callLater(5, self.fired.append, "five")
        self.clock.callLater(86400, self.fired.append, "day")
        self.clock.set(-7200)
        self.clock.callLater(3, self.fired.append, "later set")
        self.time.look()
        self.assertEqual(self.jumps, [-7200])
        for seconds, fired in ((2.5, []), (1, ["later set"]), (2, ["later set", "five"])):
            self.clock.advance(seconds)
            self.assertEqual(self.fired, fired)
        self.assertIn("set back by 7200 seconds", self.log(LogLevel.warn)[0])
        (day,) = self.clock.getDelayedCalls()
        self.assertLess(abs(day.getTime() - self.clock.seconds() - 86400), 10)

    def test_set_ahead(self) -> None:
        """After it was set ahead, timers that were set since are left alone."""
        self.clock.set(7200)
        self.clock.callLater(5, self.fired.append, "five")
        self.time.look()
        self.clock.advance(4.9)
        self.assertEqual((self.jumps, self.fired), ([7200], []))
        self.clock.advance(0.1)
        self.assertEqual(self.fired, ["five"])
        self.assertIn("set ahead by 7200 seconds", self.log(LogLevel.warn)[0])

    def test_small_steps(self) -> None:
        """A clock that is adjusted gently is followed without a word; each step is noticed once."""
        for _ in range(10):
            self.clock.set(0.5)
            self.time.look()
        self.assertEqual((self.jumps, self.log(LogLevel.warn)), ([], []))
        self.clock.set(-60)
        self.time.look()
        self.time.look()
        self.assertEqual(self.jumps, [-60])

    def test_twice(self) -> None:
        """It begins before the server serves, and once; a server that never serves ends it."""
        thread = self.time._thread
        self.successResultOf(Deferred.fromCoroutine(self.time.prepare()))
        self.time.startService()
        self.assertIs(self.time._thread, thread)
        for _ in range(2):
            self.successResultOf(Deferred.fromCoroutine(self.time.finish()))
            self.assertFalse(self.time.running)
        self.time.startService()

    def test_stopped(self) -> None:
        """What is noticed when the server stops is nothing any more."""
        self.time.stopService()
        self.clock.set(60)
        self.time.look()
        self.assertEqual(self.jumps, [])


class ThreadTests(TestCase):
    async def test_noticed(self) -> None:
        """A step is noticed within a second, though no timer fires."""
        offset = [0.0]
        jumped: Deferred[float] = Deferred()
        keeping = Timekeeping(
            reactor,
            [jumped.callback],
            lambda: time.time() + offset[0],
            time.time,
        )
        keeping.startService()
        await deferLater(reactor, 0.6)
        offset[0] = 3600
        self.assertLess(abs(await jumped - 3600), 1)
        keeping.stopService()
        assert keeping._thread is not None
        keeping._thread.join(5)
        self.assertFalse(keeping._thread.is_alive())

    async def test_small_steps_before(self) -> None:
        """What a clock was adjusted gently before is no part of a step."""
        offset = [0.0]
        jumped: Deferred[float] = Deferred()
        keeping = Timekeeping(reactor, [jumped.callback], lambda: time.time() + offset[0], time.time)
        keeping.startService()
        for change in (1.2, 1.2, -60):
            await deferLater(reactor, 0.7)
            offset[0] += change
        self.assertLess(abs(await jumped + 60), 0.5)
        keeping.stopService()
        assert keeping._thread is not None
        keeping._thread.join(5)
