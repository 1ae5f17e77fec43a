from __future__ import annotations

import json
from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.record_codec import VERSION, UnreadableRecord, decode, encode, make, read
from taky_twisted.records import LISTS, Record
from taky_twisted.routing.records import Item, MissedChat
from tests.stores import contract
from tests.stores.contract import chat, contact, item

EXAMPLES: tuple[Record, ...] = (
    *(item(), contract.tombstone(), contact(), contract.emergency(), chat(1), contract.active_groups()),
    *(contract.file(1), contract.video(), contract.invite(), contract.spent_use(), contract.account()),
    contract.synced(),
)


class RecordCodecTests(SynchronousTestCase):
    def test_all_kinds(self) -> None:
        """A record of each kind is the same again, and is spelled alike each time."""
        self.assertEqual({type(record) for record in EXAMPLES}, set(LISTS))
        for record in EXAMPLES:
            data = encode(record)
            self.assertEqual(decode(type(record), data), record)
            self.assertEqual(encode(decode(type(record), data)), data)
            self.assertTrue(data.isascii())

    @given(st.binary(), st.text(), st.frozensets(st.text()), st.floats(allow_nan=False, allow_infinity=False))
    def test_hard_values(self, xml: bytes, uid: str, groups: frozenset[str], expires: float) -> None:
        """Whatever bytes and texts are in it, and however they are cut."""
        record = replace(item(uid, xml=xml, expires=expires), groups=groups, stale=expires)
        self.assertEqual(decode(Item, encode(record)), record)

    def test_beside(self) -> None:
        """A field can be left out, for who knows it from elsewhere, and something else stand beside the fields."""
        data = encode(item("M"), uid=None, digest="12")
        spelled = read(data)
        self.assertEqual((spelled["v"], spelled["digest"]), (VERSION, "12"))
        self.assertNotIn("uid", spelled)
        self.assertEqual(make(Item, spelled, uid="M"), item("M"))

    def test_other_versions(self) -> None:
        """An unknown field is passed over, one that may be left out has its default; another version is refused."""
        record = contract.emergency()
        spelled = json.loads(encode(record))
        del spelled["uids"]
        self.assertEqual(decode(type(record), json.dumps({**spelled, "more": [1]}).encode()), replace(record, uids=()))
        for version in (2, "1", None, 1.5):
            self.assertRaises(UnreadableRecord, read, json.dumps({**spelled, "v": version}).encode())

    def test_nonsense(self) -> None:
        """What is no record is refused, however it is spoiled."""
        for data in (b"", b"\xff", b"null", b"[]", b"{}", b"[" * 100_000, b'{"v": 1', b"9" * 5000, b'{"v":1}'):
            self.assertRaises(UnreadableRecord, decode, MissedChat, data)

    def test_each_field(self) -> None:
        """A field that is missing or of another kind is refused, and the text says which."""
        for record in (chat(1), contact(), item(), contract.file(1)):
            spelled = json.loads(encode(record))
            for each in fields(record):
                for wrong in ({}, [[1]], [None], 1e400, float("nan"), "\ud800" if each.type == "bytes" else {}):
                    spoiled = json.dumps({**spelled, each.name: wrong}).encode()
                    error = self.assertRaises(UnreadableRecord, decode, type(record), spoiled)
                    self.assertIn(f"{each.name} is not what it should be", str(error))
            del spelled["xml" if "xml" in spelled else "name"]
            error = self.assertRaises(UnreadableRecord, decode, type(record), json.dumps(spelled).encode())
            self.assertIn("is missing", str(error))

    def test_numbers(self) -> None:
        """A truth value is no number, and a number no text; a whole number may stand for seconds."""
        spelled = json.loads(encode(chat(1)))
        for name, wrong in (
            ("number", True),
            ("number", 1.0),
            ("recipient", 5),
            ("expires", "5"),
            ("expires", 10**400),
        ):
            self.assertRaises(
                UnreadableRecord, decode, MissedChat, json.dumps({**spelled, name: wrong}, default=str).encode()
            )
        self.assertEqual(decode(MissedChat, json.dumps({**spelled, "expires": 5}).encode()).expires, 5.0)
