from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.admin.commands import Admin, AdminError, Running
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.invites import Invites
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.passwords import matches
from taky_twisted.stores.memory import MemoryStore
from tests.admin.running import Server
from tests.fakes import LogLines
from tests.threaded_clock import ThreadedClock


class AdminTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.admin = self.server.admin
        self.log = LogLines(self)

    def test_uptime(self) -> None:
        """Uptime counts from when the server was made."""
        self.server.reactor.advance(90)
        self.assertEqual(self.admin.stats()["uptime"], 90.0)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.admin.takys_status()))["uptime"], 90.0)

    def test_uptime_after_the_clock_was_set(self) -> None:
        """Uptime does not go by a clock that somebody sets."""
        self.server.steady = self.server.reactor.seconds() + 90
        self.server.reactor.advance(-3600)
        self.assertEqual(self.admin.stats()["uptime"], 90.0)

    def test_kickban_is_logged(self) -> None:
        """Who was banned stands in the log, in a form that forges no line."""
        self.server.revoked = [1, 2]
        self.successResultOf(Deferred.fromCoroutine(self.admin.kickban("x\nforged")))
        self.assertEqual(self.log(), [r"kickban 'x\nforged': 2 certificates revoked, 2 connections closed"])

    def test_register_cannot_be_written(self) -> None:
        """If the ban cannot be written down, connections are closed all the same, and the operator is told."""
        self.server.problem = EnrollmentError("the disk is full")
        failure = self.failureResultOf(Deferred.fromCoroutine(self.admin.kickban("x")), AdminError)
        self.assertIn("the disk is full; 2 connections were closed, but nothing keeps them away", str(failure.value))
        self.assertEqual(self.server.steps, ["kick x", "ban x", "reload", "kick x"])

    def test_users(self) -> None:
        """Accounts are made and changed while the server runs; of a password only its hash is kept."""
        clock = ThreadedClock()
        store = MemoryStore(clock)
        accounts = Accounts(clock, store)
        self.addCleanup(accounts.stop)
        self.admin._running.accounts = accounts

        def ask(**asked: Any) -> dict[str, Any]:
            return clock.wait(Deferred.fromCoroutine(self.admin.users(asked)))

        self.assertEqual(ask(action="add", name="fox", password="secret12")["name"], "fox")
        (kept,) = self.successResultOf(store.open()).accounts
        self.assertTrue(matches(kept.password, "secret12"))
        self.assertEqual(ask(action="list")["accounts"][0]["password"], True)
        for asked, words in (
            ({"action": "add", "name": "fox"}, "already"),
            ({"action": "passwd", "name": "fox", "password": "short"}, "at least 8"),
            ({"action": "passwd", "name": "fox", "password": 5}, "password is a text"),
            ({"name": "fox"}, "action is one of"),
        ):
            self.assertIn(words, str(self.assertRaises(AdminError, ask, **asked)))
        self.assertEqual(self.log(), [])

    def test_kickban_disables(self) -> None:
        """A ban disables the account of that name, in whatever case, before anybody can come back with it."""
        clock = ThreadedClock()
        accounts = self.admin._running.accounts = Accounts(clock, MemoryStore(clock))
        accounts.add("Fox")
        accounts.add("wolf")
        self.server.steps.clear()
        self.successResultOf(Deferred.fromCoroutine(self.admin.kickban("FOX")))
        self.assertEqual([account.enabled for account in accounts], [False, True])
        self.successResultOf(Deferred.fromCoroutine(self.admin.kickban("nobody")))

    def test_invites(self) -> None:
        """Invites are made while the server runs, and end with a ban of their name."""
        clock = ThreadedClock()
        store = MemoryStore(clock)
        running = self.admin._running
        running.accounts, running.invites = Accounts(clock, store), Invites(store, clock)

        def ask(**asked: Any) -> dict[str, Any]:
            return self.successResultOf(Deferred.fromCoroutine(self.admin.invites(asked)))

        for name in ("Fox", "wolf"):
            self.assertTrue(ask(action="invite", name=name)["token"])
        failure = self.failureResultOf(Deferred.fromCoroutine(self.admin.invites({"action": "x"})), AdminError)
        self.assertIn("action is one of", str(failure.value))
        self.successResultOf(Deferred.fromCoroutine(self.admin.kickban("fox")))
        self.assertEqual([invite["name"] for invite in ask(action="list")["invites"]], ["wolf"])

    def test_nothing_more(self) -> None:
        """A server without TLS and HTTP has nothing to revoke and nothing more to count."""
        running = self.server.admin._running
        admin = Admin(
            Running(running.reactor, running.router, running.failures, running.reload, lambda name, reason: 0)
        )
        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(admin.kickban("x"))), {"revoked_sns": [], "dropped": 0}
        )
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(admin.status()))["doors"], [])
        self.assertNotIn("streams", admin.stats())
        failure = self.failureResultOf(Deferred.fromCoroutine(admin.users({"action": "list"})), AdminError)
        self.assertIn("no accounts", str(failure.value))
        failure = self.failureResultOf(Deferred.fromCoroutine(admin.invites({"action": "list"})), AdminError)
        self.assertIn("no enrollment port", str(failure.value))
