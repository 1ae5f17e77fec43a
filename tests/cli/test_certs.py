from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

from cryptography.hazmat.primitives.asymmetric import ec

from taky_twisted.cli import certs
from taky_twisted.enrollment.register import CLIENT
from tests.cli.tool import SiteTestCase

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


class CertsTests(SiteTestCase):
    def issue(self, name: str, days: float) -> int:
        """Enter a certificate that is valid so long from now."""
        now = datetime.now(timezone.utc)
        # Whole days only: the rest by moving the moment at which it is made.
        certificate = self.site.authority().sign_client(name, KEY, now + timedelta(days=days - 9), 9)
        self.site.register().add(certificate, CLIENT)
        return certificate.serial_number

    def rows(self, *arguments: str) -> list[list[str]]:
        lines = self.run_well("certs", *arguments).out.splitlines()
        return [re.split(r"\s{2,}", line) for line in lines if re.search("  ", line)][1:]

    def test_list(self) -> None:
        """What ends next comes first; from 30 days before its end on it is marked."""
        self.issue("LATE", 31.5)
        self.issue("SOON", 29.5)
        self.assertEqual(
            [(row[1], row[2], row[3]) for row in self.rows()],
            [("expires soon", "client", "SOON"), ("valid", "client", "LATE"), ("valid", "server", "localhost")],
        )

    def test_old(self) -> None:
        """What has expired or is revoked is counted, and shown on request or by name."""
        self.issue("OVER", -0.5)
        self.issue("GONE", 100)
        self.run_well("kickban", "GONE")
        text = self.run_well("certs").out
        self.assertIn("2 more have expired or are revoked (--all)\nBanned: GONE\nThe authority is valid until 20", text)
        states = {row[3]: row[1] for row in self.rows("--all")}
        self.assertEqual(states, {"OVER": "expired", "GONE": "revoked", "localhost": "valid"})
        self.assertEqual([row[4] for row in self.rows("GONE")], ["GONE"])
        self.assertIn("No certificates", self.run_well("certs", "NOBODY").out)

    def test_taky(self) -> None:
        """A line of taky, or one with broken dates, is listed with what it says."""
        with (self.layout.ssl / "cert-db.txt").open("a") as file:
            file.write("V\tsoon\tsoon\t0b\tOLD\n")
        self.assertIn(["?", "valid", "client?", "OLD"], self.rows())
        self.assertIn(["?", "valid", "client?", "b", "OLD"], self.rows("--serials"))

    def test_json(self) -> None:
        """In JSON there is all that is known, for other programs."""
        serial = self.issue("Jörg", 100)
        self.run_well("kickban", "GHOST")
        told = json.loads(self.run_well("certs", "-j").out)
        (own,) = [each for each in told["certificates"] if each["name"] == "Jörg"]
        self.assertEqual((own["serial"], own["state"], own["revoked"]), (f"{serial:040x}", "valid", None))
        self.assertRegex(own["expires"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(told["banned"], ["GHOST"])
        self.assertIn("authority_expires", told)

    def test_no_authority(self) -> None:
        """Without the authority's certificate the list is there all the same."""
        (self.layout.ssl / "ca.crt").unlink()
        self.assertNotIn("authority", self.run_well("certs").out)
        self.assertNotIn("authority", self.run_well("certs", "-j").out)
        text = self.layout.conf.read_text("utf-8")
        self.layout.conf.write_text(text.replace("ca = ssl/ca.crt", "ca ="), "utf-8")
        self.assertNotIn("authority", self.run_well("certs").out)

    def test_authority_ends(self) -> None:
        """In time before the authority ends, and after it, the operator is told to make a new site."""
        later = datetime.now(timezone.utc) + timedelta(days=3500)
        self.patch(certs, "now", lambda: later)
        self.assertRegex(self.run_well("certs").out, r"\(1\d\d days left: plan for a new site\)")
        after = later + timedelta(days=400)
        self.patch(certs, "now", lambda: after)
        self.assertIn("it has expired, nobody can connect", self.run_well("certs").out)
