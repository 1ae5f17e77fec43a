"""How late the reactor is, and whether somebody has set the system's clock.

Lateness is measured by a clock that nobody sets: a timer is due in half a second, and what it comes later than that is
how long anybody may have waited.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

BEAT_SECONDS = 0.5
"""How often it is measured."""
WINDOW_SECONDS = 30.0
"""For how long the worst measurement counts."""


class Pulse(Service):
    """Measure while the server runs."""

    def __init__(self, clock: IReactorTime, steady: Callable[[], float] = time.monotonic) -> None:
        """Measure nothing yet.

        Args:
            clock: the reactor.
            steady: seconds by a clock that is never set.
        """
        self._clock, self._steady = clock, steady
        self._due = 0.0
        self._timer: IDelayedCall | None = None
        self._beats: deque[tuple[float, float]] = deque()
        """When, and how late; each later than all behind it, so that the first is the worst."""
        self._last = 0.0
        self.jumps = 0
        """How often the clock was set."""
        self._jumped: tuple[float, float] | None = None

    def startService(self) -> None:
        super().startService()
        self._wait()

    def stopService(self) -> None:
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def jumped(self, seconds: float) -> None:
        """Learn that the clock was set ahead (negative: back)."""
        self.jumps += 1
        self._jumped = self._steady(), seconds

    @property
    def lag(self) -> float:
        """How late the reactor was at last, or is now if it is late, in seconds."""
        return max(self._last, self._overdue)

    @property
    def worst(self) -> float:
        """How late it was at worst lately."""
        self._forget()
        return max(self._beats[0][1] if self._beats else 0.0, self._overdue)

    @property
    def jump(self) -> float:
        """By how many seconds the clock was set lately; 0 if it was not."""
        if self._jumped is None or self._steady() - self._jumped[0] > WINDOW_SECONDS:
            return 0.0
        return self._jumped[1]

    @property
    def _overdue(self) -> float:
        return max(0.0, self._steady() - self._due) if self.running else 0.0

    def _wait(self) -> None:
        self._due = self._steady() + BEAT_SECONDS
        self._timer = self._clock.callLater(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        self._last = late = self._overdue
        while self._beats and self._beats[-1][1] <= late:
            self._beats.pop()
        self._beats.append((self._steady(), late))
        self._forget()
        self._wait()

    def _forget(self) -> None:
        now = self._steady()
        while self._beats and now - self._beats[0][0] > WINDOW_SECONDS:
            self._beats.popleft()
