"""Our joints on one page: what one part of the server asks of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from taky_twisted.routing.records import Kept, Record


class EventStore(Protocol):
    """Keep what the router must find again after a restart.

    Writing is behind: ``put`` and ``remove`` return at once, cost next to nothing and never raise; a write
    reaches the disk within half a second. For one kind and key the newest call wins. A store that cannot write
    (disk full, read-only, server away) says so once when that starts and once when it ends, and
    catches up by itself.
    """

    def open(self) -> Deferred[Kept]:
        """Open what is there, drop what has expired, and read everything once.

        The Deferred may have fired already; it fails with `StoreError` when the store cannot be used.
        """

    def put(self, record: Record) -> None:
        """Keep a record in place of an older one with its kind and key."""

    def remove(self, kind: type[Record], key: str) -> None:
        """Forget a record; one that is not there is no error."""

    def flush(self) -> Deferred[None]:
        """Fire when everything that was put or removed before is on disk (or failed to get there)."""

    def close(self) -> Deferred[None]:
        """Flush, then let go. Nothing may be called afterwards."""


class StoreError(Exception):
    """A store cannot be opened; the text tells the operator what to do."""
