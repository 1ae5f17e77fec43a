"""One TAK stream: bytes in, events out; batches in, bytes out. It answers what is between it and its peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from taky_twisted.cot import compose, xmlcodec
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import Event
from taky_twisted.cot.types import PING

from .batch import Batch
from .errors import RemoteProtocolError
from .framing import Unreadable, XMLFraming

MAX_ERRORS = 20
"""Unreadable documents one after the other before the stream is given up."""


class TAKConnection:
    """The server's end of one stream, without a socket.

    Feed it with `receive`, which gives events and what was unreadable, in order; afterwards write `replies`. The
    buffer stands above the framing, so that the framing can be changed between two messages.
    """

    def __init__(
        self, max_event_bytes: int, first_bytes: int, decode: Callable[[bytes], Event] = xmlcodec.decode
    ) -> None:
        """Start a stream.

        Args:
            max_event_bytes: in one event; a larger one is dropped alone.
            first_bytes: in all before the first valid event; over it the stream is given up.
            decode: reads XML documents; connections may share what it remembers.
        """
        self._decode = decode
        self._buffer = bytearray()
        self._framing = XMLFraming(max_event_bytes, first_bytes)
        self._errors = 0
        self.replies: list[Event] = []
        """What the peer is owed at once: pongs. The caller sends and clears it."""
        self.pinged = False
        """Whether the peer has sent a ping: it expects to be answered, and to be closed when it falls silent."""
        self.spoke = False
        """Whether the peer has sent a valid event."""

    def receive(self, data: bytes, now: float) -> Iterator[Event | Unreadable]:
        """Take bytes off the wire.

        Args:
            data: whatever arrived.
            now: seconds since the epoch, for what is answered.

        Raises:
            RemoteProtocolError: the peer speaks no CoT; nothing more can come of it.
        """
        self._buffer += data
        while (frame := self._framing.next_frame(self._buffer)) is not None:
            if isinstance(frame, Unreadable):
                yield self._unreadable(frame)
            elif frame.startswith(b"<auth"):
                continue  # no password is asked for here: what follows counts
            else:
                yield from self._events(frame, now)

    def send(self, batch: Batch) -> bytes:
        """Spell a batch for this peer."""
        return batch.xml

    def _events(self, document: bytes, now: float) -> Iterator[Event | Unreadable]:
        try:
            event = self._decode(document)
        except MalformedEvent as error:
            # One that lost its end swallowed the beginning of the next: that one is whole.
            rest = document.rfind(b"<event ", 1)
            yield self._unreadable(Unreadable(str(error), document if rest < 0 else document[:rest]))
            if rest >= 0:
                yield from self._events(document[rest:], now)
            return
        self._errors = 0
        if not self.spoke:
            self.spoke = True
            self._framing.trust()
        if event.type.lower() == PING:
            self.pinged = True
            self.replies.append(compose.pong(now))
        else:
            yield event

    def _unreadable(self, problem: Unreadable) -> Unreadable:
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            raise RemoteProtocolError(f"{MAX_ERRORS} unreadable events one after the other, the last: {problem.reason}")
        return problem
