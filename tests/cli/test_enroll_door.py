from __future__ import annotations

import os
from pathlib import Path

from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.enroll_door import EnrollDoor
from taky_twisted.endpoints.strings import joined
from taky_twisted.identity.errors import EndpointError
from tests.cli.tool import SiteTestCase
from tests.pki import Authority, write_private


class EnrollDoorTests(SiteTestCase):
    def configure(self, *lines: str) -> None:
        """Add lines to taky.conf."""
        with self.layout.conf.open("a", encoding="utf-8") as file:
            file.write("\n[dp_server]\n" + "\n".join(lines) + "\n")

    def door(self) -> EnrollDoor:
        """Look at the door."""
        return EnrollDoor.of(self.site)

    def own(self, authority: Authority, ends: float = 10) -> dict[str, str]:
        """Write a certificate of somebody else's authority for localhost; return the keys that name it."""
        made = authority.issue("localhost", server=True, ends=ends)
        key = write_private(self.folder / "own.key", made.key_pem())
        return {"privateKey": key, "certKey": write_private(self.folder / "own.pem", made.pem)}

    def trust(self, authority: Authority) -> None:
        """Let this system trust an authority."""
        path = write_private(self.folder / "roots.pem", authority.pem)
        before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}

        def restore() -> None:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

        self.addCleanup(restore)
        os.environ.update(SSL_CERT_FILE=path, SSL_CERT_DIR=str(self.folder / "none"))

    def test_default(self) -> None:
        """By default devices meet the site's own certificate there, which they do not trust yet."""
        self.assertEqual(self.door(), EnrollDoor("127.0.0.1", 8446, False))

    def test_public(self) -> None:
        """A certificate that this system trusts, devices trust; they come by a name that is in it."""
        authority = Authority("Public")
        self.configure(f"enroll_endpoints = {joined(['ssl', '9446'], self.own(authority))}")
        self.assertEqual(self.door(), EnrollDoor("127.0.0.1", 9446, False))
        self.trust(authority)
        self.assertEqual(self.door(), EnrollDoor("127.0.0.1", 9446, True))
        text = self.layout.conf.read_text().replace("public_ip = 127.0.0.1", "public_ip = 192.0.2.1")
        self.layout.conf.write_text(text)
        self.assertEqual(self.door(), EnrollDoor("localhost", 9446, True))
        self.layout.conf.write_text(text.replace("hostname = localhost", "hostname = tak.example"))
        self.assertEqual(self.door(), EnrollDoor("192.0.2.1", 9446, False))

    def test_expired(self) -> None:
        """One that has expired is trusted by nobody."""
        authority = Authority("Public")
        self.trust(authority)
        self.configure(f"enroll_endpoints = {joined(['ssl', '8446'], self.own(authority, ends=-0.5))}")
        self.assertFalse(self.door().public)

    def test_no_roots(self) -> None:
        """A system that trusts nobody says nothing about devices, so the package is asked for."""
        self.trust(Authority("Public"))
        os.unlink(self.folder / "roots.pem")
        self.assertFalse(self.door().public)

    def test_pkcs12(self) -> None:
        """The certificate may be in a PKCS#12 file."""
        made = Authority("Public").issue("localhost", server=True)
        path = write_private(self.folder / "own.p12", made.pkcs12("secret"))
        keys = {"pkcs12": path, "keyPassword": "secret"}
        self.configure(f"enroll_endpoints = {joined(['ssl'], {'port': '8446', **keys})}")
        self.assertEqual(self.door(), EnrollDoor("127.0.0.1", 8446, False))

    def test_none(self) -> None:
        """If there is no such door, or no certificate for it, one line says what to set."""
        self.configure("endpoints = ssl:8443")
        self.assertIn("enroll_endpoints = ssl:8446", str(self.assertRaises(CommandError, self.door)))
        text = self.layout.conf.read_text().replace("endpoints = ssl:8443", "enroll_endpoints = ssl:inner=tcp\\:8446")
        self.layout.conf.write_text(text.replace("cert = ssl/server.crt", "cert ="))
        self.assertIn("has no certificate", str(self.assertRaises(CommandError, self.door)))
        Path("site/ssl/server.key").unlink()
        self.layout.conf.write_text(text)
        self.assertIn("server.key cannot be read", str(self.assertRaises(EndpointError, self.door)))
