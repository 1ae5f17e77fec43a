"""Operators at a running server: both sockets, and every failure that the doctor names, provoked by a real client."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import Closed, StreamClient, tls_context
from tests.pki import PKI, Credentials
from tests.samples import marker, ping, sa

SECONDS = 10.0
TAKV = ("device", "os", "version", "platform")


def ask(path: Path, request: object, end: bytes = b"\n") -> list[dict[str, Any]]:
    """Ask on a unix socket as any program could, and read until the answer is complete."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(SECONDS)
        caller.connect(str(path))
        caller.sendall(json.dumps(request).encode() + end)
        said = b""
        while True:
            data = caller.recv(1 << 16)
            if not data:
                raise AssertionError(f"the server hangs up after {said!r}")
            said += data
            answers = [json.loads(each) for each in said.split(end)[:-1]]
            if answers and said.endswith(end) and not answers[-1].get("more"):
                return answers


class OperatorTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        # Not mktemp(): a socket's path must be short.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.pki = PKI(self.folder / "pki")

    def start(self, *options: str) -> ServerProcess:
        self.server = ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            f"--cot-endpoint={self.pki.endpoint(register=self.pki.register_path)}",
            f"--marti-endpoint={self.pki.endpoint(register=self.pki.register_path)}",
            *options,
            folder=self.folder,
        ).start()
        self.server.wait_for_log("taky-mgmt.sock is open")
        return self.server

    @property
    def socket(self) -> Path:
        return self.server.data_dir / "taky-admin.sock"

    def context(self, credentials: Credentials | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        return tls_context(self.pki, credentials, version)

    def connect(self, credentials: Credentials) -> StreamClient:
        return StreamClient(self, self.server.port(1), self.context(credentials))

    def ask(self, do: str, **more: object) -> dict[str, Any]:
        answer = ask(self.socket, {"v": 1, "do": do, **more})[-1]
        self.assertTrue(answer["ok"], answer)
        return answer

    def takyctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "taky_twisted.cli.takyctl", "-c", str(self.folder / "taky.conf"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=self.folder)


class SocketTests(OperatorTestCase):
    def test_status(self) -> None:
        """Both sockets say who is connected, each in its own protocol, and takyctl shows it as a table or as JSON."""
        self.start()
        client = self.connect(self.pki.client)
        client.say(sa("A", "FOX1", now=time.time()))
        client.so_far()
        (told,) = self.ask("status")["clients"]
        self.assertEqual((told["callsign"], told["certificate"]["name"], told["protocol"]), ("FOX1", "ALPHA-1", "xml"))
        (answer,) = ask(self.server.data_dir / "taky-mgmt.sock", {"cmd": "status"}, b"\0")
        self.assertEqual(answer["num_clients"], 1)
        (takys,) = answer["clients"]
        self.assertEqual(
            sorted(takys),
            sorted(
                [
                    "last_rx",
                    "num_rx",
                    "connected",
                    "ip",
                    "uid",
                    "callsign",
                    "group",
                    "battery",
                    "device",
                    "os",
                    "version",
                    "platform",
                ],
            ),
        )
        self.assertEqual((takys["uid"], takys["group"], takys["battery"]), ("A", "Teams.CYAN", "87"))
        for named in ((), ("-U", str(self.server.data_dir / "taky-mgmt.sock"))):
            shown = self.takyctl("status", *(named or ("-U", str(self.socket))))
            self.assertEqual(shown.returncode, 0, shown.stderr)
            self.assertRegex(
                shown.stdout, r"(?s)Uptime: 00h 00m .*Num Clients: 1\n\nCallsign \| UID +\| Connected.*\nFOX1 "
            )
        told = json.loads(self.takyctl("status", "-j", "-U", str(self.socket)).stdout)
        self.assertEqual(told["clients"][0]["certificate"]["name"], "ALPHA-1")

    def test_modes_and_left_behind(self) -> None:
        """Nobody else may open the sockets; those that a killed server left are replaced."""
        self.start()
        for name in ("taky-admin.sock", "taky-mgmt.sock"):
            self.assertEqual((self.server.data_dir / name).stat().st_mode & 0o777, 0o600)
        self.server.kill()
        self.assertTrue(self.socket.exists())
        self.server.start().wait_for_log("taky-mgmt.sock is open")
        self.assertEqual(self.ask("ping")["pong"], "taky_twisted")
        self.server.terminate()
        self.assertEqual(self.server.wait(), 0)
        self.assertFalse(self.socket.exists())
        self.assertIn("no server answers at", self.takyctl("status", "-U", str(self.socket)).stderr)

    def test_endpoint(self) -> None:
        """The socket is where the operator wants it; a path that the system cannot have ends the start."""
        path = self.folder / "here.sock"
        self.start(f"--admin-endpoint=unix:{path}")
        self.assertEqual(ask(path, {"v": 1, "do": "ping"})[0]["pong"], "taky_twisted")
        self.assertFalse(self.socket.exists())
        self.server.kill()
        self.server = ServerProcess(self, f"--admin-endpoint=unix:{self.folder / ('x' * 100)}", folder=self.folder)
        self.server.launch()
        self.assertEqual(self.server.wait(), 1)
        self.assertIn("bytes, and the system allows 107", self.server.log)

    def test_kickban(self) -> None:
        """A certificate that was issued while the server runs is banned: its stream ends at once, for good."""
        self.start()
        late, other = self.pki.ca.issue("LATE-1"), self.connect(self.pki.second_client)
        for path, request, end in (
            (self.socket, {"v": 1, "do": "kickban", "name": "LATE-1"}, b"\n"),
            (self.server.data_dir / "taky-mgmt.sock", {"cmd": "kickban", "user": "ALPHA-1"}, b"\0"),
        ):
            credentials = late if end == b"\n" else self.pki.client
            client = self.connect(credentials)
            client.so_far()
            begin = time.monotonic()
            ask(path, request, end)
            client.until_closed()
            self.assertLess(time.monotonic() - begin, 5)  # it is a matter of milliseconds, but for a busy disk
            with self.assertRaises((OSError, Closed)):
                again = self.connect(credentials)
                again.say(ping())
                again.hear(5)
        self.assertEqual(other.so_far(), [])
        self.assertIn("R", Path(self.pki.register_path).read_text("utf-8").split("ALPHA-1")[0])

    def test_trace(self) -> None:
        """A trace shows who got an event and who did not, and why."""
        self.start()
        a, b = self.connect(self.pki.client), StreamClient(self, self.server.port(0))
        a.say(sa("A", "FOX1", now=time.time()))
        b.wait_for_uid("A")
        tracing = subprocess.Popen(
            [sys.executable, "-m", "taky_twisted.cli.takyctl", "trace", "fox1", "-n", "1", "-U", str(self.socket)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(tracing.kill)
        assert tracing.stdout is not None
        self.assertIn("Waiting for the next event of fox1", tracing.stdout.readline())
        a.say(marker(now=time.time()))
        said, _ = tracing.communicate(timeout=SECONDS)
        self.assertRegex(said, r"FOX1 said a-h-G MARK-1")
        self.assertRegex(said, r"got it +127\.0\.0\.1:\d+ at tcp:0 .*: it was sent \[delivered\]")
        self.assertRegex(said, r"did not +FOX1 .*: it said it itself \[echo\]")
        self.assertEqual(tracing.returncode, 0)


class DoctorTests(OperatorTestCase):
    """What went wrong for somebody is what an operator reads."""

    def attempts(self) -> list[dict[str, Any]]:
        return [answer["attempt"] for answer in ask(self.socket, {"v": 1, "do": "doctor"})[:-1]]

    def assert_told(
        self, provoke: Callable[[], object], door: str, reason: str, advice: str, subject: str = ""
    ) -> None:
        """Provoke a failure; the doctor names it, and says what to do."""
        before = {(each["reason"], each["door"]): each["count"] for each in self.attempts()}
        with contextlib.suppress(OSError):  # that it does not work is the point
            provoke()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            new = [each for each in self.attempts() if before.get((each["reason"], each["door"])) != each["count"]]
            if new:
                break
            time.sleep(0.02)
        (attempt,) = new
        self.assertRegex(attempt["reason"], reason)
        self.assertIn(advice, attempt["advice"])
        self.assertEqual((attempt["address"], attempt["subject"]), ("127.0.0.1", subject))
        self.assertTrue(attempt["door"].startswith(door), attempt["door"])

    def handshake(self, context: ssl.SSLContext, port: int = 1, name: str = "localhost") -> None:
        """Connect, and wait for the server to end that; with TLS 1.3 we hear of a refusal only then."""
        plain = socket.create_connection(("127.0.0.1", self.server.port(port)), SECONDS)
        with plain, context.wrap_socket(plain, server_hostname=name) as wrapped:
            wrapped.recv(100)

    def send(self, data: bytes, port: int) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port(port)), SECONDS) as plain:
            plain.sendall(data)
            plain.recv(100)

    def test_certificates(self) -> None:
        """No certificate, another authority's, an expired, an early and a revoked one, at CoT's door and HTTP's."""
        self.start()
        for credentials, reason, advice in (
            (self.pki.foreign, "is from an authority that we do not trust", "another server's certificate"),
            (self.pki.namesake, "the same name but another key", "made anew"),
            (self.pki.expired, "expired on 20", "takyctl renew NAME"),
            (self.pki.early, "is not valid before 20.*is a clock wrong", "set the clock"),
        ):
            name = str(credentials.certificate.subject.rfc4514_string()).removeprefix("CN=").split(",")[0]
            for port in (1, 2):
                context = self.context(credentials)
                self.assert_told(lambda: self.handshake(context, port), "ssl:", reason, advice, name)  # noqa: B023
        self.assert_told(
            lambda: self.handshake(self.context(None)), "ssl:", "^the client showed no certificate$", "import the"
        )
        self.assert_told(
            lambda: self.handshake(self.context(self.pki.revoked)), "ssl:", "is revoked in the", "unban", "REVOKED-3"
        )
        self.assert_told(
            lambda: self.get(self.context(self.pki.revoked)), "ssl:", "is revoked in the", "unban", "REVOKED-3"
        )

    def get(
        self, context: ssl.SSLContext, request: bytes = b"GET /Marti/api/version HTTP/1.1\r\nHost: x\r\n\r\n"
    ) -> None:
        plain = socket.create_connection(("127.0.0.1", self.server.port(2)), SECONDS)
        with plain, context.wrap_socket(plain, server_hostname="localhost") as wrapped:
            wrapped.sendall(request)
            wrapped.recv(1000)

    def test_client_refuses_us(self) -> None:
        """A client without our authority in its trust store is told apart from one to which our name is wrong."""
        self.start()
        stranger = ssl.create_default_context(cafile=self.pki.write("other.pem", self.pki.other_ca.pem))
        for port in (1, 2):
            self.assert_told(
                lambda: self.handshake(stranger, port),  # noqa: B023
                "ssl:",
                r"does not trust our certificate \(alert: unknown ca\)",
                "trust store",
            )
            self.assert_told(
                lambda: self.handshake(self.context(self.pki.client), port, "tak.example.org"),  # noqa: B023
                "ssl:",
                "probably because it called us tak.example.org, which is not in it$",
                "renew-server with it as --host",
            )

    def test_tls_settings(self) -> None:
        """A client with too old a TLS, and one without a cipher of ours, are told apart."""
        self.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old = tls_context(self.pki, None, ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")
        self.assert_told(lambda: self.handshake(old), "ssl:", "TLS versions that are too old", "TLS 1.2 is the oldest")
        weak = tls_context(self.pki, None, ssl.TLSVersion.TLSv1_2, "AES128-SHA")
        self.assert_told(lambda: self.handshake(weak), "ssl:", "no cipher .* in common", "update the app")

    def test_plain_and_tls(self) -> None:
        """Plain text at a port for TLS, and TLS at a port for plain text."""
        self.start("--marti-endpoint=tcp:0:interface=127.0.0.1", "--anonymous-http=yes")
        http = b"GET / HTTP/1.1\r\n\r\n"
        for port in (1, 2):
            self.assert_told(lambda: self.send(sa("A", "A"), port), "ssl:", "plain XML", "choose SSL")  # noqa: B023
            self.assert_told(lambda: self.send(http, port), "ssl:", "plain HTTP", "https://")  # noqa: B023
        context = self.context(self.pki.client)
        self.assert_told(lambda: self.handshake(context, 0), "tcp:", "speaks TLS; this port is plain TCP", "8089")
        self.assert_told(lambda: self.handshake(context, 3), "tcp:", "speaks TLS .*plain HTTP", "8443")

    def test_uid_pinned(self) -> None:
        """Who says somebody else's uid is not heard, and the doctor shows it; both streams stay."""
        self.start()
        a, b, c = (self.connect(each) for each in (self.pki.client, self.pki.second_client, self.pki.ca.issue("C-3")))
        a.say(sa("A", "FOX1", now=time.time()))
        c.wait_for_uid("A")
        self.assert_told(
            lambda: b.say(sa("A", "EVIL", now=time.time())),
            "ssl:",
            "it says that it is A, with which ALPHA-1 was heard in the last 60 seconds",
            "pin_uid",
            "BRAVO-2",
        )
        self.assertEqual((a.so_far(), b.uids(), c.so_far()), ([], ["A"], []))

    def test_upload_refused(self) -> None:
        """An upload that is refused is told of, with why."""
        self.start("--upload-bytes=2000")
        request = (
            b"POST /Marti/sync/upload?name=x.zip HTTP/1.1\r\nHost: x\r\nContent-Type: application/zip\r\n"
            b"Content-Length: 100000000\r\n\r\n"
        )
        self.assert_told(
            lambda: self.get(self.context(self.pki.client), request),
            "ssl:",
            r"an upload was refused \(413\): the body is too large",
            "upload_bytes",
            "ALPHA-1",
        )

    def test_takyctl(self) -> None:
        """The doctor of takyctl shows what it found at the site, and who could not connect."""
        self.start()
        with contextlib.suppress(OSError):
            self.handshake(self.context(None))
        shown = self.takyctl("doctor", "--once", "-U", str(self.socket))
        self.assertIn("the server runs", shown.stdout)
        self.assertIn("127.0.0.1  at ssl:0", shown.stdout)
        self.assertIn("the client showed no certificate\n        -> the device has no client certificate", shown.stdout)


class UpTests(OperatorTestCase):
    def test_up(self) -> None:
        """One command starts a site's server, and a client that is thrown away goes through all of it."""
        self.pki.write("ca.key", ca_key_pem(self.pki))
        (self.folder / "taky.conf").write_text(
            "[taky]\nhostname = localhost\npublic_ip = 127.0.0.2\nroot_dir = data\n"
            "[cot_server]\nendpoints = ssl:0:interface=127.0.0.1\n[dp_server]\nendpoints = ssl:0:interface=127.0.0.1\n"
            "[ssl]\nenabled = yes\nca = pki/ca.pem\nca_key = pki/ca.key\ncert = pki/server.pem\nkey = pki/server.key\n"
            "cert_db = pki/cert-db.txt\n",
            "utf-8",
        )
        command = [sys.executable, "-m", "taky_twisted.cli.takyctl", "up", str(self.folder)]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(running.kill)
        said = ""
        assert running.stdout is not None
        while "The server runs;" not in said:
            line = running.stdout.readline()
            self.assertNotEqual(line, "", said)
            said += line
        running.terminate()
        rest, _ = running.communicate(timeout=20)
        self.assertRegex(said, r"ok +an event went from one client to another through 127\.0\.0\.1 port \d+")
        self.assertRegex(said, r"ok +a data package went up and came down through 127\.0\.0\.1 port \d+")
        self.assertRegex(
            said, r"WARNING an event did not get through 127\.0\.0\.2 port \d+: Connection refused\n +-> a router"
        )
        self.assertEqual((running.returncode, "Traceback" in said + rest), (0, False))


def ca_key_pem(pki: PKI) -> bytes:
    """Spell the authority's key."""
    return Credentials(pki.ca.key, pki.ca.certificate, pki.ca.certificate).key_pem()
