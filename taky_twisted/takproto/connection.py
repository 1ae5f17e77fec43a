"""One TAK stream: bytes in, events out; batches in, bytes out. It answers what is between it and its peer.

A stream begins in XML (protocol version 0). If the server offers protobuf (version 1) and the peer asks for it, both
directions change between two messages: the answer is the last XML, and whatever stands behind the peer's request is
read as frames. A peer that begins with a frame is understood too, and goes on getting XML (PyTAK does that).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Union

from taky_twisted.cot import compose, xmlcodec
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import Event
from taky_twisted.cot.types import PING

from .batch import Batch
from .errors import RemoteProtocolError
from .framing import Unreadable, XMLFraming
from .negotiation import REQUEST, Negotiation

if TYPE_CHECKING:
    from .protobuf_framing import ProtobufFraming

MAX_ERRORS = 20
"""Unreadable documents one after the other before the stream is given up."""
MAX_FRAME_ERRORS = 3
"""The same for protobuf messages."""

_MAGIC = 0xBF


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes that the peer is owed at once, before anything else is written."""

    data: bytes
    optional: bool
    """Whether it may be left out when the peer does not read: pongs, refusals."""


Said = Union[Event, Unreadable, Reply]
"""What comes of what the peer sends."""


class TAKConnection:
    """The server's end of one stream, without a socket.

    Feed it with `receive`, which gives events, what was unreadable, and what must be written at once, in order. The
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
        self._limit, self._first_limit = max_event_bytes, first_bytes
        self._buffer = bytearray()
        self._framing: XMLFraming | ProtobufFraming = XMLFraming(max_event_bytes, first_bytes)
        self._errors, self._max_errors = 0, MAX_ERRORS
        self._negotiation = Negotiation()
        self._begun = False
        self._agreed = False
        self._read: Callable[[bytes, float], Said | None] = self._read_xml
        self.pinged = False
        """Whether the peer has sent a ping: it expects to be answered, and to be closed when it falls silent."""
        self.spoke = False
        """Whether the peer has sent a valid event."""
        self.send: Callable[[Batch], bytes] = attrgetter("xml")
        """Spell a batch for this peer."""

    def begin_in_protobuf(self, send: Callable[[Batch], bytes]) -> None:
        """Speak protobuf both ways from the first byte, where nothing is negotiated; ``send`` spells a batch."""
        self._begun = self._agreed = True
        self.send = send
        self._read_frames(self._first_limit)

    @property
    def protocol(self) -> str:
        """How the peer is written to: ``xml`` or ``protobuf``."""
        return "protobuf" if self._agreed else "xml"

    def offer(self, now: float) -> bytes:
        """Offer protobuf: bytes to be written at once, before any other event."""
        return self.send(Batch((self._negotiation.offer(now),)))

    def receive(self, data: bytes, now: float) -> Iterator[Said]:
        """Take bytes off the wire.

        Args:
            data: whatever arrived.
            now: seconds since the epoch, for what is answered.

        Raises:
            RemoteProtocolError: the peer speaks no CoT; nothing more can come of it.
        """
        self._buffer += data
        if not self._begun and self._buffer:
            self._begun = True
            if self._buffer[0] == _MAGIC:
                self._read_frames(self._first_limit)
        while (frame := self._framing.next_frame(self._buffer)) is not None:
            said = self._unreadable(frame) if isinstance(frame, Unreadable) else self._read(frame, now)
            if said is not None:
                yield said

    def _read_frames(self, first_limit: int | None) -> None:
        from .protobuf_framing import ProtobufFraming  # only where somebody speaks it: it costs memory

        self._framing = ProtobufFraming(self._limit, first_limit)
        self._read = self._read_protobuf
        self._max_errors = MAX_FRAME_ERRORS

    def _read_xml(self, document: bytes, now: float) -> Said | None:
        if document.startswith(b"<auth"):
            return None  # no password is asked for here: what follows counts
        try:
            event = self._decode(document)
        except MalformedEvent as error:
            # One that lost its end swallowed the beginning of the next, which may be whole: it is read again.
            rest = document.rfind(b"<event ", 1)
            if rest >= 0:
                self._buffer[:0] = document[rest:]
                document = document[:rest]
            return self._unreadable(Unreadable(str(error), document))
        return self._heard(event, now)

    def _read_protobuf(self, payload: bytes, now: float) -> Said | None:
        from .protobuf import decode

        try:
            event = decode(payload, self._decode)
        except MalformedEvent as error:
            return self._unreadable(Unreadable(str(error), payload))
        return None if event is None else self._heard(event, now)

    def _heard(self, event: Event, now: float) -> Event | Reply:
        self._errors = 0
        if not self.spoke:
            self.spoke = True
            self._framing.trust()
        type_ = event.type
        if type_[:2] in ("t-", "T-"):
            type_ = type_.lower()
            if type_ == PING:
                self.pinged = True
                return Reply(self.send(Batch((compose.pong(now),))), optional=True)
            if type_ == REQUEST:
                return self._answer(event, now)
        return event

    def _answer(self, request: Event, now: float) -> Reply:
        answer, agreed = self._negotiation.answer(request, now)
        # Only the one that changes the protocol must not be left out.
        reply = Reply(self.send(Batch((answer,))), optional=self._agreed or not agreed)
        if agreed and not self._agreed:
            self._agreed = True
            self.send = attrgetter("protobuf")
            self._read_frames(None)
        return reply

    def _unreadable(self, problem: Unreadable) -> Unreadable:
        self._errors += 1
        if self._errors >= self._max_errors:
            raise RemoteProtocolError(
                f"{self._errors} unreadable events one after the other, the last: {problem.reason}"
            )
        return problem
