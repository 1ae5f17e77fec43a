from __future__ import annotations

import os
import ssl
import stat
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli import site_maker
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.site import Site
from taky_twisted.cli.site_maker import Layout, Wishes, make_site
from taky_twisted.endpoints.strings import split
from taky_twisted.enrollment.authority import alternative_names, signed_by
from taky_twisted.enrollment.keystores import read_authorities
from taky_twisted.enrollment.register import CertificateRegister
from taky_twisted.identity.credentials import Source, load_credentials
from taky_twisted.identity.errors import EndpointError
from tests import pki
from tests.cli.tool import quick_key

NOW = datetime.now(timezone.utc)
WISHES = Wishes(("tak.example", "tak2.example"), ("192.0.2.5", "2001:db8::5"))


PATHS = ssl.get_default_verify_paths()


def _no_paths() -> ssl.DefaultVerifyPaths:
    """Be a system whose OpenSSL knows no roots."""
    return PATHS._replace(cafile=None)  # type: ignore[arg-type] # it may be None


class MakeSiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.layout = Layout.of_folder(self.folder)
        self.addCleanup(os.umask, os.umask(0o022))

    def make(self, **wishes: object) -> tuple[Site, tuple[str, ...]]:
        made = make_site(self.layout, replace(WISHES, **wishes), NOW, quick_key())  # type: ignore[arg-type]
        return Site.open(str(self.layout.conf)), made.warnings

    def files(self) -> dict[str, int]:
        """List what is there, with modes."""
        found = sorted(self.folder.rglob("*"))
        return {str(path.relative_to(self.folder)): stat.S_IMODE(path.stat().st_mode) for path in found}

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.layout.ssl / name).read_bytes())

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder.with_name(f"{self.folder.name}-{name}")
        path.write_bytes(content)
        return path

    def test_whole(self) -> None:
        """A site has everything in one folder, and what is secret is for its owner alone."""
        site, warnings = self.make()
        self.assertEqual(warnings, ())
        files = self.files()
        (issued,) = [name for name in files if name.startswith("ssl/issued/")]
        self.assertEqual(
            files,
            {
                "taky.conf": 0o600,
                "data": 0o700,
                "ssl": 0o700,
                "ssl/ca.crt": 0o644,
                "ssl/ca.key": 0o600,
                "ssl/ca.crl": 0o644,
                "ssl/server.crt": 0o644,
                "ssl/server.key": 0o600,
                "ssl/server.p12": 0o644,
                "ssl/cert-db.txt": 0o644,
                "ssl/cert-db.txt.lock": 0o600,
                "ssl/cert-db.jsonl": 0o644,
                "ssl/issued": 0o700,
                issued: 0o644,
            },
        )
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        server = self.certificate("server.crt")
        self.assertEqual(alternative_names(server), ["tak.example", "tak2.example", "192.0.2.5", "2001:db8::5"])
        self.assertTrue(signed_by(server, self.certificate("ca.crt")))
        key = load_pem_private_key((self.layout.ssl / "server.key").read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self.assertEqual((key.key_size, key.public_key()), (2048, server.public_key()))
        self.assertEqual((server.not_valid_after_utc - NOW).days + 1, 730)
        (record,) = site.register().records()
        self.assertEqual((record.kind, record.serial), ("server", server.serial_number))

    def test_configuration(self) -> None:
        """The server reads what was written, without a warning, and opens CoT and HTTP over TLS."""
        site, _ = self.make(password="with %% and # in it")
        settings = site.settings
        self.assertEqual((settings.hostname, settings.public_ip), ("tak.example", "192.0.2.5"))
        self.assertEqual(settings.cot_doors(), ("ssl:8089:interface=0.0.0.0",))
        self.assertEqual(settings.marti_doors(), ("ssl:8443:interface=0.0.0.0",))
        self.assertEqual(settings.data_dir, self.layout.data)
        self.assertEqual(settings.ssl.client_cert, "required")
        self.assertEqual(settings.ssl.server_p12_pw, "with %% and # in it")
        self.assertTrue(settings.ssl.ca_key and settings.ssl.ca_key.exists())
        self.assertEqual(
            read_authorities((self.layout.ssl / "server.p12").read_bytes(), settings.ssl.server_p12_pw),
            [self.certificate("ca.crt")],
        )

    def test_without_warning(self) -> None:
        """The ordinary site makes the server say nothing."""
        self.assertEqual(self.make()[0].settings.warnings, ())

    def test_movable(self) -> None:
        """A site in one folder works wherever that folder is."""
        self.make()
        other = self.folder.with_name(f"{self.folder.name}-moved")
        self.folder.rename(other)
        site = Site.open(str(other / "taky.conf"))
        self.assertEqual(
            site.authority().certificate.subject,
            site.connection(site.authority()) and site.authority().certificate.subject,
        )
        self.assertEqual(site.settings.data_dir, other / "data")

    def test_system(self) -> None:
        """The system's site is where taky has it."""
        self.layout = Layout.of_system(self.folder)
        site, _ = self.make()
        self.assertEqual(site.settings.data_dir, self.folder / "var/taky")
        self.assertTrue((self.folder / "etc/taky/ssl/ca.key").exists())
        self.assertEqual(Layout.of_system().conf, Path("/etc/taky/taky.conf"))
        self.assertEqual(Layout.of_system().data, Path("/var/taky"))

    def test_no_tls(self) -> None:
        """Without TLS there are no certificates, and the server serves plain doors."""
        site, _ = self.make(encrypted=False, public=())
        self.assertEqual(self.files(), {"taky.conf": 0o600, "data": 0o700})
        self.assertEqual(site.settings.cot_doors(), ("tcp:8087:interface=0.0.0.0",))
        self.assertEqual(site.settings.marti_doors(), ("tcp:8080:interface=0.0.0.0",))
        self.assertIsNone(site.settings.public_ip)

    def test_never_over(self) -> None:
        """Whatever of a site is there already, nothing is written."""
        for name in (
            *("taky.conf", "ssl/ca.crt", "ssl/ca.key", "ssl/server.key", "ssl/server.crt", "ssl/server.p12"),
            *("ssl/ca.crl", "ssl/cert-db.txt", "ssl/cert-db.jsonl", "ssl/issued"),
        ):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to("nowhere")  # even that
            before = [str(each) for each in self.folder.rglob("*")]
            error = self.assertRaises(CommandError, self.make)
            self.assertIn(f"{path} is there already", str(error))
            self.assertEqual([str(each) for each in self.folder.rglob("*")], before)
            path.unlink()

    def test_rolled_back(self) -> None:
        """If something fails on the way, what was written is gone again, and what was there is not."""

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        self.folder.mkdir()
        mine = self.folder / "mine.txt"
        mine.write_text("x")
        self.patch(CertificateRegister, "add", fail)
        self.assertRaises(OSError, self.make)
        self.assertEqual(list(self.folder.rglob("*")), [mine])
        mine.unlink()
        self.folder.rmdir()
        self.assertRaises(OSError, self.make)
        self.assertFalse(self.folder.exists())

    def test_owner(self) -> None:
        """Everything that was made belongs to whom the operator names, and nothing else does."""
        given: list[Path] = []
        self.patch(os, "lchown", lambda path, user, group: given.append(Path(path)))
        self.folder.mkdir()
        (self.folder / "mine.txt").write_text("x")
        self.make(owner="root")
        made = [path for path in self.folder.rglob("*") if path.name != "mine.txt"]
        self.assertEqual(sorted(set(given)), sorted(made))

    def test_no_such_owner(self) -> None:
        """A user that is not there is told before anything is made."""
        self.assertIn("no user 'nobody-here'", str(self.assertRaises(CommandError, self.make, owner="nobody-here")))
        self.assertFalse(self.folder.exists())

    def test_own_authority(self) -> None:
        """One's own authority signs; phones get its root, and the server shows what is between."""
        root = pki.Authority("Root")
        middle = pki.Authority("Middle", above=root)
        ca = self.write("ca.pem", root.pem + middle.pem)
        key = self.write("ca.key", pki.Credentials(middle.key, middle.certificate, root.certificate).key_pem())
        site, _ = self.make(ca_certificate=ca, ca_key=key)
        self.assertEqual(self.certificate("ca.crt"), middle.certificate)
        self.assertTrue(signed_by(self.certificate("server.crt"), middle.certificate))
        shown = x509.load_pem_x509_certificates((self.layout.ssl / "server.crt").read_bytes())
        self.assertEqual(shown[1:], [middle.certificate])
        authority = site.authority()
        self.assertEqual(authority.chain, (middle.certificate, root.certificate))
        self.assertEqual(site.trusted(authority), [middle.certificate, root.certificate])

    def test_own_authority_encrypted(self) -> None:
        """An encrypted key of an authority is refused: the server could not use it."""
        ca = pki.Authority()
        key = self.write("ca.key", pki.Credentials(ca.key, ca.certificate, ca.certificate).key_pem("secret"))
        error = self.assertRaises(EndpointError, self.make, ca_certificate=self.write("ca.pem", ca.pem), ca_key=key)
        self.assertIn("--ca-key", str(error))
        self.assertFalse(self.folder.exists())

    def server(self, *chain: pki.Authority, issuer: pki.Authority) -> dict[str, object]:
        """Write a certificate as certbot does."""
        credentials = issuer.issue("tak.example", server=True)
        content = credentials.pem + b"".join(each.pem for each in chain)
        certificate = self.write("fullchain.pem", content)
        return {"server_certificate": certificate, "server_key": self.write("privkey.pem", credentials.key_pem())}

    def test_own_server_certificate(self) -> None:
        """A public certificate is for enrolling only: phones still meet the site's own on 8089 and 8443."""
        public = pki.Authority("Public")
        site, _ = self.make(**self.server(issuer=public))
        self.assertTrue(signed_by(self.certificate("server.crt"), self.certificate("ca.crt")))
        self.assertEqual(site.trusted(site.authority()), [self.certificate("ca.crt")])
        (door,) = site.settings.enroll_doors()
        words, keys = split(door)
        self.assertEqual((words, keys["interface"]), (["ssl", "8446"], "0.0.0.0"))
        shown = load_credentials(Source("key", keys["privateKey"]), Source("cert", keys["certKey"]), None)
        self.assertTrue(signed_by(shown.certificate, public.certificate))
        self.assertEqual(site.settings.marti_doors(), ("ssl:8443:interface=0.0.0.0",))

    def test_own_server_certificate_everywhere(self) -> None:
        """If it is shown everywhere, phones get its root from the file or from the system."""
        public = pki.Authority("Public")
        middle = pki.Authority("Public middle", above=public)
        wishes = self.server(middle, public, issuer=middle)
        given: list[Path] = []
        self.patch(os, "lchown", lambda path, user, group: given.append(Path(path)))
        site, warnings = self.make(**wishes, everywhere=True, owner="root")
        self.assertEqual(sorted(set(given)), sorted([self.folder, *self.folder.rglob("*")]))
        self.assertEqual(warnings, ())
        self.assertEqual(site.settings.ssl.cert, wishes["server_certificate"])
        self.assertEqual(site.settings.ssl.key, wishes["server_key"])
        self.assertFalse((self.layout.ssl / "server.crt").exists())
        own = self.certificate("ca.crt")
        self.assertEqual(site.trusted(site.authority()), [own, middle.certificate, public.certificate])
        self.assertEqual(site.register().records(), [])

    def test_root_of_the_system(self) -> None:
        """The root is found among the system's; if it is not there, phones trust what is below, with a warning."""
        public = pki.Authority("Public")
        middle = pki.Authority("Public middle", above=public)
        bundle = self.write("bundle.pem", public.pem)
        self.patch(site_maker, "_BUNDLES", (str(bundle),))
        self.patch(ssl, "get_default_verify_paths", _no_paths)
        for bundles, expected in (
            ((str(bundle),), [middle.certificate, public.certificate]),
            ((), [middle.certificate]),
        ):
            self.patch(site_maker, "_BUNDLES", bundles)
            site, warnings = self.make(**self.server(middle, issuer=middle), everywhere=True)
            self.assertEqual(site.trusted(site.authority())[1:], expected)
            self.assertEqual(len(warnings), 2 - len(expected))
            self.folder = self.folder / "next"
            self.layout = Layout.of_folder(self.folder)

    def test_no_root(self) -> None:
        """A certificate of which nobody knows who issued it is refused: no phone could trust it."""
        self.patch(site_maker, "_BUNDLES", ())
        self.patch(ssl, "get_default_verify_paths", _no_paths)
        wishes = self.server(issuer=pki.Authority("Public"))
        error = self.assertRaises(CommandError, self.make, **wishes, everywhere=True)
        self.assertIn("fullchain.pem", str(error))

    def test_selfsigned_server(self) -> None:
        """A certificate that signed itself is its own root."""
        public = pki.Authority("Public")
        key = pki.Credentials(public.key, public.certificate, public.certificate).key_pem()
        wishes = {"server_certificate": self.write("c.pem", public.pem), "server_key": self.write("k.pem", key)}
        site, _ = self.make(**wishes, everywhere=True)
        self.assertIn(public.certificate, site.trusted(site.authority()))
