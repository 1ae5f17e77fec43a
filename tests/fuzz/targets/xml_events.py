"""One event in XML: what is accepted is forwarded, and is harmless for whoever reads it.

Holds: only `MalformedEvent` is raised; both ways to read an event give the same; what goes out begins with the prolog,
is well-formed, has one end tag and neither comments, CDATA, entities nor a document type; all else is as it was said;
reading it again changes nothing; and what the server makes of it (with flow tags, repeated, without a text) is an
event again.
"""

from __future__ import annotations

import re

from taky_twisted.cot import compose, shapes, times, types, xmlcodec
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import XMLFraming
from tests.fuzz.target import Target
from tests.fuzz.xml import read, without
from tests.samples import NOW, cancel, chat, delete, emergency, marker, ping, sa, to, xml
from tests.takproto.streams import BAD, GOOD

_END = re.compile(rb"</event[ \t\r\n]*>")
_TIMES = ("time", "start", "stale")
FIELDS = ("uid", "type", "how", "time", "start", "stale", "lat", "lon", "detail", "xml")


def said(one: Event) -> list[object]:
    """List what an event says."""
    return [getattr(one, name) for name in FIELDS]


def framed(data: bytes) -> bytes:
    """Cut a document as a stream would; what is none is taken as it is."""
    framing, buffer = XMLFraming(1 << 20, 1 << 20), bytearray(data)
    try:
        found = framing.next_frame(buffer)
    except RemoteProtocolError:
        return data
    return found if isinstance(found, bytes) else data


def decoded(document: bytes) -> Event | None:
    """Read an event both ways, and see that they agree."""
    quick = shapes.Shapes()
    outcomes: list[object] = []
    for decode in (xmlcodec.decode, quick.decode, quick.decode, quick.decode):
        try:
            outcomes.append(said(decode(document)))
        except MalformedEvent:
            outcomes.append(None)
    assert all(outcome == outcomes[0] for outcome in outcomes), outcomes
    return None if outcomes[0] is None else xmlcodec.decode(document)


def check_delivered(xml: bytes, cut: bool = True) -> Event:
    """See that an event can go out, and read it."""
    assert xml.startswith(PROLOG + b"<event "), xml[:80]
    assert xml.endswith(b"</event>"), xml[-80:]
    if cut:
        assert [match.end() for match in _END.finditer(xml)] == [len(xml)], "an XML stream is cut within it"
    assert not read(xml).forbidden, read(xml).forbidden
    again = xmlcodec.decode(xml[len(PROLOG) :])
    assert again.xml == xml, "reading it again changes it"
    return again


def contents(xml: bytes, *left_out: str) -> list[object]:
    """Say what a document holds, without what may differ: times, and what is not passed on."""
    (root,) = (each for each in read(xml).root if isinstance(each, tuple))
    attributes = tuple(pair for pair in root[1] if pair[0] not in _TIMES)
    children = []
    details = 0
    for child in root[2]:
        if isinstance(child, tuple) and child[0] == "detail":
            details += 1
            child = (*child[:2], without(child[2], *left_out))
        children.append(child)
    return [attributes, children if details else [*children, ("detail", (), [])]]


def check_made(one: Event, cut: bool) -> None:
    """See that what is made of an event can go out as well."""
    tagged = check_delivered(compose.with_flow_tag(one, "TAKY-node", NOW), cut)
    assert "TAKY-node" in tagged.detail.flow_tags, tagged.detail
    assert contents(tagged.xml, "_flow-tags_") == contents(one.xml, "_flow-tags_")
    plain = compose.without_flow_tag(tagged, "TAKY-node")
    assert "TAKY-node" not in check_delivered(plain.xml, cut).detail.flow_tags
    again = compose.repeated(one, NOW, NOW + 10)
    assert (check_delivered(again.xml, cut).time, again.stale) == (NOW, NOW + 10)
    for most in (0, 400):
        assert check_delivered(compose.chat_failed(one, most).xml, cut).type == types.CHAT_FAILED
    check_delivered(compose.departure(one.uid, one.type, NOW).xml)
    check_delivered(compose.file_offer(one, "https://x/?a=1&b=2", "0" * 64, one.detail.callsign, NOW).xml)
    compose.document(one)


def run(data: bytes) -> None:
    document = framed(data)
    one = decoded(document)
    if one is None:
        return
    cut = len(_END.findall(document)) < 2  # two are possible where no stream was cut: in other messages
    delivered = check_delivered(one.xml, cut)
    assert (delivered.uid, delivered.type, delivered.how) == (one.uid, one.type, one.how)
    assert (delivered.lat, delivered.lon) == (one.lat, one.lon)
    # What is later than anybody can read goes out as the last moment that can be read.
    assert [min(each, times.LATEST) for each in (delivered.time, delivered.start, delivered.stale)] == [
        min(each, times.LATEST) for each in (one.time, one.start, one.stale)
    ]
    assert (delivered.detail.callsign, delivered.detail.chat) == (one.detail.callsign, one.detail.chat)
    assert contents(one.xml) == contents(document, "marti")
    for moment in (one.time, one.start, one.stale):
        assert times.parse_time(times.format_time(moment))[1]
    check_made(one, cut)


TARGET = Target(
    run,
    seeds=lambda: [
        *(document for document, _ in GOOD),
        *BAD,
        *(sa("A", "ALPHA", extra="<x/>"), marker(), ping(), delete("A"), chat("A"), emergency("A", "ALPHA")),
        *(cancel("A", "ALPHA"), xml(marti=to("B", "C")), xml(marti='<dest group="Blue"/>')),
        xml(detail='<_flow-tags_ a="1"/><remarks>5" tall, 6" wide</remarks>'),
    ],
    words=[
        *(b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?x ?>", b"<!DOCTYPE", b"&#x0;", b"&amp;", b"</event>", b"<detail>"),
        *(b"</detail>", b"<marti>", b"</marti>", b"<marti/>", b'<dest callsign="', b"<__chat ", b"<chatgrp uid1="),
        *(b"<_flow-tags_ ", b"<remarks>", b"</remarks>", b"<remarks />", b"<contact callsign=", b"<event "),
        *(b"xmlns:p=", b'"', b"'"),
        *(b"<emergency cancel=", b"<archive/>", b"NaN", b"1e9999", b'stale="', b"+14:00", b"9999-12-31T23:59:59Z"),
    ],
    max_bytes=4096,
)
