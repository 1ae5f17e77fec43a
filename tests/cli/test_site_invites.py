from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taky_twisted.cli import site_invites
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.running import NotRunning
from taky_twisted.config import load
from taky_twisted.data_folder import TAKY_SOCKET, DataFolder
from tests.cli.answering import AnsweringTestCase

INVITE: dict[str, Any] = {"action": "invite", "name": "alpha"}


class SiteInvitesTests(AnsweringTestCase):
    def ask(self, *requests: dict[str, Any], socket: Path | None = None) -> list[dict[str, Any]]:
        """Ask for something."""
        return site_invites.ask(load(str(self.conf)), requests, socket)

    def test_running(self) -> None:
        """A running server is asked through its socket, and its store is left alone."""
        self.answer({"v": 1, "ok": True, "token": "abc"})
        (said,) = self.ask({**INVITE, "in": ["Red"]})
        self.assertEqual(said["token"], "abc")
        (request,) = map(json.loads, self.requests)
        self.assertEqual(request, {"v": 1, "do": "invites", **INVITE, "in": ["Red"]})
        self.assertFalse((self.data / "taky.sqlite").exists())

    def test_refused(self) -> None:
        """What the server cannot do is said in its words."""
        self.answer({"v": 1, "ok": False, "error": "alpha is banned"})
        self.assertEqual(str(self.assertRaises(CommandError, self.ask, INVITE)), "alpha is banned")

    def test_stopped(self) -> None:
        """If no server runs the store is written, and the next one finds it there."""
        first, second = self.ask(INVITE, {**INVITE, "name": "bravo"})
        self.assertNotEqual(first["token"], second["token"])
        (listed,) = self.ask({"action": "list"})
        self.assertEqual([each["name"] for each in listed["invites"]], ["alpha", "bravo"])
        self.assertEqual(self.ask({"action": "withdraw", "name": "alpha"}), [{"withdrawn": 1}])

    def test_all_or_nothing(self) -> None:
        """If one of several cannot be invited, nobody is."""
        error = self.assertRaises(CommandError, self.ask, INVITE, {**INVITE, "name": "../x"})
        self.assertIn("allowed: 1 to 63 characters", str(error))
        self.assertEqual(self.ask({"action": "list"}), [{"invites": []}])

    def test_socket(self) -> None:
        """Whoever names a socket means that server; taky's protocol knows no invites."""
        self.assertRaises(NotRunning, self.ask, INVITE, socket=self.data / "other.sock")
        error = self.assertRaises(CommandError, self.ask, INVITE, socket=self.data / TAKY_SOCKET)
        self.assertIn("name our socket", str(error))

    def test_starting(self) -> None:
        """A server that has the folder and does not answer yet is not disturbed."""
        folder = DataFolder(self.data)
        folder.open()
        self.addCleanup(folder.close)
        self.assertRaises(CommandError, self.ask, INVITE)
