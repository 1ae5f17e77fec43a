"""From an empty folder to a phone on the map, with takyctl and the server as an operator runs them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pytak.client_functions import read_pref_package
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.authority import Authority
from taky_twisted.identity.cert_db import CertDb
from tests.end_to_end.server_process import ROOT, TWISTD, ServerProcess
from tests.end_to_end.stream_client import Closed, StreamClient
from tests.end_to_end.test_pytak import PyTAKClient
from tests.marti.file_server import FORM, form
from tests.pki import Credentials
from tests.ports import free_port
from tests.samples import marker, ping, sa
from tests.taky_site import TakySite

SECONDS = 20.0
ROUNDS = 50


class SiteServer(ServerProcess):
    """``twistd -n taky --config FILE``, and nothing else on the command line."""

    def __init__(self, test: SynchronousTestCase, conf: Path) -> None:
        super().__init__(test, folder=conf.parent)
        self._conf = conf

    def start(self) -> SiteServer:
        self.launch()
        self.wait_for_log(r"(?s)(door .* is open on .*){2}", SECONDS)
        self.wait_until_served()
        return self

    def launch(self, *twistd_options: str) -> None:
        self._starts += 1
        command = [sys.executable, "-c", TWISTD, "-n", "--pidfile=", "taky", "--config", str(self._conf)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )


class SiteTestCase(SynchronousTestCase):
    """An empty folder, and takyctl."""

    def setUp(self) -> None:
        # Not mktemp(): a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.conf = self.folder / "site/taky.conf"
        self.port, self.marti_port = free_port(), free_port()

    def takyctl(self, *arguments: str, status: int = 0) -> str:
        """Run it in a process of its own; return what it printed."""
        ran = subprocess.run(
            [sys.executable, "-m", "taky_twisted.cli.takyctl", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.assertEqual(ran.returncode, status, ran.stderr)
        self.assertNotIn("Traceback", ran.stderr)
        return ran.stdout

    def setup_site(self) -> None:
        """Make a site, on ports that are free here."""
        self.takyctl("setup", *self.authority(), "--host", "localhost", "--public-ip", "127.0.0.1", "site")
        text = self.conf.read_text("utf-8").replace("bind_ip = 0.0.0.0", "bind_ip = 127.0.0.1")
        text = text.replace("port = 8089", f"port = {self.port}")
        self.conf.write_text(f"{text}\n[dp_server]\nendpoints = ssl:{self.marti_port}:interface=127.0.0.1\n", "utf-8")

    def authority(self) -> list[str]:
        """Make an authority whose key takes no time to make."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = Authority.make("test", datetime.now(timezone.utc), key)
        (self.folder / "own.crt").write_bytes(made.certificate.public_bytes(Encoding.PEM))
        (self.folder / "own.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return ["--ca-cert", "own.crt", "--ca-key", "own.key"]

    def start(self) -> SiteServer:
        return SiteServer(self, self.conf).start()

    def build(self, name: str, *options: str) -> ssl.SSLContext:
        """Make somebody's package, and return what he connects with."""
        self.takyctl("-c", str(self.conf), "build_client", "--dump_pem", *options, name)
        return self.context(name)

    def context(self, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.conf.parent / "ssl/ca.crt"))
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return context

    def connect(self, context: ssl.SSLContext) -> StreamClient:
        """Connect, and be sure to be in."""
        client = StreamClient(self, self.port, context)
        client.say(ping())
        client.wait_for_uid("takPong")
        return client

    def refused(self, context: ssl.SSLContext) -> bool:
        """Whether the server takes nobody in with this; in TLS 1.3 that is known at the first reading."""
        try:
            self.connect(context)
        except (Closed, OSError):
            return True
        return False

    def ask(self, context: ssl.SSLContext, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Ask the Marti API."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.marti_port, timeout=SECONDS, context=context)
        with contextlib.closing(connection):
            connection.request(method, target, body, FORM if body is not None else {})
            response = connection.getresponse()
            return response.status, response.read()


class FirstDayTests(SiteTestCase):
    def authority(self) -> list[str]:
        return []  # the real thing

    def test_two_commands(self) -> None:
        """Two commands in an empty folder, and PyTAK imports the package and is on the map; iTAK's opens as well."""
        self.setup_site()
        self.takyctl("-c", str(self.conf), "build_client", "Jörg Müller")
        self.takyctl("-c", str(self.conf), "build_client", "--is_itak", "FOX")
        server = self.start()
        clients = []
        for name, uid in (("Jörg Müller", "UID-1"), ("FOX", "UID-2")):
            settings = read_pref_package(str(self.folder / f"{name}.zip"))
            self.assertEqual(settings["COT_URL"], f"ssl://127.0.0.1:{self.port}")
            # No name is left unchecked: the certificate is for the address that is in the package.
            client = PyTAKClient(self, settings.pop("COT_URL"), uid, **settings)
            client.report()
            clients.append(client)
        clients[0].wait_for("UID-2")
        clients[1].wait_for("UID-1")
        server.wait_for_log(r"UID-1 \(UID-1\) joined as Jörg Müller")
        self.assertNotIn("Traceback", server.log)


class LaterTests(SiteTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.setup_site()

    def test_T75_kickban(self) -> None:
        """Who gets his certificate while the server runs, and loses it, is out within seconds, and nobody else is."""
        early = self.build("ALPHA")
        self.start()
        stays = self.connect(early)
        context = self.build("LATE")
        client = self.connect(context)
        client.say(sa("UID-LATE", "LATE", now=time.time()))
        stays.wait_for_uid("UID-LATE")
        self.assertEqual(self.ask(context, "GET", "/Marti/api/version")[0], 200)
        self.takyctl("-c", str(self.conf), "kickban", "LATE")
        begin = time.monotonic()
        client.until_closed()
        self.assertLess(time.monotonic() - begin, 6)
        self.assertTrue(self.refused(context))
        status, _ = self.ask_or_refused(context)
        self.assertIn(status, (0, 401, 403))
        self.assertEqual([event for event in stays.so_far() if event.get("type") != "t-x-d-d"], [])
        self.assertFalse(self.refused(early))
        records = {each.name: each.revoked is not None for each in CertDb.read(self.register).records()}
        self.assertEqual(records, {"localhost": False, "ALPHA": False, "LATE": True})
        # The name comes back, the certificate does not.
        self.takyctl("-c", str(self.conf), "unban", "LATE")
        new = self.build("LATE", "--force")
        self.eventually(lambda: not self.refused(new))
        self.assertTrue(self.refused(context))

    @property
    def register(self) -> Path:
        return self.conf.parent / "ssl/cert-db.txt"

    def ask_or_refused(self, context: ssl.SSLContext) -> tuple[int, bytes]:
        try:
            return self.ask(context, "GET", "/Marti/api/contacts/all")
        except (OSError, http.client.HTTPException):
            return 0, b""

    def test_kickban_stranger(self) -> None:
        """A certificate of the site's authority that the register does not know is refused by its name."""
        self.start()
        context = self.build("GHOST")
        for name in ("cert-db.txt", "cert-db.jsonl"):
            path = self.register.with_name(name)
            path.write_text("".join(line for line in path.open() if "GHOST" not in line))
        self.assertFalse(self.refused(context))
        self.takyctl("-c", str(self.conf), "kickban", "GHOST")
        self.eventually(lambda: self.refused(context))

    def eventually(self, done: Callable[[], bool]) -> None:
        """Wait for what comes when the server looks at the files the next time."""
        end = time.monotonic() + SECONDS
        while not done():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)

    def test_renew_server(self) -> None:
        """A new certificate of the server is shown to newcomers; who is connected stays, and nobody needs anything."""
        context = self.build("ALPHA")
        self.start()
        stays = self.connect(context)
        before = stays.socket.getpeercert(binary_form=True)  # type: ignore[attr-defined] # it is TLS
        self.takyctl("-c", str(self.conf), "renew-server")
        self.eventually(lambda: self.connect(context).socket.getpeercert(binary_form=True) != before)  # type: ignore[attr-defined]
        self.assertEqual(stays.uids(), [])

    def test_at_the_same_moment(self) -> None:
        """Two build_client and a kickban at the same moment, 50 times, in three processes: no entry is lost."""
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.end_to_end.takyctl_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for _ in range(3)
        ]
        for worker in workers:
            self.addCleanup(_end, worker)
        for number in range(ROUNDS):
            commands = (
                ["build_client", f"A-{number}"],
                ["build_client", f"B-{number}"],
                ["kickban", f"A-{number - 1}" if number else "NOBODY"],
            )
            for worker, command in zip(workers, commands, strict=True):
                assert worker.stdin is not None
                worker.stdin.write(json.dumps(["-c", str(self.conf), *command]) + "\n")
                worker.stdin.flush()
            for worker, command in zip(workers, commands, strict=True):
                assert worker.stdout is not None
                self.assertEqual(worker.stdout.readline(), "0\n", command)
        found = CertDb.read(self.register)
        self.assertEqual(found.problems, [])
        names = {f"{letter}-{number}" for letter in "AB" for number in range(ROUNDS)}
        self.assertEqual({each.name for each in found.records()}, {"localhost", *names})
        revoked = {each.name for each in found.records() if each.revoked is not None}
        self.assertEqual(revoked, {f"A-{number}" for number in range(ROUNDS - 1)})
        self.assertEqual({ban.name for ban in found.bans.values()}, revoked | {"NOBODY"})
        # And both files say the same, each for itself.
        lines = [line.split("\t") for line in self.register.read_text("utf-8").splitlines()]
        self.assertEqual(sorted(line[4] for line in lines), sorted({"localhost", *names}))
        self.assertEqual({line[4] for line in lines if line[0] == "R"}, revoked)
        self.assertEqual({each.name for each in found.known.values()}, {"localhost", *names})

    def test_backup(self) -> None:
        """A site is backed up while it runs and restored in another folder: the same phone sees the same map there."""
        context = self.build("ALPHA")
        server = self.start()
        client = self.connect(context)
        client.say(sa("UID-1", "ALPHA", now=time.time()), marker("MARK-1", now=time.time()))
        client.so_far()
        content = os.urandom(100_000)
        target = f"/Marti/sync/missionupload?hash={sha256(content).hexdigest()}&filename=a.zip&creatorUid=UID-1"
        self.assertEqual(self.ask(context, "POST", target, form(content))[0], 200)
        time.sleep(1)  # what the store promises: at most the last second is lost
        (self.folder / "secret").write_text("correct horse\n")
        secret = ("--passphrase-file", "secret")
        self.takyctl("-c", str(self.conf), "backup", *secret, "backup")
        server.kill()
        shutil.rmtree(self.conf.parent)
        self.conf = self.folder / "elsewhere/taky.conf"
        self.takyctl("restore", *secret, "backup", "elsewhere")
        server = self.start()
        client = StreamClient(self, self.port, context)
        client.wait_for_uid("MARK-1")
        status, body = self.ask(context, "GET", f"/Marti/sync/content?hash={sha256(content).hexdigest()}")
        self.assertEqual((status, body == content), (200, True))
        self.assertNotIn("Traceback", server.log)


class FromTakyTests(SiteTestCase):
    def test_migrate(self) -> None:
        """A site of taky is taken over, and a phone with a certificate from there connects as before."""
        site = TakySite(self.folder / "site", "localhost", "127.0.0.1")
        site.configure(port=self.port)
        self.write("ALPHA", site.client)
        self.takyctl("migrate", "site")
        # taky's second port is in no configuration: it is 8443, which may not be free here.
        text = self.conf.read_text("utf-8").replace(
            "[dp_server]", f"[dp_server]\nendpoints = ssl:{self.marti_port}:interface=127.0.0.1"
        )
        self.conf.write_text(text, "utf-8")
        server = self.start()
        context = self.context("ALPHA")
        client = self.connect(context)
        client.say(sa("UID-1", "ALPHA", now=time.time()))
        server.wait_for_log(r"UID-1 \(ALPHA\) joined as ALPHA|ALPHA \(UID-1\) joined as ALPHA")
        self.assertEqual(self.ask(self.lenient(context), "GET", "/Marti/api/version")[0], 200)
        self.takyctl("-c", str(self.conf), "kickban", "ALPHA")
        client.until_closed()
        self.assertTrue(self.refused(context))

    def write(self, name: str, credentials: Credentials) -> None:
        (self.folder / f"{name}.crt").write_bytes(credentials.pem)
        (self.folder / f"{name}.key").write_bytes(credentials.key_pem())

    def lenient(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Do as phones do, which check the authority and not the name."""
        context.check_hostname = False
        return context

    def context(self, name: str) -> ssl.SSLContext:
        context = super().context(name)
        # The authority's key usage is as taky makes it; strictness is not what is tested here.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        return context


def _end(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        assert pipe is not None
        pipe.close()
