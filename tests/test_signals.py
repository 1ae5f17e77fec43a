from __future__ import annotations

import os
import signal

from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.signals import Signals


class FakeReactor(Clock):
    """A reactor that can be stopped once."""

    stopped = 0

    def callFromThread(self, call: object) -> None:
        self.callLater(0, call)  # type: ignore[arg-type]

    def stop(self) -> None:
        self.stopped += 1
        if self.stopped > 1:
            raise ReactorNotRunning


class SignalsTests(SynchronousTestCase):
    def test_catch(self) -> None:
        """A signal calls something in the reactor, not in the middle of whatever runs; then all is as before."""
        before = signal.getsignal(signal.SIGUSR1)
        reactor, calls = FakeReactor(), list[str]()
        signals = Signals(reactor)
        signals.catch(signal.SIGUSR1, lambda: calls.append("called"))
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(calls, [])
        reactor.advance(0)
        self.assertEqual(calls, ["called"])
        signals.let_go()
        self.assertEqual(signal.getsignal(signal.SIGUSR1), before)

    def test_stop_twice(self) -> None:
        """To be told twice to stop is no error."""
        reactor = FakeReactor()
        signals = Signals(reactor)
        signals.stop_reactor()
        signals.stop_reactor()
        self.assertEqual(reactor.stopped, 2)
