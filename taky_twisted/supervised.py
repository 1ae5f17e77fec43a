"""A worker's side of `taky --workers N`: it ends with whoever has started it, however that ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from taky_twisted.background import logged
from taky_twisted.logs import Logger

SUPERVISOR = "TAKY_SUPERVISOR"
"""The variable with the number of the process that has started this one."""
LOOK_SECONDS = 1.0


class Supervised(Service):
    """Stop when the parent is gone: workers that nobody stops would keep ports and folders from the next start."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        stop: Callable[[], object],
        environment: Mapping[str, str] = os.environ,
        parent: Callable[[], int] = os.getppid,
    ) -> None:
        """Look at nothing yet.

        Args:
            clock: tells the time.
            stop: ends this process.
            environment: its variables.
            parent: tells its parent.
        """
        self._stop, self._parent = stop, parent
        self._supervisor = environment.get(SUPERVISOR, "")
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def startService(self) -> None:
        super().startService()
        if self._supervisor:
            # Not at once: a reactor that does not run yet cannot be stopped.
            self._looking.start(LOOK_SECONDS, now=False).addErrback(
                logged(self.log, "looking for the process that started this")
            )

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        if str(self._parent()) != self._supervisor:
            self.log.warn("the process that started this worker is gone; it stops, too")
            self._looking.stop()
            self._stop()
