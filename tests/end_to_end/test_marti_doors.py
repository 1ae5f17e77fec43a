"""Who may call the Marti API, and how long it waits for whom: at real doors, with real certificates."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.errors import REVOKED_TEXT
from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import SECONDS, StreamClient, tls_context
from tests.pki import PKI, Credentials

PLAIN = "--marti-endpoint=tcp:0:interface=127.0.0.1"
COT = "--cot-endpoint=tcp:0:interface=127.0.0.1"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
WITH_IDENTITY = "/Marti/api/clientEndPoints"
FOR_EVERYBODY = ("/Marti/api/version", "/Marti/api/version/config")


class HttpClient:
    """A client on a real socket that says bytes and reads one answer after the other."""

    def __init__(
        self,
        test: SynchronousTestCase,
        port: int,
        context: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        """Connect.

        Args:
            test: closes the connection at its end.
            port: on loopback.
            context: for TLS.
            receive_buffer: bytes that the kernel keeps for us, if not as many as usual.
        """
        self.socket = socket.socket()
        test.addCleanup(self.socket.close)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.connect(("127.0.0.1", port))
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            test.addCleanup(self.socket.close)

    def say(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def head(self, method: str, path: str, *lines: str) -> None:
        """Send the headers of a request."""
        self.say(
            "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "")).encode()
        )

    def answer(self) -> tuple[int, Any]:
        """Read an answer: its status, and its body, from JSON if it says that it is."""
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        body = response.read()
        kind = response.getheader("content-type")
        return response.status, json.loads(body) if kind == "application/json" else body

    def get(self, path: str, *lines: str) -> tuple[int, Any]:
        """Ask, and read the answer."""
        self.head("GET", path, *lines)
        return self.answer()

    def closed(self, seconds: float = SECONDS) -> bool:
        """Whether the server closes the connection, in order or not, without saying anything more."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1000) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


class MartiDoorsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(Path(self.mktemp()).absolute())

    def tearDown(self) -> None:
        """Whatever clients did, nothing of it was a bug."""
        self.assertNotIn("Traceback", self.server.log)

    def start(self, *options: str) -> None:
        """Start a server."""
        self.server = ServerProcess(self, *options).start()

    def start_tls(self, *options: str) -> None:
        """Start a server with CoT on a plain door and the Marti API on one with TLS."""
        self.start(COT, f"--marti-endpoint={self.pki.endpoint(register=self.pki.register_path)}", *options)

    def connect(self, door: int = 1) -> HttpClient:
        """Connect to a plain door."""
        return HttpClient(self, self.server.port(door))

    def connect_tls(
        self, credentials: Credentials | None, version: ssl.TLSVersion | None = None, door: int = 1
    ) -> HttpClient:
        """Connect to a door with TLS."""
        return HttpClient(self, self.server.port(door), tls_context(self.pki, credentials, version))


class PlainTests(MartiDoorsTestCase):
    def test_row30_on(self) -> None:
        """Where no door asks for certificates, callers over plain HTTP are let in; nobody believes their headers."""
        self.start(COT, PLAIN)
        client = self.connect()
        for path in (WITH_IDENTITY, *FOR_EVERYBODY):
            self.assertEqual(client.get(path, "X-USER: ALPHA-1")[0], 200)

    def test_row30_off(self) -> None:
        """Where one does they are not, and hear so in JSON; the log has said it at the start, and what to do."""
        self.start(f"--cot-endpoint={self.pki.endpoint()}", PLAIN)
        client = self.connect()
        for path in (WITH_IDENTITY, *FOR_EVERYBODY, "/Marti/nowhere"):
            status, body = client.get(path, "X-USER: ALPHA-1", "Authorization: Basic QUxQSEEtMTp4")
            self.assertEqual((status, body["status"], body["code"]), (401, "UNAUTHORIZED", 9))
        (line,) = self.server.lines("will let nobody in")
        self.assertIn("--anonymous-http=yes", line)

    def test_row30_switched(self) -> None:
        """The operator decides otherwise, either way."""
        self.start(f"--cot-endpoint={self.pki.endpoint()}", PLAIN, "--anonymous-http=yes")
        self.assertEqual(self.connect().get(WITH_IDENTITY)[0], 200)
        self.start(COT, PLAIN, "--anonymous-http=no")
        self.assertEqual(self.connect().get(WITH_IDENTITY)[0], 401)

    def test_busy(self) -> None:
        """If another program listens there already, one line says which door it is and what to change."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            busy = probe.getsockname()[1]
            probe.listen()
            server = self.server = ServerProcess(self, f"--marti-endpoint=tcp:{busy}:interface=127.0.0.1")
            server.launch()
            self.assertEqual(server.wait(), 1)
        self.assertIn(
            f"cannot open Marti door tcp:{busy}: another program listens there already; stop it, or choose another port"
            " with --marti-endpoint",
            server.log,
        )

    def test_paths(self) -> None:
        """Doubled slashes work, nothing is ever redirected, and what does not exist is said in JSON."""
        self.start(COT, PLAIN)
        client = self.connect()
        for path in ("//Marti/api/version", "/Marti/api/version/", "http://localhost/Marti/api/version"):
            self.assertEqual(client.get(path)[0], 200)
        for method, path, status in (
            ("GET", "/", 404),
            ("GET", "/Marti/api/%ff", 400),
            ("GET", "/Marti/api/%00", 404),
            ("DELETE", "/Marti/api/version", 405),
        ):
            client.head(method, path)
            found, body = client.answer()
            self.assertEqual((found, set(body)), (status, {"status", "code", "message"}))


class CertificateTests(MartiDoorsTestCase):
    def test_certificates(self) -> None:
        """A certificate lets in; without one only the version is told."""
        self.start_tls()
        for version in VERSIONS:
            client = self.connect_tls(self.pki.client, version)
            self.assertEqual(client.get(WITH_IDENTITY)[0], 200)
            nobody = self.connect_tls(None, version)
            for path in FOR_EVERYBODY:
                self.assertEqual(nobody.get(path)[0], 200)
            for path in (WITH_IDENTITY, "/Marti/nowhere", "/Marti/sync/search"):
                self.assertEqual(nobody.get(path)[0], 401)

    def test_refused_in_the_handshake(self) -> None:
        """Certificates of others, and expired ones, do not get through the handshake; the log tells them apart."""
        self.start_tls()
        for version in VERSIONS:
            for credentials, words in (
                (self.pki.foreign, "FOREIGN-6.* is from an authority that we do not trust"),
                (self.pki.expired, "EXPIRED-4.* expired on"),
            ):
                before = len(self.server.lines(" refused: "))
                with self.assertRaises(OSError):
                    # With TLS 1.3 the client's handshake is complete before the server has seen the certificate.
                    self.connect_tls(credentials, version).get(FOR_EVERYBODY[0])
                self.server.wait_for_log(rf"(?s)( refused: .*){{{before + 1}}}")
                self.assertRegex(self.server.lines(" refused: ")[-1], words)

    def test_revoked(self) -> None:
        """A revoked certificate is told so in words, whatever it asks; then the connection closes."""
        self.start_tls()
        for version in VERSIONS:
            for method, path in (("GET", FOR_EVERYBODY[0]), ("GET", "/Marti/nowhere"), ("POST", "/Marti/sync/upload")):
                client = self.connect_tls(self.pki.revoked, version)
                client.head(method, path, "Content-Length: 0")
                status, body = client.answer()
                self.assertEqual(status, 401)
                self.assertIn(REVOKED_TEXT, body["message"])
                self.assertTrue(client.closed())
        self.assertIn("REVOKED-3", self.server.lines(" refused: ")[0])

    def test_revoked_while_open(self) -> None:
        """Revoking ends that certificate's connections and requests within seconds, and nobody else's."""
        self.start_tls()
        uploading, idle = self.connect_tls(self.pki.client), self.connect_tls(self.pki.client)
        other = self.connect_tls(self.pki.second_client)
        for client in (idle, other):
            self.assertEqual(client.get(WITH_IDENTITY)[0], 200)
        uploading.head(
            *("POST", "/Marti/sync/upload?name=a.zip", "Content-Length: 1000000", "Content-Type: x/y"),
            "Expect: 100-continue",
        )
        self.assertEqual(uploading.socket.recv(1000), b"HTTP/1.1 100 Continue\r\n\r\n")  # the server has begun it
        uploading.say(b"x" * 1000)
        self.pki.write_register(R=[self.pki.revoked, self.pki.client])
        self.server.hang_up()
        self.assertTrue(uploading.closed() and idle.closed())
        self.assertEqual(other.get(WITH_IDENTITY)[0], 200)
        status, body = self.connect_tls(self.pki.client).get(WITH_IDENTITY)
        self.assertEqual(status, 401)
        self.assertIn(REVOKED_TEXT, body["message"])

    def test_wrong_protocol(self) -> None:
        """Who forgets the s of https, or adds it, is refused with a line in the log that says what it was."""
        self.start_tls(PLAIN)
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.connect().get(FOR_EVERYBODY[0])
        self.server.wait_for_log("the client speaks plain HTTP; this port wants TLS")
        with self.assertRaises(OSError):
            self.connect_tls(self.pki.client, door=2)
        self.server.wait_for_log(r"the client speaks TLS \(https\); this port is plain HTTP")


class PatienceTests(MartiDoorsTestCase):
    """How long a client is waited for."""

    def test_slow_headers(self) -> None:
        """Who dribbles its headers, over TLS or not, is told that it took too long and closed; others are served."""
        self.start_tls(PLAIN, "--http-header-seconds=3", "--anonymous-http=yes", "--handshake-seconds=3")
        for connect in (lambda: self.connect(2), lambda: self.connect_tls(self.pki.client)):
            begin, client = time.monotonic(), connect()
            client.say(b"GET /Marti/api/version HTTP/1.1\r\n")
            client.socket.settimeout(0.1)
            answer = b""
            while not answer:
                client.say(b"X")
                try:
                    answer = client.socket.recv(1000)
                except TimeoutError:
                    self.assertLess(time.monotonic() - begin, SECONDS)
            self.assertGreater(time.monotonic() - begin, 2.9)
            self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)
            self.assertIn(b'"code":2', answer)
            self.assertTrue(client.closed())
            self.assertEqual(connect().get(WITH_IDENTITY)[0], 200)

    def test_silence(self) -> None:
        """Who never begins, never finishes its handshake, or never asks again, is closed."""
        self.start_tls(
            PLAIN, "--http-header-seconds=3", "--http-idle-seconds=3", "--anonymous-http=yes", "--handshake-seconds=3"
        )
        silent, no_handshake, idle = self.connect(2), self.connect(1), self.connect(2)
        self.assertEqual(idle.get(WITH_IDENTITY)[0], 200)
        for client in (silent, no_handshake, idle):
            self.assertTrue(client.closed())
        self.server.wait_for_log("the client did not finish the TLS handshake in time")

    def test_slow_body(self) -> None:
        """An upload that stands still is cut, and leaves nothing behind."""
        self.start(COT, PLAIN, "--http-stall-seconds=1")
        client = self.connect()
        client.head("POST", "/Marti/sync/upload?name=a.zip", "Content-Length: 1000000", "Content-Type: x/y")
        client.say(b"x" * 599)
        status, body = client.answer()
        self.assertEqual((status, body["code"]), (408, 2))
        self.assertTrue(client.closed())
        self.assertEqual(self.stored(), [])

    def test_row16_too_large(self) -> None:
        """An upload over the limit is refused before it is sent, announced or not, and leaves nothing behind."""
        limit = 100_000
        self.start(COT, PLAIN, f"--upload-bytes={limit}")
        path = "/Marti/sync/upload?name=a.zip"
        early = self.connect()
        early.head("POST", path, f"Content-Length: {limit + 1}", "Content-Type: x/y", "Expect: 100-continue")
        status, body = early.answer()
        self.assertEqual((status, body["status"]), (413, "REQUEST_ENTITY_TOO_LARGE"))
        self.assertIn(str(limit), body["message"])
        sent = self.connect()
        sent.head("POST", path, f"Content-Length: {limit + 1}", "Content-Type: x/y")
        sent.say(b"x" * (limit + 1))
        self.assertEqual(sent.answer()[0], 413)
        self.assertTrue(sent.closed())
        chunked = self.connect()
        chunked.head("POST", path, "Transfer-Encoding: chunked", "Content-Type: x/y")
        for _ in range(3):
            chunked.say(b"c350\r\n" + b"x" * 50_000 + b"\r\n")
        chunked.say(b"0\r\n\r\n")
        self.assertEqual(chunked.answer()[0], 413)
        self.assertTrue(chunked.closed())
        whole = self.connect()
        whole.head("POST", path, f"Content-Length: {limit}", "Content-Type: x/y")
        whole.say(b"x" * limit)
        self.assertEqual(whole.answer()[0], 200)
        self.assertEqual([path.stat().st_size for path in self.stored()], [limit])

    def test_slow_readers(self) -> None:
        """Who reads an answer slowly gets all of it; who does not read at all is cut off. Over TLS or not."""
        self.start_tls(PLAIN, "--http-stall-seconds=3", "--anonymous-http=yes")
        content = random.Random(1).randbytes(8_000_000)
        upload = self.connect(2)
        upload.head("POST", "/Marti/sync/upload?name=a.zip", f"Content-Length: {len(content)}", "Content-Type: x/y")
        upload.say(content)
        self.assertEqual(upload.answer()[0], 200)
        path = f"/Marti/sync/content?hash={hashlib.sha256(content).hexdigest()}"
        plain = HttpClient(self, self.server.port(2), receive_buffer=4096)
        tls = HttpClient(self, self.server.port(1), tls_context(self.pki, self.pki.client), receive_buffer=4096)
        for client in (plain, tls):
            client.head("GET", path)
            client.socket.recv(1000)
        slow = self.connect(2)
        slow.head("GET", path, "Connection: close")
        answer = bytearray()
        while data := slow.socket.recv(500_000):
            answer += data
            time.sleep(0.1)
        self.assertTrue(answer.endswith(content[-1000:]))
        self.assertEqual(len(answer.partition(b"\r\n\r\n")[2]), len(content))
        self.server.wait_for_log("(?s)(no byte of an answer could be sent for 3 seconds.*){2}")
        for client in (plain, tls):
            with self.assertRaises(OSError):
                while client.socket.recv(1 << 20):
                    pass
                raise ConnectionError("not cut off, but closed in order")

    def test_full(self) -> None:
        """A connection too many is closed at once, and the log says why; CoT clients are counted apart."""
        self.start(COT, PLAIN, "--max-http-connections=2")
        first, _ = self.connect(), self.connect()
        self.assertEqual(first.get(WITH_IDENTITY)[0], 200)
        self.server.wait_for_log("Marti door")
        self.assertTrue(self.connect().closed())
        self.server.wait_for_log(r"there are 2 HTTP connections \(max_http_connections\)")
        stream = StreamClient(self, self.server.port(0))
        self.assertEqual(stream.uids(), [])
        first.socket.close()
        end = time.monotonic() + SECONDS
        while self.connect().closed(0.2):
            self.assertLess(time.monotonic(), end)

    def stored(self) -> list[Path]:
        """List what is in the folder of uploads, temporary files included; whose folder it is does not count."""
        folder = self.server.data_dir / "dp-user"
        return [path for path in folder.rglob("*") if path.is_file() and path.name != "owner"]
