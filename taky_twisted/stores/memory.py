"""A store that forgets when the process ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from taky_twisted.interfaces import StoreState
from taky_twisted.records import Kept, Record

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class MemoryStore:
    """Keep records in a dictionary. Nothing survives the process."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._records: dict[tuple[type[Record], str], Record] = {}

    def open(self) -> Deferred[Kept]:
        now = self._clock.seconds()
        kept = Kept()
        for place, record in list(self._records.items()):
            if getattr(record, "expires", now + 1) <= now:  # not all kinds do
                del self._records[place]
            else:
                kept.add(record)
        kept.chats.sort(key=lambda chat: chat.number)
        return succeed(kept)

    def put(self, record: Record) -> None:
        self._records[type(record), record.key] = record

    def remove(self, kind: type[Record], key: str) -> None:
        self._records.pop((kind, key), None)

    def flush(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)

    @property
    def state(self) -> StoreState:
        return StoreState()
