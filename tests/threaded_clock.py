"""A reactor for code that has a thread of its own: time stands still, calls from threads are run when waited for."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

T = TypeVar("T")

EPOCH = 1_772_359_200.0
"""2026-03-01T10:00:00Z, when these clocks start."""
PATIENCE = 30.0
"""After so many real seconds a call from a thread is not coming any more."""


@implementer(IReactorFromThreads)
class ThreadedClock(Clock):
    """A `Clock` that takes calls from threads."""

    def __init__(self, now: float = EPOCH) -> None:
        super().__init__()
        self.rightNow = now
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._calls.put(lambda: callable(*args, **kwargs))

    def run_one(self) -> None:
        """Wait for one call from a thread, and run it."""
        self._calls.get(timeout=PATIENCE)()

    def wait(self, deferred: Deferred[T]) -> T:
        """Run calls from threads until a Deferred has fired; return its result or raise its failure."""
        results: list[T | Failure] = []
        deferred.addBoth(results.append)
        while not results:
            self.run_one()
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result
