"""Every route of the Marti API, with any parameters and any body, by anybody.

An input is the text of one request: ``WHO METHOD /path?query``, its content type, and the body, each behind a line
feed. WHO is a for anonymous, u for a user, d for an administrator, i for whoever shows an invite; upper case on the
enrollment port. Holds: no answer has a status of 500 or more but 501, the log tells of no mistake, what claims to be
JSON or XML is, no header is split, and nothing is left over when the connection is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from urllib.parse import quote_from_bytes
from xml.parsers import expat

import multipart

from taky_twisted.enrollment import signing_requests
from taky_twisted.identity.delays import MAX_SECONDS
from taky_twisted.marti import routes
from taky_twisted.marti.routes import Access, Bound
from tests.fuzz.inputs import BOUNDARY, FEED, TRACK, VIDEO, form
from tests.fuzz.site import CONTENT, WHO, Sites
from tests.fuzz.target import Target
from tests.marti.asking import Connection, parsed
from tests.samples import chat, marker, sa

_sites = Sites()
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
UID, HASH = "MARK-1", sha256(CONTENT).hexdigest()
PARAMETERS = {
    "uid": UID,
    "clientUid": "A",
    "creatorUid": "A",
    "callsign": "ALPHA",
    "name": "a.zip",
    "filename": "a.zip",
    "hash": HASH,
    "keywords": "missionpackage",
    "tool": "public",
    "start": "2026-03-01T09:00:00.000Z",
    "end": "2026-03-02T09:00:00.000Z",
    "startTime": "2026-03-01T09:00:00.000Z",
    "endTime": "2026-03-02T09:00:00.000Z",
    "starttime": "2026-03-01T09:00:00Z",
    "stoptime": "2026-03-02T09:00:00Z",
    "secAgo": "3600",
    "secago": "3600",
    "syncSecago": "3600",
    "interval": "10",
    "multiTrackThreshold": "10",
    "optimizeExport": "true",
    "extendedData": "true",
    "format": "kmz",
    "bbox": "-180,-90,180,90",
    "box": "-180,-90,180,90",
    "circle": "4.3,52.1,1000",
    "minAltitude": "0",
    "maxAltitude": "100",
    "latitude": "52.1",
    "longitude": "4.3",
    "altitude": "1",
    "expiration": "1772359200",
    "primarykey": "1",
    "group": "Blue",
    "groups": "Blue",
    "groupName": "Cyan",
    "groupRole": "Team Member",
    "direction": "IN",
    "active": "true",
    "sendLatestSA": "true",
    "showCurrentlyConnectedClients": "true",
    "showMostRecentOnly": "true",
    "missionpackage": "true",
    "cotType": "a-h-G",
    "mission": "m",
    "sortBy": "callsign",
    "platform": "ATAK-CIV",
    "protocol": "udp",
    "username": "alpha",
    "version": "3",
    "action": "add",
    "id": "v1",
    "ids": "1,2",
    "offset": "0",
    "length": "10",
    "mimetype": "text/plain",
    "contacts": "A",
    "remarks": "words",
    "permissions": "READ",
    "grant_type": "password",
    "password": "secret12",
    "DownloadPath": "a.zip",
}
"""A value for every parameter that some route reads, under one of its names."""
BODIES: tuple[tuple[str, bytes], ...] = (
    ("application/json", b""),
    ("application/json", json.dumps([{"name": "Blue", "direction": "IN", "active": True, "bitpos": 1}]).encode()),
    ("application/json", json.dumps({"videoConnections": [{"alias": "a", "uuid": "u", "feeds": [FEED]}]}).encode()),
    ("application/json", json.dumps({"uid": "A", "toInject": "<x/>"}).encode()),
    ("application/json", b"[1, 2]"),
    ("application/json", b'["MARK-1"]'),
    ("application/json", json.dumps(["words", "2026-03-01T09:00:00Z", 1, -1, None, 1e308, True]).encode()),
    ("application/x-www-form-urlencoded", b"grant_type=password&username=alpha&password=secret12"),
    ("application/xml", VIDEO),
    ("application/vnd.google-earth.kml+xml", TRACK),
    (f"multipart/form-data; boundary={BOUNDARY}", form(b"PK\x03\x04")),
    ("application/octet-stream", sa("B", "BRAVO")),
    ("application/x-zip-compressed", b"PK\x03\x04"),
)
FEW = f"hash={HASH}&uid=A&callsign=ALPHA&id=v1"
CSR = (
    "MIHJMHICAQAwEDEOMAwGA1UEAwwFYWxwaGEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAROvlf0hDPRRfN00kFH3YHvw4z1S/6j"
    "MjENuVMMIfc1ISbi6mZQIUR/CBTKKtuzlol8t320IflOdzPjuy3ve/XUoAAwCgYIKoZIzj0EAwIDRwAwRAIgYrziTDWC8gcJhyiP"
    "i5q3zx0cNi2B6kIVuzKnSVym6Q0CIFv9moaPcq80gyRim1NObARi4s0w4oDLWKqYVImMPQBY"
)
"""A request for a certificate; nobody has its key any more."""
_SAFE = "/?&=%+:;,@!$'()*~-._#[]"
_PLACEHOLDER = re.compile(r"<(?:(\w+):)?(\w+)>")

assert multipart and routes and signing_requests  # to be instrumented


def spelled(data: bytes) -> tuple[str, str, bytes]:
    """Make a request of an input: who asks, at which door; the method; and all of its bytes."""
    line, _, rest = data.partition(b"\n")
    kind, _, body = rest.partition(b"\n")
    who, _, target = line.partition(b" ")
    method, _, target = target.partition(b" ")
    path = quote_from_bytes(b"/" + target.lstrip(b"/"), _SAFE).partition("#")[0]
    name = next((each for each in METHODS if each.encode() == method), "GET")
    content_type = "".join(map(chr, filter(lambda byte: 32 <= byte < 127, kind)))[:300]
    head = f"{name} {path} HTTP/1.1\r\nHost: tak.example:8080\r\nContent-Type: {content_type}\r\n"
    if body or name in ("POST", "PUT", "PATCH"):
        head += f"Content-Length: {len(body)}\r\n"
    return who.decode("ascii", "replace")[:1], name, f"{head}\r\n".encode() + body


def run(data: bytes) -> None:
    who, method, request = spelled(data)
    with _sites.site(data) as site:
        door = site.enroll_door if who.isupper() else site.door
        door.who, door.invited = WHO.get(who.lower()), None
        if who.lower() == "i":
            invites = site.api.enrolling.invites
            door.invited = invites.find("alpha", invites.invite("alpha"))
        connection = Connection(door)
        connection.send(request)
        site.settle()
        raw = connection.transport.value()
        if not raw and connection.closed is None:
            site.clock.advance(MAX_SECONDS)  # who was wrong about a password several times has to wait
            site.settle()
            raw = connection.transport.value()
            _sites.changed(data)
        assert raw or connection.closed, "no answer comes"
        if raw:
            check(raw, method)
        connection.lose()
        site.settle()
        assert len(site.api.connections) == 0
        if door.invited or (method not in ("GET", "HEAD", "OPTIONS") and raw[9:10] == b"2") or raw[9:12] == b"101":
            _sites.changed(data)


def check(raw: bytes, method: str) -> None:
    """See whether an answer is one that a client can use."""
    head = raw.partition(b"\r\n\r\n")[0]
    if head.startswith(b"HTTP/1.1 101"):
        return
    assert re.fullmatch(rb"HTTP/1\.1 \d{3} [ -~]*(\r\n[A-Za-z-]+: [ -~\x80-\xff]*)*", head), head
    answer = parsed(raw, method)
    assert answer.status < 500 or answer.status == 501, answer
    kind = (answer.type or "").partition(";")[0]
    if not answer.body or answer.headers.get("content-security-policy", "").startswith("sandbox"):
        return  # a file is whatever somebody has stored
    if kind == "application/json":
        json.loads(answer.body)
    elif kind in ("application/xml", "text/xml", "application/vnd.google-earth.kml+xml"):
        expat.ParserCreate().Parse(answer.body, True)


def _all_routes() -> Iterator[tuple[str, Bound]]:
    with _sites.site(b"") as site:
        for who, table in (("u", site.door.table), ("U", site.enroll_door.table)):
            for bound in table.bound:
                admin = bound.route.access is Access.ADMIN
                yield ("d" if who == "u" else "D") if admin else who, bound


def _path(path: str) -> str:
    def sample(match: re.Match[str]) -> str:
        if match[1] == "hash":
            return HASH
        return "1" if match[1] == "int" else PARAMETERS.get(match[2], "v1" if "video" in path else UID)

    return _PLACEHOLDER.sub(sample, path)


def _seeds() -> Iterator[bytes]:
    query = "&".join(f"{name}={value}" for name, value in PARAMETERS.items())
    for who, bound in _all_routes():
        path = _path(bound.route.path)
        for method in sorted(bound.route.methods):
            yield f"{who} {method} {path}?{query}\n\n".encode()
            yield f"{who} {method} {path}\n\n".encode()
            yield f"{who} {method} {path}?{FEW}\n\n".encode()
            if method != "GET":
                for kind, body in BODIES:
                    yield f"{who} {method} {path}\n{kind}\n".encode() + body
    video = json.dumps({"alias": "a", "uuid": "v1", "feeds": [FEED]})
    mine = f"/Marti/api/sync/metadata/{HASH}"
    for line, said in (
        (f"u PUT {mine}/keywords", '["a","b"]'),
        (f"u PUT {mine}/tool", "private"),
        (f"u PUT {mine}/mimetype", "text/plain"),
        (f"u PUT {mine}/expiration?expiration=1", ""),
        (f"d GET /Marti/sync/content?hash={HASH}", ""),
        ("u PUT /Marti/api/video/v1", video),
        ("u POST /Marti/api/video", json.dumps({"videoConnections": [{"alias": "b", "feeds": [FEED]}]})),
        ("u GET /Marti/api/cot", '["MARK-1"]'),
        ("u POST /Marti/TracksKML?uid=A&callsign=ALPHA", TRACK.decode()),
        ("u GET /Marti/ExportMissionKML?startTime=2026-03-01T09:00:00Z&endTime=2026-03-02T09:00:00Z&format=kml", ""),
        ("u GET /Marti/api/cot/xml/A/all?secago=100&start=2026-03-01T09:00:00Z&end=2026-03-02T09:00:00Z", ""),
        ("I POST /Marti/api/tls/signClient/v2?clientUid=A&version=5", CSR),
        ("I POST /Marti/api/tls/signClient?clientUid=A&version=5", CSR),
        ("U POST /Marti/api/tls/signClient/v2?clientUid=A&version=5", CSR),
        ("U POST /oauth/token?grant_type=password&username=alpha&password=secret12", ""),
    ):
        yield f"{line}\n\n{said}".encode()
    for method, path in (("GET", "/Marti/api/tls/config?clientUid=A"), ("GET", "/Marti/api/tls/profile/enrollment")):
        yield f"I {method} {path}\n\n".encode()


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(f"{name}=".encode() for name in PARAMETERS),
        *(b"a ", b"u ", b"d ", b"i ", b"A ", b"U ", b"D ", b"I ", *(f" {method} ".encode() for method in METHODS)),
        *(b"%00", b"%ff", b"%0d%0a", b"%2e%2e%2f", b"\xc3\xa9", b"NaN", b"inf", b"-1", b"1e400"),
        b"99999999999999999999",
        *(b"9999-12-31T23:59:59Z", b"0001-01-01T00:00:00+23:59", b"null", b"[]", b"{}", b'"\\ud800"', b"[" * 40),
        *(marker()[:60], chat("A")[:60], b"<feed>", b"</feed>", b"<gx:coord>", b"<when>", b"<!DOCTYPE x>", b"&amp;"),
    ],
    seconds=0.5,
    max_bytes=4096,
)
