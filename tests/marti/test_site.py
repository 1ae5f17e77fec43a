from __future__ import annotations

from pathlib import Path

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory, IProtocolNegotiationFactory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.identity.credentials import Source
from taky_twisted.identity.principal import Principal
from taky_twisted.identity.revocation import Register
from taky_twisted.identity.tls import ClientCert, MutualTLS, TLSSettings
from taky_twisted.marti.connections import HttpConnections
from taky_twisted.marti.errors import REVOKED_TEXT, NoSuchThing
from taky_twisted.marti.replies import Envelope, Reply, text
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route
from taky_twisted.marti.site import Marti, MartiSite, ServerInfo
from tests.fakes import LogLines, principal
from tests.marti.asking import NODE_ID, Asking, Connection, spell
from tests.marti.tls_connection import TLSConnection
from tests.pki import PKI, ClientTLS, Credentials

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


class Area:
    """Routes for everybody, for callers, and for administrators; and answers of all kinds."""

    def __init__(self) -> None:
        self.waiting: Deferred[Reply] = Deferred()
        self.cancelled = False

    @route("/Marti/open", access=Access.EVERYBODY)
    @route("/Marti/caller")
    @route("/Marti/admin", access=Access.ADMIN)
    def who(self, request: MartiRequest) -> Reply:
        """Name the caller and its groups."""
        return text(f"{request.principal} {','.join(sorted(request.principal.groups_out))}")

    @route("/Marti/envelope")
    async def envelope(self, request: MartiRequest) -> Envelope:
        """Answer in an envelope."""
        return Envelope("T", [1])

    @route("/Marti/waits")
    async def waits(self, request: MartiRequest) -> Reply:
        """Answer later."""
        try:
            return await self.waiting
        finally:
            self.cancelled = request._disconnected

    @route("/Marti/written")
    def written(self, request: MartiRequest) -> Reply:
        """Write the answer itself."""
        request.setHeader("content-length", "4")
        request.write(b"done")
        return Reply(written=True)

    @route("/Marti/none", "DELETE")
    def none(self, request: MartiRequest) -> Reply:
        """Answer without a body."""
        return Reply(status=204)

    @route("/Marti/headers")
    def headers(self, request: MartiRequest) -> Reply:
        """Say more in headers."""
        return Reply(b"x", "text/x", 200, {"x-more": "a\r\nset-cookie: b"})

    @route("/Marti/refuses")
    async def refuses(self, request: MartiRequest) -> Reply:
        """Refuse."""
        raise NoSuchThing("not here")

    @route("/Marti/bug")
    def bug(self, request: MartiRequest) -> Reply:
        """Have a bug."""
        raise RuntimeError("a bug")


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.area = Area()
        self.ask = Asking(self.area)

    def test_envelope(self) -> None:
        """An envelope goes out with the server's id, and its type is exactly JSON."""
        answer = self.ask("GET", "/Marti/envelope")
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual(answer.json, {"version": "3", "type": "T", "data": [1], "nodeId": NODE_ID})

    def test_headers(self) -> None:
        """Every answer says which program this is and when it was; nothing that is said adds a line."""
        answer = self.ask("GET", "/Marti/headers")
        self.assertEqual((answer.type, answer.body), ("text/x", b"x"))
        self.assertIn("taky_twisted/", answer.headers["server"])
        self.assertIn("date", answer.headers)
        self.assertNotIn("set-cookie", answer.headers)
        self.assertIn("a", answer.headers["x-more"])

    def test_written(self) -> None:
        """A handler may write the answer itself."""
        answer = self.ask("GET", "/Marti/written")
        self.assertEqual((answer.status, answer.body), (200, b"done"))

    def test_none(self) -> None:
        """An answer that has no body has no length and no type."""
        answer = self.ask("DELETE", "/Marti/none")
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertTrue({"content-length", "content-type", "transfer-encoding"}.isdisjoint(answer.headers))

    def test_refused(self) -> None:
        """A handler's refusal is an error in JSON, and nothing for the log."""
        answer = self.ask("GET", "/Marti/refuses")
        self.assertEqual((answer.status, answer.json["message"]), (404, "not here"))

    def test_bug(self) -> None:
        """A bug is in the log, once; the client hears only whose fault it is."""
        answer = self.ask("GET", "/Marti/bug")
        self.assertEqual((answer.status, answer.type, answer.json["code"]), (500, "application/json", 6))
        self.assertNotIn(b"a bug", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_waits(self) -> None:
        """A handler may wait; nothing is said before, and nothing is read from a client that goes on talking."""
        connection = Connection(self.ask.door)
        connection.send(spell("GET", "/Marti/waits") + spell("GET", "/Marti/caller"))
        self.assertEqual(connection.transport.value(), b"")
        self.area.waiting.callback(text("at last"))
        first, second = connection.transport.value().split(b"HTTP/1.1 200 OK")[1:]
        self.assertTrue(first.endswith(b"at last"))
        self.assertIn(b"anonymous", second)
        connection.lose()

    def test_gone(self) -> None:
        """A handler that waits for nobody any more is ended."""
        connection = Connection(self.ask.door)
        connection.send(spell("GET", "/Marti/waits"))
        connection.lose()
        self.assertTrue(self.area.cancelled)


class PlainTests(SynchronousTestCase):
    """Callers without TLS."""

    def test_row30_plain(self) -> None:
        """Without TLS everybody is anonymous: let in where that is on, and refused everything where it is off."""
        for anonymous, status in ((True, 200), (False, 401)):
            site = MartiSite(Marti.of([Area()], ServerInfo()), Clock(), anonymous)
            for path in ("/Marti/caller", "/Marti/open"):
                connection = Connection(site)
                connection.send(spell("GET", path, headers={"X-USER": "admin", "Authorization": "Basic YTpi"}))
                answer = connection.answer()
                self.assertEqual(answer.status, status)
                self.assertEqual(b"anonymous __ANON__" in answer.body, anonymous)
                connection.lose()

    def test_admin(self) -> None:
        """What is for administrators is forbidden for now, to whoever is known and to whoever is not."""
        ask = Asking(Area())
        self.assertEqual(ask("GET", "/Marti/admin").status, 403)
        self.assertEqual(ask("GET", "/Marti/admin", who=principal("ALPHA-1")).status, 403)

    def test_granted(self) -> None:
        """The caller has the groups that are switched on for it."""
        ask = Asking(Area())
        ask.marti.granted = lambda who, host: Principal(who.name, groups_out=frozenset({"Blue", host}))
        self.assertEqual(ask("GET", "/Marti/caller", who=principal("ALPHA-1")).body, b"ALPHA-1 198.51.100.7,Blue")


class TLSTestCase(SynchronousTestCase):
    client_cert: ClientCert = "optional"

    def setUp(self) -> None:
        self.pki = PKI(Path(self.mktemp()).absolute())
        self.log = LogLines(self)
        self.register = Register(self.pki.register_path)
        self.clock = Clock()
        self.area = Area()
        self.site = MartiSite(Marti.of([self.area], ServerInfo()), self.clock, anonymous=True, door="ssl:8443")
        self.connections = self.site.connections

    def tearDown(self) -> None:
        """With the last connection every timer ends."""
        for channel in list(self.connections._all):
            channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def connect(self, credentials: Credentials | None, version: int | None = None) -> TLSConnection:
        """Connect, with a certificate or without."""
        tls = MutualTLS(
            TLSSettings(
                "ssl:8443",
                private_key=Source("privateKey", self.pki.key_path),
                certificate=Source("certKey", self.pki.certificate_path),
                authorities=Source("caCerts", self.pki.ca_path) if self.client_cert != "none" else None,
                register=self.register,
                client_cert=self.client_cert,
                tells_refused=True,
                alpn=(b"http/1.1",),
            )
        )
        client = ClientTLS(self.pki.ca, credentials, version=version, alpn=(b"h2", b"http/1.1"))
        return TLSConnection(self.site, tls, client)

    def revoke(self, *credentials: Credentials) -> None:
        """Revoke certificates, as the operator does."""
        self.pki.write_register(R=[self.pki.revoked, *credentials])
        self.register.reload()


class IdentityTests(TLSTestCase):
    """Callers over TLS."""

    def test_certificate(self) -> None:
        """The certificate is who one is, for every request on the connection."""
        for version in VERSIONS:
            connection = self.connect(self.pki.client, version)
            for path in ("/Marti/caller", "/Marti/open"):
                connection.send(spell("GET", path))
                self.assertEqual(connection.answer().body, b"ALPHA-1 __ANON__")
            self.assertFalse(connection.closed)
        self.assertEqual(self.connections.handshaken, len(VERSIONS))
        self.assertEqual(self.connections.answered["/Marti/caller", 200], len(VERSIONS))

    def test_counted(self) -> None:
        """Answers are counted by the pattern of their route; what asks for nothing that is there is one of all."""
        connection = self.connect(self.pki.client)
        for path in ("/nowhere", "/nothing"):
            connection.send(spell("GET", path))
            self.assertEqual(connection.answer().status, 404)
        self.assertEqual(dict(self.connections.answered), {("", 404): 2})

    def test_nobody(self) -> None:
        """Without a certificate only the first questions are answered, also where anonymous is on for plain HTTP."""
        connection = self.connect(None)
        for path, status in (
            ("/Marti/open", 200),
            ("/Marti/caller", 401),
            ("/Marti/admin", 401),
            ("/Marti/nowhere", 401),
            ("/Marti/open", 200),
        ):
            connection.send(spell("GET", path))
            self.assertEqual(connection.answer().status, status, path)
        connection.send(spell("GET", "/Marti/caller", headers={"X-USER": "a", "X-SSL-Cert": "b"}))
        answer = connection.answer()
        self.assertEqual(answer.status, 401)
        self.assertIn("client certificate", answer.json["message"])

    def test_not_asked(self) -> None:
        """A TLS door that asks nobody for certificates knows nobody."""
        self.client_cert = "none"
        connection = self.connect(self.pki.client)
        connection.send(spell("GET", "/Marti/caller"))
        self.assertEqual(connection.answer().status, 401)

    def test_bad_certificates(self) -> None:
        """Expired certificates and those of other authorities fail in the handshake, and the log says why."""
        for version in VERSIONS:
            for credentials, words in (
                (self.pki.expired, "expired on"),
                (self.pki.foreign, "from an authority that we do not trust"),
            ):
                before = len(self.log())
                connection = self.connect(credentials, version)
                self.assertTrue(connection.closed)
                self.assertEqual(connection.client.received, b"")
                (line,) = self.log()[before:]
                self.assertIn("at ssl:8443 refused:", line)
                self.assertIn(words, line)
        self.assertEqual(len(self.connections), 0)

    def test_revoked(self) -> None:
        """A revoked certificate is told so, whatever it asks, in words that CloudTAK knows; then the door closes."""
        for version in VERSIONS:
            for method, path in (("GET", "/Marti/open"), ("POST", "/Marti/nowhere"), ("GET", "/Marti/%ff")):
                connection = self.connect(self.pki.revoked, version)
                self.assertFalse(connection.closed)
                connection.send(spell(method, path))
                answer = connection.answer()
                self.assertEqual((answer.status, answer.type), (401, "application/json"))
                self.assertIn(REVOKED_TEXT, answer.json["message"])
                self.assertIn("is revoked in the certificate register", answer.json["message"])
                self.assertEqual(answer.headers["connection"], "close")
                self.assertTrue(connection.closed)
        self.assertEqual(len(self.log()), 6)
        self.assertIn("REVOKED-3", self.log()[0])

    def test_revoked_meanwhile(self) -> None:
        """Whoever is revoked between two requests is told at the second, even before anybody has looked."""
        connection = self.connect(self.pki.client)
        connection.send(spell("GET", "/Marti/caller"))
        self.assertEqual(connection.answer().status, 200)
        self.revoke(self.pki.client)
        connection.send(spell("GET", "/Marti/caller"))
        self.assertEqual(connection.answer().status, 401)
        self.assertTrue(connection.closed)

    def test_close_refused(self) -> None:
        """Revoking cuts that certificate's connections, also in the middle of a request, and nobody else's."""
        asking, idle = self.connect(self.pki.client), self.connect(self.pki.client)
        other, nobody = self.connect(self.pki.second_client), self.connect(None)
        asking.send(spell("GET", "/Marti/waits"))
        self.connections.close_refused()
        self.assertFalse(asking.closed or idle.closed)
        self.revoke(self.pki.client)
        self.connections.close_refused()
        self.assertTrue(asking.closed and idle.closed)
        self.assertTrue(self.area.cancelled)
        self.assertEqual(asking.client.received, b"")
        self.assertFalse(other.closed or nobody.closed)
        other.send(spell("GET", "/Marti/caller"))
        self.assertEqual(other.answer().status, 200)
        self.assertEqual(len(self.connections), 2)

    def test_plain_http(self) -> None:
        """Who forgets the s of https is refused, and the log says what it was."""
        tls = self.connect(None)
        connection = TLSConnection(
            self.site, tls.channel.transport.factory.creator, b"GET /Marti/open HTTP/1.1\r\nHost: h\r\n\r\n"
        )
        self.assertEqual(connection.channel.requests, [])
        connection.lose()
        (line,) = self.log()
        self.assertIn("the client speaks plain HTTP; this port wants TLS", line)


class DoorTests(SynchronousTestCase):
    def test_protocol_negotiation(self) -> None:
        """Twisted does not meddle with the TLS of a door, and no HTTP/2 is spoken: there nobody has a certificate."""
        site = Asking().door
        self.assertTrue(IProtocolFactory.providedBy(site))
        self.assertFalse(IProtocolNegotiationFactory.providedBy(site))

    def test_idle(self) -> None:
        """A door that nobody uses wakes up for nothing."""
        ask = Asking()
        ask.door.doStart()
        self.assertEqual(ask.clock.getDelayedCalls(), [])
        ask.door.doStop()

    def test_full(self) -> None:
        """A connection too many is closed before anything is done for it, over all doors, and the log says why."""
        log = LogLines(self)
        clock = Clock()
        connections = HttpConnections(clock, Limits(max_http_connections=2))
        marti = Marti.of([], ServerInfo())
        one, two = (MartiSite(marti, clock, True, connections, name) for name in ("tcp:1", "tcp:2"))
        first, second = Connection(one), Connection(two)
        address = first.transport.getPeer()
        for site in (one, two):
            self.assertFalse(site.admits(address))
            self.assertIsNone(site.buildProtocol(address))
        self.assertIn("198.51.100.7 refused at tcp:1: there are 2 HTTP connections (max_http_connections)", log())
        first.lose()
        self.assertTrue(two.admits(address))
        second.lose()
