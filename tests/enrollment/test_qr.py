from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.qr import atak_enroll, atak_import, inline, itak_enroll, itak_server, picture, terminal

ODD = "a&b=c ü+%/?#"


class TextTests(SynchronousTestCase):
    def test_atak(self) -> None:
        """ATAK's links say what was meant, whatever characters are in it."""
        link = atak_enroll("tak.example", "Jörg Müller", ODD)
        self.assertTrue(
            link.startswith("tak://com.atakmap.app/enroll?host=tak.example&username=J%C3%B6rg%20M%C3%BCller&")
        )
        self.assertEqual(parse_qs(urlsplit(link).query)["token"], [ODD])
        link = atak_import("https://tak.example:8443/a?b=c&d=e")
        self.assertEqual(parse_qs(urlsplit(link).query), {"url": ["https://tak.example:8443/a?b=c&d=e"]})

    def test_pytak(self) -> None:
        """A client that others wrote reads the link as it was meant."""
        from pytak.client_functions import parse_tak_url

        found = parse_tak_url(atak_enroll("tak.example", "ALPHA", "t&o=k"))
        self.assertEqual([found["hostname"], found["username"], found["token"]], ["tak.example", "ALPHA", "t&o=k"])

    def test_itak(self) -> None:
        """ITAK's line has four fields, whatever the server is called; its JSON has what TAK Aware decodes."""
        self.assertEqual(itak_server("Camp, north", "tak.example"), "Camp north,tak.example,8089,SSL")
        self.assertEqual(itak_server("Camp", "192.0.2.5", 8087, encrypted=False), "Camp,192.0.2.5,8087,TCP")
        told = json.loads(itak_enroll("tak.example", "Jörg", 'p"w'))
        self.assertEqual(told["serverCredentials"], {"connectionString": "tak.example:8089:ssl"})
        self.assertEqual(told["userCredentials"], {"username": "Jörg", "password": 'p"w'})


class DrawTests(SynchronousTestCase):
    def test_terminal(self) -> None:
        """In a terminal a code is lines of equal length, and an enrollment link fits into 80 columns."""
        drawn = terminal(atak_enroll("tak.example.org", "Jörg Müller", "x" * 32))
        lines = drawn.rstrip("\n").split("\n")
        plain = ["".join(c for c in line if c in " ▀▄█") for line in lines]
        self.assertEqual(len({len(line) for line in plain if line}), 1)
        self.assertLessEqual(len(plain[0]), 80)
        self.assertLessEqual(len(lines), 40)

    def test_pictures(self) -> None:
        """Pictures are what they are called."""
        self.assertTrue(ElementTree.fromstring(picture("x", "svg")).tag.endswith("svg"))
        self.assertTrue(picture("x", "png").startswith(b"\x89PNG\r\n"))

    def test_inline(self) -> None:
        """In a page a code is an element of its own, and as large as the page wants it."""
        drawn = ElementTree.fromstring(inline("x"))
        self.assertTrue(drawn.tag.endswith("svg"))
        self.assertIn("viewBox", drawn.attrib)
        self.assertNotIn("width", drawn.attrib)
