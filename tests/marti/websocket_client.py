"""A WebSocket client in memory: real frames by wsproto, on the other end of a `MartiSite`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable

from twisted.internet.testing import StringTransport
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong

from taky_twisted.cot.event import Event as CoTEvent
from taky_twisted.cot.xmlcodec import decode as from_xml
from taky_twisted.takproto.protobuf import decode, encode
from taky_twisted.takproto.protobuf_framing import ProtobufFraming, frame
from tests.marti.asking import Connection, spell

KEY = b64encode(b"0123456789abcdef").decode()
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def tak(*documents: bytes) -> bytes:
    """Spell events as frames of TAK protocol 1."""
    return b"".join(frame(encode(from_xml(document))) for document in documents)


class WebSocketClient:
    """One client; it says bytes and reads events, one to a message."""

    def __init__(self, connection: Connection, headers: dict[str, str] | None = None) -> None:
        self.connection = connection
        self.transport: StringTransport = connection.transport
        connection.send(spell("GET", "/takproto/1", headers=UPGRADE | (headers or {})))
        self.head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        self.transport.clear()
        self.frames = Frames(ConnectionType.CLIENT)
        self.frames.receive_data(rest)
        self.pongs: list[bytes] = []
        self.pings = 0
        self.closed: CloseConnection | None = None
        """The goodbye that came."""

    def send(self, *events: Event) -> None:
        """Send frames, in one piece."""
        self.connection.send(b"".join(self.frames.send(event) for event in events))

    def say(self, *documents: bytes) -> None:
        """Send events, each in a message of its own."""
        self.send(*[BytesMessage(data=tak(document)) for document in documents])

    def full(self) -> None:
        """Stop reading: the transport tells the server that it is full."""
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()

    def reads_on(self) -> None:
        """Read again."""
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()

    def messages(self) -> list[bytes]:
        """Read what came since the last time; pings are counted, and not answered."""
        data = self.transport.value()
        self.transport.clear()
        if self.frames.state is not ConnectionState.CLOSED:
            self.frames.receive_data(data)
        messages, message = [], b""
        for event in self.frames.events():
            if isinstance(event, BytesMessage):
                message += event.data
                if event.message_finished:
                    messages.append(message)
                    message = b""
            elif isinstance(event, Ping):
                self.pings += 1
            elif isinstance(event, Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                self.closed = event
            else:
                raise AssertionError(event)
        return messages

    def heard(self) -> list[CoTEvent]:
        """Read the events that came since the last time, one to a message as PyTAK reads them."""
        return list(_events(self.messages()))

    def uids(self) -> list[str]:
        """Read the uids of what came since the last time."""
        return [event.uid for event in self.heard()]

    def types(self) -> list[str]:
        """Read the types of what came since the last time."""
        return [event.type for event in self.heard()]


def _events(messages: Iterable[bytes]) -> Iterable[CoTEvent]:
    for message in messages:
        buffer = bytearray(message)
        payload = ProtobufFraming(1 << 26).next_frame(buffer)
        assert isinstance(payload, bytes) and not buffer, message
        event = decode(payload)
        assert event is not None
        yield event
