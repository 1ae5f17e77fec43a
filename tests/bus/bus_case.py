"""Nodes on a clock, joined by a Redis in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.redis_bus import RedisBus
from taky_twisted.config.values import RedisSettings
from tests.bus.ear import Ear
from tests.bus.fake_redis import FakeServer
from tests.fakes import LogLines
from tests.samples import NOW

STEP_SECONDS = 0.001
SETTINGS = RedisSettings("tcp:localhost:6379")


class OneBus:
    """A node's end of the bus, and what it hears."""

    def __init__(self, clock: Clock, server: FakeServer, name: str, counts: Mapping[str, int]) -> None:
        self.name, self.ear = name, Ear()
        self.count: Callable[[], Mapping[str, int]] = lambda: counts
        self.bus = RedisBus(clock, SETTINGS, "site", name, "1.0", self.ear, lambda: self.count(), server.connect)
        self.writer, self.reader = server.connections[-2:]
        self.tell = self.bus.tell

    @property
    def heard(self) -> list[int]:
        """The numbers that it heard from others."""
        return [number for numbers in self.ear.numbers.values() for number in numbers]

    @property
    def names(self) -> list[str]:
        """The other nodes that it knows."""
        return sorted(node.name for node in self.bus.nodes)


class BusCase(SynchronousTestCase):
    """Some nodes; nothing takes real time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.log = LogLines(self)
        self.server = FakeServer(self.clock)
        self.nodes: list[OneBus] = []

    def tearDown(self) -> None:
        for node in self.nodes:
            if node.bus.running:
                node.bus.stopService()
        self.run_for(5.0, 0.1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def node(self, name: str = "a", **counts: int) -> OneBus:
        """Start a node."""
        node = OneBus(self.clock, self.server, name, counts)
        self.nodes.append(node)
        node.bus.startService()
        return node

    def pair(self) -> tuple[OneBus, OneBus]:
        """Start two nodes that know each other."""
        a, b = self.node("a"), self.node("b")
        self.run_for(1.1)
        self.assertEqual((a.names, b.names), (["b"], ["a"]))
        a.ear.take(), b.ear.take()
        return a, b

    def run_for(self, seconds: float, step: float = STEP_SECONDS) -> None:
        """Let time pass, as the reactor would see it."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - step / 2:
            self.clock.advance(step)
