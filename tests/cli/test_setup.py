from __future__ import annotations

import os
import socket
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli import setup
from taky_twisted.cli.site import Site
from taky_twisted.cli.site_maker import Layout, Made, Wishes, make_site
from taky_twisted.enrollment.authority import SigningKey, alternative_names
from tests import pki
from tests.cli.tool import Ran, quick_key, takyctl


def make_quickly(layout: Layout, wishes: Wishes, now: datetime, ca_key: SigningKey | None = None) -> Made:
    """Make a site with an authority's key that takes no time."""
    return make_site(layout, wishes, now, ca_key or quick_key())


class SetupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def quick(self, *arguments: str) -> Ran:
        self.patch(setup, "make_site", make_quickly)
        ran = takyctl("setup", *arguments)
        self.assertEqual(ran.status, 0, ran.err)
        return ran

    def fail(self, *arguments: str) -> str:  # type: ignore[override] # nothing of a TestCase's fail is needed here
        ran = takyctl("setup", *arguments)
        self.assertEqual((ran.status, ran.out), (1, ""))
        (line,) = ran.err.splitlines()
        return line

    def test_whole(self) -> None:
        """One command makes a site, with an RSA-4096 authority, and says what to do next."""
        ran = takyctl("setup", "--host", "tak.example", "--public-ip", "192.0.2.5", "--public-ip", "192.0.2.6", "site")
        self.assertEqual((ran.status, ran.err), (0, ""))
        conf = self.folder / "site/taky.conf"
        self.assertIn(f"The site is made: {conf}\n", ran.out)
        self.assertIn("clients connect to  192.0.2.5:8089\n", ran.out)
        self.assertIn(f"takyctl -c {conf} build_client NAME\n", ran.out)
        self.assertIn(f"twistd -n taky --config {conf}\n", ran.out)
        site = Site.open(str(conf))
        key = site.authority().key
        assert isinstance(key, rsa.RSAPrivateKey)
        self.assertEqual(key.key_size, 4096)
        server = x509.load_pem_x509_certificate((self.folder / "site/ssl/server.crt").read_bytes())
        self.assertEqual(alternative_names(server), ["tak.example", "192.0.2.5", "192.0.2.6"])

    def test_here(self) -> None:
        """A site is made in the current folder, with other things in it, but only once."""
        (self.folder / "notes.txt").write_text("x")
        self.quick("--host", "tak.example", ".")
        self.assertIn("nothing is overwritten", self.fail("--host", "tak.example", "."))

    def test_own_name(self) -> None:
        """Without a name it is this machine's, and the operator hears what that means."""
        self.patch(socket, "gethostname", lambda: "camp-1")
        ran = self.quick("site")
        self.assertIn("phones are told to connect to 'camp-1'", ran.err)
        self.patch(socket, "gethostname", lambda: "no name!")
        self.assertIn("'taky.local'", self.quick("site2").err)

    def test_ipv6(self) -> None:
        """Who gives an IPv6 address first hears that phones cannot be told it."""
        ran = self.quick("--host", "tak.example", "--public-ip", "2001:db8::5", "site")
        self.assertIn("told 'tak.example'; put an IPv4 --public-ip first", ran.err)
        self.assertIn("tak.example:8089", ran.out)
        self.assertIn("listens on IPv4 only", ran.err)
        ran = self.quick("--host", "tak.example", "--public-ip", "2001:db8::5", "--bind-ip", "::", "both")
        self.assertNotIn("IPv4 only", ran.err)

    def test_no_tls(self) -> None:
        """Without TLS the operator is warned."""
        ran = self.quick(
            "--no-ssl", "--host", "tak.example", "--bind-ip", "127.0.0.1", "--public-ip", "127.0.0.1", "site"
        )
        self.assertIn("without TLS everybody", ran.err)
        self.assertIn("127.0.0.1:8087  (without TLS)", ran.out)
        self.assertNotIn("ca.key", ran.out)
        self.assertNotIn("certificates", ran.out)

    def test_system(self) -> None:
        """Without PATH the site is the system's."""
        layouts: list[Layout] = []

        def make(layout: Layout, wishes: Wishes, now: datetime) -> Made:
            layouts.append(layout)
            here = Layout.of_system(self.folder)
            make_site(here, wishes, now, quick_key())
            self.patch(Layout, "of_system", lambda: here)
            raise KeyboardInterrupt  # the rest would look at the real system

        self.patch(setup, "make_site", make)
        self.assertEqual(takyctl("setup", "--host", "h").status, 130)
        self.assertEqual(layouts, [Layout(Path("/etc/taky/taky.conf"), Path("/etc/taky/ssl"), Path("/var/taky"))])

    def own(self) -> list[str]:
        """Write an authority and a server's certificate of one's own; return the options for them."""
        ca, public = pki.Authority("Own"), pki.Authority("Public")
        server = public.issue("tak.example", server=True)
        key = pki.Credentials(ca.key, ca.certificate, ca.certificate).key_pem()
        for name, content in (
            *(("ca.pem", ca.pem), ("ca.key", key)),
            *(("s.pem", server.pem + public.pem), ("s.key", server.key_pem())),
        ):
            Path(name).write_bytes(content)
        return ["--ca-cert", "ca.pem", "--ca-key", "ca.key", "--server-cert", "s.pem", "--server-key", "s.key"]

    def test_own(self) -> None:
        """One's own authority and certificate are used, and the operator hears for what."""
        options = self.own()
        ran = takyctl("setup", *options, "--host", "h", "--public-ip", "192.0.2.5", "a")
        self.assertEqual((ran.status, ran.err[:5]), (0, "note:"))
        self.assertIn("for the enrollment port, 8446", ran.err)
        self.assertEqual(
            pki.subject("Own", organization="taky"), Site.open("a/taky.conf").authority().certificate.subject
        )
        ran = takyctl("setup", *options, "--server-cert-everywhere", "--host", "h", "--public-ip", "192.0.2.5", "b")
        self.assertEqual((ran.status, ran.err), (0, ""))
        self.assertEqual(Site.open("b/taky.conf").settings.ssl.cert, self.folder / "s.pem")

    def test_warnings(self) -> None:
        """What was found on the way is told."""

        def make(layout: Layout, wishes: Wishes, now: datetime) -> Made:
            return Made(make_quickly(layout, wishes, now).authority, ("look at this",))

        self.patch(setup, "make_site", make)
        self.assertIn("note: look at this\n", takyctl("setup", "--host", "h", "site").err)

    def test_wrong(self) -> None:
        """What cannot be is refused with what is allowed, and nothing is made."""
        for arguments, words in (
            (["--host", "a b"], "--host 'a b': neither a host name nor an IP address; allowed:"),
            (["--public-ip", "a/b"], "--public-ip 'a/b': neither"),
            (["--bind-ip", "localhost"], "--bind-ip 'localhost': not an IP address"),
            (["--p12_pw", "ü"], "allowed: 1 to 64 characters"),
            (["--p12_pw", " x"], "a space at the beginning"),
            (["--ca-cert", "x"], "--ca-cert and --ca-key belong together"),
            (["--server-key", "x"], "--server-cert and --server-key belong together"),
            (["--server-cert-everywhere"], "needs --server-cert"),
            (["--no-ssl", "--ca-cert", "x", "--ca-key", "y"], "without certificates"),
            (["--no-ssl", "--server-cert", "x", "--server-key", "y"], "without certificates"),
            (["--ca-cert", "none.pem", "--ca-key", "none.key"], "none.pem cannot be read: No such file"),
            (["--user", "nobody-here"], "no user 'nobody-here'"),
            (["--nonsense"], "unrecognized arguments"),
            (["--host", "a..b"], "'a..b' cannot be a host name"),
        ):
            line = self.fail(*arguments, "site")
            self.assertIn(words, line)
            self.assertTrue(line.startswith("takyctl"), line)
        self.assertFalse(Path("site").exists())
