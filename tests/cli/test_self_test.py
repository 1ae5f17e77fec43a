from __future__ import annotations

import contextlib
import http.server
import io
import re
import socket
import ssl
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli import self_test
from taky_twisted.cli.checks import Finding
from taky_twisted.cli.self_test import SelfTest, throw_away_context
from taky_twisted.cli.site import Site, now
from taky_twisted.cot.xmlcodec import decode
from tests.pki import PKI, Credentials


class WebServer:
    """A server that keeps packages, unless a test says what it answers."""

    def __init__(self, test: SynchronousTestCase, fetched: bytes | None = None, status: int = 200) -> None:
        packages: list[bytes] = []
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do(self) -> None:
                asked.append(f"{self.command} {self.path.partition('?')[0]}")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if body:
                    packages.append(re.split(rb"\r\n\r\n|\r\n--", body)[1])
                answer = (fetched or packages[0]) if self.command == "GET" else b"done"
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = do

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        test.addCleanup(self._server.server_close)
        test.addCleanup(thread.join)
        test.addCleanup(self._server.shutdown)


class SelfTestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(self_test, "SECONDS", 10)
        self.client = SelfTest("127.0.0.1", None)
        self.callers: list[socket.socket] = []

    def streams(self, serve: Callable[[socket.socket], object]) -> Finding:
        """Let the client try a server for events that does something with each connection."""
        listener = socket.create_server(("127.0.0.1", 0))

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = listener.accept()
                    threading.Thread(target=self.serve, args=(serve, caller), daemon=True).start()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            return self.client.events(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            listener.close()

    def serve(self, serve: Callable[[socket.socket], object], caller: socket.socket) -> None:
        with contextlib.suppress(OSError), caller:
            serve(self.wrap(caller))

    def wrap(self, caller: socket.socket) -> socket.socket:
        """Put TLS on a connection, or not."""
        return caller

    def repeat(self, caller: socket.socket) -> None:
        """Do as a TAK server does: answer pings, and pass on what is said."""
        self.callers.append(caller)
        while data := caller.recv(1 << 16):
            if b"-ping" in data:
                caller.sendall(b'<event version="2.0" uid="takPong" type="t-x-c-t-r"/>')
            for other in self.callers:
                if other is not caller:
                    with contextlib.suppress(OSError):
                        other.sendall(data)

    def assert_failed(self, finding: Finding, words: str) -> None:
        self.assertEqual((finding.level, finding.advice), ("problem", "takyctl doctor"))
        self.assertIn(words, finding.what)

    def test_files(self) -> None:
        """A package goes up, comes down the same, and is deleted."""
        server = WebServer(self)
        finding = self.client.files(server.port)
        self.assertEqual((finding.level, finding.what[:14]), ("ok", "a data package"))
        self.assertEqual([each.partition(" ")[0] for each in server.asked], ["POST", "GET", "DELETE"])

    def test_files_fail(self) -> None:
        """A server that refuses, and one that gives something else back, are told apart."""
        self.assert_failed(
            self.client.files(WebServer(self, status=403).port), "/sync/missionupload was answered with 403"
        )
        self.assert_failed(
            self.client.files(WebServer(self, fetched=b"other").port), "what came back is not what was sent"
        )

    def test_nobody(self) -> None:
        """Where nobody listens, that is the reason."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.assert_failed(self.client.events(port), "Connection refused")
        self.assert_failed(self.client.files(port), "Connection refused")

    def test_silent(self) -> None:
        """A server that says nothing, or hangs up, is not waited for for long."""
        self.assert_failed(
            self.streams(lambda caller: caller.recv(1 << 16) and None), "the server ended the connection"
        )
        self.patch(self_test, "SECONDS", 0.2)
        over = threading.Event()
        self.addCleanup(over.set)
        self.assert_failed(self.streams(lambda caller: over.wait(30) and None), "nothing was heard of it")

    def test_round(self) -> None:
        """What one client says the other hears."""
        finding = self.streams(self.repeat)
        self.assertEqual((finding.level, finding.what[:8]), ("ok", "an event"))

    def test_tls(self) -> None:
        """Over TLS the client believes the site's authority alone, and shows a certificate that nobody keeps."""
        folder = Path(self.mktemp()).absolute()
        pki = PKI(folder)
        pki.write("ca.key", Credentials(pki.ca.key, pki.ca.certificate, pki.ca.certificate).key_pem())
        (folder / "taky.conf").write_text("[ssl]\nca = ca.pem\nca_key = ca.key\nserver_p12 =\n", "utf-8")
        files = set(folder.iterdir())
        context = throw_away_context(Site.open(str(folder / "taky.conf")), now())
        self.assertEqual(set(folder.iterdir()), files)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.ca_path)
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_cert_chain(pki.certificate_path, pki.key_path)
        shown: list[object] = []

        def wrap(caller: socket.socket) -> socket.socket:
            wrapped = server.wrap_socket(caller, server_side=True)
            shown.append((wrapped.getpeercert() or {})["subject"])
            return wrapped

        self.wrap = wrap  # type: ignore[method-assign]
        self.client = SelfTest("127.0.0.1", context)
        self.assertEqual(self.streams(self.repeat).level, "ok")
        self.assertEqual(len(shown), 2)
        self.assertIn("('commonName', 'takyctl self-test')", str(shown[0]))
        self.client = SelfTest("127.0.0.1", ssl.create_default_context())
        self.assert_failed(self.streams(self.repeat), "certificate verify failed")
        self.assert_failed(self.client.files(WebServer(self).port), "WRONG_VERSION_NUMBER")

    def test_package(self) -> None:
        """What is sent is a data package, and another one each time."""
        first, second = self_test._package(), self_test._package()
        self.assertNotEqual(first, second)
        with zipfile.ZipFile(io.BytesIO(first)) as package:
            self.assertIn("takyctl-test", package.read("MANIFEST/manifest.xml").decode())

    def test_events(self) -> None:
        """What is said is CoT that a server can read, from somebody who reports itself, to somebody else."""
        self.assertTrue(decode(self_test._report("a&b")).is_self_report)
        said = decode(self_test._event("x", "b-m-p-s-m", '<marti><dest uid="y"/></marti>'))
        assert said.detail.destinations is not None
        self.assertEqual(said.detail.destinations.uids, ("y",))
