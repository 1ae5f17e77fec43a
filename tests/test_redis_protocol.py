from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.redis_errors import RedisAway
from taky_twisted.redis_protocol import RedisConnection, RedisConnectionFactory


class RedisConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ends: list[str] = []
        factory = RedisConnectionFactory(self.clock, lambda connection, why: self.ends.append(str(why)))
        self.connection: RedisConnection = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)

    def test_bytes_waiting(self) -> None:
        """How much waits for an answer is known in bytes at any time."""
        first = self.connection.ask([("GET", "a")], 2)
        self.connection.ask([("GET", "b"), ("GET", "c")], 2)
        self.assertEqual(self.connection.waiting_bytes, len(self.transport.value()))
        self.connection.dataReceived(b"$-1\r\n$-1\r\n")
        self.successResultOf(first)
        self.assertEqual(self.connection.waiting_bytes, 2 * len(self.transport.value()) // 3)
        self.connection.dataReceived(b"$-1\r\n")
        self.assertEqual(self.connection.waiting_bytes, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ends_once(self) -> None:
        """However many ways a connection ends in, that is told once, before those who wait hear of it."""
        order: list[str] = []
        asked = self.connection.ask([("GET", "a")], 2)
        asked.addErrback(lambda failure: order.append(f"{failure.value} after {self.ends}"))
        self.clock.advance(2)
        self.connection.end(RedisAway("again"))
        self.connection.dataReceived(b"$1\r\na\r\n")
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.ends, ["no answer within 2 s"])
        self.assertEqual(order, ["no answer within 2 s after ['no answer within 2 s']"])

    def test_deep_replies(self) -> None:
        """Lists in lists, as streams are told, come out as they are."""
        asked = self.connection.ask([("XREAD", "STREAMS", "s", "0")], 2)
        self.connection.dataReceived(
            b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nk\r\n$2\r\n\xff\x00\r\n"
        )
        self.assertEqual(self.successResultOf(asked), [[[b"s", [[b"1-1", [b"k", b"\xff\x00"]]]]]])
