from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

from taky_twisted.cli import up
from taky_twisted.cli.checks import Finding
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.site import Site
from taky_twisted.cli.up import tested, wishes_of
from tests.cli.answering import AnsweringTestCase

COT = {"what": "CoT", "name": "tcp:1", "host": "0.0.0.0", "port": 1, "tls": False}
MARTI = {"what": "Marti", "name": "tcp:2", "host": "127.0.0.9", "port": 2, "tls": False}


class Process:
    """A server's process."""

    def __init__(self, *statuses: int | None) -> None:
        self._statuses = list(statuses)
        self.terminated = 0

    def poll(self) -> int | None:
        return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None and self._statuses[-1] is None and not self.terminated:
            raise subprocess.TimeoutExpired("taky", timeout)
        return self._statuses[-1] or 0

    def terminate(self) -> None:
        self.terminated += 1


class UpTestCase(AnsweringTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.tried: list[tuple[str, int, bool]] = []
        self.level: Any = "ok"
        self.patch(up.SelfTest, "events", lambda test, port: self.note(test, port))  # type: ignore[attr-defined]
        self.patch(up.SelfTest, "files", lambda test, port: self.note(test, port))  # type: ignore[attr-defined]
        self.patch(up, "POLL_SECONDS", 0.01)

    def note(self, test: Any, port: int) -> Finding:
        self.tried.append((test.host, port, test.context is not None))
        return Finding(self.level, "tried", "look")

    def findings(self, *doors: dict[str, Any], status: int | None = None) -> list[Finding]:
        self.answer({"ok": True, "doors": list(doors)})
        return list(tested(Site.open(str(self.conf)), Process(status)))  # type: ignore[arg-type]  # all that is asked of it


class TestedTests(UpTestCase):
    def test_from_here(self) -> None:
        """Events and files are tried where the server listens."""
        self.assertEqual([each.level for each in self.findings(COT, MARTI)], ["ok", "ok"])
        self.assertEqual(self.tried, [("127.0.0.1", 1, False), ("127.0.0.9", 2, False)])

    def test_from_outside(self) -> None:
        """Then the public address is tried; that it cannot be reached from here may be the router's fault."""
        self.configure("public_ip = 203.0.113.5")
        self.level = "problem"
        findings = self.findings(COT, MARTI)
        self.assertEqual([each.level for each in findings], ["problem", "problem", "warning", "warning"])
        self.assertIn("NAT", findings[-1].advice)
        self.assertEqual([host for host, _, _ in self.tried], ["127.0.0.1", "127.0.0.9", "203.0.113.5", "203.0.113.5"])

    def test_tls_first(self) -> None:
        """Of several doors one with TLS is tried, with a certificate; the name is checked from outside only."""
        self.configure("public_ip = 203.0.113.5")
        context = SimpleNamespace(check_hostname=None)
        checked: list[object] = []
        self.patch(up, "throw_away_context", lambda *_: context)
        note = self.note
        self.note = lambda test, port: checked.append(context.check_hostname) or note(test, port)  # type: ignore[method-assign, func-returns-value]
        self.findings(COT, {**COT, "port": 3, "tls": True})
        self.assertEqual(self.tried, [("127.0.0.1", 3, True), ("203.0.113.5", 3, True)])
        self.assertEqual(checked, [False, True])

    def test_nothing_to_try(self) -> None:
        """Without a door that has a port, or without an authority's key, that is said."""
        findings = self.findings({**COT, "port": None}, MARTI)
        self.assertIn("there is no CoT door with a port", findings[0].what)
        (finding,) = self.findings({**COT, "tls": True})
        self.assertEqual((finding.level, "no certificate can be made" in finding.what), ("note", True))

    def test_waits(self) -> None:
        """The test waits until the server answers; it ends with it, or when that takes too long."""
        site = Site.open(str(self.conf))
        end = self.assertRaises(SystemExit, list, tested(site, Process(None, None, 3)))  # type: ignore[arg-type]
        self.assertEqual(end.code, 3)
        end = self.assertRaises(SystemExit, list, tested(site, Process(0)))  # type: ignore[arg-type]
        self.assertEqual(end.code, 1)
        self.patch(up, "START_SECONDS", 0.05)
        error = self.assertRaises(CommandError, list, tested(site, Process(None)))  # type: ignore[arg-type]
        self.assertIn("does not answer within", str(error))


class VerbTests(UpTestCase):
    def run_up(
        self, *arguments: str, status: int | None = 0, findings: list[Finding] | BaseException | None = None
    ) -> Process:
        """Run the verb; a server that ends at once with a status is started."""
        process = self.process = Process(status)
        self.commands: list[list[str]] = []

        def launch(command: list[str]) -> Process:
            self.commands.append(command)
            return process

        def found(*_: object) -> list[Finding]:
            if isinstance(findings, BaseException):
                raise findings
            return findings or []

        self.patch(subprocess, "Popen", launch)
        self.patch(up, "tested", found)
        self.said, self.notes = self.run_verb(*arguments)
        return process

    def test_site_is_there(self) -> None:
        """The server of a site that is there is started, tested, and waited for."""
        self.run_up("up", findings=[Finding("ok", "it works")])
        self.assertIn("ok      it works\nThe server runs; 'takyctl -c", self.said)
        (command,) = self.commands
        self.assertEqual(command[-3:], ["taky_twisted.cli.taky", "-c", str(self.conf)])

    def test_another_address(self) -> None:
        """An address that is not the site's is remarked upon."""
        self.configure("public_ip = 203.0.113.5")
        self.run_up("up", "--public", "203.0.113.6")
        self.assertIn("this site tells its clients to connect to 203.0.113.5", self.notes)
        self.run_up("up", "--public", "203.0.113.5")
        self.assertEqual(self.notes, "")
        self.configure("public_ip = 2001:db8::5")
        self.run_up("up", "--public", "2001:db8::5")
        self.assertEqual(self.notes, "")

    def test_status(self) -> None:
        """The exit status is the server's; whatever else ends us ends the server."""
        with self.assertRaises(SystemExit) as end:
            self.run_up("up", status=7)
        self.assertEqual(end.exception.code, 7)
        self.run_up("up", findings=KeyboardInterrupt())
        with self.assertRaises(SystemExit) as end:
            self.run_up("up", findings=CommandError("does not answer"))
        self.assertEqual((end.exception.code, self.process.terminated), ("takyctl up: does not answer", 1))

    def test_interrupted(self) -> None:
        """Control-C reaches the server, too; whoever interrupts this program alone ends the server as well."""
        self.run_up("up", findings=KeyboardInterrupt())
        self.assertEqual(self.process.terminated, 0)
        self.run_up("up", findings=KeyboardInterrupt(), status=None)
        self.assertEqual(self.process.terminated, 1)

    def test_no_site(self) -> None:
        """Without a site one is made, for the address that was named; a file that was named has to be there."""
        made: list[Any] = []
        folder = self.folder / "new"

        def make(layout: Any, wishes: Any, _: object) -> None:
            made.append(wishes)
            folder.mkdir()
            (folder / "taky.conf").write_text("[taky]\n", "utf-8")

        self.patch(up, "make_site", make)
        self.assertIn("there is no such file", self.refused("-c", str(folder / "x"), "up"))
        self.run_here("up", "--public", "203.0.113.5", str(folder))
        self.assertEqual([(each.public, bool(each.hosts)) for each in made], [(("203.0.113.5",), True)])
        self.assertIn(f"The site is made: {folder / 'taky.conf'}", self.said)

    def run_here(self, *arguments: str) -> None:
        """Run the verb without naming a configuration."""
        from taky_twisted.cli.takyctl import main

        named = self.run_verb
        self.run_verb = lambda *given: named(*given, call=lambda words: main(words[2:]))  # type: ignore[method-assign]
        self.run_up(*arguments)


class WishesTests(AnsweringTestCase):
    def test_wishes(self) -> None:
        """An address is how clients come from outside; a name is what the server is called."""
        self.assertEqual(wishes_of("203.0.113.5").public, ("203.0.113.5",))
        self.assertEqual((wishes_of("tak.example").hosts, wishes_of("tak.example").public), (("tak.example",), ()))
        self.assertEqual((wishes_of("203.0.113.5").bind_ip, wishes_of("2001:db8::5").bind_ip), ("0.0.0.0", "::"))
        self.assertIn("--public ADDRESS", str(self.assertRaises(CommandError, wishes_of, None)))
        self.assertIn("--public 'a b'", str(self.assertRaises(CommandError, wishes_of, "a b")))
