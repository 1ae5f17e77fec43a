from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from taky_twisted.cli import logs
from taky_twisted.cli.commands import CommandError
from taky_twisted.config import load
from tests.cli.answering import AnsweringTestCase


class Became(Exception):
    """This program would be another one now."""


def become(program: str, command: list[str]) -> NoReturn:
    raise Became(" ".join(command))


class LogsTests(AnsweringTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.units = self.folder / "units"
        self.units.mkdir()

    def shown(self, follow: bool = False) -> str:
        system = self.folder / "system.log"
        call: Callable[..., None] = logs.show
        settings = load(str(self.conf))
        return str(self.assertRaises(Became, call, settings, "50", follow, become, [self.units], system))

    def test_unit(self) -> None:
        """What systemd runs is read with journalctl."""
        (self.units / "taky-localhost.service").touch()
        self.patch(shutil, "which", lambda _: "/usr/bin/journalctl")
        self.assertEqual(self.shown(), "journalctl -u taky-localhost.service -n 50")
        self.assertEqual(self.shown(follow=True), "journalctl -u taky-localhost.service -n 50 -f")

    def test_workers(self) -> None:
        """Of several processes that systemd runs all logs are read."""
        (self.units / "taky-localhost@.service").touch()
        self.patch(shutil, "which", lambda _: "/usr/bin/journalctl")
        self.assertEqual(self.shown(), "journalctl -u taky-localhost@*.service -n 50")

    def test_file(self) -> None:
        """Otherwise it is the log file: beside taky.conf, in the data folder, or the system's."""
        for path in (self.folder / "system.log", self.data / "taky.log", self.folder / "twistd.log"):
            path.touch()
            self.assertEqual(self.shown(follow=True), f"tail -n 50 -f -- {path}")
        (self.units / "taky-localhost.service").touch()
        self.patch(shutil, "which", lambda _: None)
        self.assertEqual(self.shown(), f"tail -n 50 -- {self.folder / 'twistd.log'}")

    def test_none(self) -> None:
        """If there is none, the operator reads where logs can be."""
        settings = load(str(self.conf))
        error = self.assertRaises(CommandError, logs.show, settings, "5", False, become, [], Path("/nothing"))
        self.assertIn("there is no unit taky-localhost.service, and no twistd.log", str(error))

    def test_verb(self) -> None:
        """The verb shows so many lines, if that is a number."""
        called: list[object] = []
        self.patch(logs, "show", lambda settings, count, follow: called.append((count, follow)))
        self.takyctl("logs", "-f", "-n", "7")
        self.assertEqual(called, [("7", True)])
        self.assertIn("allowed is a number of lines", self.refused("logs", "-n", "x; rm"))
