"""Call others in order, a few milliseconds at a time, so that the reactor gets on with everything else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from taky_twisted.background import undeterred
from taky_twisted.logs import Logger

SLICE_SECONDS = 0.004
"""How long is called in one go."""

Call = tuple[Any, ...]
"""A function and its arguments."""


class Calls:
    """Calls that are waiting; one that fails is logged, and does not keep the others from being made."""

    log = Logger()

    def __init__(self, clock: IReactorTime, what: str) -> None:
        """Call nobody yet.

        Args:
            clock: the reactor.
            what: says in the log what is being done.
        """
        self._clock = clock
        self._waiting: deque[Iterator[Call]] = deque()
        self._next: IDelayedCall | None = None
        self._step: Callable[[], object] = undeterred(self.log, what, self._go_on)

    def put(self, calls: Iterable[Call]) -> None:
        """Make these calls after all that were put before, never at once; they may be thought of one by one."""
        self._waiting.append(iter(calls))
        if self._next is None:
            self._next = self._clock.callLater(0, self._step)

    def close(self) -> None:
        """Make all calls that are waiting now."""
        while self._next is not None:
            self._next.cancel()
            self._step()

    def _go_on(self) -> None:
        self._next = None
        now = self._clock.seconds
        end = now() + SLICE_SECONDS
        try:
            while self._waiting:
                call = next(self._waiting[0], None)
                if call is None:
                    self._waiting.popleft()
                else:
                    call[0](*call[1:])
                    if now() >= end:
                        break
        finally:
            if self._waiting and self._next is None:
                self._next = self._clock.callLater(0, self._step)
