from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.running import RunningServer
from tests.end_to_end.server_process import ROOT, START_SECONDS, TWISTD
from tests.end_to_end.stream_client import Closed, StreamClient, tls_context
from tests.pki import PKI
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.samples import ping, sa

STEP_SECONDS = 0.05
CLIENTS = 40
"""So many that the kernel gives each of two workers some: that one gets none has a chance of 2 in 10 ** 12."""
LAST_DOOR = "taky-mgmt.sock is open"
"""What a process says when it serves; other doors are open before, and hold who comes."""


def short_folder(test: SynchronousTestCase) -> Path:
    """Make a folder for a test; not mktemp(), as a socket's path must be short."""
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return Path(folder.name)


class Workers:
    """``taky --workers N`` as an operator runs it."""

    def __init__(self, test: SynchronousTestCase, *options: str, bus: str | None, folder: Path | None = None) -> None:
        self._test = test
        self.folder = folder or short_folder(test)
        self.data = self.folder / "data"
        self.port = free_port()
        (self.folder / "taky.conf").touch()
        self.options = [
            *("-c", str(self.folder / "taky.conf"), f"--data-dir={self.data}"),
            f"--cot-endpoint=tcp:{self.port}:interface=127.0.0.1",
            *([f"--bus=redis:{bus}"] if bus is not None else []),
            *options,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, *command: str) -> None:
        """Start it, by default with `taky`, and do not wait."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(command or ("-m", "taky_twisted.cli.taky")), *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,  # as a terminal does: its Control-C reaches all of them, and nobody else
            )
        self._test.addCleanup(self.end)

    def start(self, count: int) -> None:
        """Start it and wait until all workers serve."""
        self.launch()
        self.wait_for_log(f"{count} workers are started")

    @property
    def log(self) -> str:
        """What all of them have said."""
        return (self.folder / "log").read_text("utf-8", "replace")

    def wait_for_log(self, text: str) -> None:
        """Wait until something is said."""
        assert self.process is not None
        end = time.monotonic() + START_SECONDS
        while text not in self.log:
            if time.monotonic() > end or self.process.poll() is not None:
                raise AssertionError(f"no {text!r} in the log:\n{self.log}")
            time.sleep(STEP_SECONDS)

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        assert self.process is not None
        try:
            return self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.log}") from None

    def end(self) -> None:
        """End it in any case, and the workers with it."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def of(self, worker: int) -> Path:
        """Name a worker's data folder."""
        return self.data if worker == 1 else self.data / f"worker-{worker}"

    def pid(self, worker: int) -> int:
        """Tell the number of a worker's process, as its lock has it."""
        return int((self.of(worker) / "taky.lock").read_text("ascii").split()[0])

    def streams(self, worker: int) -> int:
        """Ask a worker how many clients it has."""
        streams: int = RunningServer(self.of(worker) / "taky-admin.sock").ask("stats")["streams"]
        return streams


class WorkersTests(SynchronousTestCase):
    """Several processes that are one server on one machine."""

    def eventually(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        end = time.monotonic() + START_SECONDS
        while not true():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(STEP_SECONDS)

    def start(self, *options: str) -> Workers:
        """Start two workers."""
        workers = Workers(self, "--workers=2", *options, bus=RedisServer(self).endpoint)
        workers.start(2)
        return workers

    def connect(self, workers: Workers) -> list[StreamClient]:
        """Connect many clients, and wait until each is answered."""
        clients = [StreamClient(self, workers.port) for _ in range(CLIENTS)]
        for client in clients:
            client.so_far()
        return clients

    def test_one_server(self) -> None:
        """Workers share a port and have folders of their own; what can be had once is the first one's.

        What is said at one is heard at all. ``takyctl`` asks the first, and while that is away another.
        """
        unix = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, unix)
        workers = self.start(f"--udp-port={free_port(socket.SOCK_DGRAM)}", f"--cot-endpoint=unix:{unix / 'cot'}")
        for once in ("CoTDatagrams starting", "CoT door unix:"):
            self.assertEqual(workers.log.count(once), 1, workers.log)
        speaker, *others = self.connect(workers)
        counts = [workers.streams(1), workers.streams(2)]
        self.assertEqual(sum(counts), CLIENTS)
        self.assertTrue(all(counts), counts)
        for name in ("taky.sqlite", "taky-admin.sock", "taky.lock"):
            self.assertTrue((workers.of(1) / name).exists() and (workers.of(2) / name).exists(), name)
        self.assertEqual(list(workers.data.rglob("server-id")), [workers.data / "server-id"], "one server, one id")
        speaker.say(sa("ALPHA", "ALPHA", now=time.time()))
        for client in others:
            client.wait_for_uid("ALPHA")
        (workers.folder / "taky.conf").write_text("[taky]\nroot_dir = data\n")
        status = [sys.executable, "-m", "taky_twisted.cli.takyctl", *workers.options[:2], "status", "-j"]
        for _ in range(2):
            done = subprocess.run(status, capture_output=True, text=True, cwd=workers.folder, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("ALPHA", [client.get("uid") for client in json.loads(done.stdout)["clients"]])
            (workers.data / "taky-admin.sock").unlink(missing_ok=True)

    def test_crash(self) -> None:
        """A worker that is killed is started again; clients of the others notice nothing."""
        workers = self.start()
        clients = self.connect(workers)
        before = {number: workers.pid(number) for number in (1, 2)}
        theirs = workers.streams(1)
        os.kill(before[2], signal.SIGKILL)
        workers.wait_for_log("worker 2 has ended (signal 9); it is started again")

        def again() -> bool:
            with contextlib.suppress(IndexError, ValueError):  # its lock is being written
                return workers.pid(2) != before[2]
            return False

        self.eventually(again, "worker 2 is not started again")
        stayed = 0
        for client in clients:
            with contextlib.suppress(OSError, Closed):
                client.so_far()
                stayed += 1
        self.assertEqual((stayed, workers.pid(1)), (theirs, before[1]))
        self.eventually(lambda: self.serves(workers, 2), "worker 2 gets no clients")

    def serves(self, workers: Workers, number: int) -> bool:
        """Whether a worker is given new clients."""
        clients: list[StreamClient] = []
        try:
            clients += self.connect(workers)
            return workers.streams(number) > 0
        except CommandError:
            return False
        finally:
            for client in clients:
                client.close()

    def test_stop(self) -> None:
        """SIGTERM stops all, whoever has clients, and ends with success when they are gone."""
        workers = self.start()
        clients = self.connect(workers)
        pids = [workers.pid(1), workers.pid(2)]
        assert workers.process is not None
        workers.process.terminate()
        self.assertEqual(workers.wait(), 0, workers.log)
        for pid in pids:
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        for client in clients:
            client.until_closed()
        self.assertNotIn("Traceback", workers.log)
        self.assertNotIn("is started again", workers.log)

    def test_control_c(self) -> None:
        """Control-C does the same, although a terminal sends it to all at once."""
        workers = self.start()
        assert workers.process is not None
        os.killpg(workers.process.pid, signal.SIGINT)
        self.assertEqual(workers.wait(), 0, workers.log)
        self.assertEqual(workers.log.count(LAST_DOOR), 2, workers.log)

    def test_hang_up(self) -> None:
        """SIGHUP reaches every worker: each reads its certificates again."""
        pki = PKI(str(Path(self.mktemp()).absolute()))
        workers = self.start(f"--cot-endpoint={pki.endpoint(f'ssl:{free_port()}:interface=127.0.0.1')}")
        assert workers.process is not None
        workers.process.send_signal(signal.SIGHUP)

        def who() -> set[str]:
            lines = [line for line in workers.log.splitlines() if "were read again" in line]
            return {line.partition("[")[2].partition(",")[0] for line in lines}

        self.eventually(lambda: who() == {"worker 1", "worker 2"}, "a worker has not heard of it")

    def test_supervisor_killed(self) -> None:
        """When the process that starts them is killed the workers end: the next start finds ports and folders free."""
        workers = self.start()
        assert workers.process is not None
        workers.process.kill()
        workers.process.wait()
        self.eventually(lambda: workers.log.count("Server Shut Down") == 2, "they go on")
        workers.start(2)

    def test_mistake(self) -> None:
        """What keeps the first worker from starting stops everything, with one line, said once."""
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        workers = Workers(self, "--workers=3", bus=RedisServer(self).endpoint)
        workers.options[3] = f"--cot-endpoint=tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        workers.launch()
        self.assertEqual(workers.wait(), 1, workers.log)
        self.assertEqual(workers.log.count("another program listens there already"), 1, workers.log)
        self.assertNotIn("Traceback", workers.log)

    def test_twice(self) -> None:
        """The same site started a second time is refused: sharing ports is for its own workers only."""
        workers = self.start()
        second = Workers(self, "--workers=2", bus=RedisServer(self).endpoint)
        second.options[2:4] = workers.options[2:4]
        second.launch()
        self.assertEqual(second.wait(), 1, second.log)
        self.assertEqual(second.log.count("is using it"), 1, second.log)
        self.connect(workers)

    def test_without_bus(self) -> None:
        """Without a bus several processes would not be one server: that is refused, in one line."""
        for option in ("--workers=2", "--worker=2"):
            workers = Workers(self, option, bus=None)
            workers.launch()
            self.assertEqual(workers.wait(), 1, workers.log)
            (line,) = workers.log.splitlines()
            self.assertIn("needs a bus", line)
            self.assertIn("--bus=redis:", line)

    def test_twistd(self) -> None:
        """Twistd runs one process: it refuses to start several, and takes the number of one."""
        workers = Workers(self, "--workers=2", bus=RedisServer(self).endpoint)
        twistd = ("-c", TWISTD, "-n", "--pidfile=", "taky")
        workers.launch(*twistd)
        self.assertEqual(workers.wait(), 1, workers.log)
        self.assertIn("twistd runs one process", workers.log)
        workers.options.append("--worker=2")
        workers.launch(*twistd)
        workers.wait_for_log("door")
        self.eventually(lambda: self.serves(workers, 2), "it does not serve")

    def test_grows_and_shrinks(self) -> None:
        """With its store in Redis, too, a server has its files and accounts whatever number of processes it is.

        What is removed is so for good.
        """
        redis, folder, data, digest = RedisServer(self), short_folder(self), b"a map of the valley", ""
        names = ["anna"]
        for run, count in enumerate((1, 2, 1, 2)):
            several = ["--workers=2"] if count > 1 else []
            workers = Workers(self, *several, bus=redis.endpoint if several else None, folder=folder)
            marti = free_port()
            workers.options += [f"--store=redis:{redis.endpoint}", f"--marti-endpoint=tcp:{marti}:interface=127.0.0.1"]
            workers.launch()
            workers.wait_for_log("2 workers are started" if several else LAST_DOOR)
            address = f"http://127.0.0.1:{marti}/Marti/sync"
            asked = RunningServer(workers.data / "taky-admin.sock")
            if run == 0:
                asked.ask("users", action="add", name="anna", **{"in": ["Blue"], "out": ["Blue"]})
                with urlopen(Request(f"{address}/upload?name=map.txt", data), timeout=20) as answer:
                    digest = json.load(answer)["Hash"]
            with urlopen(f"{address}/content?hash={digest}", timeout=20) as answer:
                self.assertEqual(answer.read(), data)
            with urlopen(f"{address}/search", timeout=20) as answer:
                self.assertEqual([each["Name"] for each in json.load(answer)["results"]], ["map.txt"])
            if run == 1:
                asked.ask("users", action="add", name="bert", **{"in": ["Blue"], "out": ["Blue"]})
                asked.ask("invites", action="invite", name="carla")
                names = ["anna", "bert", "carla"]
            accounts = asked.ask("users", action="list")["accounts"]
            self.assertEqual([each["name"] for each in accounts], names)
            self.assertEqual(accounts[0]["in"], ["Blue"])
            invites = asked.ask("invites", action="list")["invites"]
            self.assertEqual([each["name"] for each in invites], ["carla"] if run in (1, 2) else [])
            if run == 2:
                asked.ask("users", action="remove", name="anna")
                asked.ask("invites", action="withdraw", name="carla")
                names = ["bert", "carla"]
            workers.end()


class BalancerTests(SynchronousTestCase):
    """Clients with certificates, behind a load balancer that passes TLS through."""

    def setUp(self) -> None:
        self.pki = PKI(str(Path(self.mktemp()).absolute()))
        self.context = tls_context(self.pki, self.pki.client)
        self.cot, self.marti = free_port(), free_port()
        self.server = Workers(self, "--max-per-address=1", "--store=memory:", bus=None)
        self.server.options[3] = f"--cot-endpoint={self.endpoint(self.cot)}"
        self.server.options.append(f"--marti-endpoint={self.endpoint(self.marti)}")
        self.server.launch()
        self.server.wait_for_log(LAST_DOOR)
        self.asked = RunningServer(self.server.data / "taky-admin.sock")

    def endpoint(self, port: int) -> str:
        """Spell a door behind a balancer on this machine."""
        inner = rf"haproxy\:tcp\:{port}\:interface=127.0.0.1"
        return f"{self.pki.endpoint(f'ssl:{port}')}:inner={inner}"

    def header(self, host: str, port: int) -> bytes:
        """Say as a balancer does in version 1 whose connection it is."""
        return f"PROXY TCP4 {host} 198.51.100.1 4711 {port}\r\n".encode()

    def test_address(self) -> None:
        """Status shows the client's own address and certificate, and limits count by that address."""
        first = StreamClient(self, self.cot, self.context, first=self.header("192.0.2.7", self.cot))
        first.say(sa("ALPHA", "ALPHA", now=time.time()), ping())
        first.wait_for(lambda event: event.get("uid") == "takPong")
        addresses = socket.inet_pton(socket.AF_INET6, "2001:db8::8") + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
        version_2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" + addresses + b"\x12\x67\x1f\x99"
        StreamClient(self, self.cot, self.context, first=version_2).so_far()
        self.assertRaises(OSError, StreamClient, self, self.cot, self.context, first=self.header("192.0.2.7", self.cot))
        shown: list[dict[str, Any]] = self.asked.ask("status")["clients"]
        self.assertEqual(
            sorted((each["ip"], each["certificate"]["name"]) for each in shown),
            [("192.0.2.7", "ALPHA-1"), ("2001:db8::8", "ALPHA-1")],
        )
        self.server.wait_for_log("192.0.2.7 refused at ssl:")

    def test_health_checks(self) -> None:
        """Health checks leave no line in the log; who comes without a header is refused with one."""
        for sent in (b"", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", self.header("127.0.0.1", self.cot)):
            for port in (self.cot, self.marti):
                with socket.create_connection(("127.0.0.1", port)) as check:
                    check.sendall(sent)
        StreamClient(self, self.cot, first=b"<event").until_closed()
        self.server.wait_for_log("127.0.0.1 refused at ssl:")
        refused = [line for line in self.server.log.splitlines() if "refused" in line or "127.0.0.1:" in line]
        self.assertEqual(len(refused), 1, self.server.log)
        self.assertIn("does not begin with a PROXY header", refused[0])

    def test_marti(self) -> None:
        """So it is for HTTP: who is refused is told of with its own address."""
        request = b"GET /Marti/api/clientEndPoints HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for context, status in ((self.context, b"200"), (tls_context(self.pki, None), b"401")):
            client = socket.create_connection(("127.0.0.1", self.marti), 10)
            client.sendall(self.header("192.0.2.9", self.marti))
            with context.wrap_socket(client, server_hostname="localhost") as tls:
                tls.sendall(request)
                self.assertEqual(tls.recv(12)[9:12], status)
                while tls.recv(1 << 16):
                    pass
        told = [answer["attempt"] for answer in self.asked.stream("doctor", {}) if "attempt" in answer]
        self.assertEqual([attempt["address"] for attempt in told], ["192.0.2.9"])
