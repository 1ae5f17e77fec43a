"""What the process does when somebody sends it a signal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.error import ReactorNotRunning


class Signals:
    """Handlers of our own in place of the reactor's, which ends the process by the signal that told it to stop."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._before: dict[signal.Signals, Any] = {}

    def catch(self, number: signal.Signals, call: Callable[[], object]) -> None:
        """Call something in the reactor when a signal comes; only once that runs, for it sets its own as it starts."""
        self._before[number] = signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    def let_go(self) -> None:
        """Put back what was there before."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop_reactor(self) -> None:
        """End the process; told twice, by a supervisor and by a terminal, is as told once."""
        with suppress(ReactorNotRunning):
            self._reactor.stop()
