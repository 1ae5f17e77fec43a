"""A thread that waits for a disk, and that can be told to end while it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, TimeoutError, fail
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from taky_twisted.own_thread import OwnThread

P = ParamSpec("P")
T = TypeVar("T")

STOP_SECONDS = 5.0
"""After this time stopping gives up on a disk that does not answer."""


class Stopped(Exception):
    """The server is stopping: nothing new is begun."""


class DiskThread:
    """Run calls one after the other in a thread of their own, until told to stop."""

    def __init__(self, name: str, reactor: IReactorFromThreads) -> None:
        self._thread = OwnThread(name, reactor)
        self._running = 0  # asked of the thread and not done
        self._stopping = self._ended = False
        self._waiting: list[Deferred[None]] = []

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run a call after those handed over before; fails with `Stopped` after `stop`."""
        if self._stopping:
            return fail(Stopped())
        self._running += 1
        # Not the thread's own Deferred: a client that leaves cancels what it waits for, but the thread goes on.
        waiting: Deferred[T] = Deferred()
        self._thread.run(call, *args, **kwargs).addBoth(self._done, waiting)
        return waiting

    def stop(self) -> Deferred[None]:
        """Begin nothing new, end when all is done that was begun, and fire then."""
        self._stopping = True
        stopped: Deferred[None] = Deferred()
        self._waiting.append(stopped)
        self._end_if_idle()
        return stopped

    def _done(self, result: T | Failure, waiting: Deferred[T]) -> None:
        self._running -= 1
        self._end_if_idle()
        waiting.callback(result)  # a failure fails it

    def _end_if_idle(self) -> None:
        if self._stopping and not self._running:
            if not self._ended:
                self._ended = True
                self._thread.stop()
            waiting, self._waiting = self._waiting, []
            for stopped in waiting:
                stopped.callback(None)


def patiently(waited: Deferred[Any], seconds: float, clock: IReactorTime) -> Deferred[bool]:
    """Wait for something, but not for ever; say whether it came. It goes on all the same."""
    came: Deferred[bool] = Deferred()
    waited.addBoth(lambda _: came.callback(True))

    def late(failure: Failure) -> bool:
        failure.trap(TimeoutError)
        return False

    return came.addTimeout(seconds, clock).addErrback(late)
