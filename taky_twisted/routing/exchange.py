"""Make what is on the map the same on all nodes again: when a node starts, and after words were lost.

Each node sums up what it knows in 256 parts. Whoever has another sum for a part tells all that it has there, and of two
versions the newer one counts. What a node still has from an earlier run, and another node that has heard everything
since does not have, was deleted or delivered in the meantime: it is dropped, and nothing comes back from the dead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, SchedulerStopped, deferLater

from taky_twisted.background import logged
from taky_twisted.cot import compose
from taky_twisted.logs import Logger

from .kept import kept_event
from .records import Emergency, Item, KnownContact, MissedChat, Tombstone
from .words import Digest, Known

if TYPE_CHECKING:
    from .nodes import Nodes
    from .router import Router

    Fact = Item | Tombstone | Emergency | MissedChat | KnownContact
    Steps = Iterator[Deferred[None] | None]

PARTS = 256
WORD_BYTES = 1 << 15
"""About how much is told at once: what is taken in a few milliseconds."""
WAIT_SECONDS = 0.05
"""How long who has much to tell waits at a time: for words of more haste to get out, or for those who know more."""
PIECE = 100
"""Records that are looked at in one go."""

Place = tuple[str, str]
"""A kind of record, and what tells one from the others on every node."""


class Exchange:
    """Compare this node's picture with the others'."""

    log = Logger()

    def __init__(self, router: Router, clock: IReactorTime, nodes: Nodes) -> None:
        self._router, self._clock, self._nodes = router, clock, nodes
        self._cooperator = Cooperator(scheduler=lambda call: clock.callLater(0, call))
        self.since = clock.seconds()
        """From when on everything that was said has been heard here, or is known from a node that heard it."""
        self._left_off = 0.0
        self._old: dict[Place, int] = {}
        """What is known from an earlier run only, and nobody has confirmed yet."""
        self._has_elder = False
        """Whether a node was heard that has heard everything since that run."""
        self._listed: dict[str, set[Place]] = {}
        self.agreed: Deferred[None] = Deferred()
        """Fires once this node has what another one had."""

    def restored(self, left_off: float) -> None:
        """Note what is known from an earlier run only; to be called after the router has restored it.

        Args:
            left_off: until when that run heard all nodes, in seconds since the epoch; 0 if that is not known.
        """
        self._left_off = left_off
        self._old = {_place(record): _version(record) for record in self._records() if _said(record) <= left_off}

    def afresh(self) -> None:
        """Note that what was said up to now may not have been heard here."""
        self.since = self._router.now()

    def stop(self) -> None:
        """Compare nothing more."""
        self._cooperator.stop()

    def forget(self, node: str) -> None:
        """Let go of what a node that is gone had not told completely."""
        self._listed.pop(node, None)

    def do(self, steps: Steps) -> None:
        """Do something that takes long, a few milliseconds at a time."""
        done = self._cooperator.cooperate(steps).whenDone()
        done.addErrback(lambda failure: failure.trap(SchedulerStopped))
        done.addErrback(logged(self.log, "comparing with another node"))

    def wait(self) -> Steps:
        """Let go out first what waits for that already."""
        while self._nodes.bus.crowded:
            yield deferLater(self._clock, WAIT_SECONDS)

    def tell_digest(self) -> Steps:
        """Tell the others in short what is known here, in steps."""
        sums = [0] * PARTS
        yield from self._sum_up(sums)
        self._nodes.bus.tell(Digest(tuple(sums), self.since))

    def compare(self, word: Digest) -> None:
        """Tell what another node seems not to have."""
        self.do(self._answer(word))

    def take(self, node: str, word: Known) -> None:
        """Take what another node knows."""
        listed = self._listed.setdefault(node, set())
        for record in word.records:
            if isinstance(record, Item | Tombstone | Emergency | MissedChat | KnownContact):
                listed.add(_place(record))
                self._merge(record)
        if word.parts:
            del self._listed[node]
            if self._is_elder(word.since):
                self._drop_outdated(listed, set(word.parts))
            self._agree(word.since)

    def _is_elder(self, since: float) -> bool:
        """Whether who has heard everything since then knows what became of what is remembered here."""
        is_elder = bool(self._old) and since <= self._left_off
        self._has_elder = self._has_elder or is_elder
        return is_elder

    def _settle(self, parts: set[int]) -> None:
        self._old = {place: version for place, version in self._old.items() if _part(place) not in parts}

    def _agree(self, since: float) -> None:
        self.since = min(self.since, since)
        if not self.agreed.called:
            self.agreed.callback(None)

    def _answer(self, word: Digest) -> Steps:
        is_elder = self._is_elder(word.since)
        while self._old and not self._has_elder and self._nodes.unknown:
            yield deferLater(self._clock, WAIT_SECONDS)  # one of them may know what became of it
        sums = [0] * PARTS
        yield from self._sum_up(sums)
        parts = {part for part, (ours, theirs) in enumerate(zip(sums, word.parts, strict=False)) if ours != theirs}
        if is_elder:
            self._settle(set(range(PARTS)) - parts)
        if not parts:
            self._agree(word.since)
            return
        told: list[Fact] = []
        size = 0
        for number, record in enumerate(self._records()):
            if _part(_place(record)) in parts and not (self._has_elder and self._is_old(record)):
                told.append(record)
                size += len(getattr(record, "xml", b"")) + 100
                if size > WORD_BYTES:
                    self._nodes.bus.tell(Known(tuple(told)))
                    told, size = [], 0
                    yield from self.wait()
            if number % PIECE == 0:
                yield None
        self._nodes.bus.tell(Known(tuple(told), tuple(sorted(parts)), self.since))

    def _is_old(self, record: Fact) -> bool:
        place = _place(record)
        return place in self._old and self._old[place] == _version(record)

    def _sum_up(self, sums: list[int]) -> Steps:
        for number, record in enumerate(self._records()):
            place = _place(record)
            sums[_part(place)] ^= crc32(f"{place[0]} {place[1]} {_version(record)}".encode("utf-8", "surrogatepass"))
            if number % PIECE == 0:
                yield None

    def _records(self) -> Iterator[Fact]:
        router, now = self._router, self._router.now()
        yield from router.retained.records(now)
        yield from router.emergencies.records()
        yield from router.chats.records(now)
        yield from router.contacts.records_of_absent()

    def _merge(self, record: Fact) -> None:
        router, now = self._router, self._router.now()
        if isinstance(record, Tombstone):
            gone = router.retained.merge_tombstone(record, now)
            if gone is not None:
                router.announce(compose.departure(record.uid, gone.type, now), record.groups)
            router.emergencies.end(record.uid, record.deleted)
            contact = router.contacts.get(record.uid)
            if contact and contact.sa and router.retained.was_deleted(contact.sa, contact.groups_in):
                router.contacts.take_off_map(record.uid, record.groups)
            return
        event = kept_event(record)
        if event is None:
            return
        if isinstance(record, KnownContact):
            if not router.retained.was_deleted(event, record.groups_in):
                router.contacts.merge(record, now)
            return
        if isinstance(record, Item):
            present = router.contacts.is_present(record.uid, record.groups)
            if not present and router.retained.merge(event, record.groups, record.expires, now):
                router.announce(event, record.groups)
        elif isinstance(record, Emergency):
            if not router.retained.was_deleted(event, record.groups):
                router.emergencies.merge(record, event)
        elif self._nodes.was_delivered(record.recipient, event):
            self._nodes.settle(record.recipient, event)
        elif record.expires > now:
            contact = router.contacts.get(record.recipient)
            if contact is None or not contact.holders:
                router.chats.merge(record, event)

    def _drop_outdated(self, listed: set[Place], parts: set[int]) -> None:
        router, now = self._router, self._router.now()
        outdated = [
            record
            for record in self._records()
            if (place := _place(record)) not in listed and _part(place) in parts and self._is_old(record)
        ]
        self._settle(parts)
        for record in outdated:
            if isinstance(record, Item):
                router.retained.remove(record.uid, record.groups)
                router.announce(compose.departure(record.uid, record.type, now), record.groups)
            elif isinstance(record, Emergency):
                router.emergencies.end(record.uid, float("inf"))
            elif isinstance(record, MissedChat):
                router.chats.forget(record)
        if outdated:
            self.log.info(
                "{count} things that this node remembered were deleted or delivered while it was away",
                count=len(outdated),
            )


def _place(record: Fact) -> Place:
    key = f"{record.recipient}\n{crc32(record.xml)}" if isinstance(record, MissedChat) else record.key
    return type(record).__name__, key


def _part(place: Place) -> int:
    return crc32(f"{place[0]} {place[1]}".encode("utf-8", "surrogatepass")) % PARTS


def _version(record: Fact) -> int:
    """Sum up what differs if one node knows something newer; not when each heard of it."""
    if isinstance(record, Tombstone):
        return round(record.deleted * 1000)
    return crc32(record.xml)


def _said(record: Fact) -> float:
    """Tell when something was said."""
    if isinstance(record, Item):
        return record.time
    if isinstance(record, Emergency):
        return record.raised
    if isinstance(record, KnownContact):
        return record.seen
    event = kept_event(record) if isinstance(record, MissedChat) else None
    return event.time if event is not None else 0.0
