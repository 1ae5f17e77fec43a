"""What is wrong with the server at the moment: each fault with its name, since when, and what to do."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool

from taky_twisted import __version__
from taky_twisted.background import logged, undeterred
from taky_twisted.logs import Logger

if TYPE_CHECKING:
    from taky_twisted.metrics.watched import Watched

LOOK_SECONDS = 5.0
"""How often the server is looked at, whether or not somebody asks."""
EXPIRY = timedelta(days=14)
"""How long before its end a door's certificate is a fault."""
FILES_SHARE = 0.9
"""Of the files and connections that the system allows, how many may be in use."""
LAG_SECONDS = 2.0
"""How late the reactor may be."""

Severity = Literal["degraded", "unhealthy"]

FAULTS = ("store", "history", "bus", "certificate", "door", "files", "lag", "clock")
"""All that are looked for, in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong."""

    name: str
    severity: Severity
    """``degraded``: clients are served, and somebody should act soon; ``unhealthy``: they are not, or not for long."""
    what: str
    do: str
    since: float = 0.0
    """In seconds since the epoch; 0: since it was seen first."""


class Health(Service):
    """Look at the server now and then, so that it is known since when something is wrong."""

    log = Logger()

    def __init__(self, watched: Watched, reactor: Any, files: Callable[[], tuple[int, int]] | None = None) -> None:
        """Look at nothing yet.

        Args:
            watched: the server.
            reactor: tells the time, and has threads.
            files: counts open files and how many there may be; it is called in a thread.
        """
        self._watched, self._reactor = watched, reactor
        self._files = files or open_files
        self._since: dict[str, float] = {}
        self._faults: list[Fault] = []
        self._looking = LoopingCall(undeterred(self.log, "looking for faults", self.look))
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._looking.start(LOOK_SECONDS).addErrback(logged(self.log, "looking for faults"))

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    @property
    def present(self) -> Mapping[str, bool]:
        """Every fault that there may be, and whether it was there at the last look."""
        there = {fault.name for fault in self._faults}
        return {name: name in there for name in FAULTS}

    def look(self) -> Deferred[list[Fault]]:
        """Find out what is wrong now."""
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, self._files).addCallback(self._found)

    def _found(self, files: tuple[int, int]) -> list[Fault]:
        now = self._reactor.seconds()
        faults = list(_faults(self._watched, now, *files))
        since = self._since
        self._since = {fault.name: fault.since or since.get(fault.name, now) for fault in faults}
        self._faults = [
            Fault(fault.name, fault.severity, fault.what, fault.do, self._since[fault.name]) for fault in faults
        ]
        return self._faults


def report(faults: list[Fault], now: float) -> tuple[int, dict[str, Any]]:
    """Make an HTTP status and a document of what is wrong."""
    severities = {fault.severity for fault in faults}
    status = "unhealthy" if "unhealthy" in severities else "degraded" if severities else "healthy"
    told = [
        {
            "name": fault.name,
            "severity": fault.severity,
            "since": _spelled(fault.since),
            "what": fault.what,
            "do": fault.do,
        }
        for fault in faults
    ]
    document = {"status": status, "version": __version__, "time": _spelled(now), "faults": told}
    return 503 if status == "unhealthy" else 200, document


def open_files() -> tuple[int, int]:
    """Count open files and connections, and how many there may be. It looks into a folder, and takes its time."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)), allowed
        except FileNotFoundError:
            continue
        except OSError:
            return allowed, allowed  # not even one more can be opened
    return 0, allowed


def _faults(watched: Watched, now: float, open_now: int, allowed: int) -> Iterator[Fault]:
    store = watched.store()
    if not store.writable:
        yield Fault(
            "store",
            "unhealthy",
            f"the store cannot be written, {store.pending} changes wait in memory: {store.reason}",
            "Mend that; the server goes on by itself. Do not restart it before: that would lose the changes.",
            store.since,
        )
    if watched.history is not None and watched.history.trouble:
        yield Fault(
            "history",
            "degraded",
            f"not all of history is kept: {watched.history.trouble}",
            "Mend that; the server goes on by itself. Routing does not need history.",
        )
    if watched.bus is not None and not watched.bus.up:
        yield Fault(
            "bus",
            "unhealthy",
            "the bus is away: clients of this node neither hear those of others nor are heard by them",
            "See whether Redis runs and can be reached; the server joins the others again by itself.",
        )
    yield from _certificates(watched, datetime.fromtimestamp(now, timezone.utc))
    if shut := watched.shut():
        yield Fault("door", "unhealthy", f"not open: {', '.join(shut)}", "Look into the log for why; then restart.")
    if open_now >= allowed * FILES_SHARE:
        yield Fault(
            "files",
            "unhealthy",
            f"{open_now} of {allowed} files and connections are open; soon nobody more can connect",
            "Allow more (LimitNOFILE= in the unit of systemd, ulimit -n), or lower max_connections.",
        )
    lag = watched.pulse.worst
    if lag > LAG_SECONDS:
        yield Fault(
            "lag",
            "unhealthy",
            f"the server was {lag:.1f} s late within the last half minute; everybody waits for so long",
            "See what else this machine does, and whether memory is swapped out; else there are too many clients for"
            " one process.",
        )
    jump = watched.pulse.jump
    if jump:
        yield Fault(
            "clock",
            "unhealthy",
            f"the system's clock was set {'ahead' if jump > 0 else 'back'} by {abs(jump):.0f} s a moment ago",
            "Nothing, if it is right now (date -u). If this comes again, see who sets it: timedatectl.",
        )


def _certificates(watched: Watched, now: datetime) -> Iterator[Fault]:
    ending = {door: end for door, end in watched.certificates().items() if end - now < EXPIRY}
    if ending:
        words = ", ".join(
            f"{door} ({'ended' if end <= now else 'ends'} on {end:%Y-%m-%d %H:%M} UTC)" for door, end in ending.items()
        )
        yield Fault(
            "certificate",
            "degraded",
            f"the certificate that clients are shown ends soon, or has ended, at {words}",
            "takyctl renew-server makes a new one; the server takes it into use by itself.",
        )


def _spelled(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
