"""A store in Redis: what is on the map under taky's own keys, so that other programs can read and write them."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, TimeoutError

from taky_twisted.interfaces import StoreError, StoreState
from taky_twisted.logs import Logger
from taky_twisted.records import ALONE, Synced
from taky_twisted.redis_client import Redis, RedisError, RedisRefused
from taky_twisted.stores.redis_places import Command, Places, decoded
from taky_twisted.stores.redis_reading import READ_SECONDS, Reading
from taky_twisted.stores.write_behind import CannotWrite, Changes, Place, WriteBehind

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from taky_twisted.records import Kept, Record

OPEN_SECONDS = 10.0
"""How long a Redis that does not answer yet is waited for at the start."""
ALL_SECONDS = 120.0
"""How long reading everything may take."""
COLLECT_SECONDS = 0.05
"""How long changes are collected before they are written."""
RETRY_SECONDS = 1.0
"""How long after a failure writing is tried again."""
WRITE_SECONDS = 2.0
"""How long one batch of commands may take."""
CLOSE_SECONDS = 5.0
"""After this time closing gives up on a Redis that does not answer."""
BATCH_COMMANDS = 150
"""Commands that Redis does at once; to spell them takes a millisecond, in which this process does nothing else."""
BATCH_BYTES = 1 << 20
"""After so much a batch ends as well: a slow network must carry it before it is given up."""

_PASSING = frozenset({"OOM", "MISCONF", "NOREPLICAS"})
"""With these errors Redis can be read, and can be written again once somebody has made room for it."""


class RedisStore:
    """Keep records in Redis, and all of them in memory too, to write them again if Redis loses them.

    A Redis that was restarted may have lost the last second, or everything. It is asked for the number of the last
    batch that it has; if that is not the last one it said yes to, everything is written anew. Two servers with the same
    hostname must not share one database, unless they are nodes of one server.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        redis: Redis,
        hostname: str,
        import_groups: Collection[str] | None = None,
        node: str = "",
        former: Sequence[str] = (),
    ) -> None:
        """Connect to nothing yet.

        Args:
            clock: schedules the batches; its seconds are those since the epoch.
            redis: not started yet; it is ours alone.
            hostname: is part of the keys, as in taky.
            import_groups: whose the items are that other programs have written; None: everybody's, if no account has
                groups, else nobody's.
            node: names this process if it is one of several.
            former: names that it may have had before, with the empty one for when it was the only one.
        """
        self.where = f"redis:{redis.settings.endpoint}"
        self._clock, self._redis = clock, redis
        self._import_groups = import_groups
        run = secrets.token_hex(8)
        self._places = Places(hostname, run, node)
        self._is_alone = not node
        self._former = [Places(hostname, run, name) for name in former]
        self._behind = WriteBehind(clock, self._write, self.where, COLLECT_SECONDS, RETRY_SECONDS)
        self._records: dict[Place, Record] = {}
        self._asked = self._done = 0
        """Numbers of the last batches that Redis was asked to do, and said that it has done."""
        self._incomplete = False
        """Whether Redis has lost something that it had."""
        self._leftover: list[str] = []
        """Keys of former names: they are deleted as soon as this name has what they held, or that would come back."""
        self._closed = False

    def open(self) -> Deferred[Kept]:
        """Connect, and read everything; the reactor has to run for that."""
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> Kept:
        self._redis.startService()
        try:
            await self._redis.wait(OPEN_SECONDS)
            await self._try_to_write()
            reading = Reading(self._redis, self._places, self._import_groups, self._former).run(self._clock.seconds())
            found = await Deferred.fromCoroutine(reading).addTimeout(ALL_SECONDS, self._clock)
        except TimeoutError as error:
            await self._redis.stopService()
            raise StoreError(
                f"cannot use {self.where} as store: it was not read within {ALL_SECONDS:g} s. It holds too much, or is "
                "too slow: give the server a Redis of its own."
            ) from error
        except RedisError as error:
            await self._redis.stopService()
            raise StoreError(
                f"cannot use {self.where} as store: {error}. {error.advice} Or name another store with --store."
            ) from error
        for record in found.kept.all():
            place = type(record), record.key
            self._records[place] = record
            self._behind.found(place)
        for place in found.gone:
            self._behind.found(place)
            self._behind.remove(*place)
        if found.taken:
            self.log.info(
                "{count} records are taken over that this server kept in Redis when it was another number of processes",
                count=len(found.taken),
            )
        for record in found.taken:
            self._behind.put(record)
        if self._is_alone and any(isinstance(record, Synced) for record in found.taken):
            self.put(ALONE)
        self._leftover = found.former
        self._redis.watch(self._came, self._went)
        if found.former:
            await self._behind.flush()
        return found.kept

    async def _try_to_write(self) -> None:
        try:
            await self._ask([])
        except RedisRefused as error:
            if error.code not in _PASSING:
                raise
            # What is there can be read, and a full Redis is no reason not to route.
            self._behind.trouble(_cannot_write(error))

    def put(self, record: Record) -> None:
        self._records[type(record), record.key] = record
        self._behind.put(record)

    def remove(self, kind: type[Record], key: str) -> None:
        self._records.pop((kind, key), None)
        self._behind.remove(kind, key)

    def flush(self) -> Deferred[None]:
        return self._behind.flush()

    def close(self) -> Deferred[None]:
        """Flush and disconnect; gives up on a Redis that does not answer for 5 seconds."""
        self._closed = True
        return Deferred.fromCoroutine(self._close())

    @property
    def state(self) -> StoreState:
        return self._behind.state

    async def _close(self) -> None:
        flushing = self._behind.flush()
        flushing.addTimeout(CLOSE_SECONDS, self._clock, lambda _, seconds: None)
        await flushing
        missing = self._behind.stop()
        if missing:
            self.log.warn(
                "{missing} changes could not be written to {where} and are lost", missing=missing, where=self.where
            )
        await self._redis.stopService()

    def _came(self) -> None:
        # Also if nothing has changed: to see what it still has, and to say that the outage is over.
        self._behind.now()

    def _went(self, why: RedisError) -> None:
        if not self._closed:
            self._behind.trouble(_cannot_write(why))

    def _write(self, changes: Changes) -> Deferred[None]:
        return Deferred.fromCoroutine(self._write_all(changes))

    async def _write_all(self, changes: Changes) -> None:
        if not self._redis.up:  # before anything is spelled
            raise _cannot_write(self._redis.why)
        try:
            await self._do(changes.items())
            if self._incomplete:
                await self._write_anew()
            if self._leftover:
                await self._redis.call("DEL", *self._leftover)
                self._leftover = []
        except RedisError as error:
            raise _cannot_write(error) from error

    async def _do(self, changes: Iterable[tuple[Place, Record | None]]) -> None:
        commands: list[Command] = []
        put: list[Place] = []
        size = 0
        # What is removed comes first: one that is full does that still.
        for place, record in sorted(changes, key=lambda change: change[1] is not None):
            if record is None:
                more = self._places.remove(*place)
            else:
                more = self._places.put(record, self._clock.seconds())
                put.append(place)
            commands += more
            size += sum(len(word) for command in more for word in command if isinstance(word, bytes))
            if len(commands) >= BATCH_COMMANDS or size >= BATCH_BYTES:
                await self._ask(commands, put)
                commands, put, size = [], [], 0
        await self._ask(commands, put)

    async def _ask(self, commands: list[Command], put: Iterable[Place] = ()) -> None:
        self._asked = number = self._asked + 1
        try:
            before = await self._redis.call(*self._places.write(number, commands), seconds=WRITE_SECONDS)
        except RedisRefused as error:
            if error.code in _PASSING:
                put = ()  # nothing was done
            raise
        finally:
            # Who is not answered does not know what was done: what was put may have to be removed.
            for place in put:
                self._behind.found(place)
        if before < self._done:
            self._incomplete = True
        self._done = number

    async def _write_anew(self) -> None:
        """Write everything that there is, and remove what should be there no more."""
        self.log.info("{where} has lost something; everything is written anew", where=self.where)
        for kind in self._places.own:
            keys = await self._redis.call("HKEYS", self._places.hash_of(kind), seconds=READ_SECONDS)
            places = [(kind, key) for key in map(_decoded, keys) if key is not None]
            await self._do([(place, None) for place in places if place not in self._records])
        self._incomplete = False
        try:
            await self._do(list(self._records.items()))
        except RedisError:
            self._incomplete = True
            raise


def _decoded(key: bytes) -> str | None:
    with suppress(UnicodeDecodeError):  # another program's, who knows what for
        return decoded(key)
    return None


def _cannot_write(error: RedisError) -> CannotWrite:
    return CannotWrite(str(error), error.advice)
