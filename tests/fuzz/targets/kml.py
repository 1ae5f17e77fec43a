"""Tracks that clients hand in, feeds of video in XML and JSON, and what history makes of events.

The first byte chooses. Holds: only `BadTrack`, `BadVideo` and its kin, and `MalformedEvent` are raised; what is made of
tracks are events; what is kept of a feed reads as the same, as JSON and as XML; every event, whatever is in it, can be
packed, unpacked and told of in KML that is well-formed.
"""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from xml.parsers import expat

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.history import documents, kml, packing, tracks
from taky_twisted.history.records import Moment
from taky_twisted.history.tracks import BadTrack, Walker
from taky_twisted.identity.principal import ANON_GROUP
from taky_twisted.video import connections, feed_xml, urls
from taky_twisted.video.connections import connection_of, read_connection
from taky_twisted.video.errors import VideoError
from tests.fuzz.inputs import FEED, TRACK, VIDEO
from tests.fuzz.target import Target
from tests.fuzz.targets.xml_events import check_delivered, framed
from tests.samples import NOW, chat, marker, sa, xml

GROUPS = frozenset({ANON_GROUP})
assert connections and urls  # to be instrumented


def track(data: bytes) -> None:
    """Read a track; its first line is whose it is."""
    whose, _, document = data.partition(b"\n")
    uid, _, callsign = whose.decode("utf-8", "replace").partition(",")
    with suppress(BadTrack):
        points = tracks.read_tracks(document, NOW)
        for heard in tracks.positions(Walker(uid, callsign, team=callsign, role=uid), points, GROUPS):
            check_delivered(heard.event.xml)


def video_xml(data: bytes) -> None:
    """Read feeds in XML."""
    with suppress(VideoError):
        for feed in feed_xml.read_feeds(data):
            connection = connection_of(feed)
            (again,) = feed_xml.read_feeds(feed_xml.document("videoConnections", [feed_xml.feed_element(feed)]))
            assert (again.uid, again.alias, again.active) == (feed.uid, feed.alias, feed.active), (again, feed)
            kept(connection.document)
            expat.ParserCreate().Parse(feed_xml.alone(feed_xml.connection_element(connection)), True)


def video_json(data: bytes) -> None:
    """Read a connection in JSON, as it comes over HTTP and out of the store."""
    with suppress(VideoError, ValueError, RecursionError):
        kept(json.dumps(json.loads(data)))


def kept(document: str) -> None:
    """Read what is kept; what is kept of that is the same."""
    connection = read_connection(json.loads(document))
    again = read_connection(json.loads(connection.document))
    assert again.document == connection.document, (document, again.document)
    elements = [feed_xml.feed_element(feed) for feed in connection.feeds]
    expat.ParserCreate().Parse(feed_xml.document("videoConnections", elements), True)


def history(data: bytes) -> None:
    """Pack an event, and tell of it."""
    try:
        event = decode(framed(data))
    except MalformedEvent:
        return
    assert packing.unpack(*packing.pack(event.xml)) == event.xml
    detail = event.detail
    moment = Moment(event.uid, event.type, detail.callsign, event.time, event.lat, event.lon, None, event.xml)
    for build in (
        kml.kml(event.uid, lambda writer, full: kml.write_tracks(writer, [moment, moment], 10, full), 5),
        kml.kml(event.uid, lambda writer, full: kml.write_route(writer, moment) or 0, 5),
        kml.kml(event.uid, lambda writer, full: place(writer, moment), 5),
    ):
        file = io.BytesIO()
        build(file)
        expat.ParserCreate().Parse(file.getvalue(), True)
    file = io.BytesIO()
    kml.kmz(kml.kml("x", lambda writer, full: kml.write_links(writer, [(event.uid, event.uid)], 1), 5))(file)
    with zipfile.ZipFile(file) as archive:
        expat.ParserCreate().Parse(archive.read("doc.kml"), True)
    file = io.BytesIO()
    documents.write_events(file, [moment], 5)
    expat.ParserCreate().Parse(file.getvalue(), True)


def place(writer: kml.Writer, moment: Moment) -> int:
    """Write one place."""
    kml.write_place(writer, moment)
    return 1


def packed(data: bytes) -> None:
    """Unpack what a damaged file says is an event."""
    with suppress(ValueError):
        packing.unpack(packing.PACKED, data)


_KINDS = {b"0": track, b"1": video_xml, b"2": video_json, b"3": history, b"4": packed}


def run(data: bytes) -> None:
    if (kind := _KINDS.get(data[:1])) is not None:
        kind(data[1:])


def _seeds() -> list[bytes]:
    route = xml("R", "b-m-r", '<link point="52.1,4.3"/><link point="1e999,NaN,5"/><link point="52.2,4.4,7" uid="x"/>')
    return [
        b"0A,ALPHA\n" + TRACK,
        b"0A,ALPHA\n<Track><when>2026-03-01T09:00:00Z</when><coord>1 2</coord></Track>",
        b"1" + VIDEO,
        b"1<feed><protocol>RAW</protocol><alias>a</alias><uid>u</uid><address>x://y</address><port>-1</port></feed>",
        b"1<videoConnections><feed><protocol>rtsp</protocol><alias>\xe4</alias><uid>u</uid><path>/p</path></feed></videoConnections>",
        b"2" + json.dumps({"uuid": "u", "alias": "a", "feeds": [FEED, {"url": "x", "alias": 1}]}).encode(),
        b'2{"alias":"\\ud800","feeds":[]}',
        *(b"3" + one for one in (sa("A", "ALPHA"), marker(), chat("A"), route)),
        b"4" + packing.pack(PROLOG + sa("A", "ALPHA"))[1],
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b"<Track>", b"</Track>", b"<when>", b"</when>", b"<coord>", b"</coord>", b"<gx:", b"<!DOCTYPE", b"&#0;"),
        b"\x0c",
        *(b"<feed>", b"</feed>", b"<port>", b"<protocol>", b"<address>", b"://", b"encoding='utf-16'", b"\\ud800"),
        b"null",
        *(b'"feeds":', b'"uuid":', b'"url":', b"1e999", b"NaN", b"point=", b"b-m-r", b"\xef\xbf\xbf", b"&#xFFFF;"),
        b"\\u0000",
    ],
)
