"""One node after the other, where two at once would each use up the same last one."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from twisted.internet.task import deferLater

from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.bus.shared_redis import Place, SharedRedis
from taky_twisted.redis_client import RedisError

HELD_SECONDS = 30.0
"""After this a turn ends by itself: its node may have died."""
TRIES = 100
"""How often a turn is tried to get."""
TRY_SECONDS = 0.1


class NotOurTurn(Exception):
    """Another node does not come to an end."""


class SharedTurns:
    """Turns among the nodes of one server."""

    def __init__(self, reactor: Any, redis: SharedRedis, shared: SharedLog) -> None:
        """Ask for nothing yet.

        Args:
            reactor: waits.
            redis: knows whose turn it is.
            shared: has the entries.
        """
        self._clock, self._redis, self._shared = reactor, redis, shared

    @asynccontextmanager
    async def turn(self, place: Place) -> AsyncIterator[None]:
        """Have no other node be here meanwhile, for the same entry, which is now what it is on all nodes.

        What was changed meanwhile is told before the next node has its turn. While Redis is away nobody waits, and this
        node's copy counts.

        Raises:
            NotOurTurn: another node has had its turn for `TRIES` times `TRY_SECONDS`.
        """
        holder = secrets.token_hex(8)
        try:
            with suppress(RedisError):
                await self._get(place, holder)
            yield
        finally:
            with suppress(RedisError):
                await self._shared.flush()
                await self._redis.end_turn(place, holder)

    async def _get(self, place: Place, holder: str) -> None:
        for _ in range(TRIES):
            if await self._redis.begin_turn(place, holder, HELD_SECONDS):
                await self._shared.refresh([place])
                return
            await deferLater(self._clock, TRY_SECONDS)
        raise NotOurTurn
