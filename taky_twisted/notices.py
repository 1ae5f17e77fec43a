"""One log line per thing that somebody did, and not more of them than somebody can read."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel

from taky_twisted.identity.certificates import printable
from taky_twisted.logs import Logger

BURST = 50
"""Lines per window."""
WINDOW_SECONDS = 10


class Notices:
    """Log who came, left and was refused, rate-limited: who floods the server must not fill its disk as well."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._window = 0.0
        self._count = 0
        self.suppressed = 0
        """Lines that were not written, in all."""

    def say(self, format_: str, **fields: object) -> None:
        """Log a line at info, unless there were too many lately; how many were left out is said afterwards."""
        self._emit(LogLevel.info, format_, fields)

    def warn(self, format_: str, **fields: object) -> None:
        """Do as `say`, for what an operator should look into."""
        self._emit(LogLevel.warn, format_, fields)

    def _emit(self, level: LogLevel, format_: str, fields: dict[str, object]) -> None:
        now = self._clock.seconds()
        if not 0 <= now - self._window < WINDOW_SECONDS:
            left_out, self._window, self._count = self._count - BURST, now, 0
            if left_out > 0:
                self.log.info("{count} more lines of this kind were left out", count=left_out)
        self._count += 1
        if self._count <= BURST:
            # Names are what clients say: they must not forge lines, nor fill the screen.
            safe = {name: printable(value) if isinstance(value, str) else value for name, value in fields.items()}
            self.log.emit(level, format_, **safe)
        else:
            self.suppressed += 1
