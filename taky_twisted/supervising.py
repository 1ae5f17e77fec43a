"""Start the workers of a server, and start again the one that ends: ``taky --workers N``.

::

    Supervisor -- starts, tells to stop --> Worker (a process) -- READY=1, as to systemd --> _Listening

Workers are started one after the other. What stops one from starting then (a file that is missing, a port that is
taken) would mostly stop all of them, and is said once. When all are started, none takes the others down any more.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol, ProcessProtocol
from twisted.python.failure import Failure

from taky_twisted.logs import Logger
from taky_twisted.notify import MICROSECONDS, Notifying
from taky_twisted.signals import Signals
from taky_twisted.supervised import SUPERVISOR
from taky_twisted.timekeeping import Timekeeping

FIRST_DELAY_SECONDS = 0.5
"""Before a worker that has ended is started again."""
MAX_DELAY_SECONDS = 30.0
"""The same for one that ends again and again; each time it is twice as long."""
STEADY_SECONDS = 30.0
"""Who has run for so long has not ended at once again."""
START_SECONDS = 30.0
"""How long a worker may take to be ready before the next one is started all the same."""
WATCHDOG_SECONDS = 60.0
"""A worker that serves and has said nothing for so long hangs: it would still be given its share of new clients."""
STOP_SECONDS = 15.0
"""How long workers may take to stop; a server needs five for what it still has to say."""
_SYSTEMDS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Supervisor(MultiService):
    """The parent of a server's processes; it serves nobody itself."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        count: int,
        failed: Callable[[], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Start nothing yet.

        Args:
            reactor: starts processes, and is stopped when one of them cannot start.
            command: what a worker is started with; its number is put behind it.
            count: how many there are to be.
            failed: is called when they cannot be started, before the reactor is stopped.
            environment: the variables of this process.
        """
        super().__init__()
        self._reactor, self._failed = reactor, failed
        self._environment = {name: value for name, value in environment.items() if name not in _SYSTEMDS}
        self._environment[SUPERVISOR] = str(os.getpid())
        self._environment["WATCHDOG_USEC"] = str(int(WATCHDOG_SECONDS * MICROSECONDS))
        self._notifying = Notifying(reactor, environment)
        self._folder: Path | None = None
        self._signals = Signals(reactor)
        self._stopped: Deferred[None] | None = None
        Timekeeping(reactor, []).setServiceParent(self)
        self.workers = [Worker(self, reactor, number, command) for number in range(1, count + 1)]

    def startService(self) -> None:
        super().startService()
        # The reactor must run: it learns of the end of processes, and sets signal handlers of its own before.
        self._reactor.callLater(0, self._start)

    def stopService(self) -> Deferred[None] | None:
        """Tell all workers to stop, and wait for that; who does not is killed."""
        stopped = super().stopService()
        running = [worker for worker in self.workers if worker.stop()]
        if not running:
            return self._over(stopped)
        self.log.info("{count} workers are told to stop", count=len(running))
        killing = self._reactor.callLater(STOP_SECONDS, self._kill)
        self._stopped = Deferred()
        self._stopped.addCallback(lambda _: killing.cancel() if killing.active() else None)
        return self._stopped.addCallback(lambda _: self._over(stopped))

    def _start(self) -> None:
        if not self.running:
            return
        self._signals.catch(signal.SIGHUP, self._hang_up)
        self._signals.catch(signal.SIGTERM, self._signals.stop_reactor)
        self._signals.catch(signal.SIGINT, self._signals.stop_reactor)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="taky-"))  # for its owner alone
            for worker in self.workers:
                address = str(self._folder / str(worker.number))
                self._reactor.listenUNIXDatagram(address, _Listening(worker), mode=0o600)
                worker.environment = {**self._environment, "NOTIFY_SOCKET": address}
        except (OSError, CannotListenError) as error:
            folder = tempfile.gettempdir()
            self.log.critical(
                "taky: cannot hear workers in {folder}: {error}; set TMPDIR to a folder with a short name in which this"
                " user may write",
                folder=folder,
                error=error,
            )
            self._fail()
            return
        self.workers[0].start()

    def ready(self, worker: Worker) -> None:
        """Go on with the next one, when one serves, or takes too long."""
        if not self.running:
            return
        following = self.workers[worker.number :]
        if following:
            if not following[0].started:
                following[0].start()
        elif not self._all_started:
            self.log.info("{count} workers are started", count=len(self.workers))
            self._notifying.setServiceParent(self)

    @property
    def _all_started(self) -> bool:
        return self._notifying.parent is not None

    def ended(self, worker: Worker, how: str, mistake: bool) -> None:
        """Start a worker again, or stop all if it is a mistake that keeps them from starting."""
        if not self.running:
            if self._stopped is not None and not any(each.runs for each in self.workers):
                stopped, self._stopped = self._stopped, None
                stopped.callback(None)
        elif mistake and not self._all_started:
            self.log.critical("worker {number} cannot be started; the server stops", number=worker.number)
            self._fail()
        else:
            self.log.warn(
                "worker {number} has ended ({how}); it is started again in {delay:g} seconds",
                number=worker.number,
                how=how,
                delay=worker.start_again(),
            )
            if any(each.was_ready for each in self.workers):
                self.ready(worker)  # it is not waited for: others serve, and what is wrong is not wrong everywhere

    def _fail(self) -> None:
        self._failed()
        self._signals.stop_reactor()

    def _hang_up(self) -> None:
        for worker in self.workers:
            worker.hang_up()

    def _kill(self) -> None:
        for worker in self.workers:
            if worker.runs:
                self.log.warn("worker {number} does not stop, and is killed", number=worker.number)
                worker.signal("KILL")

    def _over(self, stopped: Deferred[None] | None) -> Deferred[None] | None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._signals.let_go()
        return stopped


class Worker(ProcessProtocol):
    """One process of the server, from one start to the next."""

    def __init__(self, supervisor: Supervisor, reactor: Any, number: int, command: Sequence[str]) -> None:
        self._supervisor, self._reactor = supervisor, reactor
        self.number = number
        self._command = [*command, f"--worker={number}"]
        self.environment: dict[str, str] = {}
        self.started = False
        """Whether it was ever started."""
        self.was_ready = False
        """Whether it ever served."""
        self._serves = self._hangs_up = False
        self._began = 0.0
        self._delay = FIRST_DELAY_SECONDS
        self._timer: IDelayedCall | None = None  # until it must be ready, must say something, or is started again

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self.transport is not None

    def start(self) -> None:
        """Start it. It writes where this process writes."""
        self.started = True
        self._serves = self._hangs_up = False
        self._began = self._reactor.seconds()
        self._timer = self._reactor.callLater(START_SECONDS, self._is_slow)
        try:
            with open(os.devnull, "rb") as nothing:
                files = {0: nothing.fileno(), 1: 1, 2: 2}
                self._reactor.spawnProcess(self, self._command[0], self._command, self.environment, childFDs=files)
        except OSError as error:
            self._end_timer()
            self._supervisor.ended(self, f"no process: {error.strerror}", False)

    def start_again(self) -> float:
        """Start it after a while; return how long that is, in seconds."""
        if self._reactor.seconds() - self._began >= STEADY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        delay, self._delay = self._delay, min(2 * self._delay, MAX_DELAY_SECONDS)
        self._timer = self._reactor.callLater(delay, self.start)
        return delay

    def stop(self) -> bool:
        """Tell it to stop, or not to start again; return whether its end is to be waited for."""
        self._end_timer()
        self.signal("TERM")
        return self.runs

    def signal(self, name: str) -> None:
        """Send it a signal, if there is a process."""
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(name)

    def hang_up(self) -> None:
        """Send it SIGHUP, as soon as it serves: before it catches that, it would end by it."""
        if self._serves:
            self.signal("HUP")
        else:
            self._hangs_up = self.runs

    def told(self, state: bytes) -> None:
        """Take note of what it says of itself, as it would to systemd."""
        if not self.runs or state not in (b"READY=1", b"WATCHDOG=1"):
            return
        self._end_timer()
        self._timer = self._reactor.callLater(WATCHDOG_SECONDS / 2, self._is_late)
        if state == b"READY=1":
            self.was_ready = self._serves = True
            if self._hangs_up:
                self._hangs_up = False
                self.signal("HUP")
            self._supervisor.ready(self)

    def processEnded(self, reason: Failure) -> None:
        self._end_timer()
        self.transport = None
        self._serves = False
        number, status = reason.value.signal, reason.value.exitCode  # type: ignore[union-attr]  # ProcessTerminated
        how = f"signal {number}" if number is not None else f"exit status {status}"
        # Who says why it cannot start ends with a status; a crash is somebody's signal.
        self._supervisor.ended(self, how, not self.was_ready and bool(status))

    def _is_slow(self) -> None:
        # It is not killed: a large store may be brought up to date, and it gets no clients before it listens.
        self._supervisor.log.warn(
            "worker {number} does not serve yet after {seconds:g} seconds; it is left to go on, but not waited for",
            number=self.number,
            seconds=START_SECONDS,
        )
        self._supervisor.ready(self)

    def _is_late(self) -> None:
        # In two steps: a clock that is set ahead ends one of them at once, and nobody hangs for that.
        self._timer = self._reactor.callLater(WATCHDOG_SECONDS / 2, self._hangs)

    def _hangs(self) -> None:
        self._supervisor.log.warn(
            "worker {number} hangs: it has said nothing for {seconds:g} seconds",
            number=self.number,
            seconds=WATCHDOG_SECONDS,
        )
        self.signal("KILL")

    def _end_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


class _Listening(DatagramProtocol):
    """What a worker tells as it would tell systemd."""

    noisy = False

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        for state in datagram.split(b"\n"):
            self._worker.told(state)
