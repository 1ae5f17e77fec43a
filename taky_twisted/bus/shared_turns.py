"""One node after the other, where two at once would each use up the same last one."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater

from taky_twisted.background import logged
from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.bus.shared_redis import Place, SharedRedis
from taky_twisted.logs import Logger
from taky_twisted.redis_client import RedisError

HELD_SECONDS = 30.0
"""After this a turn ends by itself: its node may have died."""
TRIES = 100
"""How often a turn is tried to get."""
TRY_SECONDS = 0.1
MAX_WAITING = 20
"""So many wait for one turn on this node, one of whom tries to get it."""


class NotOurTurn(Exception):
    """Another node does not come to an end, or too many wait for that."""


class SharedTurns:
    """Turns among the nodes of one server."""

    log = Logger()

    def __init__(self, reactor: Any, redis: SharedRedis, shared: SharedLog) -> None:
        """Ask for nothing yet.

        Args:
            reactor: waits.
            redis: knows whose turn it is.
            shared: has the entries.
        """
        self._clock, self._redis, self._shared = reactor, redis, shared
        self._locks: dict[Place, DeferredLock] = {}

    @asynccontextmanager
    async def turn(self, place: Place, more: Sequence[Place] = ()) -> AsyncIterator[None]:
        """Have nobody else be here meanwhile for the same entry, on any node; it is now what it is on all of them.

        What was changed meanwhile is told before the next one has its turn. While Redis is away or full, nobody waits
        for other nodes, and this node's copy counts.

        Args:
            place: the entry.
            more: others that are read with it.

        Raises:
            NotOurTurn: others have had their turns for `TRIES` times `TRY_SECONDS`, or there are too many.
        """
        lock = self._locks.setdefault(place, DeferredLock())
        if len(lock.waiting) >= MAX_WAITING:
            raise NotOurTurn
        await lock.acquire()
        holder = secrets.token_hex(8)
        try:
            with suppress(RedisError):
                await self._get(holder, [place, *more])
            yield
        finally:
            # Not waited for: who leaves just then would cancel it, and everybody else would wait for nobody.
            ending = Deferred.fromCoroutine(self._end(holder, place))
            ending.addErrback(logged(self.log, "ending a turn among the nodes"))
            ending.addCallback(lambda _: self._release(lock, place))

    async def _get(self, holder: str, places: list[Place]) -> None:
        has_it = False
        for _ in range(TRIES):
            has_it = has_it or await self._redis.begin_turn(places[0], holder, HELD_SECONDS)
            if has_it and self._shared.up:
                await self._shared.refresh(places)
                return
            # Redis may be back just now: then others do not know yet what was changed here, nor do we know theirs.
            await deferLater(self._clock, TRY_SECONDS)
        if not has_it:
            raise NotOurTurn

    async def _end(self, holder: str, place: Place) -> None:
        with suppress(RedisError):
            await self._shared.flush()
            if self._shared.up:  # else it ends by itself, when others may know what was changed
                await self._redis.end_turn(place, holder)

    def _release(self, lock: DeferredLock, place: Place) -> None:
        lock.release()
        # Whoever waited for it may be done by now, and have done this.
        if not lock.locked and self._locks.get(place) is lock:
            del self._locks[place]
