from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity import accounts as module
from taky_twisted.identity.accounts import Accounts, account_key, ends_passwords
from taky_twisted.identity.errors import AccountError, BadCredentials, Busy
from taky_twisted.identity.passwords import hash_of
from taky_twisted.identity.principal import ANON_GROUP, ANONYMOUS, Certificate, Principal
from taky_twisted.identity.records import Account
from taky_twisted.stores.memory import MemoryStore
from tests.threaded_clock import ThreadedClock

HASHED = hash_of("secret12")
ADDRESS = "192.0.2.1"
EVERYBODY = frozenset({ANON_GROUP})


class AccountsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.store = MemoryStore(self.clock)
        self.banned: set[str] = set()
        self.accounts = Accounts(self.clock, self.store, lambda name: name in self.banned)
        self.addCleanup(self.accounts.stop)

    def check(self, name: str, password: str, address: str = ADDRESS) -> Principal:
        """Wait for a password to be checked."""
        return self.clock.wait(self.accounts.check(name, password, address))

    def refused(self, name: str, password: str, address: str = ADDRESS) -> str:
        """Wait for a password to be refused; read why."""
        checking = self.accounts.check(name, password, address)
        self.clock.advance(5)
        try:
            self.clock.wait(checking)
        except BadCredentials as error:
            return str(error)
        raise AssertionError("it was not refused")


class TakeInTests(AccountsTestCase):
    """What another node says of accounts."""

    def test_take_in(self) -> None:
        """It counts here, those who watch are told of what has changed, and it is not written again."""
        told: list[tuple[Account | None, Account | None]] = []
        self.accounts.watch(lambda before, after: told.append((before, after)))
        account = Account("fox", "Fox", HASHED, EVERYBODY, EVERYBODY, False, True, 0.0)
        disabled = replace(account, enabled=False)
        for said in (account, account, disabled, None, None):
            self.accounts.take_in("fox", said)
        self.assertEqual(told, [(None, account), (account, disabled), (disabled, None)])
        self.assertEqual(self.successResultOf(self.store.open()).accounts, [])
        self.accounts.take_in("fox", account)
        self.assertEqual(self.check("FOX", "secret12").name, "Fox")


class CheckTests(AccountsTestCase):
    """Who comes with a password."""

    def test_right(self) -> None:
        """The right password makes the principal of the account, with its groups and its own spelling."""
        self.accounts.add("Jörg Müller", HASHED, ["Red"], ["Red", "HQ"])
        for name in ("Jörg Müller", "jörg MÜLLER", " Jo\u0308rg Mu\u0308ller "):
            self.assertEqual(
                self.check(name, "secret12"),
                Principal("Jörg Müller", frozenset({"Red"}), frozenset({"Red", "HQ"}), by_password=True),
            )

    def test_wrong(self) -> None:
        """Whatever is wrong, the peer hears the same; the operator hears what it was."""
        self.accounts.add("fox", HASHED)
        self.accounts.add("cert only")
        self.assertEqual(self.refused("fox", "secret13"), "the password is wrong")
        self.assertEqual(self.refused("nobody", "secret12"), "there is no such account")
        self.assertEqual(self.refused("cert only", ""), "the account has no password")
        self.assertEqual(self.refused("", ""), "there is no such account")

    def test_disabled(self) -> None:
        """A disabled account's password does not count until it is enabled again."""
        self.accounts.add("fox", HASHED)
        self.accounts.set_enabled("FOX", False)
        self.assertEqual(self.refused("fox", "secret12"), "the account is disabled")
        self.accounts.set_enabled("fox", True)
        self.clock.advance(1000)
        self.assertEqual(self.check("fox", "secret12").name, "fox")

    def test_banned(self) -> None:
        """A ban of the name counts for passwords, too."""
        self.accounts.add("fox", HASHED)
        self.banned.add("fox")
        self.assertEqual(self.refused("fox", "secret12"), "the name is banned")

    def test_unknown_computes(self) -> None:
        """For a name that nobody has as much is computed as for any other."""
        computed: list[object] = []
        self.patch(
            self.accounts.passwords,
            "is_right",
            lambda hashed, password, address: computed.append(hashed) or Deferred(),  # type: ignore[func-returns-value]
        )
        self.accounts.check("nobody", "secret12", ADDRESS)
        self.assertEqual(computed, [""])

    def test_long_name(self) -> None:
        """A name of any length is remembered with a few characters at most."""
        self.assertEqual(self.refused("x" * 1_000_000, "secret12"), "there is no such account")
        ((who, _),) = self.accounts._delays._failed.items()
        self.assertLessEqual(len(who[1]), 256)

    def test_delay(self) -> None:
        """After failures an attempt waits, also the right one; a success ends that."""
        self.accounts.add("fox", HASHED)
        for _ in range(3):
            self.refused("Fox", "wrong")
        checking = self.accounts.check("fox", "secret12", ADDRESS)
        self.assertNoResult(checking)
        self.clock.advance(0.99)
        self.assertNoResult(checking)
        self.clock.advance(0.01)
        self.assertEqual(self.clock.wait(checking).name, "fox")
        self.assertEqual(self.check("fox", "secret12").name, "fox")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_locked(self) -> None:
        """However often somebody failed, the owner gets in: from elsewhere at once, from there after 5 seconds."""
        self.accounts.add("fox", HASHED)
        for _ in range(20):
            self.refused("fox", "wrong")
        self.assertEqual(self.check("fox", "secret12", "192.0.2.2").name, "fox")
        checking = self.accounts.check("fox", "secret12", ADDRESS)
        self.clock.advance(5)
        self.assertEqual(self.clock.wait(checking).name, "fox")

    def test_busy(self) -> None:
        """When too many wait, that is what one hears."""

        def busy(*_: object) -> None:
            raise Busy("later")

        self.patch(self.accounts.passwords, "is_right", busy)
        self.failureResultOf(self.accounts.check("fox", "secret12", ADDRESS), Busy)

    def test_changed_meanwhile(self) -> None:
        """A password that is changed, or an account that goes, while it is checked does not count."""
        changes = (
            lambda: self.accounts.set_password("fox", hash_of("other pass")),
            lambda: self.accounts.set_enabled("fox", False),
            lambda: self.accounts.remove("fox"),
        )
        for change in changes:
            self.accounts = Accounts(self.clock, self.store)
            self.addCleanup(self.accounts.stop)
            self.accounts.add("fox", HASHED)
            checking = self.accounts.check("fox", "secret12", ADDRESS)
            change()
            self.assertRaises(BadCredentials, self.clock.wait, checking)


class PrincipalTests(AccountsTestCase):
    """Who comes with a certificate."""

    def test_same(self) -> None:
        """A certificate and a password of one name are one principal, however it is spelled in the certificate."""
        self.accounts.add("Fox", HASHED, ["Red"], ["Red"], admin=True)
        certificate = Certificate("FOX", "CN=CA", 1)
        by_certificate = self.accounts.principal("FOX", certificate)
        by_password = self.check("fox", "secret12")
        self.assertTrue(by_certificate.same_as(by_password))
        self.assertEqual(by_certificate, replace(by_password, certificate=certificate, by_password=False))

    def test_without(self) -> None:
        """A name without an account is itself, in the group of everybody both ways, and no administrator."""
        certificate = Certificate("FOX", "CN=CA", 1)
        expected = Principal("FOX", EVERYBODY, EVERYBODY, certificate)
        self.assertEqual(self.accounts.principal("FOX", certificate), expected)
        self.accounts.add("wolf")
        self.assertEqual(self.accounts.certified(Principal("FOX", certificate=certificate)), expected)

    def test_anonymous(self) -> None:
        """Who has no certificate stays nobody."""
        self.accounts.add("anonymous")
        self.assertIs(self.accounts.certified(ANONYMOUS), ANONYMOUS)

    def test_disabled(self) -> None:
        """Disabling takes passwords and the administrator's rights; certificates keep their groups."""
        self.accounts.add("fox", HASHED, ["Red"], ["Red"], admin=True)
        self.accounts.set_enabled("fox", False)
        principal = self.accounts.principal("fox", Certificate("fox", "CN=CA", 1))
        self.assertEqual((principal.groups_in, principal.admin), (frozenset({"Red"}), False))

    def test_barred(self) -> None:
        """A name that is banned or disabled does not get in with an invite."""
        self.accounts.add("fox")
        self.assertFalse(self.accounts.is_barred("Fox"))
        self.assertFalse(self.accounts.is_barred("nobody"))
        self.accounts.set_enabled("fox", False)
        self.assertTrue(self.accounts.is_barred("Fox"))
        self.banned.add("nobody")
        self.assertTrue(self.accounts.is_barred("nobody"))

    def test_still_good(self) -> None:
        """Who has shown a password before is believed until the account changes."""
        self.accounts.add("fox", HASHED, ["Red"], ["Red"])
        later = self.clock.seconds() + 1
        good = self.accounts.still_good("FOX", later)
        self.assertEqual((good.name, good.by_password), ("fox", True))
        self.assertRaises(BadCredentials, self.accounts.still_good, "nobody", later)
        self.clock.advance(10)
        self.accounts.set_password("fox", hash_of("other pass"))
        self.assertRaises(BadCredentials, self.accounts.still_good, "fox", later)
        later = self.clock.seconds() + 1
        self.accounts.still_good("fox", later)
        self.accounts.set_enabled("fox", False)
        self.assertRaises(BadCredentials, self.accounts.still_good, "fox", later)
        self.clock.advance(10)
        self.accounts.set_enabled("fox", True)
        self.accounts.still_good("fox", later)
        self.banned.add("fox")
        self.assertRaises(BadCredentials, self.accounts.still_good, "fox", later)


class ChangingTests(AccountsTestCase):
    """What operators do."""

    def test_kept(self) -> None:
        """Everything is found again after a restart."""
        self.accounts.add("fox", HASHED, ["Red"], [], admin=True)
        self.accounts.add("Äpfel", HASHED)
        self.accounts.add("gone", HASHED)
        self.accounts.set_groups("ÄPFEL", ["A"], ["B"])
        self.accounts.remove("gone")
        self.successResultOf(self.accounts.flush())
        again = Accounts(self.clock, self.store)
        self.addCleanup(again.stop)
        again.restore(self.successResultOf(self.store.open()).accounts)
        self.assertEqual(list(again), list(self.accounts))
        self.assertEqual(len(again), 2)
        fox = again.find("fox")
        assert fox is not None
        self.assertEqual((fox.groups_in, fox.groups_out, fox.admin), (frozenset({"Red"}), frozenset(), True))

    def test_no_groups(self) -> None:
        """An account without groups is in the one of everybody, at first and when they are taken away."""
        self.assertEqual(self.accounts.add("fox").groups_in, EVERYBODY)
        self.accounts.set_groups("fox", ["Red"], ["Red"])
        self.assertEqual(self.accounts.set_groups("fox", [], []).groups_out, EVERYBODY)

    def test_admin(self) -> None:
        """Groups and rights are changed each by itself, or together."""
        self.accounts.add("fox")
        self.assertTrue(self.accounts.set_admin("fox", True).admin)
        self.assertTrue(self.accounts.set_groups("fox", ["Red"], ["Red"]).admin)
        self.assertFalse(self.accounts.set_groups("fox", ["Red"], ["Red"], admin=False).admin)

    def test_twice(self) -> None:
        """There is one account of a name, in whatever case."""
        self.accounts.add("Straße")
        error = self.assertRaises(AccountError, self.accounts.add, "STRASSE")
        self.assertIn("an account Straße already", str(error))

    def test_nobody(self) -> None:
        """What does not exist is not changed."""
        for change in (
            lambda: self.accounts.set_password("x", HASHED),
            lambda: self.accounts.set_groups("x", [], []),
            lambda: self.accounts.set_admin("x", True),
            lambda: self.accounts.set_enabled("x", True),
            lambda: self.accounts.remove("x"),
        ):
            self.assertIn("there is no account 'x'", str(self.assertRaises(AccountError, change)))

    def test_too_many(self) -> None:
        """There is an end to it."""
        self.patch(module, "MAX_ACCOUNTS", 2)
        self.accounts.add("a")
        self.accounts.add("b")
        self.assertRaises(AccountError, self.accounts.add, "c")

    def test_any_password(self) -> None:
        """Accounts that have only groups do not close a door that is open to all."""
        self.accounts.add("a")
        self.assertFalse(self.accounts.any_password)
        self.accounts.set_password("a", HASHED)
        self.assertTrue(self.accounts.any_password)

    def test_watched(self) -> None:
        """Whoever has connections hears of every change."""
        told: list[tuple[str | None, str | None]] = []

        def changed(before: Account | None, after: Account | None) -> None:
            told.append((before.password if before else None, after.password if after else None))

        self.accounts.watch(changed)
        self.accounts.add("fox", "h1")
        self.accounts.set_password("fox", "h2")
        self.accounts.remove("fox")
        self.assertEqual(told, [(None, "h1"), ("h1", "h2"), ("h2", None)])

    def test_ends_passwords(self) -> None:
        """Who came with a password goes when it changes, or does not count any more, and for nothing else."""
        account = Account("fox", "fox", "h1", EVERYBODY, EVERYBODY, False, True, 0)
        self.assertFalse(ends_passwords(None, account))
        self.assertFalse(ends_passwords(account, replace(account, admin=True, groups_in=frozenset())))
        self.assertTrue(ends_passwords(account, None))
        self.assertTrue(ends_passwords(account, replace(account, enabled=False)))
        self.assertTrue(ends_passwords(account, replace(account, password="h2")))

    def test_key(self) -> None:
        """Names that look the same are the same."""
        self.assertEqual(account_key("  FÖX "), account_key("fo\u0308x"))
        self.assertNotEqual(account_key("fox"), account_key("f0x"))
