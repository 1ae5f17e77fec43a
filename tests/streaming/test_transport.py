"""What `EagerServer` believes of Twisted, on real sockets with a reactor that only takes notes."""

from __future__ import annotations

import socket
import struct

from twisted.internet import tcp, unix
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import AccumulatingProtocol, MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from taky_twisted.streaming.transport import (
    ACCEPTS_PER_TURN,
    KEEPALIVE_IDLE_SECONDS,
    KEEPALIVE_INTERVAL_SECONDS,
    KEEPALIVE_PROBES,
    EagerServer,
    accept_few,
    keep_alive,
    write_eagerly,
)

MUCH = 8 << 20
"""Bytes, more than the kernel takes at once."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Connect two TCP sockets on loopback."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    client.setblocking(False)
    return server, client


@implementer(IPushProducer)
class Producer:
    """Note what a transport says."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class EagerServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        server, self.client = pair()
        self.addCleanup(self.client.close)
        self.addCleanup(server.close)
        self.protocol = AccumulatingProtocol()
        self.transport = EagerServer(server, self.protocol, ("127.0.0.1", 1), None, 0, self.reactor)  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)

    @property
    def waits_for_the_reactor(self) -> bool:
        """Whether the reactor was asked to say when the socket can be written to."""
        return self.transport in self.reactor.getWriters()

    def read(self) -> bytes:
        """Read what has arrived."""
        try:
            return self.client.recv(1 << 20)
        except BlockingIOError:
            return b""

    def drain(self) -> bytes:
        """Be the reactor until nothing waits, and read everything."""
        got = bytearray()
        while self.waits_for_the_reactor:
            got += self.read()
            self.assertIsNone(self.transport.doWrite())
        while data := self.read():
            got += data
        return bytes(got)

    def test_at_once(self) -> None:
        """What is written leaves in the same moment, and the reactor is not bothered."""
        self.transport.write(b"one")
        self.assertEqual(self.read(), b"one")
        self.assertFalse(self.waits_for_the_reactor)
        self.assertEqual(self.transport.sent, 3)

    def test_private_attributes(self) -> None:
        """Twisted's queue is where we look for it: a list of bytes, then one piece of bytes, both empty when all left.

        If this fails, Twisted has changed: then `EagerServer.write` must look elsewhere, or order is lost.
        """
        self.assertEqual((self.transport._tempDataBuffer, self.transport.dataBuffer), ([], b""))
        tcp.Server.write(self.transport, b"queued")
        self.assertEqual((self.transport._tempDataBuffer, self.transport.dataBuffer), ([b"queued"], b""))
        self.transport.doWrite()
        self.assertEqual((self.transport._tempDataBuffer, self.transport.dataBuffer), ([], b""))
        tcp.Server.write(self.transport, b"x" * MUCH)
        self.transport.doWrite()
        self.assertEqual((self.transport._tempDataBuffer, len(self.transport.dataBuffer)), ([], MUCH))
        self.assertFalse(self.transport._writeDisconnected)
        self.assertTrue(self.transport.connected)

    def test_order(self) -> None:
        """What the kernel does not take goes to the queue, and nothing that is written later overtakes it."""
        pieces = [b"a" * MUCH, b"b" * 10, b"c" * MUCH, b"d"]
        for piece in pieces:
            self.transport.write(piece)
        self.assertTrue(self.waits_for_the_reactor)
        first = self.transport.sent
        self.assertTrue(0 < first < MUCH, first)
        self.transport.doWrite()
        self.transport.write(b"e")
        self.assertEqual(self.drain(), b"".join(pieces) + b"e")
        self.assertEqual(self.transport.sent, 2 * MUCH + 12)
        self.transport.write(b"f")
        self.assertEqual(self.read(), b"f")

    def test_kernel_full(self) -> None:
        """A kernel that takes nothing at all is no error."""
        while self.transport.sent == 0 or not self.waits_for_the_reactor:
            self.transport.write(b"x" * (1 << 16))
        sent = self.transport.sent
        self.transport.stopWriting()
        self.transport._tempDataBuffer, self.transport._tempDataLen = [], 0
        self.transport.write(b"more")
        self.assertTrue(self.waits_for_the_reactor)
        self.assertEqual((self.transport.sent, self.transport._tempDataBuffer), (sent, [b"more"]))

    def test_producer(self) -> None:
        """A producer is paused while more than Twisted's limit waits, and resumed when all of it is gone."""
        producer = Producer()
        self.transport.registerProducer(producer, True)
        self.transport.write(b"small")
        self.assertEqual(producer.calls, [])
        self.transport.write(b"x" * MUCH)
        self.assertEqual(producer.calls, ["pause"])
        self.drain()
        self.assertEqual(producer.calls, ["pause", "resume"])

    def test_nothing(self) -> None:
        """Nothing is nothing."""
        self.transport.write(b"")
        self.assertEqual((self.waits_for_the_reactor, self.transport.sent), (False, 0))

    def test_lose_connection(self) -> None:
        """Closing sends what waits first."""
        self.transport.write(b"x" * MUCH)
        self.transport.loseConnection()
        got = bytearray()
        while True:
            got += self.read()
            result = self.transport.doWrite()
            if result is not None:
                break
        self.transport.connectionLost(Failure(result))
        while data := self.read():
            got += data
        self.assertEqual(len(got), MUCH)
        self.assertTrue(self.protocol.closed)

    def test_broken(self) -> None:
        """A write on a connection that the peer has reset fails where the reactor sees it, not in the caller."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
        self.transport.write(b"lost")
        self.assertTrue(self.waits_for_the_reactor)
        self.assertEqual(self.transport.sent, 0)
        self.assertIsInstance(self.transport.doWrite(), ConnectionLost)

    def test_broken_is_no_goodbye(self) -> None:
        """A connection that broke off is told as such, also when a write noticed first; what was said before counts."""
        self.client.sendall(b"last words")
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
        self.transport.write(b"lost")
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.data, b"last words")
        self.assertIsInstance(self.transport.doRead(), ConnectionLost)

    def test_goodbye(self) -> None:
        """A connection that ends with a goodbye is told as such."""
        self.client.close()
        self.assertIsInstance(self.transport.doRead(), ConnectionDone)

    def test_gone(self) -> None:
        """A write after the end is ignored."""
        self.transport.connectionLost(Failure(ConnectionLost()))
        self.transport.write(b"late")
        self.assertEqual((self.waits_for_the_reactor, self.transport.sent), (False, 0))

    def test_half_closed(self) -> None:
        """A write after our half was closed is ignored."""
        self.transport.loseWriteConnection()
        self.transport.doWrite()
        self.transport.write(b"late")
        self.assertEqual((self.read(), self.transport.sent), (b"", 0))

    def test_keep_alive(self) -> None:
        """Dead peers are noticed within two minutes, and small events are not held back."""
        handle = self.transport.getHandle()
        self.assertTrue(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.assertTrue(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        for option, value in (
            (socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS),
            (socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS),
            (socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
        ):
            self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, option), value)
        self.assertLessEqual(KEEPALIVE_IDLE_SECONDS + KEEPALIVE_PROBES * KEEPALIVE_INTERVAL_SECONDS, 120)

    def test_keep_alive_elsewhere(self) -> None:
        """Where the system has no such setting the others are made."""
        number = socket.TCP_KEEPCNT
        self.addCleanup(setattr, socket, "TCP_KEEPCNT", number)
        del socket.TCP_KEEPCNT
        one, other = pair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        keep_alive(one)
        self.assertEqual(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), KEEPALIVE_IDLE_SECONDS)
        self.assertNotEqual(one.getsockopt(socket.IPPROTO_TCP, number), KEEPALIVE_PROBES)

    def test_options_refused(self) -> None:
        """A socket that takes no options is served all the same."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        transport = EagerServer(one, Protocol(), ("127.0.0.1", 1), None, 0, self.reactor)  # type: ignore[arg-type]
        transport.write(b"hello")
        self.assertEqual(other.recv(10), b"hello")


class WriteEagerlyTests(SynchronousTestCase):
    def test_tcp(self) -> None:
        """Connections of a TCP port write at once afterwards."""
        port = tcp.Port(0, Factory(), reactor=MemoryReactorClock())
        write_eagerly(port)
        self.assertIs(port.transport, EagerServer)
        self.assertIs(tcp.Port.transport, tcp.Server, "the change is this port's alone")

    def test_others(self) -> None:
        """Any other port is left alone."""
        port = unix.Port(b"/nowhere", Factory(), reactor=MemoryReactorClock())
        before = port.transport
        write_eagerly(port)
        self.assertIs(port.transport, before)


class AcceptFewTests(SynchronousTestCase):
    def test_flood(self) -> None:
        """However many wait at a door, a few of them are taken in per turn, and in the end all are."""
        case = self

        class Newcomer(Protocol):
            def connectionMade(self) -> None:
                case.addCleanup(self.transport.getHandle().close)  # type: ignore[union-attr]  # it is a socket's

        port = tcp.Port(0, Factory.forProtocol(Newcomer), interface="127.0.0.1", reactor=MemoryReactorClock())
        accept_few(port)
        port.startListening()
        self.addCleanup(port.connectionLost, Failure(ConnectionDone()))
        for _ in range(3 * ACCEPTS_PER_TURN + 1):
            client = socket.create_connection(("127.0.0.1", port.getHost().port))
            self.addCleanup(client.close)
        taken = []
        for _ in range(5):
            before = port.sessionno
            port.doRead()
            taken.append(port.sessionno - before)
        self.assertEqual(taken, [ACCEPTS_PER_TURN] * 3 + [1, 0])

    def test_others(self) -> None:
        """A port that is no TCP port is left alone."""
        port = object()
        accept_few(port)  # type: ignore[arg-type]  # any object without what a TCP port has
        self.assertFalse(hasattr(port, "doRead"))
