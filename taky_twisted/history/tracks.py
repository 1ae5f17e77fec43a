"""Tracks that somebody recorded and hands in: KML in, positions out.

Expat reads, with everything refused that could make a document larger than it is. ``gx:Track`` is what ATAK exports
and TAK Server takes (``TracksKMLServlet.java``); other geometry has no times and is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Detail, Event
from taky_twisted.cot.times import format_time, parse_time
from taky_twisted.cot.xmlcodec import MAX_DEPTH, decode, position
from taky_twisted.routing.records import Groups

from .records import Heard

MAX_POINTS = 100_000
"""Positions of one upload."""
MAX_TEXT = 200
"""Characters of one time or place."""
FUTURE_SECONDS = 24 * 3600
"""How far a recording device's clock may be ahead."""
STALE_SECONDS = 375
"""How long a position counts as fresh; ATAK's own reports say so too."""

INFANTRY = "a-f-G-U-C-I"
"""What somebody is who does not say it (TAK Server's default too)."""

_UNKNOWN = "9999999.0"
_READ = ("when", "coord")


class BadTrack(Exception):
    """A document holds no track that can be read; the text says why."""


class TrackPoint(NamedTuple):
    """When somebody was where; what stands here was checked."""

    time: float
    """Seconds since the epoch."""
    lat: str
    lon: str
    hae: str


@dataclass(frozen=True, slots=True)
class Walker:
    """Who a track is of, as whoever hands it in says."""

    uid: str
    callsign: str
    type: str = INFANTRY
    team: str = ""
    role: str = ""


def read_tracks(document: bytes, now: float) -> list[TrackPoint]:
    """Read the positions of all tracks in a KML document; ``now`` is in seconds since the epoch.

    Raises:
        BadTrack: it is not well-formed, too large, or a time or place means nothing.
    """
    return [_point(when, coord, now) for when, coord in _Reader(document).points]


def positions(walker: Walker, points: Sequence[TrackPoint], groups: Groups) -> list[Heard]:
    """Make events of positions, which everybody in the groups may see.

    Raises:
        BadTrack: the uid, the callsign or something else of whose they are cannot stand in an event.
    """
    detail = Detail(callsign=walker.callsign, team=walker.team, role=walker.role)
    spelled = f"<contact callsign={quoteattr(walker.callsign)}/>"
    if walker.team or walker.role:
        spelled += f"<__group name={quoteattr(walker.team)} role={quoteattr(walker.role)}/>"
    root = f'<event version="2.0" uid={quoteattr(walker.uid)} type={quoteattr(walker.type)} how="m-g"'
    heard: list[Heard] = []
    for time, lat, lon, hae in points:
        sent, stale = format_time(time), format_time(time + STALE_SECONDS)
        xml = (
            f'{root} time="{sent}" start="{sent}" stale="{stale}"><point lat="{lat}" lon="{lon}" hae="{hae}"'
            f' ce="{_UNKNOWN}" le="{_UNKNOWN}"/><detail>{spelled}</detail></event>'
        ).encode()
        if not heard:  # what all of them share needs to be checked once
            try:
                decode(xml)
            except MalformedEvent as error:
                raise BadTrack(str(error)) from error
        event = Event(
            walker.uid,
            walker.type,
            "m-g",
            time,
            time,
            time + STALE_SECONDS,
            float(lat),
            float(lon),
            detail,
            PROLOG + xml,
        )
        heard.append(Heard(event, time, groups))
    return heard


def _point(when: str, coord: str, now: float) -> TrackPoint:
    numbers = coord.split()
    if not 2 <= len(numbers) <= 3:
        raise BadTrack(f"{coord[:40]!r} is no place: longitude, latitude and perhaps a height are wanted")
    lon, lat, hae = [*numbers, _UNKNOWN][:3]
    try:
        time, _ = parse_time(when)
        position(lat, lon, hae, _UNKNOWN, _UNKNOWN)
    except MalformedEvent as error:
        raise BadTrack(str(error)) from error
    if not 0 <= time <= now + FUTURE_SECONDS:
        raise BadTrack(f"nobody can have been anywhere at {when}")
    return TrackPoint(time, lat, lon, hae)


class _Reader:
    """One pass over a document: times and places of its tracks, as they are spelled."""

    def __init__(self, document: bytes) -> None:
        self.points: list[tuple[str, str]] = []
        self._depth = self._track_at = 0
        self._times: list[str] = []
        self._places: list[str] = []
        self._text: str | None = None
        # Not with a separator: expat would spell a namespace's name, which may be a megabyte, for every element.
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        try:
            parser.Parse(document, True)
        except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two say so of encodings
            raise BadTrack(f"not well-formed XML: {error}") from error

    def _start(self, name: str, _: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadTrack(f"over {MAX_DEPTH} elements inside each other")
        local = name.rpartition(":")[2]
        if self._track_at:
            if self._depth == self._track_at + 1 and local in _READ:
                self._text = ""
        elif local == "Track":
            self._track_at = self._depth
            self._times, self._places = [], []

    def _end(self, name: str) -> None:
        if self._text is not None and self._depth == self._track_at + 1:
            (self._times if name.endswith("when") else self._places).append(self._text.strip())
            self._text = None
            if len(self.points) + max(len(self._times), len(self._places)) > MAX_POINTS:
                raise BadTrack(f"over {MAX_POINTS} positions; hand them in in parts")
        elif self._depth == self._track_at:
            self._track_at = 0
            if len(self._times) != len(self._places):
                raise BadTrack(f"a track has {len(self._times)} times and {len(self._places)} places")
            # A place may be empty in KML: nobody knows where that was.
            self.points += [(when, place) for when, place in zip(self._times, self._places, strict=True) if place]
        self._depth -= 1

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text += text
            if len(self._text) > MAX_TEXT:
                raise BadTrack("a time or a place is too long")

    def _doctype(self, *_: object) -> None:
        raise BadTrack("document type declarations are refused")
