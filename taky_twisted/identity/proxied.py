"""Connections that a load balancer passes on: who the client is says a PROXY header, and only some are believed.

::

    socket -> ProxiedFactory -----> ProxiedProtocol -> (TLS) -> the application's protocol
               is it a balancer?     reads the header, then asks for the client's address: admits(address)?

Twisted's own ``haproxy:`` builds the application's protocol before the header is there, with the balancer's address,
waits for a header for ever, and believes everybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import directlyProvides, providedBy

from taky_twisted.identity.proxy_header import ProxyHeader, ProxyHeaderError, read_header
from taky_twisted.identity.transport import AdmissionFactory
from taky_twisted.logs import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, IReactorTime, ITransport
    from twisted.python.failure import Failure

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HEADER_SECONDS = 5.0
"""Time for the header, from the connection on; the protocol's text wants at least 3, for a packet that was lost."""
MAX_WAITING = 1000
"""Connections of one door that have sent no header yet."""
NOT_BELIEVED = "it is no load balancer whose PROXY header is believed (proxy_from)"


class ProxiedFactory(AdmissionFactory):
    """Take in connections of believed load balancers, and build for each client what stands behind.

    An application's factory that has a method ``refused(address, reason)`` is told whom this refuses.
    """

    log = Logger()

    def __init__(
        self,
        wrapped: IProtocolFactory,
        application: IProtocolFactory,
        believed: Sequence[Network],
        clock: IReactorTime,
    ) -> None:
        """Describe a door.

        Args:
            wrapped: builds the protocols.
            application: is asked and told.
            believed: where load balancers are; who comes through a unix socket is one.
            clock: tells the time.
        """
        super().__init__(wrapped, application)
        self._believed = tuple(believed)
        self._refused = getattr(application, "refused", None)
        self.clock = clock
        self.waiting = 0
        """Connections without a header so far."""

    def buildProtocol(self, addr: IAddress | None) -> ProxiedProtocol | None:  # type: ignore[override]
        if not self._believes(addr):
            self.refuse(addr, NOT_BELIEVED)
            return None
        if self.waiting >= MAX_WAITING:
            self.refuse(addr, f"{MAX_WAITING} connections have sent no PROXY header yet")
            return None
        return ProxiedProtocol(self)

    def build(self, client: IAddress) -> Any:
        """Build what stands behind, for a client; None if the application does not want it."""
        return super().buildProtocol(client)

    def refuse(self, address: IAddress | None, reason: str) -> None:
        """Say that a connection is refused."""
        if self._refused is not None:
            self._refused(address, reason)
        else:
            self.log.info("{host} refused: {reason}", host=getattr(address, "host", ""), reason=reason)

    def _believes(self, address: IAddress | None) -> bool:
        host = getattr(address, "host", None)
        if host is None:
            return True  # the mode of a unix socket says who may come
        found = _plain(host)
        return any(found in network for network in self._believed)


class ProxiedProtocol(ProtocolWrapper):
    """A connection of a load balancer: first the header, then the client's.

    What the balancer opens for itself (a health check) is passed on only when something is said on it, or when it
    stays: most such checks connect and close, every few seconds, and nobody wants to read that in a log.
    """

    factory: ProxiedFactory
    transport: ITransport

    def __init__(self, factory: ProxiedFactory) -> None:
        super().__init__(factory, None)  # type: ignore[arg-type]  # not before we know for whom
        self._buffer = bytearray()
        self._header: ProxyHeader | None = None

    def getPeer(self) -> IAddress:
        """Tell where the client is."""
        return (self._header and self._header.source) or self.transport.getPeer()

    def getHost(self) -> IAddress:
        """Tell where the client has reached the balancer."""
        return (self._header and self._header.destination) or self.transport.getHost()

    def makeConnection(self, transport: ITransport) -> None:
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self.factory.waiting += 1
        self._timer: IDelayedCall | None = self.factory.clock.callLater(HEADER_SECONDS, self._time_is_up)
        # Shadows the method until the client's protocol is there, so that later reads pay nothing for it.
        self.dataReceived = self._first_data_received  # type: ignore[method-assign]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if self.wrappedProtocol is not None:
            super().connectionLost(reason)
            return
        self.factory.unregisterProtocol(self)
        if self._timer is not None:
            self._end_wait()
            if self._buffer and self._header is None:
                self.factory.refuse(self.transport.getPeer(), "it was closed in the middle of its PROXY header")

    def _first_data_received(self, data: bytes) -> None:
        if self._timer is None:
            return  # it was refused
        self._buffer += data
        if self._header is None:
            try:
                self._header = read_header(self._buffer)
            except ProxyHeaderError as error:
                self._refuse(str(error))
                return
            if self._header is None:
                return
            del self._buffer[: self._header.size]
        if self._buffer or not self._is_balancers_own(self._header):
            self._pass_on()

    def _is_balancers_own(self, header: ProxyHeader) -> bool:
        # In version 1 a balancer gives its own address for its health checks.
        host = getattr(self.transport.getPeer(), "host", None)
        return header.source is None or (host is not None and _plain(header.source.host) == _plain(host))

    def _pass_on(self) -> None:
        self._end_wait()
        protocol = self.factory.build(self.getPeer())
        if protocol is None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it
            return
        self.wrappedProtocol = protocol
        del self.dataReceived
        data = bytes(self._buffer)
        self._buffer.clear()
        protocol.makeConnection(self)
        if data:
            protocol.dataReceived(data)

    def _time_is_up(self) -> None:
        if self._header is None:
            self._refuse(f"no PROXY header came within {HEADER_SECONDS:g} seconds")
        else:
            self._pass_on()

    def _end_wait(self) -> None:
        timer, self._timer = self._timer, None
        assert timer is not None, "it has waited"
        if timer.active():
            timer.cancel()
        self.factory.waiting -= 1

    def _refuse(self, reason: str) -> None:
        self._end_wait()
        self._buffer.clear()
        self.factory.refuse(self.transport.getPeer(), reason)
        self.transport.abortConnection()  # type: ignore[attr-defined]


def _plain(host: str) -> Any:
    """Read an address; what an IPv6 socket says of IPv4 is that of IPv4."""
    found: Any = ipaddress.ip_address(host)
    return getattr(found, "ipv4_mapped", None) or found
