"""What waits for one reader: everything while it keeps up, the newest and the important when it does not.

While a reader keeps up nothing is here. When its transport is full, batches wait whole, shared with all others that
wait for them. Only when the backlog is too old or too large is it *thinned*: of what was said to everybody only the
newest per uid is kept; chat, receipts, emergencies, deletes, file offers, control messages and everything directed
stays, in order. Both parts are bounded in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from taky_twisted.cot.event import Event
from taky_twisted.cot.types import DELETE, is_protected
from taky_twisted.takproto.batch import Batch

CHUNK_BYTES = 1 << 16
"""About how much is handed to a transport at once: where Twisted's transports say that they are full."""

MAX_SUPERSEDED = 20_000
"""Uids that are remembered because something newer was said of them than a newcomer is still to be told."""

Replay = tuple[str, tuple[Event, ...]]
"""A uid, and what a newcomer is told about it, in order."""


class OutboxOverflow(Exception):
    """More waits for a reader than may wait, and none of it may be dropped; the text says what."""


class Outbox:
    """The queue between the router and one transport that is full; pure, the caller tells the time."""

    def __init__(self, limit: int, thin_seconds: float) -> None:
        """Make an empty outbox.

        Args:
            limit: bytes of backlog before it is thinned, and of each of the two parts afterwards.
            thin_seconds: age of the backlog at which it is thinned.
        """
        self._limit = limit
        self._thin_seconds = thin_seconds
        self._batches: deque[tuple[float, Batch]] = deque()
        self._bytes = 0
        # What it is told, and the uids of which something newer was said since that was asked for.
        self._replays: deque[tuple[Iterator[Replay], set[str]]] = deque()
        self._thinned: dict[object, Event] = {}  # by uid, what is protected by a key of its own
        self._protected_bytes = 0
        self._newest_bytes = 0
        self._reports: dict[str, None] = {}  # uids of waiting self-reports, oldest first
        self.dropped = 0
        """Events that were overtaken by newer ones or dropped, in all."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._batches or self._thinned or self._replays)

    @property
    def backlog(self) -> int:
        """Bytes that wait, without what is replayed to a newcomer."""
        return self._bytes + self._protected_bytes + self._newest_bytes

    @property
    def waiting(self) -> int:
        """Events that wait, without what is replayed to a newcomer."""
        return sum(len(batch.events) for _, batch in self._batches) + len(self._thinned)

    def add(self, batch: Batch, now: float) -> int:
        """Queue a batch.

        Returns:
            How many events were dropped for that.

        Raises:
            OutboxOverflow: the reader must be closed.
        """
        before = self.dropped
        if self._replays:
            self._supersede(batch)
        if not self._thinned:
            self._batches.append((now, batch))
            self._bytes += len(batch)
            if self._bytes <= self._limit and now - self._batches[0][0] <= self._thin_seconds:
                return 0
            self._fold()
        else:
            self._thin(batch)
        self._check()
        return self.dropped - before

    def replay(self, entries: Iterable[Replay]) -> None:
        """Queue what a newcomer is told; what is said in the meantime about the same uid takes its place.

        Entries are asked for only when they can be written, so that a crowd of newcomers costs no memory. What was
        said before keeps nothing from who is told anew: it may have forgotten that. The same iterator again takes its
        own place.
        """
        self._replays = deque(waiting for waiting in self._replays if waiting[0] is not entries)
        self._replays.append((iter(entries), set()))

    def take(self) -> Batch | None:
        """Take the next piece to be written, or nothing when all is gone."""
        if self._batches:
            batch = self._batches.popleft()[1]
            self._bytes -= len(batch)
            return batch
        events = self._take_thinned() if self._thinned else self._take_replay()
        return Batch(events) if events else None

    def keep_directed(self) -> None:
        """Keep only what is owed to this reader in particular, and whatever else must not be lost."""
        self._replays.clear()
        self._fold()
        for key in [key for key, event in self._thinned.items() if key == event.uid]:
            self._remove(key)

    def unsent(self) -> list[Event]:
        """Take everything that was said and not yet taken, for a reader that is gone."""
        events = [event for _, batch in self._batches for event in batch.events]
        events += self._thinned.values()
        for waiting in (self._batches, self._thinned, self._reports):
            waiting.clear()
        self._replays.clear()
        self._bytes = self._protected_bytes = self._newest_bytes = 0
        return events

    def _supersede(self, batch: Batch) -> None:
        uids = {event.uid for event in batch.events}
        uids.update(event.detail.link_uid for event in batch.events if event.type == DELETE)
        for number, (entries, said) in enumerate(self._replays):
            said |= uids
            if len(said) > MAX_SUPERSEDED:
                # A reader that never catches up is never told: what is left to tell it is settled now, and bounded.
                self._replays[number] = iter([entry for entry in entries if entry[0] not in said]), set()

    def _take_thinned(self) -> list[Event]:
        keys, size = [], 0
        for key, event in self._thinned.items():
            keys.append(key)
            size += len(event.xml)
            if size >= CHUNK_BYTES:
                break
        return [self._remove(key) for key in keys]

    def _take_replay(self) -> list[Event]:
        events: list[Event] = []
        size = 0
        while self._replays:
            entries, said = self._replays[0]
            for uid, told in entries:
                if uid in said:
                    continue
                events += told
                size += sum([len(event.xml) for event in told])
                if size >= CHUNK_BYTES:
                    return events
            self._replays.popleft()
        return events

    def _fold(self) -> None:
        waiting, self._batches, self._bytes = self._batches, deque(), 0
        for _, older in waiting:
            self._thin(older)

    def _thin(self, batch: Batch) -> None:
        thinned = self._thinned
        for event in batch.events:
            if batch.directed or is_protected(event.type):
                thinned[object()] = event
                self._protected_bytes += len(event.xml)
                continue
            if event.uid in thinned:
                self._remove(event.uid)
                self.dropped += 1
            thinned[event.uid] = event
            self._newest_bytes += len(event.xml)
            if event.is_self_report:
                self._reports[event.uid] = None

    def _remove(self, key: object) -> Event:
        event = self._thinned.pop(key)
        if key == event.uid:
            self._newest_bytes -= len(event.xml)
            self._reports.pop(event.uid, None)
        else:
            self._protected_bytes -= len(event.xml)
        return event

    def _check(self) -> None:
        while self._newest_bytes > self._limit and self._reports:
            self._remove(next(iter(self._reports)))
            self.dropped += 1
        if self._newest_bytes > self._limit:
            raise OutboxOverflow(f"over {self._limit} bytes of map items wait for it")
        if self._protected_bytes > self._limit:
            raise OutboxOverflow(f"over {self._limit} bytes of messages wait for it")
