"""Video feeds, the older API: XML, as ATAK and WinTAK upload and download their aliases.

Sources: TAK Server ``video/VideoConnectionManager.java``; ATAK-CIV ``android/video/http/rest``:
``GetVideoListOperation.java`` (there must be ``videoConnections`` in the answer, also when there are none) and
``PostVideoListOperation.java`` (it sends ``Content-Encoding: UTF-8``, which is no coding of a content: no such header
is looked at).
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from taky_twisted.marti.errors import MartiError
from taky_twisted.marti.replies import EMPTY, Reply, xml
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from taky_twisted.marti.video import spelled, told_to_the_client
from taky_twisted.video.feed_xml import document, feed_element, read_feeds
from taky_twisted.video.videos import Videos


class VideoFeedsArea:
    """``/Marti/vcm`` and what belongs to it."""

    def __init__(self, clock: IReactorTime, videos: Videos) -> None:
        self._clock, self._videos = clock, videos

    @route("/Marti/vcm")
    async def feeds(self, request: MartiRequest) -> Reply:
        """List the feeds that the caller sees, of all connections."""
        connections = self._videos.visible(request.principal.groups_out)
        elements = (feed_element(feed) for connection in connections for feed in connection.feeds)
        return xml(document("videoConnections", await spelled(self._clock, elements)))

    @route("/Marti/vcm", "POST")
    async def post(self, request: MartiRequest) -> Reply:
        """Take feeds, each in place of the one with its uid; or switch one on or off."""
        arguments = request.arguments
        with told_to_the_client():
            if "setActive" in arguments or arguments.one("action") == "setActive":
                await self._videos.set_active(arguments.text("id"), arguments.flag("active"), request.principal)
            else:
                await self._videos.put_feeds(read_feeds(request.data), request.principal)
        return EMPTY

    @route("/Marti/vcm", "DELETE")
    async def delete(self, request: MartiRequest) -> Reply:
        """Delete a feed."""
        with told_to_the_client():
            await self._videos.remove_feed(request.arguments.text("id"), request.principal)
        return EMPTY

    @route("/Marti/vcu", "POST")
    @route("/Marti/vcs", "POST")
    def web_only(self, request: MartiRequest) -> Reply:
        """Say that the forms of TAK Server's web pages are not here."""
        raise MartiError(501, "this is for TAK Server's own web pages; use /Marti/vcm or /Marti/api/video")
