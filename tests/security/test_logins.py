"""Who comes in at which door for streams, and as whom: the table of the manual, tried with real TLS in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.doors import Door
from taky_twisted.endpoints import server_endpoint
from taky_twisted.identity.proofs import Auth
from taky_twisted.opening import stream_doors
from taky_twisted.routing.subscription import Subscription
from taky_twisted.streaming.connections import Connections
from tests.fakes import MemorySink
from tests.pki import ClientTLS, Credentials
from tests.samples import event, marker, sa
from tests.security.people import People
from tests.security.tables import table
from tests.security.world import PASSWORD, World
from tests.streaming.test_login import auth as login
from tests.streaming.test_protocol import TLSPair

DOORS = {
    "required": "ssl:0",
    "optional": "ssl:0:clientCert=optional",
    "none": "ssl:0:clientCert=none",
    "auth=cert": "ssl:0:auth=cert",
    "auth=password": "ssl:0:auth=password",
    "auth=password, none": "ssl:0:auth=password:clientCert=none",
    "auth=cert+password": "ssl:0:auth=cert+password",
    "auth=none": "ssl:0:auth=none",
}
"""Doors with TLS, by what their endpoint says; on the first, ``clientCert`` is what it is without a word."""
WRONG = "wrong password"


def proofs(people: People) -> dict[str, tuple[Credentials | None, bytes]]:
    """List everything that somebody may show and say: a certificate, and what comes first on the stream."""
    shown = people.certificates
    found: dict[str, tuple[Credentials | None, bytes]] = {"nothing": (None, b"")}
    found |= {f"certificate: {name}": (credentials, b"") for name, credentials in shown.items()}
    for name in ("fox", "root", "hearer", "disabled", "banned", "changed", "gone", "newcomer"):
        found[f"password: {name}"] = None, login(name, PASSWORD)
    found["password: wrong"] = None, login("fox", WRONG)
    found["password: empty"] = None, login("newcomer", "")
    found["an event before the password"] = None, sa("EARLY", "EARLY") + login("fox", PASSWORD)
    for name, with_ in (("fox", "fox"), ("fox", "root"), ("revoked", "fox"), ("disabled", "disabled")):
        found[f"certificate: {name}, password: {with_}"] = shown[name], login(with_, PASSWORD)
    found["certificate: fox, password: wrong"] = shown["fox"], login("fox", WRONG)
    found["access token in place of a password"] = None, login("fox", people.tokens["fox"])
    found["invite in place of a password"] = None, login(*people.invites["good"])
    return found


class LoginsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(self)
        self.people = People(self.world)
        self.connections = Connections(self.world.clock, self.world.limits, self.world.failures)
        self.came = 0

    def doors(self) -> dict[str, Door]:
        """Make the doors as the server does."""
        settings = replace(self.world.settings, cot_endpoints=tuple(DOORS.values()))
        made = stream_doors(
            self.world.clock,
            settings,
            self.world.defaults,
            self.world.router,
            self.connections,
            None,
            self.world.accounts,
        )
        return dict(zip(DOORS, made, strict=True))

    def connect(self, door: Door, credentials: Credentials | None) -> TLSPair:
        """Connect to a door."""
        endpoint: Any = door.endpoint
        factory: Any = door.factory
        return TLSPair(factory, endpoint.tls, ClientTLS(self.world.pki.ca, credentials))

    def streams(self) -> list[Subscription]:
        """List who is connected to the doors."""
        return [each for each in self.world.router.subscriptions if " at ssl" in each.peer]

    def lose(self, pair: TLSPair) -> None:
        """Break a connection, if it is there still."""
        if pair.peer.reason is None:
            pair.protocol.abort("")
        for _ in range(3):
            pair.flush()

    def come(self, door: Door, credentials: Credentials | None, first: bytes) -> str:
        """Come, say something, and tell as whom that was heard."""
        pair = self.connect(door, credentials)
        self.came += 1
        if pair.peer.reason is None:
            pair.say(first + sa(f"NEW-{self.came}", "NEW", now=self.world.now()))
        found = [(each.principal.name or "anonymous", [*each.uids]) for each in self.streams()]
        greeted = bool(pair.peer.received)
        self.lose(pair)
        self.assertEqual(self.streams(), [])
        self.assertEqual(greeted, bool(found), "a refused client is told nothing")
        if not found:
            return "refused"
        ((name, uids),) = found
        self.assertIn(f"NEW-{self.came}", [*uids, *self._uids()], "it is in and is not heard")
        return name

    def _uids(self) -> list[str]:
        return [contact.uid for contact in self.world.router.contacts]


class LoginsTests(LoginsTestCase):
    """The doors for clients."""

    def test_table(self) -> None:
        """Whoever comes is whom the table says, or is refused without a word."""
        doors, shown = self.doors(), proofs(self.people)
        rows = table("logins")
        self.assertEqual([row["proof"] for row in rows], list(shown))
        self.assertEqual([*rows[0]][1:], list(DOORS))
        wrong = []
        for row in rows:
            for name, door in doors.items():
                got = self.come(door, *shown[row["proof"]])
                if got != row[name]:
                    wrong.append(f"{name}, {row['proof']}: {got}, not {row[name]}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))
        self.assertEqual(len(self.connections), 0)

    def test_every_kind_of_door(self) -> None:
        """The table has every way in which a door asks for proof."""
        kinds = {
            getattr(server_endpoint(self.world.clock, each, self.world.defaults), "auth", None)
            for each in DOORS.values()
        }
        self.assertEqual(kinds, {*get_args(Auth), None} - {"open"})

    def test_without_passwords(self) -> None:
        """As long as nobody has a password, a door that only asks for certificates lets everybody in as nobody."""
        for account in list(self.world.accounts):
            self.world.accounts.set_password(account.name, "")
        self.assertEqual(self.come(self.doors()["optional"], None, b""), "anonymous")
        self.assertEqual(self.come(self.doors()["auth=password"], None, b""), "refused")

    def test_groups(self) -> None:
        """Whoever comes in is in the groups of his account, whatever proved his name."""
        doors = self.doors()
        for door, credentials, first in (
            ("required", self.people.certificates["fox"], b""),
            ("auth=password", None, login("fox", PASSWORD)),
            ("auth=cert+password", self.people.certificates["fox"], login("fox", PASSWORD)),
        ):
            pair = self.connect(doors[door], credentials)
            pair.say(first + marker("NEW", now=self.world.now()))
            (stream,) = self.streams()
            self.assertEqual((stream.principal.groups_in, stream.principal.groups_out), ({"RED"}, {"RED"}), door)
            self.lose(pair)

    def test_other_groups(self) -> None:
        """Who is given other groups while connected has them at once, and the old ones no more."""
        pair = self.connect(self.doors()["required"], self.people.certificates["fox"])
        self.world.accounts.set_groups("fox", ["GREEN"], ["GREEN"])
        (stream,) = self.streams()
        self.assertEqual((stream.principal.groups_in, stream.principal.groups_out), ({"GREEN"}, {"GREEN"}))
        self.lose(pair)

    def test_revocation_list(self) -> None:
        """What another program's revocation list names is refused as what the register does."""
        listed = self.people.certificates["wolf"]
        path = self.world.pki.write("more.crl", self.world.pki.ca.crl(listed.certificate.serial_number))
        settings = replace(self.world.settings, cot_endpoints=(f"ssl:0:crl={path}",))
        world = self.world
        (door,) = stream_doors(
            world.clock, settings, world.defaults, world.router, self.connections, None, world.accounts
        )
        self.assertEqual(self.come(door, listed, b""), "refused")
        self.assertEqual(self.come(door, self.people.certificates["fox"], b""), "fox")

    def test_while_connected(self) -> None:
        """Who is revoked, banned, disabled or given another password while connected is cut off; others stay."""
        doors = self.doors()

        def pair(door: str, credentials: Credentials | None, first: bytes = b"") -> TLSPair:
            made = self.connect(doors[door], credentials)
            made.say(first + marker("NEW", now=self.world.now()))
            return made

        certificate = self.people.certificates
        for who, undo in (
            ("fox", lambda: self.world.revoke(certificate["fox"])),
            ("newcomer", lambda: self.world.ban("newcomer")),
        ):
            stream, other = pair("required", certificate[who]), pair("required", certificate["root"])
            undo()
            self.connections.close_refused()
            stream.flush()
            other.flush()
            self.assertEqual((stream.peer.reason is None, other.peer.reason is None), (False, True), who)
            self.lose(other)
        for who, change in (
            ("hearer", lambda: self.world.accounts.set_enabled("hearer", False)),
            ("wolf", lambda: self.world.accounts.set_password("wolf", "hash of another")),
            ("root", lambda: self.world.ban("root")),
        ):
            stream, other = pair("auth=password", None, login(who, PASSWORD)), pair("required", certificate["disabled"])
            self.assertEqual(len(self.streams()), 2, who)
            change()
            self.connections.close_refused()
            stream.flush()
            self.assertEqual([each.principal.name for each in self.streams()], ["disabled"], who)
            for each in (stream, other):
                self.lose(each)

    def test_resumed(self) -> None:
        """A TLS session that began before the certificate was revoked does not let it in again."""
        door, fox = self.doors()["required"], self.people.certificates["fox"]
        endpoint: Any = door.endpoint
        factory: Any = door.factory
        client = ClientTLS(self.world.pki.ca, fox, version=SSL.TLS1_2_VERSION)
        for revoked in (False, False, True):
            if revoked:
                self.world.revoke(fox)
            pair = TLSPair(factory, endpoint.tls, client)
            self.assertEqual(len(self.streams()), 0 if revoked else 1)
            client.session = client.connections[-1].get_session()
            self.lose(pair)


class MonitorTests(LoginsTestCase):
    """The door that hears everything."""

    def test_table(self) -> None:
        """Who comes there is asked for the same proofs as at any other door, and hears all groups."""
        settings = replace(self.world.settings, cot_endpoints=("tcp:0",), monitor_endpoints=("ssl:0", "tcp:1"))
        world = self.world
        made = list(
            stream_doors(world.clock, settings, world.defaults, world.router, self.connections, None, world.accounts)
        )
        _, encrypted, plain = made
        self.assertEqual([door.what for door in made], ["CoT", "monitor", "monitor"])
        for name, lets_in in (("nothing", False), ("revoked", False), ("banned", False), ("wolf", True)):
            pair = self.connect(encrypted, self.people.certificates.get(name))
            self.assertEqual(len(self.streams()), lets_in, name)
            if lets_in:
                pair.say(b"")
                fox = world.router.subscribe(world.accounts.principal("fox"), MemorySink(), "192.0.2.1:1 at x")
                fox.publish(event(marker("SECRET", now=world.now())))
                world.clock.advance(0)
                pair.flush()
                self.assertIn(b"SECRET", pair.peer.received)
                fox.close(clean=True)
            self.lose(pair)
        factory: Any = plain.factory
        self.assertTrue(factory.monitor)
