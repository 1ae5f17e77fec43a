from __future__ import annotations

import contextlib
import io
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence

from taky_twisted.cli import systemd
from taky_twisted.cli.systemd import start
from tests.cli.answering import AnsweringTestCase

USER = pwd.getpwuid(os.getuid()).pw_name


class SystemdTests(AnsweringTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.units = self.folder / "units"
        self.units.mkdir()
        self.unit = self.units / "taky-localhost.service"

    def test_write(self) -> None:
        """One unit is written, readable by all; nothing is started."""
        said = self.takyctl("systemd", "--no-install", "--path", str(self.units), "-u", USER)
        self.assertEqual(said, f"Wrote {self.unit}\n")
        self.assertIn(f"\nUser={USER}\n", self.unit.read_text("utf-8"))
        self.assertEqual(self.unit.stat().st_mode & 0o777, 0o644)
        self.assertEqual(list(self.units.iterdir()), [self.unit])

    def test_workers(self) -> None:
        """Several processes are instances of a template, and a target wants them; so many as one says, or the site."""
        self.configure("bus = redis:tcp:localhost:6379", "workers = 3")
        template, target = self.units / "taky-localhost@.service", self.units / "taky-localhost.target"
        for more, wanted in ((), (1, 2, 3)), (("--workers", "2"), (1, 2)):
            said = self.takyctl("systemd", "--no-install", "--path", str(self.units), "-u", USER, *more)
            self.assertEqual(said, f"Wrote {template}\nWrote {target}\n")
            names = " ".join(f"taky-localhost@{number}.service" for number in wanted)
            self.assertIn(f"\nWants={names}\n", target.read_text("utf-8"))
            self.assertIn(f" --workers={len(wanted)} --worker=%i\n", template.read_text("utf-8"))
            self.assertIn("is there already", self.refused("systemd", "--no-install", "--path", str(self.units)))
            for path in (template, target):
                self.assertEqual(path.stat().st_mode & 0o777, 0o644)
                path.unlink()
        self.takyctl("systemd", "--no-install", "--path", str(self.units), "-u", USER, "--workers", "1")
        self.assertEqual(list(self.units.iterdir()), [self.unit])

    def test_workers_started(self) -> None:
        """The target is what is started."""
        called: list[str] = []
        self.configure("bus = redis:tcp:localhost:6379")
        self.patch(systemd, "start", lambda unit, call: called.append(unit))
        self.takyctl("systemd", "--path", str(self.units), "-u", USER, "--workers", "2")
        self.assertEqual(called, ["taky-localhost.target"])

    def test_workers_refused(self) -> None:
        """Without a bus, or beside the unit of one process, several are refused; so is what is no number."""
        verb = ("systemd", "--no-install", "--path", str(self.units), "-u", USER)
        self.assertIn("workers = 2 needs a bus", self.refused(*verb, "--workers", "2"))
        self.assertIn("allowed: a whole number from 1 to 64", self.refused(*verb, "--workers", "many"))
        self.configure("bus = redis:tcp:localhost:6379", "[cot_server]", "endpoints = systemd:domain=INET:index=0")
        self.assertIn("several processes cannot share such a door", self.refused(*verb, "--workers", "2"))
        self.assertEqual(list(self.units.iterdir()), [])
        self.configure("bus = redis:tcp:localhost:6379")
        self.unit.touch()
        self.assertIn("the server would run twice", self.refused(*verb, "--workers", "2"))
        self.assertEqual(list(self.units.iterdir()), [self.unit])

    def test_never_replaced(self) -> None:
        """A unit that is there is left as it is."""
        self.unit.write_text("mine", "utf-8")
        self.assertIn(
            "is there already", self.refused("systemd", "--no-install", "--path", str(self.units), "-u", USER)
        )
        self.assertEqual(self.unit.read_text("utf-8"), "mine")

    def test_of_taky(self) -> None:
        """What taky's program takes is taken, and what is different is said."""
        (self.units / "taky-localhost-cot.service").touch()
        _, notes = self.run_verb("systemd", "--no-dps", "--no-install", "--path", str(self.units), "--user", USER)
        self.assertIn("one process serves everything now", notes)
        self.assertIn("systemctl disable --now taky-localhost-cot.service", notes)

    def test_root(self) -> None:
        """That it would run as root is said."""
        self.patch(systemd, "owner_of", lambda _: None)
        _, notes = self.run_verb("systemd", "--no-install", "--path", str(self.units))
        self.assertIn("the server will run as root", notes)
        self.assertNotIn("User=", self.unit.read_text("utf-8"))

    def test_owner(self) -> None:
        """Without -u it runs as whom the data belongs to."""
        self.patch(systemd, "owner_of", lambda _: USER)
        self.takyctl("systemd", "--no-install", "--path", str(self.units))
        self.assertIn(f"\nUser={USER}\n", self.unit.read_text("utf-8"))

    def test_start(self) -> None:
        """Systemd reads it, starts it, and will start it again with the machine."""
        called: list[Sequence[str]] = []
        with contextlib.redirect_stdout(io.StringIO()) as said:
            start("taky.service", called.append)
        self.assertIn("takyctl logs", said.getvalue())
        self.assertEqual(called, [["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", "taky.service"]])

    def test_no_systemd(self) -> None:
        """Where there is no systemd the unit is written, and why it is not started is said."""
        self.patch(shutil, "which", lambda _: None)
        self.assertIn("there is no systemctl here", self.refused("systemd", "--path", str(self.units), "-u", USER))
        self.assertTrue(self.unit.exists())

    def test_systemd_fails(self) -> None:
        """What systemd says is passed on; a folder that is not there is named."""
        self.patch(shutil, "which", lambda _: "/bin/systemctl")
        outcomes = [
            subprocess.CompletedProcess([], 0, "", ""),
            subprocess.CompletedProcess([], 1, "", "No\n such unit\n"),
        ]
        self.patch(subprocess, "run", lambda *_, **__: outcomes.pop(0))
        self.assertIn(
            "enable --now taky-localhost.service: No such unit",
            self.refused("systemd", "--path", str(self.units), "-u", USER),
        )
        self.unit.unlink()
        outcomes = [subprocess.CompletedProcess([], 3, "", "")]
        self.assertIn("daemon-reload: exit status 3", self.refused("systemd", "--path", str(self.units), "-u", USER))
        self.assertIn("nowhere", self.refused("systemd", "--path", str(self.folder / "nowhere"), "-u", USER))
