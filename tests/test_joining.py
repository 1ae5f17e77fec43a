from __future__ import annotations

import os
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from taky_twisted import joining
from taky_twisted.config import Settings
from taky_twisted.config.limits import Limits
from taky_twisted.joining import MARK_NAME, Joining, join_nodes
from taky_twisted.routing.router import Router
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.streaming.connections import Connections
from taky_twisted.timekeeping import Timekeeping
from tests.fakes import LogLines, MemorySink, principal
from tests.redis_server import RedisServer
from tests.samples import event, marker, sa


class JoiningTests(TestCase):
    def setUp(self) -> None:
        self.log = LogLines(self)
        self.redis = RedisServer(self)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.kicked: list[tuple[str, str]] = []

    async def join(self, name: str) -> Joining:
        """Start a node, and wait until its doors would open."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        router = Router(reactor, MemoryStore(reactor), Limits())
        joined = Joining(
            reactor,
            Settings(bus_endpoint=self.redis.endpoint),
            folder,
            router,
            lambda who, why: self.kicked.append((who, why)),
            dict,
            None,
        )
        self.addCleanup(router.contacts.save)  # ends its timer
        self.addCleanup(router.stop)
        self.addCleanup(lambda: Deferred.fromCoroutine(joined.finish()))
        await joined.prepare()
        return joined

    async def test_clock_is_set_back(self) -> None:
        """A node whose clock is set back by hours while it starts opens its doors when it would have."""
        joined = await self.join("a")
        clock, steady = Clock(), 0.0
        clock.rightNow = 1e9
        keeping = Timekeeping(clock, [], clock.seconds, lambda: steady)
        await keeping.prepare()
        self.addCleanup(keeping.stopService)
        joined._reactor = clock
        self.patch(joining, "ALONE_SECONDS", 1.0)
        ready = Deferred.fromCoroutine(joined._know_the_same())
        clock.rightNow -= 7200
        keeping.look()
        clock.pump([joining.LOOK_SECONDS] * 60)
        joined._reactor = reactor
        self.assertTrue(ready.called)

    async def test_two(self) -> None:
        """A node opens its doors when it knows who is connected to the other one, and what is on the map."""
        a = await self.join("a")
        client = a.nodes._router.subscribe(principal("alpha"), MemorySink(), "peer")
        client.publish(event(sa("A", "A")))
        client.publish(event(marker("M1", now=reactor.seconds())))
        b = await self.join("b")
        self.assertIsNotNone(b.nodes._router.retained.get("M1"))
        contact = b.nodes._router.contacts.get("A")
        self.assertTrue(contact is not None and contact.present)
        self.assertEqual([node.name for node in b.bus.nodes], [Settings().node_name])

    async def test_alone(self) -> None:
        """The first of all nodes waits no longer than it takes to hear others."""
        began = reactor.seconds()
        await self.join("a")
        self.assertLess(reactor.seconds() - began, 3)
        self.assertEqual(self.log(LogLevel.warn), [])

    async def test_without_redis(self) -> None:
        """Without Redis a node opens its doors after a few seconds all the same, and says so."""
        self.patch(joining, "READY_SECONDS", 0.3)
        self.redis.stop()
        await self.join("a")
        self.assertIn("opens its doors without the others", self.log(LogLevel.warn)[-1])

    async def test_mark(self) -> None:
        """Until when the others were heard is remembered over a restart; a node without a mark has none."""
        self.patch(joining, "MARK_SECONDS", 0.05)
        a = await self.join("a")
        self.assertEqual(a.nodes.exchange._left_off, 0.0)
        mark = self.folder / "a" / MARK_NAME
        while not mark.exists():
            await deferLater(reactor, 0.02)
        self.assertEqual(mark.stat().st_mode & 0o777, 0o600)
        await a.finish()
        os.utime(mark, (5e8, 5e8))
        again = await self.join("a")
        self.assertEqual(again.nodes.exchange._left_off, 5e8)

    async def test_no_mark_without_redis(self) -> None:
        """While nobody is heard nothing is noted."""
        self.patch(joining, "READY_SECONDS", 0.1)
        self.redis.stop()
        a = await self.join("a")
        self.assertIsNone(a._note())

    async def test_never_begun(self) -> None:
        """A node that never began ends at once."""
        a = Joining(reactor, Settings(bus_endpoint="tcp:127.0.0.1:1"), Path(), self.router(), print, dict, None)
        await a.finish()

    def router(self) -> Router:
        return Router(reactor, MemoryStore(reactor), Limits())

    async def test_wired(self) -> None:
        """A kick on one node ends the connections of that name on another; its numbers are told."""
        limits = Limits()
        connections = Connections(reactor, limits)
        b = join_nodes(
            reactor, Settings(bus_endpoint=self.redis.endpoint), self.folder, self.router(), connections, None
        )
        closed: list[str] = []
        self.patch(connections, "close_named", lambda name, why: closed.append(name))
        self.addCleanup(lambda: Deferred.fromCoroutine(b.finish()))
        await b.prepare()
        a = await self.join("a")
        while not a.bus.nodes or not a.bus.nodes[0].counts:
            await deferLater(reactor, 0.02)
        self.assertEqual(dict(a.bus.nodes[0].counts), {"streams": 0, "http": 0})
        a.nodes.kick("mallory", "banned")
        while not closed:
            await deferLater(reactor, 0.02)
        self.assertEqual((closed, self.kicked), (["mallory"], []))
