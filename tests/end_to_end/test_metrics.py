"""What machines that watch a server see: numbers, faults that come and go, and the log for programs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import StreamClient, tls_context
from tests.pki import PKI, Credentials
from tests.samples import marker, sa

PATIENCE = 60.0
"""Seconds until something has to have come about on a busy machine."""


class WatchedTestCase(SynchronousTestCase):
    def start(self, *options: str) -> ServerProcess:
        """Start a server with a door for CoT, one for HTTP and one for metrics, each on any port of loopback."""
        self.server = ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            "--marti-endpoint=tcp:0:interface=127.0.0.1",
            "--metrics-endpoint=tcp:0",
            *options,
        ).start()
        self.wait_for(self.is_healthy, "it is healthy")
        return self.server

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Ask the metrics door."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.server.port(2)}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def health(self) -> tuple[int, list[str]]:
        """Ask for health: the status, and which faults there are."""
        status, body = self.get("/health")
        return status, [fault["name"] for fault in json.loads(body)["faults"]]

    def is_healthy(self) -> bool:
        """Whether nothing is wrong; where the server had no time for a moment, something is for half a minute."""
        return self.health() == (200, [])

    def samples(self) -> dict[tuple[str, ...], float]:
        """Scrape, and read it as Prometheus does."""
        status, body = self.get("/metrics")
        self.assertEqual(status, 200)
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }

    def wait_for(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        end = time.monotonic() + PATIENCE
        while not true():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.1)


class ScrapeTests(WatchedTestCase):
    def test_scrape(self) -> None:
        """A scrape tells of clients, events, requests and the process, as they are."""
        server = self.start()
        one, other = (StreamClient(self, server.port(0)) for _ in range(2))
        one.say(sa("ONE", "ONE", now=time.time()))
        other.say(sa("OTHER", "OTHER", now=time.time()))
        one.wait_for_uid("OTHER")
        for number in range(20):
            one.say(marker(f"M{number}", now=time.time()))
            other.wait_for_uid(f"M{number}")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port(1)}/Marti/api/version", timeout=10) as answer:
            answer.read()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port(0))) as knocking:
            knocking.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            knocking.settimeout(10)
            knocking.recv(1)
        self.wait_for(lambda: self.samples()["taky_connections_refused_total", "tls_on_plain_port"] == 1, "refused")
        samples = self.samples()
        (door,) = {name[1] for name in samples if name[0] == "taky_clients"}
        self.assertEqual(samples["taky_clients", door, "xml"], 2)
        self.assertEqual(samples["taky_contacts", "present"], 2)
        self.assertEqual(samples["taky_events_heard_total", "marker", "routed"], 20)
        self.assertEqual(samples["taky_events_heard_total", "position", "routed"], 2)
        self.assertGreaterEqual(samples["taky_events_delivered_total",], 21)
        self.assertEqual(samples["taky_items",], 20)
        self.assertGreaterEqual(samples["taky_delivery_seconds_count",], 1)
        self.assertEqual(samples["taky_http_requests_total", "/Marti/api/version", "2xx"], 1)
        self.assertEqual((samples["taky_store_writable",], samples["taky_doors_shut",]), (1, 0))
        self.assertGreater(samples["process_resident_memory_bytes",], 10 << 20)

    def test_read_only(self) -> None:
        """HEAD works, everything else is refused, and the page is for this machine alone."""
        server = self.start()
        self.assertEqual(self.get("/health", "HEAD"), (200, b""))
        self.assertEqual(self.get("/metrics", "HEAD"), (200, b""))
        for method in ("POST", "PUT", "DELETE"):
            self.assertEqual(self.get("/health", method)[0], 405)
        self.assertEqual(self.get("/")[0], 404)
        self.assertIn(f"is open on 127.0.0.1 port {server.port(2)}", server.log)
        self.assertEqual(server.lines("others than this machine"), [])

    def test_wide(self) -> None:
        """A door that others reach is warned of at the start."""
        self.server = ServerProcess(self, "--metrics-endpoint=tcp:0:interface=0.0.0.0").start()
        (line,) = self.server.lines("others than this machine")
        self.assertIn("leave interface= out", line)

    def test_floods(self) -> None:
        """Who opens connections and says nothing keeps nobody else from being served, and is closed in the end."""
        server = self.start()
        silent = [socket.create_connection(("127.0.0.1", server.port(2))) for _ in range(60)]
        for each in silent:
            self.addCleanup(each.close)
        client = StreamClient(self, server.port(0))
        client.say(sa("A", "A", now=time.time()))
        self.wait_for(lambda: self._answers(), "the silent ones are gone")

    def _answers(self) -> bool:
        try:
            return self.get("/health")[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class FaultTests(WatchedTestCase):
    def test_store(self) -> None:
        """A store that cannot be written makes the server unhealthy, until it can be again; nothing is lost by then."""
        server = self.start()
        client = StreamClient(self, server.port(0))
        client.say(sa("A", "A", now=time.time()))
        with contextlib.closing(sqlite3.connect(server.data_dir / "taky.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            client.say(marker("KEPT", now=time.time()))
            self.wait_for(lambda: self.health() == (503, ["store"]), "the store is locked")
            (fault,) = json.loads(self.get("/health?")[1])["faults"]
            self.assertIn("locked. Another program has locked the file: end it.", fault["what"])
            self.assertEqual(self.samples()["taky_store_writable",], 0)
            self.assertGreaterEqual(self.samples()["taky_store_pending_changes",], 1)
            other.execute("ROLLBACK")
        self.wait_for(lambda: self.health() == (200, []), "the store can be written again")
        self.wait_for(lambda: self.samples()["taky_store_writable",] == 1, "that is counted")
        self.assertEqual(self.samples()["taky_store_pending_changes",], 0)

    def test_disk(self) -> None:
        """A disk that takes no more does too, and what was said meanwhile is on it when there is room again."""
        server = self.start()
        client = StreamClient(self, server.port(0))
        client.say(sa("A", "A", now=time.time()), *(marker(f"EARLY{number}", now=time.time()) for number in range(50)))
        self.wait_for(lambda: self.samples()["taky_store_last_write_timestamp_seconds",] > 0, "something is written")
        self.wait_for(lambda: self.samples()["taky_store_pending_changes",] == 0, "all of it")
        limits = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        size = (server.data_dir / "taky.sqlite-wal").stat().st_size
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, limits[1]))
        client.say(*(marker(f"LATE{number}", now=time.time()) for number in range(50)))
        self.wait_for(lambda: self.health()[0] == 503 and "store" in self.health()[1], "files cannot grow")
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limits)
        self.wait_for(lambda: self.health() == (200, []), "they can again")
        server.kill()
        with contextlib.closing(sqlite3.connect(server.data_dir / "taky.sqlite")) as kept:
            (count,) = kept.execute("SELECT count(*) FROM item WHERE uid LIKE 'LATE%'").fetchone()
        self.assertEqual(count, 50)

    def test_files(self) -> None:
        """Connections that are nearly used up make it unhealthy, until there is room again."""
        server = self.start()
        # So many that of the tenth that makes the difference some are left for those who ask.
        for client in [StreamClient(self, server.port(0)) for _ in range(80)]:
            client.so_far()
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        in_use = len(os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (in_use + 7, limits[1]))
        self.wait_for(lambda: self.health() == (503, ["files"]), "few are left")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        self.wait_for(lambda: self.health() == (200, []), "there are enough")

    def test_lag(self) -> None:
        """A server that stood still says so for a while."""
        server = self.start()
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(server.pid, signal.SIGCONT)
        self.wait_for(lambda: self.health() == (503, ["lag"]), "it was late")
        self.assertGreater(self.samples()["taky_reactor_lag_worst_seconds",], 2)


class TLSTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(Path(self.mktemp()).absolute())
        endpoint = self.pki.endpoint(register=self.pki.register_path)
        self.server = ServerProcess(
            self, "--cot-endpoint=tcp:0:interface=127.0.0.1", f"--metrics-endpoint={endpoint}"
        ).start()

    def ask(self, credentials: Credentials | None) -> int:
        """Ask for health with a certificate."""
        context = tls_context(self.pki, credentials)
        url = f"https://127.0.0.1:{self.server.port(1)}/health"
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            return int(answer.status)

    def test_certificates(self) -> None:
        """With TLS a certificate of this site is wanted, and a revoked one is none."""
        self.assertEqual(self.ask(self.pki.client), 200)
        for credentials in (None, self.pki.foreign, self.pki.revoked):
            self.assertRaises((OSError, http.client.HTTPException), self.ask, credentials)

    def test_revoked_later(self) -> None:
        """A certificate that is revoked while the server runs does not count any more."""
        self.assertEqual(self.ask(self.pki.client), 200)
        self.pki.write_register(R=[self.pki.client])
        self.server.hang_up()
        self.server.wait_for_log("certificates and revocations were read again")
        self.assertRaises((OSError, http.client.HTTPException), self.ask, self.pki.client)


class JsonLogTests(SynchronousTestCase):
    def lines(self, text: str) -> list[dict[str, Any]]:
        """Read a log, every line of which is JSON."""
        return [json.loads(line) for line in text.splitlines()]

    def test_foreground(self) -> None:
        """In the foreground every line on the terminal is an object; a client's name does nothing to it."""
        server = ServerProcess(self, "--log-format=json")
        server.launch()
        server.wait_for_log(r"door .* is open on .*")
        port = next(
            int(line["fields"]["where"].rpartition(" ")[2])
            for line in self.lines(server.log)
            if line["namespace"] == "taky_twisted.doors.Doors"
        )
        client = StreamClient(self, port)
        client.say(sa("ONE", "&#xd;&#x9b;2J&#x202e;}", now=time.time()))
        server.wait_for_log(r"joined as")
        server.terminate()
        self.assertEqual(server.wait(), 0)
        self.assertTrue(server.log.isascii())
        lines = self.lines(server.log)
        (joined,) = [line for line in lines if "joined as" in line["message"]]
        self.assertEqual((joined["level"], joined["fields"]["uid"]), ("info", "ONE"))
        self.assertTrue(joined["message"].isprintable(), joined["message"])

    def test_file(self) -> None:
        """A file gets the same, in the foreground and in the background; the format may be in taky.conf."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        server = ServerProcess(self, "--log-format=json", folder=folder)
        server.launch("-n", "--pidfile=", f"--logfile={folder}/taky.log")
        self.wait_for_door(folder / "taky.log")
        self.assertEqual(server.log, "")
        self.lines((folder / "taky.log").read_text("ascii"))

    def test_background(self) -> None:
        """A server in the background logs to its file."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        server = ServerProcess(self, "--log-format=json", folder=folder)
        server.launch(f"--pidfile={folder}/pid", f"--logfile={folder}/taky.log")
        self.assertEqual(server.wait(), 0)
        pid = int((folder / "pid").read_text("ascii"))
        self.addCleanup(self.end, pid)
        self.wait_for_door(folder / "taky.log")
        self.lines((folder / "taky.log").read_text("ascii"))

    def end(self, pid: int) -> None:
        """End a server in the background, and wait for that."""
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.kill(pid, 0)
                time.sleep(0.05)

    def test_syslog(self) -> None:
        """Where no JSON can go the start ends with one line."""
        server = ServerProcess(self, "--log-format=json")
        server.launch("-n", "--pidfile=", "--syslog")
        self.assertEqual(server.wait(), 1)
        self.assertEqual(len(server.log.splitlines()), 1)
        self.assertIn("the system's log takes no JSON", server.log)

    def wait_for_door(self, path: Path) -> None:
        """Wait until a log says that a door is open."""
        end = time.monotonic() + PATIENCE
        while not (path.exists() and "is open on" in path.read_text("ascii")):
            self.assertLess(time.monotonic(), end, path.read_text("ascii") if path.exists() else "no log")
            time.sleep(0.05)
