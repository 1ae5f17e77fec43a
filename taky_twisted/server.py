"""The whole server as one service: the order in which its parts start and stop."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

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
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._folder, self._store, self._recorder = folder, store, recorder
        self.router, self.connections, self.doors = router, connections, doors
        self._reloading, self._api, self._accounts = reloading, api, accounts
        self._pruning = LoopingCall(undeterred(self.log, "forgetting what is stale", router.prune))
        self._pruning.clock = reactor
        self._signals: dict[signal.Signals, Any] = {}
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
            failures: list[Failure] = []
            self._store.open().addCallback(self._restore).addErrback(failures.append)
            if failures:
                failures[0].raiseException()
            _raise_file_limit()
            if self._recorder is not None:
                self._recorder.start()
            super().startService()
        self._pruning.start(PRUNE_SECONDS, now=False).addErrback(logged(self.log, "forgetting what is stale"))
        # The reactor puts its own signal functions in place when it starts: ours come after.
        self._reactor.callLater(0, self._catch_signals)

    def _restore(self, kept: Kept) -> None:
        self.router.restore(kept)
        if self._accounts is not None:
            self._accounts.restore(kept.accounts)
        if self._api is not None:
            self._api.restore(kept)

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._pruning.running:
            self._pruning.stop()
        self.router.stop()
        # The services stop in parallel: doors close at once, connections take their time to flush.
        await super().stopService()
        self.router.contacts.save()
        if self._accounts is not None:
            self._accounts.stop()
        if self._recorder is not None:
            await self._recorder.stop()
        await self._store.close()
        self._folder.close()
        # Until here: who is told to stop twice would complain the second time.
        self._let_signals_go()

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
