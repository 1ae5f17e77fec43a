"""Our joints on one page: what one part of the server asks of another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.defer import Deferred

    from taky_twisted.cot.event import Event
    from taky_twisted.history.records import Heard, Past, Written
    from taky_twisted.records import Kept, Record
    from taky_twisted.routing.records import Groups
    from taky_twisted.routing.subscription import Subscription
    from taky_twisted.routing.words import Word

T = TypeVar("T")


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

    @property
    def state(self) -> StoreState:
        """How it is doing."""


@dataclass(frozen=True, slots=True)
class StoreState:
    """How a store is doing at one moment."""

    reason: str = ""
    """Why it cannot be written, with what to do; empty if it can, as far as that was tried."""
    since: float = 0.0
    """Since when not, in seconds since the epoch."""
    pending: int = 0
    """Changes that are not written yet."""
    written: float = 0.0
    """When something was written last, in seconds since the epoch; 0 if nothing was."""

    @property
    def writable(self) -> bool:
        """Whether the last attempt to write came off, if there was one."""
        return not self.reason


class StoreError(Exception):
    """A store cannot be opened; the text tells the operator what to do."""


class Witness(Protocol):
    """Is told of every event that is routed. It stands on the hot path: it must cost next to nothing, and not raise."""

    def heard(self, event: Event, groups: Groups, source: Subscription, now: float) -> None:
        """Take note of an event.

        Args:
            event: what was said; one for somebody in particular has explicit destinations.
            groups: the groups that it was said to.
            source: who said it.
            now: seconds since the epoch.
        """


class HistoryStore(Protocol):
    """Where what was said is kept, for days, and looked up. No call here ever waits in the reactor's thread.

    All Deferreds fail with `taky_twisted.history.records.HistoryError` when the disk, not this program, is at fault.
    """

    def write(self, batch: Sequence[Heard], now: float) -> Deferred[Written]:
        """Keep a batch, all of it or nothing, and forget some of what is too old or too much."""

    def read(self, reading: Callable[[Past], T]) -> Deferred[T]:
        """Look things up: ``reading`` runs in another thread and must not keep what it is given."""

    def close(self) -> Deferred[None]:
        """Let go. Nothing may be called afterwards."""


@dataclass(slots=True)
class Node:
    """One process of a server that has several."""

    instance: str
    """Names this run of the process; another run has another one."""
    name: str
    """For people: host and process, or what the operator calls it."""
    version: str = ""
    started: float = 0.0
    """Seconds since the epoch."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What it counts of itself, such as its connections."""


class Bus(Protocol):
    """Carries words between the nodes of one server, in the order in which each node tells them.

    Telling returns at once, costs next to nothing and never raises. While the bus is away, words of the protected kinds
    wait within bounds (seconds and bytes), and `BusListener.undelivered` is called for what can wait no longer;
    everything else is dropped, because `BusListener.back` makes up for it.
    """

    instance: str
    """Names this run of this process."""

    @property
    def nodes(self) -> Sequence[Node]:
        """The other nodes that are there."""

    @property
    def up(self) -> bool:
        """Whether words get through at the moment."""

    @property
    def crowded(self) -> bool:
        """Whether so much waits to be told that who has a lot more to tell, and no haste, does so later."""

    def tell(self, word: Word) -> None:
        """Tell all other nodes."""


class BusListener(Protocol):
    """What a bus tells the node that it belongs to; in the reactor's thread, one call after the other."""

    def heard(self, node: str, word: Word) -> None:
        """Take a word of another node (its instance id)."""

    def joined(self, node: Node) -> None:
        """Learn of another node, before its first word; or again, after it was thought gone."""

    def gone(self, node: Node, clean: bool) -> None:
        """Learn that a node has stopped (``clean``), or has not been heard for too long."""

    def missed(self, node: str) -> None:
        """Learn that words of another node were lost: it should be asked anew."""

    def back(self) -> None:
        """Learn that words get through, at the start or after an outage: others may lack what was told meanwhile."""

    def undelivered(self, word: Word) -> None:
        """Learn that a word of a protected kind never got out."""
