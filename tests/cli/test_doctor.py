from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from taky_twisted.cli import checks, doctor
from taky_twisted.cli.checks import Finding
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.doctor import lines
from taky_twisted.cli.running import NotRunning, RunningServer
from tests.cli.answering import AnsweringTestCase

NOW = time.time()
STATUS = {
    "ok": True,
    "version": "1.2",
    "num_clients": 3,
    "doors": [
        {"what": "CoT", "name": "ssl:8089", "host": "0.0.0.0", "port": 8089, "tls": True},
        {"what": "CoT", "name": "unix:/a", "host": None, "port": None, "tls": False},
    ],
}


def attempt(**more: Any) -> dict[str, Any]:
    """Spell a failed attempt as the server does."""
    return {
        "address": "10.0.0.1",
        "door": "ssl:8089",
        "subject": "ALPHA-1",
        "reason": "its certificate is bad",
        "advice": "make another",
        "first": NOW - 60,
        "last": NOW,
        "count": 1,
        **more,
    }


class LinesTests(AnsweringTestCase):
    def test_lines(self) -> None:
        """An operator reads when, who, where, how often, why, and what to do."""
        first, *rest = lines(attempt(count=3))
        self.assertRegex(
            first, r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  10\.0\.0\.1  at ssl:8089  as ALPHA-1  3 times since \d\d:"
        )
        self.assertEqual(rest, ["        its certificate is bad", "        -> make another"])

    def test_little(self) -> None:
        """Where there is nothing to say, nothing is."""
        first, *rest = lines(attempt(address="", subject="", advice=""))
        self.assertTrue(first.endswith("  a local process  at ssl:8089"), first)
        self.assertEqual(rest, ["        its certificate is bad"])

    def test_strangers(self) -> None:
        """What strangers wrote cannot forge a line."""
        self.assertIn(r"        x\ny", lines(attempt(reason="x\ny")))


class VerbTests(AnsweringTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.findings = [Finding("ok", "all is well"), Finding("warning", "a warning", "do something")]
        self.patch(checks.Checks, "all", lambda _: iter(self.findings))
        self.answers: list[list[dict[str, Any]]] = []
        self.patch(RunningServer, "stream", self.stream)

    def stream(self, do: str, more: dict[str, Any], live: bool = False) -> Any:
        self.requests.append(json.dumps([do, more, live]).encode())
        if not self.answers:
            raise NotRunning("no server answers")
        answers = self.answers.pop(0)
        for answer in answers:
            if answer.get("ok") is not True:
                raise CommandError(answer["error"])
            yield answer

    def test_once(self) -> None:
        """The site, the server's doors and the failures up to now are shown; a warning is no problem."""
        self.answers = [[STATUS], [{"ok": True, "attempt": attempt(), "more": True}, {"ok": True}]]
        said = self.takyctl("doctor", "--once")
        for words in (
            "ok      all is well\nWARNING a warning\n        -> do something\n",
            "ok      the server runs (version 1.2), 3 clients are connected",
            "CoT door ssl:8089 is open on 0.0.0.0 port 8089 (TLS)",
            "CoT door unix:/a is open on a unix socket (no TLS)",
            "Who could not connect lately:\n20",
            "        -> make another\n",
        ):
            self.assertIn(words, said)
        self.assertEqual(self.requests, [b'["status", {}, false]', b'["doctor", {"follow": false}, false]'])

    def test_follow(self) -> None:
        """On a terminal, or if asked, it goes on; our own look at the port is left out, what comes later is not."""
        silence = attempt(reason=doctor._SILENCE, last=time.time() + 60, advice="")
        began = {"ok": True, "more": True}
        self.answers = [
            [STATUS],
            [{**began, "attempt": silence}, began, {**began, "attempt": {**silence, "address": "10.0.0.9"}}],
        ]
        said = self.takyctl("doctor", "--follow")
        self.assertIn("nobody, so far; whoever is refused is shown here", said)
        self.assertEqual((said.count(doctor._SILENCE), said.count("10.0.0.9")), (1, 1))
        self.answers = [[STATUS], [{"ok": True}]]
        self.assertIn("\n  nobody\n", self.takyctl("doctor"))
        self.assertIn(b'["doctor", {"follow": true}, true]', self.requests)

    def test_problem(self) -> None:
        """With a problem the exit status says so, after everything was shown."""
        self.findings = [Finding("problem", "the disk is full", "make room")]
        self.answers = [[STATUS], [{"ok": True}]]
        with self.assertRaises(SystemExit) as caught:
            self.run_verb("doctor", "--once")
        self.assertEqual(caught.exception.code, 1)

    def test_not_running(self) -> None:
        """The site can be looked at while no server runs."""
        said = self.takyctl("doctor", "--once")
        self.assertIn("WARNING no server answers\n        -> start it: twistd -n taky", said)
        self.assertIn("the server does not run; its log has more (takyctl logs)", said)

    def test_another(self) -> None:
        """A server that refuses is a problem."""
        self.answers = [[{"ok": False, "error": "version 2"}], [{"ok": True}]]
        self.assertRaises(SystemExit, self.run_verb, "doctor", "--once")

    def test_json(self) -> None:
        """Programs get one object a line, and nothing else."""
        self.answers = [[STATUS], [{"ok": True, "attempt": attempt(), "more": True}, {"ok": True}]]
        said = [json.loads(line) for line in self.takyctl("doctor", "--once", "--json").splitlines()]
        self.assertEqual([*said[0]], ["finding"])
        self.assertEqual(said[-1], {"attempt": attempt()})
        self.assertEqual(len(self.takyctl("doctor", "--once", "-j").splitlines()), 3)
        self.answers = [[STATUS], [{"ok": True}]]
        self.takyctl("doctor", "--once", "-j")

    def test_terminal(self) -> None:
        """On a terminal long sentences are broken where words end."""

        class Terminal:
            def isatty(self) -> bool:
                return True

        self.patch(sys, "stdout", Terminal())
        self.patch(shutil, "get_terminal_size", lambda: os.terminal_size((40, 20)))
        shown = lines(attempt(advice="one two three four five six seven eight"))
        self.assertEqual(shown[2:], ["        -> one two three four five six", "           seven eight"])


class MissingWorkersTests(AnsweringTestCase):
    """If a few of several processes are not there, somebody has to notice."""

    def doctor(self, *answering: int, workers: int = 3, **more: Any) -> str:
        """Look at a site some of whose workers answer."""
        self.configure("node_id = N", "bus = redis:tcp:localhost:6379", f"workers = {workers}")
        for number in (2, 3, 4):
            (self.data / f"worker-{number}").mkdir(exist_ok=True)
        self.patch(checks.Checks, "all", lambda _: iter(()))

        def stream(server: RunningServer, do: str, more_: object, live: bool = False) -> Iterator[Any]:
            number = int(server.path.parent.name.rpartition("-")[2]) if "worker-" in str(server.path) else 1
            if do == "ping" and number not in answering:
                raise more.get("error", NotRunning("nobody"))
            yield STATUS if do == "status" else {"ok": True}

        self.patch(RunningServer, "stream", stream)
        return self.takyctl("doctor", "--once") if not more else self.run_bad()

    def run_bad(self) -> str:
        """Look at a site that has a problem."""
        told: list[str] = []
        self.patch(doctor, "_print", lambda as_json, what, words: told.extend(words))
        self.assertRaises(SystemExit, self.run_verb, "doctor", "--once")
        return "\n".join(told)

    def test_missing(self) -> None:
        """Each worker that does not answer is named; those of a larger server of before are not missed."""
        self.assertNotIn("worker", self.doctor(1, 2, 3))
        self.assertIn("WARNING worker 2 of 3 does not answer; the others serve", self.doctor(1, 3))
        self.assertIn("WARNING worker 1 of 3 does not answer", self.doctor(2, 3))
        self.assertIn("WARNING worker 5 of 5 does not answer", self.doctor(1, 2, 3, 4, workers=5))
        self.assertNotIn("worker", self.doctor(workers=1))

    def test_hangs(self) -> None:
        """One that answers with something else is a problem."""
        said = self.doctor(1, 2, error=CommandError("it did not answer within 10 seconds"))
        self.assertIn("PROBLEM worker 3: it did not answer within 10 seconds", said)


class AtOnce:
    """A thread that does everything before the next line runs."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> None:
        self._run = partial(target, *args)

    def start(self) -> None:
        self._run()


class WorkersTests(AnsweringTestCase):
    """Of several processes each knows whom it has refused itself."""

    def setUp(self) -> None:
        super().setUp()
        for number in (2, 3):
            (self.data / f"worker-{number}").mkdir()
        self.patch(checks.Checks, "all", lambda _: iter(()))
        self.patch(doctor, "_doors", lambda server, settings: iter(()))
        self.patch(doctor, "Thread", AtOnce)
        self.refusing: dict[str, list[dict[str, Any]]] = {}
        data, refusing = self.data, self.refusing

        def stream(server: RunningServer, do: str, more: dict[str, Any], live: bool = False) -> Iterator[Any]:
            refused = refusing.get(str(server.path.parent.relative_to(data)))
            if refused is None:
                raise NotRunning("no server answers")
            yield {"ok": True, "attempt": refused[0]}
            yield {"ok": True}
            if live:
                yield {"ok": True, "attempt": refused[1]}

        self.patch(RunningServer, "stream", stream)

    def test_all(self) -> None:
        """Whom any of them has refused is shown, and nobody twice; one that is away is passed over."""
        self.refusing["worker-3"] = [attempt(address="10.0.0.3")]
        said = self.takyctl("doctor", "--once")
        self.assertEqual((said.count("10.0.0."), said.count("10.0.0.3")), (1, 1))
        self.assertNotIn("does not run", said)
        self.refusing["."] = [attempt(address="10.0.0.1")]
        said = self.takyctl("doctor", "--once")
        self.assertEqual([said.count(f"10.0.0.{each}") for each in (1, 3)], [1, 1])

    def test_hangs(self) -> None:
        """One that does not answer hides nobody whom the others have refused, and is named."""

        def stream(server: RunningServer, do: str, more: dict[str, Any], live: bool = False) -> Iterator[Any]:
            if server.path.parent.name == "worker-2":
                raise CommandError("the server at worker-2 did not answer")
            yield {"ok": True, "attempt": attempt(address="10.0.0.1")}
            yield {"ok": True}

        self.patch(RunningServer, "stream", stream)
        said = self.takyctl("doctor", "--once")
        self.assertIn("PROBLEM the server at worker-2 did not answer", said)
        self.assertEqual(said.count("10.0.0.1"), 2)

    def test_follow(self) -> None:
        """So it goes on."""
        self.refusing["."] = [attempt(address="10.0.0.1"), attempt(address="10.0.0.11")]
        self.refusing["worker-2"] = [attempt(address="10.0.0.2"), attempt(address="10.0.0.22")]
        said = self.takyctl("doctor", "--follow")
        self.assertEqual([said.count(f"10.0.0.{each} ") for each in (1, 11, 2, 22)], [1, 1, 1, 1])
