from __future__ import annotations

import stat
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12
from cryptography.x509.oid import NameOID

from taky_twisted.cli import build_client
from taky_twisted.enrollment.authority import signed_by
from taky_twisted.enrollment.keystores import read_authorities
from taky_twisted.enrollment.register import CRL_NAME
from tests.cli.tool import SiteTestCase
from tests.enrollment.test_packages import Package


class BuildClientTests(SiteTestCase):
    def package(self, name: str) -> Package:
        return Package(Path(f"{name}.zip").read_bytes())

    def certificate(self, package: Package, password: str = "atakatak") -> x509.Certificate:
        """Read the client's certificate in a package, and see that its key and chain are there."""
        place = package.app["certificateLocation"].replace("cert/", "certs/")
        found = pkcs12.load_pkcs12(package.files[place], password.encode())
        assert found.cert is not None and found.key is not None
        self.assertEqual(found.key.public_key(), found.cert.certificate.public_key())
        authority = self.site.authority()
        self.assertEqual([each.certificate for each in found.additional_certs], list(authority.chain))
        self.assertTrue(signed_by(found.cert.certificate, authority.certificate))
        return found.cert.certificate

    def names(self) -> list[str]:
        """List whose certificates the register has."""
        return [record.name for record in self.site.register().records() if record.kind == "client"]

    def test_atak(self) -> None:
        """NAME.zip has what ATAK needs, for its owner alone; the certificate is in the register before."""
        ran = self.run_well("build_client", "ALPHA-1")
        end = datetime.now(timezone.utc) + timedelta(days=730)
        self.assertEqual(ran.out, f"ALPHA-1.zip  for ATAK, WinTAK; 127.0.0.1:8089, until {end:%Y-%m-%d}\n")
        self.assertEqual(stat.S_IMODE(Path("ALPHA-1.zip").stat().st_mode), 0o600)
        package = self.package("ALPHA-1")
        self.assertEqual(package.stream["connectString0"], "127.0.0.1:8089:ssl")
        self.assertEqual(package.stream["description0"], "localhost")
        certificate = self.certificate(package)
        self.assertEqual(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value, "ALPHA-1")
        store = package.files[package.app["caLocation"].replace("cert/", "certs/")]
        self.assertEqual(read_authorities(store, "atakatak"), [self.site.authority().certificate])
        (record,) = [each for each in self.site.register().records() if each.name == "ALPHA-1"]
        self.assertEqual(record.serial, certificate.serial_number)
        self.assertTrue((self.layout.ssl / CRL_NAME).exists())

    def test_itak(self) -> None:
        """With taky's flag it is for iTAK: everything at the root."""
        self.assertIn("for iTAK, TAK Aware", self.run_well("build_client", "--is_itak", "FOX").out)
        self.assertIn("config.pref", self.package("FOX").files)

    def test_name(self) -> None:
        """Names with spaces and umlauts work, in the file's name as well as in the certificate."""
        self.run_well("build_client", "  Jo\u0308rg Müller ")
        certificate = self.certificate(self.package("Jörg Müller"))
        self.assertEqual(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value, "Jörg Müller")
        self.assertEqual(self.names(), ["Jörg Müller"])

    def test_bad_name(self) -> None:
        """A name that would be a path or an option is refused, and nothing is made."""
        for name in ("../evil", "a/b", ".hidden", "x" * 64, "a\nb"):
            self.assertIn("allowed: 1 to 63 characters", self.fail_to("build_client", name))
        self.assertIn("begins with '-'", self.fail_to("build_client", "--", "-x"))
        self.assertEqual((self.names(), list(self.folder.glob("*.zip"))), ([], []))

    def test_dump_pem(self) -> None:
        """With --dump_pem there are also key, certificate and PKCS#12, the secret ones for their owner alone."""
        self.run_well("build_client", "--dump_pem", "--p12_pw", "pass word", "FOX")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.folder.glob("FOX*")}
        self.assertEqual(modes, {"FOX.zip": 0o600, "FOX.key": 0o600, "FOX.p12": 0o600, "FOX.crt": 0o644})
        certificate = x509.load_pem_x509_certificate(Path("FOX.crt").read_bytes())
        key = load_pem_private_key(Path("FOX.key").read_bytes(), None)
        self.assertEqual(key.public_key(), certificate.public_key())
        found = pkcs12.load_pkcs12(Path("FOX.p12").read_bytes(), b"pass word")
        self.assertEqual(found.cert and found.cert.certificate, certificate)
        self.assertEqual(self.certificate(self.package("FOX"), "pass word"), certificate)
        self.assertEqual(self.package("FOX").app["clientPassword"], "pass word")

    def test_force(self) -> None:
        """A file that is there is only replaced with --force, and before that nothing is made."""
        Path("FOX.key").write_text("precious")
        self.assertIn("FOX.key is in this folder already", self.fail_to("build_client", "--dump_pem", "FOX"))
        self.assertEqual((self.names(), Path("FOX.zip").exists()), ([], False))
        self.run_well("build_client", "--dump_pem", "--force", "FOX")
        self.assertIn("PRIVATE KEY", Path("FOX.key").read_text())
        self.assertEqual(stat.S_IMODE(Path("FOX.key").stat().st_mode), 0o600)

    def test_days_and_groups(self) -> None:
        """How long it is valid can be said, and its groups are noted in the register."""
        self.run_well("build_client", "--days", "7", "--group", "Red", "--group", "Blue team", "FOX")
        (record,) = [each for each in self.site.register().records() if each.name == "FOX"]
        self.assertEqual(record.groups, ("Red", "Blue team"))
        assert record.expires is not None
        self.assertEqual((record.expires - datetime.now(timezone.utc)).days, 6)
        for days in ("0", "3651", "-1"):
            self.assertIn("allowed: 1 to 3650", self.fail_to("build_client", "--days", days, "X"))
        self.assertIn("the group '\\n'", self.fail_to("build_client", "--group", "\n", "X"))
        self.assertIn("invalid int value", self.fail_to("build_client", "--days", "x", "X"))

    def test_password(self) -> None:
        """A password that a phone could not read is refused."""
        self.assertIn("not a password for .p12 files", self.fail_to("build_client", "--p12_pw", "ü", "X"))

    def test_banned(self) -> None:
        """Who is banned gets nothing, and the message names the way back."""
        self.run_well("kickban", "FOX")
        self.assertIn("FOX: banned; 'takyctl unban NAME'", self.fail_to("build_client", "FOX"))
        self.assertFalse(Path("FOX.zip").exists())

    def test_who(self) -> None:
        """Nobody, or two ways to say who, is refused."""
        self.assertIn("whose package?", self.fail_to("build_client"))
        self.assertIn("not both", self.fail_to("build_client", "FOX", "--from-csv", "x"))

    def test_own_folder(self) -> None:
        """What cannot be written is told; the certificate is in the register all the same."""
        self.patch(build_client, "write_new", _refuse)
        self.assertIn("takyctl build_client: FOX.zip: Permission denied", self.fail_to("build_client", "FOX"))
        self.assertEqual(self.names(), ["FOX"])

    def csv(self, *lines: str, encoding: str = "utf-8") -> str:
        Path("people.csv").write_bytes("\n".join(lines).encode(encoding))
        return "people.csv"

    def test_csv(self) -> None:
        """A list makes a package for each; what a line leaves out is as the command line says."""
        path = self.csv(
            "name,groups,days,itak",
            "ALPHA,Red; Blue,7,",
            '"Müller, Jörg",,,yes',
            "CHARLIE",
            encoding="utf-8-sig",
        )
        ran = self.run_well("build_client", "--from-csv", path, "--days", "9", "--group", "All")
        self.assertEqual(len(ran.out.splitlines()), 3)
        found = {each.name: each for each in self.site.register().records()}
        groups = {name: found[name].groups for name in ("ALPHA", "Müller, Jörg", "CHARLIE")}
        self.assertEqual(groups, {"ALPHA": ("Red", "Blue"), "Müller, Jörg": ("All",), "CHARLIE": ("All",)})
        ends = {name: ((found[name].expires or _now()) - _now()).days + 1 for name in groups}
        self.assertEqual(ends, {"ALPHA": 7, "Müller, Jörg": 9, "CHARLIE": 9})
        self.assertIn("config.pref", self.package("Müller, Jörg").files)
        self.assertIn("certs/server.pref", self.package("CHARLIE").files)

    def test_csv_columns(self) -> None:
        """Columns may be in any order, and all but the name may be missing."""
        self.run_well("build_client", "--from-csv", self.csv("ITAK , Name", "no,ALPHA", "x,BRAVO"))
        self.assertEqual(self.names(), ["ALPHA", "BRAVO"])

    def test_csv_wrong(self) -> None:
        """If one line is wrong, the message names it, and nobody gets anything."""
        for lines, words in (
            (["nom", "A"], "the first line has to be name,groups,days,itak"),
            (["name,age", "A,1"], "the first line has to be"),
            (["name,name", "A,1"], "the first line has to be"),
            ([], "the first line has to be"),
            (["name"], "nobody is in the list"),
            (["name", "A", "A"], "line 3: A is in the list twice"),
            (["name,days", "A,x"], "line 2: days is 'x'; allowed: a whole number"),
            (["name,days", "A,٣"], "line 2: --days 0: allowed"),
            (["name,days", "A,0"], "line 2: --days 0: allowed: 1 to 3650"),
            (["name,itak", "A,maybe"], "line 2: itak is 'maybe'; allowed: yes or no"),
            (["name,groups", "A,Red;"], "line 2: the group ''"),
            (["name", "a/b"], "line 2: the name 'a/b' holds the character '/'"),
            (["name", "A,B"], "line 2: more fields than the first line"),
            (["name", '"A'], "not a CSV file"),
        ):
            self.assertIn(words, self.fail_to("build_client", "--from-csv", self.csv(*lines)))
        self.assertIn(
            "not UTF-8", self.fail_to("build_client", "--from-csv", self.csv("name", "ü", encoding="latin-1"))
        )
        self.assertIn("none.csv: No such file", self.fail_to("build_client", "--from-csv", "none.csv"))
        self.patch(build_client, "MAX_PEOPLE", 2)
        self.run_well("build_client", "--from-csv", self.csv("name", "A", "B"))
        self.assertIn("more than 2 people", self.fail_to("build_client", "--from-csv", self.csv("name", "C", "D", "E")))
        self.assertEqual(self.names(), ["A", "B"])


class WithoutTLSTests(SiteTestCase):
    wishes = replace(SiteTestCase.wishes, encrypted=False)

    def test_package(self) -> None:
        """A site without TLS has packages, too; they hold the address alone."""
        ran = self.run_well("build_client", "FOX")
        self.assertIn("127.0.0.1:8087, without TLS", ran.out)
        package = Package(Path("FOX.zip").read_bytes())
        self.assertEqual((package.stream["connectString0"], package.stores), ("127.0.0.1:8087:tcp", {}))
        self.assertIn("leave --dump_pem out", self.fail_to("build_client", "--dump_pem", "BRAVO"))


def _refuse(path: Path, *_: object) -> None:
    raise PermissionError(13, "Permission denied", path.name)


def _now() -> datetime:
    return datetime.now(timezone.utc)
