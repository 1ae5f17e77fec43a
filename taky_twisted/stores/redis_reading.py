"""Read everything from Redis once: what this server has kept there, and what other programs have left beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.times import LATEST
from taky_twisted.cot.types import is_retained
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.identity.principal import ANON_GROUP
from taky_twisted.identity.records import Account
from taky_twisted.logs import Logger
from taky_twisted.record_codec import UnreadableRecord, make, read
from taky_twisted.records import LISTS, Kept, Record
from taky_twisted.redis_client import Redis
from taky_twisted.routing.records import Groups, Item, Tombstone
from taky_twisted.stores.redis_places import Places, decoded, encoded, read_item

READ_SECONDS = 30.0
"""How long one reply may take."""
SCAN_KEYS = 1000
"""Keys of Redis that are looked through at once."""
READ_KEYS = 100
"""Texts that are read at once."""
READ_BYTES = 1 << 20
"""But no further one after so much."""
MAX_XML = 8 << 20
"""Bytes of an event that another program has written."""
MAX_FOREIGN = 100_000
"""Items of other programs that are taken in."""
MAX_FOREIGN_BYTES = 256 << 20
"""Size of all these, and of what they have changed."""
NO_KEY, NO_EXPIRY = -2, -1
"""What PTTL answers in place of a time."""
SHOWN = 3
"""Of what cannot be read, how much is named in the log."""


@dataclass(slots=True)
class Found:
    """What was in Redis."""

    kept: Kept = field(default_factory=Kept)
    gone: list[tuple[type[Record], str]] = field(default_factory=list)
    """What has expired or is half there, and is to be removed."""
    taken: list[Record] = field(default_factory=list)
    """What is among the kept, and stands only where the server kept it under a former name."""
    former: list[str] = field(default_factory=list)
    """The keys where anything stands of a former name."""


class Reading:
    """One pass over what is in Redis, when a server starts."""

    log = Logger()

    def __init__(
        self, redis: Redis, places: Places, import_groups: Collection[str] | None, former: Sequence[Places] = ()
    ) -> None:
        """Read nothing yet.

        Args:
            redis: is there.
            places: where to look.
            import_groups: whose the items are that other programs have written; None: everybody's, if it is known that
                no account has groups, else nobody's.
            former: where to look for what the server kept under other names; the first of them counts.
        """
        self._redis, self._places, self._former = redis, places, former
        self._import_groups = import_groups
        self._found = Found()
        self._unreadable = 0
        self._some: list[str] = []
        """The first of what cannot be read."""
        self._accounts_known = True
        """Whether all accounts could be read."""
        self._tombstones: dict[str, Tombstone] = {}
        self._taken = self._changed = self._foreign_bytes = 0

    async def run(self, now: float) -> Found:
        """Read.

        Raises:
            RedisError: Redis went away, or refuses.
        """
        for kind in LISTS:
            if kind is not Item:
                await self._records(kind, now)
        self._found.kept.chats.sort(key=lambda chat: chat.number)
        self._tombstones = {tombstone.uid: tombstone for tombstone in self._found.kept.tombstones}
        await self._items(now)
        if self._taken or self._changed:
            self.log.info(
                "{taken} items that other programs left in Redis are taken in, and {changed} that they changed",
                taken=self._taken,
                changed=self._changed,
            )
        if self._unreadable:
            self.log.warn(
                "{count} records in Redis cannot be read and are left out: {some}",
                count=self._unreadable,
                some="; ".join(self._some),
            )
        return self._found

    async def _records(self, kind: type[Record], now: float) -> None:
        own = dict(_pairs(await self._call("HGETALL", self._places.hash_of(kind))))
        seen = set(own)
        for key, data in own.items():
            record = self._record(kind, key, data)
            if record is None:
                continue
            if _has_expired(record, now):
                self._found.gone.append((kind, record.key))
            else:
                self._found.kept.add(record)
        for each in self._former:
            there = dict(_pairs(await self._call("HGETALL", each.hash_of(kind))))
            if there:
                self._found.former.append(each.hash_of(kind))
            for key, data in there.items():
                record = self._record(kind, key, data) if key not in seen else None
                if record is not None and not _has_expired(record, now):
                    self._found.kept.add(record)
                    self._found.taken.append(record)
            seen |= there.keys()

    def _record(self, kind: type[Record], key: bytes, data: bytes) -> Record | None:
        try:
            record: Record = make(kind, read(data))
            if encoded(record.key) != key:
                raise UnreadableRecord(f"it is of {record.key!a:.80}")
        except UnreadableRecord as error:
            self._cannot_read(f"{LISTS[kind]} {key!a:.80} ({error})")
            self._accounts_known &= kind is not Account
            return None
        return record

    async def _items(self, now: float) -> None:
        index = dict(_pairs(await self._call("HGETALL", self._places.hash_of(Item))))
        groups = self._groups()
        foreign = await self._scan(index) if groups else []
        keys, at = [*index, *foreign], 0
        while at < len(keys):
            some = [self._places.persist + key for key in keys[at : at + READ_KEYS]]
            texts = list(_pairs(await self._call(*self._places.read(some, MAX_XML, READ_BYTES))))
            for key, (value, milliseconds) in zip(keys[at : at + len(texts)], texts, strict=True):
                if milliseconds == NO_KEY:
                    value = None
                until = LATEST if milliseconds == NO_EXPIRY else now + milliseconds / 1000
                if key in index:
                    self._indexed(key, value, until, index[key], now)
                elif value is not None:
                    self._foreign(key, value, until, groups, now)
            at += len(texts)

    def _indexed(self, key: bytes, value: bytes | None, until: float, index: bytes, now: float) -> None:
        try:
            uid = decoded(key)
            if value is None:
                self._found.gone.append((Item, uid))  # another program has deleted it, or it has expired
                return
            item = read_item(uid, value, index)
            if item is None:
                event = self._read_event(uid, value)
                groups = make(Item, {**read(index), "uid": uid, "xml": ""}).groups
                item = _item(event, groups, until)
                self._changed += 1
        except (UnicodeDecodeError, UnreadableRecord, MalformedEvent) as error:
            self._cannot_read(f"item {key!a:.80} ({error})")
            return
        # Another node's copy may have come back after a delete that we know of; our own does not.
        if item.expires <= now or (Item not in self._places.own and self._is_deleted(item)):
            self._found.gone.append((Item, item.uid))
        else:
            self._found.kept.items.append(item)

    def _foreign(self, key: bytes, value: bytes, until: float, groups: Groups, now: float) -> None:
        try:
            event = self._read_event(decoded(key), value)
        except (UnicodeDecodeError, MalformedEvent) as error:
            self._cannot_read(f"item {key!a:.80} ({error})")
            return
        # People show themselves as soon as they are connected; an old report would stand beside the new ones.
        if event.is_self_report or not is_retained(event.type, event.detail.archive):
            return
        item = _item(event, groups, until)
        if item.expires > now and not self._is_deleted(item):
            self._found.kept.items.append(item)
            self._taken += 1

    def _read_event(self, uid: str, value: bytes) -> Event:
        if len(value) > MAX_XML:
            raise MalformedEvent(f"over {MAX_XML} bytes")
        if self._foreign_bytes + len(value) > MAX_FOREIGN_BYTES:
            raise MalformedEvent(f"other programs have left over {MAX_FOREIGN_BYTES / 1e6:.0f} MB")
        self._foreign_bytes += len(value)
        event = decode(value.removeprefix(PROLOG).strip())
        if event.uid != uid:
            raise MalformedEvent(f"its uid is {event.uid!a:.80}")
        return event

    def _is_deleted(self, item: Item) -> bool:
        tombstone = self._tombstones.get(item.uid)
        if tombstone is None or item.time > tombstone.deleted:
            return False
        return not tombstone.groups.isdisjoint(item.groups)

    def _groups(self) -> Groups:
        if self._import_groups is not None:
            return frozenset(self._import_groups)
        if Item not in self._places.own and not self._found.kept.synced and not self._found.former:
            self.log.info(
                "what other programs have left in Redis is not taken in, because this node has not met the others yet "
                "and does not know whether accounts have groups: say whose it is with redis_import_groups, or start "
                "this node again"
            )
            return frozenset()
        everybody = frozenset({ANON_GROUP})
        accounts = self._found.kept.accounts
        if self._accounts_known and all(account.groups_in | account.groups_out <= everybody for account in accounts):
            return everybody
        self.log.info(
            "what other programs have left in Redis is nobody's, because accounts have groups; say whose it is with"
            " redis_import_groups"
        )
        return frozenset()

    async def _scan(self, index: dict[bytes, bytes]) -> list[bytes]:
        """Look for items that are not in our index."""
        prefix, found = self._places.persist, dict[bytes, None]()  # SCAN may tell a key twice
        cursor = b"0"
        while True:
            cursor, keys = await self._call("SCAN", cursor, "MATCH", prefix + b"*", "COUNT", SCAN_KEYS)
            found.update((key[len(prefix) :], None) for key in keys if key[len(prefix) :] not in index)
            if len(found) > MAX_FOREIGN:
                self.log.warn(
                    "there are over {count} items of other programs in Redis; the others are left out",
                    count=MAX_FOREIGN,
                )
                return list(found)[:MAX_FOREIGN]
            if cursor == b"0":
                return list(found)

    async def _call(self, *command: Any) -> Any:
        return await self._redis.call(*command, seconds=READ_SECONDS)

    def _cannot_read(self, what: str) -> None:
        self._unreadable += 1
        if len(self._some) < SHOWN:
            self._some.append(what)


def _item(event: Event, groups: Groups, until: float) -> Item:
    return Item(event.uid, event.type, event.xml, groups, event.time, event.stale, min(event.stale, until))


def _has_expired(record: Record, now: float) -> bool:
    return bool(getattr(record, "expires", now + 1) <= now)  # not all kinds do


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
