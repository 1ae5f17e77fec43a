"""What of a running server is looked at: a front door knows no other, so that somebody else puts this together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from taky_twisted.interfaces import Bus, StoreState
from taky_twisted.metrics.pulse import Pulse
from taky_twisted.metrics.refusals import Refusals
from taky_twisted.routing.router import Router

if TYPE_CHECKING:
    from datetime import datetime

    from taky_twisted.identity.failures import Failures


class HistoryState(Protocol):
    """How history is doing; `taky_twisted.history.keeper.History` is one."""

    lost: int

    @property
    def trouble(self) -> str: ...
    @property
    def queued(self) -> int: ...


class WordCounts(Protocol):
    """How many words a bus has carried; `taky_twisted.bus.tally.Tally` is one."""

    told: int
    heard: int
    dropped: int
    undelivered: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What the doors count."""

    handshakes: int = 0
    """TLS handshakes that have begun and not ended."""
    handshaken: int = 0
    """Those that came about, in all."""
    http: int = 0
    """Open HTTP connections."""
    left_out: int = 0
    """Log lines that were not written."""


@dataclass
class Watched:
    """The parts of a server."""

    router: Router
    failures: Failures
    refusals: Refusals
    pulse: Pulse
    store: Callable[[], StoreState]
    counts: Callable[[], Counts] = Counts
    shut: Callable[[], Sequence[str]] = list
    """Names doors that are not open."""
    certificates: Callable[[], Mapping[str, datetime]] = dict
    """When the certificate ends that a TLS door shows, by the door's name."""
    clients: set[tuple[str, ...]] = field(default_factory=set)
    """The doors and protocols for which a number of clients is told, 0 if there are none any more."""
    answered: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """HTTP requests by route and status."""
    history: HistoryState | None = None
    bus: Bus | None = None
    """What joins the nodes, if there are several."""
    words: WordCounts | None = None
    """What it has carried."""
