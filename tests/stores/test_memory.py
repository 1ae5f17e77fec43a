from __future__ import annotations

from hypothesis import given
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.interfaces import EventStore
from taky_twisted.records import Kept, Record
from taky_twisted.stores.memory import MemoryStore
from tests.stores import contract
from tests.threaded_clock import EPOCH


class MemoryStoreTests(contract.EventStoreContract):
    def setUp(self) -> object:  # type: ignore[override]  # trial takes a coroutine
        self.clock = Clock()
        self.clock.rightNow = EPOCH
        self.memory = MemoryStore(self.clock)
        return super().setUp()

    def make_store(self) -> EventStore:
        return self.memory


class ForgettingTests(SynchronousTestCase):
    def test_another_process(self) -> None:
        """A new store is empty: nothing survives."""
        clock = Clock()
        first = MemoryStore(clock)
        first.put(contract.item())
        self.successResultOf(first.close())
        self.assertEqual(self.successResultOf(MemoryStore(clock).open()), Kept())
        self.assertEqual(clock.getDelayedCalls(), [])

    @given(contract.changes())
    def test_any_changes(self, changes: list[tuple[Record, bool]]) -> None:
        """After any sequence of changes the store holds what a dictionary would."""
        clock = Clock()
        clock.rightNow = EPOCH
        store = MemoryStore(clock)
        model: dict[tuple[type[Record], str], Record] = {}
        for record, put in changes:
            if put:
                store.put(record)
                model[type(record), record.key] = record
            else:
                store.remove(type(record), record.key)
                model.pop((type(record), record.key), None)
        self.assertEqual(contract.everything(self.successResultOf(store.open())), model)
