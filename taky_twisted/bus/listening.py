"""Read what the other nodes write into the stream, and hand it on; no more is read before that is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from taky_twisted.background import logged
from taky_twisted.interfaces import BusListener
from taky_twisted.logs import Logger
from taky_twisted.redis_client import Redis, RedisError

from .calls import Call, Calls
from .envelope import first_words, open_batch, sender_of
from .errors import EnvelopeError, TooManyNodes
from .members import Members
from .tally import Tally

FIELD = b"batch"
"""The field of an entry that has the batch."""
READ_COUNT = 64
"""Entries that are read at once."""
BLOCK_SECONDS = 1.0
"""How long Redis waits for an entry before it says that there is none."""
REPLY_SECONDS = 3.0
"""How long a reply is waited for; longer than Redis waits for an entry."""
PAUSE_SECONDS = 0.01
"""How long after a read the next one begins at the earliest: the busier it is, the more is read at once."""
RETRY_SECONDS = 1.0
"""When it is tried again after Redis refused."""
MAX_COUNTED_SECONDS = 1.5
"""How much one read can count as time in which others were silent: this process may have slept."""


class Listening:
    """Follow the stream; whoever is heard or not heard any more is told of in order with the words."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        redis: Redis,
        stream: str,
        instance: str,
        listener: BusListener,
        calls: Calls,
        tally: Tally,
        changed: Callable[[RedisError | None], object],
    ) -> None:
        """Read nothing yet.

        Args:
            clock: the reactor.
            redis: a connection of its own.
            stream: the key.
            instance: this node's; what it said itself is passed over.
            listener: takes the words.
            calls: how it is called.
            tally: counts.
            changed: called when it works, and with the reason when it does not.
        """
        self._clock, self._redis, self._stream = clock, redis, stream
        self._own = first_words(instance)
        self._heard, self._calls, self._tally, self._changed = listener.heard, calls, tally, changed
        self.members = Members(listener, tally)
        self.works = False
        """Whether the last read succeeded."""
        self._position: bytes | None = None
        """The last entry that was read; None if it is not known yet where to begin."""
        self._from_start = False
        self._busy = self._stopped = False
        self._read_at = 0.0
        self._next: IDelayedCall | None = None
        self._complained: set[type[EnvelopeError]] = set()
        redis.watch(self.read, self._went)

    def start_at(self, position: bytes) -> None:
        """Begin behind an entry of this node's own, if it is not known yet where to begin."""
        if self._position is None:
            self._position = position
            self.read()

    def start_over(self) -> None:
        """Begin anew at the start of the stream: it is another one."""
        self._from_start = True

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def read(self) -> None:
        """Read on, if that is not being done already, as soon as it is possible."""
        if self._busy or self._position is None or not self._redis.up or self._stopped:
            return
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._busy = True
        if self._from_start:
            self._position, self._from_start = b"0-0", False
        # The first time Redis must not wait, so that it is known at once whether reading works.
        waiting = ("BLOCK", int(BLOCK_SECONDS * 1000)) if self.works else ()
        command = ("XREAD", "COUNT", READ_COUNT, *waiting, "STREAMS", self._stream, self._position)
        reading = self._redis.call(*command, seconds=REPLY_SECONDS)
        reading.addCallbacks(self._came, self._failed)
        reading.addErrback(logged(self.log, "reading what other nodes say"))

    def _came(self, reply: Any) -> None:
        now = self._clock.seconds()
        entries: Sequence[Any] = reply[0][1] if reply else ()
        if entries:
            self._position = entries[-1][0]
        # With a full reply there is more to read, in which somebody who seems silent may be heard.
        seconds = now - self._read_at if self.works and len(entries) < READ_COUNT else 0.0
        self._read_at = now
        self._calls.put(self._hand_on(entries, min(max(seconds, 0.0), MAX_COUNTED_SECONDS)))
        if not self.works:
            self.members.afresh()
            self.works = True
            self._changed(None)
        self._calls.put([(self._go_on, PAUSE_SECONDS if entries else 0.0)])

    def _go_on(self, pause: float) -> None:
        self._busy = False
        delay = min(self._read_at + pause - self._clock.seconds(), pause)  # more if the clock was set back
        if delay <= 0:
            self.read()
        elif not self._stopped:
            self._next = self._clock.callLater(delay, self._read_later)

    def _read_later(self) -> None:
        self._next = None
        self.read()

    def _failed(self, failure: Failure) -> None:
        failure.trap(RedisError)
        self._busy = False
        self._went(failure.value)
        if self._redis.up and not self._stopped:
            self._next = self._clock.callLater(RETRY_SECONDS, self._read_later)

    def _went(self, error: Any) -> None:
        self.works = False
        self._changed(error)

    def _hand_on(self, entries: Sequence[Any], seconds: float) -> Iterator[Call]:
        for _, fields in entries:
            if self._stopped:
                return
            data = fields[1] if len(fields) == 2 and fields[0] == FIELD else b""
            if not data.startswith(self._own):
                yield from self._take(data)
        yield from self.members.listened(seconds)

    def _take(self, data: bytes) -> Iterator[Call]:
        try:
            instance, number = sender_of(data)
        except EnvelopeError as error:
            self._complain(error)
            return
        if self.members.is_full(instance):
            self._complain(TooManyNodes(f"node {instance} is one too many"))
            return
        try:
            batch = open_batch(data)
        except EnvelopeError as error:
            self._complain(error)
            yield from self.members.unreadable(instance, number)
            return
        calls = self.members.arrived(batch.node, number)
        if calls is None:
            return
        yield from calls
        try:
            for word in batch.words():
                self._tally.heard += 1
                yield self._heard, instance, word
        except EnvelopeError as error:
            self._complain(error)
            yield self.members.missed(instance)
        self._tally.unreadable += batch.unreadable
        if batch.bye:
            yield from self.members.left(instance)

    def _complain(self, error: EnvelopeError) -> None:
        """Warn once of each kind: whoever talks nonsense does it again and again."""
        if type(error) in self._complained:
            self.log.debug("what a node says is not understood: {error}", error=str(error))
            return
        self._complained.add(type(error))
        self.log.warn("what a node says is not understood: {error}. {advice}", error=str(error), advice=error.advice)
