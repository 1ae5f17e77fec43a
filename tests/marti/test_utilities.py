from __future__ import annotations

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.utilities import UtilitiesArea
from tests.fakes import principal
from tests.marti.asking import Asking


class UtilitiesAreaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.area = UtilitiesArea(self.clock)
        self.ask = Asking(self.area, clock=self.clock)

    def test_roles(self) -> None:
        """A caller learns what it may do: who speaks to no group only reads."""
        answer = self.ask("GET", "/Marti/api/util/user/roles", who=principal("alice"))
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual(answer.json, ["ROLE_ANONYMOUS", "ROLE_WEBTAK"])
        reader = self.ask("GET", "/Marti/api/util/user/roles", who=principal("reader", groups_in=()))
        self.assertEqual(reader.json, ["ROLE_ANONYMOUS", "ROLE_WEBTAK", "ROLE_READONLY"])

    def test_is_admin(self) -> None:
        """Who is no administrator hears it by being refused; an administrator hears yes."""
        answer = self.ask("GET", "/Marti/api/util/isAdmin", who=principal("alice"))
        self.assertEqual((answer.status, answer.json["status"]), (403, "FORBIDDEN"))
        admin = replace(principal("alice"), admin=True)
        self.assertEqual(self.ask("GET", "/Marti/api/util/isAdmin", who=admin).json, True)
        self.assertIn("ROLE_ADMIN", self.ask("GET", "/Marti/api/util/user/roles", who=admin).json)

    def test_home(self) -> None:
        """A browser is told where to go, in one line."""
        answer = self.ask("GET", "/Marti/api/home")
        self.assertEqual((answer.type, answer.body), ("text/plain", b"/webtak/index.html"))

    def test_time(self) -> None:
        """The time is told in milliseconds, as a string."""
        self.clock.advance(1772359200.1239)
        answer = self.ask("GET", "/Marti/GetTime")
        self.assertEqual((answer.type, answer.json), ("application/json", {"time": "1772359200123"}))
