"""One thing to be done later: a new one takes the place of the one before."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timer:
    """Call something once, after a while, unless it is stopped or started anew."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._call: IDelayedCall | None = None

    def start(self, seconds: float, call: Callable[[], object]) -> None:
        """Call after so long; what was to be called before is not."""
        self.stop()
        self._call = self._clock.callLater(seconds, call)

    def stop(self) -> None:
        """Call nothing."""
        delayed, self._call = self._call, None
        if delayed is not None and delayed.active():
            delayed.cancel()
