"""Both ends of a TLS connection in memory, with real TLS and no sockets."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test import iosim
from zope.interface import implementer

from taky_twisted.identity.certificates import principal_of
from taky_twisted.identity.principal import Principal
from taky_twisted.identity.refusals import explain
from taky_twisted.identity.tls import MutualTLS
from taky_twisted.identity.transport import Handshake, TLSFactory, refusal_of, tls_of
from tests.pki import ClientTLS


@implementer(IHandshakeListener)
class Peer(Protocol):
    """One end of a connection: does what our protocols do at each step, and keeps what came of it."""

    def __init__(self) -> None:
        self.completed = False
        self.principal: Principal | None = None
        self.refusal: str | None = None
        """What `refusal_of` said once the handshake was complete."""
        self.handshake: Handshake | None = None
        self.received = b""
        self.reason: Failure | None = None
        self.why: str | None = None
        """What `explain` said if there was no complete handshake."""
        self.greeting = b""
        self.lost: Deferred[None] = Deferred()
        self.ready: Deferred[None] = Deferred()
        """Fires when the handshake is complete."""

    def handshakeCompleted(self) -> None:
        self.completed = True
        self.principal = principal_of(self.transport)
        self.refusal = refusal_of(self.transport, self.principal)
        tls = tls_of(self.transport)
        self.handshake = tls.handshake if tls is not None else None
        if self.greeting and self.transport is not None:
            self.transport.write(self.greeting)
        self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        if not self.completed:
            self.why = explain(reason, self.transport)
        self.lost.callback(None)


class PeerFactory(Factory):
    """Make `Peer` objects that greet, and keep them all."""

    noisy = False

    def __init__(self, greeting: bytes = b"hello") -> None:
        self.greeting = greeting
        self.peers: list[Peer] = []

    def buildProtocol(self, addr: IAddress | None) -> Peer:
        peer = Peer()
        peer.greeting = self.greeting
        self.peers.append(peer)
        return peer


class Pair:
    """A server's and a client's end, joined in memory; the bytes flow until nobody has anything more to say.

    Args:
        tls: The server's TLS.
        client: The client's TLS, or the bytes that a client without TLS sends.
    """

    def __init__(self, tls: MutualTLS, client: ClientTLS | bytes) -> None:
        clock = self._clock = Clock()
        servers, clients = PeerFactory(), PeerFactory(b"")
        below = TLSFactory(tls, servers, clock).buildProtocol(None)
        assert below is not None
        self.tls = below
        (self.server,) = servers.peers
        if isinstance(client, bytes):
            other: Protocol = clients.buildProtocol(None)
        else:
            other = TLSMemoryBIOFactory(client, True, clients, clock).buildProtocol(None)
        (self.client,) = clients.peers
        client_transport = iosim.FakeTransport(other, isServer=False)
        self._pump = iosim.connect(self.tls, iosim.FakeTransport(self.tls, isServer=True), other, client_transport)
        if isinstance(client, bytes):
            client_transport.write(client)
        self.flush()

    def flush(self) -> None:
        """Let bytes flow until there are none; Twisted's own client gathers small writes for a turn."""
        self._clock.advance(0)
        self._pump.flush()
