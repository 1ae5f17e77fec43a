from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.origins import is_same_place

PUBLIC = "https://tak.example.org"


class OriginTests(SynchronousTestCase):
    def test_same(self) -> None:
        """A page from the very host and port that it asks is let in, however they are spelled."""
        for origin, host in (
            (b"https://tak.example:8443", b"tak.example:8443"),
            (b"http://TAK.example:8080", b"tak.EXAMPLE:8080"),
            (b"https://tak.example", b"tak.example"),
            (b"https://tak.example", b"tak.example:443"),
            (b"http://tak.example:80", b"tak.example"),
            (b"https://[2001:db8::1]:8443", b"[2001:db8::1]:8443"),
            (b"http://192.0.2.10:8080", "192.0.2.10:8080"),
        ):
            self.assertTrue(is_same_place(origin, host, None), origin)
            self.assertTrue(is_same_place(origin, host, PUBLIC), origin)

    def test_public(self) -> None:
        """A page from our public address is let in, whatever a proxy makes of the host."""
        for url in (PUBLIC, "https://tak.example.org:443"):
            self.assertTrue(is_same_place(b"https://tak.example.org", b"10.0.0.5:8080", url))
            self.assertTrue(is_same_place(b"https://tak.example.org", None, url))

    def test_other(self) -> None:
        """Any other page is not, nor is what is no page."""
        for origin in (
            b"https://evil.example",
            b"https://tak.example:8444",
            b"https://tak.example:8443.evil.example",
            b"https://tak.example.evil.example:8443",
            b"https://evil.example:8443/tak.example:8443",
            b"https://tak.example:8443@evil.example",
            b"https://tak.example:99999",
            b"https://[tak.example:8443",
            b"https://",
            b"https://:8443",
            b"ftp://tak.example:8443",
            b"file://",
            b"null",
            b"tak.example:8443",
            b"",
            b"\xff\xfe",
        ):
            self.assertFalse(is_same_place(origin, b"tak.example:8443", PUBLIC), origin)
            self.assertFalse(is_same_place(origin, None, None), origin)
            self.assertFalse(is_same_place(origin, b"", None), origin)
            self.assertFalse(is_same_place(origin, b"[\xff", None), origin)
