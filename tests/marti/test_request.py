from __future__ import annotations

import json
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel

from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import Principal
from taky_twisted.marti.arguments import Arguments
from taky_twisted.marti.channel import LINGER_SECONDS
from taky_twisted.marti.errors import BadRequest, NoSuchThing
from taky_twisted.marti.replies import EMPTY, Reply, as_json, text
from taky_twisted.marti.request import FORM_BYTES, InMemory, MartiRequest, local_host, normal_path
from taky_twisted.marti.routes import Access, route
from tests.fakes import LogLines, principal
from tests.marti.asking import Asking, Connection, spell

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Sink:
    """Where an upload goes in these tests."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.aborted = 0
        self.end: Deferred[None] = succeed(None)

    def write(self, data: bytes) -> None:
        if data.startswith(b"bad"):
            raise BadRequest("bad bytes")
        self.pieces.append(data)

    def finish(self) -> Deferred[None]:
        return self.end

    def abort(self) -> None:
        self.aborted += 1


class Area:
    """Routes of all kinds."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.requests: list[MartiRequest] = []
        self.refusal: Exception | None = None

    @route("/Marti/echo")
    def echo(self, request: MartiRequest) -> Reply:
        """Say what was asked."""
        self.requests.append(request)
        return as_json({"who": request.principal.name, "base": request.base_url, "host": request.host_name})

    @route("/Marti/cot/<path:uid>")
    def cot(self, request: MartiRequest, uid: str) -> Reply:
        """Say which path it was."""
        return text(uid)

    @route("/Marti/small", "POST", body=10)
    def small(self, request: MartiRequest) -> Reply:
        """Take a small body."""
        return text(request.data.decode("latin-1") + "|" + request.content_type)

    @route("/Marti/change", "GET", "DELETE")
    def change(self, request: MartiRequest) -> Reply:
        """Change something."""
        return EMPTY

    @route("/Marti/form", "POST")
    def form(self, request: MartiRequest) -> Reply:
        """Take a form."""
        return as_json(request.form().all("a"))

    @route("/Marti/upload", "PUT", body="receive")
    def upload(self, request: MartiRequest) -> Reply:
        """Take an upload."""
        assert request.body is self.sink
        return text(str(sum(map(len, self.sink.pieces))))

    @route("/Marti/admin", "GET", "POST", access=Access.ADMIN)
    def admin(self, request: MartiRequest) -> Reply:
        """Be for administrators."""
        return EMPTY

    def receive(self, request: MartiRequest) -> Sink:
        """Take an upload's body."""
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        return self.sink


class RequestTestCase(SynchronousTestCase):
    limits = Limits(upload_bytes=100_000, uploads_per_principal=2)

    def setUp(self) -> None:
        self.area = Area()
        self.ask = Asking(self.area, limits=self.limits)
        self.clock = self.ask.clock
        self.log = LogLines(self)

    def tearDown(self) -> None:
        """With the last connection every timer ends."""
        for channel in list(self.ask.connections._all):
            channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def connect(self, who: Principal | None = None) -> Connection:
        """Open a connection."""
        self.ask.door.who = who
        return Connection(self.ask.door)

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """Spell a request without a body."""
        return "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: h", *lines, "")).encode()

    def wrong(self, connection: Connection) -> tuple[int, str]:
        """Take an answer that says what was wrong; return its status and text."""
        answer = connection.answer()
        self.assertEqual(answer.type, "application/json")
        self.assertEqual(set(answer.json), {"status", "code", "message"})
        return answer.status, answer.json["message"]


class RefusalTests(RequestTestCase):
    """What is refused before a byte of its body was taken."""

    def test_refused_early(self) -> None:
        """The answer comes with the headers: no 100 is sent, the body is thrown away, then the connection closes."""
        for method, path, length, status in (
            ("POST", "/Marti/none", 5, 404),
            ("PUT", "/Marti/small", 5, 405),
            ("POST", "/Marti/admin", 5, 403),
            ("POST", "/Marti/small", 11, 413),
            ("PUT", "/Marti/upload", self.limits.upload_bytes + FORM_BYTES + 1, 413),
            ("POST", "/Marti/small?a=%ff", 5, 400),
            ("POST", "/Marti/%ff", 5, 400),
        ):
            connection = self.connect()
            connection.send(self.head(method, path, f"Content-Length: {length}", "Expect: 100-continue"))
            self.assertEqual(self.wrong(connection)[0], status, path)
            self.assertIsNone(connection.closed)
            connection.send(b"x" * min(length, 20_000))
            self.assertEqual(connection.transport.value(), b"")
            self.clock.advance(LINGER_SECONDS)
            self.assertIsNotNone(connection.closed)
            connection.lose()
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.area.sink.pieces, [])

    def test_whole_body_came(self) -> None:
        """If the refused body comes to its end the connection is closed in order, at once."""
        connection = self.connect()
        connection.send(spell("POST", "/Marti/none", b"12345"))
        answer = connection.answer()
        self.assertEqual((answer.status, answer.headers["connection"]), (404, "close"))
        self.assertEqual(connection.closed, "closed")

    def test_drips_on(self) -> None:
        """Who goes on sending after a refusal is cut off; the time does not begin anew with what comes."""
        connection = self.connect()
        connection.send(self.head("POST", "/Marti/none", "Content-Length: 1000"))
        for _ in range(5):
            self.assertIsNone(connection.closed)
            connection.send(b"x")
            self.clock.advance(LINGER_SECONDS / 5)
        self.assertEqual(connection.closed, "aborted")

    def test_without_a_body(self) -> None:
        """A refused request without a body costs no connection: clients poll for what may not be there."""
        connection = self.connect()
        for path, status in (("/Marti/none", 404), ("/Marti/admin", 403), ("/Marti/%ff", 400), ("/Marti/echo", 200)):
            connection.send(self.head("GET", path))
            answer = connection.answer()
            self.assertEqual(answer.status, status)
            self.assertNotIn("connection", answer.headers)
            self.assertIsNone(connection.closed)

    def test_continue(self) -> None:
        """Who asks whether to send a good body is told to."""
        connection = self.connect()
        connection.send(self.head("POST", "/Marti/small", "Content-Length: 10", "Expect: 100-continue"))
        self.assertEqual(connection.transport.value(), CONTINUE)
        connection.transport.clear()
        connection.send(b"0123456789")
        self.assertEqual(connection.answer().body, b"0123456789|")

    def test_limit(self) -> None:
        """A body may have the size that its route allows, and not a byte more, announced or not."""
        for size, status in ((9, 200), (10, 200), (11, 413)):
            connection = self.connect()
            connection.send(spell("POST", "/Marti/small", b"x" * size))
            self.assertEqual(connection.answer().status, status)
            connection = self.connect()
            connection.send(self.head("POST", "/Marti/small", "Transfer-Encoding: chunked"))
            connection.send(f"{size:x}\r\n".encode() + b"x" * size + b"\r\n0\r\n\r\n")
            self.assertEqual(connection.answer().status, status)

    def test_doctor(self) -> None:
        """Operators are told of refused uploads and of who may not come in; that there is nothing is nobody's fault."""
        failures = self.ask.connections.failures
        for method, path, length, reason in (
            ("GET", "/Marti/none", 0, None),
            ("PUT", "/Marti/small", 5, None),
            ("POST", "/Marti/admin", 5, "a request was refused (403): only administrators may do this"),
            ("PUT", "/Marti/upload", 10**9, "an upload was refused (413): the body is too large"),
        ):
            before = failures.total
            self.connect(principal("alice")).send(self.head(method, path, f"Content-Length: {length}"))
            self.assertEqual(failures.total - before, 0 if reason is None else 1, path)
            if reason is not None:
                attempt = list(failures)[-1]
                self.assertIn(reason, attempt.reason)
                self.assertEqual((attempt.address, attempt.subject), ("198.51.100.7", "alice"))

    def test_row16_chunked(self) -> None:
        """An upload that never says how large it is is cut at the limit, and forgotten."""
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Transfer-Encoding: chunked"))
        limit = self.limits.upload_bytes + FORM_BYTES
        connection.send(f"{limit:x}\r\n".encode() + b"x" * limit + b"\r\n")
        self.assertEqual(connection.transport.value(), b"")
        connection.send(b"1\r\nx\r\n")
        status, message = self.wrong(connection)
        self.assertEqual(status, 413)
        self.assertIn(str(limit), message)
        self.assertEqual((sum(map(len, self.area.sink.pieces)), self.area.sink.aborted > 0), (limit, True))
        connection.send(b"5\r\nxxxxx\r\n")
        self.assertEqual(sum(map(len, self.area.sink.pieces)), limit)
        connection.send(b"no chunk\r\n")
        self.assertEqual((connection.transport.value(), connection.closed), (b"", "closed"))

    def test_who_first(self) -> None:
        """Who is nobody hears that, and not what there is."""
        ask = Asking(self.area, anonymous=False)
        for method, path in (("GET", "/Marti/none"), ("PUT", "/Marti/small"), ("GET", "/Marti/admin")):
            self.assertEqual(ask(method, path).status, 401)


class BodyTests(RequestTestCase):
    def test_memory(self) -> None:
        """A small body is there when its handler is called, with its type without parameters."""
        for header, kind in (("Text/Plain; charset=utf-8", "text/plain"), ("", "")):
            answer = self.ask("POST", "/Marti/small", b"12345", {"Content-Type": header})
            self.assertEqual(answer.body, f"12345|{kind}".encode())
        self.assertEqual(self.ask("POST", "/Marti/small").body, b"|")

    def test_tiny_pieces(self) -> None:
        """A body that comes in tiny pieces takes no more memory than any other."""
        body, size = InMemory(), 1 << 18
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(size // 2):
            body.write((number % 65536).to_bytes(2, "big"))
        self.assertLess(tracemalloc.get_traced_memory()[0], 2 * size)
        self.assertEqual(len(body.data), size)

    def test_form(self) -> None:
        """The fields of a form join the parameters; another body is no form."""
        kind = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
        self.assertEqual(self.ask("POST", "/Marti/form?a=1", b"a=2", kind).json, ["1", "2"])
        self.assertEqual(self.ask("POST", "/Marti/form?a=1", b"a=2").json, ["1"])
        self.assertEqual(self.ask("POST", "/Marti/form", b"a=%ff", kind).status, 400)

    def test_pieces(self) -> None:
        """An upload reaches its sink piece by piece, as it comes; the handler is called when it is stored."""
        end = self.area.sink.end = Deferred()
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 6"))
        for piece in (b"ab", b"cd", b"ef"):
            connection.send(piece)
        self.assertEqual(self.area.sink.pieces, [b"ab", b"cd", b"ef"])
        self.assertEqual(connection.transport.value(), b"")
        end.callback(None)
        self.assertEqual(connection.answer().body, b"6")
        self.assertEqual(self.area.requests[0].length, 6)

    def test_bad_bytes(self) -> None:
        """A sink that cannot use what comes refuses it in the middle."""
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 600"))
        connection.send(b"good")
        connection.send(b"bad")
        self.assertEqual(self.wrong(connection), (400, "bad bytes"))
        self.assertEqual(self.area.sink.aborted, 1)
        self.area.requests[0].refuse(BadRequest("again"))
        self.assertEqual(connection.transport.value(), b"")

    def test_bad_end(self) -> None:
        """A sink that finds out at the end that it cannot use the whole refuses then; the connection stays."""
        self.area.sink.end = fail(NoSuchThing("a wrong hash"))
        connection = self.connect()
        connection.send(spell("PUT", "/Marti/upload", b"abc"))
        self.assertEqual(self.wrong(connection), (404, "a wrong hash"))
        self.assertIsNone(connection.closed)

    def test_bug_at_the_end(self) -> None:
        """A bug in a sink is in the log, and the client hears that it was ours."""
        self.area.sink.end = fail(RuntimeError("a bug"))
        connection = self.connect()
        connection.send(spell("PUT", "/Marti/upload", b"abc"))
        status, message = self.wrong(connection)
        self.assertEqual(status, 500)
        self.assertNotIn("a bug", message)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_gone_meanwhile(self) -> None:
        """A client that goes before its body is whole, or stored, leaves nothing behind, however the storing ends."""
        for ends in (succeed(None), fail(BadRequest("x")), fail(RuntimeError("x"))):
            sink = self.area.sink = Sink()
            end = sink.end = Deferred()
            connection = self.connect()
            connection.send(spell("PUT", "/Marti/upload", b"abc"))
            connection.lose()
            self.assertEqual(sink.aborted, 1)
            ends.chainDeferred(end)
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 600"))
        connection.send(b"x")
        connection.lose()
        self.assertEqual(self.area.sink.aborted, 2)
        self.area.requests[-1].refuse(BadRequest("too late"))
        self.area.requests[-1].pause()
        self.area.requests[-1].resume()

    def test_pause(self) -> None:
        """A sink that cannot keep up stops the client, and lets it go on; too late it may say so as well."""
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 6"))
        (request,) = self.area.requests
        request.pause()
        self.assertEqual(connection.transport.producerState, "paused")
        request.resume()
        self.assertEqual(connection.transport.producerState, "producing")
        connection.send(b"abcdef")
        self.assertEqual(connection.answer().body, b"6")
        request.pause()
        request.resume()
        self.assertEqual(connection.transport.producerState, "producing")


class UploadsTests(RequestTestCase):
    """Uploads at once."""

    def begin(self, who: Principal | None = None) -> Connection:
        """Begin an upload."""
        connection = self.connect(who)
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 3"))
        return connection

    def test_per_principal(self) -> None:
        """So many at once and no more; somebody else is not concerned, and ended ones do not count."""
        alpha, bravo = principal("ALPHA-1"), principal("BRAVO-2")
        first, second = self.begin(alpha), self.begin(alpha)
        self.assertEqual((first.transport.value(), second.transport.value()), (b"", b""))
        refused = self.begin(alpha)
        self.assertTrue(refused.transport.value().startswith(b"HTTP/1.1 429 Too Many Requests\r\n"))
        status, message = self.wrong(refused)
        self.assertEqual((status, message), (429, "2 of your uploads are running already; wait for one to end"))
        self.assertEqual(self.begin(bravo).transport.value(), b"")
        self.assertEqual(self.begin().transport.value(), b"")
        first.send(b"abc")
        self.assertEqual(first.answer().status, 200)
        third = self.begin(alpha)
        self.assertEqual(third.transport.value(), b"")
        second.lose()
        self.assertEqual(self.begin(alpha).transport.value(), b"")

    def test_refused_ones(self) -> None:
        """What is refused, at the beginning, in the middle or at the end, is over."""
        self.area.refusal = BadRequest("no")
        for _ in range(5):
            self.assertEqual(self.wrong(self.begin())[0], 400)
        self.area.refusal = None
        for _ in range(5):
            connection = self.begin()
            connection.send(b"bad")
            self.assertEqual(self.wrong(connection)[0], 400)
        for _ in range(5):
            self.area.sink.end = fail(BadRequest("no"))
            connection = self.begin()
            connection.send(b"abc")
            self.assertEqual(self.wrong(connection)[0], 400)
        self.assertEqual(self.ask.connections._uploads, {})


class TargetTests(RequestTestCase):
    def test_row14_paths(self) -> None:
        """Doubled and trailing slashes, absolute targets and percent-encoding lead where they should, at once."""
        for target in (
            "//Marti/echo",
            "/Marti/echo/",
            "///Marti//echo//?a=1",
            "http://tak.example:8080/Marti/echo",
            "https://other.example/Marti/echo?",
            "/%4Darti/e%63ho",
            "/Marti%2Fecho",
        ):
            self.assertEqual(self.ask("GET", target).status, 200, target)

    def test_methods(self) -> None:
        """Methods may be in lower case; HEAD is GET without a body."""
        self.assertEqual(self.ask("get", "/Marti/echo").status, 200)
        answer = self.ask("HEAD", "/Marti/echo")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(int(answer.headers["content-length"]), len(self.ask("GET", "/Marti/echo").body))

    def test_normal_path(self) -> None:
        """A target is a path in UTF-8 and a query; what stands between slashes is decoded once."""
        for target, path, query in (
            (b"/", "/", b""),
            (b"//", "/", b""),
            (b"/a/b/?c=/d//", "/a/b", b"c=/d//"),
            (b"/Gr%C3%BCn/%252e/%3F", "/Grün/%2e/?", b""),
            (b"/a/../b/.", "/a/../b/.", b""),
            (b"HTTP://host", "/", b""),
        ):
            self.assertEqual(normal_path(target), (path, query))
        for target in (b"*", b"tak.example:443", b"", b"h2://x", b"/%ff", b"/\xff", b"/%ed%a0%80"):
            self.assertRaises(BadRequest, normal_path, target)
        self.assertRaises(NoSuchThing, normal_path, b"/Marti/echo%00")

    def test_uids(self) -> None:
        """A uid in the path may hold anything but doubled slashes."""
        for uid in ("ANDROID-1", "a b/c", "Grün", "..", "%41", "a|b", "<script>", "\n"):
            answer = self.ask("GET", "/Marti/cot/" + "".join(f"%{byte:02x}" for byte in uid.encode()))
            self.assertEqual((answer.status, answer.body.decode()), (200, uid))

    @settings(max_examples=300)
    @given(
        st.sampled_from(["GET", "get", "POST", "DELETE", "X", "OPTIONS"]),
        st.lists(st.sampled_from([b"Marti", b"echo", b"cot", b"%ff", b"%00", b"..", b"//", b"?", b"&", b"=", b"\xff"])),
        st.binary(max_size=20),
        st.binary(max_size=20),
    )
    def test_hostile(self, method: str, parts: list[bytes], more: bytes, header: bytes) -> None:
        """Whatever is asked, the answer is ours: JSON where it is an error, never a redirect, a page or a traceback."""
        connection = self.connect()
        target = b"/" + b"/".join(parts) + more
        connection.send(method.encode() + b" " + target + b" HTTP/1.1\r\nHost: " + header + b"\r\n\r\n")
        if not connection.transport.value():
            return  # a line feed in it: the headers go on
        answer = connection.answer(method.upper())
        self.assertIn(answer.status, (200, 400, 404, 405))
        if answer.status != 200:
            self.assertEqual(answer.type, "application/json")
            self.assertIn("message", json.loads(answer.body))
        self.assertEqual(self.log(LogLevel.error, LogLevel.critical), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class PageTests(RequestTestCase):
    """What web pages have browsers do, which show a certificate for any page."""

    def statuses(self, *lines: str) -> list[int]:
        """Ask for what changes something, in three ways, and for what does not."""
        found = []
        for method, path in (("POST", "small"), ("PUT", "upload"), ("GET", "change"), ("GET", "echo")):
            connection = self.connect(principal("ALPHA-1"))
            connection.send(self.head(method, f"/Marti/{path}", "Content-Length: 0", *lines))
            found.append(connection.answer().status)
            connection.lose()
        return found

    def test_other_sites(self) -> None:
        """A page of another site changes nothing here."""
        for line in ("Origin: https://evil.example", "Origin: null", "Origin: ", "Sec-Fetch-Site: cross-site"):
            self.assertEqual(self.statuses(line), [403, 403, 403, 200], line)
        self.assertEqual(len(self.area.requests), 4, "no upload has begun")

    def test_own_pages(self) -> None:
        """Our own pages, and clients that are no browsers, do what they like."""
        self.ask.info.public_url = "https://tak.example"
        for lines in ((), ("Origin: https://h", "Sec-Fetch-Site: same-origin"), ("Origin: https://tak.example",)):
            self.assertEqual(self.statuses(*lines), [200, 200, 200, 200], lines)


class HeaderTests(RequestTestCase):
    """Headers that are no text."""

    def test_any_bytes(self) -> None:
        """A header may hold any bytes: what is not UTF-8 is read as Latin-1, as HTTP once had it."""
        for said, read in ((b"a/\xe4", "a/ä"), ("a/ä".encode(), "a/ä"), (b"\xff\xfe", "ÿþ")):
            connection = self.connect()
            connection.send(b"POST /Marti/small HTTP/1.1\r\nContent-Length: 0\r\nContent-Type: " + said + b"\r\n\r\n")
            self.assertEqual(connection.answer().body.decode(), f"|{read}")
        connection = self.connect()
        connection.send(b"GET /Marti/echo HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n")
        self.assertEqual(connection.answer().json["base"], "http://192.0.2.10:8080")


class HostTests(RequestTestCase):
    """The address that we hand out."""

    def echo(self, host: str | None = None, who: Principal | None = None, *lines: str) -> dict[str, Any]:
        """Ask by some name; return what the handler found."""
        connection = self.connect(who)
        said = "" if host is None else f"Host: {host}\r\n"
        connection.send(f"GET /Marti/echo HTTP/1.1\r\n{said}{''.join(lines)}\r\n".encode())
        found: dict[str, Any] = connection.answer().json
        return found

    def test_base_url(self) -> None:
        """It is the one by which the client reached us."""
        for host, name in (
            ("192.0.2.10:8443", "192.0.2.10"),
            ("tak_1.example", "tak_1.example"),
            ("[2001:db8::1]:8443", "2001:db8::1"),
        ):
            found = self.echo(host, principal("ALPHA-1"))
            self.assertEqual((found["base"], found["host"], found["who"]), (f"https://{host}", name, "ALPHA-1"))
        found = self.echo("192.0.2.10:8080")
        self.assertEqual((found["base"], found["who"]), ("http://192.0.2.10:8080", None))

    def test_bad_host(self) -> None:
        """A name that is none, or that is missing, is replaced by our own address: nobody injects anything."""
        for host in (None, "", 'a"b', "a/b", "a b", "a@b", "a:b", "[a]", "[[::1", "ü", "a:123456", "<b>", "x" * 300):
            found = self.echo(host)
            self.assertEqual((found["base"], found["host"]), ("http://192.0.2.10:8080", "192.0.2.10"), host)

    def test_forwarded(self) -> None:
        """What a header says about where a request came from, and from whom, does not count."""
        found = self.echo(
            "tak.example", None, "X-Forwarded-Host: evil\r\n", "X-Forwarded-Proto: https\r\n", "X-USER: admin\r\n"
        )
        self.assertEqual((found["base"], found["who"]), ("http://tak.example", None))

    def test_public_url(self) -> None:
        """The operator knows best."""
        self.ask.info.public_url = "https://tak.example"
        self.assertEqual(self.echo("10.0.0.1")["base"], "https://tak.example")

    def test_own_address(self) -> None:
        """IPv6 addresses have brackets and no network card; a unix socket has no address."""
        for address, host in (
            (IPv6Address("TCP", "2001:db8::1", 8443), "[2001:db8::1]:8443"),
            (IPv6Address("TCP", "fe80::1%eth0", 8443), "[fe80::1]:8443"),
            (UNIXAddress("/run/taky"), "localhost"),
        ):
            self.assertEqual(local_host(StringTransport(address)), host)


class TwistedTests(RequestTestCase):
    """What we believe of Twisted."""

    def test_private_attributes(self) -> None:
        """While a request is judged, Twisted's channel knows its method, target and version, and nobody else does.

        If this fails, Twisted has changed: then `MartiRequest.gotLength` must look elsewhere.
        """
        seen: list[tuple[bytes, bytes, bytes]] = []

        class Request(MartiRequest):
            def gotLength(self, length: int | None) -> None:
                channel: Any = self.channel
                seen.append((channel._command, channel._path, channel._version))
                super().gotLength(length)

        self.ask.door.requestFactory = Request
        self.ask("put", "/Marti/upload?a=1", b"x")
        self.assertEqual(seen, [(b"put", b"/Marti/upload?a=1", b"HTTP/1.1")])
        self.assertIn("_respondToBadRequestAndDisconnect", vars(HTTPChannel))

    def test_arguments(self) -> None:
        """A request has parameters before it has a body, and none before it has headers."""
        self.ask("GET", "/Marti/echo?a=1")
        self.assertEqual(self.area.requests[0].arguments.one("a"), "1")
        self.assertEqual(list(Arguments(b"")), [])
