from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.authority_files import AuthorityFiles, SiteAuthority
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.keystores import trust_store
from tests.enrollment.site_files import made_authority, written
from tests.pki import Authority as TestAuthority
from tests.pki import write_private


class SiteAuthorityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_read(self) -> None:
        """The authority is the one of the key, also if the file has certificates of others; these are not trusted."""
        authority = made_authority("one")
        site = SiteAuthority(written(self.folder, authority, TestAuthority("Other").pem))
        self.assertEqual(site.authority.certificate, authority.certificate)
        self.assertEqual(site.trusted, (authority.certificate,))

    def test_trusted(self) -> None:
        """Clients also trust whom the trust store names, after the authority itself; each once."""
        authority, other = made_authority("one"), made_authority("two")
        files = written(self.folder, authority)
        stored = trust_store([other.certificate, authority.certificate], "atakatak")
        write_private(self.folder / "server.p12", stored)
        self.assertEqual(SiteAuthority(files).trusted, (authority.certificate, other.certificate))
        self.assertEqual(SiteAuthority(AuthorityFiles(files.certificate, files.key)).trusted, (authority.certificate,))

    def test_changed(self) -> None:
        """Files are read once; when they change, they are read again."""
        site = SiteAuthority(written(self.folder, made_authority("one")))
        first = site.authority
        self.assertIs(site.authority, first)
        second = made_authority("two")
        written(self.folder, second)
        os.utime(self.folder / "ca.crt", (1, 1))
        self.assertEqual(site.authority.certificate, second.certificate)

    def test_unusable(self) -> None:
        """What is wrong with the files is said, with the setting that names the file."""
        authority = made_authority("one")
        for name, content, words in (
            ("ca.key", b"", "no private key"),
            ("ca.crt", b"", "no certificate"),
            ("ca.crt", TestAuthority("Other").pem, "none of the certificates in"),
            ("server.p12", b"x", "the trust store"),
        ):
            site = SiteAuthority(written(self.folder, authority))
            write_private(self.folder / name, content)
            problem = str(self.assertRaises(EnrollmentError, lambda site=site: site.authority))
            self.assertIn(words, problem)
            self.assertIn("[ssl]", problem)
        (self.folder / "server.p12").unlink()
        self.assertEqual(site.authority.certificate, authority.certificate)
