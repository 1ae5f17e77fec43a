"""Collect changes and write them in batches, later, so that the event path never waits for a disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Union

from twisted.internet.defer import Deferred, succeed

from taky_twisted.background import logged
from taky_twisted.interfaces import StoreState
from taky_twisted.logs import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from taky_twisted.records import Record

WRITE_SECONDS = 0.25
"""How long changes are collected before they are written."""
RETRY_SECONDS = 5.0
"""How long after a failure writing is tried again."""

Place = tuple["type[Record]", str]
"""A kind of record and a key."""
Changes = dict[Place, Union["Record", None]]
"""The newest state of each place; None: removed."""


class CannotWrite(Exception):
    """A batch could not be written, for a reason outside of this program.

    Nothing of it is kept by the backend; it is tried again.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        """What the operator can do, as a sentence."""


class WriteBehind:
    """Collect changes, newest per place, and hand them to ``write`` one batch at a time.

    While a batch is being written the next one collects. A batch that fails is merged under the newer changes and
    tried again. The memory that is needed is bounded by the places that are there or once were on disk. While nothing
    changes and writing works, no timer runs.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        write: Callable[[Changes], Deferred[None]],
        where: str,
        write_seconds: float = WRITE_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Write nothing yet.

        Args:
            clock: Schedules the batches.
            write: Writes a batch, all or nothing; fails with `CannotWrite`. A part that was written does no harm if
                writing it again does none.
            where: What is written to, for the operator.
            write_seconds: How long changes are collected before they are written.
            retry_seconds: How long after a failure writing is tried again.
        """
        self._clock = clock
        self._write_seconds, self._retry_seconds = write_seconds, retry_seconds
        self._write = write
        self._where = where
        self._pending: Changes = {}
        self._awake = False
        """Whether a timer is set or a batch is being written, so that nothing needs to be scheduled."""
        self._timer: IDelayedCall | None = None
        self._batch: Changes = {}
        """What is being written."""
        self._writing = False
        self._trying = False
        """Whether to write even if that is nothing, to see whether it works."""
        self._stopped = False
        self._next_waiters: list[Deferred[None]] = []
        """Wait for what is pending."""
        self._waiters: list[Deferred[None]] = []
        """Wait for the batch that is being written."""
        self._on_disk: set[Place] = set()
        self._trouble_since: float | None = None
        self._reason = ""
        """Why writing does not work."""
        self._written_at = 0.0

    @property
    def state(self) -> StoreState:
        """How writing goes."""
        return StoreState(self._reason, self._trouble_since or 0.0, len(self._pending), self._written_at)

    def found(self, place: Place) -> None:
        """Learn that something is on disk already."""
        self._on_disk.add(place)

    def put(self, record: Record) -> None:
        """Have a record written soon."""
        self._pending[type(record), record.key] = record
        if not self._awake:
            self._schedule(self._write_seconds)

    def remove(self, kind: type[Record], key: str) -> None:
        """Have a record deleted soon."""
        self._pending[kind, key] = None
        if not self._awake:
            self._schedule(self._write_seconds)

    def flush(self) -> Deferred[None]:
        """Fire when everything that came before was written, or an attempt to do so has failed."""
        if not self._pending and not self._writing:
            return succeed(None)
        done: Deferred[None] = Deferred()
        (self._next_waiters if self._pending else self._waiters).append(done)
        if not self._writing:
            self._start()
        return done

    def now(self) -> None:
        """Write at once what there is, even if that is nothing, and try until it works."""
        self._trying = True
        if not self._writing and not self._stopped:
            self._start()

    def later(self) -> None:
        """Write in a while, even if that is nothing, and try until it works."""
        self._trying = True
        if not self._awake:
            self._schedule(self._retry_seconds)

    def stop(self) -> int:
        """Schedule nothing any more; return the number of changes that are not written, as far as is known."""
        self._awake = self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return len(self._pending.keys() | self._batch.keys())

    def trouble(self, error: CannotWrite) -> None:
        """Say once that writing does not work."""
        self._reason = f"{error.reason}. {error.advice}"
        if self._begin_trouble() and not self._stopped:  # then it is too late to hope
            self.log.warn(
                "cannot write {where}: {reason}. Routing goes on; changes are kept in memory and written when this is "
                "over, but a restart before that loses them. {advice}",
                where=self._where,
                reason=error.reason,
                advice=error.advice,
            )

    def _begin_trouble(self) -> bool:
        if self._trouble_since is not None:
            return False
        self._trouble_since = self._clock.seconds()
        return True

    def _schedule(self, delay: float) -> None:
        self._awake = True
        self._timer = self._clock.callLater(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self._start()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = self._batch = self._pending
        self._pending = {}
        self._waiters, self._next_waiters = self._next_waiters, []
        self._awake = self._writing = True
        writing = self._write(batch)
        writing.addCallbacks(self._written, self._failed, callbackArgs=(batch,), errbackArgs=(batch,))
        writing.addErrback(logged(self.log, f"writing {self._where}"))

    def _written(self, _: None, batch: Changes) -> None:
        for place, record in batch.items():
            if record is None:
                self._on_disk.discard(place)
            else:
                self._on_disk.add(place)
        self._trying = False
        self._reason, self._written_at = "", self._clock.seconds()
        if self._trouble_since is not None:
            self.log.warn(
                "{where} is written again, after {seconds:.0f} s; nothing is missing",
                where=self._where,
                seconds=self._clock.seconds() - self._trouble_since,
            )
            self._trouble_since = None
        self._finish(self._write_seconds)

    def _failed(self, failure: Failure, batch: Changes) -> None:
        if isinstance(failure.value, CannotWrite):
            self.trouble(failure.value)
        else:
            self._reason = "of a mistake of this server. Its log has more: tell the developers."
            if self._begin_trouble():
                self.log.failure("writing {where} failed", failure, where=self._where)
        self._trying = True  # what could not be written may be gone, and nobody would learn that it works again
        batch.update(self._pending)
        # What was never on disk needs no deleting: else a disk that stays full for weeks would fill the memory.
        self._pending = {
            place: record for place, record in batch.items() if record is not None or place in self._on_disk
        }
        self._finish(self._retry_seconds)

    def _finish(self, delay: float) -> None:
        waiters, self._waiters = self._waiters, []
        self._batch, self._writing = {}, False
        if self._next_waiters:
            self._start()
        elif (self._pending or self._trying) and not self._stopped:
            self._schedule(delay)
        else:
            self._awake = self._stopped
        for waiter in waiters:
            waiter.callback(None)
