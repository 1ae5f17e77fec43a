"""Streams on doors that want a password."""

from __future__ import annotations

from typing import Any

from taky_twisted.endpoints import server_endpoint
from taky_twisted.identity.errors import Busy
from taky_twisted.identity.proofs import Auth
from taky_twisted.identity.tls import MutualTLS
from taky_twisted.routing.tak_stream import CLOSE_SECONDS
from taky_twisted.streaming.factory import CoTFactory
from taky_twisted.streaming.protocol import LOGIN_SECONDS
from tests.identity.held_accounts import HeldAccounts
from tests.pki import PKI, ClientTLS, Credentials
from tests.samples import marker, ping, sa
from tests.streaming.test_protocol import ProtocolTestCase, TLSPair


def auth(name: str = "fox1", password: str = "secret12") -> bytes:
    """Spell what ATAK says first."""
    return f'<?xml version="1.0"?>\n<auth><cot username="{name}" password="{password}" uid="A"/></auth>'.encode()


class LoginTestCase(ProtocolTestCase):
    auth: Auth = "password"

    def setUp(self) -> None:
        super().setUp()
        self.pki = PKI(self.mktemp())
        self.accounts = HeldAccounts(self.site.clock)
        self.accounts.add("fox1", "hash", ["Red"], ["Red"])
        self.accounts.add("ALPHA-1", "hash", ["Red"], ["Red"])
        self.tls: MutualTLS = server_endpoint(  # type: ignore[attr-defined]
            self.site.clock, self.pki.endpoint(auth="password", register=self.pki.register_path)
        ).tls
        self.red, self.heard = self.site.subscribe(self.accounts.principal("fox1"))

    def connect(self, credentials: Credentials | None = None, auth: Auth | None = None) -> TLSPair:
        """Connect; by default without a certificate."""
        factory = CoTFactory(
            self.site.clock,
            self.site.router,
            self.site.connections,
            "tls",
            tls=True,
            auth=auth or self.auth,
            accounts=self.accounts,
        )
        return TLSPair(factory, self.tls, ClientTLS(self.pki.ca, credentials))

    def routed(self) -> list[str]:
        """Read the uids of what the others have heard since the last time."""
        self.site.turn()
        events, self.heard.events = self.heard.events, []
        return [event.uid for event in events]

    def failures(self) -> list[tuple[str, str]]:
        """Say what the doctor will: name and reason."""
        return [(each.subject, each.reason) for each in self.site.connections.failures]

    def assert_refused(self, pair: TLSPair, name: str, reason: str) -> None:
        """The stream is closed without a word, nobody has heard anything, and the operator knows why."""
        pair.flush()
        self.assertEqual(pair.peer.received, b"")
        self.assertIsNotNone(pair.peer.reason)
        self.assertEqual(self.routed(), [])
        self.assertEqual(self.failures()[-1], (name, reason))
        self.assertEqual((len(self.site.connections), len(self.site.connections.unidentified)), (0, 0))
        self.assertNotIn("secret", "".join(self.log()))


class PasswordTests(LoginTestCase):
    """A certificate or a password."""

    def test_T75_auth_and_report_in_one_segment(self) -> None:
        """A password with a report right behind it: both count, and protobuf is offered after that, not before."""
        self.accounts.held = True
        pair = self.connect()
        self.assertEqual(pair.peer.received, b"")
        pair.say(auth() + sa("A", "FOX"))
        self.assertEqual((pair.peer.received, self.routed()), (b"", []))
        self.accounts.decide()
        pair.flush()
        self.assertEqual(self.routed(), ["A"])
        self.assertIn(b"t-x-takp-v", pair.peer.received)
        self.assertIn("FOX (A) joined as fox1", self.lines("joined")[-1])
        self.assertEqual(self.accounts.checks[0].address, "10.0.0.1")

    def test_groups(self) -> None:
        """It is in the groups of the account, whose map it is shown."""
        elsewhere = self.site.join("B")
        (stream,) = [stream for stream in self.site.router.subscriptions if stream is self.red]
        self.assertEqual(stream.principal.groups_in, frozenset({"Red"}))
        pair = self.connect()
        pair.say(auth() + sa("A", "FOX"))
        self.assertNotIn(b'uid="B"', pair.peer.received)
        self.assertEqual(elsewhere.uids(), [])

    def test_T76_wrong_password(self) -> None:
        """A wrong password: the stream is closed, nothing is routed, nobody is told anything."""
        pair = self.connect()
        pair.say(auth(password="secret13") + sa("A", "FOX"))
        self.assert_refused(pair, "fox1", "the password is wrong")
        self.assertIn("10.0.0.1:4000 at tls refused as 'fox1': the password is wrong", self.log())

    def test_T77_event_first(self) -> None:
        """Whatever comes first that is no password closes the stream, and is not routed."""
        reason = "the client did not say a name and a password (<auth>) first, as this port wants"
        for first in (sa("A", "FOX"), ping(), b"\xbf\x01\xbf"):
            pair = self.connect()
            pair.say(first + auth())
            self.assert_refused(pair, "", reason)

    def test_T78_three_segments(self) -> None:
        """A password that comes in pieces counts when it is whole."""
        pair = self.connect()
        message = auth()
        for piece in (message[:30], message[30:60], message[60:]):
            pair.say(piece)
        pair.say(sa("A", "FOX"))
        self.assertEqual(self.routed(), ["A"])

    def test_banned_while_connected(self) -> None:
        """Who came with a password is dropped when the register is read again and bans the name; others stay."""
        pair, other = self.connect(), self.connect(self.pki.client)
        pair.say(auth() + sa("A", "FOX1"))
        self.site.connections.close_refused()
        pair.flush()
        self.assertEqual(len(self.site.connections), 2)
        self.patch(self.accounts, "_banned", lambda name: True)
        self.site.connections.close_refused()
        pair.flush()
        other.flush()
        self.assertEqual(list(self.site.connections), [other.protocol])
        self.assertEqual(self.failures()[-1], ("fox1", "the name is banned"))

    def test_said_meanwhile(self) -> None:
        """What is said while the password is checked is kept, in order, and counts afterwards."""
        self.accounts.held = True
        pair = self.connect()
        pair.say(auth())
        pair.protocol.dataReceived(sa("A", "FOX"))
        pair.protocol.dataReceived(marker("M-1"))
        self.assertEqual(self.routed(), [])
        self.accounts.decide()
        self.assertEqual(self.routed(), ["A", "M-1"])
        pair.say(marker("M-2"))
        self.assertEqual(self.routed(), ["M-2"])

    def test_reading_pauses(self) -> None:
        """Nothing more is read until the password is checked."""
        self.accounts.held = True
        pair = self.connect()
        states: list[str] = []
        self.patch(pair.protocol.transport, "pauseProducing", lambda: states.append("paused"))
        self.patch(pair.protocol.transport, "resumeProducing", lambda: states.append("reading"))
        pair.say(auth())
        self.assertEqual(states, ["paused"])
        self.accounts.decide()
        self.assertEqual(states, ["paused", "reading"])

    def test_too_much_meanwhile(self) -> None:
        """What is kept is bounded."""
        self.accounts.held = True
        limit = self.site.limits.max_unidentified_bytes
        pair = self.connect()
        pair.say(auth())
        pair.protocol.dataReceived(b" " * limit)
        self.assertEqual(self.failures(), [])
        pair.protocol.dataReceived(b" ")
        self.assert_refused(pair, "", "it said too much before its password was checked (max_unidentified_bytes)")
        self.accounts.decide()
        self.assertEqual(len(self.site.connections), 0)

    def test_no_end(self) -> None:
        """A message that does not end is cut off."""
        pair = self.connect()
        pair.say(b"<auth>" + b"x" * self.site.limits.max_unidentified_bytes)
        self.assertIn("no valid event within the first", self.failures()[-1][1])

    def test_busy(self) -> None:
        """When too many passwords wait, it has to come back."""
        self.accounts.held = True
        pair = self.connect()
        pair.say(auth())
        self.accounts.decide(Busy("the server checks as many as it can"))
        self.assert_refused(pair, "fox1", "the server checks as many as it can")

    def test_bug(self) -> None:
        """A bug of ours lets nobody in, and is told of."""
        self.accounts.held = True
        pair = self.connect()
        pair.say(auth() + sa("A", "FOX"))
        self.accounts.decide(RuntimeError("a bug"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.routed(), [])
        self.site.clock.advance(LOGIN_SECONDS)
        self.assert_refused(pair, "", f"no right password came within {LOGIN_SECONDS:g} seconds")

    def test_silent(self) -> None:
        """Who says nothing is closed after half a minute, and not before."""
        pair = self.connect()
        self.site.clock.advance(LOGIN_SECONDS - 0.1)
        self.assertEqual(len(self.site.connections), 1)
        self.site.clock.advance(0.1)
        self.assert_refused(pair, "", "no right password came within 30 seconds")

    def test_never_closes(self) -> None:
        """A refused peer that does not take its goodbye is cut off."""
        pair = self.connect()
        lost: list[str] = []
        self.patch(pair.protocol.transport, "abortConnection", lambda: lost.append("aborted"))
        pair.protocol.dataReceived(sa("A", "FOX"))
        self.site.clock.advance(CLOSE_SECONDS)
        self.assertEqual(lost, ["aborted"])

    def test_gone_meanwhile(self) -> None:
        """Who goes while the password is checked is not subscribed afterwards, whether it was right or not."""
        self.accounts.held = True
        for password in ("secret12", "secret13"):
            pair = self.connect()
            pair.say(auth(password=password) + sa("A", "FOX"))
            transport: Any = pair.peer.transport
            transport.abortConnection()
            pair.flush()
            self.accounts.decide()
            self.assertEqual((self.routed(), len(self.site.router.subscriptions)), ([], 1))
            self.assertEqual(self.pending(), 0)

    def test_stops_meanwhile(self) -> None:
        """A server that stops does not wait for passwords."""
        pair = self.connect()
        pair.protocol.finish()
        pair.flush()
        self.assertEqual(len(self.site.connections), 0)

    def test_auth_again(self) -> None:
        """A second message is skipped."""
        pair = self.connect()
        pair.say(auth() + auth("other") + sa("A", "FOX"))
        self.assertEqual(self.routed(), ["A"])
        self.assertEqual(len(self.accounts.checks), 1)

    def test_certificate(self) -> None:
        """Who has a certificate needs no password, may say one all the same, and has the groups of the account."""
        for said in (b"", auth("ALPHA-1", "whatever")):
            pair = self.connect(self.pki.client)
            self.assertIn(b"t-x-takp-v", pair.peer.received)
            pair.say(said + sa("A", "FOX"))
            self.assertEqual(self.routed(), ["A"])
            self.assertEqual(pair.protocol.principal_name, "ALPHA-1")
        self.assertEqual(self.accounts.checks, [])

    def test_both_names(self) -> None:
        """Who is called otherwise in the certificate than in the account is found under both names."""
        self.accounts.remove("alpha-1")
        self.accounts.add("alpha-1")
        for name in ("alpha-1", "ALPHA-1"):
            pair = self.connect(self.pki.client)
            self.assertEqual(pair.protocol.principal_name, "alpha-1")
            self.assertEqual(self.site.connections.close_named(name, "banned"), 1)
            pair.flush()
        self.assertEqual(self.site.connections.close_named("Alpha-1", "banned"), 0)

    def test_disabled_meanwhile(self) -> None:
        """An account that is disabled at the last moment does not get in."""
        self.accounts.held = True
        pair = self.connect()
        pair.say(auth())
        self.accounts.set_enabled("fox1", False)
        self.accounts.decide()
        self.assert_refused(pair, "fox1", "the password is wrong")


class BothTests(LoginTestCase):
    """A certificate and a password."""

    auth: Auth = "cert+password"

    def test_both(self) -> None:
        """With both, of one name in whatever case, it is in; the certificate is remembered."""
        pair = self.connect(self.pki.client)
        self.assertEqual(pair.peer.received, b"")
        pair.say(auth("alpha-1") + sa("A", "FOX"))
        self.assertEqual(self.routed(), ["A"])
        (stream,) = [stream for stream in self.site.router.subscriptions if stream is not self.red]
        assert stream.granted.certificate is not None
        self.assertEqual((stream.granted.name, stream.granted.by_password), ("ALPHA-1", True))

    def test_other_name(self) -> None:
        """A certificate of another name than the password's does not do, and no password is tried for it."""
        pair = self.connect(self.pki.client)
        pair.say(auth("fox1") + sa("A", "FOX"))
        self.assert_refused(pair, "fox1", "the client's certificate is of another name than its account")
        self.assertEqual(self.accounts.checks, [])

    def test_wrong_password(self) -> None:
        """The certificate alone does not do."""
        pair = self.connect(self.pki.client)
        pair.say(auth("ALPHA-1", "secret13"))
        self.assert_refused(pair, "ALPHA-1", "the password is wrong")

    def test_revoked_meanwhile(self) -> None:
        """A certificate that is revoked while the password is checked does not do."""
        self.accounts.held = True
        pair = self.connect(self.pki.client)
        pair.say(auth("ALPHA-1"))
        self.pki.write_register(R=[self.pki.client])
        self.tls.reload()
        self.site.connections.close_refused()
        self.accounts.decide()
        pair.flush()
        self.assertIn("is revoked in the certificate register", self.failures()[-1][1])
        self.assertEqual(pair.peer.received, b"")

    def test_kicked_meanwhile(self) -> None:
        """Who waits with a certificate can be cut off by its name."""
        pair = self.connect(self.pki.client)
        self.assertEqual(self.site.connections.close_named("ALPHA-1", "banned"), 1)
        pair.flush()
        self.assertEqual(len(self.site.connections), 0)


class OpenTests(LoginTestCase):
    """A door that asks for nothing in particular."""

    auth: Auth = "open"

    def test_with_passwords(self) -> None:
        """As soon as anybody has a password, one is needed."""
        pair = self.connect()
        pair.say(sa("A", "FOX"))
        self.assertEqual(self.routed(), [])
        pair = self.connect()
        pair.say(auth() + sa("A", "FOX"))
        self.assertEqual(self.routed(), ["A"])

    def test_without(self) -> None:
        """As long as nobody has one, everybody may come in, as nobody."""
        for account in list(self.accounts):
            self.accounts.set_password(account.name, "")
        pair = self.connect()
        self.assertIn(b"t-x-takp-v", pair.peer.received)
        self.assertIsNone(pair.protocol.principal_name)

    def test_certificate(self) -> None:
        """A certificate does."""
        pair = self.connect(self.pki.client)
        self.assertEqual(pair.protocol.principal_name, "ALPHA-1")


class OtherDoorsTests(LoginTestCase):
    def test_T11_ignored(self) -> None:
        """Where certificates or nothing are asked for, a password is neither wanted nor looked at."""
        modes: tuple[Auth, ...] = ("none", "cert")
        for mode in modes:
            pair = self.connect(self.pki.client, mode)
            pair.say(auth("fox1", "whatever") + sa("A", "FOX"))
            self.assertEqual(pair.protocol.principal_name, "ALPHA-1")
        self.assertEqual(self.accounts.checks, [])
