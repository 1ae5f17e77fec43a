from __future__ import annotations

import json
from typing import Any

import h11
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.endpoints import server_endpoint
from taky_twisted.identity.tls import MutualTLS
from taky_twisted.identity.transport import TLSFactory
from taky_twisted.interfaces import StoreState
from taky_twisted.metrics import catalog
from taky_twisted.metrics.health import Health
from taky_twisted.metrics.site import (
    ANSWER_SECONDS,
    FRESH_SECONDS,
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    REQUEST_SECONDS,
    MetricsFactory,
    MetricsProtocol,
    Pages,
)
from tests.identity.pairs import PeerFactory
from tests.metrics.watched_site import WatchedSite
from tests.pki import PKI, ClientTLS

HERE = IPv4Address("TCP", "127.0.0.1", 40_000)


class Wire(StringTransport):
    """A connection, as the client sees it."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class SiteTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = WatchedSite()
        self.reactor = self.server.reactor
        self.health = Health(self.server.watched, self.reactor, lambda: self.server.files)
        self.pages = Pages(self.server.watched, self.health, self.reactor)
        self.factory = MetricsFactory(self.pages, self.reactor, set())

    def connect(self) -> tuple[MetricsProtocol, Wire]:
        """Connect a client."""
        protocol = self.factory.buildProtocol(HERE)
        assert protocol is not None, "refused"
        wire = Wire(HERE)
        protocol.makeConnection(wire)
        return protocol, wire

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Ask something on a connection of its own, and read the answer as a client does."""
        protocol, wire = self.connect()
        protocol.dataReceived(request)
        for _ in range(5):
            self.reactor.advance(0)
        return self.answer(protocol, wire, request.partition(b" ")[0])

    def answer(
        self, protocol: MetricsProtocol, wire: Wire, method: bytes = b"GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Read an answer."""
        self.assertTrue(wire.disconnecting, "the server has closed it")
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method if method.isalpha() else b"GET", target=b"/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(wire.value())
        response = client.next_event()
        assert isinstance(response, h11.Response)
        body = bytearray()
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
        self.assertIsInstance(event, h11.EndOfMessage)
        self.assertEqual(client.trailing_data[0], b"", "nothing behind the answer")
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.factory.connections, set())
        return response.status_code, {n.decode(): v.decode() for n, v in response.headers}, bytes(body)

    def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Ask for a path."""
        return self.ask("\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *headers, "", "")).encode("latin-1"))


class PagesTests(SiteTestCase):
    def test_metrics(self) -> None:
        """Metrics are there, in the format that is asked for."""
        status, headers, body = self.get("/metrics")
        self.assertEqual((status, headers["content-type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        self.assertIn(b"\ntaky_store_writable 1.0\n", body)
        self.assertEqual((headers["cache-control"], headers["connection"]), ("no-store", "close"))
        status, headers, body = self.get("/metrics", "Accept: application/openmetrics-text;version=1.0.0")
        self.assertEqual(headers["content-type"].partition(";")[0], "application/openmetrics-text")
        self.assertTrue(body.endswith(b"# EOF\n"))

    def test_health(self) -> None:
        """Health is 200 or 503, with words; what was wrong a moment ago is not told any more."""
        status, headers, body = self.get("/health")
        self.assertEqual((status, headers["content-type"]), (200, "application/json"))
        self.assertEqual(json.loads(body)["status"], "healthy")
        self.server.state = StoreState("the disk is full. Make room.", 5.0, 1)
        status, _, body = self.get("/health?verbose=1")
        self.assertEqual((status, json.loads(body)["faults"][0]["name"]), (503, "store"))
        self.server.state = StoreState()
        self.assertEqual(self.get("/health")[0], 200)

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        self.server.state = StoreState("the disk is full.", 5.0, 1)
        for path in ("/metrics", "/health", "/"):
            get, head = self.get(path), self.get(path, method="HEAD")
            for _, headers, _ in (get, head):
                # The metrics are those of the moment: their numbers are not of the same length each time.
                self.assertGreater(int(headers.pop("content-length")), len(path))
            self.assertEqual((head[0], head[1], head[2]), (get[0], get[1], b""), path)

    def test_nothing_else(self) -> None:
        """There is nothing else, and nothing can be changed."""
        for path in ("/", "/metrics/", "//metrics", "/metrics/../health", "/Health", "http://x/metrics"):
            self.assertEqual(self.get(path)[0], 404, path)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get"):
            status, headers, _ = self.get("/metrics", method=method)
            self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"), method)

    def test_body(self) -> None:
        """A body is not waited for, nor taken."""
        self.assertEqual(self.get("/health", "Content-Length: 99999999999")[0], 200)
        self.assertEqual(
            self.ask(b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc")[0], 200
        )
        self.assertEqual(self.ask(b"GET /health HTTP/1.0\r\n\r\nGET /health HTTP/1.0\r\n\r\n")[0], 200)

    def test_fresh(self) -> None:
        """Who asks again at once is told the same numbers, a second later the new ones."""
        name = catalog.FAILED.name.encode()
        first = self.get("/metrics")[2]
        self.server.failures.tell("192.0.2.1", "door", "whatever")
        self.reactor.advance(FRESH_SECONDS - 0.1)
        self.assertIn(name + b" 0.0\n", first)
        self.assertIn(name + b" 0.0\n", self.get("/metrics")[2])
        self.reactor.advance(0.1)
        self.assertIn(name + b" 1.0\n", self.get("/metrics")[2])
        self.reactor.rightNow -= 3600
        self.server.failures.tell("192.0.2.1", "door", "whatever")
        self.assertIn(name + b" 2.0\n", self.get("/metrics")[2], "also if the clock was set back")

    def test_at_once(self) -> None:
        """Several who ask at the same time are all answered."""
        clients = [self.connect() for _ in range(3)]
        for protocol, _ in clients:
            protocol.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(10):
            self.reactor.advance(0)
        for protocol, wire in clients:
            self.assertTrue(wire.value().startswith(b"HTTP/1.1 200 "))
            protocol.connectionLost(Failure(ConnectionDone()))

    def test_mistake(self) -> None:
        """A mistake of ours is told in the log, not to whoever asks."""

        def broken() -> Any:
            raise RuntimeError("secret")

        self.server.watched.store = broken
        for path in ("/metrics", "/health"):
            status, _, body = self.get(path)
            self.assertEqual((status, b"secret" in body), (500, False))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)


class BoundsTests(SiteTestCase):
    def test_cut_anywhere(self) -> None:
        """However the network cuts a request, it is answered once."""
        request = b"GET /health HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
        for cut in range(1, len(request)):
            protocol, wire = self.connect()
            protocol.dataReceived(request[:cut])
            self.assertEqual(wire.value(), b"")
            protocol.dataReceived(request[cut:])
            self.assertEqual(self.answer(protocol, wire)[0], 200, f"cut at {cut}")

    def test_large(self) -> None:
        """A request that is too large is refused as soon as that is known; one that just fits is answered."""
        head = b"GET /health HTTP/1.1\r\nHost: x\r\nX: "
        fits = head + b"x" * (MAX_HEAD_BYTES - len(head) - 4) + b"\r\n\r\n"
        self.assertEqual(self.ask(fits)[0], 200)
        self.assertEqual(self.ask(fits[:-4] + b"xxxxx")[0], 431)
        self.assertEqual(self.ask(b"GET /" + b"x" * MAX_HEAD_BYTES)[0], 431)

    def test_nonsense(self) -> None:
        """What is no HTTP is refused; TLS on a plain door is as well."""
        for rubbish in (
            b"rubbish\r\n\r\n",
            b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\r\n\r\n",
        ):
            self.assertEqual(self.ask(rubbish)[0], 400, rubbish)

    def test_slow(self) -> None:
        """Who does not ask in time is cut off, also with a byte now and then."""
        protocol, wire = self.connect()
        for byte in b"GET /heal":
            self.reactor.advance(REQUEST_SECONDS / 10)
            protocol.dataReceived(bytes((byte,)))
        self.assertFalse(wire.aborted)
        self.reactor.advance(REQUEST_SECONDS / 10)
        self.assertTrue(wire.aborted)

    def test_slow_answer(self) -> None:
        """Who does not read, or whose answer takes too long, is cut off; what comes too late is for nobody."""
        self.reactor.pool.held = []
        protocol, wire = self.connect()
        protocol.dataReceived(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        protocol.dataReceived(b"and more")
        self.reactor.advance(REQUEST_SECONDS + 1)
        self.assertFalse(wire.aborted)
        self.reactor.advance(ANSWER_SECONDS)
        self.assertTrue(wire.aborted)
        protocol.connectionLost(Failure(ConnectionDone()))
        (late,) = self.reactor.pool.held
        late()
        self.assertEqual(wire.value(), b"")

    def test_connections(self) -> None:
        """So many are served at once and no more, over all doors."""
        other = MetricsFactory(self.pages, self.reactor, self.factory.connections)
        clients = [self.connect() for _ in range(MAX_CONNECTIONS - 1)]
        self.assertTrue(other.admits(HERE))
        clients.append(self.connect())
        self.assertFalse(other.admits(HERE))
        self.assertIsNone(other.buildProtocol(HERE))
        protocol, _ = clients[0]
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(other.admits(HERE))
        for protocol, _ in clients[1:]:
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class TLSTests(SiteTestCase):
    """Behind TLS, without sockets."""

    def setUp(self) -> None:
        super().setUp()
        self.pki = PKI(self.mktemp())
        endpoint = server_endpoint(self.reactor, self.pki.endpoint(register=self.pki.register_path))
        self.tls: MutualTLS = endpoint.tls  # type: ignore[attr-defined]  # of our doors

    def said(self, client: ClientTLS) -> bytes:
        """Ask for health; read what comes back."""
        clients = PeerFactory(b"GET /health HTTP/1.0\r\n\r\n")
        below = TLSFactory(self.tls, self.factory, self.reactor).buildProtocol(HERE)
        assert below is not None, "refused"
        other = TLSMemoryBIOFactory(client, True, clients, self.reactor).buildProtocol(None)
        pump = iosim.connect(
            below, iosim.FakeTransport(below, isServer=True), other, iosim.FakeTransport(other, isServer=False)
        )
        pump.flush()
        self.reactor.advance(0)
        pump.flush()
        self.assertEqual(self.factory.connections, set())
        (peer,) = clients.peers
        return bytes(peer.received)

    def test_resumed(self) -> None:
        """A client that resumes its session, of which OpenSSL does not ask us, is asked about its certificate again."""
        client = ClientTLS(self.pki.ca, self.pki.client, version=SSL.TLS1_2_VERSION)
        self.assertTrue(self.said(client).startswith(b"HTTP/1.1 200 "))
        client.session = client.connections[-1].get_session()
        self.assertTrue(self.said(client).startswith(b"HTTP/1.1 200 "))
        self.pki.write_register(R=[self.pki.client])
        assert self.tls.settings.register is not None
        self.tls.settings.register.reload()
        self.assertEqual(self.said(client), b"")
