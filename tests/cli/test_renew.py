from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from taky_twisted.cli import renew
from taky_twisted.enrollment.authority import alternative_names, signed_by
from taky_twisted.files import replace_file
from taky_twisted.identity.credentials import Source, load_credentials
from tests import pki
from tests.cli.tool import SiteTestCase


class RenewTests(SiteTestCase):
    def test_client(self) -> None:
        """Somebody gets a new certificate of the same groups; the old one stays good."""
        self.run_well("build_client", "--group", "Red", "FOX")
        self.assertIn("--force replaces it", self.fail_to("renew", "FOX"))
        self.run_well("renew", "--force", "FOX")
        first, second = (each for each in self.site.register().records() if each.name == "FOX")
        self.assertEqual((first.revoked, second.revoked, second.groups), (None, None, ("Red",)))
        self.assertNotEqual(first.key_sha256, second.key_sha256)
        self.run_well("renew", "--force", "--group", "Blue", "FOX")
        *_, third = (each for each in self.site.register().records() if each.name == "FOX")
        self.assertEqual(third.groups, ("Blue",))

    def test_stranger(self) -> None:
        """Who has no certificate cannot have it renewed."""
        self.assertIn("the register has no certificate of FOX", self.fail_to("renew", "FOX"))

    def server(self) -> x509.Certificate:
        """Read the server's certificate; key and certificate fit."""
        ssl = self.layout.ssl
        return load_credentials(
            Source("key", str(ssl / "server.key")), Source("cert", str(ssl / "server.crt")), None
        ).certificate

    def test_server(self) -> None:
        """The server gets a new certificate of the same authority, for its old names and for new ones."""
        old = self.server()
        ran = self.run_well("renew-server", "--host", "tak2.example", "--public-ip", "192.0.2.9", "--days", "30")
        new = self.server()
        self.assertNotEqual(old.public_key(), new.public_key())
        self.assertTrue(signed_by(new, self.site.authority().certificate))
        self.assertEqual(alternative_names(new), ["localhost", "127.0.0.1", "tak2.example", "192.0.2.9"])
        self.assertIn("for localhost, 127.0.0.1, tak2.example, 192.0.2.9", ran.out)
        self.run_well("renew-server")
        self.assertEqual(set(alternative_names(self.server())), set(alternative_names(new)))
        kinds = [each.kind for each in self.site.register().records()]
        self.assertEqual(kinds, ["server"] * 3)

    def test_server_wrong(self) -> None:
        """What cannot be is refused."""
        self.assertIn("allowed: 1 to 3650", self.fail_to("renew-server", "--days", "0"))
        self.assertIn("--host or --public-ip: neither a host name", self.fail_to("renew-server", "--host", "a b"))

    def test_others(self) -> None:
        """A certificate of somebody else is left alone."""
        other = pki.Authority().issue("localhost", server=True)
        (self.layout.ssl / "server.crt").write_bytes(other.pem)
        self.assertIn("not of the site's authority", self.fail_to("renew-server"))
        self.assertEqual((self.layout.ssl / "server.crt").read_bytes(), other.pem)

    def test_unreadable(self) -> None:
        """A certificate that is damaged or gone is made anew, for the names in taky.conf."""
        (self.layout.ssl / "server.crt").unlink()
        (self.layout.ssl / "server.key").unlink()
        ran = self.run_well("renew-server")
        self.assertIn("note: the old certificate cannot be read", ran.err)
        self.assertEqual(alternative_names(self.server()), ["localhost", "127.0.0.1"])

    def test_one_file(self) -> None:
        """Key and certificate in one file stay in one file."""
        ssl = self.layout.ssl
        both = ssl / "server.key"
        both.write_bytes(both.read_bytes() + (ssl / "server.crt").read_bytes())
        text = self.layout.conf.read_text("utf-8").replace(
            "cert = ssl/server.crt\nkey = ssl/server.key", "cert = ssl/server.key\nkey ="
        )
        self.layout.conf.write_text(text, "utf-8")
        self.run_well("renew-server")
        key = load_pem_private_key(both.read_bytes(), None)
        certificate = x509.load_pem_x509_certificates(both.read_bytes())[0]
        self.assertEqual(key.public_key(), certificate.public_key())
        self.layout.conf.write_text(text.replace("cert = ssl/server.key", "cert ="), "utf-8")
        self.assertIn("[ssl] cert names no file", self.fail_to("renew-server"))

    def test_disk_full(self) -> None:
        """If the certificate cannot be written, the old key is back: the two fit at every time."""
        before = self.server()
        real = replace_file

        def refuse(path: Path, content: bytes, mode: int | None = None) -> None:
            if path.name == "server.crt":
                raise OSError(28, "No space left on device", str(path))
            real(path, content, mode)

        self.patch(renew, "replace_file", refuse)
        self.assertIn("No space left", self.fail_to("renew-server"))
        self.assertEqual(self.server(), before)
        os.unlink(self.layout.ssl / "server.key")
        self.assertIn("No space left", self.fail_to("renew-server"))


class WithoutTLSTests(SiteTestCase):
    wishes = replace(SiteTestCase.wishes, encrypted=False)

    def test_server(self) -> None:
        """A server without TLS has nothing to renew."""
        self.assertIn("serves without TLS", self.fail_to("renew-server"))
