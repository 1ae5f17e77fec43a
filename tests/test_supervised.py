from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.supervised import LOOK_SECONDS, SUPERVISOR, Supervised


class SupervisedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.parent = 4711
        self.stopped = 0

    def start(self, **environment: str) -> Supervised:
        def stop() -> None:
            self.stopped += 1

        service = Supervised(self.clock, stop, environment, lambda: self.parent)
        service.startService()
        return service

    def test_parent_gone(self) -> None:
        """A worker ends when the process that started it is gone."""
        service = self.start(**{SUPERVISOR: "4711"})
        self.clock.pump([LOOK_SECONDS] * 3)
        self.assertEqual(self.stopped, 0)
        self.parent = 1
        self.clock.pump([LOOK_SECONDS] * 3)
        self.assertEqual(self.stopped, 1)
        service.stopService()

    def test_gone_from_the_start(self) -> None:
        """That is seen when the reactor runs and can be stopped, also if it was so before."""
        self.parent = 1
        service = self.start(**{SUPERVISOR: "4711"})
        self.assertEqual(self.stopped, 0)
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.stopped, 1)
        service.stopService()

    def test_stop(self) -> None:
        """When the worker stops it looks no more."""
        self.start(**{SUPERVISOR: "4711"}).stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_by_itself(self) -> None:
        """A worker that systemd has started has nobody to look for."""
        service = self.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        service.stopService()
