"""TLS between a listening socket and an application's protocols.

::

    socket -> AdmissionFactory -> TLSFactory -> the application's factory
               admits(address)?     TLSProtocol.handshake remembers what the peer showed

Limits stand outside TLS: a connection that the application does not admit costs no handshake. Behind a load balancer
`ProxiedFactory` takes the place of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from taky_twisted.identity.tls_records import Records

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, ITransport
    from twisted.python.failure import Failure

    from taky_twisted.identity.principal import Certificate, Principal
    from taky_twisted.identity.tls import MutualTLS

FIRST_BYTES = 16
"""Bytes at the start of a connection that are kept until it ends, to say what it was if not TLS."""


@dataclass(slots=True)
class Handshake:
    """What came to light during one handshake, for whoever must say why it failed."""

    host: str | None = None
    """Our own address; a socket that is closed does not know it any more."""
    first_bytes: bytes = b""
    """How the peer began."""
    certificate: Certificate | None = None
    """What the peer showed, good or not; None if nothing, or if it resumed a session."""
    refusal: str | None = None
    """Why the peer's certificate was refused."""


class TLSProtocol(TLSMemoryBIOProtocol):
    """TLS on one accepted connection; the transport of the application's protocol.

    Unlike Twisted's own default it does not gather small writes: what is written here is a whole turn's output already.
    Once the handshake is done, records go the short way of `Records`; as soon as anything is unusual, Twisted's.
    """

    factory: TLSFactory
    transport: ITransport  # always there when we are called

    def __init__(self, factory: TLSFactory, wrappedProtocol: IProtocol, _connectWrapped: bool = True) -> None:
        super().__init__(factory, wrappedProtocol, _connectWrapped)
        self.handshake = Handshake()
        self._records: Records | None = None  # once the handshake is done

    def makeConnection(self, transport: ITransport) -> None:
        # Shadows the method until the first bytes are seen, so that later reads pay nothing for it.
        self.dataReceived = self._first_data_received  # type: ignore[method-assign]
        self.handshake.host = getattr(transport.getHost(), "host", None)
        super().makeConnection(transport)

    def _first_data_received(self, data: bytes) -> None:
        seen = self.handshake.first_bytes = self.handshake.first_bytes + data[:FIRST_BYTES]
        if len(seen) >= FIRST_BYTES:
            self._stop_looking()
        TLSProtocol.dataReceived(self, data)

    def _stop_looking(self) -> None:
        self.__dict__.pop("dataReceived", None)

    def write(self, bytes: bytes) -> None:
        if (records := self._records) is None:
            super().write(bytes)
            return
        sealed, rest = records.seal(bytes)
        self.transport.write(sealed)
        if rest:
            self._records = None
            super().write(rest)

    def dataReceived(self, data: bytes) -> None:
        if (records := self._records) is None:
            super().dataReceived(data)
            over = self._lostTLSConnection or self.disconnecting or not self.connected
            if self._handshakeDone and not (over or self._appSendBuffer):
                self._records = Records(self._tlsConnection)
            return
        opened, more = records.open(data)
        if opened:
            self.wrappedProtocol.dataReceived(opened)
        if not more:
            self._flushReceiveBIO()
        elif answer := records.pending():
            self.transport.write(answer)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        # Twisted asks OpenSSL for nothing from now on. We must not either: what it complains of would stand in its
        # list of errors, and before version 4 it takes that for the failure of whichever connection reads next.
        self._records = None
        if (producer := self._producer) is not None:
            # What is written from now on goes nowhere, and it may take a while until the socket is closed.
            self.unregisterProducer()
            producer.stopProducing()
        super()._tlsShutdownFinished(reason)

    def loseConnection(self) -> None:
        self._records = None
        super().loseConnection()

    def abortConnection(self) -> None:
        self._records = None
        super().abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._stop_looking()
        self._records = None
        super().connectionLost(reason)


class TLSFactory(TLSMemoryBIOFactory):
    """Put TLS on the connections of an application's factory."""

    protocol = TLSProtocol

    def __init__(self, creator: MutualTLS, application: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(creator, False, application, clock)
        self.creator = creator

    def buildProtocol(self, addr: IAddress | None) -> TLSProtocol | None:  # type: ignore[override]
        protocol = self.wrappedFactory.buildProtocol(addr)
        # Twisted's wraps None too, which lets the peer in and logs tracebacks.
        return None if protocol is None else TLSProtocol(self, protocol)


class AdmissionFactory(WrappingFactory):
    """Ask the application whether it wants a connection, before anything is done for it.

    An application's factory that limits its connections has a method ``admits(address) -> bool``, which gets the
    client's address. A refused connection is closed without a word.

    Args:
        wrapped: What builds the protocols.
        application: Whom to ask; a factory without ``admits`` admits everybody.
    """

    noisy = False

    def __init__(self, wrapped: IProtocolFactory, application: IProtocolFactory) -> None:
        super().__init__(wrapped)
        self._admits = getattr(application, "admits", None)

    def logPrefix(self) -> str:
        prefix = getattr(self.wrappedFactory, "logPrefix", None)
        return prefix() if prefix is not None else type(self.wrappedFactory).__name__

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]
        if self._admits is not None and not self._admits(addr):
            return None
        return cast("ProtocolWrapper | None", self.wrappedFactory.buildProtocol(addr))


def tls_of(transport: object) -> TLSProtocol | None:
    """Find our TLS under a protocol's transport, also through Twisted's protocol wrappers; None if there is none."""
    while not isinstance(transport, TLSProtocol):
        if not isinstance(transport, ProtocolWrapper):
            return None
        transport = transport.transport
    return transport


def refusal_of(transport: object, principal: Principal) -> str | None:
    """Say what speaks against a peer now, or None; to be asked in ``handshakeCompleted``.

    A resumed session shows no certificate anew, so that the check in the handshake does not see it; the same question
    finds connections to close after something was revoked.
    """
    tls = tls_of(transport)
    if tls is None or principal.certificate is None:
        return None
    return tls.factory.creator.refusal_of(principal.certificate)
