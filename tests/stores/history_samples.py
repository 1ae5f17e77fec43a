"""Events as history gets them, and a store that is asked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.history.records import Heard, Moment, Past, Query, Written
from taky_twisted.stores.history import SqliteHistory
from tests.samples import event, sa
from tests.threaded_clock import EPOCH, ThreadedClock

RED, BLUE = frozenset({"red"}), frozenset({"blue"})
DAY = 24 * 3600.0


def heard(
    uid: str = "A",
    document: bytes | None = None,
    *,
    at: float = 0,
    groups: frozenset[str] = RED,
    readers: tuple[str, ...] | None = None,
    callsign: str = "ALPHA",
) -> Heard:
    """Make something heard so many seconds after the beginning."""
    said = event(sa(uid, callsign, now=EPOCH + at) if document is None else document)
    return Heard(said, EPOCH + at, groups, readers)


def asked(*groups: str, reader: str | None = None, **what: Any) -> Query:
    """Ask as somebody who hears these groups."""
    return Query(frozenset(groups), reader, **what)


class Kept:
    """A `SqliteHistory` whose answers are waited for."""

    def __init__(
        self,
        test: SynchronousTestCase,
        path: Path | None = None,
        days: float = 7,
        max_bytes: int = 1 << 30,
        **more: Any,
    ) -> None:
        self.clock = ThreadedClock()
        self.path = path or Path(test.mktemp())
        self.store = SqliteHistory(self.path, self.clock, days * DAY, max_bytes, **more)
        self._closed = False
        test.addCleanup(self.close)

    def write(self, batch: Iterable[Heard] = (), at: float = 0) -> Written:
        """Write so many seconds after the beginning."""
        return self.clock.wait(self.store.write(list(batch), EPOCH + at))

    def look(self, reading: Callable[[Past], Iterable[Moment]]) -> list[Moment]:
        """Look something up."""
        return self.clock.wait(self.store.read(lambda past: list(reading(past))))

    def uids(self, query: Query) -> list[str]:
        """Find events, newest first."""
        return [moment.uid for moment in self.look(lambda past: past.events(query))]

    def close(self) -> None:
        """Close it."""
        if not self._closed:
            self._closed = True
            self.clock.wait(self.store.close())
