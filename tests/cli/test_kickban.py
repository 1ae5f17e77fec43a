from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

from cryptography import x509

from taky_twisted.cli import kickban
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.running import RunningServer
from taky_twisted.enrollment.register import CRL_NAME
from tests.cli.tool import SiteTestCase


class KickbanTests(SiteTestCase):
    def serial(self, name: str) -> int:
        """Make somebody a certificate, and tell its serial."""
        self.run_well("build_client", "--force", name)
        return [each.serial for each in self.site.register().records() if each.name == name][-1]

    def listed(self) -> list[int]:
        """Read the revocation list."""
        return [each.serial_number for each in x509.load_pem_x509_crl((self.layout.ssl / CRL_NAME).read_bytes())]

    def revoked(self) -> list[int]:
        return [each.serial for each in self.site.register().records() if each.revoked is not None]

    def test_name(self) -> None:
        """All certificates of a name are revoked, in the register and in the list for others, as taky prints it."""
        first, second, other = self.serial("FOX"), self.serial("FOX"), self.serial("ALPHA")
        ran = self.run_well("kickban", "FOX")
        self.assertEqual(
            ran.out.splitlines()[:3], ["Revoked certificate SNs for FOX:", f" - {first:040x}", f" - {second:040x}"]
        )
        self.assertIn("FOX is banned", ran.out)
        self.assertIn("No server runs at the moment", ran.out)
        self.assertEqual(self.revoked(), [first, second])
        self.assertEqual(sorted(self.listed()), sorted([first, second]))
        self.assertNotIn(other, self.listed())
        self.assertEqual(ran.err, "")

    def test_json(self) -> None:
        """In JSON the answer is taky's, and nothing else is printed."""
        serial = self.serial("FOX")
        self.assertEqual(json.loads(self.run_well("kickban", "-j", "FOX").out), {"revoked_sns": [serial]})
        self.assertEqual(json.loads(self.run_well("kickban", "-j", "FOX").out), {"revoked_sns": []})

    def test_unknown(self) -> None:
        """A name that the register does not have is banned, with a word about names like it."""
        self.serial("Jörg")
        ran = self.run_well("kickban", "Jörk")
        self.assertIn("note: the register has no certificate of Jörk; did you mean Jörg?\n", ran.err)
        self.assertIn("No certificate of Jörk was left to revoke\nJörk is banned", ran.out)
        self.assertEqual(self.revoked(), [])
        self.assertIn("banned", self.fail_to("build_client", "Jörk"))
        self.assertIn("no certificate of zzz\n", self.run_well("kickban", "zzz").err)

    def test_case(self) -> None:
        """A name is one in any case, as that of an account is: who types it otherwise bans no less."""
        serial = self.serial("Jörg")
        ran = self.run_well("kickban", "JÖRG")
        self.assertEqual((ran.err, self.revoked()), ("", [serial]))
        self.assertIn("banned", self.fail_to("build_client", "--force", "Jörg"))
        self.assertIn("Jörg may have certificates again", self.run_well("unban", "Jörg").out)

    def test_serial(self) -> None:
        """One certificate is revoked by its serial, however it is written, and its name stays free."""
        first, second = self.serial("FOX"), self.serial("FOX")
        text = f"{first:040X}"
        colons = ":".join(text[at : at + 2] for at in range(0, 40, 2))
        ran = self.run_well("kickban", "--serial", colons)
        self.assertIn(f" - {first:040x}  FOX\n", ran.out)
        self.assertEqual(self.revoked(), [first])
        self.run_well("build_client", "--force", "FOX")
        self.assertIn("was left to revoke", self.run_well("kickban", "--serial", f"0x{first:x}").out)
        self.assertNotIn(second, self.listed())

    def test_never_both(self) -> None:
        """A NAME is never read as a serial, also if it looks like one."""
        serial = self.serial("FOX")
        self.run_well("kickban", f"{serial:x}")
        self.assertEqual(self.revoked(), [])
        for arguments in ((), ("FOX", "--serial", "1")):
            self.assertIn("one of them", self.fail_to("kickban", *arguments))
        self.assertIn("the name is empty", self.fail_to("kickban", " "))

    def test_bad_serial(self) -> None:
        """What is no serial is refused."""
        for text in ("", "0", "xyz", "1" * 41, "12 34", "-1", "0x"):
            self.assertIn("allowed: 1 to 40 hex digits", self.fail_to("kickban", f"--serial={text}"))

    def test_server_is_spared(self) -> None:
        """Somebody who is called as the server is does not take the server's certificate with him."""
        serial = self.serial("localhost")
        self.run_well("kickban", "localhost")
        self.assertEqual(self.revoked(), [serial])

    def test_unban(self) -> None:
        """A name gets certificates again, and not its old ones."""
        serial = self.serial("Jörg M")
        self.run_well("kickban", "Jörg M")
        self.assertIn("Jörg M may have certificates again", self.run_well("unban", "Jo\u0308rg M").out)
        self.assertEqual(self.run_well("unban", "Jörg M").out, "Jörg M is not banned\n")
        new = self.serial("Jörg M")
        self.assertEqual(self.revoked(), [serial])
        self.assertNotEqual(new, serial)
        self.run_well("kickban", "Jörg M")
        self.assertEqual(json.loads(self.run_well("unban", "-j", "Jörg M").out), {"unbanned": True})

    def test_no_authority(self) -> None:
        """Where the authority's key is kept elsewhere, banning works; only the list for others is not written."""
        serial = self.serial("FOX")
        (self.layout.ssl / "ca.key").unlink()
        ran = self.run_well("kickban", "FOX")
        self.assertIn("note: the revocation list for other programs was not written: [ssl] ca_key", ran.err)
        self.assertEqual(self.revoked(), [serial])


class TellServerTests(SiteTestCase):
    def told(self, answer: dict[str, object] | Exception, socket: str = "x.sock", name: str | None = "FOX") -> str:
        """Tell a server that answers so."""
        self.asked: list[object] = []

        def ask(_: RunningServer, *args: object, **more: object) -> dict[str, object]:
            self.asked.append((*args, more))
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.patch(RunningServer, "ask", ask)
        self.patch(RunningServer, "ask_taky", ask)
        return kickban.tell_server(self.site, Path(socket), name)

    def test_runs(self) -> None:
        """A running server is told at once, and says how many connections it has ended."""
        self.assertEqual(self.told({"dropped": 2}), "The running server knows, and has ended 2 connections.")
        self.assertEqual(self.asked, [("kickban", {"name": "FOX"})])
        self.assertEqual(self.told({"dropped": 0}, name=None), "The running server knows.")
        self.assertEqual(self.asked, [("kickban", {})])
        self.assertEqual(self.told({"dropped": 1}), "The running server knows, and has ended 1 connection.")

    def test_nodes(self) -> None:
        """Where several nodes are one server, the number is that of one, and the others are not forgotten."""
        settings = replace(self.site.settings, bus_endpoint="tcp:localhost:6379")
        self.patch(type(self), "site", replace(self.site, settings=settings))
        self.assertEqual(
            self.told({"dropped": 1}), "The running server knows, and has ended 1 connection; the other nodes are told."
        )

    def test_taky(self) -> None:
        """At taky's socket its own words are spoken."""
        self.assertIn("has ended", self.told({}, "taky-mgmt.sock"))
        self.assertEqual(self.asked, [({"cmd": "kickban", "user": "FOX"}, {})])
        self.told({}, "taky-mgmt.sock", None)
        self.assertEqual(self.asked, [({"cmd": "ping"}, {})])

    def test_cannot(self) -> None:
        """A server that cannot be told reads the register by itself."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertIn("within 2 seconds", self.told(CommandError("busy")))
        self.assertIn("busy", said.getvalue())
