from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment import invites as module
from taky_twisted.enrollment.invite_requests import answer
from taky_twisted.enrollment.invites import DEFAULT_SECONDS, Invites
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import AccountError
from taky_twisted.stores.memory import MemoryStore
from tests.threaded_clock import EPOCH, ThreadedClock


class InviteRequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = ThreadedClock()
        self.store = MemoryStore(clock)
        self.banned: set[str] = set()
        self.accounts = Accounts(clock, self.store, lambda name: name in self.banned)
        self.addCleanup(self.accounts.stop)
        self.invites = Invites(self.store, clock)

    def ask(self, action: str, **more: Any) -> dict[str, Any]:
        """Ask."""
        return answer(self.invites, self.accounts, {"action": action, **more}, EPOCH)

    def refuse(self, **asked: Any) -> str:
        """Ask for what cannot be done; nothing changes."""
        before = dict(self.store._records)
        error = self.assertRaises(AccountError, answer, self.invites, self.accounts, asked, EPOCH)
        self.assertEqual(self.store._records, before)
        return str(error)

    def test_invite(self) -> None:
        """Who is invited gets a token, and an account without a password."""
        said = self.ask("invite", name="alpha")
        self.assertEqual(
            {**said, "token": ""}, {"name": "alpha", "token": "", "uses": 1, "expires": EPOCH + DEFAULT_SECONDS}
        )
        self.assertIsNotNone(self.invites.find("alpha", said["token"]))
        account = self.accounts.find("alpha")
        assert account is not None
        self.assertEqual((account.password, account.groups_in, account.admin), ("", {"__ANON__"}, False))

    def test_groups(self) -> None:
        """With groups the account has these from now on; without, those that it had."""
        for groups, found in ((["Red"], {"Red"}), (None, {"Red"}), (["Blue", "Green"], {"Blue", "Green"})):
            self.ask("invite", name="alpha", **({} if groups is None else {"in": groups, "out": groups}))
            account = self.accounts.find("alpha")
            assert account is not None
            self.assertEqual((account.groups_in, account.groups_out), (found, found))

    def test_spelling(self) -> None:
        """An account keeps its spelling, whatever is typed."""
        self.accounts.add("Alpha", "hash")
        said = self.ask("invite", name="ALPHA", uses=3, seconds=60)
        self.assertEqual((said["name"], said["uses"], said["expires"]), ("Alpha", 3, EPOCH + 60))
        account = self.accounts.find("alpha")
        assert account is not None
        self.assertEqual((account.name, account.password), ("Alpha", "hash"))

    def test_barred(self) -> None:
        """Nobody is invited who could not come."""
        self.accounts.add("alpha")
        self.accounts.set_enabled("alpha", False)
        self.banned.add("bravo")
        for name in ("alpha", "bravo"):
            self.assertIn("banned, or its account is disabled", self.refuse(action="invite", name=name))

    def test_refused(self) -> None:
        """What makes no sense changes nothing."""
        for asked in (
            *({}, {"action": "x"}, {"action": "invite"}, {"action": "invite", "name": 1}, {"action": "withdraw"}),
            *({"action": "invite", "name": "../a"}, {"action": "invite", "name": "a", "uses": 0}),
            *({"action": "invite", "name": "a", "uses": True}, {"action": "invite", "name": "a", "uses": 1.5}),
            *({"action": "invite", "name": "a", "seconds": "7d"}, {"action": "invite", "name": "a", "seconds": -1}),
            *(
                {"action": "invite", "name": "a", "seconds": float("nan")},
                {"action": "invite", "name": "a", "in": "Red"},
            ),
            *({"action": "invite", "name": "a", "in": ["\n"]}, {"action": ["invite"]}),
        ):
            self.refuse(**asked)

    def test_full(self) -> None:
        """Too many invites are refused in words."""
        self.patch(module, "MAX_INVITES", 1)
        self.ask("invite", name="alpha")
        self.assertIn("1 invites already", self.refuse(action="invite", name="alpha"))

    def test_list(self) -> None:
        """Open invites are listed by name, without their tokens."""
        for name in ("bravo", "alpha"):
            self.ask("invite", name=name, seconds=60)
        self.assertEqual(
            self.ask("list"),
            {"invites": [{"name": name, "uses": 1, "expires": EPOCH + 60} for name in ("alpha", "bravo")]},
        )

    def test_withdraw(self) -> None:
        """All invites of a name end."""
        for name in ("alpha", "alpha", "bravo"):
            self.ask("invite", name=name)
        self.assertEqual(self.ask("withdraw", name="alpha"), {"withdrawn": 2})
        self.assertEqual([each["name"] for each in self.ask("list")["invites"]], ["bravo"])
