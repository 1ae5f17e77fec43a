from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from taky_twisted.cli import site
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.site import load_authority, now
from taky_twisted.cli.site_maker import Layout, Wishes, make_site
from taky_twisted.config import Settings, SslSettings
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.credentials import Source
from tests import pki
from tests.cli.tool import SiteTestCase


class SiteTests(SiteTestCase):
    def change(self, key: str, value: str) -> None:
        """Change a key of taky.conf."""
        text = self.layout.conf.read_text("utf-8")
        self.layout.conf.write_text(re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text), "utf-8")

    def test_default(self) -> None:
        """How phones connect is what setup was told."""
        self.assertEqual((self.site.encrypted(), self.site.host(), self.site.port()), (True, "127.0.0.1", 8089))
        self.assertEqual(self.site.server_names(), ["localhost", "127.0.0.1"])
        self.assertEqual(self.site.name, self.conf)
        connection = self.site.connection(self.site.authority())
        self.assertEqual((connection.description, connection.connect_string), ("localhost", "127.0.0.1:8089:ssl"))

    def test_endpoints(self) -> None:
        """The port is that of the first door over TLS, however its endpoint is spelled."""
        for endpoints, port in (
            ("tcp:8087\n    ssl:8090", 8090),
            ("ssl:port=8091:interface=127.0.0.1", 8091),
            ("taktls:8092", 8092),
            (r"ssl:inner=tcp\:8093", 8089),
        ):
            self.change("port", f"\nendpoints =\n    {endpoints}")
            self.assertEqual((self.site.encrypted(), self.site.port()), (True, port))
            self.layout.conf.write_text(
                self.layout.conf.read_text("utf-8").replace(f"\nendpoints =\n    {endpoints}", "1")
            )

    def test_no_tls(self) -> None:
        """A site without TLS is known as such."""
        self.change("enabled", "false")
        self.change("port", "")
        self.assertEqual((self.site.encrypted(), self.site.port()), (False, 8087))
        self.change("port", "\nendpoints = unix:/tmp/x")
        self.assertEqual((self.site.encrypted(), self.site.port()), (False, 8087))

    def test_ipv6(self) -> None:
        """A phone is never told an IPv6 address, which it could not read."""
        self.change("public_ip", "2001:db8::1")
        self.assertEqual(self.site.host(), "localhost")

    def test_nothing_named(self) -> None:
        """A configuration without an authority says which key is missing."""
        self.change("ca_key", "")
        error = self.assertRaises(CommandError, self.site.authority)
        self.assertEqual(str(error), f"{self.conf}: [ssl] ca_key names no file; set it")

    def test_trust_store(self) -> None:
        """A trust store with another password than the configuration says is told; a missing one is not needed."""
        self.change("server_p12_pw", "other")
        error = str(self.assertRaises(CommandError, self.site.authority))
        self.assertIn("server.p12 ([ssl] server_p12, server_p12_pw): the password is wrong", error)
        (self.layout.ssl / "server.p12").unlink()
        authority = self.site.authority()
        self.assertEqual(self.site.trusted(authority), [authority.certificate])
        self.change("server_p12_pw", "")
        self.assertRaises(EnrollmentError, self.site.connection, authority)
        self.change("server_p12", "")
        self.assertEqual(self.site.trusted(authority), [authority.certificate])

    def test_wrong_key(self) -> None:
        """A key that belongs to none of the certificates is told."""
        path = pki.write_private(Path("other.key"), pki.Authority().issue("X").key_pem())
        certificate = pki.Authority().certificate
        error = self.assertRaises(CommandError, load_authority, Source("[ssl] ca_key", path), [certificate], [])
        self.assertIn("belongs to this key", str(error))

    def test_no_site(self) -> None:
        """Where there is no configuration at all, the way to one is told."""
        self.patch(site, "load", lambda _: Settings())
        error = self.assertRaises(CommandError, site.Site.open, None)
        self.assertIn("make a site with 'takyctl setup'", str(error))

    def test_no_register(self) -> None:
        """A site without certificates says so."""
        self.change("cert_db", "/nonexistent/cert-db.txt")
        self.assertTrue(str(self.assertRaises(CommandError, self.site.register)).endswith("no folder /nonexistent"))
        self.change("enabled", "false")
        self.assertIn("without TLS has no certificates", str(self.assertRaises(CommandError, self.site.register)))

    def test_files_of_the_system(self) -> None:
        """A site without TLS names no certificates; those that are the default are the system's site's, not its own."""
        conf = self.folder / "plain" / "taky.conf"
        make_site(Layout.of_folder(conf.parent), Wishes(hosts=("localhost",), encrypted=False), now())
        theirs = self.folder / "system"
        theirs.mkdir()
        for name in ("ca.key", "cert-db.txt"):
            (theirs / name).write_text("", "utf-8")
        opened = site.Site.open(str(conf))
        plain = site.Site(
            replace(opened.settings, ssl=SslSettings(False, ca_key=theirs / "ca.key", cert_db=theirs / "cert-db.txt"))
        )
        self.patch(site, "SYSTEM_SSL", SslSettings(ca_key=theirs / "ca.key", cert_db=theirs / "cert-db.txt"))
        self.assertIn("has no certificates", str(self.assertRaises(CommandError, plain.register)))
        self.assertEqual(set(plain.files()), set())
        self.assertEqual(set(self.site.files()), {"ca", "ca_key", "server_p12", "cert", "key", "cert_db"})

    def test_crl(self) -> None:
        """The revocation list for others is signed by the authority."""
        authority = self.site.authority()
        path = self.site.write_crl(authority)
        found = x509.load_pem_x509_crl(path.read_bytes())
        self.assertTrue(found.is_signature_valid(authority.certificate.public_key()))  # type: ignore[arg-type]
        self.assertEqual(found.public_bytes(Encoding.PEM), path.read_bytes())
