"""A client's TLS connection to a `MartiSite` in memory: real certificates, no sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test import iosim

from taky_twisted.identity.tls import MutualTLS
from taky_twisted.identity.transport import TLSFactory
from taky_twisted.marti.channel import MartiChannel
from taky_twisted.marti.site import MartiSite
from tests.identity.pairs import PeerFactory
from tests.marti.asking import Answer, parsed
from tests.pki import ClientTLS


class TLSConnection:
    """One client's connection."""

    def __init__(self, site: MartiSite, tls: MutualTLS, client: ClientTLS | bytes) -> None:
        """Connect.

        Args:
            site: the door.
            tls: the door's.
            client: the client's TLS, or the bytes that a client without TLS sends.
        """
        self._clock = Clock()
        below = TLSFactory(tls, site, self._clock).buildProtocol(None)
        assert below is not None, "refused"
        channel = below.wrappedProtocol
        assert isinstance(channel, MartiChannel)
        self.channel = channel
        clients = PeerFactory(b"")
        if isinstance(client, bytes):
            other: Protocol = clients.buildProtocol(None)
        else:
            other = TLSMemoryBIOFactory(client, True, clients, self._clock).buildProtocol(None)
        (self.client,) = clients.peers
        transport = iosim.FakeTransport(other, isServer=False)
        self.server_transport = iosim.FakeTransport(below, isServer=True)
        self._pump = iosim.connect(below, self.server_transport, other, transport)
        if isinstance(client, bytes):
            transport.write(client)
        self.flush()

    def flush(self) -> None:
        """Let bytes flow until there are none."""
        self._clock.advance(0)
        self._pump.flush()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        assert self.client.transport is not None
        self.client.transport.write(data)
        self.flush()

    def answer(self) -> Answer:
        """Take the answer that has come."""
        self.flush()
        raw, self.client.received = self.client.received, b""
        return parsed(raw)

    @property
    def closed(self) -> bool:
        """Whether the server's end is closed."""
        self.flush()
        return self.client.reason is not None

    def lose(self) -> None:
        """Break the connection."""
        transport: Any = self.client.transport
        transport.abortConnection()
        self.flush()
