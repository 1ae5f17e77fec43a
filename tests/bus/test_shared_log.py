from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase, TestCase

from taky_twisted.bus.shared_copy import Kind
from taky_twisted.bus.shared_log import (
    COMPARE_SECONDS,
    OPEN_SECONDS,
    REMOVED_SECONDS,
    RETRY_SECONDS,
    SYNC_SECONDS,
    SharedLog,
)
from taky_twisted.bus.shared_redis import Found, SharedRedis
from taky_twisted.bus.versions import Versions
from taky_twisted.config.values import RedisSettings
from taky_twisted.records import Synced
from taky_twisted.redis_client import RedisRefused
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.timekeeping import Timekeeping
from tests.bus.memory_redis import MemoryRedis, MemorySharedRedis
from tests.fakes import LogLines
from tests.redis_server import RedisServer
from tests.threaded_clock import EPOCH

PLAIN, FIRST, LASTING = "plain", "first", "lasting"


class Node:
    """One node with data of its own, and what it shares of them."""

    def __init__(self, clock: Any, redis: Any, number: int) -> None:
        self.clock, self.redis, self.number = clock, redis, number
        self.store = MemoryStore(clock)
        self.data: dict[str, dict[str, bytes]] = {PLAIN: {}, FIRST: {}, LASTING: {}}
        self.taken: list[tuple[str, str, bytes | None]] = []
        self.lost: list[tuple[str, bytes]] = []
        self.changed = EPOCH
        self.runs = 0
        self.log: SharedLog
        self.make()

    def make(self) -> None:
        """Be as after a start of the process."""
        self.runs += 1
        versions = Versions(self.clock, 1000 * self.runs + self.number)
        self.log = SharedLog(self.clock, self.redis, self.store, lambda: self.changed, versions)
        for kind in self.data:
            self._share(kind)
        kept: list[Any] = []
        self.store.open().addCallback(kept.append)
        self.log.restore(kept[0].synced)

    def _share(self, kind: str) -> None:
        shared = Kind(
            kind,
            lambda payloads: self._take_in(kind, payloads),
            lambda: dict(self.data[kind]),
            first_wins=kind == FIRST,
            lasting=kind == LASTING,
            lost=lambda key, ours, theirs: self.lost.append((key, ours)),
        )
        self.log.share(shared)

    def _take_in(self, kind: str, payloads: Mapping[str, bytes | None]) -> list[str]:
        taken = []
        for key, payload in payloads.items():
            if payload == b"unreadable":
                continue
            taken.append(key)
            self.taken.append((kind, key, payload))
            if payload is None:
                self.data[kind].pop(key, None)
            elif kind == LASTING:
                self.data[kind][key] = max(payload, self.data[kind].get(key, b""))
                if self.data[kind][key] != payload:
                    self.log.put(kind, key, self.data[kind][key])
            else:
                self.data[kind][key] = payload
        return taken

    def put(self, key: str, payload: bytes, kind: str = PLAIN) -> None:
        """Change something here."""
        self.data[kind][key] = payload
        self.log.put(kind, key, payload)

    def remove(self, key: str, kind: str = PLAIN) -> None:
        """Remove something here."""
        if self.data[kind].pop(key, None) is not None:
            self.log.remove(kind, key)


class MemoryNode(Node):
    """A node whose Redis is in memory."""

    clock: Clock
    redis: MemorySharedRedis

    def __init__(self, redis: MemoryRedis, number: int = 1) -> None:
        clock = Clock()
        clock.rightNow = EPOCH
        super().__init__(clock, MemorySharedRedis(redis), number)

    def start(self) -> None:
        """Start, and do all that can be done."""
        self.log.startService()
        self.settle()

    def crash(self) -> None:
        """End without a word; what was under way is not done."""
        self.redis.waiting.clear()
        self.redis.listening.clear()
        self.log.running = 0
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.make()

    def settle(self) -> None:
        """Do all that can be done."""
        while self.redis.waiting or self.redis.hear():
            while self.redis.waiting:
                self.redis.step()

    def retry(self) -> None:
        """Let the time pass after which an outage is over."""
        self.clock.advance(RETRY_SECONDS)
        self.settle()


class SharedLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.redis = MemoryRedis()
        self.one, self.other = MemoryNode(self.redis, 1), MemoryNode(self.redis, 2)

    def start(self) -> None:
        """Start both."""
        self.one.start()
        self.other.start()

    def settle(self) -> None:
        """Do all that can be done on both."""
        for _ in range(5):
            self.one.settle()
            self.other.settle()

    def assert_same(self, **data: bytes) -> None:
        """Both nodes have just that, and so has Redis."""
        self.assertEqual(self.one.data[PLAIN], data)
        self.assertEqual(self.other.data[PLAIN], data)
        there = {key: found.payload for (kind, key), found in self.redis.entries.items() if kind == PLAIN}
        self.assertEqual({key: payload for key, payload in there.items() if payload is not None}, data)

    def test_change(self) -> None:
        """What is put or removed on one node is so on the others."""
        self.start()
        self.assertTrue(self.successResultOf(self.one.log.synced))
        self.one.put("a", b"1")
        self.other.put("b", b"2")
        self.settle()
        self.assert_same(a=b"1", b=b"2")
        self.other.put("a", b"3")
        self.one.remove("b")
        self.settle()
        self.assert_same(a=b"3")
        self.assertEqual(self.lines(LogLevel.warn), [])

    def test_no_echo(self) -> None:
        """A node does not take in what it said itself, nor the same twice, and says nothing twice."""
        self.start()
        self.one.put("a", b"1")
        self.settle()
        self.one.put("a", b"1")
        self.settle()
        self.assertEqual(self.one.taken, [])
        self.assertEqual(self.other.taken, [(PLAIN, "a", b"1")])
        self.assertEqual(len(self.redis.log), 1)

    def test_down(self) -> None:
        """A node that was down has everything before it says that it has, removals too."""
        self.start()
        self.one.put("a", b"1")
        self.one.put("b", b"1")
        self.settle()
        self.other.crash()
        self.one.put("a", b"2")
        self.one.remove("b")
        self.one.put("c", b"3")
        self.one.settle()
        self.other.log.startService()
        self.assertNoResult(self.other.log.synced)
        self.other.settle()
        self.assertTrue(self.successResultOf(self.other.log.synced))
        self.assert_same(a=b"2", c=b"3")

    def test_changed_offline(self) -> None:
        """What an operator changed while a node was stopped reaches the others, removals too."""
        self.start()
        for key in "abc":
            self.one.put(key, b"1")
        self.settle()
        self.one.crash()
        self.one.data[PLAIN] = {"a": b"2", "b": b"1", "d": b"4"}
        self.one.start()
        self.settle()
        self.assert_same(a=b"2", b=b"1", d=b"4")
        self.assertNotIn((PLAIN, "b", b"1"), self.one.taken)

    def test_both_changed(self) -> None:
        """Of two changes while a node was stopped the later one counts, and the log says so."""
        for offline, online, winner in ((EPOCH + 10, EPOCH + 20, b"there"), (EPOCH + 20, EPOCH + 10, b"here")):
            self.setUp()
            self.start()
            self.one.put("a", b"1")
            self.settle()
            self.one.crash()
            self.one.data[PLAIN]["a"], self.one.changed = b"here", offline
            self.one.clock.rightNow = self.other.clock.rightNow = EPOCH + 30
            self.other.clock.rightNow = online
            self.other.put("a", b"there")
            self.other.settle()
            self.one.start()
            self.settle()
            self.assert_same(a=winner)
            told = self.lines(LogLevel.warn)
            self.assertEqual(len(told), winner == b"there", told)
            self.assertTrue(all("plain: 'a' was changed here and on another node" in line for line in told))
            self.lines = LogLines(self)

    def test_newcomer(self) -> None:
        """A server that becomes one of several brings what the others do not have, and takes over what they do."""
        self.one.data[PLAIN] = {"a": b"1", "b": b"1", "gone": b"1"}
        self.one.start()
        self.one.remove("gone")
        self.one.settle()
        self.other.data[PLAIN] = {"a": b"2", "b": b"1", "c": b"2", "gone": b"2"}
        self.other.changed = EPOCH + 50
        self.other.clock.rightNow = EPOCH + 60
        self.other.start()
        self.settle()
        self.assert_same(a=b"1", b=b"1", c=b"2")

    def test_newer_wins(self) -> None:
        """Of two changes at the same time one counts, on all nodes the same one; a slow clock does not matter later."""
        self.start()
        self.other.clock.rightNow += 60
        self.one.put("a", b"one")
        self.other.put("a", b"other")
        self.settle()
        self.assert_same(a=b"other")
        self.one.put("a", b"later")
        self.settle()
        self.assert_same(a=b"later")

    def test_beaten(self) -> None:
        """A change that is older than what Redis has gives way to that, and the log says so."""
        self.start()
        self.other.clock.rightNow += 60
        self.other.put("a", b"newer")
        self.other.settle()
        self.one.put("a", b"older")
        self.settle()
        self.assert_same(a=b"newer")
        self.assertIn("the change there is the newer one", self.lines(LogLevel.warn)[0])
        self.assertEqual(self.one.lost, [])

    def test_first_wins(self) -> None:
        """Of two things with one key the first counts; who made the other is told, and may give it another key."""
        self.start()
        self.other.clock.rightNow += 60
        self.one.put("7", b"one", FIRST)
        self.one.settle()
        self.other.put("7", b"other", FIRST)
        self.settle()
        self.assertEqual((self.one.data[FIRST], self.other.data[FIRST]), ({"7": b"one"}, {"7": b"one"}))
        self.assertEqual((self.one.lost, self.other.lost), ([], [("7", b"other")]))
        self.other.put("7", b"changed", FIRST)
        self.settle()
        self.assertEqual((self.one.data[FIRST], self.other.data[FIRST]), ({"7": b"changed"}, {"7": b"changed"}))
        self.assertEqual(len(self.other.lost), 1)

    def test_first_without_answer(self) -> None:
        """Who was first and did not hear so is not beaten by itself."""
        self.start()
        self.one.put("7", b"one", FIRST)
        self.one.redis.step(answered=False)
        self.one.put("7", b"two", FIRST)
        self.one.retry()
        self.settle()
        self.assertEqual((self.one.data[FIRST], self.other.data[FIRST]), ({"7": b"two"}, {"7": b"two"}))
        self.assertEqual(self.one.lost, [])

    def test_first_in_flight(self) -> None:
        """Changing what is just being told as new is a change, not a second one that is new."""
        self.start()
        self.one.put("7", b"one", FIRST)
        self.one.put("7", b"two", FIRST)
        self.one.settle()
        self.settle()
        self.assertEqual(self.other.data[FIRST], {"7": b"two"})
        self.assertEqual(self.one.lost, [])

    def test_never_told(self) -> None:
        """What came and went while Redis was away leaves nothing behind; what may have been told is taken back."""
        self.start()
        self.one.put("told", b"1")
        self.one.redis.step(answered=False)
        self.one.redis.away = True
        self.one.remove("told")
        self.one.put("untold", b"1")
        self.one.remove("untold")
        self.one.redis.away = False
        self.one.retry()
        self.settle()
        self.assert_same()
        self.assertEqual(set(self.redis.entries), {(PLAIN, "told")})

    def test_lasting(self) -> None:
        """What is never removed is made one of both, and comes back if a file of it was lost."""
        self.start()
        self.one.put("x", b"1", LASTING)
        self.one.put("y", b"1", LASTING)
        self.settle()
        self.one.crash()
        self.one.data[LASTING] = {"x": b"5"}
        self.other.put("x", b"9", LASTING)
        self.other.settle()
        self.one.changed = EPOCH + 50
        self.one.start()
        self.settle()
        self.assertEqual(self.one.data[LASTING], {"x": b"9", "y": b"1"})
        self.assertEqual(self.other.data[LASTING], {"x": b"9", "y": b"1"})
        self.assertEqual(self.lines(LogLevel.warn), [])

    def test_no_redis(self) -> None:
        """Without Redis a node starts with its last copy after a while, says so once, and joins the others later."""
        self.one.data[PLAIN] = {"a": b"1"}
        self.one.redis.away = True
        self.one.log.startService()
        self.one.clock.pump([RETRY_SECONDS] * int(OPEN_SECONDS / RETRY_SECONDS - 1))
        self.assertNoResult(self.one.log.synced)
        self.one.clock.pump([RETRY_SECONDS] * 20)
        self.assertFalse(self.successResultOf(self.one.log.synced))
        self.assertFalse(self.one.log.up)
        (line,) = self.lines(LogLevel.warn)
        self.assertIn("redis:memory: it is gone. This node serves its last copy of what the nodes share", line)
        self.one.put("b", b"2")
        self.one.redis.away = False
        self.one.retry()
        self.other.start()
        self.assert_same(a=b"1", b=b"2")
        self.assertIn("has what the other nodes have again", self.lines(LogLevel.warn)[1])
        self.assertTrue(self.one.log.up)

    def test_hangs(self) -> None:
        """A Redis that does not even refuse is given up at the start as well."""
        self.one.log.startService()
        self.one.clock.advance(OPEN_SECONDS)
        self.assertFalse(self.successResultOf(self.one.log.synced))
        self.assertIn("it does not answer", self.lines(LogLevel.warn)[0])

    def test_clock_is_set_back(self) -> None:
        """It is given up in time, too, when the clock is set back by hours meanwhile."""
        self.one.log.startService()
        steady = self.one.clock.seconds()
        keeping = Timekeeping(self.one.clock, [], self.one.clock.seconds, lambda: steady)
        keeping.startService()
        self.addCleanup(keeping.stopService)
        self.one.clock.rightNow -= 7200
        keeping.look()
        self.one.clock.pump([RETRY_SECONDS] * int(OPEN_SECONDS / RETRY_SECONDS))
        self.assertFalse(self.successResultOf(self.one.log.synced))

    def test_slow(self) -> None:
        """A Redis that answers is waited for longer, but not for ever, and not after it has failed."""
        self.one.log.startService()
        self.other.log.startService()
        for node in (self.one, self.other):
            node.redis.step()
            node.redis.step()
            node.clock.advance(OPEN_SECONDS + 1)
            self.assertNoResult(node.log.synced)
        self.one.clock.advance(SYNC_SECONDS - OPEN_SECONDS)
        self.assertFalse(self.successResultOf(self.one.log.synced))
        self.assertIn("getting everything takes too long", self.lines(LogLevel.warn)[0])
        self.other.redis.break_off()
        self.other.redis.away = True
        self.other.clock.advance(RETRY_SECONDS)
        self.assertFalse(self.successResultOf(self.other.log.synced))
        self.assertIn("it is gone", self.lines(LogLevel.warn)[1])
        self.one.settle()
        self.assertTrue(self.one.log.up)

    def test_outage(self) -> None:
        """Changes during an outage wait, the newest of each entry, and arrive when it is over; two lines say that."""
        self.start()
        self.one.put("a", b"1")
        self.settle()
        for node in (self.one, self.other):
            node.redis.away = True
            node.redis.break_off()
        for number in range(100):
            self.one.put("a", b"%d" % number)
            self.other.put("b", b"%d" % number)
        self.one.clock.pump([RETRY_SECONDS] * 20)
        self.other.clock.pump([RETRY_SECONDS] * 20)
        for node in (self.one, self.other):
            node.redis.away = False
            node.retry()
        self.settle()
        self.assert_same(a=b"99", b=b"99")
        self.assertEqual(len(self.redis.log), 3)
        self.assertEqual(len(self.lines(LogLevel.warn)), 4)

    def test_refused_writes(self) -> None:
        """A Redis that is full delays changes only, and is asked again."""
        self.start()
        self.one.put("a", b"1")
        waiting, _ = self.one.redis.waiting.pop()
        waiting.errback(RedisRefused("OOM command not allowed when used memory > 'maxmemory'"))
        self.assertFalse(self.one.log.up)
        self.one.redis.quiet()
        self.settle()
        self.assert_same(a=b"1")
        told = self.lines(LogLevel.warn)
        self.assertIn("raise its maxmemory", told[0])
        self.assertEqual(len(told), 2)

    def test_empty_redis(self) -> None:
        """A Redis that has lost everything is given it again, also that something was removed."""
        self.start()
        self.one.put("a", b"1")
        self.one.put("b", b"1")
        self.settle()
        self.other.crash()
        self.one.remove("b")
        self.one.settle()
        self.redis.lose_everything()
        self.one.redis.quiet()
        self.one.settle()
        self.other.start()
        self.settle()
        self.assert_same(a=b"1")

    def test_older_redis(self) -> None:
        """A Redis that has lost the last moments is given them again, in the same versions."""
        self.start()
        self.one.put("a", b"1")
        self.settle()
        before = dict(self.redis.entries)
        self.one.put("a", b"2")
        self.one.put("b", b"2")
        self.settle()
        after = dict(self.redis.entries)
        self.redis.entries = before
        for node in (self.one, self.other):
            node.redis.break_off()
            node.retry()
        self.settle()
        self.assert_same(a=b"2", b=b"2")
        self.assertEqual(self.redis.entries, after)

    def test_lasting_lost(self) -> None:
        """What Redis has lost and this node has no more is not taken for removed."""
        self.start()
        self.one.put("x", b"1", LASTING)
        self.settle()
        self.one.data[LASTING].clear()
        self.redis.lose_everything()
        self.one.redis.quiet()
        self.one.settle()
        self.assertEqual(self.redis.entries, {})
        self.other.redis.quiet()
        self.settle()
        self.assertEqual(self.redis.entries[LASTING, "x"].payload, b"1")

    def test_trimmed(self) -> None:
        """Who is so far behind that the log has lost lines compares everything."""
        self.start()
        self.one.put("lost", b"1")
        for number in range(5):
            self.one.put("a", b"%d" % number)
            self.one.settle()
        del self.redis.log[0]
        waiting, _ = self.other.redis.listening.pop()
        waiting.callback(self.redis.log)
        self.other.settle()
        self.assertEqual(self.other.data[PLAIN], {"a": b"4", "lost": b"1"})

    def test_compares_sometimes(self) -> None:
        """What was lost without a trace is noticed within an hour."""
        self.start()
        self.one.put("a", b"1")
        self.settle()
        self.redis.entries.clear()
        self.one.redis.quiet()
        self.one.settle()
        self.assertEqual(self.redis.entries, {})
        self.one.clock.advance(COMPARE_SECONDS + 1)
        self.one.redis.quiet()
        self.one.settle()
        self.assertEqual(set(self.redis.entries), {(PLAIN, "a")})

    def test_removed_long_ago(self) -> None:
        """That something was removed is forgotten after more than a year, and stays so."""
        self.start()
        self.one.put("a", b"1")
        self.one.remove("a")
        self.one.put("b", b"1")
        self.one.remove("b")
        self.settle()
        for node in (self.one, self.other):
            node.clock.advance(REMOVED_SECONDS + 100)
        for _ in range(3):
            for node in (self.one, self.other):
                node.clock.advance(COMPARE_SECONDS + 1)
                node.redis.quiet()
                node.settle()
        self.assertEqual(self.redis.entries, {})
        kept = self.successResultOf(self.one.store.open())
        self.assertEqual([record.name for record in kept.synced], ["epoch"])

    def test_away_for_long(self) -> None:
        """Who was away for longer than removals are remembered forgets what nobody else has any more."""
        self.start()
        for key in "ab":
            self.one.put(key, b"1")
        self.settle()
        self.other.crash()
        del self.redis.entries[PLAIN, "a"]
        self.other.clock.advance(REMOVED_SECONDS + 1)
        self.other.start()
        self.assertEqual(self.other.data[PLAIN], {"b": b"1"})

    def test_unreadable(self) -> None:
        """What this version does not understand stays as it is in Redis, and what is known here counts here."""
        self.start()
        self.one.put("a", b"1")
        self.settle()
        self.other.crash()
        self.one.put("a", b"unreadable")
        self.one.settle()
        self.other.start()
        self.assertEqual(self.other.data[PLAIN], {"a": b"1"})
        self.other.crash()
        self.other.start()
        self.settle()
        self.assertEqual(self.redis.entries[PLAIN, "a"].payload, b"unreadable")

    def test_overwritten(self) -> None:
        """A change gets through where what Redis has cannot be read."""
        self.start()
        for kind in (PLAIN, FIRST):
            self.redis.entries[kind, "a"] = Found("8" * 27, b"x")
            self.one.redis.fetch = lambda places: self.one.redis._ask("fetch", dict)  # type: ignore[method-assign]
            self.one.put("a", b"1", kind)
            self.one.settle()
            self.assertEqual(self.redis.entries[kind, "a"].payload, b"1")

    def test_unknown_kind(self) -> None:
        """What a later version shares beside is left alone."""
        self.redis.entries["later", "x"] = Found("1" * 27, b"?")
        self.start()
        self.redis.entries["later", "y"] = Found("1" * 27, b"?")
        self.one.put("a", b"1")
        self.settle()
        self.assertEqual(len(self.redis.entries), 3)
        self.assertEqual(self.other.taken, [(PLAIN, "a", b"1")])

    def test_failing_part(self) -> None:
        """One part that fails takes no other one down, and is given the same again."""
        self.start()
        failing = [True]

        def take_in(payloads: Mapping[str, bytes | None]) -> list[str]:
            if failing:
                failing.pop()
                raise RuntimeError("a bug")
            return list(payloads)

        self.other.log.share(Kind("failing", take_in, dict))
        self.one.log.share(Kind("failing", take_in, dict))
        self.one.log.put("failing", "x", b"1")
        self.one.put("a", b"1")
        self.settle()
        self.assert_same(a=b"1")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.other.redis.break_off()
        self.other.retry()
        self.assertIsNotNone(self.other.log._copy.base(("failing", "x")))

    def test_too_large(self) -> None:
        """What is too large counts here alone, and the log says so."""
        self.start()
        self.one.put("a", bytes(1 << 19))
        self.one.put("k" * 5000, b"1")
        self.settle()
        self.assertEqual(self.redis.entries, {})
        self.assertEqual(["too large to be shared" in line for line in self.lines(LogLevel.warn)], [True, True])

    def test_restored(self) -> None:
        """What the store has and cannot be a version is ignored."""
        self.one.log.restore([Synced(PLAIN, "a", "soon", "1"), Synced("", "epoch", "", "1")])
        self.start()
        self.assertEqual(self.one.log._copy.base((PLAIN, "a")), None)

    def test_stop(self) -> None:
        """A change is told before the end, if Redis takes it in time."""
        self.start()
        self.one.put("a", b"1")
        stopping = self.one.log.stopService()
        self.assertNoResult(stopping)
        self.one.redis.step()
        self.successResultOf(stopping)
        self.assertEqual(self.redis.entries[PLAIN, "a"].payload, b"1")
        self.other.redis.waiting.clear()
        self.other.put("b", b"1")
        stopping = self.other.log.stopService()
        self.other.clock.advance(1)
        self.successResultOf(stopping)
        self.assertEqual([*self.one.clock.getDelayedCalls(), *self.other.clock.getDelayedCalls()], [])
        self.assertEqual(self.lines(LogLevel.warn), [])

    def test_stop_before_start(self) -> None:
        """A node that stops before it has begun, or before it was in step, is not waited for."""
        self.successResultOf(self.one.log.stopService())
        self.one.log.startService()
        self.successResultOf(self.one.log.stopService())
        self.assertFalse(self.successResultOf(self.one.log.synced))
        self.assertEqual(self.one.clock.getDelayedCalls(), [])


class ConvergenceTests(SynchronousTestCase):
    """Whatever happens in whatever order: in the end all nodes have the same."""

    keys: ClassVar[list[str]] = ["a", "b", "c"]
    acts = st.sampled_from(
        [
            *["put"] * 3,
            "remove",
            *["step"] * 4,
            "unanswered",
            *["hear"] * 2,
            "quiet",
            "break",
            "crash",
            "edit",
            "lose",
            "retry",
        ]
    )

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(
            st.tuples(acts, st.integers(0, 2), st.integers(0, 2), st.sampled_from([PLAIN, PLAIN, FIRST])),
            min_size=30,
            max_size=100,
        ),
        st.tuples(*[st.floats(-30, 30)] * 3),
    )
    def test_converge(self, acts: list[tuple[str, int, int, str]], skews: tuple[float, float, float]) -> None:
        """All nodes and Redis agree, and a version in Redis is never replaced by an older one."""
        redis = MemoryRedis()
        nodes = [MemoryNode(redis, number) for number in range(3)]
        for node, skew in zip(nodes, skews, strict=True):
            node.clock.rightNow += skew
            node.start()
        for number, (act, which, key_number, kind) in enumerate(acts):
            node, key, value = nodes[which], self.keys[key_number], b"%d" % number
            before = dict(redis.entries)
            node.clock.advance(0.01)
            if act == "put":
                node.put(key, value, kind)
            elif act == "remove":
                node.remove(key, kind)
            elif act in ("step", "unanswered") and node.redis.waiting:
                node.redis.step(key_number % len(node.redis.waiting), act == "step")
            elif act == "hear":
                node.redis.hear()
            elif act == "quiet":
                node.redis.quiet()
            elif act == "break":
                node.redis.break_off()
            elif act == "crash":
                node.crash()
                node.log.startService()
                self.some(node, key_number)
            elif act == "edit":
                node.crash()
                node.changed = node.clock.seconds()
                node.data[kind][key] = value
                node.log.startService()
                self.some(node, key_number)
            elif act == "retry":
                node.clock.advance(RETRY_SECONDS)
                self.some(node, key_number)
            elif act == "lose":
                redis.lose_everything()
                continue
            for place, found in before.items():
                self.assertGreaterEqual(redis.entries[place].version, found.version)
        self.finish(nodes)
        for kind in (PLAIN, FIRST):
            there = {place[1]: found.payload for place, found in redis.entries.items() if place[0] == kind}
            expected = {key: payload for key, payload in there.items() if payload is not None}
            for node in nodes:
                self.assertEqual(node.data[kind], expected, f"node {node.number}, {kind}")
        for node in nodes:
            self.assertEqual(node.log._copy.pending, {})
            for call in node.clock.getDelayedCalls():
                call.cancel()

    def some(self, node: MemoryNode, few: int) -> None:
        """Do a little, or about all that has to be done to be in step."""
        for _ in range((2, 5, 50)[few]):
            if node.redis.waiting:
                node.redis.step()

    def finish(self, nodes: list[MemoryNode]) -> None:
        """Let everything that is under way come to its end."""
        for _ in range(6):
            for node in nodes:
                node.settle()
                node.redis.quiet()
                node.settle()
                node.retry()


class Case(TestCase):
    """Nodes with a real Redis, and the time as it is."""

    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.server = RedisServer(self, keeps=True)
        self.nodes = [self.make_node(number) for number in range(3)]

    def make_node(self, number: int) -> Node:
        """Make a node that is not started."""
        redis = SharedRedis(reactor, RedisSettings(self.server.unix_endpoint), "server")
        node = Node(reactor, redis, number)
        node.changed = time.time()
        return node

    async def tearDown(self) -> None:  # type: ignore[override]  # trial takes a coroutine
        for node in self.nodes:
            await node.log.stopService()

    async def start(self, *nodes: Node) -> None:
        """Start nodes, all by default; they are in step afterwards."""
        for node in nodes or self.nodes:
            node.log.startService()
        for node in nodes or self.nodes:
            self.assertTrue(await node.log.synced)

    async def restart(self, node: Node, between: Callable[[], object] = lambda: None) -> None:
        """Stop a node and start it again."""
        await node.log.stopService()
        between()
        node.changed = time.time()
        node.make()
        await self.start(node)

    async def everywhere(self, seconds: float, **data: bytes) -> float:
        """Wait until all nodes that run have just that, and say how long that took."""
        begin = time.monotonic()
        while any(node.log.running and node.data[PLAIN] != data for node in self.nodes):
            self.assertLess(time.monotonic() - begin, seconds, [node.data[PLAIN] for node in self.nodes])
            await self.sleep(0.001)
        return time.monotonic() - begin

    async def in_step(self) -> None:
        """Wait until all nodes are in step again."""
        begin = time.monotonic()
        while not all(node.log.up for node in self.nodes):
            self.assertLess(time.monotonic() - begin, 10)
            await self.sleep(0.01)

    def sleep(self, seconds: float) -> Deferred[None]:
        """Wait."""
        return deferLater(IReactorTime(reactor), seconds)


class RedisTests(Case):
    async def test_fast(self) -> None:
        """A change is everywhere within 100 ms, as long as the machine has time for it."""
        await self.start()
        times = []
        for number in range(20):
            self.nodes[number % 3].put("a", b"%d" % number)
            times.append(await self.everywhere(5, a=b"%d" % number))
        self.assertLess(sorted(times)[10], 0.1)
        self.nodes[0].remove("a")
        await self.everywhere(5)
        self.assertEqual(self.lines(LogLevel.warn), [])

    async def test_down_and_back(self) -> None:
        """A node that was down has all changes when it is back, a thousand as well as one."""
        await self.start()
        self.nodes[0].put("old", b"1")
        await self.everywhere(2, old=b"1")
        await self.nodes[2].log.stopService()
        data = {f"key {number} ä\ud800": bytes([number % 256]) * number for number in range(1000)}
        for key, payload in data.items():
            self.nodes[0].put(key, payload)
        self.nodes[1].remove("old")
        await self.everywhere(10, **data)
        self.nodes[2].make()
        await self.start(self.nodes[2])
        self.assertEqual(self.nodes[2].data[PLAIN], data)

    async def test_offline(self) -> None:
        """What was changed while a node was stopped is on all nodes when it has started."""
        await self.start()
        self.nodes[0].put("a", b"1")
        self.nodes[0].put("b", b"1")
        await self.everywhere(2, a=b"1", b=b"1")

        def change() -> None:
            self.nodes[1].data[PLAIN] = {"a": b"2", "c": b"3"}

        await self.restart(self.nodes[1], change)
        await self.everywhere(2, a=b"2", c=b"3")

    async def test_both(self) -> None:
        """If others have changed the same meanwhile, the later change counts on all nodes."""
        await self.start()
        self.nodes[0].put("a", b"1")
        await self.everywhere(2, a=b"1")
        await self.nodes[1].log.stopService()
        self.nodes[1].data[PLAIN]["a"] = b"here"
        self.nodes[1].changed = time.time()
        await self.sleep(0.01)
        self.nodes[0].put("a", b"there")
        await self.sleep(0.05)
        self.nodes[1].make()
        await self.start(self.nodes[1])
        await self.everywhere(2, a=b"there")
        self.assertIn("the change there is the newer one", "".join(self.lines(LogLevel.warn)))

    async def test_killed(self) -> None:
        """A Redis that is killed, and comes back with everything or with nothing, is as if nothing had happened."""
        await self.start()
        self.nodes[0].put("a", b"1")
        self.nodes[0].put("b", b"1")
        self.nodes[0].put("x", b"1", LASTING)
        await self.everywhere(2, a=b"1", b=b"1")
        for empty in (False, True):
            self.server.kill()
            self.nodes[1].put("a", b"%d" % empty)
            self.nodes[2].remove("b")
            await self.sleep(0.3)
            if empty:
                shutil.rmtree(self.server.folder / "appendonlydir")
            self.server.start()
            await self.in_step()
            await self.everywhere(5, a=b"%d" % empty)
            self.assertEqual(self.server.shell("HLEN", "taky:server:shared:payloads"), 2)
        told = self.lines(LogLevel.warn)
        self.assertEqual(len(told), 12, "\n".join(told))

    async def test_flushed(self) -> None:
        """A Redis that somebody empties has everything again within a few seconds."""
        await self.start()
        data = {str(number): b"1" for number in range(150)}
        for key, payload in data.items():
            self.nodes[0].put(key, payload)
        await self.everywhere(5, **data)
        self.server.shell("FLUSHALL")
        begin = time.monotonic()
        while self.server.shell("HLEN", "taky:server:shared:payloads") != 150:
            self.assertLess(time.monotonic() - begin, 15)
            await self.sleep(0.05)

    async def test_evicted(self) -> None:
        """A Redis that has thrown a part of it away has that again within a few seconds."""
        await self.start(*self.nodes[:2])
        for key in "ab":
            self.nodes[0].put(key, b"1")
        await self.everywhere(5, a=b"1", b=b"1")
        await self.nodes[1].log.stopService()
        self.nodes[0].put("a", b"2")
        await self.nodes[0].log.flush()
        for key in ("payloads", "versions"):
            self.server.shell("DEL", f"taky:server:shared:{key}")
            begin = time.monotonic()
            while self.server.shell("HLEN", f"taky:server:shared:{key}") != 2:
                self.assertLess(time.monotonic() - begin, 10)
                await self.sleep(0.05)
        self.nodes[1].make()
        await self.start(*self.nodes[1:])
        await self.everywhere(5, a=b"2", b=b"1")

    async def test_hangs(self) -> None:
        """A Redis that hangs for some seconds loses no change, and a late write does not replace a newer one."""
        await self.start()
        self.nodes[0].put("a", b"1")
        await self.everywhere(2, a=b"1")
        self.server.pause()
        self.nodes[0].put("a", b"2")
        await self.sleep(2.5)
        self.assertFalse(self.nodes[0].log.up)
        self.nodes[0].put("a", b"3")
        self.server.resume()
        await self.in_step()
        await self.everywhere(5, a=b"3")

    async def test_full(self) -> None:
        """A Redis that is full is said to be so; when it has room again the changes arrive."""
        await self.start()
        self.server.shell("CONFIG", "SET", "maxmemory", "1")
        self.nodes[0].put("a", b"1")
        await self.sleep(1.0)
        self.assertIn("maxmemory", "".join(self.lines(LogLevel.warn)))
        self.server.shell("CONFIG", "SET", "maxmemory", "0")
        await self.everywhere(10, a=b"1")

    async def test_full_at_start(self) -> None:
        """A node that starts while Redis is full has what is in it all the same, with changes of its own or without."""
        await self.start()
        await self.nodes[2].log.stopService()
        self.nodes[0].put("a", b"1")
        await self.everywhere(2, a=b"1")
        self.server.shell("CONFIG", "SET", "maxmemory", "1")
        self.nodes[2].make()
        await self.start(self.nodes[2])
        await self.restart(self.nodes[1])
        await self.nodes[2].log.stopService()
        self.nodes[2].data[PLAIN] = {"b": b"2"}
        self.nodes[2].store = MemoryStore(self.nodes[2].clock)
        self.nodes[2].make()
        self.nodes[2].log.startService()
        self.assertFalse(await self.nodes[2].log.synced)
        self.assertEqual(self.nodes[2].data[PLAIN], {"a": b"1", "b": b"2"})
        self.server.shell("CONFIG", "SET", "maxmemory", "0")
        await self.everywhere(10, a=b"1", b=b"2")

    async def test_no_redis(self) -> None:
        """A node that starts without Redis has its last copy after five seconds, and the rest when Redis is there."""
        self.server.kill()
        self.nodes[0].data[PLAIN] = {"a": b"1"}
        begin = time.monotonic()
        self.nodes[0].log.startService()
        self.assertFalse(await self.nodes[0].log.synced)
        self.assertLess(time.monotonic() - begin, OPEN_SECONDS + 10)
        self.assertIn("serves its last copy", self.lines(LogLevel.warn)[0])
        self.server.start()
        await self.start(*self.nodes[1:])
        await self.everywhere(5, a=b"1")
