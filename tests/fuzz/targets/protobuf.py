"""TAK protocol 1: frames on a stream, datagrams, messages, and events both ways.

The first byte chooses. Holds: however a stream of frames is cut, the same messages and the same end come out; only
`MalformedEvent` and `RemoteProtocolError` are raised; a message that is accepted is an event that can go out on an XML
stream, and spelling that as a message and reading it again loses nothing.
"""

from __future__ import annotations

from functools import partial

from taky_twisted.cot import xmlcodec
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.takproto import messages, protobuf, protobuf_framing, typed_detail, xml_detail
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable
from taky_twisted.takproto.protobuf_framing import ProtobufFraming, frame, mesh_frame
from tests.fuzz.cutting import cuttings
from tests.fuzz.target import Target
from tests.fuzz.targets.xml_events import check_delivered, framed
from tests.samples import chat, marker, sa, xml
from tests.takproto.arbitrary import CORPUS, meaning, payloads

LIMITS = ((1 << 20, 1 << 19), (200, 100))

assert messages and protobuf_framing and typed_detail and xml_detail  # imported here to be instrumented


def outcome(pieces: list[bytes], limit: int, first_limit: int) -> tuple[list[bytes | Unreadable], str]:
    """Frame a stream; say what came and how it ended."""
    framing, buffer, found = ProtobufFraming(limit, first_limit), bytearray(), list[bytes | Unreadable]()
    try:
        for piece in pieces:
            buffer += piece
            found += iter(partial(framing.next_frame, buffer), None)
    except RemoteProtocolError as error:
        return found, str(error)
    assert len(buffer) <= limit + 1 + protobuf_framing.MAX_VARINT_BYTES
    return found, ""


def stream(data: bytes) -> None:
    """Cut a stream of frames."""
    for limit, first_limit in LIMITS:
        whole, *others = (outcome(pieces, limit, first_limit) for pieces in cuttings(data))
        assert all(other == whole for other in others), (whole, others)
        for found in whole[0]:
            assert not isinstance(found, bytes) or (found in data and len(found) <= limit)


def datagram(data: bytes) -> None:
    """Take a datagram apart, and read what it carries."""
    try:
        payload = protobuf_framing.read_mesh(data)
    except MalformedEvent:
        return
    assert data.endswith(payload)
    message(payload)


def message(data: bytes) -> None:
    """Read a message."""
    try:
        event = protobuf.decode(data)
    except MalformedEvent:
        return
    if event is not None:
        check_delivered(event.xml)
        there_and_back(event)


def document(data: bytes) -> None:
    """Spell an XML event as a message."""
    try:
        event = xmlcodec.decode(framed(data))
    except MalformedEvent:
        return
    there_and_back(event)


def there_and_back(event: Event) -> None:
    """See that an event survives being a message."""
    if min(event.time, event.start, event.stale) < 0:
        return  # a message has no place for what was before 1970
    payload = protobuf.encode(event)
    assert frame(payload).endswith(payload)
    try:
        again = protobuf.decode(payload)
    except MalformedEvent as error:
        # What only the other form cannot hold: it would be cut in two on an XML stream.
        assert event.xml.count(b"</event") > 1, error
        return
    assert again is not None
    check_delivered(again.xml)
    try:
        expected = meaning(event.xml)
    except SyntaxError:  # a prefix that nobody declared: for us a name like others, for this reader of XML none
        return
    assert meaning(again.xml) == expected, (event.xml, again.xml)


_KINDS = (stream, datagram, message, document)


def run(data: bytes) -> None:
    if data:
        _KINDS[data[0] % len(_KINDS)](data[1:])


def _seeds() -> list[bytes]:
    events = [sa("A", "ALPHA"), marker(), chat("A"), xml(detail="<precisionlocation altsrc='a' geopointsrc='b'/>")]
    found = [payload for one in CORPUS.values() for payload in payloads(one)]
    found += [protobuf.encode(xmlcodec.decode(event)) for event in events]
    return [
        *(b"\0" + one for one in CORPUS.values()),
        *(b"\1" + mesh_frame(payload) for payload in found),
        *(b"\2" + payload for payload in found),
        *(b"\3" + event for event in events),
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b"\xbf", b"\xbf\x01\xbf", b"\xff" * 9 + b"\x01", b"\x80" * 10, PROLOG, b"</detail>", b"<detail>"),
        b"</event>",
        *(b"<contact", b'<track course="1e400" speed="0"/>', b"<takv", b"<__group", b"<status battery=", b"xmlns:p="),
        *(b"<![CDATA[", b"<!--", b"<?x", b"\x7f\xf8\0\0\0\0\0\0", b"\x7f\xf0\0\0\0\0\0\0", b"\x80\0\0\0\0\0\0\0"),
    ],
)
