"""What history keeps of an event, and how it is asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, Protocol

from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import Principal
from taky_twisted.routing.records import Groups

MAX_EVENTS = 100_000
"""Events in one answer, where the question names no other number."""


class HistoryError(Exception):
    """History cannot be written or read, for a reason outside of this program."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        """What the operator can do, as a sentence."""


class HistoryBusy(Exception):
    """Too many look-ups wait already, or one takes too long; the text is for whoever asked."""


class Heard(NamedTuple):
    """An event that is to be kept."""

    event: Event
    time: float
    """When it was heard, seconds since the epoch by our clock: clients' clocks are often wrong."""
    groups: Groups
    """The groups that it was said to."""
    readers: tuple[str, ...] | None = None
    """The names of those who alone may see it; None for everybody in the groups."""


class Written(NamedTuple):
    """What became of a batch."""

    unfit: tuple[str, ...] = ()
    """What could not be kept although the disk is well, described: a bug of ours."""
    more: bool = False
    """Whether there is more to be forgotten: another call, even with an empty batch, goes on with that."""


class Moment(NamedTuple):
    """One kept event, as far as it was asked for."""

    uid: str
    type: str
    callsign: str
    time: float
    lat: float
    lon: float
    hae: float | None
    """Meters above the ellipsoid; None if that was not said."""
    xml: bytes = b""
    """The event as delivered, with its prolog; empty where only places were asked for."""


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the map, in degrees; one whose left is greater than its right crosses the date line."""

    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, and for whom: nothing is found that whoever asks may not see."""

    groups_out: Groups
    """The groups that whoever asks hears."""
    reader: str | None
    """Who that is proved to be; None for nobody."""
    start: float = -inf
    """The earliest time, seconds since the epoch."""
    end: float = inf
    """The latest time, seconds since the epoch."""
    uids: tuple[str, ...] = ()
    """Only these; empty for all."""
    types: tuple[str, ...] = ()
    """Only types that begin with one of these; empty for all."""
    without: tuple[str, ...] = ()
    """No types that begin with one of these."""
    box: Box | None = None
    """Only where the newest of a uid is in here; looked at by `Past.latest` alone."""
    limit: int = MAX_EVENTS
    """So many at most; what is newest is preferred."""

    @classmethod
    def of(cls, principal: Principal, **what: Any) -> Query:
        """Ask for somebody; the rest are fields, of which None means what it means to leave them out."""
        known = {name: value for name, value in what.items() if value is not None}
        return cls(principal.groups_out, principal.name, **known)


class Past(Protocol):
    """What is kept, open for looking things up; it exists only during `HistoryStore.read`, in that thread."""

    def events(self, query: Query) -> Iterator[Moment]:
        """Go through events, newest first."""

    def latest(self, query: Query) -> Iterator[Moment]:
        """Go through the newest event of each uid, newest first; uids that are asked for by name come in that order."""

    def places(self, query: Query) -> Iterator[Moment]:
        """Go through events without their XML, by uid, and for each uid in the order of time."""
