from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.account_requests import MAX_GROUPS, answer, check_group
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import AccountError
from taky_twisted.stores.memory import MemoryStore


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        self.accounts = Accounts(clock, MemoryStore(clock))

    def ask(self, action: str, hashed: Any = None, **more: Any) -> dict[str, Any]:
        """Ask something."""
        return answer(self.accounts, {"action": action, **more}, hashed)

    def refused(self, action: object, **more: Any) -> str:
        """Ask something that cannot be done; read why."""
        error = self.assertRaises(AccountError, answer, self.accounts, {"action": action, **more}, None)
        return str(error)

    def test_add(self) -> None:
        """An account is made as it is said, and shown without its hash."""
        said = self.ask("add", "hash", **{"name": " Jörg ", "in": ["Red"], "out": ["HQ", " Red "], "admin": True})
        self.assertEqual(
            said,
            {"name": "Jörg", "in": ["Red"], "out": ["HQ", "Red"], "admin": True, "enabled": True, "password": True},
        )
        self.assertEqual(self.ask("add", name="x")["password"], False)
        self.assertIn("already", self.refused("add", name="JÖRG"))

    def test_list(self) -> None:
        """All accounts are listed by name."""
        self.assertEqual(self.ask("list"), {"accounts": []})
        for name in ("b", "A"):
            self.ask("add", name=name)
        self.assertEqual([each["name"] for each in self.ask("list")["accounts"]], ["A", "b"])

    def test_passwd(self) -> None:
        """A password is changed or taken away."""
        self.ask("add", name="fox")
        self.assertTrue(self.ask("passwd", "hash", name="FOX")["password"])
        self.assertFalse(self.ask("passwd", name="fox")["password"])

    def test_groups(self) -> None:
        """Groups and rights are changed, together or one of them; what is not said stays."""
        self.ask("add", **{"name": "fox", "in": ["Red"], "out": ["Red"]})
        self.assertEqual(self.ask("groups", name="fox", admin=True)["in"], ["Red"])
        self.assertEqual(self.ask("groups", **{"name": "fox", "in": ["A"]})["out"], [])
        self.assertTrue(self.ask("groups", **{"name": "fox", "in": [], "out": []})["admin"])
        self.assertEqual(self.ask("groups", **{"name": "fox", "in": ["A"], "admin": False})["admin"], False)
        self.assertIn("say which groups", self.refused("groups", name="fox"))
        self.assertIn("no account", self.refused("groups", **{"name": "wolf", "in": ["A"]}))

    def test_make(self) -> None:
        """Who shall be in groups gets an account if that is said."""
        made = self.ask("groups", **{"name": "wolf", "in": ["A"], "out": ["A"], "make": True})
        self.assertEqual((made["in"], made["password"], made["admin"]), (["A"], False, False))
        self.assertEqual(self.ask("groups", **{"name": "wolf", "in": ["B"], "make": True})["in"], ["B"])

    def test_enable(self) -> None:
        """An account is disabled and enabled; one that may be missing is no error then."""
        self.ask("add", name="fox")
        self.assertFalse(self.ask("disable", name="fox", if_there=True)["enabled"])
        self.assertTrue(self.ask("enable", name="fox")["enabled"])
        self.assertEqual(self.ask("disable", name="wolf", if_there=True), {})
        self.assertIn("no account", self.refused("disable", name="wolf"))

    def test_remove(self) -> None:
        """An account goes, whatever its name."""
        self.accounts.add("-odd/name")
        self.assertEqual(self.ask("remove", name="-odd/name")["name"], "-odd/name")
        self.assertEqual(len(self.accounts), 0)

    def test_hostile(self) -> None:
        """What makes no sense is refused in words, whatever it is."""
        actions: tuple[Any, ...] = (None, "", "x", 1, [])
        for action in actions:
            self.assertIn("action is one of", self.refused(action, name="x"))
        names: tuple[Any, ...] = (None, "", " ", 1, [])
        for name in names:
            self.assertIn("name is a text", self.refused("add", name=name))
        for name in ("-x", "a/b", "x" * 64, "a\nb"):
            self.assertIn("allowed", self.refused("add", name=name))
        lists: tuple[Any, ...] = ("Red", [1], [None], ["x"] * (MAX_GROUPS + 1), {})
        for groups in lists:
            self.assertIn("in is a list", self.refused("add", **{"name": "x", "in": groups}))
        flags: tuple[Any, ...] = (1, "yes", [])
        for flag in flags:
            self.assertIn("true or false", self.refused("add", name="x", admin=flag))
        self.assertEqual(len(self.accounts), 0)

    def test_group_names(self) -> None:
        """A group has 1 to 255 printable characters."""
        self.assertEqual(check_group(" Blue team "), "Blue team")
        self.assertEqual(check_group("x" * 255), "x" * 255)
        for bad in ("", " ", "x" * 256, "a\nb", "\u202e"):
            self.assertRaises(AccountError, check_group, bad)
