from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import PROLOG
from taky_twisted.record_codec import UnreadableRecord
from taky_twisted.records import LISTS
from taky_twisted.routing.records import Item, MissedChat
from taky_twisted.stores.redis_places import Places, decoded, encoded, read_item, spell_item
from tests.stores.contract import chat, item
from tests.threaded_clock import EPOCH


class PlacesTests(SynchronousTestCase):
    places = Places("tak.example", "run")

    def test_keys(self) -> None:
        """Items have taky's documented key; all else is beside it, and a node's own if there are several."""
        self.assertEqual(self.places.persist, b"taky:tak.example:persist:")
        self.assertEqual(self.places.hash_of(MissedChat), "taky:tak.example:store:chats")
        of_node = Places("tak.example", "run", "host-1")
        self.assertEqual(of_node.persist, self.places.persist)
        self.assertEqual(of_node.hash_of(MissedChat), "taky:tak.example:store:host-1:chats")
        self.assertEqual(of_node.hash_of(Item), self.places.hash_of(Item))
        self.assertEqual(set(LISTS) - set(of_node.own), {Item})
        self.assertEqual(self.places.own, tuple(LISTS))

    def test_put(self) -> None:
        """An item is its XML with an expiry, and what else is known of it; anything else is one field."""
        value, index = self.places.put(item("M", expires=EPOCH + 1.5), EPOCH)
        self.assertEqual(value, ("SET", b"taky:tak.example:persist:M", b"<event/>", "PX", 1500))
        self.assertEqual(index[:3], ("HSET", "taky:tak.example:store:items", b"M"))
        self.assertEqual(
            [command[:3] for command in self.places.put(chat(7), EPOCH)],
            [("HSET", "taky:tak.example:store:chats", b"7")],
        )

    def test_expired(self) -> None:
        """What has expired by now is removed instead."""
        removed = self.places.remove(Item, "M")
        for expires in (EPOCH, EPOCH - 5, EPOCH + 0.0004):
            self.assertEqual(self.places.put(item("M", expires=expires), EPOCH), removed)
        self.assertEqual(self.places.put(item("M", expires=EPOCH + 0.002), EPOCH)[0][0], "SET")
        never = self.places.put(item("M", expires=1e300), EPOCH)[0]
        self.assertLess(int(never[-1]), 1 << 53, "Redis takes no larger number")
        self.assertEqual([command[0] for command in removed], ["HDEL", "DEL"])
        self.assertEqual([command[0] for command in self.places.remove(MissedChat, "7")], ["HDEL"])

    def test_write(self) -> None:
        """Commands go in one script, each with its number of words."""
        command = self.places.write(5, [("DEL", "a"), ("SET", "b", 1)])
        self.assertEqual(command[2:6], (1, "taky:tak.example:store:written:run", 5, 86_400))
        self.assertEqual(command[6:], (2, "DEL", "a", 3, "SET", "b", 1))

    @given(st.text(st.characters()))
    def test_any_key(self, key: str) -> None:
        """Whatever a key is made of, it is read as it was written."""
        self.assertEqual(decoded(encoded(key)), key)


class ItemTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """An item is the same again, with or without a prolog, which taky's keys do not have."""
        for xml in (PROLOG + b"<event/>", b"<event/>", b"", b"\xff\x00", PROLOG):
            value, index = spell_item(item("M", xml=xml))
            self.assertFalse(value.startswith(PROLOG))
            self.assertEqual(read_item("M", value, index), item("M", xml=xml))
            self.assertNotIn(b"event", index.replace(b"<event", b""))

    def test_changed(self) -> None:
        """Another XML than the one that was written is none of ours."""
        value, index = spell_item(item("M"))
        self.assertIsNone(read_item("M", value + b" ", index))

    def test_spoiled(self) -> None:
        """Neither is one whose other half is spoiled."""
        value, index = spell_item(item("M"))
        self.assertRaises(UnreadableRecord, read_item, "M", value, b"[]")
        without = json.loads(index)
        del without["groups"]
        self.assertRaises(UnreadableRecord, read_item, "M", value, json.dumps(without).encode())
