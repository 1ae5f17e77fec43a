"""Whoever guesses wrongly waits, a little longer each time; nobody is ever locked out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from taky_twisted.identity.errors import Busy

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

FIRST_SECONDS = 0.25
"""After the first failure; each further one doubles it."""
MAX_SECONDS = 5.0
FORGET_SECONDS = 15 * 60.0
"""After so long without a failure nobody has to wait."""
MAX_REMEMBERED = 10_000
"""Addresses with an account; the one whose last failure is oldest is forgotten first."""
MAX_WAITING = 4
"""Attempts of one of them that wait at the same time: guessing in parallel is no faster."""

Who = tuple[str, str]
"""An address, and the account that is tried from there."""


class Delays:
    """Remember who has failed how often."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failed: dict[Who, tuple[int, float]] = {}  # how often, and when last; that oldest first
        self._waiting: dict[Who, int] = {}

    def seconds(self, who: Who) -> float:
        """Say how long the next attempt waits."""
        count, last = self._failed.get(who, (0, 0.0))
        if not count or self._clock.seconds() - last >= FORGET_SECONDS:
            return 0.0
        return min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(count - 1, 10))

    async def wait(self, who: Who) -> None:
        """Let an attempt wait.

        Raises:
            Busy: too many wait already.
        """
        seconds = self.seconds(who)
        if not seconds:
            return
        waiting = self._waiting.get(who, 0)
        if waiting >= MAX_WAITING:
            raise Busy("too many attempts with this name at the same time; try again in a few seconds")
        self._waiting[who] = waiting + 1
        try:
            await deferLater(self._clock, seconds)
        finally:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who]

    def failed(self, who: Who) -> None:
        """Count a failure."""
        count, last = self._failed.pop(who, (0, 0.0))
        now = self._clock.seconds()
        self._failed[who] = (count + 1 if now - last < FORGET_SECONDS else 1, now)
        if len(self._failed) > MAX_REMEMBERED:
            del self._failed[next(iter(self._failed))]

    def succeeded(self, who: Who) -> None:
        """Forget all failures."""
        self._failed.pop(who, None)
