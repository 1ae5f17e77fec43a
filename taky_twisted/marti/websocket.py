"""``/takproto/1``: the stream as a WebSocket, for browsers, PyTAK and whoever gets through no other door.

::

    GET /takproto/1 -> WebSocketArea: may it become one? -> 101 -> the channel hands over -> WebSocketStream

Sources: RFC 6455, section 4.2 (the handshake) and 7 (goodbyes); TAK Server ``tak/server/config/
WebSocketConfiguration.java`` (the path).
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha1
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from wsproto.frame_protocol import CloseReason

from taky_twisted.config.limits import Limits
from taky_twisted.cot.shapes import Shapes
from taky_twisted.marti.errors import NotAllowed, error_reply
from taky_twisted.marti.origins import is_same_place
from taky_twisted.marti.replies import Reply
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from taky_twisted.marti.site import ServerInfo
from taky_twisted.routing.offers import Reached
from taky_twisted.routing.router import Router
from taky_twisted.routing.tak_stream import CLOSE_SECONDS, TAKStream
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.websocket import WebSocketConnection, WebSocketError

if TYPE_CHECKING:
    from taky_twisted.routing.recorder import Recorder

LOOK_SECONDS = 5
"""How often a WebSocket is looked at: does anything leave, is anything heard?"""
PING_SECONDS = 30
"""How often it is pinged; proxies close what is silent for a minute."""
MAX_EVENT_BYTES = 1 << 20
"""Of one event that is sent; larger ones are offered as files. Python's ``websockets`` takes no more, aiohttp 4 MiB."""
VERSION = b"13"
"""The only version of WebSocket that there is."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16


class WebSocketStream(TAKStream):
    """A client's connection from the end of the HTTP headers on."""

    _tak: WebSocketConnection

    def __init__(self, area: WebSocketArea, request: MartiRequest) -> None:
        limits, channel, router = area.limits, request.channel, area.router
        super().__init__(
            area.clock,
            limits,
            WebSocketConnection(limits.max_event_bytes, limits.max_unidentified_bytes, area.shapes.decode),
            channel.getPeer(),
            f"WebSocket port {getattr(channel.getHost(), 'port', '?')}",
            router.notices,
            area.recorder,
            router.audiences.tally,
        )
        self._area = area
        host = getattr(channel.getHost(), "host", None)
        self._reached = Reached(host, request.site.is_tls(request)) if host is not None else None
        self._granted = request.granted  # of these groups the router takes those that are switched on
        self._code = CloseReason.GOING_AWAY
        self._parting = False  # one of us has said goodbye
        self._asked = 0.0  # when we pinged it
        self._counted = 0  # frames

    # The transport

    def connectionMade(self) -> None:
        self._start()
        self._asked = self._clock.seconds()
        self._later("look", LOOK_SECONDS, self._look)
        # It is ATAK's reader that 64 KiB break, and ATAK does not come here.
        self._subscription = self._area.router.subscribe(
            self._granted, self, self.peer, MAX_EVENT_BYTES, reached=self._reached
        )

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._tak.over:
            self._part()
            self.transport.loseConnection()

    # Sink

    def close(self, reason: str) -> None:
        self._code = CloseReason.NORMAL_CLOSURE
        super().close(reason)

    # Ours

    def _lose(self) -> None:
        if not self._parting:
            self.transport.write(self._tak.close(self._code, self._why))
            self._part()

    def _part(self) -> None:
        """Say nothing more, and wait a moment: for the peer's goodbye, and for ours to leave."""
        if not self._parting:
            self._parting, self._flowing = True, False
            self.transport.unregisterProducer()
            self._later("lose", CLOSE_SECONDS, self.transport.abortConnection)

    def _broke_rules(self, error: RemoteProtocolError) -> None:
        assert isinstance(error, WebSocketError), "whatever goes wrong there has a code"
        self._why, self._code = str(error), error.code
        self._lose()

    def _owes_a_sign(self) -> bool:
        return True  # it is pinged

    def _count(self, size: int, events: int, now: float) -> None:
        # A frame costs time, also one without an event.
        frames, self._counted = self._tak.frames - self._counted, self._tak.frames
        super()._count(size, max(events, frames), now)

    def _look(self) -> None:
        now = self._clock.seconds()
        self.look(now)
        if self._subscription is None:
            return
        self._later("look", LOOK_SECONDS, self._look)
        # Who takes nothing is not pinged: it would hear it too late.
        if now - self._asked >= PING_SECONDS and self._full_since is None and not self._parting:
            self._asked = now
            self.transport.write(self._tak.ping())


class WebSocketArea:
    """The route. Counting, revoked certificates and the end of the server are the channel's, as for any request."""

    def __init__(
        self, clock: IReactorTime, router: Router, limits: Limits, info: ServerInfo, recorder: Recorder | None = None
    ) -> None:
        """Serve WebSockets.

        Args:
            clock: tells the time.
            router: where they speak and hear.
            limits: how much each may have.
            info: knows the address by which browsers reach us.
            recorder: writes down what they say, if that is wanted.
        """
        self.clock, self.router, self.limits, self.recorder = clock, router, limits, recorder
        self.shapes = Shapes()
        self._info = info

    @route("/takproto/1", body=0)
    async def connect(self, request: MartiRequest) -> Reply:
        """Turn a request into a WebSocket."""
        header = request.requestHeaders.getRawHeaders
        for origin in header(b"origin", []):
            if not is_same_place(origin, request.getHeader(b"host"), self._info.public_url):
                raise NotAllowed("this page may not connect to this server: its Origin is another host")
        wrong = _what_is_wrong(request)
        if wrong is not None:
            return wrong
        (key,) = header(b"sec-websocket-key", [])
        accepted = b64encode(sha1(key.strip() + _GUID, usedforsecurity=False).digest())
        answer = Headers({b"Upgrade": [b"websocket"], b"Connection": [b"Upgrade"], b"Sec-WebSocket-Accept": [accepted]})
        channel = request.channel
        channel.writeHeaders(b"HTTP/1.1", b"101", b"Switching Protocols", answer)
        channel.hand_over(WebSocketStream(self, request))
        return await Deferred[Reply]()  # until the connection is lost: Klein cancels us then


def _what_is_wrong(request: MartiRequest) -> Reply | None:
    """Say why a request cannot become a WebSocket."""
    header = request.requestHeaders.getRawHeaders
    if request.method != b"GET" or request.clientproto != b"HTTP/1.1":
        return error_reply(400, "a WebSocket begins with GET and HTTP/1.1")
    if b"websocket" not in _words(header(b"upgrade", [])) or b"upgrade" not in _words(header(b"connection", [])):
        return _upgrade_required("this is a WebSocket: ask with Upgrade: websocket and Connection: Upgrade")
    if [version.strip() for version in header(b"sec-websocket-version", [])] != [VERSION]:
        return _upgrade_required("this is a WebSocket of version 13: ask with Sec-WebSocket-Version: 13")
    keys = header(b"sec-websocket-key", [])
    try:
        sizes = [len(b64decode(key.strip(), validate=True)) for key in keys]
    except binascii.Error:
        sizes = []
    if sizes != [_KEY_BYTES]:
        return error_reply(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return None


def _upgrade_required(message: str) -> Reply:
    reply = error_reply(426, message)
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": VERSION.decode()}
    return Reply(reply.body, reply.content_type, reply.status, headers)


def _words(values: Sequence[bytes]) -> list[bytes]:
    return [word.strip().lower() for value in values for word in value.split(b",")]
