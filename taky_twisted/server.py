"""The whole server as one service: the order in which its parts start and stop."""

from __future__ import annotations

import atexit
import os
import resource
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from taky_twisted.background import logged, undeterred
from taky_twisted.data_folder import DataFolder, DataFolderError
from taky_twisted.doors import DoorError, Doors
from taky_twisted.interfaces import EventStore, StoreError
from taky_twisted.logs import Logger
from taky_twisted.reloading import Reloading
from taky_twisted.routing.recorder import Recorder
from taky_twisted.routing.router import Router
from taky_twisted.streaming.connections import Connections

if TYPE_CHECKING:
    from taky_twisted.api import Api
    from taky_twisted.identity.accounts import Accounts
    from taky_twisted.records import Kept

PRUNE_SECONDS = 10
"""How often what is stale is forgotten."""


class CannotStart(SystemExit, Exception):
    """The server cannot start; the text is for the operator.

    It ends the program without a traceback. It is an ordinary exception too, because of those alone twistd tells the
    process that waits for a daemon to be up: it would wait for ever.
    """


class Groundwork(Protocol):
    """What must be done between reading the store and opening the doors, and may take a while."""

    async def prepare(self) -> None:
        """Begin; the doors open when this is over."""

    async def finish(self) -> None:
        """End; the doors are closed, the store is open still."""


class Server(MultiService):
    """A TAK server. Starting it takes the data folder and the ports, or ends the program with one line why not."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        folder: DataFolder,
        store: EventStore,
        router: Router,
        recorder: Recorder | None,
        connections: Connections,
        doors: Doors,
        reloading: Reloading,
        api: Api | None = None,
        more: Sequence[Service] = (),
        accounts: Accounts | None = None,
        groundwork: Sequence[Groundwork] = (),
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._groundwork = groundwork
        self._folder, self._store, self._recorder = folder, store, recorder
        self.router, self.connections, self.doors = router, connections, doors
        self._reloading, self._api, self._accounts = reloading, api, accounts
        self._pruning = LoopingCall(undeterred(self.log, "forgetting what is stale", router.prune))
        self._pruning.clock = reactor
        self._signals: dict[signal.Signals, Any] = {}
        self._opening: Deferred[None] | None = None
        """The opening of a store that needs the reactor for that; the doors are held until it is over."""
        self._serving = False
        for service in (connections, doors, reloading, *([api] if api is not None else []), *more):
            service.setServiceParent(self)

    def privilegedStartService(self) -> None:
        with _one_line():
            # Whose ports are taken is less helpful to hear than whose folder this is.
            self._folder.check()
            super().privilegedStartService()

    def startService(self) -> None:
        with _one_line():
            self._folder.open()
            self.router.flow_tag += self._folder.server_id()
            outcome: list[Failure | None] = []
            opening = self._store.open().addCallback(self._restore)
            if self._groundwork:
                opening.addCallback(lambda _: Deferred.fromCoroutine(self._prepare()))
            opening.addBoth(outcome.append)
            if outcome and outcome[0] is not None:
                outcome[0].raiseException()
            _raise_file_limit()
            Service.startService(self)
            if outcome:
                self._serve()
            else:
                self._wait_for(opening, outcome)
        # The reactor puts its own signal functions in place when it starts: ours come after.
        self._reactor.callLater(0, self._catch_signals)

    def _serve(self) -> None:
        """Begin, now that everything that was kept is there."""
        self._serving = True
        if self._recorder is not None:
            self._recorder.start()
        for service in self:
            service.startService()
        self._pruning.start(PRUNE_SECONDS, now=False).addErrback(logged(self.log, "forgetting what is stale"))

    def _wait_for(self, opening: Deferred[None], outcome: list[Failure | None]) -> None:
        """Hold the doors until a store is open that needs the reactor for that."""

        def opened(_: None) -> None:
            if not self.running:
                return
            (failure,) = outcome
            if failure is not None:
                failure.raiseException()
            with _one_line():
                self._serve()

        def cannot(failure: Failure) -> None:
            if failure.check(StoreError, CannotStart):
                text = str(failure.value)
                self.log.critical("{error}", error=text if text.startswith("taky: ") else f"taky: {text}")
            else:
                self.log.failure("starting failed", failure)
            # twistd's own exit status is 0 whatever happens once the reactor runs.
            atexit.register(os._exit, 1)
            self._terminate()

        self.doors.hold()
        self._opening = opening
        opening.addCallback(opened).addErrback(cannot)

    def _restore(self, kept: Kept) -> None:
        self.router.restore(kept)
        if self._accounts is not None:
            self._accounts.restore(kept.accounts)
        if self._api is not None:
            self._api.restore(kept)

    async def _prepare(self) -> None:
        for work in self._groundwork:
            await work.prepare()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._pruning.running:
            self._pruning.stop()
        self.router.stop()
        if not self._serving:
            Service.stopService(self)
            await self.doors.stopService()
            if self._opening is not None:
                self._opening.cancel()
            await self._finish_groundwork()
            await self._store.close()
            self._folder.close()
            self._let_signals_go()
            return
        # The services stop in parallel: doors close at once, connections take their time to flush.
        await super().stopService()
        self.router.contacts.save()
        await self._finish_groundwork()
        if self._accounts is not None:
            self._accounts.stop()
        if self._recorder is not None:
            await self._recorder.stop()
        await self._store.close()
        self._folder.close()
        # Until here: who is told to stop twice would complain the second time.
        self._let_signals_go()

    async def _finish_groundwork(self) -> None:
        for work in reversed(self._groundwork):
            await work.finish()

    def _catch_signals(self) -> None:
        if not self.running:
            return
        if hasattr(signal, "SIGHUP"):
            self._on(signal.SIGHUP, self._reload)
        # Being told to stop is no failure: the reactor's own way would end the process by that signal.
        self._on(signal.SIGTERM, self._terminate)

    def _on(self, number: signal.Signals, call: Callable[[], object]) -> None:
        self._signals[number] = signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    def _let_signals_go(self) -> None:
        signals, self._signals = self._signals, {}
        for number, before in signals.items():
            signal.signal(number, before)

    def _terminate(self) -> None:
        with suppress(ReactorNotRunning):  # told twice, by a supervisor and by whoever passes it on
            self._reactor.stop()

    def _reload(self) -> None:
        if not self.running:
            return
        self._reloading.reload().addErrback(logged(self.log, "reading certificates again"))


class _one_line:  # reads as what it does
    """Turn what an operator can mend into one line and exit status 1."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (DataFolderError, StoreError, DoorError)):
            raise CannotStart(f"taky: {error}") from error


def _raise_file_limit() -> None:
    """Allow as many connections as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
