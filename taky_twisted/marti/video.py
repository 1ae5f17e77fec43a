"""Video connections, the newer API: JSON, and XML for who asks for that.

Sources: TAK Server ``video/VideoConnectionManagerV2.java``; node-tak ``lib/api/video.ts`` (CloudTAK creates, changes
and deletes here, and gives ``group`` for each group that is to see a new one).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from taky_twisted.marti.errors import BadRequest, MartiError
from taky_twisted.marti.json_body import read_json
from taky_twisted.marti.replies import EMPTY, JSON, Reply, xml
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from taky_twisted.video.connections import Connection, read_connection
from taky_twisted.video.errors import BadVideo, NoRoom, NoSuchVideo, NotYours, VideoError
from taky_twisted.video.feed_xml import alone, connection_element, document
from taky_twisted.video.videos import Videos

MAX_CONNECTIONS = 1000
"""Connections in one request."""
PIECE = 100
"""What is spelled in one turn of the reactor: a millisecond or two of it."""

_STATUS: dict[type[VideoError], int] = {BadVideo: 400, NotYours: 403, NoSuchVideo: 404, NoRoom: 507}


@contextmanager
def told_to_the_client() -> Iterator[None]:
    """Refuse the request if something goes wrong with a video connection in here."""
    try:
        yield
    except VideoError as error:
        raise MartiError(_STATUS[type(error)], str(error)) from error


async def spelled(clock: IReactorTime, elements: Iterable[str]) -> list[str]:
    """Spell something a piece at a time, so that events are routed in between."""
    pieces: list[str] = []
    for element in elements:
        pieces.append(element)
        if len(pieces) % PIECE == 0:
            await deferLater(clock, 0)
    return pieces


class VideoArea:
    """``/Marti/api/video``."""

    def __init__(self, clock: IReactorTime, videos: Videos) -> None:
        self._clock, self._videos = clock, videos

    @route("/Marti/api/video")
    async def connections(self, request: MartiRequest) -> Reply:
        """List what the caller sees; with ``protocol`` only feeds of that."""
        groups_out, protocol = request.principal.groups_out, request.arguments.one("protocol")
        if _wants_xml(request):
            connections = _of_protocol(self._videos.visible(groups_out), protocol or "")
            return xml(document("videoCollections", await spelled(self._clock, map(connection_element, connections))))
        if protocol:
            connections = _of_protocol(self._videos.visible(groups_out), protocol)
            documents: Iterable[str] = (connection.document for connection in connections)
        else:
            documents = self._videos.documents(groups_out)
        body = f'{{"videoConnections":[{",".join(await spelled(self._clock, documents))}]}}'
        return Reply(body.encode(), JSON)

    @route("/Marti/api/video", "POST")
    async def create(self, request: MartiRequest) -> Reply:
        """Make connections."""
        body = read_json(request)
        said = body.get("videoConnections") if isinstance(body, dict) else None
        if not isinstance(said, list) or len(said) > MAX_CONNECTIONS:
            raise BadRequest(f"videoConnections, a list of up to {MAX_CONNECTIONS}, is missing")
        groups = request.arguments.all("group")
        with told_to_the_client():
            connections = [read_connection(connection) for connection in said]
            await self._videos.put(connections, request.principal, frozenset(groups) if groups else None)
        return EMPTY

    @route("/Marti/api/video/<path:uid>")
    def one(self, request: MartiRequest, uid: str) -> Reply:
        """Show one connection."""
        with told_to_the_client():
            connection = self._videos.find(uid, request.principal.groups_out)
            if _wants_xml(request):
                return xml(alone(connection_element(connection)))
            return Reply(connection.document.encode(), JSON)

    @route("/Marti/api/video/<path:uid>", "PUT")
    async def change(self, request: MartiRequest, uid: str) -> Reply:
        """Change one connection."""
        body = read_json(request)
        with told_to_the_client():
            connection = read_connection(body)
            if isinstance(body, dict) and body.get("uuid") not in (None, "", uid):
                raise BadVideo("the uuid is not that of the path")
            await self._videos.replace(uid, connection, request.principal)
        return EMPTY

    @route("/Marti/api/video/<path:uid>", "DELETE")
    async def delete(self, request: MartiRequest, uid: str) -> Reply:
        """Delete one connection."""
        with told_to_the_client():
            await self._videos.remove(uid, request.principal)
        return EMPTY


def _wants_xml(request: MartiRequest) -> bool:
    accepted = (request.getHeader("accept") or "").lower()
    return "/xml" in accepted and "json" not in accepted and "*/*" not in accepted


def _of_protocol(connections: Iterable[Connection], protocol: str) -> Iterator[Connection]:
    """Leave out the feeds whose URLs begin with anything else, and connections that then have none."""
    for connection in connections:
        feeds = tuple(feed for feed in connection.feeds if feed.url.lower().startswith(protocol.lower()))
        if feeds or not protocol:
            yield replace(connection, feeds=feeds)
