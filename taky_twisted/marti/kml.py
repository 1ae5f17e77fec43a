"""KML in and out: tracks to and from ATAK, and links for Google Earth.

Sources: TAK Server ``MissionKMLServlet.java``, ``TracksKMLServlet.java``, ``LatestKMLServlet.java``,
``KmlMasterSaServlet.java``; ATAK-CIV searches and exports tracks with the first two, CloudTAK with the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime

from taky_twisted.history.documents import Build
from taky_twisted.history.kml import ROUTE, Writer, kml, kmz, write_links, write_place, write_route, write_tracks
from taky_twisted.history.records import Past, Query
from taky_twisted.history.tracks import INFANTRY, BadTrack, TrackPoint, Walker, positions, read_tracks
from taky_twisted.marti.answers import Answers
from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.replies import EMPTY, Reply, date
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from taky_twisted.routing.records import Groups

KML_TYPE, KMZ_TYPE = "application/vnd.google-earth.kml+xml", "application/vnd.google-earth.kmz"
TRACKS_BYTES = 16 << 20
"""Of a document with tracks."""
ADD_POINTS = 1000
"""Positions of a track that are made and kept at once."""
MAX_PLACES = 200_000
"""Positions in one document: a week of somebody who reported all the time."""
RECENT_SECONDS = 3600
"""What is shown as the latest, unless it is said how recent that is."""
REFRESH_SECONDS = 60
"""How often what is linked is loaded again, unless that is said."""
MAX_SECONDS = 366 * 24 * 3600
NOT_EXPORTED = ("b-t-f", "b-f-t-r", "b-f-t-a", ROUTE)
"""Chat and offers of files; routes are exported in their own way."""
LINKS = (("Friendlies", "a-f"), ("Neutrals", "a-n"), ("Unknowns", "a-u"), ("Hostiles", "a-h"), ("Routes", ROUTE))

_TYPE = re.compile(r"a-[A-Za-z0-9.-]{1,100}")


class KmlArea:
    """Where everybody was, as KML."""

    def __init__(self, clock: IReactorTime, answers: Answers) -> None:
        self._clock, self._answers = clock, answers

    @route("/Marti/ExportMissionKML", "GET", "POST")
    async def export(self, request: MartiRequest) -> Reply:
        """Show the tracks, places and routes of a time."""
        arguments = request.form()
        start, end = _times(request)
        gap = arguments.number("multiTrackThreshold", low=0, high=MAX_SECONDS)
        name = date(start)
        zipped = (arguments.one("format") or "kml").lower() == "kmz"
        query = Query.of(request.principal, start=start, end=end, uids=tuple(dict.fromkeys(arguments.all("uid"))))
        if groups := frozenset(arguments.all("groups")):
            query = replace(query, groups_out=query.groups_out & groups)

        def build(past: Past) -> Build:
            def write(writer: Writer, full: Callable[[], bool]) -> int:
                places = past.places(replace(query, without=NOT_EXPORTED, limit=MAX_PLACES))
                count = write_tracks(writer, places, None if gap is None else gap * 60, full)
                return count + _write_routes(writer, past, query, full)

            document = kml(name, write, MAX_PLACES)
            return kmz(document) if zipped else document

        document = await self._answers.document(build)
        ending, content_type = ("kmz", KMZ_TYPE) if zipped else ("kml", KML_TYPE)
        return await self._answers.send(request, document, content_type, _named(f"{name.replace(':', '-')}.{ending}"))

    @route("/Marti/LatestKML")
    async def latest(self, request: MartiRequest) -> Reply:
        """Show where everybody and everything of a type was last."""
        arguments = request.arguments
        type_ = arguments.one("cotType") or ""
        seconds = arguments.count("secago", RECENT_SECONDS, high=MAX_SECONDS)
        query = Query.of(request.principal, start=self._clock.seconds() - seconds, types=(type_,) if type_ else ())

        def build(past: Past) -> Build:
            def write(writer: Writer, full: Callable[[], bool]) -> int:
                count = 0
                for moment in past.latest(replace(query, without=NOT_EXPORTED)):
                    if full():
                        break
                    write_place(writer, moment)
                    count += 1
                return count + _write_routes(writer, past, query, full)

            return kml(type_ or "TAK", write, query.limit)

        document = await self._answers.document(build)
        return await self._answers.send(request, document, KML_TYPE, _named("TAK-Latest.kml"))

    @route("/Marti/KmlMasterSA")
    async def links(self, request: MartiRequest) -> Reply:
        """Link to all of that, so that Google Earth keeps itself up to date."""
        seconds = request.arguments.count("secago", 0, high=MAX_SECONDS)
        base = f"{request.base_url}/Marti/LatestKML?secago={seconds or RECENT_SECONDS}&cotType="
        links = [(name, base + quote(type_)) for name, type_ in LINKS]

        def write(writer: Writer, _: Callable[[], bool]) -> int:
            return write_links(writer, links, seconds or REFRESH_SECONDS)

        def build(_: Past) -> Build:
            return kml("TAK", write, MAX_PLACES)

        document = await self._answers.document(build)
        return await self._answers.send(request, document, KML_TYPE, _named("TAK-Master-Links.kml"))

    @route("/Marti/TracksKML", "POST", body=TRACKS_BYTES)
    async def take_tracks(self, request: MartiRequest) -> Reply:
        """Keep tracks that somebody recorded as positions of a uid."""
        arguments, principal, now = request.arguments, request.principal, self._clock.seconds()
        walker = Walker(
            arguments.text("uid"),
            arguments.text("callsign"),
            arguments.one("cotType") or INFANTRY,
            arguments.one("groupName") or "",
            arguments.one("groupRole") or "",
        )
        if not _TYPE.fullmatch(walker.type):
            raise BadRequest("cotType is no type of a unit")
        try:
            points: list[TrackPoint] = await self._answers.read(lambda _: read_tracks(request.data, now))
            if not points:
                raise BadTrack("there is no gx:Track with times and places in that document")
            for at in range(0, len(points), ADD_POINTS):
                await self._add(walker, points[at : at + ADD_POINTS], principal.groups_in)
        except BadTrack as error:
            raise BadRequest(str(error)) from error
        return EMPTY

    async def _add(self, walker: Walker, points: Sequence[TrackPoint], groups: Groups) -> None:
        heard = await self._answers.read(lambda _: positions(walker, points, groups))
        with self._answers.told_to_the_client():
            await self._answers.history.add(heard)


def _times(request: MartiRequest) -> tuple[float, float]:
    """Find which time is asked about: its start and end, or one of them and how many hours it takes."""
    arguments = request.arguments
    start, end = arguments.time("startTime"), arguments.time("endTime")
    hours = arguments.number("interval", low=0, high=MAX_SECONDS / 3600)
    if start is not None and end is not None:
        return start, end
    if start is not None and hours is not None:
        return start, start + hours * 3600
    if end is not None and hours is not None:
        return end - hours * 3600, end
    raise BadRequest("startTime and endTime are wanted, or one of them and interval")


def _write_routes(writer: Writer, past: Past, query: Query, full: Callable[[], bool]) -> int:
    if query.types and not any(ROUTE.startswith(type_) or type_.startswith(ROUTE) for type_ in query.types):
        return 0
    count = 0
    types = tuple(type_ for type_ in query.types if type_.startswith(ROUTE)) or (ROUTE,)
    for moment in past.latest(replace(query, types=types)):
        if full():
            break
        count += write_route(writer, moment)
    return count


def _named(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
