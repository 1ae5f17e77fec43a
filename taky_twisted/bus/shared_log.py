"""What the nodes of one server share beside what is said: a log in Redis, of which each node has its own copy.

::

    SharedStore, SharedRegister, ... --put, remove--> SharedLog --batches--> Redis
                                     <--take_in------           <--XREAD---- Redis

An entry has a kind, a key and a version; the newest version counts. A change reaches all nodes in milliseconds. Who was
away compares: what it agreed on with the others last, what it has now, what Redis has now. So what an operator changed
while a node was stopped is told, what others changed is taken in, and what Redis has lost is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from taky_twisted.background import logged, undeterred
from taky_twisted.bus.shared_copy import Kind, Pending, SharedCopy, Verdict
from taky_twisted.bus.shared_redis import BATCH, BATCH_BYTES, Found, Head, Place, SharedRedis, fits
from taky_twisted.bus.versions import Versions, is_version, seconds_of
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import Logger
from taky_twisted.records import Synced
from taky_twisted.redis_client import RedisAway, RedisError, RedisRefused

OPEN_SECONDS = 5.0
"""How long Redis is waited for at the start; then the last copy counts."""
SYNC_SECONDS = 60.0
"""How long at the start getting everything may take, from a Redis that answers."""
RETRY_SECONDS = 0.5
"""How soon after a failure everything is compared again."""
REFUSED_SECONDS = 2.0
"""How soon if Redis is there, and refuses: comparing is work."""
COMPARE_SECONDS = 3600.0
"""How often everything is compared, although nothing seems to be wrong."""
REMOVED_SECONDS = 400 * 86_400.0
"""How long it is known that an entry was removed; a node that was away for longer forgets what others do not have."""
SLICE = 1000
"""Entries that are looked at before everything else in the process has its turn."""
STOP_SECONDS = 1.0
"""How long the last changes have to get out when this node stops."""
_EPOCH = ("", "epoch")  # where this node keeps when it compared, and with which Redis


class SharedLog(Service):
    """This node's part in what the nodes share.

    It begins when it is started: after everything is registered with `share` and the store has been read.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        redis: SharedRedis,
        store: EventStore,
        changed: Callable[[], float] | None = None,
        versions: Versions | None = None,
    ) -> None:
        """Tell nobody yet.

        Args:
            reactor: tells seconds since the epoch.
            redis: what is in Redis; it is started and stopped here.
            store: this node's own; it keeps what was agreed on.
            changed: says when this node's data was changed last before it was started; now, by default.
            versions: makes versions.
        """
        self._clock, self._redis = reactor, redis
        self._changed = changed or reactor.seconds
        self._versions = versions or Versions(reactor)
        self._copy = SharedCopy(store, self._versions)
        self._store = store
        self._kinds: dict[str, Kind] = {}
        self._epoch = Synced(*_EPOCH, "", "")
        self._looked = False
        """Whether it is known what was changed before the start."""
        self._in_step = False
        """Whether changes are told at once."""
        self._away_since: float | None = None
        self._why: RedisError = RedisAway("it does not answer")
        self._answers = False
        """Whether Redis has answered since the last failure."""
        self._began = self._compared = 0.0
        self._telling: Deferred[None] | None = None
        self._taking = DeferredLock()
        self._running: Deferred[None] | None = None
        self.synced: Deferred[bool] = Deferred()
        """Fires once: whether this node has what the others have; not, if there is no Redis for a while."""

    @property
    def up(self) -> bool:
        """Whether changes reach the other nodes at the moment."""
        return self._in_step

    def share(self, kind: Kind) -> None:
        """Share the entries of a kind."""
        self._kinds[kind.name] = kind

    def restore(self, records: Iterable[Synced]) -> None:
        """Take over what the store held."""
        found = {(record.kind, record.name): record for record in records if is_version(record.version)}
        self._epoch = found.pop(_EPOCH, self._epoch)
        self._copy.restore(found.values())

    def when_synced(self) -> Deferred[bool]:
        """Fire when `synced` does; whoever waits may stop waiting."""
        waiting: Deferred[bool] = Deferred()

        def fired(synced: bool) -> bool:
            waiting.callback(synced)
            return synced

        self.synced.addCallback(fired)
        return waiting

    def flush(self) -> Deferred[None]:
        """Fire when all other nodes can know what was changed here, or if that takes longer than a moment."""
        return self._in_time(self._telling or succeed(None))

    def put(self, kind: str, key: str, payload: bytes) -> None:
        """Tell the other nodes what an entry is from now on."""
        self._put(kind, key, payload)

    def remove(self, kind: str, key: str) -> None:
        """Tell the other nodes that an entry is gone."""
        self._put(kind, key, None)

    def _put(self, kind: str, key: str, payload: bytes | None) -> None:
        if not fits((kind, key), payload):
            self.log.warn(
                "{kind}: {key} is too large to be shared with the other nodes: it counts on this node alone",
                kind=kind,
                key=repr(key[:100]),
            )
        elif self._copy.put(self._kinds[kind], key, payload):
            self._tell()

    def startService(self) -> None:
        super().startService()
        self._redis.startService()
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._running.addErrback(logged(self.log, "sharing settings with the other nodes"))
        self._began = self._clock.seconds()
        waiting = LoopingCall(self._wait_on)
        waiting.clock = self._clock
        waiting.start(RETRY_SECONDS, now=False).addErrback(logged(self.log, "waiting for the other nodes"))
        self.when_synced().addCallback(lambda _: waiting.stop())

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if not self.running:
            return
        await self.flush()
        super().stopService()
        self._in_step = False
        await self._in_time(self._taking.run(self._end))
        await self._redis.stopService()

    def _in_time(self, waited: Deferred[Any]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        waited.addCallback(lambda _: done.callback(None))
        return done.addTimeout(STOP_SECONDS, self._clock, lambda _, seconds: None)

    def _end(self) -> None:
        assert self._running is not None, "it is running"
        self._running.cancel()
        if not self.synced.called:
            self.synced.callback(False)

    # Being in step with Redis

    async def _run(self) -> None:
        while self.running:
            try:
                await self._redis.ready(OPEN_SECONDS)
                head = await self._compare()
                await self._tell_all()
                self._is_in_step()
                await self._follow(head)
            except RedisError as error:
                self._went(error)
                refused = isinstance(error, RedisRefused)
                await deferLater(self._clock, REFUSED_SECONDS if refused else RETRY_SECONDS)

    def _is_in_step(self) -> None:
        self._in_step = True
        if self._away_since is not None:
            self.log.warn(
                "{where}: this node has what the other nodes have again, after {seconds:.0f} s; nothing is missing",
                where=self._redis.where,
                seconds=self._clock.seconds() - self._away_since,
            )
            self._away_since = None
        if not self.synced.called:
            self.synced.callback(True)
        self._tell()

    def _went(self, error: RedisError) -> None:
        self._in_step, self._answers, self._why = False, False, error
        if self.running and self._away_since is None and self.synced.called:
            self._serve_copy(error)

    def _wait_on(self) -> None:
        waited = self._clock.seconds() - self._began  # less than nothing if the clock was set back
        if 0 <= waited < (SYNC_SECONDS if self._answers else OPEN_SECONDS):
            return
        self._serve_copy(RedisAway("getting everything takes too long") if self._answers else self._why)
        self.synced.callback(False)

    def _serve_copy(self, error: RedisError) -> None:
        self._away_since = self._clock.seconds()
        self.log.warn(
            "{where}: {error}. This node serves its last copy of what the nodes share ({kinds}); what changes here "
            "reaches the others, and what they change reaches this node, when that is over. {advice}",
            where=self._redis.where,
            error=error,
            kinds=", ".join(self._kinds),
            advice=error.advice,
        )

    async def _compare(self) -> Head:
        """Find out what differs from what Redis has: take in what is newer there, and note what is to be told."""
        if not self._looked:
            self._looked = True
            changed = min(self._changed(), self._clock.seconds())
            newcomer = not any(self._copy.bases())
            for kind in self._kinds.values():
                self._copy.changed_before(kind, changed, newcomer)
        head = await self._redis.head()
        self._answers = True
        there = await self._redis.versions()
        lost: list[Place] = []
        newer: list[Place] = []
        for number, (place, (version, removed)) in enumerate(there.items(), 1):
            if number % SLICE == 0:
                await deferLater(self._clock, 0)
            if place[0] not in self._kinds:
                continue  # of a later version of this server
            verdict = self._copy.verdict(place, version)
            if verdict is Verdict.LOST or (verdict is Verdict.KNOWN and not head.payloads and not removed):
                lost.append(place)
            elif verdict is Verdict.NEWER and removed and not self._is_here(place):
                self._copy.agreed(place, version, None)
            elif verdict is Verdict.NEWER:
                newer.append(place)
        forgotten = self._clock.seconds() - REMOVED_SECONDS
        long_away = head.epoch == self._epoch.digest and seconds_of(self._epoch.version) < forgotten
        for place, base in self._copy.bases():
            if place in there or place[0] not in self._kinds:
                continue
            if long_away and base.digest:
                await self._take_in({place: Found(self._versions.next(), None)})
            elif base.digest or seconds_of(base.version) >= forgotten:
                lost.append(place)
        for at in range(0, len(newer), BATCH):
            await self.refresh(newer[at : at + BATCH])
        currents = {name: kind.current() for name, kind in self._kinds.items()} if lost else {}
        for number, (name, key) in enumerate(lost, 1):
            if number % BATCH == 0:
                await deferLater(self._clock, 0)
            self._copy.again(self._kinds[name], key, currents[name].get(key))
        await self._redis.forget(self._copy.forget(forgotten, BATCH))
        self._compared = self._clock.seconds()
        self._epoch = Synced(*_EPOCH, self._versions.at(self._compared), head.epoch)
        self._store.put(self._epoch)
        return head

    def _is_here(self, place: Place) -> bool:
        base = self._copy.base(place)
        return place in self._copy.pending or (base is not None and base.digest != "")

    async def _follow(self, head: Head) -> None:
        """Take in what is written from now on; return when everything has to be compared."""
        last, count = head.last, head.count
        while self._in_step:
            lines = await self._redis.changes(last)
            if not lines:
                now = await self._redis.head()
                if (
                    now.epoch != head.epoch
                    or now.count < count
                    or (now.versions, now.payloads) != (head.versions, head.payloads)
                    or self._clock.seconds() > self._compared + COMPARE_SECONDS
                ):
                    return
            places: dict[Place, None] = {}
            for line in lines:
                count += 1
                last = line.id
                if line.count != count:
                    return  # some lines are gone already, or Redis has begun anew
                if line.place is not None and self._is_newer(line.place, line.version):
                    places[line.place] = None
            for at in range(0, len(places), BATCH):
                await self.refresh(list(places)[at : at + BATCH])

    def _is_newer(self, place: Place, version: str) -> bool:
        known = place[0] in self._kinds and is_version(version)
        return known and self._copy.verdict(place, version) is Verdict.NEWER

    # What other nodes have changed

    async def refresh(self, places: list[Place]) -> None:
        """Take in what other nodes have made of entries, although it may not have been heard yet."""
        await self._take_in(await self._redis.fetch(places))

    async def _take_in(self, found: Mapping[Place, Found]) -> None:
        await self._taking.acquire()
        try:
            by_kind: dict[str, dict[str, Found]] = {}
            for (name, key), entry in found.items():
                newer = self._copy.verdict((name, key), entry.version) is Verdict.NEWER
                if newer and self._copy.counts(self._kinds[name], key, entry):
                    by_kind.setdefault(name, {})[key] = entry
            for name, entries in by_kind.items():
                await self._take_kind(self._kinds[name], entries)
        finally:
            self._taking.release()
        self._tell()

    async def _take_kind(self, kind: Kind, entries: Mapping[str, Found]) -> None:
        changed: dict[str, bytes | None] = {}
        for key, there in entries.items():
            pending = self._copy.pending.get((kind.name, key))
            if pending is not None:
                self._give_way(kind, key, pending, there)
            if pending is not None or not self._copy.has((kind.name, key), there.payload):
                changed[key] = there.payload
        taken = entries.keys() - changed.keys()
        if changed:
            taking = undeterred(self.log, f"taking in {kind.name} of other nodes", partial(kind.take_in, changed))()
            taken = taken.union(cast("Collection[str] | None", await taking) or ())
        for key in taken:
            pending = self._copy.pending.get((kind.name, key))
            if pending is not None and pending.new:
                # It was made here while that was being taken in, which was first all the same.
                self._give_way(kind, key, pending, entries[key])
            self._copy.agreed((kind.name, key), entries[key].version, entries[key].payload)

    def _give_way(self, kind: Kind, key: str, pending: Pending, there: Found) -> None:
        """Drop a change that was made here, for what another node says."""
        self._copy.drop((kind.name, key), pending)
        told = kind.lasting or pending.payload == there.payload
        if not told and not self._copy.has((kind.name, key), pending.payload):
            why = "less of it is left there" if kind.further is not None else "the change there is the newer one"
            say = self.log.info if kind.first_wins else self.log.warn
            say(
                "{kind}: {key} was changed here and on another node meanwhile: {why}, and this node takes it over",
                kind=kind.name,
                key=repr(key[:100]),
                why="the other node was first" if pending.new else why,
            )
        if kind.lost is not None and pending.new and pending.payload is not None:
            kind.lost(key, pending.payload, there.payload)

    # What was changed here

    def _tell(self) -> None:
        if self._in_step and self._telling is None and self._copy.pending:
            self._telling = Deferred.fromCoroutine(self._tell_all())
            self._telling.addErrback(self._not_told)
            self._telling.addErrback(logged(self.log, "telling the other nodes what was changed"))
            self._telling.addCallback(self._told)

    def _not_told(self, failure: Failure) -> None:
        failure.trap(RedisError)
        self._went(failure.value)  # type: ignore[arg-type]  # trapped

    def _told(self, _: object) -> None:
        self._telling = None
        self._tell()

    async def _tell_all(self) -> None:
        while self._copy.pending:
            batch = self._copy.batch(BATCH, BATCH_BYTES)
            answers = await self._redis.write([change for change, _ in batch])
            beaten = []
            for (change, pending), there in zip(batch, answers, strict=True):
                if there is None:
                    self._copy.told(change, pending)
                else:
                    beaten.append((change.place, pending, there))
            if beaten:
                await self.refresh([place for place, _, _ in beaten])
                for each in beaten:
                    self._copy.insist(*each)
