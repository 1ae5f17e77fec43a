from __future__ import annotations

import json
import re
import time
from collections.abc import Collection
from dataclasses import replace

from taky_twisted.cot.event import PROLOG
from taky_twisted.identity.principal import ANON_GROUP
from taky_twisted.routing.records import Item, Tombstone
from taky_twisted.stores import redis_reading
from tests.samples import marker, sa
from tests.stores import contract
from tests.stores.contract import chat, contact
from tests.stores.redis_case import HOST, INDEX, PERSIST, RedisTestCase


class ReadingTests(RedisTestCase):
    """What is found when a server starts, its own and that of other programs."""

    async def test_deleted_by_others(self) -> None:
        """A key that another program has deleted is no item any more."""
        await self.open()
        self.put(self.point("A"), self.point("B"))
        await self.close()
        self.server.shell("DEL", PERSIST + "A")
        self.assertEqual([each.uid for each in (await self.open()).items], ["B"])

    async def test_changed_by_others(self) -> None:
        """What another program has changed is taken in as it is now; it stays its groups' own."""
        await self.open()
        self.put(self.point("A"), self.point("B"))
        await self.close()
        changed = marker("A", now=time.time() + 1, stale=60)
        self.server.shell("SET", PERSIST + "A", changed, "EX", 30)
        self.server.shell("SET", PERSIST + "B", b"<event uid='B'/>")
        (found,) = (await self.open()).items
        self.assertEqual((found.uid, found.groups, found.xml), ("A", frozenset({"red"}), PROLOG + changed))
        self.assertApproximates(found.expires, time.time() + 30, 2)
        self.assertIn("1 records in Redis cannot be read and are left out: item b'B'", self.warnings()[0])

    async def test_of_others(self) -> None:
        """What other programs have written is taken in: items of now, each under its uid, and nothing else."""
        now = time.time()
        good = marker("A", now=now, stale=60)
        for uid, xml in (
            ("A", good),
            ("B", PROLOG + marker("B", now=now, stale=600) + b"\n"),
            ("gone", marker("gone", now=now - 100, stale=50)),
            ("named", marker("other", now=now)),
            ("broken", b"<event"),
            ("people", sa("people", "FOX", now=now)),
            ("large", b"x" * (8 << 20) + good),
        ):
            self.server.shell("SET", PERSIST + uid, xml)
        self.server.shell("EXPIRE", PERSIST + "B", 100)
        self.server.shell("HSET", PERSIST + "hash", "a", "b")
        self.server.shell("SET", "taky:other:persist:C", marker("C", now=now))
        found = {each.uid: each for each in (await self.open()).items}
        self.assertEqual(set(found), {"A", "B"})
        self.assertEqual(found["A"].xml, PROLOG + good)
        self.assertEqual(found["A"].groups, frozenset({ANON_GROUP}))
        self.assertApproximates(found["A"].expires, now + 60, 1)
        self.assertApproximates(found["B"].expires, now + 100, 2)
        (warning,) = self.warnings()
        self.assertIn("3 records in Redis cannot be read", warning)
        self.assertIn("2 items that other programs left in Redis are taken in", self.log()[0])
        assert self.store is not None
        self.store.remove(Item, "A")
        await self.store.flush()
        self.assertEqual(self.server.shell("EXISTS", PERSIST + "A"), 0)

    async def test_import_groups(self) -> None:
        """Whose that is can be said; if nothing is said and accounts have groups it is nobody's."""
        self.server.shell("SET", PERSIST + "A", marker("A", now=time.time()))

        async def groups(import_groups: Collection[str] | None) -> list[frozenset[str]]:
            return [each.groups for each in (await self.open(import_groups)).items]

        self.assertEqual(await groups(None), [frozenset({ANON_GROUP})])
        self.assertEqual(await groups(("red", "blue")), [frozenset({"red", "blue"})])
        self.assertEqual(await groups(()), [])
        everybody = frozenset({ANON_GROUP})
        self.put(replace(contract.account(), groups_in=everybody, groups_out=everybody))
        self.assertEqual(await groups(None), [everybody])
        self.put(contract.account())
        await self.close()
        self.assertEqual(await groups(None), [])
        self.assertIn("redis_import_groups", self.log()[-1])

    async def test_new_node(self) -> None:
        """Nor does a new one of several nodes know, as long as it has not met the others; unless it is said."""
        self.server.shell("SET", PERSIST + "A", marker("A", now=time.time()))
        everybody = frozenset({ANON_GROUP})
        self.assertEqual((await self.open(node="b-2")).items, [])
        self.assertIn("has not met the others yet", self.log()[-1])
        self.assertEqual([each.groups for each in (await self.open((ANON_GROUP,), node="b-2")).items], [everybody])
        self.put(contract.synced())
        self.assertEqual([each.groups for each in (await self.open(node="b-2")).items], [everybody])

    async def test_unreadable_account(self) -> None:
        """Whoever cannot read an account does not know whether it has groups: what others wrote is nobody's then."""
        self.server.shell("SET", PERSIST + "A", marker("A", now=time.time()))
        self.server.shell("HSET", f"taky:{HOST}:store:accounts", "fox", b'{"v": 2}')
        self.assertEqual((await self.open()).items, [])

    async def test_items_of_other_nodes(self) -> None:
        """What another node of this server has kept belongs to its groups here too, whatever is said of others'."""
        await self.open((), node="a-1")
        self.put(self.point("A"))
        for import_groups in (None, (ANON_GROUP,)):
            (found,) = (await self.open(import_groups, node="b-2")).items
            self.assertEqual(found.groups, frozenset({"red"}))

    async def test_under_another_key(self) -> None:
        """A record under another's key is none, and the one whose key it has stays."""
        await self.open()
        self.put(contact("A"), chat(1, expires=time.time() + 600))
        await self.close()
        hash_ = f"taky:{HOST}:store:chats"
        spelled = json.loads(self.server.shell("HGET", hash_, "1"))
        self.server.shell("HSET", hash_, "2", json.dumps({**spelled, "expires": 5.0}))
        self.assertEqual([each.number for each in (await self.open()).chats], [1])
        await self.close()
        self.assertTrue(self.server.shell("HEXISTS", hash_, "1"))
        self.assertIn("1 records in Redis cannot be read", self.warnings()[0])

    async def test_large_ones_of_others(self) -> None:
        """However large what others have left is, an answer of Redis and what is taken in are bounded."""
        self.patch(redis_reading, "MAX_FOREIGN_BYTES", 1_000_000)
        self.patch(redis_reading, "READ_BYTES", 100_000)
        for number in range(50):
            large = marker(str(number), extra=f"<remarks>{50_000 * 'x'}</remarks>", now=time.time())
            self.server.shell("SET", f"{PERSIST}{number}", large)
        self.server.shell("CONFIG", "RESETSTAT")
        self.assertEqual(len((await self.open()).items), 1_000_000 // len(large))
        found = re.search(r"cmdstat_eval:calls=(\d+)", self.server.shell("INFO", "commandstats").decode())
        assert found is not None
        self.assertGreater(int(found[1]), 20)
        self.assertIn("other programs have left over 1 MB", self.warnings()[0])

    async def test_deleted_here(self) -> None:
        """An item that was deleted here does not come back because another program writes an old copy."""
        now = time.time()
        await self.open()
        self.put(Tombstone("A", frozenset({ANON_GROUP}), now, now + 600))
        await self.close()
        self.server.shell("SET", PERSIST + "A", marker("A", now=now - 10))
        self.assertEqual((await self.open()).items, [])
        self.server.shell("SET", PERSIST + "A", marker("A", now=now + 10))
        self.assertEqual(len((await self.open()).items), 1)

    async def test_deleted_on_another_node(self) -> None:
        """Nor because Redis, put back to an older state, has another node's copy of it again; a later one is there."""
        later = time.time() + 600
        await self.open((), node="a-1")
        self.put(self.point("A"), self.point("B"), self.point("C"))
        await self.open((), node="b-2")
        self.put(Tombstone("A", frozenset({"red"}), later, later), Tombstone("B", frozenset({"red"}), 5.0, later))
        self.put(Tombstone("C", frozenset({"blue"}), later, later))
        self.assertEqual({each.uid for each in (await self.open((), node="b-2")).items}, {"B", "C"})

    async def test_many_of_others(self) -> None:
        """A thousand items among ten thousand other keys are found, each once."""
        now = time.time()
        self.server.shell("DEBUG", "POPULATE", 10_000, "other")
        for number in range(1000):
            self.server.shell("SET", f"{PERSIST}{number}", marker(str(number), now=now))
        uids = [each.uid for each in (await self.open()).items]
        self.assertEqual(sorted(uids), sorted(map(str, range(1000))))

    async def test_too_many_of_others(self) -> None:
        """There is a bound to what is taken in."""
        self.patch(redis_reading, "MAX_FOREIGN", 5)
        for number in range(20):
            self.server.shell("SET", f"{PERSIST}{number}", marker(str(number), now=time.time()))
        self.assertEqual(len((await self.open()).items), 5)
        self.assertIn("over 5 items", self.warnings()[0])

    async def test_other_versions(self) -> None:
        """Records of a later version, or that somebody has spoiled, are left out with a warning; the rest is there."""
        await self.open()
        later = time.time() + 600
        self.put(contact("A"), contact("B"), contact("C"), self.point("M"), self.point("N"))
        self.put(chat(10, expires=later), chat(9, expires=later), chat(11))
        await self.close()
        hash_ = f"taky:{HOST}:store:contacts"
        spelled = json.loads(self.server.shell("HGET", hash_, "A"))
        self.server.shell("HSET", hash_, "A", json.dumps({**spelled, "more": 1}))
        self.server.shell("HSET", hash_, "B", json.dumps({**spelled, "v": 2}))
        self.server.shell("HSET", hash_, "C", b"\xff")
        self.server.shell("HSET", INDEX, "N", b"{}")
        kept = await self.open()
        self.assertEqual(kept.contacts, [contact("A")])
        self.assertEqual([each.uid for each in kept.items], ["M"])
        self.assertEqual([each.number for each in kept.chats], [9, 10])
        self.assertIn("3 records in Redis cannot be read", self.warnings()[0])
