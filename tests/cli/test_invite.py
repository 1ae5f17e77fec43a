from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

from lxml import etree, html

from taky_twisted.cli import invite
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.invite import seconds_of
from taky_twisted.cli.site_invites import ask
from taky_twisted.enrollment.invites import hash_of
from taky_twisted.stores.at_rest import StoreAtRest
from tests.cli.tool import SiteTestCase
from tests.pki import Authority, write_private

FIRST = "they import {} first, then scan"


class InviteTests(SiteTestCase):
    def kept(self) -> Any:
        """Read the store."""
        return StoreAtRest(None, self.layout.data).read(0)

    def told(self, *arguments: str) -> Any:
        """Run the verb, and read its JSON."""
        return json.loads(self.run_well("invite", "--json", *arguments).out)

    def written(self) -> set[str]:
        """List what is in this folder."""
        return {path.name for path in Path.cwd().iterdir()} - {"site"}

    def test_invite(self) -> None:
        """The codes, the link and what to type are printed, and the package is written."""
        ran = self.run_well("invite", "Jörg Müller")
        (kept,) = self.kept().invites
        link = next(line.strip() for line in ran.out.splitlines() if line.strip().startswith("tak://"))
        token = link.partition("token=")[2]
        self.assertEqual((kept.name, kept.uses, kept.hash), ("Jörg Müller", 1, hash_of(token)))
        self.assertIn("username=J%C3%B6rg%20M%C3%BCller", link)
        typed = next(line.split()[-1] for line in ran.out.splitlines() if line.strip().startswith("password"))
        self.assertEqual(hash_of(typed), kept.hash)
        self.assertEqual(self.written(), {"Jörg Müller-enroll.zip"})
        self.assertIn("wrote Jörg Müller-enroll.zip", ran.out)
        self.assertIn(FIRST.format("Jörg Müller-enroll.zip"), ran.err)

    def test_package(self) -> None:
        """The package makes a phone trust the site, and ask for a name and a password; no key is in it."""
        for flavor, pref in (([], "certs/server.pref"), (["--itak"], "config.pref")):
            self.run_well("invite", "alpha", "--force", *flavor)
            package = zipfile.ZipFile("alpha-enroll.zip")
            root = etree.fromstring(package.read(pref))
            keys = {entry.get("key"): entry.text for entry in root.iter("entry")}
            self.assertEqual(keys["enrollForCertificateWithTrust0"], "true")
            self.assertEqual(keys["connectString0"], "127.0.0.1:8089:ssl")
            self.assertNotIn("certificateLocation0", keys)
            self.assertEqual(len([name for name in package.namelist() if name.endswith(".p12")]), 1)

    def test_pictures(self) -> None:
        """The codes are written as pictures too, for their owner alone, because whoever has one gets in."""
        self.run_well("invite", "alpha", "--svg", "--png")
        self.assertEqual(
            self.written(),
            {"alpha-enroll.zip", "alpha-atak.svg", "alpha-itak.svg", "alpha-atak.png", "alpha-itak.png"},
        )
        for name in self.written():
            self.assertEqual(stat.S_IMODE(Path(name).stat().st_mode), 0o600)
        self.assertTrue(Path("alpha-atak.png").read_bytes().startswith(b"\x89PNG"))
        self.assertIn(b"<svg", Path("alpha-itak.svg").read_bytes())
        self.assertNotEqual(Path("alpha-itak.svg").read_bytes(), Path("alpha-atak.svg").read_bytes())

    def test_json(self) -> None:
        """Programs get the same in JSON."""
        told = self.told("alpha", "--uses", "3", "--expires", "12h", "--svg")
        (kept,) = self.kept().invites
        self.assertEqual((kept.uses, round(kept.expires - kept.created)), (3, 12 * 3600))
        self.assertEqual(
            (told["name"], told["uses"], told["expires"], told["public"]), ("alpha", 3, kept.expires, False)
        )
        self.assertEqual(hash_of(told["token"]), kept.hash)
        self.assertEqual(told["files"], ["alpha-enroll.zip", "alpha-atak.svg", "alpha-itak.svg"])
        self.assertTrue(told["atak"].startswith("tak://") and told["itak"].startswith("{"))

    def test_groups(self) -> None:
        """Groups may be given together or one by one; the account has them both ways."""
        self.run_well("invite", "alpha", "--groups", "Red", "Blue", "--group", "Green")
        (account,) = self.kept().accounts
        groups = frozenset({"Red", "Blue", "Green"})
        self.assertEqual((account.name, account.password, account.groups_in), ("alpha", "", groups))
        self.assertEqual(account.groups_out, groups)
        self.assertIn("the group", self.fail_to("invite", "bravo", "--groups", "\n"))

    def test_csv(self) -> None:
        """A list makes a page to print, with the codes of all, and one package."""
        Path("people.csv").write_text('name,groups\nalpha,Red;Blue\n"Müller, Jörg",\n', "utf-8")
        ran = self.run_well("invite", "--from-csv", "people.csv", "--uses", "2")
        self.assertRegex(ran.out, r"^2 invites, 2 devices, until \d{4}")
        self.assertEqual(self.written(), {"people.csv", "invites.html", "enroll.zip"})
        self.assertEqual(stat.S_IMODE(Path("invites.html").stat().st_mode), 0o600)
        root = html.parse(io.BytesIO(Path("invites.html").read_bytes()))
        self.assertEqual([each.text for each in root.iter("h1")], ["alpha", "Müller, Jörg"])
        self.assertEqual(len(list(root.iter("svg"))), 4)
        self.assertIn("First import the package enroll.zip", Path("invites.html").read_text("utf-8"))
        self.assertEqual({each.name for each in self.kept().invites}, {"alpha", "Müller, Jörg"})
        groups = {account.name: account.groups_in for account in self.kept().accounts}
        self.assertEqual(groups, {"alpha": {"Red", "Blue"}, "Müller, Jörg": {"__ANON__"}})
        told = self.told("--from-csv", "people.csv", "--force")
        self.assertEqual([each["name"] for each in told["invites"]], ["alpha", "Müller, Jörg"])

    def test_public(self) -> None:
        """With a publicly trusted certificate the code is all that somebody needs, and nothing else is said."""
        authority = Authority("Public")
        made = authority.issue("localhost", server=True)
        key, certificate = (
            write_private(self.folder / name, content)
            for name, content in (("own.key", made.key_pem()), ("own.pem", made.pem))
        )
        roots = write_private(self.folder / "roots.pem", authority.pem)
        with self.layout.conf.open("a") as file:
            file.write(f"\n[dp_server]\nenroll_endpoints = ssl:9446:privateKey={key}:certKey={certificate}\n")
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = roots

        def restore() -> None:
            del os.environ["SSL_CERT_FILE"]
            if before is not None:
                os.environ["SSL_CERT_FILE"] = before

        self.addCleanup(restore)
        ran = self.run_well("invite", "alpha")
        self.assertNotIn("do not trust", ran.err)
        self.assertIn("the enrollment port is 9446", ran.err)
        Path("people.csv").write_text("name\nbravo\n")
        self.run_well("invite", "--from-csv", "people.csv")
        self.assertNotIn("First import", Path("invites.html").read_text("utf-8"))

    def test_list(self) -> None:
        """Open invites are listed, without their tokens."""
        self.assertEqual(self.run_well("invite", "--list").out, "Nobody is invited\n")
        self.run_well("invite", "alpha", "--uses", "2")
        self.assertRegex(
            self.run_well("invite", "--list").out, r"^alpha: 2 left, until \d{4}-\d\d-\d\d \d\d:\d\d UTC\n$"
        )
        (told,) = self.told("--list")["invites"]
        self.assertEqual(set(told), {"name", "uses", "expires"})

    def test_withdraw(self) -> None:
        """A code that was lost can be made worthless."""
        self.run_well("invite", "alpha")
        self.assertEqual(self.run_well("invite", "alpha", "--withdraw").out, "1 invites of alpha were withdrawn\n")
        self.assertEqual(self.told("alpha", "--withdraw"), {"withdrawn": 0})
        self.assertEqual(self.kept().invites, [])

    def test_files_there(self) -> None:
        """What is there is not replaced, and then nobody is invited; unless that is wanted."""
        Path("alpha-atak.svg").write_text("mine")
        self.assertIn("alpha-atak.svg is in this folder already", self.fail_to("invite", "alpha", "--svg"))
        Path("people.csv").write_text("name\nalpha\n")
        Path("invites.html").write_text("mine")
        self.assertIn("--force replaces it", self.fail_to("invite", "--from-csv", "people.csv"))
        self.assertEqual(ask(self.site.settings, [{"action": "list"}]), [{"invites": []}])
        self.run_well("invite", "alpha", "--svg", "--force")
        self.assertNotEqual(Path("alpha-atak.svg").read_text(), "mine")

    def test_banned(self) -> None:
        """A banned name is not invited."""
        self.run_well("kickban", "alpha")
        self.assertIn("unban", self.fail_to("invite", "alpha"))

    def test_who(self) -> None:
        """One name, or a list."""
        self.assertIn("who is invited?", self.fail_to("invite"))
        self.assertIn("who is invited?", self.fail_to("invite", "alpha", "--from-csv", "x"))
        self.assertIn("allowed: 1 to 63", self.fail_to("invite", "../alpha"))

    def test_no_door(self) -> None:
        """Where nobody can enroll nobody is invited."""
        text = self.layout.conf.read_text().replace("[ssl]", "[dp_server]\nendpoints = ssl:8443\n\n[ssl]")
        self.layout.conf.write_text(text)
        self.assertIn("there is no enrollment port", self.fail_to("invite", "alpha"))
        self.assertEqual(self.written(), set())

    def test_times(self) -> None:
        """Times are numbers with a unit."""
        for text, seconds in (("90m", 5400), ("12h", 43200), (" 7D ", 604800), ("2w", 1209600)):
            self.assertEqual(seconds_of(text), seconds)
        for text in ("", "7", "d", "-1d", "1.5d", "7 d", "1y", "9999999d", "٣d"):
            self.assertRaises(CommandError, seconds_of, text)
        for arguments in (("--expires", "0d"), ("--expires", "500d"), ("--uses", "0")):
            self.assertIn("invite", self.fail_to("invite", "alpha", *arguments))

    def test_help(self) -> None:
        """The help fits into a terminal."""
        self.assertTrue(all(len(line) <= 80 for line in invite.MORE.splitlines()))
