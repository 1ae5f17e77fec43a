"""A thousand requests that no client of good will makes, to every route there is."""

from __future__ import annotations

import importlib
import pkgutil
import re
import socket
from inspect import getmembers, isclass, isfunction
from pathlib import Path
from urllib.parse import quote_from_bytes

from hypothesis import HealthCheck, Phase, given, settings, strategies
from twisted.trial.unittest import SynchronousTestCase

import taky_twisted.marti
from taky_twisted.marti.routes import Route
from tests.end_to_end.server_process import ServerProcess

REQUESTS = 1000
CANARY = b"canary-3f9c1b7e"
SECONDS = 10.0

NAMES = (
    *("hash", "uid", "UID", "filename", "name", "creatorUid", "clientUid", "keywords", "keyword", "tool", "mimetype"),
    *("offset", "length", "bbox", "circle", "startTime", "endTime", "start", "end", "secago", "interval", "format"),
    *("PrimaryKey", "expiration", "EXPIRATION", "latitude", "Groups", "group", "page", "limit", "sort", "id", "active"),
    *("callsign", "cotType", "multiTrackThreshold", "secAgo", "left", "right", "top", "bottom", "setActive", "user"),
)
VALUES = (
    *(b"", b"0", b"-1", b"1", b"999999999999999999999", b"1e999", b"nan", b"inf", b"true", b"kmz", b"IN", b"public"),
    *(b"../../../../etc/passwd", b"..%2f..%2fcanary.txt", b"/etc/passwd", b"canary.txt", b"..", b".", b"a/b\\c", b"~"),
    *(b"\0", b"\r\nSet-Cookie: a=b", b"' OR 1=1 --", b'"; DROP TABLE file; --', b"%s%n{0}", b"<x>&amp;", b"(a+)+$"),
    *("Ünï-猫-😀".encode(), b"\xff\xfe", b"a" * 3000, b"0" * 64, b"ab" * 32, b"AB" * 32, b"g" * 64, b"[]", b"{}"),
    *(b"2026-01-31T12:00:00.000Z", b"0000-00-00T00:00:00Z", b"9999-12-31T23:59:59.999999999Z", b"1,2,3,4", b",,,"),
)
BODIES = (
    *(b"", b"null", b"[]", b"{}", b'["a", 1, null]', b"[" * 5000, b'{"a":' * 5000, b"1" * 5000, b'{"uid": 1}', b"\xff"),
    b'[{"name": "__ANON__", "direction": "IN", "active": 7, "bitpos": 1e400, "created": []}]',
    b'{"videoConnections": [{"uuid": "../x", "feeds": [{"url": 5}]}]}',
    b"<videoConnections><feed><uid>../../x</uid><alias/><protocol>file</protocol></feed></videoConnections>",
    b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><videoConnections><feed><uid>&b;</uid></feed></videoConnections>',
    b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]><kml>&c;</kml>',
    b"<a>" * 3000,
    b'<kml xmlns:gx="http://www.google.com/kml/ext/2.2"><gx:Track><when>x</when><gx:coord>1 2</gx:coord></gx:Track>',
    b'{"uid": "a", "toInject": "<event/>"}',
    b'--b\r\nContent-Disposition: form-data; name="assetfile"; filename="../../../canary.txt"\r\n\r\nPK\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="assetfile"\r\n\r\n\r\n--b',
    b"--b\r\n" * 300,
    b"a=b&" * 600,
)
TYPES = (
    *("application/json", "text/plain", "application/xml", "multipart/form-data; boundary=b", "multipart/form-data"),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=", "a/b; charset=\x7f", "", "x" * 1000),
    *("\xff/\xfe", "multipart/form-data; boundary=\xff\xfe"),
)
HEADERS = (
    *(
        "X-USER: admin",
        "X-Forwarded-For: 127.0.0.1",
        "Authorization: Basic YWRtaW46YWRtaW4=",
        "Authorization: Bearer x",
    ),
    *("Content-Encoding: UTF-8", "Range: bytes=0-1", "Expect: 100-continue", "Expect: 200-ok", "Accept: image/png"),
    *("Upgrade: websocket", "Connection: Upgrade", "Origin: https://evil.example", "Host: evil.example/../", "Host:"),
    *("Host: \xff\xfe", "Accept: \xff\xfe", "Cookie: \xff\xfe=\xff", "X-\xff: \xfe"),
    *("Transfer-Encoding: chunked", "Content-Length: 5", "If-Modified-Since: x", "Cookie: access_token=x", "A" * 2000),
)
METHODS = ("GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "G\x80T", "TRACE")


def routes() -> list[str]:
    """List the path of every route of every area, whoever may call it."""
    paths = set()
    for module in pkgutil.iter_modules(taky_twisted.marti.__path__):
        for _, area in getmembers(importlib.import_module(f"taky_twisted.marti.{module.name}"), isclass):
            for _, method in getmembers(area, isfunction):
                for marked in getattr(method, "__routes__", ()):
                    assert isinstance(marked, Route)
                    paths.add(marked.path)
    return sorted(paths)


@strategies.composite
def requests(draw: strategies.DrawFn) -> bytes:
    """Draw one request as bytes."""
    path = draw(strategies.sampled_from(routes()))
    values = strategies.sampled_from(VALUES) | strategies.binary(max_size=40)

    def fill(match: re.Match[str]) -> str:
        value = draw(values)
        return quote_from_bytes(value, safe="/") if draw(strategies.booleans()) else value.decode("latin-1")

    path = re.sub("<[^>]*>", fill, path)
    if draw(strategies.integers(0, 9)) == 0:
        path = "/" + draw(values).decode("latin-1")
    pairs = draw(strategies.lists(strategies.tuples(strategies.sampled_from(NAMES), values), max_size=5))
    query = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in pairs)
    body = draw(strategies.sampled_from(BODIES) | strategies.binary(max_size=200))
    lines = [
        f"{draw(strategies.sampled_from(METHODS))} {path}?{query} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: close",
    ]
    lines += draw(strategies.lists(strategies.sampled_from(HEADERS), max_size=2))
    lines.append(f"Content-Type: {draw(strategies.sampled_from(TYPES))}")
    if not any(line.startswith(("Content-Length", "Transfer")) for line in lines):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class HostileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ServerProcess(
            self, "--cot-endpoint=tcp:0:interface=127.0.0.1", "--marti-endpoint=tcp:0:interface=127.0.0.1"
        ).start()
        (self.server.folder / "canary.txt").write_bytes(CANARY)

    def outside(self) -> list[tuple[Path, bytes]]:
        """List everything beside the data folder and the log."""
        return [
            (path, path.read_bytes())
            for path in sorted(self.server.folder.rglob("*"))
            if path.is_file() and self.server.data_dir not in path.parents and not path.name.startswith("log-")
        ]

    def ask(self, request: bytes) -> bytes:
        """Send bytes, and read until the server closes the connection; nothing more is sent after them."""
        with socket.create_connection(("127.0.0.1", self.server.port(1)), SECONDS) as connection:
            answer = b""
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while data := connection.recv(1 << 16):
                    answer += data
            except (ConnectionResetError, BrokenPipeError):
                pass
            return answer

    def test_thousand_requests(self) -> None:
        """Whatever is asked, the server makes no mistake, and touches and tells nothing outside of its data folder."""
        before = self.outside()
        self.assertEqual(len(before), 2)
        statuses: dict[bytes, int] = {}

        @settings(
            max_examples=REQUESTS,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests())
        def hold(request: bytes) -> None:
            answer = self.ask(request)
            status = answer[9:12]
            statuses[status] = statuses.get(status, 0) + 1
            self.assertNotIn(status, (b"500", b"502", b"503"), f"{request[:500]!r} is answered {answer[:500]!r}")
            self.assertNotIn(CANARY, answer, f"{request[:500]!r}")
            self.assertNotIn(b"root:x:", answer, f"{request[:500]!r}")
            self.assertNotIn(b"\r\nSet-Cookie: a=b", answer, f"{request[:500]!r}")
            if status >= b"400":
                head, _, body = answer.partition(b"\r\n\r\n")
                self.assertTrue(
                    body or request.startswith(b"HEAD"), f"{request[:500]!r} is answered {head!r} and no more"
                )

        hold()
        self.assertEqual(self.outside(), before)
        self.assertNotIn("Traceback", self.server.log)
        self.assertNotIn("failed", self.server.log)
        self.assertIsNone(self.server.exit_status())
        self.assertIn(b"HTTP/1.1 200", self.ask(b"GET /Marti/api/version HTTP/1.1\r\nConnection: close\r\n\r\n"))
        # The requests reached what they are for: some were good, and most were refused in several ways.
        self.assertGreaterEqual(statuses.keys(), {b"200", b"400", b"403", b"404", b"405"}, statuses)
