"""What happens to failures that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure


def logged(log: Logger, what: str) -> Callable[[Failure], None]:
    """Make an errback that reports a failure nobody waits for as a bug in what was being done."""

    def report(failure: Failure) -> None:
        log.failure("{what} failed", failure, what=what)

    return report


def undeterred(log: Logger, what: str, call: Callable[[], object]) -> Callable[[], Deferred[object]]:
    """Make of a periodic duty one that is reported when it fails and done again the next time all the same."""
    return lambda: maybeDeferred(call).addErrback(logged(log, what))
