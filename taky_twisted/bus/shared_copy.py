"""What this node knows of the entries that nodes share: what it agreed on with the others, and what it has to tell.

No input, no output: `taky_twisted.bus.shared_log` does what is decided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from taky_twisted.bus.shared_redis import Change, Found, Place
from taky_twisted.bus.versions import Versions, is_version, seconds_of
from taky_twisted.records import Synced

if TYPE_CHECKING:
    from taky_twisted.interfaces import EventStore

Payloads = Mapping[str, "bytes | None"]
"""Entries of a kind by their keys; None: removed."""
Lost = Callable[[str, bytes, "bytes | None"], object]
Further = Callable[[bytes, bytes], bool]
TakeIn = Callable[[Payloads], "Deferred[Collection[str]] | Collection[str]"]


@dataclass(frozen=True, slots=True)
class Kind:
    """How this node keeps the entries of one kind."""

    name: str
    take_in: TakeIn
    """Has entries of other nodes count here, and says which do; what could not be read is tried again some time."""
    current: Callable[[], Mapping[str, bytes]]
    """Lists what counts here."""
    first_wins: bool = False
    """Whether an entry that several nodes make at the same time is that of the first one, not of the last."""
    lasting: bool = False
    """Whether entries are never removed, and ``take_in`` makes one of what is here and what comes."""
    lost: Lost | None = None
    """Is told, just before that is taken in, of an entry that was made here while another node had made it first: its
    key, what it was here, and what it is there."""
    further: Further | None = None
    """Set for entries that are used up: of two changes it says whether the first one has less left; then that one
    counts, whenever they were made. What was removed never comes back."""
    lossy: bool = False
    """Whether what is missing at the start may have been lost, so that it says nothing about what was removed."""


@dataclass(frozen=True, slots=True)
class Base:
    """What was agreed on last."""

    version: str
    digest: str
    """Empty: the entry was removed."""


@dataclass(slots=True)
class Pending:
    """A change that is to be told."""

    version: str
    payload: bytes | None
    new: bool = False
    """Whether it counts only if there is no such entry."""
    final: bool = False
    """Whether it does not count if the entry was removed."""
    tried: tuple[str, ...] = ()
    """Versions of ours that Redis may have, because they were sent and perhaps not answered."""


class Verdict(Enum):
    """What a version that is found in Redis means."""

    KNOWN = auto()
    """Nothing new."""
    NEWER = auto()
    """It is to be taken in, unless a change of ours is newer still."""
    LOST = auto()
    """Redis had a newer one, and has it no more."""


class SharedCopy:
    """The entries that nodes share, as this node knows them; without what they say."""

    def __init__(self, store: EventStore, versions: Versions) -> None:
        """Know nothing yet.

        Args:
            store: where what was agreed on survives a restart.
            versions: makes versions.
        """
        self._store, self._versions = store, versions
        self._bases: dict[Place, Base] = {}
        self.pending: dict[Place, Pending] = {}

    def restore(self, records: Iterable[Synced]) -> None:
        """Take over what the store held."""
        for record in records:
            self._bases[record.kind, record.name] = Base(record.version, record.digest)
            self._versions.saw(record.version)

    def base(self, place: Place) -> Base | None:
        """Say what was agreed on last."""
        return self._bases.get(place)

    def bases(self) -> Iterator[tuple[Place, Base]]:
        """Go through everything that was agreed on."""
        return iter(list(self._bases.items()))

    def put(self, kind: Kind, key: str, payload: bytes | None) -> bool:
        """Note a change that was made here just now; say whether it is one."""
        place = kind.name, key
        pending, base = self.pending.get(place), self._bases.get(place)
        before = digest_of(pending.payload) if pending is not None else base.digest if base is not None else ""
        if digest_of(payload) == before:
            return False
        tried, final = pending.tried if pending is not None else (), kind.further is not None
        if payload is None and base is None and not tried:
            del self.pending[place]  # nobody has ever heard of it
            return True
        self.pending[place] = Pending(self._versions.next(), payload, kind.first_wins and base is None, final, tried)
        return True

    def changed_before(self, kind: Kind, when: float, newcomer: bool) -> None:
        """Note what was changed while this node was not running.

        Args:
            kind: of which entries.
            when: when the latest of these changes may have been made, in seconds since the epoch.
            newcomer: whether this node has never agreed with others on anything: then theirs counts.
        """
        current = kind.current()
        for key, payload in current.items():
            place = kind.name, key
            base = self._bases.get(place)
            if place in self.pending or (base is not None and base.digest == digest_of(payload)):
                continue
            version = self._versions.at(when, base.version if base is not None else None)
            if kind.lasting and base is not None:
                self._forget(place)  # a file from a backup may know less than Redis: that is read before this is told
                base = None
            new = base is None and (newcomer or kind.first_wins or kind.lasting)
            self.pending[place] = Pending(version, payload, new, kind.further is not None)
        for place, base in self.bases():
            if place[0] == kind.name and base.digest and place[1] not in current and place not in self.pending:
                if kind.lasting or kind.lossy:
                    self._forget(place)  # a file that was put back from a backup, for example: it is read anew
                else:
                    self.pending[place] = Pending(self._versions.at(when, base.version), None)

    def verdict(self, place: Place, version: str) -> Verdict:
        """Say what it means that Redis has a version of an entry."""
        self._versions.saw(version)
        base, pending = self._bases.get(place), self.pending.get(place)
        if pending is not None and version in pending.tried:
            pending.new = False  # Redis has it, so we were first
            return Verdict.KNOWN
        if base is not None and base.version == version:
            return Verdict.KNOWN
        return Verdict.NEWER if base is None or version > base.version else Verdict.LOST

    def has(self, place: Place, payload: bytes | None) -> bool:
        """Whether this node has agreed to just that, in whatever version."""
        base = self._bases.get(place)
        return base is not None and base.digest == digest_of(payload)

    def counts(self, kind: Kind, key: str, there: Found) -> bool:
        """Whether what another node says of an entry, in a version that is newer than what was agreed on, counts here.

        If it does not, there is something to be told.
        """
        place = kind.name, key
        base, pending = self._bases.get(place), self.pending.get(place)
        if kind.further is not None and pending is None and base is not None and there.payload is not None:
            if base.digest:
                return True
            self.pending[place] = Pending(self._versions.next(), None)  # who wrote that did not know of its end
            return False
        if pending is None or pending.new or kind.lasting:
            return True
        if kind.further is None or pending.payload == there.payload:
            return there.version > pending.version
        if pending.payload is None or there.payload is None:
            return pending.payload is not None
        if kind.further(pending.payload, there.payload) or kind.further(there.payload, pending.payload):
            return kind.further(there.payload, pending.payload)
        return there.version > pending.version

    def again(self, kind: Kind, key: str, payload: bytes | None) -> None:
        """Note that something has to be told once more, as it is here, because Redis has lost it."""
        place = kind.name, key
        base = self._bases.get(place)
        if base is None or place in self.pending or (kind.lasting and payload is None):
            return
        same = digest_of(payload) == base.digest
        version = base.version if same else self._versions.next()
        self.pending[place] = Pending(version, payload, final=kind.further is not None)

    def batch(self, entries: int, size: int) -> list[tuple[Change, Pending]]:
        """List what is told next, at least one change if there is one."""
        found: list[tuple[Change, Pending]] = []
        for place, pending in self.pending.items():
            size -= len(pending.payload or b"") + len(place[1])
            if found and (len(found) == entries or size < 0):
                break
            change = Change(place, pending.version, pending.payload, pending.new, pending.final)
            found.append((change, pending))
            if pending.version not in pending.tried:
                pending.tried += (pending.version,)
        return found

    def agreed(self, place: Place, version: str, payload: bytes | None) -> None:
        """Note that this node and Redis have the same of an entry."""
        base = self._bases.get(place)
        if base is not None and base.version > version:
            return
        self._bases[place] = Base(version, digest_of(payload))
        self._store.put(Synced(*place, version, digest_of(payload)))

    def told(self, change: Change, pending: Pending) -> None:
        """Note that Redis has a change of ours."""
        self.agreed(change.place, change.version, change.payload)
        self.drop(change.place, pending)

    def insist(self, place: Place, pending: Pending, there: str) -> None:
        """Note that Redis has not taken a change, and that what it has instead cannot be read: ours counts."""
        if self.pending.get(place) is pending:
            if is_version(there):
                self._versions.saw(there)
            if there not in pending.tried:
                pending.version = self._versions.next()
            pending.new = False

    def drop(self, place: Place, pending: Pending) -> None:
        """Tell a change no more, unless there is a newer one by now."""
        if self.pending.get(place) is pending:
            del self.pending[place]

    def forget(self, before: float, most: int) -> list[tuple[Place, str]]:
        """Forget some of what was removed long ago, and say what that was."""
        removed = ((place, base.version) for place, base in self.bases() if not base.digest)
        old = list(islice((each for each in removed if seconds_of(each[1]) < before), most))
        for place, _ in old:
            self._forget(place)
        return old

    def _forget(self, place: Place) -> None:
        del self._bases[place]
        self._store.remove(Synced, Synced(*place, "", "").key)


def digest_of(payload: bytes | None) -> str:
    """Tell an entry from others; empty for one that was removed."""
    return "" if payload is None else hashlib.blake2b(payload, digest_size=16).hexdigest()
