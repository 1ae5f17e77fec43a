"""One HTTP door: its requests, whom it believes, and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from klein.resource import KleinResource
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime, ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, datetimeToString
from twisted.web.server import Site
from zope.interface import implementer_only

from taky_twisted import __version__
from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.identity.proofs import Auth
from taky_twisted.logs import Logger
from taky_twisted.marti.callers import Callers
from taky_twisted.marti.channel import MartiChannel
from taky_twisted.marti.connections import HttpConnections, host_of
from taky_twisted.marti.errors import (
    MartiError,
    NotAllowed,
    NotIdentified,
    Revoked,
    WrongCredentials,
    error_reply,
    reply_of,
)
from taky_twisted.marti.replies import Envelope, Reply
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, Bound, Table


@dataclass
class ServerInfo:
    """What the API says about the server."""

    hostname: str = "taky.local"
    node_id: str = ""
    """The server's id; whole once its data folder is open."""
    public_url: str | None = None
    """``https://host:port`` that clients reach us by, where that is not the address that they used."""


@dataclass
class Marti:
    """The API that all HTTP doors of a server share."""

    table: Table
    info: ServerInfo
    granted: Callable[[Principal, str], Principal] = field(default=lambda principal, host: principal)
    """Turns who somebody at a host is into who that is with the groups that are switched on."""
    callers: Callers = field(default_factory=Callers)
    """Finds out who asks."""

    @classmethod
    def of(cls, areas: Sequence[object], info: ServerInfo) -> Marti:
        """Put areas together."""
        return cls(Table(areas), info)


# Not Twisted's IProtocolNegotiationFactory: what is agreed on with ALPN is the door's business.
@implementer_only(IProtocolFactory)
class MartiSite(Site):
    """A door of the Marti API."""

    noisy = False
    protocol = MartiChannel  # type: ignore[assignment]  # Twisted's chooses between HTTP 1 and 2
    displayTracebacks = False
    journal = Logger()  # Twisted's `Site` has a method `log`

    def __init__(
        self,
        marti: Marti,
        clock: IReactorTime,
        anonymous: bool = False,
        connections: HttpConnections | None = None,
        door: str = "HTTP",
        auth: Auth = "cert",
        enrolls: bool = False,
    ) -> None:
        """Describe a door.

        Args:
            marti: what it answers.
            clock: the reactor.
            anonymous: whether callers without a certificate are let in; on a TLS door they are not, whatever this says,
                unless its ``auth`` is ``none``.
            connections: counts those of all doors; the door's own by default.
            door: its name in the log.
            auth: how callers prove who they are, on a TLS door.
            enrolls: whether it is there for who has no certificate yet: passwords, access tokens and invites count.
        """
        self.auth, self.enrolls = auth, enrolls
        self.marti, self.clock, self.anonymous, self.door = marti, clock, anonymous, door
        self.connections = connections if connections is not None else HttpConnections(clock, Limits())
        self.table = marti.table
        super().__init__(
            KleinResource(self._klein()),
            requestFactory=MartiRequest,
            timeout=None,  # `MartiChannel` has deadlines of its own
            reactor=clock,
            parsePOSTFormSubmission=False,
        )

    def startFactory(self) -> None:
        """Keep no access log, and wake up for none every second."""

    def stopFactory(self) -> None:
        """Keep no access log."""

    def log(self, request: MartiRequest) -> None:  # type: ignore[override]  # there are no others here
        """Write no line per request, but count it."""
        route = request.bound.route.path if request.bound is not None else ""
        self.connections.answered[route, request.code] += 1

    def admits(self, address: IAddress | None) -> bool:
        """Whether one more connection from there may be made; asked before TLS."""
        reason = self.connections.why_not(address)
        if reason is not None:
            self.refused(address, reason)
        return reason is None

    def refused(self, address: IAddress | None, reason: str) -> None:
        """Say that somebody is refused before there is a connection for it."""
        host = host_of(address)
        self.connections.notices.say("{host} refused at {door}: {reason}", host=host, door=self.door, reason=reason)
        self.connections.failures.tell(host, self.door, reason)

    def buildProtocol(self, addr: IAddress | None) -> MartiChannel | None:  # type: ignore[override]  # see `protocol`
        # Asked again, because plain doors have nobody who asks before.
        if not self.admits(addr):
            return None
        channel: MartiChannel = super().buildProtocol(addr)
        channel.address = addr
        return channel

    def caller(self, request: MartiRequest) -> Principal | Deferred[Principal]:
        """Find out who is at the other end of a request's connection; raises as `Callers.find`."""
        return self.marti.callers.find(request) if self.is_tls(request) else ANONYMOUS

    @property
    def takes_passwords(self) -> bool:
        """Whether a password counts here."""
        return self.enrolls or "password" in self.auth

    def check_access(self, request: MartiRequest, access: Access) -> None:
        """Refuse a caller that may not call a route.

        Raises:
            NotIdentified: nobody knows who it is.
            NotAllowed: it is known, and not enough.
        """
        if request.principal.anonymous:
            if not self.is_tls(request):
                if not self.anonymous:
                    raise NotIdentified(
                        "anonymous callers are not let in here; use the TLS port with a client certificate"
                    )
            elif access is not Access.EVERYBODY and self.auth != "none":
                if self.takes_passwords:
                    raise WrongCredentials("this needs a name and a password")
                raise NotIdentified("this needs a client certificate of this server's authority")
        if access is Access.ENROLLING:
            if request.invited is None and not request.principal.by_password:
                raise WrongCredentials("this needs a password or an invite")
        elif request.invited is not None and access is not Access.EVERYBODY:
            raise NotAllowed("an invite is good for enrolling, and for nothing else")
        if access is Access.ADMIN and not request.principal.admin:
            raise NotAllowed("only administrators may do this")

    @staticmethod
    def is_tls(request: MartiRequest) -> bool:
        """Whether a request came over TLS."""
        return bool(ISSLTransport.providedBy(request.channel.transport))

    def dress(self, request: MartiRequest) -> None:
        """Set the headers that every answer has."""
        request.setHeader("server", f"taky_twisted/{__version__}")
        request.setHeader("date", datetimeToString())

    def send(self, request: MartiRequest, reply: Reply) -> None:
        """Write a reply, but do not end the request."""
        request.write(self._answer(request, reply))

    def note(self, request: MartiRequest, error: MartiError) -> None:
        """Remember for operators who may not come in, and which uploads are refused."""
        upload = request.bound is not None and request.bound.receiver is not None
        if isinstance(error, Revoked) or not (upload or error.status in (401, 403)):
            return  # the connection told of the former
        what = "an upload" if upload else "a request"
        name, text = request.granted.name or "", str(error)
        if isinstance(error, WrongCredentials):
            name, text = error.name or name, error.reason or text
        reason = f"{what} was refused ({error.status}): {text}"
        self.connections.failures.tell(host_of(request.channel.address), self.door, reason, name)

    def _klein(self) -> Any:
        app = self.table.klein(self._wrapped)

        def refused(request: MartiRequest, failure: Failure) -> bytes:
            error: Any = failure.value
            self.note(request, error)
            return self._answer(request, reply_of(error))

        def broken(request: MartiRequest, failure: Failure) -> bytes:
            self.journal.failure("answering a request failed", failure)
            return self._answer(request, error_reply(500, "the server made a mistake; its log has more"))

        app.handle_errors(MartiError)(refused)
        app.handle_errors(Exception)(broken)
        return app

    def _wrapped(self, bound: Bound) -> Callable[..., Any]:
        async def call(request: MartiRequest, **found: Any) -> bytes:
            result = bound.handler(request, **found)
            reply = result if isinstance(result, Reply | Envelope) else await result
            if isinstance(reply, Envelope):
                reply = reply.reply(self.marti.info.node_id)
            if reply.written:
                return b""
            request.hold(len(reply.body))
            return self._answer(request, reply)

        def handle(request: MartiRequest, **found: Any) -> Any:
            return ensureDeferred(call(request, **found))

        return handle

    @staticmethod
    def _answer(request: MartiRequest, reply: Reply) -> bytes:
        request.setResponseCode(reply.status, HTTPStatus(reply.status).phrase.encode())  # Twisted does not know 429
        if reply.status not in NO_BODY_CODES:
            request.setHeader("content-type", reply.content_type)
            request.setHeader("content-length", str(len(reply.body)))
        for name, value in reply.headers.items():
            request.setHeader(name, value)
        return reply.body
