"""``/Marti/api/cot``: what is known of a uid, what it said before, and where everybody was.

Sources: TAK Server ``sync/api/CotApi.java``; ATAK-CIV ``android/cot/GetCotEventOperation.java`` (a single event) and
``android/track/http/GetCotHistoryOperation.java`` (all of a uid); PyTAK ``classes.py`` (``MartiRXWorker`` asks for
``cot/sa`` every few seconds).
"""

from __future__ import annotations

from itertools import chain

from twisted.internet.interfaces import IReactorTime

from taky_twisted.cot.event import Event
from taky_twisted.history.documents import Build, write_events
from taky_twisted.history.records import MAX_EVENTS, Box, Moment, Past, Query
from taky_twisted.marti.answers import Answers
from taky_twisted.marti.errors import BadRequest, NoSuchThing
from taky_twisted.marti.json_body import read_list
from taky_twisted.marti.replies import XML, Reply, xml
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from taky_twisted.routing.router import Router

MAX_UIDS = 1000
"""Uids in one question."""
MAX_WINDOW_SECONDS = 24 * 3600
"""How much time ``cot/sa`` may be asked about."""
UNITS = ("a-",)
"""What has a position of its own, by the beginning of its type."""


class CotArea:
    """Events by uid and by time; everybody is shown what he could have heard."""

    def __init__(self, clock: IReactorTime, router: Router, answers: Answers) -> None:
        self._clock, self._router, self._answers = clock, router, answers

    @route("/Marti/api/cot/xml/<path:uid>")
    async def newest(self, request: MartiRequest, uid: str) -> Reply:
        """Show the newest event of a uid."""
        known = self._router.find(uid, request.principal.groups_out)
        if known is not None:
            return xml(known.xml)
        query = Query.of(request.principal, uids=(uid,))
        for moment in await self._answers.read(lambda past: list(past.latest(query))):
            return xml(moment.xml)
        raise NoSuchThing("nothing is known of that uid")

    @route("/Marti/api/cot/xml/<path:uid>/all")
    async def all_of(self, request: MartiRequest, uid: str) -> Reply:
        """Show what a uid said, newest first: all, or in a time."""
        arguments = request.arguments
        start, end = arguments.time("start"), arguments.time("end")
        if arguments.one("secago"):
            start, end = self._clock.seconds() - arguments.count("secago"), None
        query = Query.of(request.principal, uids=(uid,), start=start, end=end)

        def build(past: Past) -> Build:
            return lambda file: write_events(file, past.events(query), query.limit)

        return await self._answers.send(request, await self._answers.document(build), XML)

    @route("/Marti/api/cot", "GET", "POST")
    async def newest_of(self, request: MartiRequest) -> Reply:
        """Show the newest event of each of some uids; those of which nothing is known are left out."""
        # JSON can spell halves of characters, which no event has.
        uids = [uid.encode("utf-8", "replace").decode() for uid in read_list(request, MAX_UIDS) if isinstance(uid, str)]
        known = [event for uid in uids if (event := self._router.find(uid, request.principal.groups_out)) is not None]
        missing = tuple(set(uids) - {event.uid for event in known})
        query = Query.of(request.principal, uids=missing)

        def build(past: Past) -> Build:
            older = past.latest(query) if missing else ()
            return lambda file: write_events(file, chain(map(_moment, known), older), MAX_EVENTS)

        return await self._answers.send(request, await self._answers.document(build), XML)

    @route("/Marti/api/cot/sa")
    async def newest_positions(self, request: MartiRequest) -> Reply:
        """Show the newest position of everybody who reported one in a time, perhaps only in a part of the map."""
        arguments = request.arguments
        start, end = arguments.time("start"), arguments.time("end")
        if start is None or end is None:
            raise BadRequest("start and end are wanted")
        if not 0 <= end - start <= MAX_WINDOW_SECONDS:
            raise BadRequest("end must come after start, by 24 hours at most")
        query = Query.of(request.principal, start=start, end=end, types=UNITS, box=_box(request))

        def build(past: Past) -> Build:
            return lambda file: write_events(file, past.latest(query), query.limit)

        document = await self._answers.document(build)
        if not document.count:
            document.file.close()
            raise NoSuchThing("nobody reported a position in that time")
        return await self._answers.send(request, document, XML)


def _moment(event: Event) -> Moment:
    return Moment(event.uid, event.type, event.detail.callsign, event.time, event.lat, event.lon, None, event.xml)


def _box(request: MartiRequest) -> Box | None:
    """Find the part of the map that is asked about; None for all of it."""
    arguments = request.arguments
    sides = [arguments.number(name, low=-360, high=360) for name in ("left", "bottom", "right", "top")]
    left, bottom, right, top = sides
    if left is None or bottom is None or right is None or top is None:
        if any(side is not None for side in sides):
            raise BadRequest("left, bottom, right and top are wanted, or none of them")
        return None
    return Box(left, bottom, right, top)
