from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import taky_twisted
from taky_twisted.cli import certs, takyctl
from tests.cli.tool import SiteTestCase
from tests.cli.tool import takyctl as run

ROOT = Path(taky_twisted.__file__).parent.parent


class TakyctlTests(SynchronousTestCase):
    def test_version(self) -> None:
        """``--version`` says which it is."""
        self.assertEqual(run("--version").out, f"takyctl version {taky_twisted.__version__}\n")

    def test_no_verb(self) -> None:
        """Without a verb it fails and says where the verbs are listed."""
        ran = run()
        self.assertEqual(ran.status, 1)
        self.assertIn("takyctl --help", ran.err)

    def test_help(self) -> None:
        """The help lists every verb with one line, within 80 columns, and every verb has help of its own."""
        text = run("--help").out
        verbs = ("setup", "build_client", "certs", "kickban", "unban", "renew", "renew-server", "migrate", "backup")
        for verb in (*verbs, "restore"):
            self.assertRegex(text, rf"\n  {verb} ")
            ran = run(verb, "--help")
            self.assertEqual((ran.status, ran.err), (0, ""))
            self.assertEqual([line for line in ran.out.splitlines() if len(line) > 80], [], verb)

    def test_takys_flags(self) -> None:
        """Every verb and flag of taky 0.10 that is here is taken as taky takes it."""
        for line in (
            "setup --p12_pw x --user root --no-ssl --host h --bind-ip 0.0.0.0 --public-ip 192.0.2.1 path",
            "build_client --is_itak --p12_pw x --dump_pem NAME",
            "kickban -U socket -j NAME",
            "-c file kickban --json NAME",
        ):
            takyctl.parser().parse_args(line.split())

    def test_no_site(self) -> None:
        """Without a site the message says how to name or make one."""
        folder = Path(self.mktemp())
        folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        for verb in ("certs", "status", "doctor", "trace X", "logs"):
            ran = run("-c", "none.conf", *verb.split())
            name = verb.partition(" ")[0]
            self.assertEqual(
                ran.err, f"takyctl {name}: none.conf: there is no such file; name the site's taky.conf with -c\n"
            )
            self.assertEqual(ran.status, 1)

    def test_module(self) -> None:
        """It runs as a program."""
        ran = subprocess.run(
            [sys.executable, "-m", "taky_twisted.cli.takyctl", "--version"],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.assertIn(taky_twisted.__version__, ran.stdout.decode())


class ErrorTests(SiteTestCase):
    def after(self, error: BaseException) -> tuple[int | str | None, str]:
        """Let a verb end with an exception; return status and what was said."""

        def fail(_: object) -> None:
            raise error

        self.patch(certs, "run", fail)
        ran = run("-c", self.conf, "certs")
        return ran.status, ran.err

    def test_disk(self) -> None:
        """What the system refuses is one line with the file's name."""
        self.assertEqual(
            self.after(PermissionError(13, "Permission denied", "/x")), (1, "takyctl certs: /x: Permission denied\n")
        )
        self.assertEqual(self.after(OSError("odd")), (1, "takyctl certs: odd\n"))

    def test_interrupted(self) -> None:
        """Ctrl-C is no error to be explained."""
        self.assertEqual(self.after(KeyboardInterrupt()), (130, ""))

    def test_broken_pipe(self) -> None:
        """``takyctl certs | head`` ends quietly."""
        closed: list[bool] = []

        class Err:
            def close(self) -> None:
                closed.append(True)

        def fail(_: object) -> None:
            raise BrokenPipeError

        self.patch(certs, "run", fail)
        self.patch(sys, "stderr", Err())
        with self.assertRaises(SystemExit) as end:
            takyctl.main(["-c", self.conf, "certs"])
        self.assertEqual((end.exception.code, closed), (1, [True]))

    def test_configuration(self) -> None:
        """An error in taky.conf is shown as the server shows it."""
        with self.layout.conf.open("a") as file:
            file.write("[nonsense]\n")
        self.assertIn("unknown section [nonsense]", self.fail_to("certs"))

    def test_bug(self) -> None:
        """A bug is not hidden."""
        self.assertRaises(ZeroDivisionError, self.after, ZeroDivisionError())
