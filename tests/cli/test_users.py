from __future__ import annotations

import getpass
import io
import json
import sys
from pathlib import Path

from taky_twisted.cli.site_accounts import at_rest
from taky_twisted.data_folder import DataFolder
from taky_twisted.identity.passwords import matches
from taky_twisted.identity.records import Account
from tests.cli.tool import SiteTestCase


class UsersTests(SiteTestCase):
    def accounts(self) -> dict[str, Account]:
        """Read the store."""
        with at_rest(self.site.settings) as (_, kept, _):
            return {account.name: account for account in kept.accounts}

    def typed(self, *answers: str) -> None:
        """Let somebody type answers to prompts."""
        waiting = list(answers)

        def answer(prompt: str) -> str:
            if not waiting:
                raise EOFError
            return waiting.pop(0)

        self.patch(getpass, "getpass", answer)

    def test_prompt(self) -> None:
        """A password is asked for twice, and is nowhere in the output."""
        self.typed("secret12", "secret12")
        ran = self.run_well("users", "add", "Jörg Müller", "--group", "Red", "--out", "HQ", "--admin")
        self.assertEqual(ran.out, "Jörg Müller: speaks to Red, hears HQ, Red; administrator\n")
        account = self.accounts()["Jörg Müller"]
        self.assertTrue(matches(account.password, "secret12"))
        self.assertEqual((account.groups_in, account.groups_out), (frozenset({"Red"}), frozenset({"Red", "HQ"})))
        self.typed("secret13", "secret13")
        self.run_well("users", "passwd", "JÖRG MÜLLER")
        self.assertTrue(matches(self.accounts()["Jörg Müller"].password, "secret13"))

    def test_typed_wrong(self) -> None:
        """Two that differ, one that is too short, or none at all: nothing is changed."""
        for answers, words in (
            (("secret12", "secret13"), "not the same"),
            (("short",), "at least 8"),
            ((), "no password was typed"),
        ):
            self.typed(*answers)
            self.assertIn(words, self.fail_to("users", "add", "fox"))
        self.assertEqual(self.accounts(), {})

    def test_stdin(self) -> None:
        """A script hands it over on standard input: one line."""
        for said, password in (
            ("secret12\n", "secret12"),
            ("geheim 12\r\nmore\n", "geheim 12"),
            ("secret12", "secret12"),
        ):
            self.patch(sys, "stdin", io.StringIO(said))
            self.run_well("users", "add", f"fox{len(self.accounts())}", "--password-stdin")
            *_, account = self.accounts().values()
            self.assertTrue(matches(account.password, password))

    def test_generated(self) -> None:
        """One that is made up is printed, once."""
        ran = self.run_well("users", "add", "fox", "--generate")
        first, second = ran.out.splitlines()
        self.assertEqual(first, "fox: groups __ANON__")
        self.assertTrue(matches(self.accounts()["fox"].password, second.removeprefix("Password: ")))
        ran = self.run_well("users", "passwd", "fox", "--generate", "-j")
        said = json.loads(ran.out)
        self.assertTrue(matches(self.accounts()["fox"].password, said["new_password"]))
        self.assertEqual(said["name"], "fox")

    def test_without(self) -> None:
        """An account may have groups alone."""
        self.assertEqual(
            self.run_well("users", "add", "fox", "--no-password").out, "fox: groups __ANON__; no password\n"
        )
        self.assertEqual(self.accounts()["fox"].password, "")
        self.assertIn("take one of", self.fail_to("users", "add", "wolf", "--no-password", "--generate"))

    def test_never_in_arguments(self) -> None:
        """There is no way to write a password into the command line, where others could read it."""
        self.assertIn("unrecognized arguments", self.fail_to("users", "add", "fox", "--password", "secret12"))

    def test_list(self) -> None:
        """The list shows who is in which groups, and what is special."""
        self.assertEqual(self.run_well("users", "list").out, "There are no accounts\n")
        self.run_well("users", "add", "fox", "--generate", "--group", "Red")
        self.run_well("users", "add", "Wolf", "--no-password", "--in", "A", "--admin")
        self.run_well("users", "disable", "fox")
        out = self.run_well("users", "list").out
        fox, wolf = ([cell.strip() for cell in line.split("|")] for line in out.splitlines()[2:])
        self.assertEqual(fox, ["fox", "Red", "", "", "disabled"])
        self.assertEqual(wolf, ["Wolf", "speaks to A, hears none", "none", "yes", ""])
        listed = json.loads(self.run_well("users", "list", "-j").out)
        self.assertEqual([each["name"] for each in listed], ["fox", "Wolf"])
        self.assertNotIn("argon2", json.dumps(listed))

    def test_groups(self) -> None:
        """Groups are replaced by those that are named; none at all is the group of everybody."""
        self.run_well("users", "add", "fox", "--no-password", "--group", "Red", "--admin")
        self.assertIn(
            "groups A; no password; administrator", self.run_well("users", "groups", "fox", "--group", "A").out
        )
        self.assertIn("groups A; no password\n", self.run_well("users", "groups", "fox", "--no-admin").out)
        self.assertIn("groups A; no password; adm", self.run_well("users", "groups", "fox", "--admin").out)
        self.assertIn("groups __ANON__;", self.run_well("users", "groups", "fox").out)

    def test_enable(self) -> None:
        """An account is disabled, enabled and removed."""
        self.run_well("users", "add", "fox", "--generate")
        self.assertIn("takyctl kickban", self.run_well("users", "disable", "fox").out)
        self.assertFalse(self.accounts()["fox"].enabled)
        self.assertIn("; disabled", self.run_well("users", "groups", "fox", "--group", "A").out)
        self.assertEqual(self.run_well("users", "enable", "FOX").out, "fox: groups A\n")
        self.assertEqual(self.run_well("users", "remove", "fox").out, "fox has no account any more\n")
        self.assertIn("there is no account 'fox'", self.fail_to("users", "remove", "fox"))

    def test_wrong(self) -> None:
        """What cannot be is said before anybody has typed a password."""
        self.typed()
        self.assertIn("begins with '.'", self.fail_to("users", "add", ".x"))
        self.run_well("kickban", "fox")
        self.assertIn("fox is banned; 'takyctl unban NAME' comes first", self.fail_to("users", "add", "fox"))
        self.assertIn("say what to do: add, passwd", self.fail_to("users"))
        self.assertIn("the group '\\n'", self.fail_to("users", "add", "x", "--no-password", "--group", "\n"))

    def test_kickban(self) -> None:
        """Who is banned cannot come with a password, until he is unbanned."""
        self.run_well("users", "add", "fox", "--generate")
        self.run_well("kickban", "fox")
        self.assertFalse(self.accounts()["fox"].enabled)
        self.run_well("unban", "fox")
        self.assertTrue(self.accounts()["fox"].enabled)

    def test_kickban_unreachable(self) -> None:
        """Where the accounts cannot be reached the ban counts all the same, and the operator is told."""
        self.run_well("users", "add", "fox", "--generate")
        folder = DataFolder(self.site.settings.data_dir)
        folder.open()
        self.addCleanup(folder.close)
        ran = self.run_well("kickban", "fox")
        self.assertIn("note: whether fox has an account is not known, and it was not disabled", ran.err)
        self.assertTrue(self.site.register().is_banned("fox"))

    def test_build_client(self) -> None:
        """The groups of a package are those of the name, for passwords and certificates."""
        self.run_well("build_client", "fox", "--group", "Red")
        self.assertEqual(self.accounts()["fox"].groups_in, frozenset({"Red"}))
        Path("fox.zip").unlink()
        self.run_well("build_client", "fox")
        self.assertEqual(self.accounts()["fox"].groups_in, frozenset({"Red"}))
