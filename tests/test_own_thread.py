from __future__ import annotations

import threading

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.own_thread import OwnThread
from tests.threaded_clock import ThreadedClock


class OwnThreadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.thread = OwnThread("test", self.clock)
        self.addCleanup(self.thread.stop)

    def test_order(self) -> None:
        """Calls run one after the other, in the order in which they came, all in one thread that is not ours."""
        ran: list[tuple[int, int]] = []

        def call(n: int) -> None:
            ran.append((n, threading.get_ident()))

        last = [self.thread.run(call, n) for n in range(100)][-1]
        self.clock.wait(last)
        self.assertEqual([n for n, _ in ran], list(range(100)))
        self.assertEqual(len({ident for _, ident in ran}), 1)
        self.assertNotEqual(ran[0][1], threading.get_ident())

    def test_several(self) -> None:
        """If more threads are allowed, so many calls run at once, and no more."""
        pool = OwnThread("test", self.clock, 2)
        self.addCleanup(pool.stop)
        both = threading.Barrier(2, timeout=30)
        waiting = [pool.run(both.wait) for _ in range(4)]
        for each in waiting:
            self.clock.wait(each)
        self.assertEqual(pool._pool.max, 2)

    def test_result(self) -> None:
        """What a call returns or raises arrives in the reactor's thread."""
        self.assertEqual(self.clock.wait(self.thread.run(divmod, 7, 2)), (3, 1))
        with self.assertRaises(ZeroDivisionError):
            self.clock.wait(self.thread.run(divmod, 7, 0))

    def test_idle(self) -> None:
        """A thread that was never asked anything is never started; one that was ends with stop."""
        before = threading.active_count()
        idle = OwnThread("idle", self.clock)
        idle.stop()
        self.assertEqual(threading.active_count(), before)
        busy = OwnThread("busy", self.clock)
        self.clock.wait(busy.run(int))
        self.assertEqual(threading.active_count(), before + 1)
        busy.stop()
        self.assertEqual(threading.active_count(), before)

    def test_daemon(self) -> None:
        """A disk that hangs does not keep the process from ending."""
        self.assertTrue(self.clock.wait(self.thread.run(lambda: threading.current_thread().daemon)))
