"""Nodes joined by a real Redis, which is killed, paused, emptied and filled while they talk."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from taky_twisted.bus import trimming
from taky_twisted.bus.redis_bus import RedisBus
from taky_twisted.config.values import RedisSettings
from taky_twisted.routing.words import Said
from tests.bus.ear import Ear, kick, left, said
from tests.fakes import LogLines
from tests.redis_server import RedisServer

EVERY = 5
"""Each fifth word is one that waits while Redis is away."""


class OneNode:
    """A node; what it says is numbered."""

    def __init__(self, settings: RedisSettings, name: str) -> None:
        self.ear = Ear()
        self.bus = RedisBus(reactor, settings, "site", name, "1.0", self.ear, lambda: {"clients": 1})
        self.said = 0

    def say(self, count: int = 1) -> None:
        """Tell the next words."""
        for _ in range(count):
            self.bus.tell(left(self.said) if self.said % EVERY else kick(self.said))
            self.said += 1


class RedisBusTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.log = LogLines(self)
        self.redis = RedisServer(self)
        self.nodes: list[OneNode] = []
        self.talking = LoopingCall(self.talk)

    async def start(self, *names: str, settings: RedisSettings | None = None) -> list[OneNode]:
        """Start nodes that know each other."""
        started = []
        for name in names:
            node = OneNode(settings or RedisSettings(self.redis.unix_endpoint), name)
            self.nodes.append(node)
            started.append(node)
            node.bus.startService()
            self.addCleanup(self.stop, node)
            await node.bus.started
        await self.until(lambda: all(len(node.bus.nodes) == len(self.nodes) - 1 for node in self.nodes))
        return started

    async def stop(self, node: OneNode) -> None:
        """Stop a node, if it was not stopped already."""
        if node.bus.running:
            await node.bus.stopService()

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> float:
        """Wait until something is so; say how long that took."""
        begun = time.monotonic()
        while not condition():
            self.assertLess(time.monotonic() - begun, seconds, "it did not come to that")
            await deferLater(reactor, 0.01)
        return time.monotonic() - begun

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await deferLater(reactor, seconds)

    def talk(self) -> None:
        """Have each node say something."""
        for node in self.nodes:
            node.say()

    def assert_in_order(self) -> None:
        """Everybody has heard what everybody else said: in its order, nothing twice, and all that can wait."""
        for node in self.nodes:
            for other in self.nodes:
                if node is not other:
                    heard = node.ear.numbers.get(other.bus.instance, [])
                    self.assertEqual(heard, sorted(set(heard)), "out of order, or twice")
                    lost = set(range(0, other.said, EVERY)) - set(heard)
                    self.assertEqual(lost, set(), f"{node.bus.tally} {other.bus.tally}")

    async def talk_through(self, *steps: Callable[[], object], seconds: float = 1.0) -> None:
        """Talk, 200 words a second each, and do things meanwhile; then let everything arrive."""
        done = self.talking.start(0.005)
        for step in steps:
            await self.sleep(seconds)
            step()
        await self.sleep(seconds)
        await self.until(lambda: all(node.bus.up for node in self.nodes), 5.0)
        await self.sleep(0.3)
        self.talking.stop()
        await done
        await self.until(
            lambda: all(
                node.ear.numbers[other.bus.instance][-1] == other.said - 1
                for node in self.nodes
                for other in self.nodes
                if node is not other
            )
        )

    async def test_order(self) -> None:
        """Three nodes: each word arrives at both others, once, in order, soon."""
        nodes = await self.start("a", "b", "c")
        for _ in range(200):
            for node in nodes:
                node.say(10)
            await self.sleep(0.001)
        await self.until(lambda: all(len(node.ear.words) == 4000 for node in nodes))
        self.assert_in_order()
        self.assertEqual([node.bus.tally.gaps + node.bus.tally.doubled for node in nodes], [0, 0, 0])
        a, b, _ = nodes
        await self.sleep(0.1)
        begun = time.monotonic()
        b.ear.on_word = lambda word: self.assertLess(time.monotonic() - begun, 0.5)
        a.bus.tell(Said(said().speaker, said().event))
        await self.until(lambda: isinstance(b.ear.words[-1], Said))

    async def test_killed_and_empty(self) -> None:
        """Redis is killed and comes back empty: what can wait is not lost, and nothing is heard twice."""
        await self.start("a", "b", "c")
        await self.talk_through(self.redis.kill, self.redis.start)
        self.assert_in_order()
        for node in self.nodes:
            self.assertEqual(node.ear.lost, [])
            self.assertEqual([call for call in node.ear.told if call[0] == "back"], [("back",)] * 2)
            self.assertEqual([call for call in node.ear.told if call[0] == "gone"], [])
        self.assertEqual(len(self.log(LogLevel.warn)), 3)

    async def test_paused(self) -> None:
        """Redis hangs for some seconds: what it may have taken is sent again, and counts once."""
        await self.start("a", "b")
        await self.talk_through(self.redis.pause, lambda: None, lambda: None, lambda: None, self.redis.resume)
        self.assert_in_order()
        self.assertEqual([node.bus.tally.outages for node in self.nodes], [1, 1])
        self.assertGreater(sum(node.bus.tally.resent for node in self.nodes), 0)

    async def test_hiccup(self) -> None:
        """Redis hangs for less than two seconds: nothing is lost at all."""
        await self.start("a", "b")
        await self.talk_through(self.redis.pause, self.redis.resume)
        self.assert_in_order()
        for node in self.nodes:
            self.assertEqual((node.bus.tally.outages, len(node.ear.words)), (0, node.said))

    async def test_connections_cut(self) -> None:
        """Connections are cut, again and again: it is as if Redis had been away for a moment."""
        await self.start("a", "b")

        def cut() -> None:
            self.redis.shell("CLIENT", "KILL", "TYPE", "normal")

        await self.talk_through(*[cut] * 8, seconds=0.3)
        self.assert_in_order()

    async def test_flushed(self) -> None:
        """Somebody empties Redis: what was in it is missed, and that is noticed; what comes after is heard."""
        await self.start("a", "b")

        def flush() -> None:
            self.redis.shell("FLUSHALL")

        await self.talk_through(*[flush] * 10, seconds=0.1)
        for node, other in (self.nodes, self.nodes[::-1]):
            heard = node.ear.numbers[other.bus.instance]
            self.assertEqual(heard, sorted(set(heard)))
            lost = other.said - len(heard)
            self.assertLess(lost, 100)
            self.assertEqual(lost > 0, ("missed", other.bus.instance) in node.ear.told)

    async def test_full(self) -> None:
        """Redis that is full takes no words; when there is room again it goes on."""
        await self.start("a", "b")
        await self.talk_through(
            lambda: self.redis.shell("CONFIG", "SET", "maxmemory", "1"),
            lambda: self.redis.shell("CONFIG", "SET", "maxmemory", "0"),
        )
        self.assert_in_order()
        self.assertEqual([node.bus.tally.gaps + node.bus.tally.doubled for node in self.nodes], [0, 0])
        self.assertIn("raise its maxmemory", self.log(LogLevel.warn)[0])

    async def test_bye(self) -> None:
        """Who stops says so; its last words are heard before."""
        a, b = await self.start("a", "b")
        a.say(7)
        await a.bus.stopService()
        await self.until(lambda: b.ear.told[-1] == ("gone", "a", True), 10.0)
        self.assertEqual(b.ear.numbers[a.bus.instance], list(range(7)))

    async def test_killed_node(self) -> None:
        """A node that dies is gone within ten seconds; one that is there is not, however little it says."""
        a, b, c = await self.start("a", "b", "c")
        a.bus._telling._ticking.stop()
        a.bus._listening.stop()
        for redis in a.bus._redis:
            await redis.stopService()
        self.nodes.remove(a)
        took = await self.until(lambda: len(b.bus.nodes) == len(c.bus.nodes) == 1, 10.0)
        self.assertGreater(took, 3.5)
        self.assertIn(("gone", "a", False), b.ear.told)
        await self.sleep(1.0)
        self.assertEqual((b.bus.nodes[0].name, c.bus.nodes[0].name), ("c", "b"))

    async def test_bounded(self) -> None:
        """However much is said, Redis holds little of it, and who reads along misses nothing."""
        self.patch(trimming, "MAX_OWN_BYTES", 2 << 20)
        a, b = await self.start("a", "b")
        for _ in range(200):
            for _ in range(100):
                a.bus.tell(said())
            a.say()
            await self.sleep(0.002)
        await self.until(lambda: len(b.ear.numbers[a.bus.instance]) == a.said, 60)
        await self.sleep(0.5)
        self.assertGreater(a.bus.tally.told, 20_000)
        self.assertEqual(b.bus.tally.gaps, 0)
        self.assertLess(self.redis.shell("MEMORY", "USAGE", "taky:site:bus", "SAMPLES", "0"), 3 << 20)
        self.assertLess(0, self.redis.shell("TTL", "taky:site:bus"))

    async def test_rights(self) -> None:
        """The bus needs few rights, and only on its own key."""
        rules = "bus on >secret ~taky:site:bus +xadd +xread +expire +select +ping"
        self.redis.shell("ACL", "SETUSER", *rules.split())
        settings = RedisSettings(self.redis.endpoint, user="bus", password="secret")
        a, b = await self.start("a", "b", settings=settings)
        a.say(3)
        await self.until(lambda: len(b.ear.words) == 3)
        self.assertEqual(self.log(LogLevel.warn), [])

    async def test_without(self) -> None:
        """A node starts without Redis, in five seconds, and joins the others when it is there."""
        self.redis.kill()
        node = OneNode(RedisSettings(self.redis.unix_endpoint), "a")
        self.addCleanup(self.stop, node)
        begun = time.monotonic()
        node.bus.startService()
        await node.bus.started
        self.assertLess(time.monotonic() - begun, 10.0)
        self.assertFalse(node.bus.up)
        self.redis.start()
        await self.until(lambda: node.bus.up, 5.0)
        self.assertEqual(node.ear.told, [("back",)])
