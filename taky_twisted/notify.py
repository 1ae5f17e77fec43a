"""Tell systemd how the server is: that it is ready, that it lives, that it stops.

Source: ``sd_notify(3)``, ``sd_watchdog_enabled(3)``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from taky_twisted.background import logged, undeterred
from taky_twisted.logs import Logger
from taky_twisted.supervised import SUPERVISOR

MICROSECONDS = 1_000_000


def notify(address: str, state: str) -> None:
    """Tell a state to whoever listens at a unix socket; ``@`` stands for one that is in no folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as caller:
        # It is taken at once or not at all: what systemd cannot take now must not hold up the server.
        caller.setblocking(False)
        caller.connect("\0" + address[1:] if address.startswith("@") else address)
        caller.send(state.encode())


class Notifying(Service):
    """Tell systemd, if it is systemd that started us. It has to start after everything else."""

    log = Logger()

    def __init__(self, clock: IReactorTime, environment: Mapping[str, str] = os.environ) -> None:
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._who = "the process that started this one" if environment.get(SUPERVISOR) else "systemd"
        # A watchdog that waits for another process does not wait for us.
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if ours else ""
        self._watchdog = int(microseconds) / MICROSECONDS if microseconds.isdigit() else 0.0
        self._living = LoopingCall(undeterred(self.log, "telling systemd", lambda: self._tell("WATCHDOG=1")))
        self._living.clock = clock

    def startService(self) -> None:
        super().startService()
        if not self._address:
            return
        # In the reactor's first turn: it runs, and answers from now on.
        self._clock.callLater(0, self._ready)

    def stopService(self) -> None:
        super().stopService()
        if self._living.running:
            self._living.stop()
        if self._address:
            self._tell("STOPPING=1")

    def _ready(self) -> None:
        if not self.running:
            return
        self._tell("READY=1")
        if self._watchdog:
            self._living.start(self._watchdog / 2).addErrback(logged(self.log, "telling systemd"))

    def _tell(self, state: str) -> None:
        try:
            notify(self._address, state)
        except OSError as error:
            reason = error.strerror or str(error)
            self.log.warn("{who} cannot be told {state}: {reason}", who=self._who, state=state, reason=reason)
