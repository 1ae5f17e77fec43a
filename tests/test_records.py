from __future__ import annotations

from dataclasses import fields
from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.records import LISTS, Kept, Record
from tests.stores.contract import file, item, video


class KeptTests(SynchronousTestCase):
    def test_every_kind_has_a_list(self) -> None:
        """No kind of record can be forgotten: each has a list of its own, and each list is of a kind."""
        self.assertEqual(LISTS.keys(), set(get_args(Record)))
        self.assertEqual(sorted(LISTS.values()), sorted(each.name for each in fields(Kept)))
        for kind, name in LISTS.items():
            (place,) = [each for each in fields(Kept) if each.name == name]
            self.assertEqual(place.type, f"list[{kind.__name__}]")

    def test_add(self) -> None:
        """What is added is in the list of its kind, and among all."""
        kept = Kept()
        for record in (item(), file(1), video(), item("second")):
            kept.add(record)
        self.assertEqual(kept, Kept(items=[item(), item("second")], files=[file(1)], videos=[video()]))
        self.assertEqual(len(kept.all()), 4)
