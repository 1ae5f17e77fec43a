"""The end of every Deferred that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure


def logged(log: Logger, what: str) -> Callable[[Failure], None]:
    """Make an errback that reports a failure nobody waits for as a bug in what was being done."""

    def report(failure: Failure) -> None:
        log.failure("{what} failed", failure, what=what)

    return report
