from __future__ import annotations

import json
import os
from pathlib import Path

from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.site_accounts import SiteAccounts, at_rest, give_groups, set_enabled
from taky_twisted.config import load
from taky_twisted.data_folder import TAKY_SOCKET, DataFolder
from tests.cli.answering import AnsweringTestCase

OK = {"v": 1, "ok": True}


class RunningTests(AnsweringTestCase):
    """A server runs."""

    def setUp(self) -> None:
        super().setUp()
        self.settings = load(str(self.conf))

    def test_asked(self) -> None:
        """It is asked, and the store is left alone."""
        self.answer({**OK, "name": "fox"})
        said = SiteAccounts(self.settings).ask("add", name="fox", password="secret12")
        self.assertEqual(said["name"], "fox")
        self.assertEqual(self.asked(), {"v": 1, "do": "users", "action": "add", "name": "fox", "password": "secret12"})
        self.assertFalse((self.data / "taky.sqlite").exists())

    def test_refused(self) -> None:
        """What it says counts."""
        self.answer({"v": 1, "ok": False, "error": "there is no account 'x'"})
        error = self.assertRaises(CommandError, SiteAccounts(self.settings).ask, "remove", name="x")
        self.assertEqual(str(error), "there is no account 'x'")

    def test_named(self) -> None:
        """Where the operator names a socket, nothing else is done if nobody is there."""
        accounts = SiteAccounts(self.settings, self.data / "other.sock")
        self.assertIn("no server answers", str(self.assertRaises(CommandError, accounts.ask, "list")))
        error = self.assertRaises(CommandError, SiteAccounts, self.settings, self.data / TAKY_SOCKET)
        self.assertIn("taky's protocol", str(error))

    def test_enable(self) -> None:
        """Enabling works through our own socket, also where the operator named taky's."""
        self.answer({**OK, "name": "fox"})
        self.assertTrue(set_enabled(self.settings, "fox", True, self.data / TAKY_SOCKET))
        self.assertEqual(self.asked()["if_there"], True)
        self.answer(OK)
        self.assertFalse(set_enabled(self.settings, "fox", False))

    def asked(self) -> dict[str, object]:
        """Read what was asked last."""
        said: dict[str, object] = json.loads(self.requests[-1])
        return said


class StoreTests(AnsweringTestCase):
    """No server runs."""

    def setUp(self) -> None:
        super().setUp()
        self.settings = load(str(self.conf))
        self.accounts = SiteAccounts(self.settings)

    def names(self) -> list[str]:
        """List the accounts."""
        return [account["name"] for account in self.accounts.ask("list")["accounts"]]

    def test_store(self) -> None:
        """The store is changed, and the password in it is a hash."""
        self.accounts.ask("add", name="fox", password="secret12")
        self.accounts.ask("groups", **{"name": "FOX", "in": ["Red"], "out": []})
        with at_rest(self.settings) as (_, kept, _):
            (account,) = kept.accounts
        self.assertTrue(account.password.startswith("$argon2id$"))
        self.assertEqual(account.groups_in, frozenset({"Red"}))
        self.assertNotIn(b"secret12", (self.data / "taky.sqlite").read_bytes())

    def test_all_or_nothing(self) -> None:
        """Of several changes all are made, or none."""
        requests = [{"action": "add", "name": "fox"}, {"action": "add", "name": "-"}]
        self.assertRaises(CommandError, self.accounts.ask_all, requests)
        self.assertEqual(self.names(), [])

    def test_bad_password(self) -> None:
        """A password that is too short is refused."""
        self.assertIn(
            "at least 8", str(self.assertRaises(CommandError, self.accounts.ask, "add", name="x", password="x"))
        )

    def test_give_groups(self) -> None:
        """People are put into groups, whether they have accounts or not."""
        give_groups(self.settings, {})
        self.assertFalse((self.data / "taky.sqlite").exists())
        self.accounts.ask("add", name="fox", password="secret12")
        give_groups(self.settings, {"FOX": ("Red",), "Wolf": ("Red", "HQ")})
        fox, wolf = self.accounts.ask("list")["accounts"]
        self.assertEqual((fox["name"], fox["in"], fox["out"], fox["password"]), ("fox", ["Red"], ["Red"], True))
        self.assertEqual((wolf["name"], wolf["in"], wolf["password"]), ("Wolf", ["HQ", "Red"], False))

    def test_enable(self) -> None:
        """Who has no account is no problem; no store is made for that."""
        self.assertFalse(set_enabled(self.settings, "fox", False))
        self.assertFalse((self.data / "taky.sqlite").exists())
        self.accounts.ask("add", name="fox")
        self.assertFalse(set_enabled(self.settings, "wolf", False))
        self.assertTrue(set_enabled(self.settings, "FOX", False))
        self.configure("store = memory:")
        self.assertFalse(set_enabled(load(str(self.conf)), "fox", False))

    def test_in_memory(self) -> None:
        """Without a server there is nothing in memory."""
        self.configure("store = memory:")
        accounts = SiteAccounts(load(str(self.conf)))
        self.assertIn("start it first", str(self.assertRaises(CommandError, accounts.ask, "list")))

    def test_locked(self) -> None:
        """A server that runs and cannot be reached keeps its store to itself."""
        folder = DataFolder(self.data)
        folder.open()
        self.addCleanup(folder.close)
        self.assertIn("is using it", str(self.assertRaises(CommandError, self.accounts.ask, "list")))

    def test_long_path(self) -> None:
        """A data folder in which there can be no socket works all the same."""
        deep = self.folder / ("x" * 60) / ("y" * 60)
        deep.mkdir(parents=True)
        self.conf.write_text(f"[taky]\nroot_dir = {deep}\n")
        self.assertEqual(SiteAccounts(load(str(self.conf))).ask("list"), {"accounts": []})

    def test_owner(self) -> None:
        """What root makes belongs to whom the folder belongs, so that the server can use it."""
        owned: list[tuple[str, int, int]] = []
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "chown", lambda path, user, group: owned.append((Path(path).name, user, group)))
        self.accounts.ask("add", name="fox")
        there = self.data.stat()
        self.assertEqual(sorted(owned), [(name, there.st_uid, there.st_gid) for name in ("taky.lock", "taky.sqlite")])
        owned.clear()
        self.patch(os, "geteuid", lambda: 1000)
        self.accounts.ask("list")
        self.assertEqual(owned, [])
