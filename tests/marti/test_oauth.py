from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.enrollment.access_tokens import TOKEN_SECONDS, AccessTokens
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import Busy
from taky_twisted.identity.passwords import hash_of
from taky_twisted.marti.connections import HttpConnections
from taky_twisted.marti.oauth import OAuthArea
from taky_twisted.marti.site import Marti, ServerInfo
from taky_twisted.stores.memory import MemoryStore
from tests.enrollment.test_access_tokens import cloudtak_parse
from tests.fakes import LogLines
from tests.marti.asking import Answer, Connection, Door, spell
from tests.threaded_clock import ThreadedClock

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GOOD = "grant_type=password&username=fox&password=secret12%2B%C3%BC"


class OAuthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.accounts = Accounts(self.clock, MemoryStore(self.clock))
        self.addCleanup(self.accounts.stop)
        self.accounts.add("Fox", hash_of("secret12+ü"))
        self.clock.advance(10)
        self.path = Path(self.mktemp()).absolute()
        self.tokens = AccessTokens(self.clock, self.path, self.accounts)
        self.addCleanup(self.tokens.stop)
        self.connections = HttpConnections(self.clock, Limits())
        self.marti = Marti.of([OAuthArea(self.accounts, self.tokens)], ServerInfo())
        self.door = self.open(enrolls=True)

    def open(self, enrolls: bool) -> Door:
        """Open a door with TLS."""
        door = Door(self.marti, self.clock, False, self.connections, "ssl:8446", enrolls=enrolls)
        door.tls = True
        return door

    def ask(self, body: str = GOOD, target: str = "/oauth/token", headers: dict[str, str] | None = None) -> Answer:
        """Ask for a token, and wait for the answer."""
        connection = Connection(self.door)
        connection.send(spell("POST", target, body.encode(), FORM if headers is None else headers))
        self.clock.advance(5)
        while not connection.transport.value():
            self.clock.run_one()
        answer = connection.answer()
        connection.lose()
        return answer

    def test_row24_good(self) -> None:
        """A right password gets a token that CloudTAK can read, for the account as it is spelled."""
        answer = self.ask()
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual(
            {**answer.json, "access_token": ""},
            {
                "access_token": "",
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
            },
        )
        self.assertEqual(cloudtak_parse(answer.json["access_token"])["sub"], "Fox")
        self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_row24_bad(self) -> None:
        """A wrong one gets 401, and the doctor knows whose name it was and what was wrong."""
        for body, reason in (
            (GOOD.replace("secret12", "secret13"), "the password is wrong"),
            (GOOD.replace("fox", "wolf"), "there is no such account"),
        ):
            answer = self.ask(body)
            self.assertEqual((answer.status, answer.json["message"]), (401, "the name or the password is wrong"))
            *_, attempt = self.connections.failures
            self.assertEqual(attempt.reason, f"a request was refused (401): {reason}")
        self.assertEqual([each.subject for each in self.connections.failures], ["fox", "wolf"])

    def test_query(self) -> None:
        """Name and password may stand in the query as well."""
        self.assertEqual(self.ask("", f"/oauth/token?{GOOD}", {}).status, 200)

    def test_incomplete(self) -> None:
        """What is missing, or another kind of grant, is an error of the client's."""
        for body in (
            "",
            "username=fox",
            "password=x",
            "username=&password=x",
            GOOD.replace("=password&", "=implicit&"),
        ):
            self.assertEqual(self.ask(body).status, 400, body)

    def test_too_large(self) -> None:
        """A form has some kilobytes at most."""
        self.assertEqual(self.ask("x" * (16 << 10)).status, 400)
        self.assertEqual(self.ask("x" * ((16 << 10) + 1)).status, 413)

    def test_other_doors(self) -> None:
        """There are tokens on the enrollment port only, and by POST only."""
        self.door = self.open(enrolls=False)
        self.assertEqual(self.ask().status, 404)

    def test_busy(self) -> None:
        """When too many passwords wait it is 429, which is not a wrong password."""

        def busy(*_: object) -> None:
            raise Busy("later")

        self.patch(self.accounts.passwords, "is_right", busy)
        answer = self.ask()
        self.assertEqual((answer.status, answer.json["message"]), (429, "later"))

    def test_no_key(self) -> None:
        """If the key cannot be used, the log says why, and the client only that it is not its fault."""
        log = LogLines(self)
        self.path.write_text("rubbish")
        answer = self.ask()
        self.assertEqual(answer.status, 503)
        self.assertNotIn(str(self.path), answer.body.decode())
        self.assertIn(str(self.path), "".join(log()))
