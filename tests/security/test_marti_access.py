"""Every route of every door of the Marti API, asked by everybody: the tables of the manual say who is answered how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.endpoints import server_endpoint
from taky_twisted.enrolling import enroll_doors
from taky_twisted.identity.errors import EndpointError
from taky_twisted.marti.routes import Access, Table
from taky_twisted.opening import marti_doors
from tests.marti.asking import spell
from tests.security.asked import ASKED, SIGNING, Asked
from tests.security.people import People, Proof, basic
from tests.security.tables import table
from tests.security.world import ENROLL, MARTI, PASSWORD, Visit, World, signing_request

CHALLENGE = 'Basic realm="Marti"'
REFUSED = {"refused", "revoked", "no TLS", "-"}
"""Standings with which no route answers; the others are columns of the tables of routes."""
STANDINGS = {
    "marti": {"nobody", "anonymous", "hears only", "somebody", "administrator"},
    "enroll": {
        "nobody",
        "somebody",
        "enrolling",
        "enrolling administrator",
        "invited",
        "invited before",
        "invited elsewhere",
    },
}
ENOUGH = 30
"""Wrong answers after which a test asks no more."""
FOREIGN = {"Origin": "https://evil.example"}
ASKS_FOR_PASSWORDS = {"password", "cert+password", "enroll", "enroll, cert"}
"""Doors where who is nobody is asked for a password."""


def routes_of(table: Table) -> list[tuple[str, str]]:
    """List the routes of a door, each method by itself."""
    return sorted((method, bound.route.path) for bound in table.bound for method in bound.route.methods)


def api_of(door: str) -> str:
    """Say which of the two sets of routes a door has."""
    return "enroll" if door in ENROLL else "marti"


class AccessTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(self)
        self.people = People(self.world)
        self.asked = {
            route: Asked(asked.target, asked.status, signing_request(self.people.key), asked.headers)
            if asked.body == SIGNING.encode()
            else asked
            for route, asked in ASKED.items()
        }
        self.wrong: list[str] = []
        self.count = 0

    def ask(self, door: str, proof: Proof, route: tuple[str, str], more: dict[str, str] | None = None) -> str:
        """Ask, and say in a word or two how that ended."""
        asked = self.asked["GET" if route[0] == "HEAD" else route[0], route[1]]
        headers = {**asked.headers, **proof.headers, **(more or {})}
        reply = self.world.ask(door, route[0], asked.target, asked.body, headers, proof.credentials)
        self.count += 1
        if reply is None:
            return "no TLS"
        challenge = " asks" if reply.headers.get("www-authenticate") == CHALLENGE else ""
        return f"{reply.status}{challenge}{' closed' if reply.closed and not asked.body else ''}"

    def expect(self, what: str, got: str, wanted: str) -> None:
        """Compare, and go on until enough is wrong."""
        if got != wanted:
            self.wrong.append(f"{what}: {got}, not {wanted}")
            if len(self.wrong) >= ENOUGH:
                self.check(0)

    def check(self, least: int) -> None:
        """Fail with everything that was wrong; ``least`` says how much has to have been asked."""
        self.assertEqual(self.wrong, [], "\n" + "\n".join(self.wrong))
        self.assertGreaterEqual(self.count, least)


class TablesTests(AccessTestCase):
    """The tables are complete: what is new has to be entered, or this fails."""

    def test_every_route(self) -> None:
        """Every route of both kinds of doors has a row, and every row is a route; each is asked for by these tests."""
        for name, api in (("marti", self.world.api.marti), ("enroll", self.world.api.enroll_marti)):
            rows = [(row["method"], row["path"]) for row in table(name)]
            self.assertEqual(sorted(rows), routes_of(api.table), f"doc/reference/access-{name}.csv")
            self.assertEqual([route for route in rows if route not in ASKED], [], "tests/security/asked.py")

    def test_every_door_and_proof(self) -> None:
        """The table of proofs has a column for every kind of door, and a row for every kind of proof."""
        rows = table("proofs")
        self.assertEqual([*rows[0]][1:], [*MARTI, *ENROLL])
        self.assertEqual([row["proof"] for row in rows], list(self.people.proofs))

    def test_every_standing(self) -> None:
        """Whatever a proof makes of somebody is a column of the table of routes, and every column is made by some."""
        for api, standings in STANDINGS.items():
            made = {row[door] for row in table("proofs") for door in row if door != "proof" and api_of(door) == api}
            self.assertEqual(made - REFUSED, standings)
            self.assertLessEqual(standings, set(table(api)[0]))

    def test_every_access(self) -> None:
        """These tests know all that a route may say of who may call it."""
        known = {"EVERYBODY", "CALLER", "ENROLLING", "ADMIN"}
        self.assertTrue(issubclass(Access, Enum))
        self.assertEqual({access.name for access in Access}, known)

    def test_words(self) -> None:
        """The cells have words that mean something."""
        for api, standings in STANDINGS.items():
            for row in table(api):
                self.assertLessEqual({row[standing] for standing in standings}, {"yes", "401", "403"}, row)
                self.assertIn(row["pages of other sites"], ("yes", "403"), row)
                self.assertIn(row["shows"], ("all alike", "own groups", "own", "everything"), row)
                self.assertIn(row["changes"], ("nothing", "own groups", "own", "everything"), row)


class RoutesTests(AccessTestCase):
    """Who is whom, route by route."""

    def visits(self, *doors: str) -> Iterator[tuple[str, str, Proof, str]]:
        """Go through who comes to some doors: door, proof by name and itself, and what that makes of him there."""
        for row in table("proofs"):
            for door in doors:
                if row[door] != "-":
                    yield door, row["proof"], self.people.proofs[row["proof"]], row[door]

    def ask_everything(self, *doors: str) -> None:
        """Ask everything at some doors, as everybody."""
        for door, who, proof, standing in self.visits(*doors):
            for row in table(api_of(door)):
                route = row["method"], row["path"]
                got = self.ask(door, proof, route)
                self.expect(f"{door}, {who}, {' '.join(route)}", got, self.wanted(door, proof, standing, row))

    def wanted(self, door: str, proof: Proof, standing: str, row: dict[str, str]) -> str:
        """Say how a request has to end."""
        if standing == "no TLS":
            return "no TLS"
        asked = self.asked[row["method"], row["path"]]
        closed = " closed" if standing == "revoked" and not asked.body else ""
        if standing in REFUSED:
            said = bool(proof.headers.get("Authorization")) and standing != "revoked" and door != "plain, closed"
            return f"401{' asks' if said else ''}{closed}"
        if row[standing] == "yes":
            return str(asked.status)
        asks = row[standing] == "401" and door in ASKS_FOR_PASSWORDS
        return f"{row[standing]}{' asks' if asks else ''}"

    def test_one_of_each(self) -> None:
        """Everybody who makes a difference, at every door: the shortest way to see most of this."""
        seen = set()
        for door, who, proof, standing in self.visits(*MARTI, *ENROLL):
            if (door, standing) in seen:
                continue
            seen.add((door, standing))
            for row in table(api_of(door)):
                got = self.ask(door, proof, (row["method"], row["path"]))
                self.expect(
                    f"{door}, {who}, {row['method']} {row['path']}", got, self.wanted(door, proof, standing, row)
                )
        self.check(2500)

    def test_plain(self) -> None:
        """Without TLS nobody is anybody, whatever he says: anonymous where that is let in, and else refused."""
        self.ask_everything("plain", "plain, closed")
        self.check(5000)

    def test_certificates(self) -> None:
        """On a door for certificates those count alone; passwords, tokens and invites are not looked at."""
        self.ask_everything("cert")
        self.check(5000)

    def test_passwords(self) -> None:
        """On a door for passwords a certificate or a password counts, and no password makes an administrator."""
        self.ask_everything("password")
        self.check(5000)

    def test_both(self) -> None:
        """On a door for both, half of it is nothing."""
        self.ask_everything("cert+password")
        self.check(5000)

    def test_none(self) -> None:
        """A door that asks for nothing lets everybody in as nobody in particular."""
        self.ask_everything("none")
        self.check(5000)

    def test_enrollment(self) -> None:
        """For enrolling a password, a token or an invite counts, the last for nothing else; a certificate does not."""
        self.ask_everything(*ENROLL)
        self.check(2500)

    def test_head(self) -> None:
        """Who may not ask for something may not ask for its headers either."""
        for door, who, proof, standing in self.visits("cert", "enroll"):
            for row in table(api_of(door)):
                if row["method"] != "GET" or standing in ("no TLS", "revoked") or row["path"] == "/takproto/1":
                    continue
                got = self.ask(door, proof, ("HEAD", row["path"])).partition(" ")[0]
                wanted = self.wanted(door, proof, standing, row).partition(" ")[0]
                # Lists and documents of which only the headers are wanted need not be made.
                self.expect(f"{door}, {who}, HEAD {row['path']}", got, wanted)
        self.check(2000)

    def test_unknown(self) -> None:
        """Who is nobody is not told what there is, and what with which method."""
        for door, who, proof, standing in self.visits("cert", "password", "enroll", "plain, closed"):
            for method, target, status in (
                ("GET", "/Marti/api/no/such/thing", "404"),
                ("DELETE", "/Marti/api/version", "405"),
            ):
                reply = self.world.ask(door, method, target, b"", proof.headers, proof.credentials)
                self.count += 1
                wanted = {"nobody": "401", "refused": "401", "revoked": "401", "no TLS": "None"}.get(standing, status)
                wanted = "403" if standing.startswith("invited") else wanted
                self.expect(f"{door}, {who}, {method} {target}", str(reply and reply.status), wanted)
        self.check(300)


class PagesTests(AccessTestCase):
    """A browser shows a certificate for any page."""

    def test_other_sites(self) -> None:
        """Where something could be changed, pages of other sites are refused, whoever looks at them; at all doors."""
        for door, who in (("cert", "certificate: root"), ("plain", "nothing"), ("enroll", "password: root")):
            standing = {"cert": "administrator", "plain": "anonymous", "enroll": "enrolling administrator"}[door]
            for row in table(api_of(door)):
                route = row["method"], row["path"]
                allowed = str(self.asked[route].status) if row[standing] == "yes" else row[standing]
                for header in (FOREIGN, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
                    wanted = allowed if row["pages of other sites"] == "yes" else "403"
                    if route[1] == "/takproto/1" and "Origin" not in header:
                        wanted = allowed  # no browser opens a WebSocket without saying which page it is
                    got = self.ask(door, self.people.proofs[who], route, header)
                    self.expect(f"{door}, {header}, {' '.join(route)}", got, wanted)
        self.check(750)

    def test_own(self) -> None:
        """Our own pages may do what their reader may."""
        for row in table("marti"):
            route = row["method"], row["path"]
            for header in ({"Origin": "https://tak.example:8443"}, {"Sec-Fetch-Site": "same-origin"}):
                got = self.ask("cert", self.people.proofs["certificate: root"], route, header)
                self.expect(f"{header}, {' '.join(route)}", got, str(self.asked[route].status))
        self.check(200)


class CuttingTests(AccessTestCase):
    """Whoever is not believed any more is cut off, also between requests; nobody else is."""

    def stays(self, door: str, proof: str, change: Callable[[], object]) -> tuple[bool, bool]:
        """Say whether somebody's connection, and that of another one, outlive a change."""
        visits = []
        for who in (proof, "certificate: root"):
            shown = self.people.proofs[who]
            visit = Visit(self.world, door, shown.credentials)
            reply = visit.ask("GET", "/Marti/api/home", b"", shown.headers)
            self.assertEqual(reply and reply.status, 200, who)
            visits.append(visit)
        change()
        self.world.api.close_refused()
        one, other = (not visit.over for visit in visits)
        for visit in visits:
            visit.end()
        return one, other

    def test_certificates(self) -> None:
        """A certificate that is revoked, and a name that is banned."""
        fox = self.people.certificates["fox"]
        self.assertEqual(self.stays("cert", "certificate: fox", lambda: None), (True, True))
        self.assertEqual(self.stays("cert", "certificate: fox", lambda: self.world.revoke(fox)), (False, True))
        self.assertEqual(self.stays("cert", "certificate: wolf", lambda: self.world.ban("wolf")), (False, True))

    def test_passwords(self) -> None:
        """A password that was changed, an account that is disabled, removed or banned."""
        accounts = self.world.accounts
        for who, change in (
            ("fox", lambda: accounts.set_password("fox", "hash of another")),
            ("wolf", lambda: accounts.set_enabled("wolf", False)),
            ("hearer", lambda: accounts.remove("hearer")),
        ):
            self.assertEqual(self.stays("password", f"password: {who}", change), (False, True), who)
        accounts.add("fan", f"hash of {PASSWORD}", ["RED"], ["RED"])
        self.people.proofs["password: fan"] = Proof(None, basic("fan", PASSWORD))
        self.assertEqual(self.stays("password", "password: fan", lambda: self.world.ban("fan")), (False, True))

    def test_next_request(self) -> None:
        """What was changed counts with the next request, whatever the connection."""
        tokens = {name: self.people.proofs[f"token: {name}"] for name in ("fox", "root")}
        ask = self.world.ask
        self.assertEqual(ask("enroll", "GET", "/Marti/api/home", b"", tokens["root"].headers).status, 200)  # type: ignore[union-attr]
        for change in (
            lambda: self.world.accounts.set_admin("root", False),
            lambda: self.world.accounts.set_enabled("root", False),
        ):
            change()
            reply = ask("enroll", "GET", "/Marti/api/util/isAdmin", b"", tokens["root"].headers)
            self.assertIn(reply and reply.status, (401, 403))
            reply = ask("cert", "GET", "/Marti/api/util/isAdmin", b"", {}, self.people.certificates["root"])
            self.assertEqual(reply and reply.status, 403)

    def test_while_a_request_comes(self) -> None:
        """Who is disabled while the body of his request for a certificate is on its way gets none."""
        for who in ("password: fox", "invite: good"):
            proof = self.people.proofs[who]
            visit = Visit(self.world, "enroll", None)
            body = signing_request(self.people.key)
            request = spell("POST", "/Marti/api/tls/signClient?clientUid=X", body, {"Host": "h", **proof.headers})
            visit.send(request[:-10])
            self.world.accounts.set_enabled("fox" if who.endswith("fox") else "newcomer", False)
            if not visit.over:
                visit.send(request[-10:])
                self.assertEqual(visit.answer("POST").status, 401, who)
            visit.end()

    def test_grace(self) -> None:
        """An invite that was used is good for some minutes more, on that device, and not longer."""
        proof = self.people.proofs["invite: used here"]
        for seconds, status in ((0, 200), (14 * 60 - 61, 200), (62, 401)):
            self.world.clock.advance(seconds)
            for target in ("/Marti/api/tls/config?clientUid=PHONE-1", "/Marti/api/version"):
                reply = self.world.ask("enroll", "GET", target, b"", proof.headers)
                self.assertEqual(reply and reply.status, status, (target, seconds))


class WiringTests(AccessTestCase):
    """What no door may be made to."""

    def test_anonymous(self) -> None:
        """Without a word of the operator, callers without TLS are let in only where no door asks for certificates."""
        for endpoints, wanted in ((("tcp:0",), [True]), (("tcp:0", "ssl:0"), [False, False])):
            settings = replace(self.world.settings, marti_endpoints=endpoints, anonymous_http=None)
            doors = list(marti_doors(self.world.clock, settings, self.world.defaults, self.world.api, []))
            self.assertEqual([door.factory.anonymous for door in doors], wanted)  # type: ignore[attr-defined]

    def test_passwords_in_the_clear(self) -> None:
        """Neither enrolling nor a password is possible without TLS."""
        world = self.world
        making = list_of(enroll_doors(world.clock, ("tcp:0",), world.defaults, world.api, str))
        self.assertRaises(EndpointError, making)
        for auth in ("password", "cert", "cert+password"):
            self.assertRaises(EndpointError, server_endpoint, world.clock, f"tcp:0:auth={auth}", world.defaults)


def list_of(made: Iterator[object]) -> Callable[[], list[object]]:
    """Put off making something."""
    return lambda: list(made)


class WithoutAccountsTests(SynchronousTestCase):
    def test_certificates_alone(self) -> None:
        """A server without accounts knows certificates and nothing else, and no administrators."""
        world = World(self, accounts=False)
        people = People(world)
        for door, named, status in (("cert", "root", 200), ("password", "root", 200), ("enroll", "root", 401)):
            for headers in ({}, people.proofs["password: root"].headers, people.proofs["invite: good"].headers):
                credentials = people.certificates[named]
                for path, wanted in (
                    ("/Marti/api/home", status),
                    ("/Marti/api/util/isAdmin", 403 if status == 200 else 401),
                ):
                    reply = world.ask(door, "GET", path, b"", headers, credentials)
                    self.assertEqual(reply and reply.status, wanted, (door, path, headers))
                reply = world.ask(door, "GET", "/Marti/api/home", b"", headers)
                self.assertEqual(reply and reply.status, 401, (door, headers))
        self.assertNotIn("/oauth/token", {bound.route.path for bound in world.api.enroll_marti.table.bound})
