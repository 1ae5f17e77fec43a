from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from taky_twisted.identity.errors import EndpointError
from taky_twisted.redis_client import (
    CLOSE_SECONDS,
    CONNECT_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_WAITING,
    REPLY_SECONDS,
    Redis,
    RedisAway,
    RedisError,
    RedisRefused,
    RedisSettings,
)
from tests.fakes import LogLines
from tests.pki import PKI, write_private
from tests.redis_server import RedisServer

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"


class Wire:
    """The Redis end of one connection, in memory."""

    def __init__(self, redis: Redis, reactor: MemoryReactorClock, number: int) -> None:
        factory = reactor.unixClients[number][1]
        self.transport = StringTransport()
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        protocol.makeConnection(self.transport)
        self.protocol = protocol

    def said(self) -> bytes:
        """Read what was sent."""
        said: bytes = self.transport.value()
        self.transport.clear()
        return said

    def answer(self, data: bytes) -> None:
        """Send replies."""
        self.protocol.dataReceived(data)

    @property
    def closed(self) -> bool:
        """Whether our end was closed or broken off."""
        return self.transport.disconnecting

    def lose(self) -> None:
        """Break off."""
        self.protocol.connectionLost(Failure(ConnectError("gone")))


class MemoryTests(SynchronousTestCase):
    """Time and the wire in our hands."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.redis = Redis(self.reactor, RedisSettings("unix:/redis.sock"))
        self.history: list[str] = []
        self.redis.watch(lambda: self.history.append("came"), lambda why: self.history.append(f"went: {why}"))

    def tearDown(self) -> None:
        for call in self.reactor.getDelayedCalls():
            self.assertFalse(call.active(), f"{call} is left over")

    def connect(self) -> Wire:
        """Let the newest attempt succeed."""
        wire = Wire(self.redis, self.reactor, -1)
        self.assertEqual(wire.said(), PING)
        wire.answer(PONG)
        return wire

    def started(self) -> Wire:
        """Start, and connect."""
        self.redis.startService()
        return self.connect()

    def stop(self, *wires: Wire) -> None:
        """Stop, and close what is open."""
        stopped = self.redis.stopService()
        for wire in wires:
            self.assertTrue(wire.closed)
            wire.lose()
        self.successResultOf(stopped)

    def failed(self, deferred: Deferred[Any]) -> str:
        """Tell why a call failed."""
        return str(self.failureResultOf(deferred, RedisAway).value)

    def test_up_after_reply(self) -> None:
        """Redis is there once it has answered, not when a port took the connection."""
        self.redis.startService()
        wire = Wire(self.redis, self.reactor, -1)
        self.assertFalse(self.redis.up)
        wire.answer(PONG)
        self.assertTrue(self.redis.up)
        self.assertEqual(self.history, ["came"])
        late: list[str] = []
        self.redis.watch(lambda: late.append("there already"), lambda _: None)
        self.assertEqual(late, ["there already"])
        self.stop(wire)
        self.assertFalse(self.redis.up)
        self.assertEqual(self.history, ["came"], "stopping is no outage")

    def test_nothing_waits(self) -> None:
        """What is asked while Redis is away fails at once, and is never sent later."""
        self.assertEqual(self.failed(self.redis.call("SET", "a", "old")), "not tried yet")
        self.redis.startService()
        self.failed(self.redis.call("SET", "a", "old"))
        wire = self.connect()
        self.assertEqual(wire.said(), b"")
        self.stop(wire)
        self.assertIn("stopped", self.failed(self.redis.call("SET", "a", "old")))

    def test_replies_in_order(self) -> None:
        """Each call gets its own reply, however the network cuts them."""
        wire = self.started()
        first, second = self.redis.call("GET", b"a\xff"), self.redis.pipeline([("INCR", "n"), ("GET", "ü"), ("X", 1.5)])
        self.assertEqual(
            wire.said(),
            b"*2\r\n$3\r\nGET\r\n$2\r\na\xff\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"
            b"*2\r\n$3\r\nGET\r\n$2\r\n\xc3\xbc\r\n*2\r\n$1\r\nX\r\n$3\r\n1.5\r\n",
        )
        for byte in b"$2\r\n12\r\n:7\r\n$-1\r\n*2\r\n$1\r\na\r\n+b\r\n":
            wire.answer(bytes([byte]))
        self.assertEqual(self.successResultOf(first), b"12")
        self.assertEqual(self.successResultOf(second), [7, None, [b"a", b"b"]])
        self.assertEqual(self.successResultOf(self.redis.pipeline([])), [])
        self.stop(wire)

    def test_refused(self) -> None:
        """An error is told with its code; what was sent along is done, and the connection goes on."""
        wire = self.started()
        asked = self.redis.pipeline([("SET", "a", 1), ("SET", "b", 1), ("GET", "a")])
        wire.answer(b"+OK\r\n-OOM command not allowed\r\n-ERR other\r\n")
        error = self.failureResultOf(asked, RedisRefused).value
        self.assertEqual((error.code, str(error)), ("OOM", "OOM command not allowed"))
        self.assertIn("maxmemory", error.advice)
        in_transaction = self.redis.call("EXEC")
        wire.answer(b"*2\r\n+OK\r\n-WRONGTYPE not that\r\n")
        error = self.failureResultOf(in_transaction, RedisRefused).value
        self.assertEqual(error.code, "WRONGTYPE")
        self.assertIn("manual", error.advice)
        self.assertTrue(self.redis.up)
        self.stop(wire)

    def test_refused_without_words(self) -> None:
        """What Redis says about a command that it does not know leaves out what the command said."""
        wire = self.started()
        asked = self.redis.call("AUTH", "hunter2")
        wire.answer(b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2' \r\n")
        self.assertEqual(str(self.failureResultOf(asked, RedisRefused).value), "ERR unknown command 'AUTH'")
        self.stop(wire)

    def test_too_late(self) -> None:
        """A call that is not answered in time fails, with all that wait, and a late reply is nobody's."""
        wire = self.started()
        slow, other = self.redis.call("GET", "a"), self.redis.call("GET", "b", seconds=60)
        self.reactor.advance(REPLY_SECONDS - 0.01)
        self.assertNoResult(slow)
        self.reactor.advance(0.01)
        self.assertEqual(self.failed(slow), "no answer within 2 s")
        self.failed(other)
        self.assertTrue(wire.closed)
        self.assertEqual(self.history, ["came", "went: no answer within 2 s"])
        wire.answer(b"$1\r\na\r\n")
        wire.lose()
        self.reactor.advance(0.1)
        again = self.connect()
        asked = self.redis.call("GET", "c")
        again.answer(b"$1\r\nc\r\n")
        self.assertEqual(self.successResultOf(asked), b"c")
        self.stop(again)

    def test_given_up(self) -> None:
        """A caller that waits no longer does not shift the replies of others."""
        wire = self.started()
        given_up, kept = self.redis.call("GET", "a"), self.redis.call("GET", "b")
        given_up.addErrback(lambda _: None)
        given_up.cancel()
        wire.answer(b"$1\r\na\r\n$1\r\nb\r\n")
        self.assertEqual(self.successResultOf(kept), b"b")
        self.stop(wire)

    def test_bounded(self) -> None:
        """No more than a certain number of bytes waits for an answer; then calls fail instead of filling the memory."""
        wire = self.started()
        full = self.redis.call("SET", "a", bytes(MAX_WAITING))
        self.assertIn("does not keep up", self.failed(self.redis.call("GET", "b")))
        wire.answer(b"+OK\r\n")
        self.successResultOf(full)
        self.redis.call("GET", "b")
        wire.answer(b"$-1\r\n")
        self.stop(wire)

    def test_lost(self) -> None:
        """A connection that is lost fails what waits and is made again: after 0.1 s, then later, at most 2 s apart."""
        wire = self.started()
        waiting = self.redis.call("GET", "a")
        wire.lose()
        self.assertIn("lost", self.failed(waiting))
        delays = []
        for attempt in range(1, 9):
            (call,) = self.reactor.getDelayedCalls()
            delays.append(round(call.getTime() - self.reactor.seconds(), 3))
            self.reactor.advance(delays[-1])
            factory = self.reactor.unixClients[-1][1]
            self.assertEqual(len(self.reactor.unixClients), attempt + 1)
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError("refused")))
        self.assertEqual(delays, [0.1, 0.2, 0.4, 0.8, 1.6, MAX_DELAY_SECONDS, MAX_DELAY_SECONDS, MAX_DELAY_SECONDS])
        self.assertIn("refused", str(self.redis.why))
        self.reactor.advance(MAX_DELAY_SECONDS)
        again = self.connect()
        self.assertEqual(len(self.history), 3)
        again.lose()
        self.reactor.advance(0.1)
        self.stop(self.connect())

    def test_connecting_too_slow(self) -> None:
        """An address that swallows everything is given up and tried again; so is one that takes us in and is silent."""
        self.redis.startService()
        self.reactor.advance(CONNECT_SECONDS)
        self.assertEqual(str(self.redis.why), "no connection within 2 s")
        self.reactor.advance(0.1)
        silent = Wire(self.redis, self.reactor, -1)
        self.reactor.advance(CONNECT_SECONDS)
        self.assertEqual(str(self.redis.why), "no answer within 2 s")
        self.assertTrue(silent.closed)
        silent.lose()
        self.reactor.advance(0.2)
        self.stop(self.connect())

    def test_stop_while_connecting(self) -> None:
        """Stopping ends an attempt, also one that waits for its first reply or for its time."""
        self.redis.startService()
        self.stop()
        self.redis.startService()
        self.stop(Wire(self.redis, self.reactor, -1))
        self.redis.startService()
        self.reactor.advance(CONNECT_SECONDS)
        self.stop()

    def test_stop_hangs(self) -> None:
        """A Redis that does not let us go is left after a second; who waits for a reply hears so."""
        wire = self.started()
        waiting = self.redis.call("GET", "a")
        stopped = self.redis.stopService()
        self.assertTrue(wire.closed)
        self.reactor.advance(CLOSE_SECONDS)
        self.successResultOf(stopped)
        self.assertIn("stopped", self.failed(waiting))

    def test_nonsense(self) -> None:
        """Another kind of server, or replies that nobody asked for, end the connection with a word about it."""
        wire = self.started()
        waiting = self.redis.call("GET", "a")
        wire.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertIn("does not speak as Redis", self.failed(waiting))
        self.assertTrue(wire.closed)
        self.reactor.advance(0.1)
        wire = self.connect()
        wire.answer(b"+HELLO\r\n+AGAIN\r\n")
        self.assertIn("not asked for: b'HELLO'", self.history[-1])
        self.reactor.advance(0.1)
        self.stop(self.connect())

    def test_wait(self) -> None:
        """Waiting ends when Redis comes, when it refuses for good, or when the time is over."""
        self.redis.startService()
        came, late = self.redis.wait(10), self.redis.wait(0.5)
        self.reactor.advance(0.5)
        self.failed(late)
        wire = self.connect()
        self.successResultOf(came)
        self.successResultOf(self.redis.wait(10))
        wire.lose()
        waiting = self.redis.wait(10)
        self.reactor.advance(0.1)
        Wire(self.redis, self.reactor, -1).answer(b"-LOADING Redis is loading the dataset in memory\r\n")
        self.assertNoResult(waiting)
        self.reactor.advance(0.2)
        Wire(self.redis, self.reactor, -1).answer(b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(self.failureResultOf(waiting, RedisRefused).value.code, "NOAUTH")
        self.failureResultOf(self.redis.wait(10), RedisRefused)
        self.failed(self.redis.call("GET", "a"))
        self.stop()
        stopping = self.redis.wait(10)
        self.redis.startService()
        self.stop()
        self.failureResultOf(stopping, RedisError)

    def test_unknown_failure(self) -> None:
        """A failure that we know nothing of is tried again like any other."""
        lines = LogLines(self)
        self.redis.startService()
        self.reactor.unixClients[-1][1].clientConnectionFailed(None, Failure(RuntimeError("strange")))
        self.assertEqual(str(self.redis.why), "strange")
        self.assertEqual(lines(), [])
        self.reactor.advance(0.1)
        self.stop(self.connect())


class SettingsTests(SynchronousTestCase):
    """What can be wrong before anything is connected to."""

    def wrong(self, endpoint: str = "unix:/redis.sock", password_file: Path | None = None) -> str:
        """Tell what is wrong with settings."""
        error = self.assertRaises(
            EndpointError, Redis, MemoryReactorClock(), RedisSettings(endpoint, password_file=password_file)
        )
        return str(error)

    def test_endpoint(self) -> None:
        """A wrong endpoint is told with what is allowed."""
        for endpoint in ("", "tpc:localhost:6379", "tcp:localhost", "tcp:localhost:x", "tcp:a:1:b=2", "tls:a"):
            self.assertIn("allowed: redis:tcp:HOST:PORT", self.wrong(endpoint), endpoint)
        self.assertIn("redis:tls:a:1:trustRoots=/nowhere:", self.wrong("tls:a:1:trustRoots=/nowhere"))

    def test_password_file(self) -> None:
        """A password file that others can read, or that holds no password, is refused; the password is never shown."""
        folder = Path(self.mktemp())
        folder.mkdir()
        path = folder / "password"
        self.assertIn("No such file", self.wrong(password_file=path))
        for content, word in (
            (b"", "one line"),
            (b"\n", "one line"),
            (b"hunter2\nmore\n", "one line"),
            (b"x" * 5000, "one line"),
            (b"hunter2\xff\n", "UTF-8"),
        ):
            write_private(path, content)
            text = self.wrong(password_file=path)
            self.assertIn(word, text)
            self.assertNotIn("hunter2", text)
        write_private(path, b"hunter2\n")
        os.chmod(path, 0o640)
        self.assertIn("chmod 600", self.wrong(password_file=path))
        self.assertIn("Is a directory", self.wrong(password_file=folder))

    def introduction(self, settings: RedisSettings) -> bytes:
        """Read what is said first on a connection."""
        reactor = MemoryReactorClock()
        redis = Redis(reactor, settings)
        redis.startService()
        wire = Wire(redis, reactor, -1)
        said = wire.said()
        stopped = redis.stopService()
        wire.lose()
        self.successResultOf(stopped)
        return said

    def test_introduction(self) -> None:
        """The user, the password and the database are said first, all at once."""
        auth = b"*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n"
        path = Path(self.mktemp())
        write_private(path, b"hunter2\r\n")
        self.assertEqual(self.introduction(RedisSettings("unix:/s")), PING)
        self.assertEqual(self.introduction(RedisSettings("unix:/s", password="hunter2")), auth + PING)
        self.assertEqual(self.introduction(RedisSettings("unix:/s", password="x", password_file=path)), auth + PING)
        self.assertEqual(
            self.introduction(RedisSettings("unix:/s", "anna")),
            b"*3\r\n$4\r\nAUTH\r\n$4\r\nanna\r\n$0\r\n\r\n" + PING,
            "who has no password is somebody all the same",
        )
        self.assertEqual(
            self.introduction(RedisSettings("unix:/s", "anna", path, 3)),
            b"*3\r\n$4\r\nAUTH\r\n$4\r\nanna\r\n$7\r\nhunter2\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n" + PING,
        )
        self.assertNotIn("hunter2", repr(RedisSettings("unix:/s", password="hunter2")))


class RealTests(TestCase):
    """Against a real Redis."""

    def client(self, endpoint: str, **settings: object) -> Redis:
        """Start a client that stops with the test."""
        redis = Redis(reactor, RedisSettings(endpoint, **settings))  # type: ignore[arg-type]
        redis.startService()
        self.addCleanup(redis.stopService)
        return redis

    async def refused(self, redis: Redis) -> str:
        """Tell the code with which Redis refuses us."""
        with self.assertRaises(RedisRefused) as caught:
            await redis.wait(10)
        code: str = caught.exception.code
        return code

    async def test_ways(self) -> None:
        """TCP, TLS and a unix socket lead to the same place; bytes come back as they were, numbers as well."""
        server = RedisServer(self, tls=PKI(self.mktemp()))
        value = bytes(range(256)) * 400
        for endpoint in (server.endpoint, server.unix_endpoint, server.tls_endpoint):
            redis = self.client(endpoint)
            await redis.wait(10)
            await redis.call("SET", "a", value)
            self.assertEqual(await redis.call("GET", "a"), value)
            self.assertEqual(await redis.call("SET", "n", 12), b"OK")
            self.assertEqual(await redis.pipeline([("GET", "n"), ("INCR", "n"), ("MGET", "x")]), [b"12", 13, [None]])

    async def test_tls_not_trusted(self) -> None:
        """A server whose certificate nobody vouches for is not talked to."""
        server = RedisServer(self, tls=PKI(self.mktemp()), password="hunter2")
        redis = self.client(f"tls:127.0.0.1:{server.tls_port}", password="hunter2")
        with self.assertRaises(RedisAway) as caught:
            await redis.wait(1)
        self.assertIn("certificate", str(caught.exception))

    async def test_database(self) -> None:
        """Each database has its own keys; one that is not there is refused."""
        server = RedisServer(self)
        redis = self.client(server.endpoint, db=3)
        await redis.wait(10)
        await redis.call("SET", "a", 1)
        self.assertEqual(server.keys(), set())
        self.assertEqual(await self.refused(self.client(server.endpoint, db=99)), "ERR")

    async def test_users(self) -> None:
        """Passwords and users are checked by Redis; without one, or with a wrong one, it says so."""
        server = RedisServer(self, password="hunter2", acl=["anna on >sesame ~taky:* +ping +set"])
        redis = self.client(server.endpoint, password="hunter2")
        await redis.wait(10)
        anna = self.client(server.endpoint, user="anna", password="sesame")
        await anna.wait(10)
        self.assertEqual(await anna.call("SET", "taky:a", 1), b"OK")
        with self.assertRaises(RedisRefused) as caught:
            await anna.call("SET", "a", 1)
        self.assertEqual(caught.exception.code, "NOPERM")
        self.assertEqual(await self.refused(self.client(server.endpoint)), "NOAUTH")
        self.assertEqual(await self.refused(self.client(server.endpoint, password="wrong")), "WRONGPASS")
        self.assertEqual(await self.refused(self.client(server.endpoint, user="anna", password="no")), "WRONGPASS")

    async def test_restart(self) -> None:
        """A Redis that was killed is found again within 3 seconds of its return, and one that hung as well."""
        server = RedisServer(self)
        redis = self.client(server.endpoint)
        await redis.wait(10)
        for leave, come_back in ((server.kill, server.start), (server.pause, server.resume)):
            leave()
            with self.assertRaises(RedisAway):
                await redis.call("SET", "a", 1, seconds=0.2)
            await deferLater(IReactorTime(reactor), 0.5)
            self.assertFalse(redis.up)
            come_back()
            await redis.wait(3)
            self.assertEqual(await redis.call("SET", "a", 1), b"OK")
