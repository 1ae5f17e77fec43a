"""Go on when somebody sets the system's clock: a board without a battery learns the time from the network, hours later.

Twisted's timers go by that clock. If it is set back, nothing would happen until it is the old time again; if it is set
ahead, everybody would count as silent for hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Any

from twisted.application.service import Service

from taky_twisted.logs import Logger

JUMP_SECONDS = 1.5
"""A smaller step is none: clocks that are adjusted gently are followed without a word."""
LOOK_SECONDS = 0.5
"""How often the two clocks are compared."""


class Timekeeping(Service):
    """Compare the system's clock with one that nobody sets, in a thread, since timers may not fire meanwhile."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        jumped: Sequence[Callable[[float], object]],
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            reactor: whose timers are mended; it takes calls from threads.
            jumped: called with by how many seconds the clock was set ahead (negative: back).
            wall: the system's clock.
            steady: the other one.
        """
        self._reactor, self._jumped = reactor, tuple(jumped)
        self._wall, self._steady = wall, steady
        self._difference = 0.0
        self._over = Event()
        self._thread: Thread | None = None

    async def prepare(self) -> None:
        """Begin before the server serves, so that a clock that is set meanwhile does not hold it up."""
        self.startService()

    async def finish(self) -> None:
        """End, if the server has never come to serve."""
        if self.running:
            self.stopService()

    def startService(self) -> None:
        if self.running:
            return
        super().startService()
        self._difference = self._wall() - self._steady()
        self._over.clear()
        self._thread = Thread(target=self._watch, name="clock", daemon=True)
        self._thread.start()

    def stopService(self) -> None:
        super().stopService()
        self._over.set()

    def look(self) -> None:
        """Compare the clocks, and put right what goes by the one that was set."""
        difference = self._wall() - self._steady()
        step = difference - self._difference
        self._difference = difference
        if abs(step) < JUMP_SECONDS or not self.running:
            return
        self.log.warn(
            "the system's clock was set {direction} by {seconds:.0f} seconds: timers were moved, clients stay;"
            " what has a time of its own (map items, certificates) goes by the new one",
            direction="ahead" if step > 0 else "back",
            seconds=abs(step),
        )
        if step < 0:
            self._bring_forward(-step)
        for call in self._jumped:
            call(step)

    def _bring_forward(self, seconds: float) -> None:
        # Those that were set before the jump; what was set since is due within less time than that, or can be early.
        threshold = self._reactor.seconds() + seconds - 2 * LOOK_SECONDS
        for timer in self._reactor.getDelayedCalls():
            if timer.getTime() >= threshold:
                timer.delay(-seconds)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            # Every time, so that what a clock is adjusted gently in weeks is no part of a step.
            self._reactor.callFromThread(self.look)
