from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from taky_twisted.bus import shared_redis
from taky_twisted.bus.shared_redis import MAX_KEY, MAX_PAYLOAD, Change, Found, SharedRedis, fits
from taky_twisted.config.values import RedisSettings
from taky_twisted.redis_client import RedisAway, RedisRefused
from tests.fakes import LogLines
from tests.redis_server import RedisServer

OLD, MIDDLE, NEW = "1" * 27, "2" * 27, "3" * 27
A, B = ("files", "a"), ("files", "b")
KEYS = "taky:server:shared:"


class SharedRedisTests(TestCase):
    """What is said to a real Redis, and what is made of its answers."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial takes a coroutine
        self.lines = LogLines(self)
        self.server = RedisServer(self)
        self.redis = SharedRedis(reactor, RedisSettings(self.server.unix_endpoint), "server")
        self.redis.startService()
        await self.redis.ready(5)

    async def tearDown(self) -> None:  # type: ignore[override]  # as well
        await self.redis.stopService()

    async def put(
        self, version: str, payload: bytes | None = b"1", place: Any = A, new: bool = False, final: bool = False
    ) -> str | None:
        """Write one entry."""
        (answer,) = await self.redis.write([Change(place, version, payload, new, final)])
        return answer

    async def test_newest(self) -> None:
        """The newest version counts, whenever it arrives; the same one twice is written once."""
        self.assertIsNone(await self.put(MIDDLE, b"middle"))
        self.assertEqual(await self.put(OLD, b"old"), MIDDLE)
        self.assertIsNone(await self.put(MIDDLE, b"middle"))
        self.assertEqual(await self.redis.fetch([A]), {A: Found(MIDDLE, b"middle")})
        self.assertIsNone(await self.put(NEW, None))
        self.assertEqual(await self.put(MIDDLE, b"middle"), NEW)
        self.assertEqual(await self.redis.fetch([A, B]), {A: Found(NEW, None)})
        self.assertEqual((await self.redis.head()).count, 2)
        self.assertEqual(self.server.shell("HLEN", f"{KEYS}payloads"), 0)

    async def test_new(self) -> None:
        """What is new counts only if there is nothing, not even something that was removed."""
        self.assertIsNone(await self.put(OLD, new=True))
        self.assertIsNone(await self.put(OLD, new=True))
        self.assertEqual(await self.put(NEW, new=True), OLD)
        await self.put(MIDDLE, None)
        self.assertEqual(await self.put(NEW, new=True), MIDDLE)

    async def test_final(self) -> None:
        """What comes to an end does not begin again, but may end once more."""
        self.assertIsNone(await self.put(OLD, final=True))
        self.assertIsNone(await self.put(MIDDLE, None, final=True))
        self.assertEqual(await self.put(NEW, final=True), MIDDLE)
        self.assertIsNone(await self.put(NEW, None, final=True))

    async def test_full(self) -> None:
        """What is in a Redis that is full, or cannot save, can be read."""
        before = await self.redis.head()
        await self.put(OLD)
        self.server.shell("CONFIG", "SET", "maxmemory", "1")
        self.assertEqual((await self.redis.head()).epoch, before.epoch)
        self.assertEqual(await self.redis.fetch([*await self.redis.versions()]), {A: Found(OLD, b"1")})
        with self.assertRaises(RedisRefused):
            await self.put(NEW)

    async def test_follow(self) -> None:
        """Who follows is told of each change, in order, with no number left out."""
        head = await self.redis.head()
        following = self.redis.changes(head.last)
        await self.put(OLD)
        lines = await following
        await self.put(MIDDLE, None)
        await self.put(OLD, place=B)
        lines += await self.redis.changes(lines[-1].id)
        self.assertEqual(
            [(line.count, line.place, line.version) for line in lines], [(1, A, OLD), (2, A, MIDDLE), (3, B, OLD)]
        )
        end = await self.redis.head()
        self.assertEqual((end.epoch, end.count, end.last), (head.epoch, 3, lines[-1].id))

    async def test_epoch(self) -> None:
        """A Redis that has lost everything is another one."""
        before = await self.redis.head()
        self.assertEqual(before, await self.redis.head())
        self.server.shell("FLUSHALL")
        self.assertNotEqual((await self.redis.head()).epoch, before.epoch)
        self.server.shell("SET", f"{KEYS}epoch", "")
        self.assertNotEqual((await self.redis.head()).epoch, "")

    async def test_versions(self) -> None:
        """All versions can be read, however many there are."""
        places = [("files", str(number)) for number in range(3000)]
        for at in range(0, 3000, 500):
            await self.redis.write([Change(place, OLD, b"1", False) for place in places[at : at + 500]])
        await self.put(MIDDLE, None, places[7])
        found = await self.redis.versions()
        self.assertEqual(found, {**dict.fromkeys(places, (OLD, False)), places[7]: (MIDDLE, True)})

    async def test_too_many(self) -> None:
        """A Redis with far too many entries is not read to the end."""
        self.patch(shared_redis, "MAX_ENTRIES", 2)
        for number in range(3):
            await self.put(OLD, place=("files", str(number)))
        with self.assertRaises(RedisAway) as caught:
            await self.redis.versions()
        self.assertIn("there are over 2 entries in taky:server:shared:versions", str(caught.exception))

    async def test_trims(self) -> None:
        """The log in Redis stays bounded."""
        self.patch(shared_redis, "LOG_ENTRIES", 10)
        for at in range(0, 1000, 100):
            await self.redis.write([Change(("files", str(number)), OLD, b"", False) for number in range(at, at + 100)])
        self.assertLess(self.server.shell("XLEN", f"{KEYS}log"), 300)

    async def test_unreadable(self) -> None:
        """What others have put there is skipped, said once, and gives way to what we write."""
        for field, value in (
            (b"no zero", f"{OLD}+"),
            (b"\0no kind", f"{OLD}+"),
            (b"files\0" + b"k" * (MAX_KEY + 1), f"{OLD}+"),
            (b"files\0\xff", f"{OLD}+"),
            (b"files\0a", "soon"),
            (b"files\0b", "9" * 27 + "+"),
            (b"files\0c", ""),
            (b"files\0lost", f"{OLD}+"),
            (b"files\0large", f"{OLD}+"),
        ):
            self.server.shell("HSET", f"{KEYS}versions", field, value)
        self.server.shell("HSET", f"{KEYS}payloads", b"files\0large", bytes(MAX_PAYLOAD + 1))
        self.server.shell("HSET", f"{KEYS}payloads", b"files\0a", b"1")
        found = await self.redis.versions()
        self.assertEqual(set(found), {("files", "lost"), ("files", "large")})
        self.assertEqual(await self.redis.fetch([A, B, *found]), {})
        await self.redis.versions()
        warned = self.lines(LogLevel.warn)
        self.assertEqual(len(warned), 9)
        self.assertTrue(all("is skipped" in line for line in warned))
        for place in (A, B):
            self.assertIsNone(await self.put(OLD, b"2", place))
        self.assertEqual(await self.redis.fetch([A]), {A: Found(OLD, b"2")})
        self.assertEqual(await self.put(NEW, b"2", ("files", "c"), new=True), "")

    async def test_unreadable_lines(self) -> None:
        """So are lines of the log."""
        for line in (("x", "y"), ("n", "many", "f", "\xff", "v", "?"), ("n", "1" * 30, "f", "files\0a", "v", OLD)):
            self.server.shell("XADD", f"{KEYS}log", "*", *line)
        lines = await self.redis.changes("0-0")
        self.assertEqual([(line.count, line.place) for line in lines], [(-1, None), (-1, None), (-1, A)])

    async def test_evicts(self) -> None:
        """A Redis that may throw away bans and accounts when it is full is warned of, once; if it may be asked."""
        self.server.shell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await self.restart()
        self.assertEqual(self.lines(LogLevel.warn), [])
        self.server.shell("CONFIG", "SET", "maxmemory", "100mb")
        self.server.shell("ACL", "SETUSER", "shy", "on", ">secret", "~*", "+ping", "+select")
        await self.restart(user="shy", password="secret")
        self.assertEqual(self.lines(LogLevel.warn), [])
        await self.restart()
        await self.redis.ready(5)
        (line,) = self.lines(LogLevel.warn)
        self.assertIn("has maxmemory-policy allkeys-lru: when it is full it throws away", line)
        self.assertIn("noeviction", line)

    async def restart(self, **settings: Any) -> None:
        """Connect anew."""
        await self.redis.stopService()
        self.redis = SharedRedis(reactor, RedisSettings(self.server.unix_endpoint, **settings), "server")
        self.redis.startService()
        await self.redis.ready(5)

    async def test_forget(self) -> None:
        """That something was removed is forgotten, unless it is there again."""
        await self.put(OLD, None)
        await self.put(OLD, None, B)
        await self.put(MIDDLE, b"2", B)
        await self.redis.forget([(A, OLD), (B, OLD)])
        self.assertEqual(await self.redis.versions(), {B: (MIDDLE, False)})
        await self.redis.forget([])

    async def test_numbers(self) -> None:
        """Nobody gets a number that somebody else has, or that is known to be used."""
        self.assertEqual(await self.redis.numbers(0, 100), 0)
        self.assertEqual(await self.redis.numbers(50, 100), 100)
        self.assertEqual(await self.redis.numbers(1000, 5), 1000)
        self.assertEqual(await self.redis.numbers(0, 5), 1005)
        self.server.shell("SET", f"{KEYS}number", "many")
        self.assertEqual(await self.redis.numbers(7, 5), 7)

    async def test_hard_keys(self) -> None:
        """Keys may hold anything."""
        places = [("files", key) for key in ("", "\0", "a\nb", "ä\U0001f600", "\ud800", "k" * 4000)]
        await self.redis.write([Change(place, OLD, place[1].encode("utf-8", "replace"), False) for place in places])
        self.assertEqual(set(await self.redis.versions()), set(places))
        self.assertEqual(set(await self.redis.fetch(places)), set(places))

    async def test_rights(self) -> None:
        """The rights that the manual names for a Redis user are enough."""
        manual = (Path(__file__).parents[2] / "doc" / "how-to" / "redis.rst").read_text("utf-8")
        lines = [line.strip() for line in manual.splitlines() if line.startswith("    ") and " +" in f" {line.strip()}"]
        rights = " ".join(word for line in lines for word in line.split() if word.startswith(("+", "~")))
        self.server.shell("ACL", "SETUSER", "taky", "on", ">secret", *rights.split())
        settings = RedisSettings(self.server.unix_endpoint, user="taky", password="secret")
        await self.redis.stopService()
        self.redis = SharedRedis(reactor, settings, "server")
        self.redis.startService()
        await self.redis.ready(5)
        head = await self.redis.head()
        await self.put(OLD)
        await self.put(MIDDLE, None)
        await self.redis.changes(head.last)
        await self.redis.versions()
        await self.redis.fetch([A])
        await self.redis.forget([(A, MIDDLE)])
        await self.redis.numbers(0, 1)

    def test_fits(self) -> None:
        """Keys and payloads have a largest size, in bytes."""
        self.assertTrue(fits(("files", "ä" * (MAX_KEY // 2)), bytes(MAX_PAYLOAD)))
        self.assertFalse(fits(("files", "ä" * (MAX_KEY // 2) + "a"), None))
        self.assertFalse(fits(A, bytes(MAX_PAYLOAD + 1)))
        self.assertFalse(fits(("k" * 65, "a"), None))
