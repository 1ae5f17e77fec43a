"""A whole TAK stream, as XML and after the change to protobuf; what may come first: ``<auth>``, or a balancer's header.

The first byte chooses. Holds: however the stream is cut, the same comes of it; only `RemoteProtocolError` ends it, in
time for what is left over to stay bounded; an event that comes out can be sent in both forms; no reply is as large
again as what asked for it times a constant; a password is in no error.
"""

from __future__ import annotations

from dataclasses import replace

from taky_twisted.cot import compose, shapes, xmlcodec
from taky_twisted.identity import proxy_header
from taky_twisted.takproto import batch, connection, login, negotiation, protobuf, protobuf_framing
from taky_twisted.takproto.batch import Batch
from taky_twisted.takproto.connection import Reply, TAKConnection
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable
from taky_twisted.takproto.login import LoginReader
from tests.fuzz.cutting import cuttings
from tests.fuzz.target import Target
from tests.fuzz.targets.xml_events import check_delivered
from tests.samples import NOW, control, marker, ping, sa
from tests.takproto.arbitrary import CORPUS
from tests.takproto.streams import MIXED, WORDS

LIMIT, FIRST_LIMIT = 1 << 16, 1 << 12
MAX_REPLY = 1024
"""Bytes of one reply; a ping has more than a third of that."""

REQUEST = control("t-x-takp-q", '<TakControl><TakRequest version="1"/></TakControl>')
PASSWORD = "s3cret-w0rd"
V2 = b"\r\n\r\n\x00\r\nQUIT\n"
AUTH = f'<auth><cot username="fox1" password="{PASSWORD}" uid="A"/></auth>'.encode()

assert compose and batch and connection and login and negotiation and protobuf_framing  # to be instrumented


def outcome(pieces: list[bytes], offered: bool) -> tuple[list[object], str]:
    """Feed a stream; say what came and how it ended. What the server says itself differs, but not in its size."""
    tak = TAKConnection(LIMIT, FIRST_LIMIT, shapes.Shapes().decode)
    if offered:
        tak.offer(NOW)
    found: list[object] = []
    try:
        for piece in pieces:
            for said in tak.receive(piece, NOW):
                if isinstance(said, Reply):
                    assert 0 < len(said.data) <= MAX_REPLY, said
                    found.append((len(said.data), said.optional))
                elif isinstance(said, Unreadable):
                    found.append(said)
                else:
                    found.append((said.uid, said.type, said.xml))
    except RemoteProtocolError as error:
        return found, str(error)
    return [*found, tak.protocol, tak.pinged, tak.spoke], ""


def stream(data: bytes, offered: bool) -> None:
    """Cut a stream."""
    whole, *others = (outcome(pieces, offered) for pieces in cuttings(data))
    assert all(other == whole for other in others), (whole, others)
    for said in whole[0]:
        if isinstance(said, tuple) and len(said) == 3:
            event = check_delivered(said[2])
            assert len(event.xml) <= 3 * LIMIT
            assert Batch((event,)).protobuf


def signing_in(data: bytes) -> None:
    """Cut a stream that begins with a password."""
    outcomes: list[tuple[object, object]] = []
    for pieces in cuttings(data):
        reader, credentials = LoginReader(FIRST_LIMIT), None
        try:
            rest = b""
            for piece in pieces:
                if credentials is None:
                    credentials = reader.receive(piece)
                else:
                    rest += piece
            outcomes.append((credentials, reader.rest() + rest if credentials else None))
        except RemoteProtocolError as error:
            assert PASSWORD not in str(error), error
            outcomes.append((None, str(error)))
        if credentials is not None:
            assert 0 < len(credentials.password) <= login.MAX_TEXT_CHARS
            assert repr(replace(credentials, username="", uid="")) == "Credentials(username='', uid='')"
            assert 0 < len(credentials.username) <= login.MAX_TEXT_CHARS >= len(credentials.uid)
    assert all(other == outcomes[0] for other in outcomes), outcomes


def behind_a_balancer(data: bytes) -> None:
    """Cut the header that a load balancer puts in front."""
    outcomes = []
    for pieces in cuttings(data):
        outcome: proxy_header.ProxyHeader | str | None = None
        came = b""
        for piece in pieces:
            came += piece
            try:
                outcome = proxy_header.read_header(came)
            except proxy_header.ProxyHeaderError as error:
                outcome = str(error)
            if outcome is not None:
                break
        outcomes.append(outcome)
        if isinstance(outcome, proxy_header.ProxyHeader):
            assert 0 < outcome.size <= len(data) and outcome.size <= proxy_header.V2_BYTES
        elif outcome is None:
            assert len(data) < proxy_header.V2_BYTES, "it waits for more than it would read"
    assert all(other == outcomes[0] for other in outcomes), outcomes


def run(data: bytes) -> None:
    kind, data = data[:1], data[1:]
    if kind in (b"0", b"1"):
        stream(data, kind == b"1")
    elif kind == b"2":
        signing_in(data)
    elif kind == b"3":
        behind_a_balancer(data)


def _seeds() -> list[bytes]:
    events = (sa("A", "ALPHA"), marker(), ping())
    frames = b"".join(protobuf_framing.frame(protobuf.encode(xmlcodec.decode(event))) for event in events)
    return [
        *(b"0" + one for one in (MIXED, frames, sa("A", "ALPHA") + frames, AUTH + ping() * 3, *WORDS)),
        *(b"1" + sa("A", "ALPHA") + request + frames + ping() for request in (REQUEST, REQUEST * 2)),
        *(b"1" + REQUEST + one for one in CORPUS.values()),
        *(b"2" + one + marker() for one in (AUTH, b"<?xml version='1.0'?>" + AUTH, marker() + AUTH, AUTH[:-7])),
        b"2<auth username='fox1' password='&lt;'/>",
        *(b"3PROXY " + one for one in (b"TCP4 192.0.2.1 192.0.2.2 1 2\r\nx", b"UNKNOWN\r\n")),
        b"3PROXY TCP6 ::1 ::ffff:1.2.3.4 0 65535\r\n",
        *(b"3" + V2 + one for one in (b"\x21\x11\0\x0c" + bytes(12), b"\x20\0\0\0", b"\x21\x21\0\x30" + bytes(48))),
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[REQUEST, AUTH, b"\xbf", b"password=", b"username=", *(word for word in WORDS if len(word) < 40)],
    max_bytes=8192,
)
