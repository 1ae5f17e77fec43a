"""TAK protocol 1 in a WebSocket, from the first byte behind the handshake.

Holds: however the bytes are cut, the same comes of them; only `WebSocketError` ends the connection, with a code that
may be sent and a reason that fits into a frame; nothing is said after the goodbye.
"""

from __future__ import annotations

from wsproto import connection as wsproto_connection
from wsproto import frame_protocol
from wsproto.frame_protocol import CloseReason, FrameProtocol

from taky_twisted.cot import xmlcodec
from taky_twisted.takproto import batch, connection, protobuf, websocket
from taky_twisted.takproto.connection import Reply
from taky_twisted.takproto.framing import Unreadable
from taky_twisted.takproto.protobuf_framing import frame
from taky_twisted.takproto.websocket import WebSocketConnection, WebSocketError
from tests.fuzz.cutting import cuttings
from tests.fuzz.target import Target
from tests.fuzz.targets.xml_events import check_delivered
from tests.samples import NOW, chat, marker, ping, sa
from tests.takproto.arbitrary import CORPUS

LIMIT, FIRST_LIMIT = 1 << 14, 1 << 12

assert wsproto_connection and frame_protocol and batch and connection and websocket  # to be instrumented


def outcome(pieces: list[bytes]) -> tuple[list[object], object]:
    """Feed a connection; say what came and how it ended."""
    tak = WebSocketConnection(LIMIT, FIRST_LIMIT)
    found: list[object] = []
    try:
        for piece in pieces:
            for said in tak.receive(piece, NOW):
                if isinstance(said, Reply):
                    assert said.data
                    found.append((len(said.data), said.optional))
                elif isinstance(said, Unreadable):
                    found.append(said)
                else:
                    check_delivered(said.xml)
                    found.append(said.xml)
        assert bool(tak.close(CloseReason.NORMAL_CLOSURE, "")) or tak.closing
    except WebSocketError as error:
        assert 1000 <= int(error.code) < 5000, error.code
        goodbye = tak.close(error.code, str(error))
        assert goodbye, error
        assert tak.close(error.code, str(error)) == b"", "it said goodbye twice"
        # A text is refused as a text, or as none in UTF-8, whichever is noticed first.
        text = error.code in (CloseReason.UNSUPPORTED_DATA, CloseReason.INVALID_FRAME_PAYLOAD_DATA)
        return found, "a text" if text else (int(error.code), str(error))
    return [*found, tak.over, tak.pinged, tak.spoke], None


def run(data: bytes) -> None:
    whole, *others = (outcome(pieces) for pieces in cuttings(data))
    assert all(other == whole for other in others), (whole, others)


def masked(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """Spell a client's frame with a mask of zeros, which leaves the payload as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2, "big")
    return bytes([opcode | (0x80 if final else 0)]) + length + bytes(4) + payload


def _seeds() -> list[bytes]:
    frames = [frame(protobuf.encode(xmlcodec.decode(each))) for each in (sa("A", "ALPHA"), marker(), ping(), chat("A"))]
    client = FrameProtocol(client=True, extensions=[])
    return [
        b"".join(masked(2, one) for one in frames),
        masked(2, b"".join(frames)),
        masked(2, frames[0][:50], final=False) + masked(9, b"ping") + masked(0, frames[0][50:]),
        *(bytes(client.send_data(one)) for one in frames),
        masked(1, b"text"),
        masked(8, b"\x03\xe8bye") + masked(2, frames[0]),
        masked(8, b"\x03"),
        masked(8, b"\xff\xff\xff"),
        masked(10, b""),
        masked(9, b"x" * 125) * 5,
        b"\x82\xff" + b"\xff" * 8 + bytes(4),
        b"\xc2\x80" + bytes(4),
        b"\x82\x05plain",
        *(masked(2, one[:20000]) for one in CORPUS.values()),
    ]


TARGET = Target(run, seeds=_seeds, words=[masked(opcode, b"") for opcode in range(16)] + [b"\xbf\0"], max_bytes=8192)
