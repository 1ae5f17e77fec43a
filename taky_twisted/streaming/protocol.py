"""One CoT stream: when it may begin, and how it is counted. What happens on it is `TAKStream`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IDelayedCall, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from taky_twisted.identity.certificates import principal_of
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.identity.refusals import explain, explain_silence, looks_like_tls
from taky_twisted.identity.transport import refusal_of, tls_of
from taky_twisted.routing.tak_stream import TAKStream
from taky_twisted.takproto.connection import TAKConnection

from .connections import host_of

if TYPE_CHECKING:
    from .factory import CoTFactory


@implementer(IHandshakeListener)
class CoTProtocol(TAKStream):
    """A client's (or a bot's, or the monitor's) connection to a CoT door."""

    factory: CoTFactory
    _tak: TAKConnection

    def __init__(self, factory: CoTFactory, address: IAddress) -> None:
        limits, connections = factory.limits, factory.connections
        tak = TAKConnection(limits.max_event_bytes, limits.max_unidentified_bytes, connections.shapes.decode)
        super().__init__(factory.clock, limits, tak, address, factory.door, connections.notices, factory.recorder)
        self.factory = factory
        self._handshake: IDelayedCall | None = None
        self._counted_unidentified = True

    # The transport

    def connectionMade(self) -> None:
        self.factory.connections.opened(self, self._address)
        if ISSLTransport.providedBy(self.transport):
            self.factory.connections.handshakes += 1
            self._handshake = self._clock.callLater(self._limits.handshake_seconds, self._handshake_too_slow)
        else:
            self._open(ANONYMOUS)

    def handshakeCompleted(self) -> None:
        # Not connectionMade: there the peer has not shown its certificate yet.
        self._end_handshake()
        principal = principal_of(self.transport)
        refusal = refusal_of(self.transport, principal)
        if refusal is not None:
            self._refused(refusal)
            self.abort("")
            return
        self._open(principal)

    def dataReceived(self, data: bytes) -> None:
        if not self._tak.spoke and self._subscription is not None and looks_like_tls(data) and not self._bytes:
            self._refused("the client speaks TLS; this port is plain TCP")
            self.abort("")
            return
        super().dataReceived(data)
        if self._counted_unidentified and self._subscription is not None and self._subscription.primary is not None:
            self._counted_unidentified = False
            self.factory.connections.unidentified -= 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._handshake is not None:
            self._end_handshake()
            self._refused(explain(reason, self.transport))
        elif not self._bytes and self._subscription is not None and not self._why:
            silence = explain_silence(self.transport)
            if silence is not None:
                self._tell(silence)
        super().connectionLost(reason)
        self.factory.connections.closed(self, self._address, not self._counted_unidentified)

    # The server

    @property
    def principal_name(self) -> str | None:
        """The certificate's or account's name; None for nobody in particular."""
        return self._subscription.principal.name if self._subscription is not None else None

    def check_certificate(self) -> None:
        """Close the connection if its certificate is refused by now: resumed or live, revoked is revoked."""
        if self._subscription is not None:
            refusal = refusal_of(self.transport, self._subscription.principal)
            if refusal is not None:
                self._tell(refusal)
                self.abort(refusal)

    def _open(self, principal: Principal) -> None:
        self._start()
        if self.factory.offers_protobuf(principal):
            self.transport.write(self._tak.offer(self._clock.seconds()))
        self._subscription = self.factory.subscribe(principal, self)
        if self._counted_unidentified and self.factory.monitor:
            self._counted_unidentified = False
            self.factory.connections.unidentified -= 1

    def _refused(self, why: str) -> None:
        self._notices.say("{peer} refused: {why}", peer=self.peer, why=why)
        self._tell(why)

    def _tell(self, why: str) -> None:
        """Remember for the operator why somebody did not come in."""
        tls = tls_of(self.transport)
        shown = tls.handshake.certificate if tls is not None else None
        name = shown.common_name if shown is not None else self.principal_name or ""
        self.factory.connections.failures.tell(host_of(self._address), self.factory.door, why, name)

    def _end_handshake(self) -> None:
        timer, self._handshake = self._handshake, None
        assert timer is not None, "a TLS connection begins with a handshake"
        if timer.active():
            timer.cancel()
        self.factory.connections.handshakes -= 1

    def _handshake_too_slow(self) -> None:
        self._refused(explain(Failure(TimeoutError()), self.transport))
        self._end_handshake()
        self.abort("")
