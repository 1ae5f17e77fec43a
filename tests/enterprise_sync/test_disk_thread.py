from __future__ import annotations

from threading import Event

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.disk_thread import DiskThread, Stopped, patiently
from tests.threaded_clock import PATIENCE, ThreadedClock


class DiskThreadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.thread = DiskThread("test", self.clock)

    def test_order(self) -> None:
        """Calls run one after the other; results and failures come back."""
        seen: list[int] = []
        self.thread.run(seen.append, 1)
        self.thread.run(seen.append, 2)
        self.assertEqual(self.clock.wait(self.thread.run(lambda: list(seen))), [1, 2])
        with self.assertRaises(ZeroDivisionError):
            self.clock.wait(self.thread.run(divmod, 1, 0))
        self.successResultOf(self.thread.stop())

    def test_stop(self) -> None:
        """Stopping waits for what was begun, and begins nothing more."""
        go_on = Event()
        waiting = self.thread.run(go_on.wait, PATIENCE)
        stopping = self.thread.stop()
        self.assertNoResult(stopping)
        self.failureResultOf(self.thread.run(lambda: None), Stopped)
        go_on.set()
        self.clock.wait(stopping)
        self.assertEqual(self.successResultOf(waiting), True)

    def test_stop_unused(self) -> None:
        """A thread that was never needed stops at once; being told so again does no harm."""
        self.successResultOf(self.thread.stop())
        self.successResultOf(self.thread.stop())

    def test_patiently(self) -> None:
        """What does not come is not waited for for ever, and may come later all the same."""
        for came in (True, False):
            waited: Deferred[None] = Deferred()
            waiting = patiently(waited, 5, self.clock)
            self.clock.advance(4.9)
            self.assertNoResult(waiting)
            if came:
                waited.callback(None)
            else:
                self.clock.advance(0.1)
            self.assertEqual(self.successResultOf(waiting), came)
        waited.callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_canceled(self) -> None:
        """When nobody waits any more, stopping still waits for the thread."""
        go_on = Event()
        waiting = self.thread.run(go_on.wait, PATIENCE)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        stopping = self.thread.stop()
        self.assertNoResult(stopping)
        go_on.set()
        self.clock.wait(stopping)
