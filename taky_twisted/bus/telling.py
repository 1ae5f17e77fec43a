"""Write this node's words into the stream: in batches, one after the other, each of which counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from taky_twisted.background import logged, undeterred
from taky_twisted.interfaces import Node
from taky_twisted.logs import Logger
from taky_twisted.redis_client import Argument, Redis, RedisAway, RedisError, RedisRefused
from taky_twisted.routing.words import Word

from .backlog import Backlog, may_wait
from .batches import Batch, Batches
from .envelope import Outgoing
from .errors import EnvelopeError
from .listening import FIELD, RETRY_SECONDS
from .tally import Tally
from .trimming import Trimming

BATCH_BYTES = 256 << 10
"""About how large a batch becomes, unless a single word is larger."""
PAUSE_SECONDS = 0.01
"""How long after a batch the next one is sent at the earliest: the busier it is, the more words share one. A batch
costs ten times as much as a word in it."""
REPLY_SECONDS = 2.0
"""How long Redis has to take a batch."""
ALIVE_SECONDS = 1.0
"""How often the others are told that this node is there."""
WAIT_SECONDS = 30.0
"""How long words wait that may wait while Redis is away."""
WAIT_BYTES = 1 << 20
"""How many bytes they may take."""
MAX_BACKLOG = 16 << 20
"""Bytes that may wait while Redis is there, and slower than this node talks."""
CROWDED_BYTES = 1 << 20
"""Who has much to tell that has no haste waits while so many bytes do."""
FINISH_SECONDS = 3.0
"""How long the last words have to get out when we stop."""
EXPIRE_SECONDS = 3600
"""How long Redis keeps the stream when no node is left: what it holds was said by somebody to somebody."""
EXPIRE_EVERY = 60
"""How often that is told Redis, counted in `ALIVE_SECONDS`."""


class Telling:
    """Tell the other nodes; while Redis is away, keep what may wait, within bounds, and drop the rest."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        redis: Redis,
        stream: str,
        node: Node,
        counts: Callable[[], Mapping[str, int]],
        tally: Tally,
        changed: Callable[[RedisError | None], object],
        there: Callable[[bytes, bool], object],
        undelivered: Callable[[Word], object],
    ) -> None:
        """Tell nothing yet.

        Args:
            clock: the reactor.
            redis: a connection of its own.
            stream: the key.
            node: this one.
            counts: what it counts of itself.
            tally: counts.
            changed: called when it works, and with the reason when it does not.
            there: called with the id of each entry of ours, and whether the stream has begun anew.
            undelivered: called with each word that waited in vain.
        """
        self._clock, self._redis, self._stream, self._node, self._tally = clock, redis, stream, node, tally
        self._changed, self._there, self._undelivered = changed, there, undelivered
        self.works = False
        """Whether the last batch got there."""
        self._backlog = Backlog()
        self._batches = Batches()
        self._flying: Batch | None = None
        """The batch for which a reply is waited for."""
        self._number = 0
        self._trimming = Trimming()
        self._counts: Mapping[str, int] = {}
        self._is_alive_due = True
        self._ticks = 0
        self._not_before = 0.0
        self._next: IDelayedCall | None = None
        self._finished: Deferred[None] | None = None
        self._stopped = False
        self._complained: set[type[Word]] = set()
        self._count = undeterred(self.log, "counting for the other nodes", lambda: self._set_counts(counts()))
        self._ticking = LoopingCall(undeterred(self.log, "telling that this node is there", self._tick))
        self._ticking.clock = clock
        redis.watch(self._came, self._went)

    def start(self) -> None:
        """Say that this node is there, from now on."""
        self._ticking.start(ALIVE_SECONDS).addErrback(logged(self.log, "telling that this node is there"))

    @property
    def crowded(self) -> bool:
        """Whether more waits than gets out in a moment."""
        return self.works and self._backlog.size >= CROWDED_BYTES

    def tell(self, word: Word) -> None:
        """Tell a word with the next batch."""
        if self._stopped or (not self.works and not may_wait(word)):
            self._lose([word])
        elif self.works and self._backlog.size >= MAX_BACKLOG:
            self._lose([word])
            self._number += 1  # which nobody will ever see, so that the others ask for what they missed
        else:
            self._backlog.put(word, self._clock.seconds())
            if self.works:
                self._send_soon()
            else:
                self._give_up_overdue()

    def finish(self) -> Deferred[None]:
        """Tell what is left, and that this was all; fires when that is done, or cannot be done."""
        self._stopped = True
        if self._ticking.running:
            self._ticking.stop()
        if not self.works:
            self._end()
            return succeed(None)
        finished = self._finished = Deferred()
        late = self._clock.callLater(FINISH_SECONDS, self._end)
        finished.addCallback(lambda _: late.cancel() if late.active() else None)
        self._send_soon()
        return finished

    def _end(self) -> None:
        """Tell nothing more, and whose words are left."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._flying = None
        self._give_up(self._batches.clear())
        while self._backlog:
            self._lose([self._backlog.take()[0]])
        finished, self._finished = self._finished, None
        if finished is not None:
            finished.callback(None)

    # Batches

    def _send_soon(self) -> None:
        if self._next is None and self._flying is None:
            delay = self._not_before - self._clock.seconds()
            # It is never longer than this, unless the clock was set back: then others would not hear us for hours.
            self._next = self._clock.callLater(min(max(delay, 0.0), RETRY_SECONDS), self._send)

    def _send(self) -> None:
        self._next = None
        if not self._redis.up:
            return
        batch = self._batches.first or self._compose()
        if batch is None:
            return
        self._tally.resent += batch.maybe_there
        self._flying = batch
        self._not_before = self._clock.seconds() + PAUSE_SECONDS
        command: list[Argument] = ["XADD", self._stream, *self._trimming.arguments(), "*", FIELD, batch.data]
        sending = self._redis.call(*command, seconds=REPLY_SECONDS)
        sending.addCallbacks(self._sent, self._not_sent, callbackArgs=(batch,), errbackArgs=(batch,))
        sending.addErrback(logged(self.log, "telling the other nodes"))

    def _compose(self) -> Batch | None:
        backlog, outgoing, since = self._backlog, Outgoing(self._node, self._number + 1), self._clock.seconds()
        while backlog and (not outgoing.words or outgoing.size + backlog.first_size() <= BATCH_BYTES):
            word, told = backlog.take()
            since = min(since, told)
            try:
                outgoing.add(word)
            except EnvelopeError as error:
                self._complain(word, error)
                self._lose([word])
        bye = self._finished is not None and not backlog
        if not (outgoing.words or bye or self._is_alive_due):
            return None
        self._number += 1
        data = outgoing.finish(self._counts if self._is_alive_due else None, bye)
        self._is_alive_due = False
        batch = Batch(data, outgoing.words, self._number, since, bye)
        self._batches.put(batch)
        return batch

    def _complain(self, word: Word, error: EnvelopeError) -> None:
        """Report a bug, once for each kind of words: it may come with every event of a client."""
        kind = type(word)
        log = self.log.debug if kind in self._complained else self.log.error
        self._complained.add(kind)
        log("a word cannot be told to the other nodes: {kind}: {error}", kind=kind.__name__, error=str(error))

    def _sent(self, reply: Any, batch: Batch) -> None:
        if batch is not self._flying:
            return  # it took so long that we have stopped
        self._flying = None
        if not batch.taken:
            self._tally.told += len(batch.words)
        self._batches.sent(self._clock.seconds())
        begun_anew = self._trimming.added(reply, len(batch.data))
        if not self.works:
            self.works = True
            self._changed(None)
        self._there(reply, begun_anew)
        if batch.bye:
            self._end()
        elif self._batches.first is not None:
            self._not_before = 0.0
            self._send_soon()
        elif self._backlog or self._is_alive_due or self._finished is not None:
            self._send_soon()

    def _not_sent(self, failure: Failure, batch: Batch) -> None:
        failure.trap(RedisError)
        error: Any = failure.value
        if batch is not self._flying:
            return
        self._flying = None
        if isinstance(error, RedisRefused) and not batch.maybe_there:
            # It is certain that nobody has seen it, so its number can be used again.
            self._batches.take_back()
            self._number = batch.number - 1
            self._backlog.put_back(batch.words, batch.since)
        else:
            batch.maybe_there = True
        self._went(error)

    # Redis comes and goes

    def _came(self) -> None:
        self._trimming.forget()
        self._not_before = 0.0
        self._is_alive_due = True
        self._send_soon()

    def _went(self, error: RedisError) -> None:
        self.works = False
        if isinstance(error, RedisAway):
            self._batches.send_again()
        self._tally.dropped += self._backlog.strip()
        self._changed(error)
        if self._finished is not None:
            self._end()
            return
        self._give_up_overdue()
        if self._redis.up:
            self._not_before = self._clock.seconds() + RETRY_SECONDS
            self._send_soon()

    def _tick(self) -> None:
        self._is_alive_due = True
        self._count()
        if not self.works:
            self._give_up_overdue()
        if self._redis.up:
            self._send_soon()
            if self._ticks % EXPIRE_EVERY == 1:  # by then there is a stream
                expiring = self._redis.call("EXPIRE", self._stream, EXPIRE_SECONDS)
                expiring.addErrback(lambda failure: failure.trap(RedisError))
        self._ticks += 1

    def _set_counts(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def _give_up_overdue(self) -> None:
        since = self._clock.seconds() - WAIT_SECONDS
        if self._flying is None:
            self._give_up(self._batches.overdue(since, max(WAIT_BYTES - self._backlog.size, 0)))
        self._lose(self._backlog.overdue(since, WAIT_BYTES))

    def _give_up(self, batches: Iterable[Batch]) -> None:
        """Do not send these again; their numbers stay used, since they may have been seen."""
        for batch in batches:
            if not batch.taken:
                self._lose(batch.words)

    def _lose(self, words: Iterable[Word]) -> None:
        for word in words:
            if may_wait(word):
                self._tally.undelivered += 1
                self._undelivered(word)
            else:
                self._tally.dropped += 1
