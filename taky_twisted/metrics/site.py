"""One door for whoever watches: two documents, and nothing that could be changed.

A connection has one short request and its answer, and a bounded time for both. What comes behind the headers is not
looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IAddress, IDelayedCall, IHandshakeListener, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from taky_twisted.background import logged
from taky_twisted.identity.certificates import principal_of
from taky_twisted.identity.transport import refusal_of
from taky_twisted.logs import Logger
from taky_twisted.metrics.exposition import Exposition
from taky_twisted.metrics.health import Health, report
from taky_twisted.metrics.readings import Reading, read

if TYPE_CHECKING:
    from taky_twisted.metrics.watched import Watched

MAX_CONNECTIONS = 20
"""At once, on all doors of this kind."""
MAX_HEAD_BYTES = 8192
"""Of a request with its headers."""
REQUEST_SECONDS = 10.0
"""From the connection to the end of the headers, with the TLS handshake."""
ANSWER_SECONDS = 30.0
"""For the answer to be made and to be read."""
FRESH_SECONDS = 1.0
"""Who asks again within this time is told the same numbers: asking often costs the server little."""
JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain; charset=utf-8"

Answer = tuple[int, bytes, str]
"""Status, body, content type."""


class Pages:
    """Makes the documents, for all doors."""

    def __init__(self, watched: Watched, health: Health, reactor: Any) -> None:
        self._watched, self._health, self._reactor = watched, health, reactor
        self._exposition = Exposition()
        self._reading = DeferredLock()
        self._readings: list[Reading] = []
        self._read_at: float | None = None

    async def answer(self, path: str, accept: str) -> Answer:
        """Make the document at a path."""
        if path == "/metrics":
            body, content_type = await self._in_thread(self._exposition.spell, await self._fresh(), accept)
            return 200, body, content_type
        if path == "/health":
            status, document = report(await self._health.look(), self._reactor.seconds())
            return status, json.dumps(document, indent=1).encode() + b"\n", JSON_TYPE
        return 404, b"there is /metrics and /health\n", TEXT_TYPE

    async def _fresh(self) -> list[Reading]:
        await self._reading.acquire()  # one after the other: the second is told what the first was
        try:
            now = self._reactor.seconds()
            if self._read_at is None or not 0 <= now - self._read_at < FRESH_SECONDS:
                self._readings = await read(self._watched, self._reactor, self._health.present)
                self._read_at = now
            return self._readings
        finally:
            self._reading.release()

    def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call, *arguments)


class MetricsFactory(Factory):
    """One door. All doors of a server share `connections`."""

    noisy = False

    def __init__(self, pages: Pages, reactor: Any, connections: set[MetricsProtocol]) -> None:
        self.pages, self.reactor, self.connections = pages, reactor, connections

    def admits(self, address: IAddress | None) -> bool:
        """Whether one more connection may be made; asked before TLS."""
        return len(self.connections) < MAX_CONNECTIONS

    def buildProtocol(self, addr: IAddress | None) -> MetricsProtocol | None:  # type: ignore[override]  # the base's is private
        return MetricsProtocol(self) if self.admits(addr) else None


@implementer(IHandshakeListener)
class MetricsProtocol(Protocol):
    """A connection: one request, one answer."""

    log = Logger()
    factory: MetricsFactory
    transport: Any  # TCP and TLS have more in common than an interface of Twisted's says

    def __init__(self, factory: MetricsFactory) -> None:
        self.factory = factory
        self._http: h11.Connection | None = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        self._deadline: IDelayedCall | None = None

    def makeConnection(self, transport: ITransport) -> None:
        self.factory.connections.add(self)
        self._within(REQUEST_SECONDS)
        super().makeConnection(transport)

    def handshakeCompleted(self) -> None:
        # A resumed session shows no certificate anew, so that the check in the handshake does not see it.
        if refusal_of(self.transport, principal_of(self.transport)) is not None:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        http = self._http
        if http is None:
            return  # it was asked already
        try:
            http.receive_data(data)
            said = http.next_event()
        except h11.RemoteProtocolError as error:
            self._http = None
            self._send(http, (error.error_status_hint, f"{error}\n".encode("ascii", "replace"), TEXT_TYPE), False)
            return
        if isinstance(said, h11.Request):
            self._http = None
            self._within(ANSWER_SECONDS)
            answering = Deferred.fromCoroutine(self._answer(http, said))
            answering.addErrback(logged(self.log, "answering at a metrics door"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._http = None
        self.factory.connections.discard(self)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    async def _answer(self, http: h11.Connection, request: h11.Request) -> None:
        if request.method not in (b"GET", b"HEAD"):
            self._send(http, (405, b"GET and HEAD are answered here\n", TEXT_TYPE), False)
            return
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        accept = b",".join(value for name, value in request.headers if name == b"accept").decode("ascii", "replace")
        try:
            answer = await self.factory.pages.answer(path, accept)
        except Exception:
            self._send(http, (500, b"the server made a mistake; its log has more\n", TEXT_TYPE), False)
            raise
        self._send(http, answer, request.method == b"HEAD")

    def _send(self, http: h11.Connection, answer: Answer, head: bool) -> None:
        if self not in self.factory.connections:
            return  # it is gone
        status, body, content_type = answer
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        if status == 405:
            headers.append(("Allow", "GET, HEAD"))
        response = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
        self.transport.write((http.send(response) or b"") + (b"" if head else body))
        self.transport.loseConnection()

    def _within(self, seconds: float) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = self.factory.reactor.callLater(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self.transport.abortConnection()
