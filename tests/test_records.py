from __future__ import annotations

from dataclasses import fields
from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.records import Kept, Record
from tests.stores.contract import active_groups, chat, contact, emergency, file, item, tombstone, video


class KeptTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Records of every kind are among all of them, so that none is forgotten when everything is gone through."""
        kept = Kept()
        self.assertEqual(kept.all(), [])
        kinds = set(get_args(Record))
        for record in (item(), tombstone(), contact(), emergency(), chat(1), active_groups(), file(1), video()):
            (place,) = [each.name for each in fields(Kept) if type(record).__name__ in str(each.type)]
            getattr(kept, place).append(record)
            kinds.discard(type(record))
        self.assertEqual(len(kept.all()), len(fields(Kept)) - len(kinds))
