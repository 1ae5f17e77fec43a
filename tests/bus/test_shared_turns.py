from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredLock, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from taky_twisted.bus import shared_turns
from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.bus.shared_redis import Place, SharedRedis
from taky_twisted.bus.shared_turns import HELD_SECONDS, TRIES, NotOurTurn, SharedTurns
from taky_twisted.config.values import RedisSettings
from taky_twisted.redis_errors import RedisError
from tests.redis_server import RedisServer

A, B = ("invites", "a"), ("invites", "b")


class Entries:
    """What `SharedTurns` needs of a `SharedLog`; it notes what is asked of it."""

    def __init__(self) -> None:
        self.refreshed: list[Place] = []
        self.flushed = 0
        self.up = True
        self.hangs: Deferred[None] | None = None
        """Fires when what was changed is told; None: at once."""

    async def refresh(self, places: Sequence[Place]) -> None:
        """Note what is read again."""
        self.refreshed += places

    async def flush(self) -> None:
        """Note that what was changed is told."""
        self.flushed += 1
        if self.hangs is not None:
            await self.hangs


class SharedTurnsTests(TestCase):
    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]  # trial takes a coroutine
        self.server = RedisServer(self)
        self.patch(shared_turns, "TRY_SECONDS", 0.01)
        self.entries: list[Entries] = []
        self.nodes: list[SharedTurns] = []
        for _ in range(3):
            redis, entries = SharedRedis(reactor, RedisSettings(self.server.unix_endpoint), "site"), Entries()
            redis.startService()
            self.addCleanup(redis.stopService)
            await redis.ready(5)
            self.entries.append(entries)
            self.nodes.append(SharedTurns(reactor, redis, cast(SharedLog, entries)))
        self.inside = self.most = self.done = 0
        self.busy = False
        """Whether whoever has a turn does not come to an end."""

    async def work(self, node: int, place: Place = A, fail: bool = False) -> None:
        """Have a turn of some length."""
        async with self.nodes[node].turn(place):
            self.inside += 1
            self.most = max(self.most, self.inside)
            await deferLater(reactor, 0.01)
            await self.until(lambda: not self.busy)
            self.inside -= 1
            if fail:
                raise ValueError("of whoever has the turn")
        self.done += 1

    def begin(self, node: int, place: Place = A) -> Deferred[None]:
        """Begin a turn."""
        return Deferred.fromCoroutine(self.work(node, place))

    async def nobody_has_it(self) -> None:
        """Wait until no turn is left in Redis."""
        await self.until(lambda: self.server.keys() == set())
        self.assertEqual([node._locks for node in self.nodes], [{}] * 3)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not condition():
            await deferLater(reactor, 0.005)

    async def test_one_at_a_time(self) -> None:
        """Nodes work one after the other, each from what the one before has made of it; nothing is left in Redis."""
        await gatherResults([self.begin(node) for node in (0, 1, 2)])
        self.assertEqual((self.most, self.done), (1, 3))
        await self.nobody_has_it()
        self.assertEqual([(each.refreshed, each.flushed) for each in self.entries], [([A], 1)] * 3)

    async def test_more(self) -> None:
        """What belongs to the entry is read with it."""
        async with self.nodes[0].turn(A, [B]):
            self.assertEqual(self.entries[0].refreshed, [A, B])
        await self.nobody_has_it()

    async def test_here(self) -> None:
        """So it is for several on one node; one of them asks Redis, and only so many wait."""
        self.patch(shared_turns, "MAX_WAITING", 3)
        self.busy = True
        working = [self.begin(0) for _ in range(4)]
        await self.until(lambda: self.inside == 1)
        with self.assertRaises(NotOurTurn):
            await self.work(0)
        self.busy = False
        await gatherResults(working)
        self.assertEqual((self.most, self.done), (1, 4))
        await self.nobody_has_it()

    async def test_other_entries(self) -> None:
        """Who works on something else is not waited for."""
        self.busy = True
        working = [self.begin(0, A), self.begin(1, B)]
        await self.until(lambda: self.inside == 2)
        self.busy = False
        await gatherResults(working)

    async def test_failed(self) -> None:
        """A turn that fails ends, too."""
        with self.assertRaises(ValueError):
            await self.work(0, fail=True)
        await self.nobody_has_it()

    async def test_left(self) -> None:
        """Neither one who does not wait to the end of his turn holds up others, nor one who leaves the queue."""
        self.busy = True
        held = self.begin(0)
        await self.until(lambda: self.inside == 1)
        waiting = self.begin(1)
        await deferLater(reactor, 0.02)
        waiting.addErrback(lambda _: None).cancel()
        self.assertEqual(len(self.server.keys()), 1)
        held.addErrback(lambda _: None).cancel()
        self.inside, self.busy = 0, False
        await self.work(2)
        self.assertEqual(self.done, 1)
        await self.nobody_has_it()

    async def test_left_at_the_end(self) -> None:
        """Who leaves while the others are told what was changed does not keep his turn."""
        self.entries[0].hangs = Deferred()
        working = self.begin(0)
        await self.until(lambda: self.entries[0].flushed == 1)
        working.addErrback(lambda _: None).cancel()
        self.assertEqual(len(self.server.keys()), 1)
        self.entries[0].hangs.callback(None)
        await self.nobody_has_it()

    async def test_not_in_step(self) -> None:
        """Where Redis is back, and what others have changed is not known yet, that is waited for, but not for long."""
        self.entries[0].up = False
        working = self.begin(0)
        await self.until(lambda: len(self.server.keys()) == 1)
        await deferLater(reactor, 0.03)
        self.assertEqual(self.inside, 0)
        self.entries[0].up = True
        await working
        await self.nobody_has_it()
        self.patch(shared_turns, "TRIES", 2)
        self.entries[0].up = False
        await self.work(0)
        self.assertEqual(self.done, 2)

    async def test_not_told(self) -> None:
        """A turn whose changes cannot be told is kept, until it ends by itself."""
        async with self.nodes[0].turn(A):
            self.entries[0].up = False
        await self.until(lambda: self.nodes[0]._locks == {})
        self.assertEqual(len(self.server.keys()), 1)

    async def test_dead_node(self) -> None:
        """The turn of a node that has died ends by itself; until then nobody works, and who has waited long is told."""
        self.patch(shared_turns, "TRIES", 3)
        await self.nodes[0]._get("dead", [A])
        (key,) = self.server.keys()
        with self.assertRaises(NotOurTurn):
            await self.work(1)
        left = self.server.shell("PTTL", key)
        self.assertTrue(0 < left <= 1000 * HELD_SECONDS, left)
        self.server.shell("PEXPIRE", key, 1)
        self.patch(shared_turns, "TRIES", TRIES)
        await self.work(1)

    async def test_tries(self) -> None:
        """The last try counts, and there is none after it."""
        self.patch(shared_turns, "TRY_SECONDS", 0)
        for free_at in (TRIES - 1, TRIES, TRIES + 1):
            answers = iter([number == free_at for number in range(1, TRIES + 2)])
            self.patch(self.nodes[0]._redis, "begin_turn", lambda *asked, answers=answers: succeed(next(answers)))
            if free_at <= TRIES:
                await self.nodes[0]._get("late", [A])
            else:
                with self.assertRaises(NotOurTurn):
                    await self.nodes[0]._get("late", [A])
            self.assertEqual(len(list(answers)), TRIES + 1 - min(free_at, TRIES))

    async def test_late(self) -> None:
        """Who comes to an end after his turn has ended leaves the next one's alone."""
        self.patch(shared_turns, "HELD_SECONDS", 0.02)
        self.busy = True
        held = self.begin(0)
        await self.until(lambda: self.inside == 1 and not self.server.keys())
        self.patch(shared_turns, "HELD_SECONDS", 30)
        await self.nodes[1]._get("next", [A])
        self.busy = False
        await held
        self.assertEqual(len(self.server.keys()), 1)

    async def test_no_redis(self) -> None:
        """Without Redis nobody waits for anybody."""
        self.server.kill()
        self.busy = True
        working = [self.begin(node) for node in (0, 1, 2)]
        await self.until(lambda: self.inside == 3)
        self.busy = False
        await gatherResults(working)
        self.assertEqual(self.done, 3)

    async def test_crowd_without_redis(self) -> None:
        """Who waited here and leaves at once is no trouble for who lets him in, nor is anything left of either."""

        async def away(*_: object) -> bool:
            raise RedisError("it is away")

        released: list[bool] = []
        release = self.nodes[0]._release

        def watched(lock: DeferredLock, place: Place) -> None:
            try:
                release(lock, place)
            except KeyError:
                released.append(False)
            else:
                released.append(True)

        self.patch(self.nodes[0], "_release", watched)
        self.patch(self.nodes[0]._redis, "begin_turn", away)
        self.entries[0].up = False
        self.busy = True
        first = self.begin(0)
        await self.until(lambda: self.inside == 1)

        async def leave() -> None:
            async with self.nodes[0].turn(A):
                raise LookupError

        leaving = [self.assertFailure(Deferred.fromCoroutine(leave()), LookupError) for _ in range(3)]
        self.busy = False
        await gatherResults([first, *leaving])
        await self.until(lambda: not self.nodes[0]._locks)
        self.assertEqual(released, [True] * 4)
