from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError, ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.supervised import SUPERVISOR
from taky_twisted.supervising import (
    FIRST_DELAY_SECONDS,
    MAX_DELAY_SECONDS,
    START_SECONDS,
    STEADY_SECONDS,
    STOP_SECONDS,
    WATCHDOG_SECONDS,
    Supervisor,
    Worker,
)
from taky_twisted.timekeeping import Timekeeping
from tests.fakes import LogLines

COMMAND = ("python", "-m", "taky", "-c", "taky.conf")


class FakeProcess:
    """A process that is told signals and does nothing."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self.arguments, self.environment = list(arguments), environment
        self.signals: list[str] = []
        self.gone = False

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(name)


class FakeReactor(Clock):
    """A reactor that starts no processes, and remembers which it was to start."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.listening: dict[str, Any] = {}
        self.stopped = 0
        self.fails: OSError | None = None
        self.cannot_listen = False

    def spawnProcess(
        self, protocol: Any, program: str, arguments: list[str], environment: dict[str, str], childFDs: dict[int, int]
    ) -> None:
        assert program == arguments[0]
        assert (childFDs[1], childFDs[2]) == (1, 2)
        if self.fails is not None:
            raise self.fails
        process = FakeProcess(arguments, environment)
        self.processes.append(process)
        protocol.makeConnection(process)

    def listenUNIXDatagram(self, address: str, protocol: Any, mode: int) -> None:
        if self.cannot_listen:
            raise CannotListenError(None, address, OSError("too long"))
        self.listening[address] = protocol

    def stop(self) -> None:
        self.stopped += 1

    def callFromThread(self, call: Any) -> None:
        self.callLater(0, call)


class SupervisorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.lines = LogLines(self)
        self.failed = 0
        folder = tempfile.mkdtemp(prefix="supervised-")
        self.addCleanup(shutil.rmtree, folder)
        self.patch(tempfile, "tempdir", folder)
        self.folder = Path(folder)

    def supervise(self, count: int = 3, **environment: str) -> Supervisor:
        """Start so many workers; the first is started at once."""

        def failed() -> None:
            self.failed += 1

        supervisor = Supervisor(self.reactor, COMMAND, count, failed, environment)
        supervisor.startService()
        self.addCleanup(self.end, supervisor)
        self.reactor.advance(0)
        return supervisor

    def end(self, supervisor: Supervisor) -> None:
        """Stop everything."""
        if supervisor.running:
            supervisor.stopService()
            for worker in supervisor.workers:
                if worker.runs:
                    self.exit(worker)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(list(self.folder.glob("taky-*")), [])

    def tell(self, worker: Worker, text: bytes) -> None:
        """Let a worker tell its state."""
        self.reactor.listening[worker.environment["NOTIFY_SOCKET"]].datagramReceived(text, None)

    def exit(self, worker: Worker, status: int | None = 0, number: int | None = None) -> None:
        """Let a worker's process end."""
        ended = ProcessDone(None) if status == 0 else ProcessTerminated(status, number)
        worker.processEnded(Failure(ended))

    def serving(self, count: int = 2, **environment: str) -> Supervisor:
        """Have so many workers that all serve."""
        supervisor = self.supervise(count, **environment)
        for worker in supervisor.workers:
            self.tell(worker, b"READY=1")
        return supervisor

    @property
    def started(self) -> list[str]:
        """The numbers with which processes were started."""
        return [process.arguments[-1] for process in self.reactor.processes]

    def test_one_after_the_other(self) -> None:
        """Each worker is started when the one before it serves; then the server is ready."""
        supervisor = self.supervise(3, PATH="/bin", NOTIFY_SOCKET="", WATCHDOG_PID="1", LISTEN_FDS="1")
        for number, worker in enumerate(supervisor.workers, 1):
            self.assertEqual(self.started, [f"--worker={each}" for each in range(1, number + 1)])
            self.assertNotIn("3 workers are started", self.lines())
            self.tell(worker, b"STATUS=hello\nREADY=1")
        self.assertIn("3 workers are started", self.lines())
        process = self.reactor.processes[0]
        self.assertEqual(process.arguments, [*COMMAND, "--worker=1"])
        self.assertEqual((process.environment["PATH"], process.environment[SUPERVISOR]), ("/bin", str(os.getpid())))
        self.assertEqual(process.environment.keys(), {"PATH", SUPERVISOR, "WATCHDOG_USEC", "NOTIFY_SOCKET"})
        self.tell(supervisor.workers[0], b"READY=1")
        self.assertEqual(len(self.reactor.processes), 3)

    def test_slow_worker(self) -> None:
        """A worker that takes long does not keep the others from starting."""
        self.supervise(2)
        self.reactor.advance(START_SECONDS - 1)
        self.assertEqual((len(self.reactor.processes), self.lines()), (1, []))
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.processes), 2)
        self.assertIn("worker 1 does not serve yet after 30 seconds", self.lines()[0])
        self.assertEqual(self.reactor.processes[0].signals, [])

    def test_mistake(self) -> None:
        """A worker that ends with an exit status before it ever served stops the whole, as a failure."""
        supervisor = self.supervise()
        self.exit(supervisor.workers[0], 1)
        self.assertEqual((self.failed, self.reactor.stopped, len(self.reactor.processes)), (1, 1, 1))
        self.assertIn("worker 1 cannot be started; the server stops", self.lines())

    def test_crash(self) -> None:
        """A worker that crashes is started again, each time later if that is at once; the others are left alone."""
        supervisor = self.serving()
        worker = supervisor.workers[1]
        delay = FIRST_DELAY_SECONDS
        for _ in range(8):
            count = len(self.reactor.processes)
            self.exit(worker, None, signal.SIGSEGV)
            self.reactor.advance(delay - 0.01)
            self.tell(supervisor.workers[0], b"WATCHDOG=1")
            self.assertEqual(len(self.reactor.processes), count)
            self.reactor.advance(0.01)
            self.assertEqual(self.started[count:], ["--worker=2"])
            delay = min(2 * delay, MAX_DELAY_SECONDS)
        self.assertIn("worker 2 has ended (signal 11); it is started again in 0.5 seconds", self.lines())
        self.tell(worker, b"READY=1")
        self.reactor.advance(STEADY_SECONDS)
        self.exit(worker, 1)
        self.assertIn("worker 2 has ended (exit status 1); it is started again in 0.5 seconds", self.lines())
        self.assertEqual((self.reactor.processes[0].signals, self.failed), ([], 0))

    def test_first_crash(self) -> None:
        """A worker that crashes before it ever served is started again, too: that is nobody's mistake."""
        supervisor = self.supervise()
        self.exit(supervisor.workers[0], None, signal.SIGKILL)
        self.reactor.advance(FIRST_DELAY_SECONDS)
        self.assertEqual((self.started, self.failed), (["--worker=1"] * 2, 0))

    def test_told_to_stop_itself(self) -> None:
        """A worker that somebody has told to stop is started again: there are to be so many."""
        supervisor = self.serving()
        self.exit(supervisor.workers[0], 0)
        self.reactor.advance(FIRST_DELAY_SECONDS)
        self.assertEqual(len(self.reactor.processes), 3)

    def test_hangs(self) -> None:
        """A worker that serves and says nothing any more is killed: it would be given clients for nothing."""
        supervisor = self.serving()
        for _ in range(5):
            self.reactor.advance(WATCHDOG_SECONDS / 2)
            self.tell(supervisor.workers[0], b"WATCHDOG=1")
        self.assertEqual([process.signals for process in self.reactor.processes], [[], ["KILL"]])
        self.assertIn("worker 2 hangs: it has said nothing for 60 seconds", self.lines())
        self.tell(supervisor.workers[0], b"STOPPING=1")

    def test_told_late(self) -> None:
        """What a process said that has ended since counts for nothing."""
        supervisor = self.supervise()
        self.exit(supervisor.workers[0], None, signal.SIGKILL)
        self.tell(supervisor.workers[0], b"READY=1")
        self.assertFalse(supervisor.workers[0].was_ready)

    def test_slow_mistake(self) -> None:
        """When all are started no worker takes the others down, whatever keeps it from serving."""
        supervisor = self.supervise(2)
        self.tell(supervisor.workers[0], b"READY=1")
        self.reactor.advance(START_SECONDS)
        self.assertIn("2 workers are started", self.lines())
        self.exit(supervisor.workers[1], 1)
        self.reactor.advance(FIRST_DELAY_SECONDS)
        self.assertEqual((self.failed, self.reactor.stopped, self.started[2:]), (0, 0, ["--worker=2"]))

    def test_crash_while_others_start(self) -> None:
        """A worker that crashes again and again before it serves does not keep those after it from starting."""
        supervisor = self.supervise(3)
        self.tell(supervisor.workers[0], b"READY=1")
        self.exit(supervisor.workers[1], None, signal.SIGKILL)
        self.assertEqual(self.started, ["--worker=1", "--worker=2", "--worker=3"])

    def test_clock_set(self) -> None:
        """A clock that is set, hours ahead or back, makes no worker hang, and none wait for hours."""
        supervisor = self.serving()
        self.reactor.advance(3600)
        self.assertEqual([process.signals for process in self.reactor.processes], [[], []])
        self.tell(supervisor.workers[0], b"WATCHDOG=1")
        self.reactor.advance(WATCHDOG_SECONDS / 2)
        self.assertEqual([process.signals for process in self.reactor.processes], [[], ["KILL"]])
        self.exit(supervisor.workers[1], None, signal.SIGKILL)
        (keeping,) = (each for each in supervisor if isinstance(each, Timekeeping))
        self.reactor.rightNow -= 3600
        keeping._difference += 3600
        keeping.look()
        self.reactor.advance(FIRST_DELAY_SECONDS + 0.01)
        self.assertEqual(self.started[2:], ["--worker=2"])

    def test_no_process(self) -> None:
        """Where the system has no room for a process it is tried again."""
        supervisor = self.serving()
        self.exit(supervisor.workers[0], None, signal.SIGKILL)
        self.reactor.fails = OSError(11, "Resource temporarily unavailable")
        self.reactor.advance(FIRST_DELAY_SECONDS)
        self.assertIn(
            "worker 1 has ended (no process: Resource temporarily unavailable); it is started again in 1 seconds",
            self.lines(),
        )
        self.reactor.fails = None
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.processes), 3)

    def test_no_files(self) -> None:
        """Nor does a worker stay away for good when no more files can be opened for a while."""
        supervisor = self.serving()
        self.exit(supervisor.workers[0], None, signal.SIGKILL)
        with self.patch_open():
            self.reactor.advance(FIRST_DELAY_SECONDS)
        self.assertEqual(len(self.reactor.processes), 2)
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.processes), 3)

    @contextlib.contextmanager
    def patch_open(self) -> Iterator[None]:
        """Allow no more files."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_stop(self) -> None:
        """All are told to stop, and waited for; none is started again."""
        supervisor = self.serving(3)
        self.exit(supervisor.workers[2], None, signal.SIGKILL)
        stopped = supervisor.stopService()
        assert stopped is not None
        self.assertEqual([process.signals for process in self.reactor.processes], [["TERM"], ["TERM"], []])
        self.exit(supervisor.workers[0])
        self.assertNoResult(stopped)
        self.exit(supervisor.workers[1])
        self.successResultOf(stopped)
        self.assertEqual(len(self.reactor.processes), 3)

    def test_does_not_stop(self) -> None:
        """Who does not stop is killed after a while."""
        supervisor = self.serving()
        stopped = supervisor.stopService()
        assert stopped is not None
        self.exit(supervisor.workers[0])
        self.reactor.processes[1].gone = True
        self.reactor.advance(STOP_SECONDS)
        self.assertEqual(self.reactor.processes[1].signals, ["TERM"])
        self.assertIn("worker 2 does not stop, and is killed", self.lines())
        self.assertNoResult(stopped)
        self.exit(supervisor.workers[1], None, signal.SIGKILL)
        self.successResultOf(stopped)

    def test_stop_early(self) -> None:
        """One that is stopped before it has started anything starts nothing, and is stopped at once."""
        supervisor = Supervisor(self.reactor, COMMAND, 2, lambda: None, {})
        supervisor.startService()
        supervisor.stopService()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.processes, [])

    def test_stop_while_starting(self) -> None:
        """What a worker said just before it was told to stop starts no further one."""
        supervisor = self.supervise(2)
        stopped = supervisor.stopService()
        assert stopped is not None
        self.tell(supervisor.workers[0], b"READY=1")
        self.assertEqual(self.started, ["--worker=1"])
        self.exit(supervisor.workers[0])
        self.successResultOf(stopped)

    def test_hang_up_while_starting(self) -> None:
        """SIGHUP would end a process that does not catch it yet: it gets it when it serves, and once."""
        supervisor = self.supervise(2)
        os.kill(os.getpid(), signal.SIGHUP)
        self.reactor.advance(0)
        first = self.reactor.processes[0]
        self.assertEqual(first.signals, [])
        for _ in range(2):
            self.tell(supervisor.workers[0], b"READY=1")
            self.assertEqual(first.signals, ["HUP"])
        os.kill(os.getpid(), signal.SIGHUP)
        self.exit(supervisor.workers[1], None, signal.SIGSEGV)
        self.reactor.advance(FIRST_DELAY_SECONDS)
        self.tell(supervisor.workers[1], b"READY=1")
        self.assertEqual(first.signals, ["HUP"] * 2)
        self.assertEqual(self.reactor.processes[-1].signals, [], "it has read everything since")

    def test_signals(self) -> None:
        """SIGHUP goes to all; SIGTERM and SIGINT stop the reactor, and are what they were afterwards."""
        before = [signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)]
        supervisor = self.serving()
        for number, stopped in ((signal.SIGHUP, 0), (signal.SIGTERM, 1), (signal.SIGINT, 2)):
            os.kill(os.getpid(), number)
            self.reactor.advance(0)
            self.assertEqual(self.reactor.stopped, stopped)
        self.assertEqual([process.signals for process in self.reactor.processes], [["HUP"], ["HUP"]])
        self.end(supervisor)
        after = [signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)]
        self.assertEqual(after, before)

    def test_no_folder(self) -> None:
        """Where workers cannot be heard nothing is started, and why is said."""
        self.reactor.cannot_listen = True
        self.supervise()
        self.assertEqual((self.failed, self.reactor.processes), (1, []))
        (line,) = (line for line in self.lines() if "cannot hear workers in" in line)
        self.assertIn("set TMPDIR to", line)

    def test_systemd(self) -> None:
        """Systemd is told when all workers serve."""
        folder = tempfile.mkdtemp(prefix="notify-")
        self.addCleanup(shutil.rmtree, folder)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(f"{folder}/s")
            systemd.setblocking(False)
            supervisor = self.supervise(2, NOTIFY_SOCKET=f"{folder}/s")
            self.tell(supervisor.workers[0], b"READY=1")
            self.reactor.advance(0)
            self.assertRaises(BlockingIOError, systemd.recv, 100)
            self.tell(supervisor.workers[1], b"READY=1")
            self.reactor.advance(0)
            self.assertEqual(systemd.recv(100), b"READY=1")
            self.end(supervisor)
            self.assertEqual(systemd.recv(100), b"STOPPING=1")
