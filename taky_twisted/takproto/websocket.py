"""TAK protocol 1 in a WebSocket: bytes in, events out; what must be answered is answered.

::

    bytes -> wsproto: frames, masks, pings, goodbyes -> binary messages -> TAKConnection: protobuf -> events

Messages are read as one stream, as TAK Server does: what counts is where a TAK frame ends, not where a message does.
Nothing is negotiated, and nothing is compressed: a compressed message has no size that could be checked.

Sources: RFC 6455; TAK Server ``nio/websockets/TakProtoWebSocketHandler.java``, ``tak/server/config/
WebSocketConfiguration.java`` (the path, and 1003 for text).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason, FrameProtocol

from taky_twisted.cot import xmlcodec
from taky_twisted.cot.event import Event

from .batch import Batch
from .connection import Reply, Said, TAKConnection
from .errors import FrameTooLong, RemoteProtocolError
from .protobuf_framing import MAX_VARINT_BYTES

_SERVER = FrameProtocol(client=False, extensions=[])


class WebSocketError(RemoteProtocolError):
    """The WebSocket is to be closed with a code; the text tells the peer why."""

    def __init__(self, code: CloseReason, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def binary_message(data: bytes) -> bytes:
    """Put bytes into a message that a server sends."""
    return bytes(_SERVER.send_data(data))


class WebSocketConnection:
    """The server's end of one WebSocket after the handshake, without a socket."""

    def __init__(
        self, max_event_bytes: int, first_bytes: int, decode: Callable[[bytes], Event] = xmlcodec.decode
    ) -> None:
        """Start where the HTTP headers ended.

        Args:
            max_event_bytes: in one event, and (with its frame) in one message.
            first_bytes: in all messages before the first valid event.
            decode: reads XML documents; connections may share what it remembers.
        """
        self._frames = Connection(ConnectionType.SERVER)
        self._tak = TAKConnection(max_event_bytes, first_bytes, decode)
        self.send: Callable[[Batch], bytes] = attrgetter("websocket")
        """Spell a batch for this peer."""
        self._tak.begin_in_protobuf(self.send)
        self._limit = max_event_bytes + 1 + MAX_VARINT_BYTES
        self._message = 0  # bytes of the message that is arriving
        self._broken = False  # what still comes cannot be read
        self.frames = 0
        """Frames that came: each costs time, also an empty one."""
        self.over = False
        """Whether the peer has said goodbye, or answered ours: nothing more comes."""

    @property
    def pinged(self) -> bool:
        """Whether the peer has sent a TAK ping."""
        return self._tak.pinged

    @property
    def spoke(self) -> bool:
        """Whether the peer has sent a valid event."""
        return self._tak.spoke

    @property
    def protocol(self) -> str:
        """How the peer is written to."""
        return "protobuf in WebSocket"

    @property
    def closing(self) -> bool:
        """Whether either end has said goodbye: nothing may be sent any more."""
        return self._frames.state is not ConnectionState.OPEN

    def receive(self, data: bytes, now: float) -> Iterator[Said]:
        """Take bytes off the wire; what comes after our goodbye is thrown away.

        Args:
            data: whatever arrived.
            now: seconds since the epoch, for what is answered.

        Raises:
            WebSocketError: the peer broke the rules; say `close` with its code.
        """
        if self.over or self._broken:
            return
        self._frames.receive_data(data)
        for event in self._frames.events():
            self.frames += 1
            if isinstance(event, CloseConnection):
                yield from self._goodbye(event)
            elif self.closing:
                continue
            elif isinstance(event, BytesMessage):
                yield from self._binary(event, now)
            elif isinstance(event, Ping):
                yield Reply(self._frames.send(event.response()), optional=True)
            elif isinstance(event, TextMessage):
                raise WebSocketError(
                    CloseReason.UNSUPPORTED_DATA, "Text messages not supported: send TAK protocol 1 in binary ones"
                )

    def ping(self) -> bytes:
        """Ask for a sign of life."""
        return self._frames.send(Ping())

    def close(self, code: int, reason: str) -> bytes:
        """Say goodbye; nothing may be sent after it. Empty if that was done."""
        return b"" if self.closing else self._frames.send(CloseConnection(code=code, reason=reason))

    def _binary(self, event: BytesMessage, now: float) -> Iterator[Said]:
        self._message += len(event.data)
        if self._message > self._limit:
            raise WebSocketError(
                CloseReason.MESSAGE_TOO_BIG, f"a message of over {self._limit} bytes (max_event_bytes)"
            )
        if event.message_finished:
            self._message = 0
        try:
            yield from self._tak.receive(bytes(event.data), now)
        except FrameTooLong as error:
            raise WebSocketError(CloseReason.MESSAGE_TOO_BIG, f"{error} (max_event_bytes)") from error
        except RemoteProtocolError as error:
            raise WebSocketError(CloseReason.INVALID_FRAME_PAYLOAD_DATA, str(error)) from error

    def _goodbye(self, event: CloseConnection) -> Iterator[Said]:
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            self.over = True
            yield Reply(self._frames.send(event.response()), optional=False)
        elif self._frames.state is ConnectionState.CLOSED:
            self.over = True
        else:  # wsproto found a mistake; it reads no further
            self._broken = True
            if not self.closing:
                raise WebSocketError(CloseReason(event.code), event.reason or "no WebSocket frame")
