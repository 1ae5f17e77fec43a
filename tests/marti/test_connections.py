from __future__ import annotations

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.marti.connections import FINISH_SECONDS, HttpConnections, host_of
from taky_twisted.marti.errors import TooMany
from taky_twisted.marti.replies import Reply, text
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from tests.fakes import LogLines, principal
from tests.marti.asking import Asking, Connection, spell

LOCAL = UNIXAddress("/run/taky")


class Area:
    """A route that answers at once."""

    @route("/Marti/take", "POST")
    def take(self, request: MartiRequest) -> Reply:
        """Take a body."""
        return text("taken")


def address(host: str) -> IPv4Address:
    """Make an address."""
    return IPv4Address("TCP", host, 40000)


class CountTests(SynchronousTestCase):
    def test_per_address(self) -> None:
        """One address may have so many connections; others are not concerned, and closed ones do not count."""
        ask = Asking(limits=Limits(max_http_per_address=2))
        one, two = Connection(ask.door), Connection(ask.door)
        here = one.transport.getPeer()
        self.assertEqual(
            ask.connections.why_not(here), "there are 2 HTTP connections from there (max_http_per_address)"
        )
        self.assertIsNone(ask.connections.why_not(address("192.0.2.99")))
        self.assertIsNone(ask.connections.why_not(LOCAL))
        one.lose()
        self.assertIsNone(ask.connections.why_not(here))
        two.lose()
        self.assertEqual((len(ask.connections), ask.connections._per_address), (0, {}))

    def test_all(self) -> None:
        """All together may be so many."""
        ask = Asking(limits=Limits(max_http_connections=1))
        self.assertIsNone(ask.connections.why_not(None))
        connection = Connection(ask.door)
        self.assertEqual(ask.connections.why_not(LOCAL), "there are 1 HTTP connections (max_http_connections)")
        connection.lose()

    def test_room_for_others(self) -> None:
        """Who has many connections and asks nothing there makes room for others, the oldest of them first."""
        ask = Asking(limits=Limits(max_http_connections=3))
        silent = [Connection(ask.door) for _ in range(3)]
        here, there = silent[0].transport.getPeer(), address("192.0.2.99")
        self.assertIsNotNone(ask.connections.why_not(here), "but not for the same")
        self.assertIsNone(ask.connections.why_not(there))
        self.assertEqual([each.closed for each in silent], ["aborted", None, None])

    def test_room_of_others(self) -> None:
        """Where who has most is being answered on all of them, who has most after him makes room."""
        ask = Asking(Area(), limits=Limits(max_http_connections=9))
        busy = [Connection(ask.door, "192.0.2.1") for _ in range(4)]
        for each in busy:
            each.send(b"POST /Marti/take HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        silent = [Connection(ask.door, host) for host in ("192.0.2.2", *["192.0.2.3"] * 3, "192.0.2.2")]
        self.assertIsNone(ask.connections.why_not(address("192.0.2.99")))
        self.assertEqual([each.closed for each in silent], [None, "aborted", None, None, None])
        self.assertEqual([each.closed for each in busy], [None] * 4)

    def test_no_room(self) -> None:
        """Who is being answered is not put out, nor who has hardly more than the newcomer."""
        ask = Asking(Area(), limits=Limits(max_http_connections=2))
        busy = [Connection(ask.door) for _ in range(2)]
        for each in busy:
            each.send(b"POST /Marti/take HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        self.assertIsNotNone(ask.connections.why_not(address("192.0.2.99")))
        ask = Asking(limits=Limits(max_http_connections=1))
        Connection(ask.door)
        self.assertIsNotNone(ask.connections.why_not(address("192.0.2.99")))

    def test_off(self) -> None:
        """Without a limit an address may have any number."""
        ask = Asking()
        connections = [Connection(ask.door) for _ in range(50)]
        self.assertIsNone(ask.connections.why_not(connections[0].transport.getPeer()))
        for connection in connections:
            connection.lose()

    def test_host_of(self) -> None:
        """What has no host shares the empty name."""
        self.assertEqual((host_of(address("192.0.2.1")), host_of(LOCAL), host_of(None)), ("192.0.2.1", "", ""))

    def test_uploads(self) -> None:
        """Uploads are counted by who makes them, and not remembered for ever."""
        connections = HttpConnections(Clock(), Limits(uploads_per_principal=1))
        connections.begin_upload("A")
        connections.begin_upload("B")
        self.assertRaises(TooMany, connections.begin_upload, "A")
        connections.end_upload("A")
        connections.begin_upload("A")
        for who in ("A", "B"):
            connections.end_upload(who)
        self.assertEqual(connections._uploads, {})


class NamedTests(SynchronousTestCase):
    def test_close_named(self) -> None:
        """Everybody with a name is cut off; others, and those without one, are not."""
        ask = Asking()
        alice, nobody = Connection(ask.door), Connection(ask.door)
        alice.channel.principal = principal("alice")
        self.assertEqual(ask.connections.close_named(" Alice", "banned"), 1)
        self.assertEqual((alice.transport.disconnected, nobody.transport.disconnected), (True, False))
        nobody.lose()

    def test_close_account(self) -> None:
        """Everybody who has shown an account's password is cut off, with one and with the other way of asking."""
        ask = Asking()
        connections = [Connection(ask.door) for _ in range(4)]
        for connection, account in zip(connections, ("Alice", "ALICE", "bob", None), strict=True):
            connection.channel.account = account
        ask.connections.close_account("alice", "disabled")
        self.assertEqual([each.transport.disconnected for each in connections], [True, True, False, False])
        self.assertEqual(ask.connections.close_named("bob", "banned"), 1)
        for each in connections[2:]:
            each.lose()


class StopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = Asking(Area())
        self.connections, self.clock = self.ask.connections, self.ask.clock
        self.connections.startService()

    def test_nobody(self) -> None:
        """With nobody connected a stop is done at once."""
        self.assertIsNone(self.connections.stopService())

    def test_idle(self) -> None:
        """Who waits between two requests is closed at once."""
        connection = Connection(self.ask.door)
        stopped = self.connections.stopService()
        assert stopped is not None
        self.assertEqual(connection.closed, "closed")
        self.assertNoResult(stopped)
        connection.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_under_way(self) -> None:
        """A request that is under way is answered; then its connection is closed."""
        connection = Connection(self.ask.door)
        whole = spell("POST", "/Marti/take", b"0123456789")
        connection.send(whole[:-5])
        stopped = self.connections.stopService()
        assert stopped is not None
        self.assertIsNone(connection.closed)
        connection.send(whole[-5:])
        self.assertEqual(connection.answer().body, b"taken")
        self.assertEqual(connection.closed, "closed")
        connection.lose()
        self.successResultOf(stopped)

    def test_slow(self) -> None:
        """Who takes longer than a few seconds is cut off, so that a stop always ends."""
        log = LogLines(self)
        slow, idle = Connection(self.ask.door), Connection(self.ask.door)
        slow.send(spell("POST", "/Marti/take", b"0123456789")[:-5])
        stopped = self.connections.stopService()
        assert stopped is not None
        idle.lose()
        self.clock.advance(FINISH_SECONDS)
        self.assertEqual(slow.closed, "aborted")
        slow.lose()
        self.successResultOf(stopped)
        self.assertIn("198.51.100.7:40000 at HTTP closed: the server stops", log())
        self.assertEqual(self.clock.getDelayedCalls(), [])
