from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.records import Kept, Record
from taky_twisted.routing.records import Emergency, Item, KnownContact, MissedChat, Tombstone

GROUPS = frozenset({"g"})
EMERGENCY = Emergency("E-9-1-1", b"<event/>", GROUPS, "E", None, 1)
RECORDS: list[Record] = [
    Item("I", "a-h-G", b"<event/>", GROUPS, 1, 2, 3),
    Tombstone("T", GROUPS, 1, 2),
    KnownContact("C", "FOX", "a-f-G", "Cyan", "HQ", "x:1", None, GROUPS, GROUPS, 1, 2, b"<event/>", True),
    EMERGENCY,
    MissedChat(10, "C", None, b"<event/>", GROUPS, 2),
]


class RecordsTests(SynchronousTestCase):
    def test_keys(self) -> None:
        """A store finds each record by its uid, and a chat by its number."""
        self.assertEqual([record.key for record in RECORDS], ["I", "T", "C", "E-9-1-1", "10"])

    def test_they_are_values(self) -> None:
        """A store may write a record later: it does not change in the meantime, and equal ones are the same."""
        for record in RECORDS:
            self.assertRaises(AttributeError, setattr, record, "uid" if hasattr(record, "uid") else "number", "X")
        self.assertEqual(len({*RECORDS, Item("I", "a-h-G", b"<event/>", frozenset({"g"}), 1, 2, 3)}), len(RECORDS))

    def test_emergency_for_everybody(self) -> None:
        """An emergency is for everybody unless somebody is named."""
        self.assertEqual((EMERGENCY.callsigns, EMERGENCY.uids), ((), ()))

    def test_nothing_kept(self) -> None:
        """A new store held nothing, and does not share that nothing with another one."""
        kept = Kept()
        kept.items.append(Item("I", "a-h-G", b"", GROUPS, 1, 2, 3))
        self.assertEqual(Kept(), Kept([], [], [], [], []))
