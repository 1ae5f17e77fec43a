"""What goes wrong around a server, and people who mean it no good: everybody else goes on, within stated bounds."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

from OpenSSL import SSL

from tests.end_to_end import set_clock
from tests.end_to_end.node_site import Load
from tests.end_to_end.server_process import ROOT, TWISTD, ServerProcess
from tests.end_to_end.stream_client import Closed, StreamClient, tls_context
from tests.end_to_end.test_lifecycle import ServerTestCase
from tests.pki import PKI
from tests.samples import marker, ping, sa

RATE = 100
"""Events in a second while something goes wrong."""
MEMORY = 24 << 20
"""Bytes that it may cost."""
PATIENCE = 15.0
OTHER_ADDRESS = "127.0.0.2"
"""All of 127/8 is this machine."""


class FaultTestCase(ServerTestCase):
    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.server = ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            "--marti-endpoint=tcp:0:interface=127.0.0.1",
            "--anonymous-http=yes",
            "--emergency-period=1",
            *self.options,
        ).start()

    @contextlib.contextmanager
    def others_go_on(self, memory: int = MEMORY) -> Iterator[Load]:
        """While something happens five people talk to each other: nothing is lost, and it does not cost much memory."""
        clients = {f"C-{number}": self.join(f"C-{number}") for number in range(5)}
        for client in clients.values():
            client.so_far()
        load = Load(clients)
        load.run(0.5, RATE)
        before = self.server.memory()
        yield load
        load.run(1, RATE)
        self.assertEqual(load.finish(), [])
        self.assertLess(self.server.memory() - before, memory)
        load.close()
        for client in clients.values():
            client.close()

    def raw(self, door: int = 0) -> socket.socket:
        """Connect without a word."""
        connection = socket.create_connection(("127.0.0.1", self.server.port(door)), PATIENCE)
        self.addCleanup(connection.close)
        return connection

    def eventually(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            self.assertLess(time.monotonic(), end, f"{what}:\n{self.server.log}")
            time.sleep(0.05)


class ConnectionTests(FaultTestCase):
    """Peers that do not behave."""

    options = ("--max-unidentified=4000", "--max-per-address=5000")

    def test_stops_in_the_middle(self) -> None:
        """Two hundred clients that stop in the middle of an event."""
        with self.others_go_on() as load:
            half = sa("HALF", "HALF", now=time.time())[:-20]
            stopped = [self.raw() for _ in range(200)]
            for connection in stopped:
                connection.sendall(half)
            load.run(1, RATE)

    def test_resets(self) -> None:
        """A thousand connections that are reset, at once or after some bytes."""
        with self.others_go_on() as load:
            for number in range(1000):
                client = StreamClient(self, self.server.port())
                if number % 2:
                    client.say(sa("R", "R", now=time.time())[: number % 300])
                client.reset()
                if number % 20 == 0:
                    load.run(0.05, RATE)

    def test_half_closed(self) -> None:
        """Who says that it will say no more is let go; what it said before counts."""
        with self.others_go_on() as load:
            connections = [self.raw() for _ in range(100)]
            for number, connection in enumerate(connections):
                connection.sendall(marker(f"LAST-{number}", now=time.time()))
                connection.shutdown(socket.SHUT_WR)
            load.run(1, RATE)
            for connection in connections:
                while connection.recv(1 << 16):
                    pass
        self.assertIn("LAST-99", self.connect().uids())

    def test_flood(self) -> None:
        """Two thousand connects in a row."""
        with self.others_go_on() as load:
            for number in range(2000):
                self.raw().close()
                if number % 40 == 0:
                    load.run(0.05, RATE)

    def test_one_byte_at_a_time(self) -> None:
        """A hundred that send an event byte by byte are understood all the same."""
        with self.others_go_on() as load:
            connections = [self.raw() for _ in range(100)]
            events = [marker(f"SLOW-{number}", now=time.time()) for number in range(100)]
            for at in range(0, len(events[0]), 8):
                for connection, event in zip(connections, events, strict=True):
                    for byte in range(at, min(at + 8, len(event))):
                        connection.send(event[byte : byte + 1])
                load.run(0.02, RATE)
            for connection, event in zip(connections, events, strict=True):
                connection.sendall(event[len(events[0]) :])
        shown = self.connect().uids()
        self.assertTrue({f"SLOW-{number}" for number in range(100)} <= set(shown))

    def test_garbage(self) -> None:
        """Random bytes, other protocols and endless names cost who sends them the connection, and nobody else."""
        junk = (
            *(os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n", b"<event " + b"a" * 100_000),
            *(b"\x16\x03\x01" * 1000, b"\xbf\x01\xbf"),
        )
        with self.others_go_on() as load:
            for number in range(200):
                connection = self.raw()
                with contextlib.suppress(ConnectionError):
                    connection.sendall(junk[number % len(junk)])
                if number % 20 == 0:
                    load.run(0.05, RATE)


class HttpTests(FaultTestCase):
    def test_silent_connections(self) -> None:
        """A thousand HTTP connections that say nothing: from one address only some are taken, and others are served."""
        with self.others_go_on() as load:
            silent = []
            for number in range(1000):
                try:
                    silent.append(self.raw(1))
                except OSError:
                    break
                if number % 50 == 0:
                    load.run(0.02, RATE)
            url = f"http://127.0.0.1:{self.server.port(1)}/Marti/api/version"
            with socket.socket() as other:
                other.bind((OTHER_ADDRESS, 0))
                other.settimeout(PATIENCE)
                other.connect(("127.0.0.1", self.server.port(1)))
                other.sendall(b"GET /Marti/api/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                self.assertIn(b" 200 ", other.recv(100))
            for connection in silent:
                connection.close()
        with urlopen(url, timeout=PATIENCE) as answer:
            self.assertEqual(answer.status, 200)


class RenegotiationTests(ServerTestCase):
    def test_renegotiation(self) -> None:
        """Who wants to negotiate anew, again and again, is not let: each time would cost us as much as a connect."""
        pki = PKI(Path(self.mktemp()).absolute())
        self.server = ServerProcess(self, f"--cot-endpoint={pki.endpoint()}").start()
        credentials = pki.client
        good = StreamClient(self, self.server.port(), tls_context(pki, pki.second_client))
        good.say(sa("GOOD", "GOOD", now=time.time()))
        good.so_far()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.use_certificate(credentials.certificate)
        context.use_privatekey(credentials.key)
        refused = 0
        for _ in range(5):
            connection = SSL.Connection(context, socket.create_connection(("127.0.0.1", self.server.port()), PATIENCE))
            connection.set_connect_state()
            connection.setblocking(True)
            connection.do_handshake()
            try:
                connection.renegotiate()
                connection.do_handshake()
                connection.sendall(ping())
                connection.recv(1 << 16)
            except SSL.Error:
                refused += 1
            connection.close()
        self.assertEqual(refused, 5)
        good.say(ping())
        good.wait_for(lambda event: event.get("uid") == "takPong")


class MachineTests(FaultTestCase):
    """The machine that it runs on."""

    def test_no_files_left(self) -> None:
        """Without a file descriptor left nobody new comes in, and who is there stays; afterwards it goes on."""
        with self.others_go_on() as load:
            soft, hard = resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE)
            there = len(os.listdir(f"/proc/{self.server.pid}/fd"))
            resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, (there + 10, hard))
            connections = [self.raw() for _ in range(60)]
            load.run(1, RATE)
            for connection in connections:
                connection.close()
            resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, (soft, hard))
            load.run(1, RATE)
            self.eventually(lambda: self.works(), "somebody new can come in again")
        self.assertLess(self.server.log.count("Traceback"), 2, self.server.log)

    def works(self) -> bool:
        try:
            self.join("NEW").close()
        except (Closed, OSError, AssertionError):
            return False
        return True

    def test_disk_full(self) -> None:
        """On a full disk events go on to everybody; it is said once when that begins and once when it is over."""
        with self.others_go_on() as load:
            limits = resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE)
            size = (self.server.data_dir / "taky.sqlite-wal").stat().st_size
            resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (size, limits[1]))
            load.run(2, RATE)
            self.eventually(lambda: bool(self.server.lines("cannot write")), "the store complains")
            resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, limits)
            load.run(6, RATE)
            self.eventually(lambda: bool(self.server.lines("is written again")), "the store is content")
        self.assertEqual(len(self.server.lines("cannot write")), 1)
        client = self.join("LATE")
        client.say(marker("LATE-1", now=time.time()))
        client.so_far()
        time.sleep(1)
        self.server.kill()
        self.server.start()
        self.assertIn("LATE-1", self.connect().uids())
        self.assertIn("M-C-1", self.connect().uids())

    def test_stands_still(self) -> None:
        """A server that stood still for a while (a laptop that sleeps) closes nobody for having been silent."""
        a, b = self.join("A"), self.join("B")
        os.kill(self.server.pid, 19)
        self.addCleanup(os.kill, self.server.pid, 18)
        time.sleep(2)
        os.kill(self.server.pid, 18)
        a.say(marker("M-1", now=time.time()))
        b.wait_for_uid("M-1")


class ClockTests(ServerTestCase):
    def test_clock_is_set(self) -> None:
        """The clock is set hours ahead and back: everybody stays, and events arrive at once; it is said in the log."""
        offset = Path(self.mktemp()).absolute()
        offset.write_text("0", "ascii")
        self.server = ServerProcess(self, "--idle-seconds=60")
        self.server.command = (sys.executable, set_clock.__file__, str(offset))
        self.server.start()
        a, b = self.join("A"), self.join("B")
        for number, hours in enumerate((3, -5, 0, -1, 2, 0)):
            offset.write_text(str(hours * 3600), "ascii")
            now = time.time() + hours * 3600
            begin = time.monotonic()
            for at in range(5):
                a.say(marker(f"M-{number}-{at}", now=now))
                b.wait_for_uid(f"M-{number}-{at}")
                time.sleep(0.5)
            self.assertLess(time.monotonic() - begin, 6)
            self.server.wait_for_log(rf"(?s)(the system's clock was set.*){{{number + 1}}}")
        a.close()
        b.wait_for_type("t-x-d-d")


class ReadOnlyTests(ServerTestCase):
    def test_read_only_folder(self) -> None:
        """Where nothing can be written the start fails with one line that says what to change."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "taky.conf").touch()
        (folder / "data").mkdir(mode=0o555)
        # The administrator may write everywhere, unless he gives that up.
        unprivileged = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--") if os.geteuid() == 0 else ()
        done = subprocess.run(
            [
                *(*unprivileged, sys.executable, "-c", TWISTD, "-n", "--pidfile=", "taky"),
                *(f"--config={folder / 'taky.conf'}", f"--data-dir={folder / 'data'}"),
                "--cot-endpoint=tcp:0:interface=127.0.0.1",
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("cannot use the data folder", done.stderr + done.stdout)
        self.assertNotIn("Traceback", done.stderr + done.stdout)
