from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from lxml import html
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli.invitation import Invitation, page, terminal
from tests.threaded_clock import EPOCH

INVITATION = Invitation("Jörg <b>", "abcde0123456789", "tak.example", 8089, 2, EPOCH)


class InvitationTests(SynchronousTestCase):
    def test_atak(self) -> None:
        """ATAK's link has host, user and token, and a port only where it is not the usual one."""
        link = urlsplit(INVITATION.atak)
        self.assertEqual((link.scheme, link.netloc, link.path), ("tak", "com.atakmap.app", "/enroll"))
        told = {"host": ["tak.example"], "username": ["Jörg <b>"], "token": ["abcde0123456789"]}
        self.assertEqual(parse_qs(link.query), told)
        self.assertIn("host=tak.example%3A9000&", replace(INVITATION, port=9000).atak)

    def test_itak(self) -> None:
        """The code for iTAK is JSON with the same."""
        told = json.loads(INVITATION.itak)
        self.assertEqual(told["serverCredentials"], {"connectionString": "tak.example:8089:ssl"})
        self.assertEqual(told["userCredentials"], {"username": "Jörg <b>", "password": "abcde0123456789"})

    def test_worth(self) -> None:
        """How long and how often is said in words."""
        self.assertEqual(INVITATION.worth, "for 2 devices, until 2026-03-01 10:00 UTC")
        self.assertTrue(replace(INVITATION, uses=1).worth.startswith("for 1 device, until"))

    def test_terminal(self) -> None:
        """In a terminal there are both codes, the link, and what to type."""
        told = terminal(INVITATION)
        self.assertIn("\u2588", told)
        self.assertIn(f"  {INVITATION.atak}\n", told)
        self.assertIn("password  abcde-01234-56789", told)

    def test_page(self) -> None:
        """The page has a sheet for each, with both codes; no name can put anything else there, nothing is loaded."""
        told = page([INVITATION, replace(INVITATION, name="bravo")], "<My server>", None)
        root = html.document_fromstring(told)
        sheets = root.findall(".//section")
        self.assertEqual([sheet.findtext("h1") for sheet in sheets], ["Jörg <b>", "bravo"])
        self.assertEqual([len(sheet.findall(".//svg")) for sheet in sheets], [2, 2])
        self.assertEqual(root.findall(".//b"), [])
        self.assertNotIn("http", told.replace("http://www.w3.org/2000/svg", ""))
        self.assertNotIn("First import", told)
        self.assertIn("<p>First import &amp; then scan</p>", page([INVITATION], "x", "First import & then scan"))
