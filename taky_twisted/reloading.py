"""Take new certificates and revocations into use while the server runs, without dropping anybody who may stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import LoopingCall

from taky_twisted.background import logged
from taky_twisted.identity.errors import EndpointError
from taky_twisted.logs import Logger
from taky_twisted.own_thread import OwnThread

if TYPE_CHECKING:
    from taky_twisted.identity.tls import MutualTLS

T = TypeVar("T")

LOOK_SECONDS = 2
"""How often the files are looked at."""


class Reloading(Service):
    """Read certificates, keys, revocation lists and the register again when they change, or on request (SIGHUP)."""

    log = Logger()

    def __init__(self, clock: IReactorTime, tls: Sequence[MutualTLS], reloaded: Callable[[], None]) -> None:
        """Describe what to watch.

        Args:
            clock: The reactor: for the interval, and it takes calls from threads.
            tls: what is read anew.
            reloaded: called afterwards, to close whom the new files refuse.
        """
        self._tls, self._reloaded = tls, reloaded
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        self._complained: set[MutualTLS] = set()
        # One thread, so that a request and the interval never read at the same time.
        self._thread = OwnThread("certificates", IReactorFromThreads(clock))
        self._reads = 0  # asked of the thread and not done

    def startService(self) -> None:
        super().startService()
        if self._tls:
            self._looking.start(LOOK_SECONDS, now=False).addErrback(logged(self.log, "looking for new certificates"))

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        if not self._reads:
            self._thread.stop()

    def reload(self) -> Deferred[None]:
        """Read everything again, changed or not."""
        self._complained.clear()
        return self._in_thread(lambda: self._read(self._tls))

    def _look(self) -> Deferred[None]:
        # Ended here, so that one failure does not end the looking: a revocation would go unnoticed.
        return self._in_thread(self._read_changed).addErrback(logged(self.log, "looking for new certificates"))

    def _in_thread(self, read: Callable[[], list[tuple[MutualTLS, str]]]) -> Deferred[None]:
        self._reads += 1
        reading = self._thread.run(read)
        reading.addBoth(self._is_over)
        return reading.addCallback(self._report)

    def _is_over(self, result: T) -> T:
        self._reads -= 1
        if not self._reads and not self.running:
            # Only now: stopping does not wait for a disk that hangs.
            self._thread.stop()
        return result

    def _read_changed(self) -> list[tuple[MutualTLS, str]]:
        return self._read([tls for tls in self._tls if tls.changed()])

    def _read(self, which: Sequence[MutualTLS]) -> list[tuple[MutualTLS, str]]:
        results = []
        for tls in which:
            try:
                tls.reload()
            except EndpointError as error:
                results.append((tls, str(error)))
            else:
                results.append((tls, ""))
        return results

    def _report(self, results: list[tuple[MutualTLS, str]]) -> None:
        for tls, problem in results:
            if not problem:
                self._complained.discard(tls)
                self.log.info("{door}: certificates and revocations were read again", door=tls.settings.name)
            elif tls not in self._complained:
                self._complained.add(tls)
                self.log.warn("{problem}; what was read before still counts", problem=problem)
        if results:
            self._reloaded()
