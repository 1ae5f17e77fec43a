"""The one place where the log level is decided."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

import twisted.logger
from twisted.logger import ILogObserver, LogEvent, LogLevel, textFileLogObserver
from zope.interface import provider

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


def worker_observer(number: int, make: Callable[[], ILogObserver] | None = None) -> ILogObserver:
    """Begin to log as one of several processes: each line says whose it is.

    Args:
        number: the process's.
        make: begins to log as a process that is alone does; by default as twistd does in the foreground.
    """
    observer = make() if make is not None else textFileLogObserver(sys.stdout)

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{_level_name(event)}"
        observer({**event, "log_system": f"worker {number}, {system}"})

    return cast(ILogObserver, observe)


def _level_name(event: LogEvent) -> str:
    level = event.get("log_level")
    return level.name if level is not None else "-"


class Logger(twisted.logger.Logger):
    """Twisted's logger, silent below the level that was set."""

    def emit(self, level: LogLevel, format: str | None = None, **kwargs: object) -> None:
        if level >= _threshold:
            super().emit(level, format, **kwargs)
