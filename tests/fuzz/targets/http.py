"""A connection to the Marti API, from its first byte: requests in any shape, one after the other.

Holds: no answer has a status of 500 or more but 501, the log tells of no mistake, and however the bytes are cut, the
same statuses come; the connection ends when nothing more comes for long enough, and nothing is left of it then; what
is held in memory for it is given back.
"""

from __future__ import annotations

from itertools import islice

import multipart
from werkzeug.routing import rules

from taky_twisted.cot.xmlcodec import decode
from taky_twisted.identity.delays import MAX_SECONDS
from taky_twisted.marti import arguments, channel, request, site, upload
from taky_twisted.marti.upload import FORM
from taky_twisted.takproto.protobuf import encode
from taky_twisted.takproto.protobuf_framing import frame
from tests.fuzz.cutting import cuttings
from tests.fuzz.inputs import BOUNDARY, FORM_HEADERS, form
from tests.fuzz.site import Sites, statuses
from tests.fuzz.target import Target
from tests.fuzz.targets.uploads import LINE_FEED
from tests.fuzz.targets.websocket import masked
from tests.marti.asking import Connection, spell
from tests.samples import sa

assert arguments and channel and multipart and request and rules and site and upload  # to be instrumented
PROVING = b"Authorization: "
"""Whoever proves something does so at a door where that counts."""
_sites = Sites()


def run(data: bytes) -> None:
    with _sites.site(data) as site:
        outcomes = []
        for pieces in islice(cuttings(data), 2):
            connection = Connection(site.proving_door if PROVING in data else site.door)
            for piece in pieces:
                if connection.closed is None:
                    connection.send(piece)
            site.settle()
            if PROVING in data and not connection.transport.value():
                site.clock.advance(MAX_SECONDS)  # who was wrong several times has to wait
                site.settle()
            assert connection.closed or site.left_over(), "nothing ever ends the connection"
            found = statuses(connection.transport.value())
            assert all(status < 500 or status == 501 for status in found), connection.transport.value()
            outcomes.append(found)
            connection.lose()
            site.settle()
            assert len(site.api.connections) == 0
            if found and (found[0] == 101 or 401 in found or not data.startswith(b"GET")):
                _sites.changed(data)
        # Who speaks TLS here is known by its first bytes, if those come together.
        odd = data[:1] == b"\x16" or LINE_FEED.search(data.partition(FORM.encode())[2])
        assert odd or all(outcome == outcomes[0] for outcome in outcomes), outcomes


def _seeds() -> list[bytes]:
    upload = "/Marti/sync/missionupload?filename=a.zip&creatorUid=A"
    body = form(b"PK\x03\x04data")
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:30], body[30:])) + b"0\r\n\r\n"
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    frames = masked(2, frame(encode(decode(sa("B", "BRAVO"))))) + masked(8, b"\x03\xe8")
    return [
        spell("GET", "/Marti/api/version"),
        spell("GET", "/Marti/api/version") * 3,
        spell("HEAD", "/Marti/sync/search?keywords=missionpackage&tool=public"),
        spell("GET", "http://x//Marti/api/version/?a=%zz&b=%41"),
        spell("OPTIONS", "*"),
        spell("PUT", "/Marti/api/video", b"{}", {"Content-Type": "application/json"}),
        spell("POST", upload, body, FORM_HEADERS) + spell("GET", "/Marti/sync/search"),
        spell("POST", upload, b"", FORM_HEADERS | {"Transfer-Encoding": "chunked", "Content-Length": ""}) + chunked,
        spell("POST", upload, b"", FORM_HEADERS | {"Expect": "100-continue", "Content-Length": "10"}) + b"x" * 10,
        spell("POST", "/Marti/api/injectors/cot/uid", b'{"uid":"A","toInject":"<x/>"}'),
        spell("GET", "/Marti/sync/content?hash=" + "0" * 64, b"", {"Range": "bytes=0-1", "If-None-Match": '"x"'}),
        spell("GET", "/Marti/api/version", b"", {"Authorization": "Basic YTpi"}),
        spell("GET", "/Marti/api/tls/config", b"", {"Authorization": "Basic YWxwaGE6c2VjcmV0MTI="}),
        spell("POST", "/oauth/token", b"x", {"Authorization": "Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.e30.AA"}),
        spell("GET", "/Marti/api/version", b"", {"Authorization": "Basic " + "A" * 4097}),
        spell("GET", "/Marti/api/tls/config", b"", {"Authorization": "Basic /////w==", "Expect": "100-continue"}),
        spell("GET", "/Marti/api/version", b"", {"Origin": "https://evil.example", "Host": ""}),
        spell("GET", "/takproto/1", b"", upgrade) + frames,
        b"GET /Marti/api/version HTTP/1.0\r\n\r\n",
        b"GET /Marti/api/version HTTP/1.1\nHost: x\nX: a\n b\n\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nffffffffffffffff\r\n",
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b"GET ", b"POST ", b"HEAD ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n\r\n", b"Host: ", b"Content-Length: "),
        *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: "),
        *(b"Range: bytes=", b"If-None-Match: ", b"If-Modified-Since: ", b"Authorization: Bearer ", b"Origin: "),
        *(b"Content-Type: multipart/form-data; boundary=" + BOUNDARY.encode(), b"Cookie: ", b"%00", b"%2e%2e/", b"//"),
    ],
    seconds=0.5,
    max_bytes=4096,
)
