from __future__ import annotations

import hashlib
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment import invites as module
from taky_twisted.enrollment.errors import BadName, EnrollmentError
from taky_twisted.enrollment.invites import (
    GRACE_SECONDS,
    MAX_SECONDS,
    MAX_USES,
    Invited,
    Invites,
    hash_of,
    make_token,
    spaced,
)
from taky_twisted.enrollment.records import SpentUse
from taky_twisted.records import Kept
from taky_twisted.stores.memory import MemoryStore
from tests.threaded_clock import ThreadedClock

KEY, OTHER_KEY = "aa" * 32, "bb" * 32


class InvitesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.store = MemoryStore(self.clock)
        self.invites = Invites(self.store, self.clock)

    def restarted(self) -> Invites:
        """Begin again with what the store has."""
        kept: Kept = self.successResultOf(self.store.open())
        found = Invites(self.store, self.clock)
        found.restore(kept.invites, kept.spent_uses)
        return found

    def found(self, name: str, token: str) -> Invited:
        """Find an invite that is there."""
        invited = self.invites.find(name, token)
        assert invited is not None
        return invited

    def test_find(self) -> None:
        """A token is good for its name, however that is written, and for no other; the name comes back as invited."""
        token = self.invites.invite("Jörg Müller")
        for name in ("Jörg Müller", "jörg müller", " JÖRG MÜLLER "):
            self.assertEqual(self.found(name, token).name, "Jörg Müller")
        self.assertTrue(self.found("Jörg Müller", token).open)
        self.assertIsNone(self.invites.find("Jörg", token))
        self.assertIsNone(self.invites.find("Jörg Müller", token[:-1]))
        self.assertIsNone(self.invites.find("Jörg Müller", ""))
        self.assertIsNone(self.invites.find("Jörg Müller", token * 100))

    def test_typed(self) -> None:
        """Who types it from paper may use capitals and hyphens, and mistake 0 and O, 1 and l."""
        token = self.invites.invite("alpha")
        self.assertEqual(spaced("abcdefghijk"), "abcde-fghij-k")
        for typed in (spaced(token), token.upper(), token.replace("0", "O").replace("1", "I"), f" {token} "):
            self.assertEqual(self.found("alpha", typed).hash, hash_of(token))

    def test_other_node(self) -> None:
        """What another node says of invites and their uses counts here, and nothing of it is written again."""
        token = self.invites.invite("alpha", uses=2)
        (invite,) = self.invites
        self.invites.take_in(invite.key, replace(invite, uses=1))
        use = SpentUse(invite.hash, KEY, "alpha", "ANDROID-1", "1f", self.clock.seconds() + GRACE_SECONDS)
        self.invites.take_in_use(use.key, use)
        invited = self.found("alpha", token)
        self.assertTrue(self.invites.was_spent_by(invited, "ANDROID-1"))
        self.assertEqual(self.invites.serial_of(invited, KEY), 31)
        self.invites.take_in(invite.key, None)
        self.assertFalse(self.invites.is_open(invited))
        self.assertFalse(self.found("alpha", token).open)
        for _ in range(2):
            self.invites.take_in_use(use.key, None)
            self.invites.take_in(invite.key, None)
        self.assertIsNone(self.invites.find("alpha", token))
        kept: Kept = self.successResultOf(self.store.open())
        self.assertEqual((kept.invites, kept.spent_uses), ([invite], []))

    def test_hash_only(self) -> None:
        """The store has no token, only its SHA-256."""
        token = self.invites.invite("alpha")
        (invite,) = self.successResultOf(self.store.open()).invites
        self.assertEqual(invite.hash, hashlib.sha256(token.encode()).hexdigest())
        self.assertNotIn(token, repr(invite))

    def test_random(self) -> None:
        """A token has at least 128 random bits, and is never made twice."""
        self.assertGreaterEqual(len(module._ALPHABET) ** len(make_token()), 2**128)
        self.assertEqual(len({make_token() for _ in range(1000)}), 1000)

    def test_expires(self) -> None:
        """An invite ends at its time, in memory and after a restart."""
        token = self.invites.invite("alpha", seconds=60)
        self.clock.advance(59)
        self.assertIsNotNone(self.invites.find("alpha", token))
        self.assertEqual([invite.name for invite in self.invites], ["alpha"])
        self.clock.advance(1)
        for invites in (self.invites, self.restarted()):
            self.assertIsNone(invites.find("alpha", token))
            self.assertEqual(list(invites), [])

    def test_forgotten(self) -> None:
        """What has ended leaves memory and store with the next invite."""
        for _ in range(3):
            token = self.invites.invite("alpha", seconds=60)
            self.invites.spend(self.found("alpha", token), KEY, "A", 1)
            self.invites.invite("bravo", seconds=60)
            self.clock.advance(GRACE_SECONDS)
        self.invites.invite("charlie")
        self.assertEqual(len(self.store._records), 1)

    def test_refused(self) -> None:
        """Invites that make no sense are refused."""
        for name, uses, seconds in (
            *(("alpha", 0, 1.0), ("alpha", MAX_USES + 1, 1.0)),
            *(("alpha", 1, 0.0), ("alpha", 1, MAX_SECONDS + 1)),
        ):
            self.assertRaises(EnrollmentError, self.invites.invite, name, uses, seconds)
        self.assertRaises(BadName, self.invites.invite, "../alpha")
        self.invites.invite("alpha", MAX_USES, MAX_SECONDS)

    def test_full(self) -> None:
        """There are only so many invites; those that have ended do not count."""
        self.patch(module, "MAX_INVITES", 2)
        self.invites.invite("alpha", seconds=10)
        self.invites.invite("bravo")
        self.assertIn("2 invites", str(self.assertRaises(EnrollmentError, self.invites.invite, "charlie")))
        self.clock.advance(10)
        self.invites.invite("charlie")

    def test_spend(self) -> None:
        """Each certificate takes a use off, also over a restart; with the last one the invite is spent."""
        token = self.invites.invite("alpha", 2)
        invited = self.found("alpha", token)
        self.invites.spend(invited, KEY, "A", 0x1F)
        self.assertTrue(self.found("alpha", token).open)
        self.invites = self.restarted()
        self.invites.spend(invited, OTHER_KEY, "B", 2)
        for invites in (self.invites, self.restarted()):
            again = invites.find("alpha", token)
            assert again is not None
            self.assertFalse(again.open)
            self.assertFalse(invites.is_open(invited))
            self.assertIsNone(invites.find("bravo", token))

    def test_grace(self) -> None:
        """For 15 minutes the same device may ask again, also after a restart, and no other; then nobody."""
        token = self.invites.invite("alpha")
        invited = self.found("alpha", token)
        self.assertTrue(self.invites.is_open(invited))
        self.invites.spend(invited, KEY, "A", 0x1F)
        self.clock.advance(GRACE_SECONDS - 1)
        for invites in (self.invites, self.restarted()):
            again = invites.find("alpha", token)
            assert again is not None
            self.assertEqual(again.since, self.clock.seconds() - GRACE_SECONDS + 1)
            self.assertTrue(invites.was_spent_by(again, "A"))
            self.assertFalse(invites.was_spent_by(again, "B"))
            self.assertEqual(invites.serial_of(again, KEY), 0x1F)
            self.assertIsNone(invites.serial_of(again, OTHER_KEY))
        self.clock.advance(1)
        for invites in (self.invites, self.restarted()):
            self.assertIsNone(invites.find("alpha", token))
            self.assertFalse(invites.was_spent_by(invited, "A"))
            self.assertIsNone(invites.serial_of(invited, KEY))

    def test_spent_is_bounded(self) -> None:
        """Of the uses that are remembered the oldest is forgotten when there are too many."""
        self.patch(module, "MAX_SPENT", 2)
        invited = self.found("alpha", self.invites.invite("alpha", 10))
        for number, key in enumerate((KEY, OTHER_KEY, "cc" * 32, "cc" * 32)):
            self.invites.spend(invited, key, "A", number)
            self.clock.advance(1)
        self.assertIsNone(self.invites.serial_of(invited, KEY))
        self.assertEqual(self.invites.serial_of(invited, "cc" * 32), 3)
        self.assertEqual(len(self.successResultOf(self.store.open()).spent_uses), 1)

    def test_spend_expired(self) -> None:
        """An invite that ended while a certificate was being signed is spent all the same."""
        invited = self.found("alpha", self.invites.invite("alpha", seconds=1))
        self.clock.advance(2)
        self.invites.spend(invited, KEY, "A", 1)
        self.assertTrue(self.invites.was_spent_by(invited, "A"))

    def test_withdraw(self) -> None:
        """All invites of a name end, and what was just spent of them; others stay."""
        tokens = [self.invites.invite(name) for name in ("alpha", "Alpha", "bravo", "alpha")]
        self.invites.spend(self.found("alpha", tokens[3]), KEY, "A", 1)
        self.assertEqual(self.invites.withdraw("ALPHA"), 2)
        for invites in (self.invites, self.restarted()):
            self.assertEqual([invite.name for invite in invites], ["bravo"])
            self.assertIsNone(invites.find("alpha", tokens[3]))

    def test_open_now(self) -> None:
        """What was open a moment ago need not be open now."""
        invited = self.found("alpha", self.invites.invite("alpha", seconds=10))
        self.clock.advance(10)
        self.assertFalse(self.invites.is_open(invited))
        self.assertFalse(self.invites.is_open(replace(invited, hash="00" * 32)))
