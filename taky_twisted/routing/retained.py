"""What is on the map: items that newcomers are shown, and the memory of deleted ones."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from taky_twisted.cot.event import Event
from taky_twisted.interfaces import EventStore

from .kept import kept_event
from .records import Groups, Item, Tombstone

TOMBSTONE_SECONDS = 24 * 3600
"""How long a delete is remembered at most."""


@dataclass(slots=True)
class _Held:
    event: Event
    groups: Groups
    expires: float


class Retained:
    """Keep items until they are stale or deleted, within a number and a size; the oldest stale goes first."""

    def __init__(
        self, store: EventStore, max_items: int, max_bytes: int, max_persist_ttl: float, max_tombstones: int
    ) -> None:
        """Start with nothing on the map.

        Args:
            store: where items survive a restart.
            max_items: how many items.
            max_bytes: how much XML in all.
            max_persist_ttl: seconds that an item is kept at most, whatever its stale; negative for no such cap.
            max_tombstones: how many deletes are remembered.
        """
        self._store = store
        self._max_items, self._max_bytes = max_items, max_bytes
        self._ttl = max_persist_ttl
        self._max_tombstones = max_tombstones
        self._items: dict[str, _Held] = {}
        self._bytes = 0
        self._expiry: list[tuple[float, str]] = []
        self._tombstones: dict[str, Tombstone] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def bytes(self) -> int:
        """XML of all items together."""
        return self._bytes

    def restore(self, items: list[Item], tombstones: list[Tombstone], now: float) -> None:
        """Take over what a store held."""
        self._tombstones = {tombstone.uid: tombstone for tombstone in tombstones if tombstone.expires > now}
        for item in items:
            if item.expires > now:
                event = kept_event(item)
                if event is not None:
                    self._hold(event, item.groups, item.expires)
        self._shrink()

    def keep(self, event: Event, groups: Groups, now: float) -> None:
        """Keep an event for newcomers, in place of an older one with its uid, unless it was deleted.

        One that is stale already is not kept, and neither is what it is an update of.

        Args:
            event: what was said to everybody.
            groups: the groups that it was said to.
            now: seconds since the epoch.
        """
        held = self._items.get(event.uid)
        if held is not None and held.groups.isdisjoint(groups):
            return  # somebody else's item of the same uid, which this sender could not even delete
        expires = event.stale if self._ttl < 0 else min(event.stale, now + self._ttl)
        if expires <= now:
            if held is not None and event.time >= held.event.time:
                self._drop(event.uid)
            return
        if self.was_deleted(event, groups):
            return
        self._hold(event, groups, expires)
        self._store.put(_item(event, groups, expires))
        self._shrink()

    def delete(self, uid: str, groups: Groups, deleted: float, now: float, said: float = 0.0) -> None:
        """Take an item off the map and remember that, unless it is of other groups than whoever asks.

        Args:
            uid: the item.
            groups: the IN groups of who deletes.
            deleted: the ``time`` of the delete; copies up to then stay deleted.
            now: seconds since the epoch.
            said: the ``time`` of what is deleted, if that is no item.
        """
        held, older = self._items.get(uid), self._tombstones.get(uid)
        # A sender whose clock is ahead must not keep others from putting the item back.
        # Nor does one whose clock is behind delete less than it saw.
        deleted, expires = max(min(deleted, now), said), now + TOMBSTONE_SECONDS
        if held is not None:
            if held.groups.isdisjoint(groups):
                return
            deleted, expires = max(deleted, held.event.time), min(max(held.event.stale, now), expires)
            self._drop(uid)
        if older is not None:
            if not older.groups.isdisjoint(groups):
                groups = older.groups | groups
                deleted, expires = max(deleted, older.deleted), max(expires, older.expires)
            elif held is None:
                return  # others' delete is not undone
        self._remember(Tombstone(uid, groups, deleted, expires))

    def remove(self, uid: str, groups: Groups) -> None:
        """Take an item off the map without a word, unless it is of other groups than these."""
        held = self._items.get(uid)
        if held is not None and not held.groups.isdisjoint(groups):
            self._drop(uid)

    def records(self, now: float) -> Iterator[Item | Tombstone]:
        """Go through everything that is not stale; what changes meanwhile may be left out."""
        for held in list(self._items.values()):
            if held.expires > now:
                yield _item(held.event, held.groups, held.expires)
        yield from [tombstone for tombstone in self._tombstones.values() if tombstone.expires > now]

    def merge(self, event: Event, groups: Groups, expires: float, now: float) -> bool:
        """Take over an item that another node has, if it is newer than what is here; return whether it was."""
        held = self._items.get(event.uid)
        if held is not None and (held.groups.isdisjoint(groups) or _age(held.event) >= _age(event)):
            return False
        if expires <= now or self.was_deleted(event, groups):
            return False
        self._hold(event, groups, expires)
        self._store.put(_item(event, groups, expires))
        self._shrink()
        return True

    def merge_tombstone(self, tombstone: Tombstone, now: float) -> Event | None:
        """Take over another node's memory of a delete; return the item that it takes off the map here."""
        if tombstone.expires <= now:
            return None
        uid, older, held = tombstone.uid, self._tombstones.get(tombstone.uid), self._items.get(tombstone.uid)
        if older is not None and not older.groups.isdisjoint(tombstone.groups):
            if older.deleted >= tombstone.deleted and older.groups >= tombstone.groups:
                return None
            tombstone = Tombstone(
                uid,
                older.groups | tombstone.groups,
                max(older.deleted, tombstone.deleted),
                max(older.expires, tombstone.expires),
            )
        self._remember(tombstone)
        if held is None or not self.was_deleted(held.event, held.groups):
            return None
        self._drop(uid)
        return held.event

    def get(self, uid: str) -> Event | None:
        """Find an item."""
        held = self._items.get(uid)
        return held.event if held is not None else None

    def find(self, uid: str, groups_out: Groups, now: float) -> Event | None:
        """Find an item that is not stale, if whoever hears these groups may see it."""
        held = self._items.get(uid)
        if held is None or held.expires <= now or held.groups.isdisjoint(groups_out):
            return None
        return held.event

    def visible(self, groups_out: Groups, now: float) -> Iterator[Event]:
        """Go through what somebody who hears these groups is shown; which items is settled now."""
        return self._visible(list(self._items), groups_out, now)

    def _visible(self, uids: list[str], groups_out: Groups, now: float) -> Iterator[Event]:
        for uid in uids:
            held = self._items.get(uid)
            if held is not None and held.expires > now and not groups_out.isdisjoint(held.groups):
                yield held.event

    def prune(self, now: float) -> None:
        """Forget what is stale."""
        while self._expiry and self._expiry[0][0] <= now:
            expires, uid = heapq.heappop(self._expiry)
            held = self._items.get(uid)
            if held is not None and held.expires <= expires:
                self._drop(uid)
        for uid in [uid for uid, tombstone in self._tombstones.items() if tombstone.expires <= now]:
            del self._tombstones[uid]
            self._store.remove(Tombstone, uid)

    def was_deleted(self, event: Event, groups: Groups) -> bool:
        """Whether this, or something later with its uid, was deleted."""
        tombstone = self._tombstones.get(event.uid)
        return tombstone is not None and event.time <= tombstone.deleted and not tombstone.groups.isdisjoint(groups)

    def _remember(self, tombstone: Tombstone) -> None:
        self._tombstones.pop(tombstone.uid, None)
        self._tombstones[tombstone.uid] = tombstone
        self._store.put(tombstone)
        if len(self._tombstones) > self._max_tombstones:
            oldest = next(iter(self._tombstones))
            del self._tombstones[oldest]
            self._store.remove(Tombstone, oldest)

    def _drop(self, uid: str) -> None:
        self._bytes -= len(self._items.pop(uid).event.xml)
        self._store.remove(Item, uid)

    def _hold(self, event: Event, groups: Groups, expires: float) -> None:
        older = self._items.get(event.uid)
        if older is not None:
            self._bytes -= len(older.event.xml)
        self._items[event.uid] = _Held(event, groups, expires)
        self._bytes += len(event.xml)
        heapq.heappush(self._expiry, (expires, event.uid))
        if len(self._expiry) > 2 * len(self._items) + 64:  # mostly entries of replaced items
            self._expiry = [(held.expires, uid) for uid, held in self._items.items()]
            heapq.heapify(self._expiry)

    def _shrink(self) -> None:
        while self._expiry and (len(self._items) > self._max_items or self._bytes > self._max_bytes):
            expires, uid = heapq.heappop(self._expiry)
            held = self._items.get(uid)
            if held is not None and held.expires == expires:
                self._drop(uid)


def _item(event: Event, groups: Groups, expires: float) -> Item:
    return Item(
        uid=event.uid,
        type=event.type,
        xml=event.xml,
        groups=groups,
        time=event.time,
        stale=event.stale,
        expires=expires,
    )


def _age(event: Event) -> tuple[float, bytes]:
    """Order versions of an item the same way on every node, also two of one moment."""
    return event.time, event.xml
