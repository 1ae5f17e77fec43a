from __future__ import annotations

import threading

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity import passwords
from taky_twisted.identity.errors import AccountError, Busy
from taky_twisted.identity.passwords import (
    AT_ONCE,
    MAX_PER_ADDRESS,
    MAX_WAITING,
    Passwords,
    check_password,
    hash_of,
    make_password,
    matches,
)
from tests.threaded_clock import ThreadedClock


class HashTests(SynchronousTestCase):
    def test_matches(self) -> None:
        """A password matches its own hash, and no other does."""
        hashed = hash_of("correct horse")
        self.assertTrue(matches(hashed, "correct horse"))
        for wrong in ("correct horsE", "", "correct horse "):
            self.assertFalse(matches(hashed, wrong), wrong)

    def test_cost(self) -> None:
        """A hash costs 19 MiB and two passes of Argon2id, and says so itself."""
        self.assertTrue(hash_of("correct horse").startswith("$argon2id$v=19$m=19456,t=2,p=1$"))

    def test_salted(self) -> None:
        """Two who chose the same password do not have the same hash."""
        self.assertNotEqual(hash_of("correct horse"), hash_of("correct horse"))

    def test_composed(self) -> None:
        """It does not matter how a keyboard composes letters."""
        self.assertTrue(matches(hash_of("gru\u0308n12345"), "gr\u00fcn12345"))

    def test_nobody(self) -> None:
        """Without a hash nothing matches, not even what an attacker might hope for."""
        for hashed in ("", None):
            for password in ("", "x", "\0"):
                self.assertFalse(matches(hashed, password))

    def test_nobody_costs_the_same(self) -> None:
        """For a name without a hash the same is computed: nobody can measure which names there are."""
        parameters = passwords._NOBODY.rpartition("$")[0].rpartition("$")[0]
        self.assertEqual(parameters, hash_of("x").rpartition("$")[0].rpartition("$")[0])
        computed: list[str] = []
        hasher = passwords._hasher()
        self.patch(hasher.__class__, "verify", lambda self, hashed, password: computed.append(hashed))
        matches(None, "x")
        self.assertEqual(computed, [passwords._NOBODY])

    def test_hostile(self) -> None:
        """A password that is too long, no text, or a hash that is none is wrong, not an error."""
        self.assertFalse(matches(hash_of("correct horse"), "x" * 1_000_000))
        self.assertFalse(matches(hash_of("correct horse"), "\ud800"))
        self.assertFalse(matches("correct horse", "correct horse"))


class CheckTests(SynchronousTestCase):
    def test_length(self) -> None:
        """A password has 8 characters to 1024 bytes."""
        for good in ("12345678", "x" * 1024, "ü" * 512):
            self.assertEqual(check_password(good), good)
        for bad, words in (("1234567", "at least 8"), ("x" * 1025, "up to 1024"), ("ü" * 513, "up to 1024")):
            self.assertIn(words, str(self.assertRaises(AccountError, check_password, bad)))

    def test_characters(self) -> None:
        """What cannot be typed into a phone cannot be in it; the error does not repeat it."""
        for bad in ("secret12\n", "secret12\x7f", "secret12\0", "secret12\ud800"):
            self.assertNotIn("secret12", str(self.assertRaises(AccountError, check_password, bad)))

    def test_made_up(self) -> None:
        """One that is made up may be had, is easy to type, and is never the same."""
        made = {make_password() for _ in range(100)}
        self.assertEqual(len(made), 100)
        for password in made:
            self.assertRegex(check_password(password), r"^([a-hjkmnp-z2-9]{4}-){3}[a-hjkmnp-z2-9]{4}$")


class QueueTests(SynchronousTestCase):
    """Nobody can make the server do nothing but check passwords."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.passwords = Passwords(self.clock)
        self.addCleanup(self.passwords.stop)
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.running = 0
        self.most = 0
        self.both = threading.Event()
        self.lock = threading.Lock()
        self.patch(passwords, "matches", self.slow)

    def slow(self, hashed: str | None, password: str) -> bool:
        """Check a password, as slowly as the test wants."""
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            if self.running == AT_ONCE:
                self.both.set()
        self.gate.wait(30)
        with self.lock:
            self.running -= 1
        return password == "right"

    def fill(self, count: int) -> list[Deferred[bool]]:
        """Let some be checked, each from another address."""
        return [self.passwords.is_right("h", "right", f"192.0.2.{number}") for number in range(count)]

    def test_two_at_once(self) -> None:
        """Two are computed at once and 32 may wait; the next is told to come back, and then it works again."""
        waiting = self.fill(AT_ONCE + MAX_WAITING)
        self.assertRaises(Busy, self.passwords.is_right, "h", "right", "198.51.100.1")
        self.assertRaises(Busy, self.passwords.hash, "right")
        self.assertTrue(self.both.wait(30))
        self.gate.set()
        self.assertEqual([self.clock.wait(each) for each in waiting], [True] * 34)
        self.assertEqual(self.most, 2)
        self.assertFalse(self.clock.wait(self.passwords.is_right("h", "wrong", "198.51.100.1")))

    def test_one_address(self) -> None:
        """One address gets half of the places at most; others still get in."""
        waiting = [self.passwords.is_right("h", "right", "192.0.2.1") for _ in range(MAX_PER_ADDRESS)]
        self.assertRaises(Busy, self.passwords.is_right, "h", "right", "192.0.2.1")
        waiting.append(self.passwords.is_right("h", "right", "192.0.2.2"))
        self.gate.set()
        for each in waiting:
            self.clock.wait(each)
        self.assertEqual(self.passwords._per_address, {})

    def test_gone(self) -> None:
        """Who leaves keeps its place until what was begun for it is done: asking and leaving fills no queue."""
        left = [self.passwords.is_right("h", "right", "192.0.2.1") for _ in range(MAX_PER_ADDRESS)]
        for each in left:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertRaises(Busy, self.passwords.is_right, "h", "right", "192.0.2.1")
        self.gate.set()
        for _ in left:
            self.clock.run_one()
        self.assertEqual(self.passwords._per_address, {})
        self.assertTrue(self.clock.wait(self.passwords.is_right("h", "right", "192.0.2.1")))

    def test_hash(self) -> None:
        """Hashes for new passwords are made in the same threads."""
        hashed = self.clock.wait(self.passwords.hash("correct horse"))
        self.assertTrue(matches(hashed, "correct horse"))
