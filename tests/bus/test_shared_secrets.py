from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.bus.shared_redis import SharedRedis
from taky_twisted.bus.shared_secrets import Secret, SharedSecrets
from taky_twisted.stores.memory import MemoryStore
from tests.bus.memory_redis import MemoryRedis, MemorySharedRedis
from tests.fakes import LogLines
from tests.threaded_clock import ThreadedClock


class Node:
    """One node with a folder of its own."""

    def __init__(self, redis: MemoryRedis, folder: Path) -> None:
        folder.mkdir()
        self.clock = ThreadedClock()
        self.redis = MemorySharedRedis(redis)
        self.path = folder / "key"
        self.taken: list[bytes] = []
        self.log = SharedLog(self.clock, cast(SharedRedis, self.redis), MemoryStore(self.clock))
        secret = Secret(self.path, lambda content: content != b"bad", self.taken.append)
        self.secrets = SharedSecrets(self.clock, self.log, {"key": secret})

    def start(self) -> None:
        """Begin."""
        self.clock.wait(Deferred.fromCoroutine(self.secrets.begin()))
        self.log.startService()
        self.settle()

    def settle(self) -> None:
        """Do all that can be done."""
        while self.redis.waiting or self.redis.hear() or self.log._taking.locked:
            while self.redis.waiting:
                self.redis.step()
            if self.log._taking.locked:
                self.clock.run_one()


class SharedSecretsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.redis = MemoryRedis()
        self.one, self.other = (Node(self.redis, Path(self.mktemp()).absolute()) for _ in range(2))

    def tearDown(self) -> None:
        for node in (self.one, self.other):
            node.log.stopService()
            node.secrets.end()

    def test_there(self) -> None:
        """Who comes later takes over what the first node has, readable by nobody else."""
        self.one.path.write_bytes(b"first")
        self.other.path.write_bytes(b"second")
        self.one.start()
        self.other.start()
        self.assertEqual(self.other.path.read_bytes(), b"first")
        self.assertEqual(self.other.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual((self.one.taken, self.other.taken), ([], [b"first"]))

    def test_made(self) -> None:
        """Of two that are made at the same time the first one counts, for both nodes."""
        self.one.start()
        self.other.start()
        for node, content in ((self.one, b"one"), (self.other, b"other")):
            node.path.write_bytes(content)
            node.secrets.made("key", content)
        self.one.settle()
        self.other.settle()
        self.assertEqual(self.other.path.read_bytes(), b"one")
        self.assertEqual((self.one.taken, self.other.taken), ([], [b"one"]))

    def test_made_too_late(self) -> None:
        """What another node's overtook while it was being made is not told."""
        self.one.start()
        self.other.start()
        self.one.secrets.made("key", b"one")
        self.one.settle()
        self.other.settle()
        self.other.secrets.made("key", b"other")
        self.other.settle()
        self.assertEqual(self.other.taken, [b"one", b"one"])
        self.assertEqual([found.payload for found in self.redis.entries.values()], [b"one"])

    def test_made_meanwhile(self) -> None:
        """What is made just while another node's is being written gives way to that, here and everywhere."""
        self.one.start()
        self.other.start()
        self.one.secrets.made("key", b"one")
        self.one.settle()
        while not self.other.log._taking.locked:
            if self.other.redis.waiting:
                self.other.redis.step()
            else:
                self.other.redis.hear()
        while self.other.redis.waiting:
            self.other.redis.step()
        self.other.path.write_bytes(b"other")
        self.other.secrets.made("key", b"other")
        for _ in range(3):
            self.other.settle()
            self.one.settle()
        self.assertEqual([found.payload for found in self.redis.entries.values()], [b"one"])
        self.assertEqual((self.one.taken, self.other.taken), ([], [b"one"]))
        self.assertEqual(self.other.log._copy.pending, {})

    def test_bad(self) -> None:
        """What cannot be such a file is neither told nor taken, and what is not known here is left alone."""
        self.one.path.write_bytes(b"bad")
        self.one.start()
        self.assertEqual(self.redis.entries, {})
        self.one.log.put("secrets", "key", b"bad")
        self.one.log.put("secrets", "later", b"x")
        self.one.settle()
        self.other.start()
        self.assertEqual((self.other.taken, self.other.path.exists()), ([], False))

    def test_disk(self) -> None:
        """A file that cannot be read or written is named, and does not count as taken."""
        self.one.path.mkdir()
        self.one.start()
        self.assertIn("cannot be read", self.lines(LogLevel.warn)[0])
        self.other.path.write_bytes(b"other")
        self.other.start()
        self.one.settle()
        self.assertIn("cannot be written", self.lines(LogLevel.warn)[1])
        self.assertEqual(self.one.taken, [])
