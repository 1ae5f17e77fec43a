"""Numbers that no two nodes of a server give to two things."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import Deferred

from taky_twisted.background import logged
from taky_twisted.bus.shared_redis import SharedRedis
from taky_twisted.enterprise_sync.records import HIGH
from taky_twisted.logs import Logger
from taky_twisted.redis_client import RedisError

BLOCK = 200
"""Numbers that a node has Redis set aside for it at once."""
ENOUGH = 100
"""With fewer left the next block is asked for."""
END = 1 << 31
"""From `HIGH` to this a node picks at random when it has no number left and Redis is away: clients read numbers as
signed integers of 32 bits. Of a thousand numbers picked so two are the same once in two thousand times; who shares what
has them sees to that."""


class SharedNumbers:
    """Gives numbers at once, out of a block that was asked for ahead of time."""

    log = Logger()

    def __init__(self, redis: SharedRedis, highest: Callable[[], int], chance: random.Random | None = None) -> None:
        """Ask for nothing yet.

        Args:
            redis: sets the blocks aside.
            highest: tells the highest number below `HIGH` that is known to be used.
            chance: picks, when there is no block.
        """
        self._redis, self._highest = redis, highest
        self._chance = chance or random.SystemRandom()
        self._next = self._end = 0
        self._asking = False

    def fill(self) -> Deferred[None]:
        """Ask for a block, unless there are enough numbers left; fires when that is done, or cannot be."""
        filling = Deferred.fromCoroutine(self._fill())
        filling.addErrback(lambda failure: failure.trap(RedisError) and None)
        filling.addErrback(logged(self.log, "getting numbers"))
        return filling

    def take(self) -> int:
        """Give a number."""
        if self._end - self._next < ENOUGH:
            self.fill()
        if self._next == self._end:
            return self._chance.randrange(HIGH, END)
        self._next += 1
        return self._next

    async def _fill(self) -> None:
        if self._asking or self._end - self._next >= ENOUGH:
            return
        self._asking = True
        try:
            first = await self._redis.numbers(self._highest(), BLOCK)
        finally:
            self._asking = False
        if first + BLOCK < HIGH:
            # What is left of the old block is few, and numbers are plenty.
            self._next, self._end = first, first + BLOCK
