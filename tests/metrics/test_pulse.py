from __future__ import annotations

import time

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.metrics.pulse import BEAT_SECONDS, WINDOW_SECONDS, Pulse


class PulseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.now = Clock(), 50.0
        self.pulse = Pulse(self.clock, lambda: self.now)
        self.pulse.startService()

    def beat(self, late: float = 0.0, times: int = 1) -> None:
        """Let the reactor beat, late each time."""
        for _ in range(times):
            self.now += BEAT_SECONDS + late
            self.clock.advance(BEAT_SECONDS)

    def test_late(self) -> None:
        """How late it was is known at once, and the worst for half a minute."""
        self.assertEqual((self.pulse.lag, self.pulse.worst), (0.0, 0.0))
        self.beat(3.0)
        self.assertAlmostEqual(self.pulse.lag, 3.0)
        self.beat(1.0)
        self.beat()
        self.assertEqual(self.pulse.lag, 0.0)
        self.assertAlmostEqual(self.pulse.worst, 3.0)
        self.beat(times=int((WINDOW_SECONDS - 2) / BEAT_SECONDS))
        self.assertAlmostEqual(self.pulse.worst, 3.0)
        self.beat(times=2)
        self.assertAlmostEqual(self.pulse.worst, 1.0, msg="the next worst was a moment later")
        self.beat(times=4)
        self.assertEqual(self.pulse.worst, 0.0)

    def test_stands_still(self) -> None:
        """A reactor that does not come at all is late already."""
        self.now += BEAT_SECONDS + 7
        self.assertEqual((self.pulse.lag, self.pulse.worst), (7.0, 7.0))

    def test_bounded(self) -> None:
        """A day of beats takes no more memory than half a minute of them."""
        for number in range(2000):
            self.beat((number * 7919 % 100) / 1000)
        self.assertLess(len(self.pulse._beats), WINDOW_SECONDS / BEAT_SECONDS + 2)

    def test_jumps(self) -> None:
        """That the clock was set is known for half a minute, and counted for ever."""
        self.assertEqual((self.pulse.jump, self.pulse.jumps), (0.0, 0))
        self.pulse.jumped(-3600.0)
        self.assertEqual((self.pulse.jump, self.pulse.jumps), (-3600.0, 1))
        self.now += WINDOW_SECONDS
        self.assertEqual(self.pulse.jump, -3600.0)
        self.now += 0.1
        self.assertEqual((self.pulse.jump, self.pulse.jumps), (0.0, 1))

    def test_end(self) -> None:
        """A server that has stopped, or never began, is not late, and nothing is left to be done."""
        self.pulse.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.now += 100
        self.assertEqual(self.pulse.worst, 0.0)
        never = Pulse(self.clock)
        never.stopService()
        self.assertEqual(never.lag, 0.0)
        self.assertLess(abs(never._steady() - time.monotonic()), 60)
