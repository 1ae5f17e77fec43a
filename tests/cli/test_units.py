from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.units import (
    check_user,
    owner_of,
    program_path,
    site_name,
    target_name,
    target_text,
    template_name,
    unit_name,
    unit_text,
)
from taky_twisted.config import Settings, load
from tests.cli.answering import AnsweringTestCase

PROGRAM = Path("/opt/taky/bin/taky")


class UnitTests(AnsweringTestCase):
    def text(self, *lines: str, user: str | None = "taky", program: Path = PROGRAM) -> dict[str, str]:
        """Make a unit and read its settings."""
        self.configure(*lines)
        text = unit_text(load(str(self.conf)), user, program)
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def test_names(self) -> None:
        """Units, and the files with LOG_LEVEL, are called as taky calls them."""
        settings = load(str(self.conf))
        self.assertEqual(unit_name(settings), "taky-localhost.service")
        self.assertEqual(site_name(Settings(path=Path("/etc/taky/taky.conf"))), "taky")

    def test_text(self) -> None:
        """The unit runs our program on the site as that user, and waits until it answers."""
        unit = self.text()
        self.assertEqual(unit["Type"], "notify")
        self.assertEqual(unit["User"], "taky")
        self.assertEqual(unit["EnvironmentFile"], "-/etc/default/taky-localhost")
        self.assertEqual(unit["WorkingDirectory"], str(self.folder))
        self.assertEqual(unit["ExecStart"], f"/opt/taky/bin/taky -l ${{LOG_LEVEL}} -c {self.conf}")
        self.assertEqual(unit["ReadWritePaths"], str(self.data))
        self.assertEqual(unit["CapabilityBoundingSet"], "")
        self.assertEqual((unit["ProtectSystem"], unit["NoNewPrivileges"]), ("strict", "yes"))
        self.assertNotIn("User", self.text(user=None))

    def test_where_it_writes(self) -> None:
        """It may write where it keeps something, the register's folder included, and nowhere else."""
        for name in ("ssl", "logs", "up", "db"):
            (self.folder / name).mkdir()
        unit = self.text(
            f"store = sqlite:{self.folder}/db/x.sqlite",
            "[ssl]\ncert_db = ssl/cert-db.txt",
            "[cot_server]\nlog_cot = logs",
            "[dp_server]\nupload_path = up",
        )
        self.assertEqual(
            unit["ReadWritePaths"].split(), [str(self.folder / name) for name in ("data", "ssl", "logs", "up", "db")]
        )

    def test_missing_folder(self) -> None:
        """A folder that the sandbox would not let it make has to be there."""
        self.data.rmdir()
        error = self.assertRaises(CommandError, self.text)
        self.assertIn(f"the folder {self.data} is not there", str(error))
        self.assertIn("give it to taky", str(error))
        self.assertIn("give it to root", str(self.assertRaises(CommandError, self.text, user=None)))

    def test_low_port(self) -> None:
        """A port below 1024 is allowed where there is one."""
        unit = self.text("[cot_server]\nendpoints = ssl:443", "[ssl]\nenabled = no")
        self.assertEqual(unit["AmbientCapabilities"], "CAP_NET_BIND_SERVICE")
        unit = self.text("[ssl]\nenabled = yes", "[dp_server]\nenroll_endpoints = ssl:443")
        self.assertEqual(unit["AmbientCapabilities"], "CAP_NET_BIND_SERVICE")
        for door in ("haproxy:tcp:443", r"ssl:inner=haproxy\:tcp\:443"):
            unit = self.text(f"[cot_server]\nendpoints = {door}")
            self.assertEqual(unit["AmbientCapabilities"], "CAP_NET_BIND_SERVICE", door)
        self.assertNotIn("AmbientCapabilities", self.text("[cot_server]\nendpoints = systemd:domain=INET:index=0"))

    def test_places(self) -> None:
        """A site in a home is still read, and one in a temporary folder still seen."""
        self.assertEqual(self.text()["PrivateTmp"], "no")
        self.assertEqual(self.text()["ProtectHome"], "yes")
        self.assertEqual(self.text(program=Path("/home/x/venv/bin/taky"))["ProtectHome"], "read-only")
        self.assertEqual(self.text(program=Path("/homes/x"))["ProtectHome"], "yes")

    def test_strange_paths(self) -> None:
        """Spaces and what systemd reads as something else are spelled so that they stand for themselves."""
        unit = self.text(program=Path('/opt/my $server %1/"bin"/taky'))
        self.assertTrue(unit["ExecStart"].startswith('"/opt/my $$server %%1/\\"bin\\"/taky" -l '), unit["ExecStart"])
        self.assertRaises(CommandError, self.text, program=Path("/opt/x\ny"))

    def test_systemd_takes_it(self) -> None:
        """Systemd itself finds nothing wrong with it, also with strange paths."""
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            raise SkipTest("no systemd-analyze here")
        folder = self.folder / "my site 100%"
        folder.mkdir()
        (folder / "data").mkdir()
        (folder / "taky.conf").write_text("[taky]\nhostname = h\nroot_dir = data\n", "utf-8")
        unit = folder / "taky-h.service"
        user = pwd.getpwuid(os.getuid()).pw_name
        unit.write_text(unit_text(load(str(folder / "taky.conf")), user, Path(sys.executable)), "utf-8")
        done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
        ours = [line for line in done.stderr.splitlines() if "taky-h" in line]
        self.assertEqual((done.returncode, ours), (0, []), done.stderr)

    def test_template(self) -> None:
        """Each of several processes is told its number, and stops with all of them."""
        unit = unit_text(load(str(self.conf)), "taky", PROGRAM, 2)
        lines = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
        self.assertEqual(
            lines["ExecStart"], f"/opt/taky/bin/taky -l ${{LOG_LEVEL}} -c {self.conf} --workers=2 --worker=%i"
        )
        self.assertEqual((lines["PartOf"], lines["WantedBy"]), ("taky-localhost.target",) * 2)
        self.assertIn("process %i", lines["Description"])
        for name in ("Type", "WatchdogSec", "Restart", "ReadWritePaths"):
            self.assertEqual(lines[name], self.text()[name])

    def test_one_after_all(self) -> None:
        """One process that is asked for is one, whatever the configuration says."""
        unit = self.text("workers = 4", "bus = redis:tcp:localhost:6379")
        self.assertTrue(unit["ExecStart"].endswith(" --workers=1"), unit["ExecStart"])

    def test_systemd_takes_workers(self) -> None:
        """Systemd finds nothing wrong with a template and its target."""
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            raise SkipTest("no systemd-analyze here")
        settings, user = load(str(self.conf)), pwd.getpwuid(os.getuid()).pw_name
        (self.folder / template_name(settings)).write_text(unit_text(settings, user, Path(sys.executable), 2), "utf-8")
        target = self.folder / target_name(settings)
        target.write_text(target_text(settings, 2), "utf-8")
        for unit in (target, self.folder / "taky-localhost@2.service"):
            done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
            ours = [line for line in done.stderr.splitlines() if "taky-localhost" in line]
            self.assertEqual((done.returncode, ours), (0, []), done.stderr)

    def test_program(self) -> None:
        """The program is the one beside this Python's."""
        self.assertEqual(program_path(), Path(sys.prefix, "bin", "taky"))

    def test_users(self) -> None:
        """Who owns the data is whom the server can run as; root is nobody to run as, nor is who has no name."""
        settings = load(str(self.conf))
        owner = os.stat(self.data).st_uid
        self.assertEqual(owner_of(settings), None if owner == 0 else pwd.getpwuid(owner).pw_name)
        for uid, name in ((65534, pwd.getpwuid(65534).pw_name), (0, None), (4_000_000_001, None)):
            self.patch(os, "stat", lambda *_, uid=uid, **__: os.stat_result((0o40700, 0, 0, 1, uid, 0, 0, 0, 0, 0)))
            self.assertEqual(owner_of(settings), name)
        self.assertIsNone(owner_of(Settings(data_dir=self.folder / "nothing")))
        check_user("root")
        self.assertIn("useradd --system", str(self.assertRaises(CommandError, check_user, "nobody-here")))
