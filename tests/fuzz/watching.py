"""What the server writes to its log as its own mistake: a fuzz target must cause none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer


@implementer(ILogObserver)
class Mistakes:
    """Collects them."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event or event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure")
            self.found.append(f"{formatEvent(event)}\n{failure.getTraceback() if failure else ''}")


@contextmanager
def no_mistakes() -> Iterator[None]:
    """Fail if the server finds a mistake of its own in the meantime."""
    mistakes = Mistakes()
    globalLogPublisher.addObserver(mistakes)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(mistakes)
    assert not mistakes.found, "\n".join(mistakes.found)
