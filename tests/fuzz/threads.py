"""No threads: a fuzz target does everything in its own, so that one input always does the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from taky_twisted.own_thread import OwnThread

T = TypeVar("T")


def _run(self: OwnThread, call: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
    done: Deferred[T] = Deferred()
    try:
        result: T | Failure = call(*args, **kwargs)
    except BaseException:  # noqa: BLE001  # as a thread does
        result = Failure()
    self._reactor.callFromThread(done.callback, result)
    return done


@contextmanager
def without_threads() -> Iterator[None]:
    """Have everything that is meant for a thread done at once, and its result come a little later, in order.

    So one input always does the same, and what it reaches is counted.
    """
    run = OwnThread.run
    OwnThread.run = _run  # type: ignore[method-assign]
    try:
        yield
    finally:
        OwnThread.run = run  # type: ignore[method-assign]
