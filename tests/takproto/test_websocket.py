"""TAK protocol 1 in WebSockets, as the server reads and writes them; the other end is wsproto's client."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from taky_twisted.cot.event import Event
from taky_twisted.takproto.batch import Batch
from taky_twisted.takproto.connection import MAX_FRAME_ERRORS, Reply, Said
from taky_twisted.takproto.framing import Unreadable
from taky_twisted.takproto.protobuf import encode
from taky_twisted.takproto.protobuf_framing import MAX_VARINT_BYTES, frame
from taky_twisted.takproto.websocket import WebSocketConnection, WebSocketError, binary_message
from tests.samples import NOW, event, marker, ping, sa, xml

LIMIT = 4096
OVERHEAD = 1 + MAX_VARINT_BYTES
A, B, C = (frame(encode(event(document))) for document in (sa("A", "FOX"), marker("B"), marker("C")))


class Pair:
    """Both ends; what the client sends is heard at once, in pieces of any size."""

    def __init__(self, first_bytes: int = LIMIT) -> None:
        self.server = WebSocketConnection(LIMIT, first_bytes)
        self.client = Connection(ConnectionType.CLIENT)
        self.said: list[Said] = []
        self.error: WebSocketError | None = None

    def feed(self, data: bytes, size: int = 1 << 20) -> None:
        """Let the server receive bytes."""
        try:
            for at in range(0, len(data), size):
                for said in self.server.receive(data[at : at + size], NOW):
                    self.said.append(said)
        except WebSocketError as error:
            self.error = error

    def send(self, *events: BytesMessage | TextMessage | Ping | Pong | CloseConnection) -> None:
        """Let the client send."""
        self.feed(b"".join(self.client.send(each) for each in events))

    def message(self, *parts: bytes) -> None:
        """Let the client send one message, a frame for each part."""
        *most, last = parts
        self.send(*[BytesMessage(data=part, message_finished=False) for part in most], BytesMessage(data=last))

    @property
    def uids(self) -> list[str]:
        """The uids of the events that were heard."""
        return [said.uid for said in self.said if isinstance(said, Event)]

    @property
    def replies(self) -> list[object]:
        """What the client reads of what it was answered at once."""
        self.client.receive_data(b"".join([said.data for said in self.said if isinstance(said, Reply)]))
        return list(self.client.events())

    def failed(self) -> tuple[int, str]:
        """How the WebSocket failed."""
        assert self.error is not None
        return self.error.code, str(self.error)


def trusted() -> Pair:
    """Make a pair whose client has said something valid already."""
    pair = Pair()
    pair.message(A)
    pair.said.clear()
    return pair


def filler(size: int) -> bytes:
    """Make an event's frame whose payload has exactly so many bytes."""
    spare = size - len(encode(event(xml("F", detail="<remarks>x</remarks>"))))
    # The text grows by one byte a character; lengths inside grow with it, so that it is tried.
    for count in range(max(1, spare - 8), spare + 8):
        payload = encode(event(xml("F", detail=f"<remarks>{'x' * count}</remarks>")))
        if len(payload) == size:
            return frame(payload)
    raise AssertionError("no such size")


class ReceivingTests(SynchronousTestCase):
    def test_cut_anywhere(self) -> None:
        """However the network cuts the bytes, the same events come out."""
        client = Connection(ConnectionType.CLIENT)
        wire = b"".join(
            client.send(each)
            for each in (BytesMessage(data=A), Ping(payload=b"?"), BytesMessage(data=B + C), Pong(payload=b"!"))
        )
        for cut in range(len(wire) + 1):
            pair = Pair()
            pair.feed(wire[:cut])
            pair.feed(wire[cut:])
            self.assertEqual((pair.uids, len(pair.replies), pair.error), (["A", "B", "C"], 1, None), f"cut at {cut}")
        pair = Pair()
        pair.feed(wire, size=1)
        self.assertEqual((pair.uids, pair.server.frames >= 4), (["A", "B", "C"], True))

    def test_fragments(self) -> None:
        """A message may come in fragments, cut anywhere, with a ping in between and empty ones."""
        for cut in range(len(A) + 1):
            pair = Pair()
            first, last = BytesMessage(data=A[:cut], message_finished=False), BytesMessage(data=A[cut:])
            pair.send(first, Ping(payload=b"?"), BytesMessage(data=b"", message_finished=False), last)
            self.assertEqual(pair.uids, ["A"], f"cut at {cut}")
            (pong,) = pair.replies
            assert isinstance(pong, Pong)
            self.assertEqual(pong.payload, b"?")

    def test_several_in_one(self) -> None:
        """A message may hold several events, and an event may go on in the next message, as TAK Server reads it."""
        pair = Pair()
        pair.message(A + B + C[:20])
        self.assertEqual(pair.uids, ["A", "B"])
        pair.message(C[20:])
        self.assertEqual(pair.uids, ["A", "B", "C"])

    def test_pings_of_both_kinds(self) -> None:
        """A WebSocket's ping is answered with its payload, TAK's with TAK's pong; either may be left out if need be."""
        pair = trusted()
        self.assertEqual((pair.server.pinged, pair.server.spoke), (False, True))
        pair.send(Ping(payload=b"12"), BytesMessage(data=frame(encode(event(ping())))))
        self.assertEqual([said.optional for said in pair.said if isinstance(said, Reply)], [True, True])
        pong, answer = pair.replies
        assert isinstance(pong, Pong) and isinstance(answer, BytesMessage)
        self.assertEqual(pong.payload, b"12")
        self.assertIn(b"t-x-c-t-r", answer.data)
        self.assertTrue(pair.server.pinged)

    def test_nothing_is_negotiated(self) -> None:
        """Whoever asks for a protocol version is answered in protobuf, and goes on as before."""
        pair = trusted()
        request = xml("N", "t-x-takp-q", "<TakControl><TakRequest version='1'/></TakControl>")
        pair.message(frame(encode(event(request))) + B)
        (answer,) = pair.replies
        assert isinstance(answer, BytesMessage)
        self.assertIn(b"t-x-takp-r", answer.data)
        self.assertEqual(pair.uids, ["B"])

    def test_unreadable(self) -> None:
        """One event that cannot be read is reported, and the next one counts."""
        pair = trusted()
        pair.message(frame(b"\xff\xff") + B)
        self.assertEqual([type(said) for said in pair.said], [Unreadable, Event])


class LimitTests(SynchronousTestCase):
    def test_event(self) -> None:
        """An event of the allowed size is taken; of one byte more not even the first byte is waited for."""
        for size in (LIMIT - 1, LIMIT):
            pair = trusted()
            pair.message(filler(size))
            self.assertEqual((pair.uids, pair.error), (["F"], None), size)
        pair = trusted()
        pair.message(filler(LIMIT + 1)[:5])
        self.assertEqual(
            pair.failed(), (1009, f"a frame of {LIMIT + 1} bytes; at most {LIMIT} are allowed (max_event_bytes)")
        )

    def test_message(self) -> None:
        """A message has the size of an event with the longest frame; one byte more closes it, in fragments or not."""
        for size in (LIMIT + OVERHEAD - 1, LIMIT + OVERHEAD, LIMIT + OVERHEAD + 1):
            data = (B * (size // len(B) + 1))[:size]
            for step in (1 << 20, 1000, 1):
                pair = trusted()
                pair.message(*[data[at : at + step] for at in range(0, size, step)])
                if size > LIMIT + OVERHEAD:
                    code, reason = pair.failed()
                    self.assertEqual((code, "max_event_bytes" in reason), (1009, True))
                else:
                    self.assertIsNone(pair.error)
                    pair.message(B[size % len(B) :] + C)  # counted anew
                    self.assertEqual((pair.uids[-1], pair.error), ("C", None))

    def test_announced(self) -> None:
        """Whatever length a frame announces, only what comes is kept, and not for long."""
        pair = trusted()
        pair.feed(b"\x82\xff" + struct.pack("!Q", 1 << 40) + b"\0\0\0\0")
        self.assertIsNone(pair.error)
        pair.feed(bytes(LIMIT + OVERHEAD))
        self.assertIsNone(pair.error)
        pair.feed(b"\0")
        self.assertEqual(pair.failed()[0], 1009)

    def test_first(self) -> None:
        """Who has said nothing valid yet may say little."""
        pair = Pair(first_bytes=100)
        pair.message(A)
        self.assertEqual(pair.failed(), (1007, "no valid event within the first 100 bytes"))

    def test_garbage(self) -> None:
        """Who sends only what cannot be read is closed."""
        pair = trusted()
        pair.message(frame(b"\xff\xff") * MAX_FRAME_ERRORS)
        self.assertEqual(pair.failed()[0], 1007)


class RulesTests(SynchronousTestCase):
    def refused(self, wire: bytes) -> int:
        """Send something after which the WebSocket must fail, and nothing more is read."""
        pair = trusted()
        pair.feed(wire)
        code, reason = pair.failed()
        self.assertTrue(reason)
        pair.error = None
        pair.message(B)
        self.assertEqual((pair.uids, pair.error), ([], None))
        return code

    def test_text(self) -> None:
        """Text is refused with 1003 at its first frame, whatever it says."""
        for text in (TextMessage(data="<event/>"), TextMessage(data="", message_finished=False)):
            pair = trusted()
            pair.send(text)
            self.assertEqual(pair.failed()[0], 1003)
            self.assertTrue(pair.failed()[1].startswith("Text messages not supported"))

    def test_broken(self) -> None:
        """What RFC 6455 forbids ends it: no mask, unknown opcodes, reserved bits, torn or large control frames."""
        mask = bytes(4)
        for wire in (
            b"\x82\x01x",  # not masked
            b"\x83\x80" + mask,  # an opcode that is none
            b"\xc2\x80" + mask,  # compressed, though that was not agreed
            b"\x09\x80" + mask,  # a ping in fragments
            b"\x89\xfe\x00\x7e" + mask + bytes(126),  # a large ping
            b"\x80\x80" + mask,  # goes on with nothing
            b"\x02\x80" + mask + b"\x82\x80" + mask,  # begins anew in the middle
            b"\x82\xfe\x00\x01" + mask + b"x",  # a length longer than need be
            b"\x88\x81" + mask + b"x",  # half a code
            b"\x88\x82" + mask + struct.pack("!H", 1005),  # a code that is never sent
        ):
            self.assertEqual(self.refused(wire), 1002, wire)
        self.assertEqual(self.refused(b"\x81\x81" + mask + b"\xff"), 1007)  # text that is none

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
    def test_anything(self, pieces: list[bytes], is_framed: bool) -> None:
        """No bytes cause any other error."""
        pair = Pair()
        for piece in pieces:
            pair.feed(binary_message(piece) if is_framed else piece)
            if pair.server.over or pair.error is not None:
                pair.server.close(CloseReason.NORMAL_CLOSURE, "")


class GoodbyeTests(SynchronousTestCase):
    def test_peer_first(self) -> None:
        """The peer's goodbye is answered with its own code, and is the last that is read."""
        for code, reason in ((1001, "bye"), (4000, "mine"), (CloseReason.NO_STATUS_RCVD, None)):
            pair = trusted()
            pair.send(CloseConnection(code=code, reason=reason))
            self.assertTrue(pair.server.over and pair.server.closing)
            (reply,) = pair.said
            assert isinstance(reply, Reply)
            self.assertFalse(reply.optional)
            (answer,) = pair.replies
            assert isinstance(answer, CloseConnection)
            self.assertEqual(answer.code, code)
            pair.feed(b"\x82\x01x" * 10)
            self.assertEqual((len(pair.said), pair.error), (1, None))
            self.assertEqual(pair.server.close(CloseReason.GOING_AWAY, "late"), b"")

    def test_we_first(self) -> None:
        """After our goodbye everything is thrown away, also mistakes, until the peer answers."""
        pair = trusted()
        wire = pair.server.close(CloseReason.GOING_AWAY, "the server stops")
        self.assertEqual(pair.server.close(CloseReason.GOING_AWAY, "again"), b"")
        self.assertTrue(pair.server.closing)
        pair.message(B)
        pair.send(Ping(), TextMessage(data="x" * 2 * LIMIT))
        self.assertEqual((pair.said, pair.error, pair.server.over), ([], None, False))
        pair.client.receive_data(wire)
        (goodbye,) = pair.client.events()
        assert isinstance(goodbye, CloseConnection)
        self.assertEqual((goodbye.code, goodbye.reason), (1001, "the server stops"))
        pair.send(goodbye.response())
        self.assertTrue(pair.server.over)

    def test_mistake_after_goodbye(self) -> None:
        """A mistake after our goodbye is no news."""
        pair = trusted()
        pair.server.close(CloseReason.GOING_AWAY, "")
        pair.feed(b"\x82\x01x")
        pair.feed(b"\x82\x01x")
        self.assertEqual((pair.said, pair.error, pair.server.over), ([], None, False))

    def test_long_reason(self) -> None:
        """A reason that is too long for a frame is cut between two characters."""
        pair = trusted()
        pair.client.receive_data(pair.server.close(CloseReason.GOING_AWAY, "\U0001f98a" * 100))
        (goodbye,) = pair.client.events()
        assert isinstance(goodbye, CloseConnection)
        self.assertEqual(goodbye.reason, "\U0001f98a" * 30)


class SendingTests(SynchronousTestCase):
    def test_one_event_to_a_message(self) -> None:
        """Each event is a message of its own, because clients read one from each; all hear the same bytes."""
        batch = Batch([event(sa("A", "A")), event(xml("L", detail="<remarks>" + "x" * 70_000 + "</remarks>"))])
        pair = trusted()
        wire = pair.server.send(batch)
        self.assertIs(wire, trusted().server.send(batch))
        pair.client.receive_data(wire)
        messages = [each.data for each in pair.client.events() if isinstance(each, BytesMessage)]
        self.assertEqual(messages, [frame(encode(each)) for each in batch.events])

    def test_ping(self) -> None:
        """We can ask whether somebody is there."""
        pair = trusted()
        pair.client.receive_data(pair.server.ping())
        self.assertEqual(list(pair.client.events()), [Ping()])
