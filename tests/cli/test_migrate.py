from __future__ import annotations

import json
import os
import socket
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli import migrate
from taky_twisted.enrollment.authority import alternative_names
from taky_twisted.identity.cert_db import beside
from taky_twisted.identity.credentials import Source, load_certificates
from tests.cli.tool import Ran, takyctl
from tests.taky_site import TakySite


class MigrateTests(SynchronousTestCase):
    def setUp(self) -> None:
        # Not mktemp(): a socket's path must be short.
        self.site = TakySite(Path(tempfile.mkdtemp()), "takhost", "192.0.2.5")
        self.addCleanup(self.site.remove)
        self.patch(migrate, "UNITS", self.site.folder / "units")

    def migrate(self, *options: str, path: str | None = None) -> Ran:
        return takyctl("migrate", *options, path or str(self.site.folder))

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.site.folder.rglob("*")) if path.is_file()}

    def refuse(self, words: str) -> Ran:
        """Migrating stops at something that is marked, and nothing was changed."""
        before = self.files()
        ran = self.migrate()
        self.assertEqual(ran.status, 1)
        self.assertIn(words, ran.out)
        self.assertIn("mend what is marked with !!", ran.err)
        self.assertEqual(self.files(), before)
        return ran

    def test_whole(self) -> None:
        """A site is taken over where it is: taky's files stay as they are, and ours come beside them."""
        before = self.files()
        ran = self.migrate()
        self.assertEqual((ran.status, ran.err), (0, ""))
        self.assertIn("The site is ready", ran.out)
        self.assertIn(f"twistd -n taky --config {self.site.conf}", ran.out)
        after = self.files()
        self.assertEqual({name: after[name] for name in before}, before)
        serial = self.site.server.certificate.serial_number
        self.assertEqual(
            {Path(name).name for name in set(after) - set(before)},
            {"ca.crl", "cert-db.jsonl", "cert-db.txt.lock", f"{serial:040x}.pem"},
        )
        (line,) = beside(self.site.ssl / "cert-db.txt").read_text("utf-8").splitlines()
        self.assertEqual((json.loads(line)["name"], json.loads(line)["kind"]), ("takhost", "server"))

    def test_dry_run(self) -> None:
        """With --dry-run everything is said and nothing is done."""
        before = self.files()
        ran = self.migrate("--dry-run", path=str(self.site.conf))
        self.assertEqual((ran.status, self.files()), (0, before))
        self.assertIn("ok  the register has 2 certificates, 0 of them revoked", ran.out)
        self.assertIn("Nothing was changed (--dry-run)", ran.out)

    def test_again(self) -> None:
        """Doing it twice is no harm."""
        self.migrate()
        before = self.files()
        self.assertEqual(self.migrate().status, 0)
        changed = {Path(name).name for name, content in self.files().items() if before.get(name) != content}
        self.assertLessEqual(changed, {"ca.crl"})

    def test_afterwards(self) -> None:
        """On the site that was taken over, takyctl does what it does elsewhere, and spares the server's certificate."""
        self.migrate()
        conf = str(self.site.conf)
        ran = takyctl("-c", conf, "kickban", "ALPHA")
        self.assertIn(f"{self.site.client.certificate.serial_number:040x}", ran.out)
        self.assertIn("was left to revoke", takyctl("-c", conf, "kickban", "takhost").out)
        lines = (self.site.ssl / "cert-db.txt").read_text("utf-8").splitlines()
        self.assertEqual([line[0] for line in lines], ["V", "R"])
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.site.folder)
        self.assertEqual(takyctl("-c", conf, "build_client", "BRAVO").status, 0)

    def test_renew_server(self) -> None:
        """The address is not in the certificate of taky; that is said, and the verb that mends it does."""
        ran = self.migrate()
        self.assertIn(" !  the server's certificate is not for 192.0.2.5", ran.out)
        self.assertIn("renew-server\n", ran.out)
        self.assertEqual(takyctl("-c", str(self.site.conf), "renew-server").status, 0)
        (certificate,) = load_certificates(Source("cert", str(self.site.ssl / "server.crt")))
        self.assertEqual(alternative_names(certificate), ["takhost", "192.0.2.5"])
        self.assertNotIn("renew-server", self.migrate().out)

    def test_redis(self) -> None:
        """A site that uses Redis goes on doing so, with what is there."""
        words = "ok  [taky] redis: what is on the map stays in redis:tcp:localhost:6379; what taky left there is taken"
        for value, told in (("true", 1), ("redis://localhost:6379", 1), ("yes", 1), ("false", 0), ("", 0), ("no", 0)):
            self.site.configure(redis=value)
            ran = self.migrate("--dry-run")
            self.assertEqual((ran.status, ran.out.count(words)), (0, told), value)

    def test_runs(self) -> None:
        """While taky runs, nothing is taken over."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.site.folder / "taky-mgmt.sock"))
            listener.listen()
            before = set(self.site.folder.rglob("*"))
            ran = self.migrate()
            self.assertIn("!!  taky is running; stop it first", ran.out)
            self.assertEqual(set(self.site.folder.rglob("*")), before)

    def test_damaged(self) -> None:
        """What the server would stumble over is found before."""
        (self.site.ssl / "server.key").write_bytes(b"garbage")
        self.refuse("!!  [ssl] key")
        self.site.write()
        (self.site.ssl / "ca.key").unlink()
        self.refuse("!!  [ssl] ca_key")

    def test_no_certificate(self) -> None:
        """A configuration that names no certificate is told."""
        text = self.site.conf.read_text("utf-8").replace("cert = ./ssl/server.crt", "cert =")
        self.site.conf.write_text(text, "utf-8")
        self.refuse("[ssl] cert names no file")

    def test_foreign_server(self) -> None:
        """A server's certificate of somebody else is used as it is and not entered."""
        self.site.write(server=self.site.stranger)
        self.assertEqual(self.migrate().status, 0)
        self.assertEqual(beside(self.site.ssl / "cert-db.txt").read_text("utf-8"), "")

    def test_ends_soon(self) -> None:
        """What expires soon is pointed at."""
        self.patch(migrate, "now", lambda: datetime.now(timezone.utc) + timedelta(days=90))
        self.assertIn(" !  the authority", self.migrate("--dry-run").out)

    def test_packages(self) -> None:
        """Data packages and units of taky are mentioned."""
        meta = self.site.folder / "dp-user/meta"
        (meta / "a.zip.json").write_text("{}")
        (meta / "hash.json").symlink_to("a.zip.json")
        (self.site.folder / "units").mkdir()
        (self.site.folder / "units/taky-dps.service").touch()
        ran = self.migrate("--dry-run")
        self.assertIn(f"1 data packages in {self.site.folder / 'dp-user'} are taken over", ran.out)
        self.assertIn("units of taky: taky-dps.service", ran.out)

    def test_no_tls(self) -> None:
        """A site without TLS is taken over as well."""
        self.site.configure(tls=False)
        ran = self.migrate()
        self.assertEqual(ran.status, 0)
        self.assertIn("tcp:8087", ran.out)
        self.assertFalse(beside(self.site.ssl / "cert-db.txt").exists())

    def test_no_root_dir(self) -> None:
        """Where taky would use /var/taky and we do not, that is said."""
        text = self.site.conf.read_text("utf-8").replace("root_dir = .\n", "")
        self.site.conf.write_text(text, "utf-8")
        self.assertIn(" !  [taky] root_dir is not set", self.migrate("--dry-run").out)

    def test_no_site(self) -> None:
        """What is no site of taky is told."""
        self.assertIn("there is no /nonexistent", takyctl("migrate", "/nonexistent").err)
        self.site.conf.write_text("no section\n", "utf-8")
        self.assertIn("not a configuration of taky: File contains no section headers", self.migrate().err)
        self.site.conf.write_bytes(b"\xff")
        self.assertIn("not a configuration of taky", self.migrate().err)
        self.site.conf.write_text("[nonsense]\nx = 1\n", "utf-8")
        self.assertIn("unknown section [nonsense]", self.migrate().err)


class KeyTests(SynchronousTestCase):
    def test_taky_site(self) -> None:
        """The site of these tests is as taky makes it; keys may be of any kind there."""
        site = TakySite(Path(tempfile.mkdtemp()), "h", "192.0.2.5")
        self.addCleanup(site.remove)
        self.assertIsInstance(site.client.key, ec.EllipticCurvePrivateKey)
        self.assertEqual(alternative_names(site.server.certificate), ["h"])
