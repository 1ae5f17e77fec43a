"""One thread beside the reactor, for work that may have to wait for a disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorFromThreads

P = ParamSpec("P")
T = TypeVar("T")


class _DaemonPool(ThreadPool):
    # A disk that hangs must not keep the process from ending.
    threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # narrower on purpose


class OwnThread:
    """Run calls one after the other in a thread of their own, or a few at once; it starts with the first call."""

    def __init__(self, name: str, reactor: IReactorFromThreads, threads: int = 1) -> None:
        self._reactor = reactor
        self._pool = _DaemonPool(0, threads, name)

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run a call after those handed over before; the result arrives in the reactor's thread."""
        if not self._pool.started:
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, call, *args, **kwargs)

    def stop(self) -> None:
        """End the thread. It waits for what is still running, so call it when the last result has arrived."""
        self._pool.stop()
