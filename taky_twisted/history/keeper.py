"""History as the router and the Marti API know it: it takes note at once, and writes later."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from taky_twisted.background import logged
from taky_twisted.cot.event import Destinations, Event
from taky_twisted.interfaces import HistoryStore
from taky_twisted.logs import Logger

from .records import Heard, HistoryBusy, HistoryError, Past, Written

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from taky_twisted.routing.contacts import Contacts
    from taky_twisted.routing.records import Groups
    from taky_twisted.routing.subscription import Subscription

T = TypeVar("T")

POSITION_SECONDS = 5.0
"""How far two kept positions of one uid are apart."""
MAX_POSITIONS = 20_000
"""Uids whose last kept position is remembered; of more than these more positions are kept."""
WRITE_SECONDS = 0.25
"""How long events are collected before they are written."""
RETRY_SECONDS = 5.0
"""How long after a failure writing is tried again."""
CALM_SECONDS = 5.0
"""After this time in which nothing was left out the trouble is over."""
FORGET_SECONDS = 60.0
"""How often what is too old is forgotten while nothing is said."""
CLOSE_SECONDS = 5.0
"""After this time stopping gives up on a disk that does not answer."""
QUEUE_BYTES = 8 << 20
"""What waits for the disk at most."""
ENTRY_BYTES = 2000
"""What an event costs in memory beside its XML."""
MAX_READING = 16
"""Look-ups that wait at once."""
ADD_EVENTS = 1000
"""Events that are written at once where many come together."""

_TRANSIENT = ("t-", "b-t-f-", "b-f-t-")
"""Control messages and deletes, receipts of chat, offers of files: of no use to anybody later on."""


class History:
    """Keep what is said: all chat and items, and of everybody's positions one in five seconds.

    Noting an event never waits and never fails. What the disk does not take in time is left out and counted; the
    beginning and the end of such a time are in the log.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, store: HistoryStore, contacts: Contacts, where: str) -> None:
        """Touch nothing yet.

        Args:
            clock: tells the time, and schedules writing.
            store: where events are kept.
            contacts: tells who is behind a callsign or a uid.
            where: what the store is, for the operator.
        """
        self._clock, self._store, self._contacts, self._where = clock, store, contacts, where
        self._positions: OrderedDict[str, tuple[float, object]] = OrderedDict()
        self._running = False
        self._queue: list[Heard] = []
        self._queued = 0
        """What the queue and the batch that is being written hold, in bytes."""
        self._timer: IDelayedCall | None = None
        self._writing = False
        self._next_waiters: list[Deferred[None]] = []
        """Wait for what is queued."""
        self._waiters: list[Deferred[None]] = []
        """Wait for the batch that is being written."""
        self._reading = 0
        self._trouble = ""  # why not all of it is kept
        self._lost = 0
        self.lost = 0
        """Events that were left out, in all."""
        self._lost_at = 0.0
        self._forgetting = LoopingCall(self._wake)
        self._forgetting.clock = clock

    @property
    def trouble(self) -> str:
        """Why not all of it is kept at the moment, with what to do; empty if it is."""
        return self._trouble

    @property
    def queued(self) -> int:
        """What waits for the disk, in bytes."""
        return self._queued

    def start(self) -> None:
        """Begin to take note; before this nothing is kept."""
        self._running = True
        self._wake()  # so that what is wrong with the file is said now
        self._forgetting.start(FORGET_SECONDS, now=False).addErrback(logged(self.log, "forgetting what is old"))

    def stop(self) -> Deferred[None]:
        """Write what waits, and let go; gives up on a disk that does not answer for 5 seconds."""
        if not self._running:
            return succeed(None)
        self._running = False
        self._forgetting.stop()
        stopped: Deferred[None] = Deferred()
        giving_up = self._clock.callLater(CLOSE_SECONDS, self._give_up, stopped)

        def done(_: None) -> None:
            if giving_up.active():
                giving_up.cancel()
                stopped.callback(None)

        def flushed(_: None) -> Deferred[None]:
            if self._queue:
                self.log.warn("{count} events of history could not be written and are lost", count=len(self._queue))
            return self._store.close()

        closing = self._flush()
        closing.addCallback(flushed)
        closing.addCallback(done)
        closing.addErrback(logged(self.log, "closing history"))
        return stopped

    def heard(self, event: Event, groups: Groups, source: Subscription, now: float) -> None:
        """Take note of an event; see `taky_twisted.interfaces.Witness`."""
        detail = event.detail
        destinations = detail.destinations
        if event.type.startswith("a-") and not detail.archive:
            # Who says the uid belongs to it: nobody must be able to keep others' positions out.
            said = (groups, source.principal.name, destinations)
            last = self._positions.get(event.uid)
            if last is not None and 0 <= now - last[0] < POSITION_SECONDS and last[1] == said:
                return
            self._remember(event.uid, now, said)
        elif event.type.startswith(_TRANSIENT):
            return
        readers = None
        if destinations is not None and destinations.explicit:
            readers = self._readers(destinations, source)
            if not readers:
                return  # nobody could ever be shown it
        self._add(Heard(event, now, groups, readers))

    def read(self, reading: Callable[[Past], T]) -> Deferred[T]:
        """Look things up, also what was heard a moment ago.

        Args:
            reading: called in another thread with what is kept; what it returns must not need that any more.

        Returns:
            What ``reading`` returned; fails with `HistoryBusy` or `HistoryError`. May be canceled.
        """
        if self._reading >= MAX_READING:
            return fail(HistoryBusy("too many are looking things up; try again in a moment"))
        self._reading += 1
        # Who asked may go away, what runs in the thread does not.
        answer: Deferred[T] = Deferred()

        def wanted(past: Past) -> T:
            if answer.called:
                raise HistoryBusy("nobody waits for this any more")
            return reading(past)

        def done(result: T | Failure) -> None:
            self._reading -= 1
            answer.callback(result)

        self._flush().addCallback(lambda _: self._store.read(wanted)).addBoth(done)
        return answer

    async def add(self, events: Sequence[Heard]) -> None:
        """Keep events that nobody said just now; they are on disk when this returns.

        Raises:
            HistoryError: they cannot be written; some of them may be.
        """
        for at in range(0, len(events), ADD_EVENTS):
            written = await self._store.write(events[at : at + ADD_EVENTS], self._clock.seconds())
            if written.unfit:
                raise HistoryError(written.unfit[0], "Say something else.")

    # Inside

    def _remember(self, uid: str, now: float, said: object) -> None:
        positions = self._positions
        positions.pop(uid, None)
        positions[uid] = now, said
        if len(positions) > MAX_POSITIONS:
            positions.popitem(last=False)

    def _readers(self, destinations: Destinations, source: Subscription) -> tuple[str, ...]:
        """Name who may see what was directed to somebody: its sender, and who is proved to be a recipient."""
        names = {source.principal.name}
        for callsign in destinations.callsigns:
            names.update(contact.principal for contact in self._contacts.called(callsign))
        for uid in destinations.uids:
            contact = self._contacts.get(uid)
            if contact is not None:
                names.add(contact.principal)
        return tuple(sorted(name for name in names if name is not None))

    def _add(self, heard: Heard) -> None:
        if not self._running:
            return
        size = len(heard.event.xml) + ENTRY_BYTES
        if self._queued and self._queued + size > QUEUE_BYTES:
            self._lose(1, "the disk is too slow", "Use a faster one, or switch history off with history_days = 0.")
            return
        self._queued += size
        self._queue.append(heard)
        if self._timer is None and not self._writing:
            self._timer = self._clock.callLater(WRITE_SECONDS, self._due)

    def _wake(self) -> None:
        """Have the store do what is due even if there is nothing to write."""
        if self._timer is None and not self._writing:
            self._write()

    def _flush(self) -> Deferred[None]:
        """Fire when what was noted before is written, or an attempt to do so has failed."""
        if not self._queue and not self._writing:
            return succeed(None)
        done: Deferred[None] = Deferred()
        (self._next_waiters if self._queue else self._waiters).append(done)
        if not self._writing:
            self._write()
        return done

    def _due(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._queue = self._queue, []
        self._waiters, self._next_waiters = self._next_waiters, []
        self._writing = True
        writing = self._store.write(batch, self._clock.seconds())
        writing.addCallbacks(self._written, self._failed, callbackArgs=(batch,), errbackArgs=(batch,))
        writing.addErrback(logged(self.log, "keeping history"))

    def _written(self, written: Written, batch: list[Heard]) -> None:
        self._queued -= sum(len(heard.event.xml) + ENTRY_BYTES for heard in batch)
        if written.unfit:
            self._lose(len(written.unfit), written.unfit[0], "Tell the developers.")
        elif self._trouble and not (self._running and 0 <= self._clock.seconds() - self._lost_at < CALM_SECONDS):
            self.log.info("history is kept again; {lost} events were left out", lost=self._lost)
            self._trouble, self._lost = "", 0
        self._finish(WRITE_SECONDS, written.more)

    def _failed(self, failure: Failure, batch: list[Heard]) -> None:
        self._queue[:0] = batch
        error = failure.value
        if isinstance(error, HistoryError):
            self._lose(0, error.reason, error.advice)
        else:
            # A bug. What caused it may be in the batch, and must not be tried for ever.
            self.log.failure("keeping history failed", failure)
            del self._queue[: len(batch)]
            self._queued -= sum(len(heard.event.xml) + ENTRY_BYTES for heard in batch)
            self._lose(len(batch), "of a bug", "Tell the developers.")
        self._finish(RETRY_SECONDS, True)

    def _finish(self, delay: float, more: bool) -> None:
        waiters, self._waiters = self._waiters, []
        self._writing = False
        if self._next_waiters:
            self._write()
        elif self._running and (self._queue or more):
            self._timer = self._clock.callLater(delay, self._due)
        for waiter in waiters:
            waiter.callback(None)

    def _lose(self, events: int, reason: str, advice: str) -> None:
        if not self._trouble:
            self._trouble = f"{reason}. {advice}"
            self.log.warn(
                "cannot keep all of history in {where}: {reason}. Routing goes on; what does not fit in memory until "
                "this is over is left out. {advice}",
                where=self._where,
                reason=reason,
                advice=advice,
            )
        self._lost += events
        self.lost += events
        self._lost_at = self._clock.seconds()

    def _give_up(self, stopped: Deferred[None]) -> None:
        self.log.warn(
            "history in {where} was not closed within {seconds:.0f} s, the disk does not answer",
            where=self._where,
            seconds=CLOSE_SECONDS,
        )
        stopped.callback(None)
