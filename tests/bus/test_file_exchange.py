from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from taky_twisted.bus import file_exchange
from taky_twisted.bus.file_exchange import MAX_ANSWERS, PIECE_BYTES, FileExchange
from taky_twisted.config.values import RedisSettings
from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.errors import NoSuchFile
from taky_twisted.interfaces import Node
from taky_twisted.redis_client import RedisAway
from taky_twisted.routing.words import Wanted, Word
from tests.fakes import LogLines
from tests.redis_server import RedisServer

SMALL = b"data"
LARGE = bytes(range(256)) * 1024 * 9 + b"end"  # nine pieces and a little more


def hash_of(data: bytes) -> str:
    return sha256(data).hexdigest()


class OneNode:
    """A node with a folder for files; words go straight to the others."""

    up = True
    crowded = False

    def __init__(self, case: FileExchangeTests, name: str, folder: Path | None = None) -> None:
        self.instance, self._case = name, case
        self.blobs = Blobs(folder or Path(case.mktemp()).absolute(), reactor, name)
        self.blobs.open("a" * 32, ())
        self.exchange = FileExchange(reactor, RedisSettings(case.redis.endpoint), "T", self, self.blobs)
        self.exchange.startService()
        case.addCleanup(self.blobs.stop)
        case.addCleanup(self.exchange.stopService)

    @property
    def nodes(self) -> Sequence[Node]:
        return [Node(other.instance, other.instance) for other in self._case.nodes if other is not self]

    def tell(self, word: Word) -> None:
        for other in self._case.nodes:
            if other is not self and isinstance(word, Wanted):
                self._case.told.append(word)
                other.exchange.wanted(word)

    async def up_and_running(self) -> None:
        for redis in (self.exchange._giving, self.exchange._waiting):
            while True:
                try:
                    await redis.call("PING")
                    break
                except RedisAway:
                    await deferLater(reactor, 0.01)

    async def keep(self, data: bytes) -> None:
        incoming = self.blobs.begin()
        await self.blobs.write(incoming.write, data)
        await self.blobs.write(incoming.seal)
        await self.blobs.keep(incoming)

    async def read(self, data: bytes) -> bytes:
        content = await self.blobs.read(hash_of(data), len(data))
        found = await content.read(0, len(data) + 1)
        content.close()
        return found

    async def refused(self, data: bytes) -> str:
        try:
            await self.read(data)
        except NoSuchFile as error:
            return str(error)
        raise AssertionError("it was found")


class FileExchangeTests(TestCase):
    """What was uploaded to one node is served by all."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial takes a coroutine
        self.log = LogLines(self)
        self.patch(file_exchange, "ANSWER_SECONDS", 1)
        self.redis = RedisServer(self)
        self.nodes: list[OneNode] = []
        self.told: list[Wanted] = []
        self.a, self.b = OneNode(self, "a"), OneNode(self, "b")
        self.nodes += [self.a, self.b]
        for node in self.nodes:
            await node.up_and_running()

    async def test_fetched_when_learned_of(self) -> None:
        """A node that learns of a file gets it at once, so that it is there even if the other node dies."""
        for data in (SMALL, LARGE, b""):
            await self.a.keep(data)
            await self.b.blobs.expect(hash_of(data), len(data))
            self.assertTrue(self.b.blobs.has(hash_of(data), len(data)))
            self.assertEqual(await self.b.read(data), data)
        self.assertEqual(self.redis.keys("taky:T:file:*"), set())

    async def test_fetched_when_asked_for(self) -> None:
        """Who asks for a file waits until it is here."""
        await self.a.keep(LARGE)
        self.assertFalse(self.b.blobs.is_known(hash_of(LARGE), len(LARGE)))
        self.assertEqual(await self.b.read(LARGE), LARGE)

    async def test_known_at_once(self) -> None:
        """A file is listed as soon as the node learns of it."""
        await self.a.keep(LARGE)
        coming = self.b.blobs.expect(hash_of(LARGE), len(LARGE))
        self.assertTrue(self.b.blobs.is_known(hash_of(LARGE), len(LARGE)))
        self.assertFalse(self.b.blobs.is_known(hash_of(LARGE), 1))
        await coming

    async def test_shared_folder(self) -> None:
        """Nodes that share a folder copy nothing."""
        shared = OneNode(self, "shared", self.a.blobs.folder)
        self.nodes.append(shared)
        await self.a.keep(SMALL)
        await shared.blobs.expect(hash_of(SMALL), len(SMALL))
        self.assertEqual((await shared.read(SMALL), self.told), (SMALL, []))

    async def test_urgent_first(self) -> None:
        """What somebody waits for is fetched before what is only copied."""
        data = [bytes([number]) * 1000 for number in range(5)]
        for each in data:
            await self.a.keep(each)
        order: list[int] = []
        coming = [self.b.exchange.fetch(hash_of(each), 1000) for each in data]
        for number, fetching in enumerate(coming):
            fetching.addCallback(lambda _, number: order.append(number), number)
        coming.append(self.b.exchange.fetch(hash_of(data[4]), 1000))
        for each_coming in coming:
            await each_coming
        self.assertEqual(order, [0, 4, 1, 2, 3])
        self.assertEqual(len({word.digest for word in self.told}), 5)

    async def test_nobody_has_it(self) -> None:
        """A file that no node has is refused in words, and may be there later."""
        self.assertIn("no other node", await self.b.refused(SMALL))
        await self.a.keep(SMALL)
        self.assertEqual(await self.b.read(SMALL), SMALL)

    async def test_damaged(self) -> None:
        """A copy that is not what its hash says is never served."""
        await self.a.keep(SMALL)
        self.a.blobs.path(hash_of(SMALL)).write_bytes(b"DATA")
        self.assertIn("damaged", await self.b.refused(SMALL))
        self.assertIn("node a has a damaged copy", self.log(LogLevel.warn)[-1])
        await self.b.blobs.write(lambda: None)  # after what is taken away
        self.assertEqual(list((self.b.blobs.folder / "incoming-b").iterdir()), [])

    async def test_not_whole(self) -> None:
        """Nor is one that is not whole, or of another size."""
        await self.a.keep(LARGE)
        path = self.a.blobs.path(hash_of(LARGE))
        path.write_bytes(LARGE[: PIECE_BYTES + 7])
        self.a.blobs._sizes[hash_of(LARGE)] = PIECE_BYTES + 7
        self.assertIn("not whole", await self.b.refused(LARGE))

    async def test_another_one(self) -> None:
        """If the node that answers first has a copy that is no good, or has lost it, the file comes from another."""
        slow = OneNode(self, "slow")
        await slow.up_and_running()
        self.nodes.append(slow)
        answer = slow.exchange.wanted
        self.patch(slow.exchange, "wanted", lambda word: reactor.callLater(0.1, answer, word))
        for data in (SMALL, LARGE):
            await self.a.keep(data)
            await slow.keep(data)
            path = self.a.blobs.path(hash_of(data))
            if data == SMALL:
                path.write_bytes(b"DATA")
            else:
                path.unlink()
            self.assertEqual(await self.b.read(data), data)
            self.assertIn("a", {word.node for word in self.told})
            await self.b.blobs.write(lambda: None)
            self.assertEqual(list((self.b.blobs.folder / "incoming-b").iterdir()), [])

    async def test_redis_away(self) -> None:
        """Without Redis a file of another node is refused in words; afterwards it can be had."""
        await self.a.keep(SMALL)
        self.redis.stop()
        self.assertIn("could not be fetched", await self.b.refused(SMALL))
        self.redis.start()
        for node in self.nodes:
            await node.up_and_running()
        self.assertEqual(await self.b.read(SMALL), SMALL)

    async def test_strange_requests(self) -> None:
        """What is no request, or for somebody else, is not answered; nor are too many at once."""
        await self.a.keep(SMALL)
        good = Wanted("a", "ab" * 16, hash_of(SMALL), 0, 4)
        for bad in (
            Wanted("b", "ab" * 16, hash_of(SMALL), 0, 4),
            Wanted("a", "../x", hash_of(SMALL), 0, 4),
            Wanted("a", "ab" * 16, "../../etc/passwd", 0, 4),
            Wanted("a", "ab" * 16, "0" * 64, 0, 4),
            Wanted("a", "ab" * 16, hash_of(SMALL), -1, 4),
        ):
            self.a.exchange.wanted(bad)
            self.assertEqual(self.a.exchange._answers, 0, bad)
        for _ in range(MAX_ANSWERS + 5):
            self.a.exchange.wanted(good)
        self.assertEqual(self.a.exchange._answers, MAX_ANSWERS)
        while self.a.exchange._answers:
            await self.a.exchange._giving.call("PING")
        self.assertEqual(self.redis.shell("LLEN", f"taky:T:file:{good.request}"), MAX_ANSWERS)
        self.assertGreater(self.redis.shell("TTL", f"taky:T:file:{good.request}"), 0)

    async def test_forgotten(self) -> None:
        """A content that nothing refers to any more goes after a while, unless it is given to a node again."""
        await self.a.keep(SMALL)
        await self.b.blobs.expect(hash_of(SMALL), len(SMALL))
        self.b.blobs.forget(hash_of(SMALL))
        self.assertFalse(self.b.blobs.is_known(hash_of(SMALL), len(SMALL)))
        path = self.b.blobs.path(hash_of(SMALL))
        self.assertTrue(path.exists())
        (later,) = [call for call in reactor.getDelayedCalls() if call.func == self.b.blobs._delete]  # type: ignore[attr-defined]
        later.reset(0)
        while path.exists():
            await self.a.exchange._giving.call("PING")
