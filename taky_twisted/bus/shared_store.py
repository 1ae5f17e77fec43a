"""A store that shares some kinds of records with the other nodes of the server; everything else is this node's own.

::

    accounts, invites, files, ... --put, remove--> SharedStore --> the node's own store
                                  <--taken in-----      |  ^
                                                        v  |
                                                      SharedLog
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from taky_twisted.bus.shared_copy import Kind, Payloads
from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.enrollment.records import Invite, SpentUse
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.identity.records import Account
from taky_twisted.interfaces import EventStore, StoreState
from taky_twisted.logs import Logger
from taky_twisted.record_codec import UnreadableRecord, decode, encode
from taky_twisted.records import ALONE, LISTS, Kept, Record, Synced
from taky_twisted.routing.records import ActiveGroups
from taky_twisted.video.records import VideoConnection

R = TypeVar("R", bound=Record)

SHARED: tuple[type[Record], ...] = (Account, Invite, SpentUse, StoredFile, VideoConnection, ActiveGroups)
"""What is shared."""
MAX_WARNED = 1000
"""Entries that cannot be read and that the log has named."""


class SharedStore:
    """An `EventStore` on top of the node's own one."""

    log = Logger()

    def __init__(self, own: EventStore, shared: SharedLog, lossy: bool = False) -> None:
        """Open nothing yet.

        Args:
            own: the node's own store.
            shared: not started yet.
            lossy: whether what the node's own store does not have at the start may have been lost; not if it was the
                only node in between, which may have removed it.
        """
        self._own, self._shared, self._lossy = own, shared, lossy
        self._records: dict[type[Record], dict[str, Record]] = {kind: {} for kind in SHARED}
        self._holders: dict[type[Any], Callable[[str, Any], object]] = {}
        self._losers: dict[type[Any], Callable[[Any, Any], object]] = {}
        self._warned: set[tuple[type[Record], str]] = set()
        for kind in SHARED:
            self._share(kind)

    def hold(
        self,
        kind: type[R],
        take_in: Callable[[str, R | None], object],
        lost: Callable[[R, R | None], object] | None = None,
    ) -> None:
        """Name who has the records of a kind in memory.

        Args:
            kind: one of those that are shared.
            take_in: takes the record of a key from another node, or None if it is gone. The store has it already.
            lost: is told of a record that was made here while another node had used its key first, and of that one.
        """
        self._holders[kind] = take_in
        if lost is not None:
            self._losers[kind] = lost

    def open(self) -> Deferred[Kept]:
        return self._own.open().addCallback(self._opened)

    def put(self, record: Record) -> None:
        self._own.put(record)
        records = self._records.get(type(record))
        if records is not None:
            records[record.key] = record
            self._shared.put(LISTS[type(record)], record.key, encode(record))

    def remove(self, kind: type[Record], key: str) -> None:
        self._own.remove(kind, key)
        records = self._records.get(kind)
        if records is not None:
            records.pop(key, None)
            self._shared.remove(LISTS[kind], key)

    def flush(self) -> Deferred[None]:
        return self._own.flush()

    def close(self) -> Deferred[None]:
        return self._own.close()

    @property
    def state(self) -> StoreState:
        return self._own.state

    def _opened(self, kept: Kept) -> Kept:
        for kind, records in self._records.items():
            records.update((record.key, record) for record in getattr(kept, LISTS[kind]))
        if self._lossy and ALONE in kept.synced:
            self._lossy = False
            for kind in SHARED:
                self._share(kind)
            self._shared.when_synced().addCallback(self._has_met_others)
        self._shared.restore(kept.synced)
        return kept

    def _has_met_others(self, they_know: bool) -> None:
        if they_know:
            self._own.remove(Synced, ALONE.key)

    def _share(self, kind: type[Record]) -> None:
        shared = Kind(
            LISTS[kind],
            lambda payloads: self._take_in(kind, payloads),
            lambda: _Encoded(self._records[kind]),
            first_wins=kind is StoredFile,  # two uploads may have been given one number
            lost=lambda key, ours, theirs: self._lost(kind, ours, theirs),
            further=_fewer_uses if kind is Invite else None,
            lossy=self._lossy,
        )
        self._shared.share(shared)

    def _take_in(self, kind: type[Record], payloads: Payloads) -> list[str]:
        taken = []
        for key, payload in payloads.items():
            try:
                record = decode(kind, payload) if payload is not None else None
                if record is not None and record.key != key:
                    raise UnreadableRecord(f"it says that its key is {record.key[:100]!r}")
            except UnreadableRecord as error:
                self._warn(kind, key, error)
                continue
            taken.append(key)
            if record is not None:
                self._own.put(record)
                self._records[kind][key] = record
            else:
                self._own.remove(kind, key)
                self._records[kind].pop(key, None)
            if kind in self._holders:
                self._holders[kind](key, record)
        return taken

    def _lost(self, kind: type[Record], ours: bytes, theirs: bytes | None) -> None:
        if kind not in self._losers:
            return
        there = None
        if theirs is not None:
            with suppress(UnreadableRecord):
                there = decode(kind, theirs)
        self._losers[kind](decode(kind, ours), there)

    def _warn(self, kind: type[Record], key: str, error: UnreadableRecord) -> None:
        if (kind, key) not in self._warned and len(self._warned) < MAX_WARNED:
            self._warned.add((kind, key))
            self.log.warn(
                "{kind}: what another node says of {key} is skipped: {error}",
                kind=LISTS[kind],
                key=repr(key[:100]),
                error=error,
            )


def _fewer_uses(one: bytes, other: bytes) -> bool:
    with suppress(UnreadableRecord):
        return decode(Invite, one).uses < decode(Invite, other).uses
    return False


class _Encoded(Mapping[str, bytes]):
    """Records, spelled when somebody looks at them."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records

    def __getitem__(self, key: str) -> bytes:
        return encode(self._records[key])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._records))

    def __len__(self) -> int:
        return len(self._records)
