"""Versions of what nodes share: which of two is newer, whichever node made them.

A version is 27 digits: microseconds since the epoch, 17 of them, and a number of the process that made it. Whoever has
seen a version makes newer ones, even if its clock is behind. So a change that was made after another one was known is
newer than that one, and of two that nobody can order the clocks decide, then the numbers: every node alike.
"""

from __future__ import annotations

import re
import secrets

from twisted.internet.interfaces import IReactorTime

MICRO = 1_000_000
_TIME_DIGITS, _WHO_DIGITS = 17, 10
_VERSION = re.compile(f"[0-8][0-9]{{{_TIME_DIGITS + _WHO_DIGITS - 1}}}")  # up to the year 4821: there is always a newer


class Versions:
    """Makes the versions of one process. Digits only: Redis compares texts as its machine's language does."""

    def __init__(self, clock: IReactorTime, who: int | None = None) -> None:
        """Have seen none yet.

        Args:
            clock: tells seconds since the epoch.
            who: the process's number, below 10 ** 10; any by default.
        """
        self._clock = clock
        self._who = f"{secrets.randbelow(10**_WHO_DIGITS) if who is None else who:0{_WHO_DIGITS}}"
        self._last = 0

    def saw(self, version: str) -> None:
        """Learn of a version, to make newer ones from now on."""
        self._last = max(self._last, _time_of(version))

    def next(self) -> str:
        """Make a version that is newer than all that were seen or made."""
        self._last = max(self._last + 1, int(self._clock.seconds() * MICRO))
        return self._spelled(self._last)

    def at(self, seconds: float, after: str | None = None) -> str:
        """Make the version of a change that was made at some time, and after another version."""
        time = max(int(seconds * MICRO), 0 if after is None else _time_of(after) + 1)
        self._last = max(self._last, time)
        return self._spelled(time)

    def _spelled(self, time: int) -> str:
        return f"{time:0{_TIME_DIGITS}}{self._who}"


def is_version(text: str) -> bool:
    """Whether a text is a version."""
    return _VERSION.fullmatch(text) is not None


def seconds_of(version: str) -> float:
    """Tell when a version was made, about, in seconds since the epoch."""
    return _time_of(version) / MICRO


def _time_of(version: str) -> int:
    return int(version[:_TIME_DIGITS])
