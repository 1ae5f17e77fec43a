from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.endpoints import server_endpoint
from taky_twisted.endpoints.doors import TLSDefaults
from taky_twisted.enrollment.access_tokens import AccessTokens
from taky_twisted.enrollment.invites import Invited
from taky_twisted.identity.errors import Busy
from taky_twisted.identity.principal import Principal
from taky_twisted.identity.proofs import Auth
from taky_twisted.identity.revocation import Register
from taky_twisted.identity.tls import MutualTLS
from taky_twisted.marti.callers import MAX_CREDENTIALS_CHARS, Callers
from taky_twisted.marti.connections import HttpConnections
from taky_twisted.marti.site import Marti, MartiSite, ServerInfo
from tests.fakes import LogLines
from tests.identity.held_accounts import HeldAccounts
from tests.marti.asking import Answer, spell
from tests.marti.test_site import Area
from tests.marti.tls_connection import TLSConnection
from tests.pki import PKI, ClientTLS, Credentials
from tests.threaded_clock import ThreadedClock

BASIC = 'Basic realm="Marti"'


def basic(name: str, password: str) -> dict[str, str]:
    """Spell a name and a password."""
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


class CallersTestCase(SynchronousTestCase):
    auth: Auth = "cert"
    enrolls = False

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.pki = PKI(self.mktemp())
        self.accounts = HeldAccounts(self.clock)
        self.accounts.add("Fox", "hash", ["Red"], ["Red"], admin=True)
        self.accounts.add("alpha-1", "hash", ["Blue"], ["Blue"], admin=True)
        self.clock.advance(5)
        self.tokens = AccessTokens(self.clock, Path(self.mktemp()).absolute(), self.accounts)
        self.addCleanup(self.tokens.stop)
        self.invites: dict[tuple[str, str], Invited] = {}
        self.connections = HttpConnections(self.clock, Limits())
        self.area = Area()
        self.marti = Marti.of([self.area], ServerInfo())
        self.marti.callers = Callers(self.accounts, self.tokens, lambda name, token: self.invites.get((name, token)))
        self.site = MartiSite(self.marti, self.clock, False, self.connections, "ssl:8443", self.auth, self.enrolls)
        self.register = Register(self.pki.register_path)
        defaults = TLSDefaults(client_cert="optional", tells_refused=True, register=self.register)
        endpoint: Any = server_endpoint(self.clock, self.pki.endpoint(), defaults)
        self.tls: MutualTLS = endpoint.tls

    def connect(self, credentials: Credentials | None = None) -> TLSConnection:
        """Connect."""
        return TLSConnection(self.site, self.tls, ClientTLS(self.pki.ca, credentials))

    def ask(
        self,
        path: str = "/Marti/caller",
        headers: dict[str, str] | None = None,
        credentials: Credentials | None = None,
        method: str = "GET",
    ) -> Answer:
        """Ask, and take the answer."""
        connection = self.connect(credentials)
        connection.send(spell(method, path, b"", headers))
        if not connection.client.received:
            self.clock.run_one()
        answer = connection.answer()
        if not connection.closed:
            connection.lose()
        return answer

    def who(self, headers: dict[str, str] | None = None, credentials: Credentials | None = None) -> str:
        """Say who a caller is found to be, and in which groups."""
        answer = self.ask(headers=headers, credentials=credentials)
        return answer.body.decode() if answer.status == 200 else str(answer.status)

    def is_admin(self, headers: dict[str, str] | None = None, credentials: Credentials | None = None) -> bool:
        """Whether a caller may administer the server."""
        status = self.ask("/Marti/admin", headers, credentials).status
        self.assertIn(status, (200, 401, 403))
        return status == 200

    def token(self, name: str = "Fox") -> dict[str, str]:
        """Make an access token, and spell it."""
        principal = Principal(name, by_password=True)
        made = self.clock.wait(Deferred.fromCoroutine(self.tokens.make(principal)))
        return {"Authorization": f"Bearer {made}"}


class CertificateTests(CallersTestCase):
    """A door that believes certificates: passwords and tokens count for nothing there."""

    def test_certificate(self) -> None:
        """A certificate's name is that of the account, in its groups, and an administrator if it says so."""
        self.assertEqual(self.who(credentials=self.pki.client), "alpha-1 Blue")
        self.assertEqual(self.who(credentials=self.pki.second_client), "BRAVO-2 __ANON__")
        self.assertTrue(self.is_admin(credentials=self.pki.client))
        self.assertFalse(self.is_admin(credentials=self.pki.second_client))

    def test_nothing_else(self) -> None:
        """Basic and Bearer are not looked at, with and without a certificate; no password is asked for."""
        for headers in (basic("Fox", "secret12"), self.token(), {"Authorization": "Basic !"}):
            self.assertEqual(self.who(headers), "401")
            self.assertEqual(self.who(headers, self.pki.client), "alpha-1 Blue")
        self.assertNotIn("www-authenticate", self.ask().headers)
        self.assertEqual(self.accounts.checks, [])

    def test_groups_change(self) -> None:
        """What is changed counts with the next request, also on a connection that is there already."""
        connection = self.connect(self.pki.client)
        for name, expected in (("Green", b"alpha-1 Green"), ("Blue", b"alpha-1 Blue")):
            self.accounts.set_groups("alpha-1", [name], [name])
            connection.send(spell("GET", "/Marti/caller"))
            self.assertEqual(connection.answer().body, expected)
        self.accounts.set_enabled("alpha-1", False)
        connection.send(spell("GET", "/Marti/admin"))
        self.assertEqual(connection.answer().status, 403)
        connection.lose()

    def test_revoked(self) -> None:
        """A revoked certificate is told so."""
        self.assertEqual(self.who(credentials=self.pki.revoked), "401")

    def test_without_accounts(self) -> None:
        """Without accounts a certificate is what it is."""
        self.marti.callers = Callers()
        self.assertEqual(self.who(credentials=self.pki.client), "ALPHA-1 __ANON__")


class PasswordTests(CallersTestCase):
    """A door that believes certificates and passwords."""

    auth: Auth = "password"

    def test_password(self) -> None:
        """A password is as good as a certificate, but makes nobody an administrator there."""
        self.assertEqual(self.who(basic("fox", "secret12")), "Fox Red")
        self.assertFalse(self.is_admin(basic("fox", "secret12")))

    def test_challenge(self) -> None:
        """Who says nothing, or something wrong, is asked for a password; what everybody may ask needs none."""
        for headers in (None, basic("Fox", "secret13"), basic("Wolf", "secret12"), self.token()):
            answer = self.ask(headers=headers)
            self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, BASIC))
        self.assertEqual(self.ask("/Marti/open").status, 200)
        self.assertEqual(self.ask("/Marti/nothing").status, 401)

    def test_certificate(self) -> None:
        """A certificate needs no password, and a wrong one beside it does not matter."""
        self.assertEqual(self.who(basic("Fox", "secret13"), self.pki.client), "alpha-1 Blue")
        self.assertTrue(self.is_admin(credentials=self.pki.client))
        self.assertEqual(self.accounts.checks, [])

    def test_unreadable(self) -> None:
        """What is no name and password is as wrong as any other, and costs nothing."""
        said = (
            "Basic",
            "Basic !!!",
            "Basic " + b64encode(b"no colon").decode(),
            "Basic " + b64encode(b":password").decode(),
            "Basic " + b64encode(b"\xff:x").decode(),
            "Basic " + b64encode(b"a:" + b"x" * MAX_CREDENTIALS_CHARS).decode(),
        )
        for each in said:
            answer = self.ask(headers={"Authorization": each})
            self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, BASIC), each)
        self.assertEqual(self.accounts.checks, [])
        for other in ("Digest x", "x", ""):
            self.assertEqual(self.who({"Authorization": other}), "401")

    def test_colon(self) -> None:
        """A password may hold colons and umlauts."""
        self.ask(headers=basic("Fox", "a:b:ü"))
        self.assertEqual(self.accounts.checks[0].password, "a:b:ü")

    def test_doctor(self) -> None:
        """The doctor knows who tried, and what was wrong; the client does not."""
        answer = self.ask(headers=basic("Fox", "secret13"))
        self.assertEqual(answer.json["message"], "the name or the password is wrong")
        (attempt,) = self.connections.failures
        self.assertEqual(
            (attempt.subject, attempt.reason), ("Fox", "a request was refused (401): the password is wrong")
        )

    def test_busy(self) -> None:
        """When too many passwords wait, the answer is 429."""
        self.accounts.held = True
        connection = self.connect()
        connection.send(spell("GET", "/Marti/caller", b"", basic("Fox", "secret12")))
        self.accounts.decide(Busy("later"))
        self.assertEqual(connection.answer().status, 429)
        connection.lose()

    def test_disabled(self) -> None:
        """Whoever has shown the password of an account is cut off by it, or by its name; others are not."""
        connection, other = self.connect(), self.connect(self.pki.client)
        for each in (connection, other):
            each.send(spell("GET", "/Marti/caller", b"", basic("fox", "secret12")))
            self.assertEqual(each.answer().status, 200)
        self.connections.close_account("alpha-1", "disabled")
        self.assertFalse(connection.closed)
        self.connections.close_account("fox", "disabled")
        self.assertTrue(connection.closed)
        connection = self.connect()
        connection.send(spell("GET", "/Marti/caller", b"", basic("fox", "secret12")))
        self.assertEqual(self.connections.close_named("Fox", "banned"), 1)
        self.assertTrue(connection.closed)
        self.assertFalse(other.closed)
        other.lose()

    def test_banned(self) -> None:
        """Whoever has shown the password of a name that the register bans by now is cut off; others are not."""
        connection, other = self.connect(), self.connect(self.pki.client)
        for each in (connection, other):
            each.send(spell("GET", "/Marti/caller", b"", basic("fox", "secret12")))
            self.assertEqual(each.answer().status, 200)
        self.connections.close_refused()
        self.assertFalse(connection.closed)
        self.patch(self.accounts, "_banned", lambda name: True)
        self.connections.close_refused()
        self.assertEqual((connection.closed, other.closed), (True, False))
        other.lose()


class BothTests(CallersTestCase):
    """A door that wants a certificate and a password."""

    auth: Auth = "cert+password"

    def test_both(self) -> None:
        """With both, of one name, a caller is in; and may administer the server if the account may."""
        self.assertEqual(self.who(basic("ALPHA-1", "secret12"), self.pki.client), "alpha-1 Blue")
        self.assertTrue(self.is_admin(basic("ALPHA-1", "secret12"), self.pki.client))

    def test_half(self) -> None:
        """Half of it is nothing."""
        for headers, credentials in (
            (None, self.pki.client),
            (basic("alpha-1", "secret13"), self.pki.client),
            (basic("alpha-1", "secret12"), None),
            (basic("Fox", "secret12"), self.pki.client),
            (basic("alpha-1", "secret12"), self.pki.revoked),
            (self.token("alpha-1"), self.pki.client),
        ):
            self.assertEqual(self.who(headers, credentials), "401")
        self.assertEqual([check.name for check in self.accounts.checks], ["alpha-1"])


class EnrollmentTests(CallersTestCase):
    """The door for clients that have no certificate yet."""

    auth: Auth = "password"
    enrolls = True

    def test_password(self) -> None:
        """A password lets in, and administrators may do what they may."""
        self.assertEqual(self.who(basic("fox", "secret12")), "Fox Red")
        self.assertTrue(self.is_admin(basic("fox", "secret12")))
        self.accounts.set_admin("fox", False)
        self.assertFalse(self.is_admin(basic("fox", "secret12")))

    def test_token(self) -> None:
        """So does an access token, from the header only, as long as the account is good."""
        token = self.token()
        self.assertEqual(self.who(token), "Fox Red")
        self.assertTrue(self.is_admin(token))
        bare = token["Authorization"].partition(" ")[2]
        self.assertEqual(self.ask(f"/Marti/caller?access_token={bare}").status, 401)
        self.assertEqual(self.who({"Cookie": f"access_token={bare}"}), "401")
        self.assertEqual(self.who({"Authorization": f"bearer  {bare} "}), "Fox Red")
        self.accounts.set_enabled("fox", False)
        self.assertEqual(self.who(token), "401")
        *_, attempt = self.connections.failures
        self.assertEqual(attempt.reason, "a request was refused (401): the account is disabled")

    def test_no_tokens(self) -> None:
        """Without a key for them no token counts."""
        token = self.token()
        self.marti.callers = Callers(self.accounts)
        self.assertEqual(self.who(token), "401")

    def test_unreadable_key(self) -> None:
        """If the key for tokens cannot be read, the log says why, and the client only that it is not its fault."""
        token = self.token()
        path = Path(self.mktemp()).absolute()
        path.write_text("rubbish")
        tokens = AccessTokens(self.clock, path, self.accounts)
        self.addCleanup(tokens.stop)
        self.marti.callers = Callers(self.accounts, tokens)
        log = LogLines(self)
        answer = self.ask(headers=token)
        self.assertEqual(answer.status, 503)
        self.assertNotIn(str(path), answer.body.decode())
        self.assertIn(str(path), "".join(log()))

    def test_challenge(self) -> None:
        """Who says nothing is asked for a password."""
        answer = self.ask()
        self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, BASIC))
        self.assertEqual(self.ask(headers={"Authorization": "Bearer x.y.z"}).headers["www-authenticate"], BASIC)

    def test_certificate(self) -> None:
        """A certificate that is shown there makes no administrator, and a revoked one is as good as none."""
        self.assertEqual(self.who(credentials=self.pki.client), "alpha-1 Blue")
        self.assertFalse(self.is_admin(credentials=self.pki.client))
        self.assertEqual(self.who(credentials=self.pki.revoked), "401")
        self.assertEqual(self.ask("/Marti/open", credentials=self.pki.revoked).status, 200)
        self.assertEqual(self.who(basic("fox", "secret12"), self.pki.revoked), "Fox Red")

    def test_invite(self) -> None:
        """An invite in place of a password is for enrolling alone, for administrators as well."""
        self.invites["fox", "token"] = Invited("h", "fox", True, 0.0)
        self.assertEqual(self.ask(headers=basic("fox", "token")).status, 403)
        self.assertFalse(self.is_admin(basic("fox", "token")))
        self.assertEqual(self.ask("/Marti/open", basic("fox", "token")).body, b"Fox Red")
        self.assertEqual(self.accounts.checks, [])

    def test_removed_account(self) -> None:
        """An invite ends with the account that it was made for: without it nobody has said in which groups one is."""
        self.invites["fox", "token"] = Invited("h", "fox", True, 0.0)
        self.accounts.remove("fox")
        self.assertEqual(self.ask(headers=basic("fox", "token")).status, 401)

    def test_barred_invite(self) -> None:
        """The invite of a disabled account is worth nothing."""
        self.invites["fox", "token"] = Invited("h", "fox", True, 0.0)
        self.accounts.set_enabled("fox", False)
        self.assertEqual(self.ask("/Marti/open", basic("fox", "token")).status, 401)


class OpenTests(CallersTestCase):
    """A door that asks for nothing."""

    auth: Auth = "none"

    def test_anonymous(self) -> None:
        """Everybody may come in, as nobody; that makes no administrators."""
        self.assertEqual(self.who(), "anonymous __ANON__")
        self.assertFalse(self.is_admin())
