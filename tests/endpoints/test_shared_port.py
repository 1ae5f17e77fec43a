from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from taky_twisted.endpoints import server_endpoint
from taky_twisted.streaming.transport import EagerServer, write_eagerly


class Greeting(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(type(self.transport).__name__.encode())
        self.transport.loseConnection()


class Counting(Factory):
    noisy = False
    protocol = Greeting

    def __init__(self) -> None:
        self.count = 0

    def buildProtocol(self, addr: IAddress | None) -> Any:
        self.count += 1
        return super().buildProtocol(addr)


class SharedPortTests(TestCase):
    async def listen(self, description: str, factory: Factory) -> IListeningPort:
        port = await server_endpoint(reactor, description).listen(factory)
        self.addCleanup(port.stopListening)
        return port

    async def test_shared(self) -> None:
        """Two doors of one user share a port, and both get clients; their connections write without delay."""
        factories = [Counting(), Counting()]
        first = await self.listen("tcp:0:interface=127.0.0.1:reusePort=yes", factories[0])
        number = first.getHost().port  # type: ignore[attr-defined]
        second = await self.listen(f"tcp:{number}:interface=127.0.0.1:reusePort=yes", factories[1])
        for port in (first, second):
            write_eagerly(port)
        clients = []
        for _ in range(64):
            client = socket.create_connection(("127.0.0.1", number), 5)
            self.addCleanup(client.close)
            clients.append(client)
        while sum(each.count for each in factories) < len(clients):
            await self.soon()
        self.assertTrue(all(each.count for each in factories), [each.count for each in factories])
        self.assertEqual(clients[0].recv(100), EagerServer.__name__.encode())

    async def test_taken(self) -> None:
        """Who does not share a port gets none that is shared, nor the other way round."""
        for mine, other in (("", ":reusePort=yes"), (":reusePort=yes", "")):
            port = await self.listen(f"tcp:0:interface=127.0.0.1{mine}", Counting())
            number = port.getHost().port  # type: ignore[attr-defined]
            failure = await self.failed(f"tcp:{number}:interface=127.0.0.1{other}")
            self.assertEqual(failure.socketError.errno, errno.EADDRINUSE)

    async def test_ipv6(self) -> None:
        """IPv6 is shared as well, on the address that is named."""
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        for described in (r"tcp:0:interface=\:\:1:reusePort=yes", r"tcp6:0:interface=\:\:1:reusePort=yes"):
            port = await self.listen(described, Counting())
            self.assertEqual(port.getHost().host, "::1")  # type: ignore[attr-defined]
        port = await self.listen("tcp6:0:reusePort=yes", Counting())
        self.assertEqual(port.getHost().host, "::")  # type: ignore[attr-defined]

    async def failed(self, description: str) -> CannotListenError:
        try:
            await server_endpoint(reactor, description).listen(Counting())
        except CannotListenError as error:
            return error
        raise AssertionError(f"{description} listens")

    async def soon(self) -> None:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.01, turn.callback, None)
        await turn
