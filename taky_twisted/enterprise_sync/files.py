"""What is stored, who sees it, and who may change it.

The index of all files is in memory; every change goes to the site's store, and is answered when that has it.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from twisted.internet.interfaces import IReactorTime

from taky_twisted.background import logged
from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.contents import Incoming
from taky_twisted.enterprise_sync.disk_thread import Stopped
from taky_twisted.enterprise_sync.errors import NoRoom, NoSuchFile, NotYours
from taky_twisted.enterprise_sync.records import HIGH, NEVER, Groups, StoredFile
from taky_twisted.enterprise_sync.texts import clean_name, clean_type
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import Logger

log = Logger()

PUBLIC = "public"
PRIVATE = "private"
PACKAGE = "missionpackage"
"""The keyword of a data package."""
PACKAGE_TYPE = "application/x-zip-compressed"
ANY_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    principal: Principal = ANONYMOUS
    address: str | None = None
    """Where from; None: no client asks, but this server itself."""
    admin: bool = False

    def sees(self, record: StoredFile) -> bool:
        """Whether a file is in a group that the caller hears."""
        return not record.groups.isdisjoint(self.principal.groups_out)

    def owns(self, record: StoredFile) -> bool:
        """Whether it was proved to be the caller who uploaded a file."""
        return record.submitter is not None and record.submitter == self.principal.name


@dataclass(frozen=True, slots=True)
class Words:
    """What an uploader says of a file."""

    name: str = ""
    uid: str | None = None
    mime_type: str = ""
    tool: str | None = None
    """None: not said."""
    keywords: tuple[str, ...] = ()
    creator_uid: str = ""
    groups: Groups | None = None
    """None: all IN groups of the uploader."""
    expiration: float = NEVER
    remarks: str = ""
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    permissions: tuple[str, ...] = ()
    contacts: tuple[str, ...] = ()

    def completed(self, digest: str, file_name: str, mime_type: str) -> Words:
        """Fill in what was not said: from the body, or else so that every list shows something."""
        package = PACKAGE in self.keywords
        return replace(
            self,
            name=self.name or clean_name(file_name) or digest,
            mime_type=self.mime_type or clean_type(mime_type) or (PACKAGE_TYPE if package else ANY_TYPE),
            uid=digest if package and self.uid is None else self.uid,
        )


class Files:
    """All stored files."""

    def __init__(self, store: EventStore, blobs: Blobs, clock: IReactorTime, limit: int) -> None:
        """Start with none.

        Args:
            store: where they survive a restart.
            blobs: their contents.
            clock: the time, in seconds since the epoch.
            limit: how many there may be.
        """
        self._store, self._blobs, self._clock, self._limit = store, blobs, clock, limit
        self._by_number: dict[int, StoredFile] = {}
        self._by_hash: dict[str, dict[int, StoredFile]] = {}
        self._next = 1
        self._claims: Counter[str] = Counter()
        self._addresses: dict[int, str] = {}
        self.numbers: Callable[[], int] | None = None
        """Gives a number that no other node gives; None: this is the only node, and counts by itself."""
        self._expecting = False

    def restore(self, records: Iterable[StoredFile]) -> None:
        """Take over what a store held."""
        for record in sorted(records, key=lambda record: record.number):
            self._index(record)

    def expect_contents(self) -> None:
        """Get what other nodes have and this one has not, of all files that are known and will be."""
        self._expecting = True
        for record in self._by_number.values():
            self._expect(record)

    def take_in(self, key: str, record: StoredFile | None) -> None:
        """Have a file be what another node says; None: it was deleted. The store has it already."""
        old = self._by_number.get(int(key)) if key.isdecimal() else None
        if old is not None:
            self._drop(old)
        if record is not None:
            self._index(record)
            if self._expecting:
                self._expect(record)
        if old is not None:
            self._tidy(old.hash)

    def lost(self, ours: StoredFile, theirs: StoredFile | None) -> None:
        """Give a file that was stored here another number, because another node has given its own away first.

        Args:
            ours: as it was stored here.
            theirs: what has the number now; None: it had been somebody else's, and is gone.
        """
        if theirs is None or _upload(theirs) != _upload(ours):
            self._put(replace(ours, number=self._new_number()))

    @property
    def highest(self) -> int:
        """The highest number that was counted."""
        return self._next - 1

    def hashes(self) -> set[str]:
        """List the contents that are referred to."""
        return set(self._by_hash)

    def all(self, caller: Caller) -> list[StoredFile]:
        """List what a caller sees, by number."""
        records = (self._by_number[number] for number in sorted(self._by_number))
        return [record for record in records if self._there(record) and caller.sees(record)]

    def find(self, caller: Caller, *, hash: str | None = None, uid: str | None = None) -> StoredFile:
        """Find the newest file with a content or a uid; `NoSuchFile` if the caller sees none."""
        found: StoredFile | None = None
        for record in self._by_hash.get(hash, {}).values() if hash is not None else self._by_number.values():
            fits = uid is None or record.uid == uid
            if (
                fits
                and caller.sees(record)
                and self._there(record)
                and (not found or found.submitted <= record.submitted)
            ):
                found = record
        if found is None:
            raise NoSuchFile("there is no such file here")
        return found

    def check_room(self, caller: Caller, words: Words) -> None:
        """See whether one more could be stored.

        Raises:
            NoRoom: there are as many as there may be.
            NotYours: a group was named that the caller may not speak to.
        """
        groups = caller.principal.groups_in if words.groups is None else words.groups
        if not groups:
            raise NotYours("you are in no group that the file could be for")
        if not groups <= caller.principal.groups_in:
            missing = ", ".join(sorted(groups - caller.principal.groups_in))
            raise NotYours(f"you may not upload to {missing}")
        if len(self._by_number) >= self._limit:
            raise NoRoom(f"the server keeps up to {self._limit} files; delete some, or raise its limit stored_files")

    async def add(self, incoming: Incoming, words: Words, caller: Caller) -> StoredFile:
        """Store a file whose content is sealed.

        Raises:
            SyncError: it may not be stored, as `check_room`.
            OSError: its content cannot be put in its place.
        """
        with self.claimed(incoming.hash):
            await self._blobs.keep(incoming)
            record = self.insert(words, incoming.hash, incoming.size, caller, self._clock.seconds())
        await self._store.flush()
        return record

    @contextmanager
    def claimed(self, digest: str) -> Iterator[None]:
        """Keep a content, though nothing refers to it yet; see in the end whether something does."""
        self._claims[digest] += 1
        try:
            yield
        finally:
            self._claims[digest] -= 1
            if not self._claims[digest]:
                del self._claims[digest]
            self._tidy(digest)

    def insert(self, words: Words, digest: str, size: int, caller: Caller, submitted: float) -> StoredFile:
        """Add the record of a content that is in its place, or change the one of an upload that is repeated."""
        old = self._repeated(words, digest, caller)
        if old is None:
            self.check_room(caller, words)  # again: others came while this one was uploaded
        groups = words.groups
        if groups is None:
            # Who got the file from an earlier upload can still get it.
            groups = caller.principal.groups_in | (old.groups if old else frozenset())
        record = StoredFile(
            number=old.number if old else self._new_number(),
            hash=digest,
            uid=words.uid or (old.uid if old else str(uuid.uuid4())),
            name=words.name,
            size=size,
            mime_type=words.mime_type,
            tool=words.tool if words.tool is not None else (old.tool if old else PUBLIC),
            keywords=words.keywords,
            submitted=submitted,
            submitter=caller.principal.name,
            creator_uid=words.creator_uid,
            groups=groups,
            expiration=words.expiration,
            remarks=words.remarks,
            latitude=words.latitude,
            longitude=words.longitude,
            altitude=words.altitude,
            permissions=words.permissions,
            contacts=words.contacts,
        )
        if old is not None:
            record = _not_ended(caller, old, record)
        self._put(record)
        if caller.principal.anonymous and caller.address is not None:
            self._addresses[record.number] = caller.address
        return record

    async def change(self, caller: Caller, digest: str, change: Callable[[StoredFile], StoredFile]) -> None:
        """Change what is said of a content, in the caller's own files; those of others stay as they are.

        Raises:
            NoSuchFile: the caller knows of no such content.
        """
        records = list(self._by_hash.get(digest, {}).values())
        if not any(self._there(record) and (caller.sees(record) or caller.owns(record)) for record in records):
            raise NoSuchFile("there is no such file here")
        for record in records:
            if self._may_change(caller, record):
                self._put(_not_ended(caller, record, change(record)))
        await self._store.flush()

    async def delete(self, caller: Caller, wanted: Callable[[StoredFile], bool]) -> int:
        """Delete those that are a caller's, and say how many; for an administrator they may be anybody's.

        Raises:
            NoSuchFile: the caller knows of none.
            NotYours: all are somebody else's.
        """
        found = [record for record in self._by_number.values() if wanted(record)]
        mine = [record for record in found if caller.admin or caller.owns(record)]
        if caller.principal.anonymous and not caller.admin:
            raise NotYours("who is anonymous cannot delete")
        if not mine:
            if not any(self._there(record) and caller.sees(record) for record in found):
                raise NoSuchFile("there is no such file here")
            raise NotYours("only who uploaded a file, or an administrator, can delete it")
        for record in mine:
            self._remove(record)
        await self._store.flush()
        return len(mine)

    async def flush(self) -> None:
        """Wait until the store has all that was changed."""
        await self._store.flush()

    def expire(self) -> None:
        """Forget files whose time is over."""
        now = self._clock.seconds()
        for record in [record for record in self._by_number.values() if 0 <= record.expiration <= now]:
            self._remove(record)

    def _may_change(self, caller: Caller, record: StoredFile) -> bool:
        if not caller.principal.anonymous:
            return caller.owns(record)
        # Nothing proves who was anonymous; until the next start its address tells what it has uploaded itself. What is
        # older stays as it is, for an ATAK that passes on a public package says that it is private.
        return record.submitter is None and self._addresses.get(record.number) == caller.address

    def _there(self, record: StoredFile) -> bool:
        expired = 0 <= record.expiration <= self._clock.seconds()
        return not expired and self._blobs.is_known(record.hash, record.size)

    def _repeated(self, words: Words, digest: str, caller: Caller) -> StoredFile | None:
        for record in self._by_hash.get(digest, {}).values():
            same = (record.creator_uid, record.name) == (words.creator_uid, words.name)
            if same and self._may_change(caller, record):
                return record
        return None

    def _put(self, record: StoredFile) -> None:
        self._index(record)
        self._store.put(record)

    def _index(self, record: StoredFile) -> None:
        self._by_number[record.number] = record
        self._by_hash.setdefault(record.hash, {})[record.number] = record
        if record.number < HIGH:
            self._next = max(self._next, record.number + 1)

    def _new_number(self) -> int:
        number = self._next
        while self.numbers is not None and (number := self.numbers()) in self._by_number:
            pass
        return number

    def _expect(self, record: StoredFile) -> None:
        # If nobody can give it just now, it is asked for again when somebody wants to read it.
        expecting = self._blobs.expect(record.hash, record.size)
        expecting.addErrback(lambda failure: failure.trap(NoSuchFile, Stopped) and None)
        expecting.addErrback(logged(log, "getting a file from another node"))

    def _remove(self, record: StoredFile) -> None:
        self._drop(record)
        self._store.remove(StoredFile, record.key)
        self._tidy(record.hash)

    def _drop(self, record: StoredFile) -> None:
        del self._by_number[record.number]
        same = self._by_hash[record.hash]
        del same[record.number]
        if not same:
            del self._by_hash[record.hash]
        self._addresses.pop(record.number, None)

    def _tidy(self, digest: str) -> None:
        """Delete a content that nothing refers to."""
        if digest not in self._by_hash and digest not in self._claims:
            self._blobs.forget(digest)


def _upload(record: StoredFile) -> tuple[object, ...]:
    """Tell one upload from others; what is said of it may be changed later."""
    return record.hash, record.submitter, record.creator_uid


def _not_ended(caller: Caller, old: StoredFile, new: StoredFile) -> StoredFile:
    """Let a file go only when it was to go anyway, if its uploader was anonymous and so may not delete it."""
    return replace(new, expiration=old.expiration) if caller.principal.anonymous else new
