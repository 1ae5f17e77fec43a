from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater

from taky_twisted.config.values import RedisSettings
from taky_twisted.cot.event import PROLOG
from taky_twisted.identity.records import Account
from taky_twisted.interfaces import EventStore, StoreError
from taky_twisted.records import ALONE, Synced
from taky_twisted.redis_client import Redis, RedisAway
from taky_twisted.routing.records import Item, MissedChat
from taky_twisted.stores import redis as redis_store
from taky_twisted.stores.redis import CLOSE_SECONDS, RedisStore
from tests.redis_server import RedisServer
from tests.stores import contract
from tests.stores.contract import account, chat, contact, everything, item
from tests.stores.redis_case import HOST, INDEX, PERSIST, RedisTestCase
from tests.threaded_clock import EPOCH


class RedisStoreTests(contract.EventStoreContract):
    """What every store promises, on a real Redis."""

    def setUp(self) -> Any:
        self.server = RedisServer(self)
        self.clock = Clock()
        self.clock.rightNow = EPOCH
        return super().setUp()

    def make_store(self) -> EventStore:
        return RedisStore(self.clock, Redis(reactor, RedisSettings(self.server.unix_endpoint)), HOST)

    async def test_no_scan(self) -> None:
        """Nobody scans the keyspace in normal operation, and a put is one round trip."""
        await self.store.flush()
        self.server.shell("CONFIG", "RESETSTAT")
        for number in range(70):
            self.store.put(item(str(number)))
        self.store.remove(Item, "5")
        await self.store.flush()
        stats = self.server.shell("INFO", "commandstats").decode()
        self.assertNotIn("cmdstat_scan", stats)
        self.assertNotIn("cmdstat_keys", stats)
        self.assertIn("cmdstat_eval:calls=1,", stats)


class KeysTests(RedisTestCase):
    """What other programs see."""

    async def test_taky_keys(self) -> None:
        """An item is there within 100 ms under taky's key: its XML alone, for as long as it is not stale."""
        await self.open()
        point = self.point("M-1")
        times = []
        for uid in ("M-2", "M-3", "M-1"):
            self.put(replace(point, uid=uid))
            there = partial(self.server.shell, "EXISTS", PERSIST + uid)
            times.append(await self.eventually(there))
        self.assertLess(min(times), 0.1, "on a machine that is not busy")
        self.assertEqual(PROLOG + self.server.shell("GET", PERSIST + "M-1"), point.xml)
        self.assertTrue(595_000 < self.server.shell("PTTL", PERSIST + "M-1") <= 600_000)
        assert self.store is not None
        self.store.remove(Item, "M-1")
        await self.store.flush()
        self.assertEqual(self.server.keys(PERSIST + "*"), {f"{PERSIST}M-{number}".encode() for number in (2, 3)})
        self.assertEqual(self.server.shell("HLEN", INDEX), 2)

    async def test_expires(self) -> None:
        """What goes stale while no server runs is gone, also for other programs; what is stale already is not put."""
        await self.open()
        now = time.time()
        self.put(item("short", expires=now + 0.2), item("late", expires=now - 1), item("long", expires=now + 60))
        await self.close()
        await deferLater(IReactorTime(reactor), 0.3)
        self.assertEqual(self.server.keys(PERSIST + "*"), {f"{PERSIST}long".encode()})
        self.assertEqual([each.uid for each in (await self.open()).items], ["long"])
        await self.close()
        self.assertEqual(self.server.shell("HKEYS", INDEX), [b"long"])

    async def test_nodes(self) -> None:
        """Nodes of one server share the items; what has a number is each one's own."""
        other = RedisStore(
            IReactorTime(reactor), Redis(reactor, RedisSettings(self.server.endpoint)), HOST, (), node="b-2"
        )
        await other.open()
        await self.open((), node="a-1")
        later = time.time() + 600
        point = self.point("M")
        other.put(point)
        self.put(point, chat(1, recipient="A", expires=later))
        other.put(chat(1, recipient="B", expires=later))
        await other.close()
        kept = await self.open((), node="a-1")
        self.assertEqual(([each.uid for each in kept.items], [each.recipient for each in kept.chats]), (["M"], ["A"]))
        kept = await self.open((), node="b-2")
        self.assertEqual(([each.uid for each in kept.items], [each.recipient for each in kept.chats]), (["M"], ["B"]))
        assert self.store is not None
        self.store.remove(Item, "M")
        self.assertEqual((await self.open((), node="a-1")).items, [])

    async def test_becomes_several_nodes(self) -> None:
        """The first node that a server becomes has all that the server had, and none of the others has it again."""
        later = time.time() + 600
        await self.open()
        self.put(account(), chat(1, recipient="A", expires=later), item("M", expires=later))
        self.put(chat(2, recipient="late", expires=time.time() + 0.1))
        await self.close()
        await deferLater(IReactorTime(reactor), 0.2)
        kept = await self.open(node="a-1", former=("",))
        self.assertEqual((kept.accounts, [each.recipient for each in kept.chats]), ([account()], ["A"]))
        self.assertEqual([each.uid for each in kept.items], ["M"])
        self.assertIn("2 records are taken over", self.log()[-1])
        kept = await self.open(node="b-2")
        self.assertEqual((kept.accounts, kept.chats), ([], []))
        kept = await self.open(node="a-1", former=("",))
        self.assertEqual((kept.accounts, [each.recipient for each in kept.chats]), ([account()], ["A"]))
        keys = self.server.keys(f"taky:{HOST}:store:*")
        self.assertEqual({key.split(b":")[3] for key in keys} - {b"items", b"written"}, {b"a-1", b"b-2"})

    async def test_becomes_several_nodes_later(self) -> None:
        """What the node has itself by then counts, and a Redis that is full keeps all of it where it is."""
        later = time.time() + 600
        await self.open(node="a-1", former=("",))
        self.put(chat(1, recipient="A", expires=later))
        await self.open()
        self.put(chat(1, recipient="B", expires=later), chat(2, recipient="C", expires=later))
        await self.close()
        self.server.shell("CONFIG", "SET", "maxmemory", "1")
        kept = await self.open(node="a-1", former=("",))
        self.assertEqual([each.recipient for each in kept.chats], ["A", "C"])
        self.assertEqual(self.server.shell("HLEN", f"taky:{HOST}:store:chats"), 2)
        await self.close()
        self.server.shell("CONFIG", "SET", "maxmemory", "0")
        kept = await self.open(node="a-1", former=("",))
        self.assertEqual([each.recipient for each in kept.chats], ["A", "C"])
        self.assertEqual(self.server.shell("EXISTS", f"taky:{HOST}:store:chats"), 0)

    async def test_alone(self) -> None:
        """A run without the other nodes is remembered, once they have agreed on something."""
        synced = Synced("accounts", "a", "1" * 27, "d")
        self.assertEqual((await self.open()).synced, [])
        self.assertEqual((await self.open(node="a_1", former=("",))).synced, [])
        self.put(synced)
        self.assertEqual((await self.open(node="a_1", former=("",))).synced, [synced])
        self.assertEqual((await self.open(former=("a_1",))).synced, [synced])
        self.assertCountEqual((await self.open(node="a_1", former=("",))).synced, [synced, ALONE])

    async def test_removed_while_full(self) -> None:
        """What is removed after it was taken over does not come back, also if Redis was full in between."""
        later, full = time.time() + 600, ("CONFIG", "SET", "maxmemory")
        await self.open()
        self.put(account(), chat(1, recipient="A", expires=later), chat(2, recipient="B", expires=later))
        await self.close()
        self.server.shell(*full, "1")
        await self.open(node="a-1", former=("",))
        assert self.store is not None
        self.store.remove(Account, account().key)
        self.store.remove(MissedChat, "1")
        self.server.shell(*full, "0")
        await self.eventually(lambda: self.server.shell("EXISTS", f"taky:{HOST}:store:chats") == 0)
        kept = await self.open(node="a-1", former=("",))
        self.assertEqual((kept.accounts, [each.recipient for each in kept.chats]), ([], ["B"]))

    async def test_becomes_one_again(self) -> None:
        """A server that is one process again has what its first process had, whatever the name of that."""
        later, former = time.time() + 600, ("host-1", "host")
        await self.open(node="host")
        self.put(chat(1, recipient="older", expires=later), chat(2, recipient="B", expires=later))
        await self.open(node="host-1")
        self.put(account(), chat(1, recipient="A", expires=later), item("M", expires=later))
        await self.open(node="host-2")
        self.put(chat(7, recipient="of the second", expires=later))
        kept = await self.open(former=former)
        self.assertEqual((kept.accounts, [each.recipient for each in kept.chats]), ([account()], ["A", "B"]))
        self.assertEqual([each.uid for each in kept.items], ["M"])
        self.put(chat(3, recipient="C", expires=later))
        kept = await self.open(former=former)
        self.assertEqual([each.recipient for each in kept.chats], ["A", "B", "C"])
        keys = self.server.keys(f"taky:{HOST}:store:host*")
        self.assertEqual({key.split(b":")[3] for key in keys if b":written:" not in key}, {b"host-2"})


class OutageTests(RedisTestCase):
    """Redis goes away and comes back."""

    def stored(self) -> dict[str, bytes]:
        """Read all items as other programs do."""
        keys = self.server.keys(PERSIST + "*")
        return {key.decode().removeprefix(PERSIST): self.server.shell("GET", key) for key in keys}

    async def outage(self, leave: Callable[[], None], come_back: Callable[[], None]) -> None:
        """Change things before, during and after an outage; the newest of everything is there within 5 s."""
        await self.open()
        first = {uid: self.point(uid) for uid in "ABC"}
        self.put(*first.values())
        assert self.store is not None
        await self.store.flush()
        leave()
        self.put(self.point("A", callsign="second"))
        await self.eventually(lambda: len(self.warnings()) == 1)
        self.assertFalse(self.store.state.writable)
        newest = self.point("A", callsign="third")
        self.put(newest, self.point("D"))
        self.store.remove(Item, "B")
        self.put(self.point("E"))
        self.store.remove(Item, "E")
        come_back()
        await self.eventually(lambda: set(self.stored()) == {"A", "C", "D"})
        self.assertEqual(PROLOG + self.stored()["A"], newest.xml)
        await self.eventually(lambda: len(self.warnings()) == 2)
        begin, end = self.warnings()
        self.assertIn("Routing goes on; changes are kept in memory", begin)
        self.assertIn("is written again", end)
        self.assertTrue(self.store.state.writable)
        await deferLater(IReactorTime(reactor), 0.2)
        self.assertEqual(set(everything(await self.open())), {(Item, uid) for uid in "ACD"})

    async def test_stop(self) -> None:
        """It was stopped, and has nothing any more when it is started again."""
        await self.outage(self.server.stop, self.server.start)

    async def test_kill(self) -> None:
        """So after a kill."""
        await self.outage(self.server.kill, self.server.start)

    async def test_pause(self) -> None:
        """It hung, and goes on."""
        await self.outage(self.server.pause, self.server.resume)

    async def test_kept(self) -> None:
        """A Redis that keeps what it has needs what has changed alone."""
        self.server.kill()
        self.server = RedisServer(self, keeps=True)
        await self.outage(self.server.kill, self.server.start)
        self.assertNotIn("has lost something", " ".join(self.log()))

    async def test_lost_without_a_change(self) -> None:
        """A Redis that comes back empty is filled again, also if nothing happens."""
        await self.open()
        self.put(self.point("A"), contact("B"), chat(7, expires=time.time() + 600))
        assert self.store is not None
        await self.store.flush()
        self.server.restart()
        await self.eventually(lambda: set(self.stored()) == {"A"})
        await self.eventually(lambda: len(self.warnings()) == 2)
        kept = await self.open()
        self.assertEqual((len(kept.items), len(kept.contacts), len(kept.chats)), (1, 1, 1))

    async def test_older_state_comes_back(self) -> None:
        """A Redis that was put back to an older state is brought up to date: what was removed since is removed."""
        await self.open()
        self.put(self.point("A"), self.point("B"), chat(1))
        assert self.store is not None
        await self.store.flush()
        self.server.shell("SAVE")
        self.store.remove(Item, "A")
        self.store.remove(MissedChat, "1")
        self.put(self.point("C"))
        await self.store.flush()
        self.server.restart()
        await self.eventually(lambda: set(self.stored()) == {"B", "C"})
        kept = await self.open()
        self.assertEqual(kept.chats, [])

    async def test_writing_anew_breaks_off(self) -> None:
        """What was written anew by half, when Redis went away again, is written anew as a whole."""
        self.patch(redis_store, "BATCH_COMMANDS", 2)
        self.patch(redis_store, "RETRY_SECONDS", 0.1)
        await self.open()
        assert self.store is not None
        self.put(*map(self.point, "ABCDE"))
        await self.store.flush()
        self.server.shell("FLUSHALL")
        call, failed = self.store._redis.call, list[Deferred[Any]]()

        def break_off(*command: Any, seconds: float) -> Deferred[Any]:
            if not failed and len(self.stored()) == 2:
                failed.append(fail(RedisAway("gone")))
                return failed[0]
            return call(*command, seconds=seconds)

        self.patch(self.store._redis, "call", break_off)
        self.put(self.point("F"))
        await self.eventually(lambda: set(self.stored()) == set("ABCDEF"))
        self.assertEqual(len(failed), 1)

    async def test_nonsense_beside_it(self) -> None:
        """What another program has put among our records does not keep us from writing everything anew."""
        await self.open()
        assert self.store is not None
        self.put(self.point("A"), contact("B"))
        await self.store.flush()
        self.server.shell("FLUSHALL")
        self.server.shell("HSET", f"taky:{HOST}:store:contacts", b"\xff", b"nonsense")
        self.put(self.point("C"))
        await self.eventually(lambda: set(self.stored()) == {"A", "C"})
        await self.eventually(lambda: self.server.shell("HEXISTS", f"taky:{HOST}:store:contacts", "B"))
        self.assertEqual(self.warnings(), [])

    async def test_written_anew_by_nodes(self) -> None:
        """A node that writes everything anew leaves alone what other nodes have put there."""
        other = RedisStore(
            IReactorTime(reactor), Redis(reactor, RedisSettings(self.server.endpoint)), HOST, (), node="b-2"
        )
        await self.open((), node="a-1")
        assert self.store is not None
        self.put(self.point("A"))
        await self.store.flush()
        self.server.shell("FLUSHALL")
        await other.open()
        other.put(self.point("B"))
        await other.close()
        self.put(self.point("C"))
        await self.eventually(lambda: set(self.stored()) == set("ABC"))

    async def test_late_batch(self) -> None:
        """A batch that was given up and is done late, after a newer one, changes nothing."""
        await self.open()
        assert self.store is not None
        old, new = self.point("A", callsign="old"), self.point("A", callsign="new")
        late = self.store._places.write(self.store._asked + 1, self.store._places.put(old, time.time()))
        self.put(self.point("B"))
        await self.store.flush()
        self.put(new)
        await self.store.flush()
        self.assertEqual(self.server.shell(*late), -1)
        self.assertEqual(PROLOG + self.stored()["A"], new.xml)

    async def test_removed_after_it_may_be_there(self) -> None:
        """What was put while Redis hung, and removed before it was known whether that was done, is not there."""
        await self.open()
        assert self.store is not None
        self.server.pause()
        self.put(self.point("A"))
        await self.eventually(lambda: len(self.warnings()) == 1)
        self.store.remove(Item, "A")
        self.server.resume()
        await self.eventually(lambda: len(self.warnings()) == 2)
        self.assertEqual(self.stored(), {})

    async def test_full(self) -> None:
        """A Redis that is full is told as such, and tried again."""
        await self.open()
        self.server.shell("CONFIG", "SET", "maxmemory", "1")
        self.put(self.point("A"))
        await self.eventually(lambda: len(self.warnings()) == 1)
        self.assertIn("OOM", self.warnings()[0])
        self.assertIn("raise its maxmemory", self.warnings()[0])
        self.server.shell("CONFIG", "SET", "maxmemory", "0")
        await self.eventually(lambda: set(self.stored()) == {"A"})

    async def test_full_for_long(self) -> None:
        """What comes and goes while Redis is full is not remembered, and what goes that was there is removed."""
        await self.open()
        assert self.store is not None
        self.put(self.point("A"))
        await self.store.flush()
        self.server.shell("CONFIG", "SET", "maxmemory", "1")
        for number in range(3):
            self.put(self.point(f"B-{number}"))
            await self.store.flush()
        self.assertIn("OOM", self.store.state.reason)
        for number in range(3):
            self.store.remove(Item, f"B-{number}")
        await self.store.flush()
        self.assertEqual(self.store.state.pending, 0)
        self.put(self.point("C"))
        self.store.remove(Item, "A")
        await self.store.flush()
        self.assertNotIn("A", self.stored())

    async def test_large(self) -> None:
        """Large items go in as many batches as a slow network needs."""
        await self.open()
        assert self.store is not None
        sizes: list[int] = []
        call = self.store._redis.call

        def measured(*command: Any, seconds: float) -> Deferred[Any]:
            sizes.append(sum(len(word) for word in command if isinstance(word, bytes)))
            return call(*command, seconds=seconds)

        self.patch(self.store._redis, "call", measured)
        self.put(*(replace(self.point(str(number)), xml=bytes(400_000)) for number in range(10)))
        await self.store.flush()
        self.assertEqual(len(self.stored()), 10)
        self.assertLess(max(sizes), redis_store.BATCH_BYTES + 500_000)

    async def test_closed_while_away(self) -> None:
        """Without Redis a server still stops, and says what is lost."""
        await self.open()
        self.put(self.point("A"))
        self.server.kill()
        self.put(self.point("B"))
        await self.close()
        self.assertIn("changes could not be written to redis:tcp:", self.warnings()[-1])

    async def test_closed_while_it_hangs(self) -> None:
        """So with one that hangs, within its time."""
        await self.open()
        self.server.pause()
        self.put(self.point("A"))
        begin = time.monotonic()
        await self.close()
        self.assertLess(time.monotonic() - begin, CLOSE_SECONDS + 2)
        self.server.resume()

    async def test_closed_while_it_is_slow(self) -> None:
        """What was being written when the time was over may be lost as well, and is told."""
        self.patch(redis_store, "CLOSE_SECONDS", 0.2)
        self.patch(redis_store, "WRITE_SECONDS", 60.0)
        await self.open()
        assert self.store is not None
        await self.store.flush()
        self.server.pause()
        self.put(self.point("A"), self.point("B"))
        await self.close()
        (warning,) = self.warnings()
        self.assertIn("2 changes could not be written", warning)
        self.server.resume()


class StartTests(RedisTestCase):
    """A Redis that cannot be used when the server starts: one line that says what to do."""

    server_options = {"password": "hunter2", "acl": ["anna on >sesame ~taky:* +@connection +hgetall"]}

    async def refused(self, **settings: Any) -> str:
        """Fail to open; read why."""
        self.patch(redis_store, "OPEN_SECONDS", 0.5)
        with self.assertRaises(StoreError) as caught:
            await self.open(**settings)
        text = str(caught.exception)
        self.assertNotIn("\n", text)
        for secret in ("hunter2", "sesame", "wrong"):
            self.assertNotIn(secret, " ".join([text, *self.log()]).replace("WRONGPASS", ""))
        return text

    async def test_nobody_there(self) -> None:
        """There is no Redis."""
        self.server.stop()
        self.assertRegex(
            await self.refused(), r"^cannot use redis:tcp:127\.0\.0\.1:\d+ as store: .*refused.*\. Start Redis, or "
        )
        self.assertIn("Start Redis", await self.refused(endpoint=self.server.unix_endpoint))

    async def test_hangs(self) -> None:
        """It does not answer."""
        self.server.pause()
        self.assertIn("Start Redis", await self.refused())
        self.server.resume()

    async def test_no_password(self) -> None:
        """It wants a password."""
        self.assertIn("redis_password_file", await self.refused())

    async def test_wrong_password(self) -> None:
        """It does not take the password."""
        self.assertIn("WRONGPASS", await self.refused(password="wrong"))
        self.assertIn("WRONGPASS", await self.refused(password="wrong", user="anna"))

    async def test_no_rights(self) -> None:
        """The user may not do what is needed."""
        self.assertRegex(await self.refused(user="anna", password="sesame"), "NOPERM.*doc/how-to/redis.rst")

    async def test_no_right_to_write(self) -> None:
        """The user may look, but not write everything: so is told what rights it needs."""
        self.server.shell("ACL", "SETUSER", "bert", "on", ">sesame", "~taky:*", "+@all", "-hset")
        await self.open(user="bert", password="sesame")
        self.put(chat(1, expires=time.time() + 600))
        await self.eventually(self.warnings)
        self.assertIn("doc/how-to/redis.rst lists", self.warnings()[0])

    async def test_replica(self) -> None:
        """It is a replica, and takes no writes."""
        self.server.shell("REPLICAOF", "127.0.0.1", "1")
        text = await self.refused(password="hunter2")
        self.assertRegex(text, "READONLY.*name its master")
        self.assertNotIn("script", text)

    async def test_full(self) -> None:
        """One that is full can be read, so the server starts, and warns."""
        await self.open(password="hunter2")
        self.put(self.point("A"))
        await self.close()
        self.server.shell("CONFIG", "SET", "maxmemory", "1")
        self.assertEqual(len((await self.open(password="hunter2")).items), 1)
        (warning,) = self.warnings()
        self.assertIn("OOM", warning)
        await deferLater(IReactorTime(reactor), 0.3)  # as long as nothing is changed nobody has a reason to write
        self.server.shell("CONFIG", "SET", "maxmemory", "0")
        await self.eventually(lambda: len(self.warnings()) == 2)
        assert self.store is not None
        self.assertTrue(self.store.state.writable)

    async def test_too_slow(self) -> None:
        """It holds so much that reading takes too long."""
        self.patch(redis_store, "ALL_SECONDS", 0.0)
        self.assertIn("was not read within 0 s", await self.refused(password="hunter2"))
