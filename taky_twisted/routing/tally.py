"""What is said and heard, counted: plain numbers beside the way of an event, for whoever looks at them now and then."""

from __future__ import annotations

from bisect import bisect_left

from taky_twisted.cot.event import Event
from taky_twisted.cot.types import DELETE

KINDS = ("position", "marker", "chat", "emergency", "delete", "file_offer", "other")
"""What is told apart. A position is what a client says of itself, with ``<takv>``; a marker is anything else that is on
the map."""
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Where the classes of `Latency` end, in seconds; of all larger ones there is one more."""
MAX_TYPES = 500
"""Types of events whose kind is remembered, each of at most `TYPE_CHARS` characters; what type is said is up to
clients."""
TYPE_CHARS = 64

_PREFIXES = (
    ("b-t-f", "chat"),  # and its receipts
    ("b-a-", "emergency"),
    ("b-f-t-", "file_offer"),
    ("a-", "marker"),
    ("b-m-", "marker"),
    ("b-i-v", "marker"),
    ("b-r-", "marker"),
    ("u-", "marker"),
)


class Kind:
    """Events of one kind that came in and could be read."""

    __slots__ = ("heard", "refused")

    def __init__(self) -> None:
        self.heard = 0
        """All of them."""
        self.refused = 0
        """Those among them that were not passed on, because their sender may not say that."""


class Types(dict[str, Kind]):
    """Which kind a type is of. What is not remembered is found out each time."""

    def __init__(self, kinds: dict[str, Kind]) -> None:
        super().__init__()
        self._kinds = kinds

    def __missing__(self, type_: str) -> Kind:
        kind = self._kinds[kind_of(type_)]
        if len(self) < MAX_TYPES and len(type_) <= TYPE_CHARS:
            self[type_] = kind
        return kind


class Latency:
    """How long things took, as a histogram."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """How many fall into each class."""
        self.total = 0.0
        """Seconds of all of them."""

    def observe(self, seconds: float) -> None:
        """Take one more into account; a negative one was measured while the clock was set, and does not count."""
        if seconds >= 0:
            self.counts[bisect_left(BOUNDS, seconds)] += 1
            self.total += seconds


class Tally:
    """The counters of one router and of the connections that speak and hear there."""

    def __init__(self) -> None:
        self.kinds = {name: Kind() for name in KINDS}
        self.types = Types(self.kinds)
        """The kind of each type of events that have no ``<takv>``."""
        self.positions = self.kinds["position"]
        """The kind of those that have."""
        self.unreadable = 0
        """What came in place of an event and could not be read."""
        self.delivered = 0
        """Events that were handed to who hears them, one for each of those. Monitors do not count, nor what newcomers
        are shown."""
        self.thinned = 0
        """Events that a slow reader did not get, because newer ones were there before it read on."""
        self.waited = {"overflow": 0, "stalled": 0}
        """Events that waited for a client when it was closed, by why it was closed. What was directed among them is
        handed on or kept, and may yet arrive."""
        self.closed = {"overflow": 0, "stalled": 0, "idle": 0}
        """Clients that were closed: too much waited for them, they took nothing, they were silent."""
        self.latency = Latency()
        """From the arrival of what was said until it was handed to the transports of those who hear it."""

    def of(self, event: Event) -> Kind:
        """Tell where an event counts. `TAKStream.dataReceived` does the same without a call."""
        return self.positions if event.detail.takv is not None else self.types[event.type]

    def was_closed(self, reason: str, waiting: int) -> None:
        """Count a client that is closed with what waited for it."""
        self.closed[reason] += 1
        if reason in self.waited:
            self.waited[reason] += waiting


def kind_of(type_: str) -> str:
    """Name the kind of events of a type that have no ``<takv>``."""
    if type_ == DELETE:
        return "delete"
    return next((kind for prefix, kind in _PREFIXES if type_.startswith(prefix)), "other")
