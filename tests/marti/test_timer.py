from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.timer import Timer


class TimerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.timer = Timer(self.clock)
        self.called: list[str] = []

    def start(self, name: str) -> None:
        """Start the timer; it will note a name."""
        self.timer.start(5, lambda: self.called.append(name))

    def test_once(self) -> None:
        """It calls when its time has come, once, and may be started again then."""
        self.start("first")
        self.clock.advance(4.9)
        self.assertEqual(self.called, [])
        self.clock.advance(100)
        self.assertEqual(self.called, ["first"])
        self.start("second")
        self.clock.advance(5)
        self.assertEqual(self.called, ["first", "second"])

    def test_replaced(self) -> None:
        """Started anew it forgets what it was to call, and when."""
        self.start("first")
        self.clock.advance(4)
        self.start("second")
        self.clock.advance(4)
        self.assertEqual(self.called, [])
        self.clock.advance(1)
        self.assertEqual(self.called, ["second"])

    def test_stopped(self) -> None:
        """Stopped it calls nothing and leaves nothing behind; it may be stopped at any time."""
        self.timer.stop()
        self.start("first")
        self.timer.stop()
        self.timer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.start("second")
        self.clock.advance(5)
        self.timer.stop()
        self.assertEqual(self.called, ["second"])
