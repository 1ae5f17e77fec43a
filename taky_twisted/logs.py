"""The one place where the log level is decided."""

from __future__ import annotations

import twisted.logger
from twisted.logger import LogLevel

LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warning": LogLevel.warn,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}
"""What ``--log-level`` takes (taky's names and Twisted's)."""

_threshold = LogLevel.info


def set_level(name: str) -> None:
    """Log nothing of ours that matters less.

    Raises:
        ValueError: there is no such level.
    """
    global _threshold  # one process, one level, decided once at start
    try:
        _threshold = LEVELS[name.lower()]
    except KeyError:
        raise ValueError(f"{name!r} is no log level; allowed: {', '.join(LEVELS)}") from None


class Logger(twisted.logger.Logger):
    """Twisted's logger, silent below the level that was set."""

    def emit(self, level: LogLevel, format: str | None = None, **kwargs: object) -> None:
        if level >= _threshold:
            super().emit(level, format, **kwargs)
