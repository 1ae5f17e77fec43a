from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.logger import FileLogObserver, Logger, LogLevel, LogPublisher
from twisted.python import log as old_log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted import json_logs
from taky_twisted.json_logs import DAEMON_FILE, MAX_CHARS, NoPlace, choose, json_line, observer


class Awkward:
    """Has parts, and cannot always be spelled."""

    reason = "the reason"

    def __repr__(self) -> str:
        raise ValueError("no words")


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.written = StringIO()
        publisher = LogPublisher(FileLogObserver(self.written, json_line))
        self.log = Logger("taky_twisted.test", observer=publisher)

    def lines(self) -> list[dict[str, Any]]:
        """Read what was logged: one object a line, and no other characters than printable ASCII in it."""
        text = self.written.getvalue()
        self.assertTrue(text.endswith("\n"))
        for line in text.splitlines():
            self.assertTrue(line.isascii() and line.isprintable(), line)
        return [json.loads(line) for line in text.splitlines()]

    def line(self) -> dict[str, Any]:
        """Read the one line that was logged."""
        (line,) = self.lines()
        return line

    def test_line(self) -> None:
        """Time, level, who says it, what the log for people says, and the values by name."""
        self.log.info("{who} joined {count} times", who="FOX1", count=3)
        line = self.line()
        self.assertRegex(line.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            line,
            {
                "level": "info",
                "namespace": "taky_twisted.test",
                "message": "FOX1 joined 3 times",
                "fields": {"who": "FOX1", "count": 3},
            },
        )

    def test_time(self) -> None:
        """Times are UTC."""
        self.assertIn('"2026-03-01T10:00:00.125Z"', json_line({"log_format": "x", "log_time": 1_772_359_200.125}) or "")
        self.assertIn('"1970-01-01T00:00:00.000Z"', json_line({"log_format": "x"}) or "")

    def test_levels(self) -> None:
        """Levels have their names."""
        for level in ("debug", "info", "warn", "error", "critical"):
            getattr(self.log, level)("x")
        self.assertEqual([line["level"] for line in self.lines()], ["debug", "info", "warn", "error", "critical"])

    def test_control_characters(self) -> None:
        """Whatever a client calls itself, it forges no line and does nothing to a terminal."""
        name = 'a"\n{"level": "x"}\x1b[2J\x9b\u2028\u202e\0\ud800é'
        self.log.info("{name} joined", name=name)
        line = self.line()
        shown = name.replace("\ud800", "\\ud800")  # half a character is none, and would make a line unreadable
        self.assertEqual((line["fields"]["name"], line["message"]), (shown, f"{shown} joined"))

    def test_not_shown(self) -> None:
        """What the text does not show is not in the line: it may be a secret."""
        self.log.info("{name} is there", name="FOX1", password="hush")
        self.assertEqual(self.line()["fields"], {"name": "FOX1"})
        self.assertNotIn("hush", self.written.getvalue())

    def test_values(self) -> None:
        """Numbers stay numbers, what JSON does not know becomes text, and of a part there is only that part."""
        things = Awkward()
        self.log.info(
            "{a} {b} {c} {d} {e} {f:.1f} {g!r} {h.reason}",
            a=None, b=True, c=1.5, d=float("nan"), e=Path("/x"), f=2.25, g="q", h=things, i=1,
        )  # fmt: skip
        fields = self.line()["fields"]
        self.assertEqual(fields.pop("h.reason"), "the reason")
        self.assertEqual(fields, {"a": None, "b": True, "c": 1.5, "d": "nan", "e": "/x", "f": 2.25, "g": "q"})

    def test_broken(self) -> None:
        """A message that cannot be made is told all the same."""
        self.log.info("{thing}", thing=Awkward())
        self.log.info("{unclosed", unclosed=1)
        first, second = self.lines()
        self.assertIn("thing", first["fields"])
        self.assertNotIn("fields", second)

    def test_failure(self) -> None:
        """A mistake comes with where it was made."""
        try:
            raise RuntimeError("wrong")
        except RuntimeError:
            self.log.failure("{what} failed", what="counting")
        line = self.line()
        self.assertEqual((line["level"], line["message"]), ("critical", "counting failed"))
        self.assertIn("RuntimeError: wrong", line["traceback"])

    def test_bare_failure(self) -> None:
        """A failure without words is told by where it was made."""
        failure = Failure(RuntimeError("wrong"))
        line = json.loads(json_line({"log_failure": failure, "log_level": LogLevel.critical}) or "")
        self.assertIn("RuntimeError: wrong", line["traceback"])
        self.assertNotIn("fields", line)

    def test_old_ways(self) -> None:
        """What Twisted's older parts say, and what is printed, is in the log as well; what says nothing is not."""
        events: list[dict[str, Any]] = []
        self.assertIsNone(json_line({}))
        old_log.addObserver(events.append)
        self.addCleanup(old_log.removeObserver, events.append)
        old_log.msg("printed", system="-")
        line = json.loads(json_line(events[-1]) or "")
        self.assertEqual((line["message"], line["system"]), ("printed", "-"))
        self.assertNotIn("fields", line)

    def test_long(self) -> None:
        """A long text is cut."""
        self.log.info("{a}{b}", a="x" * MAX_CHARS, b="y")
        line = self.line()
        self.assertEqual(len(line["message"]), MAX_CHARS)
        self.assertTrue(line["message"].endswith("..."))
        self.assertEqual(line["fields"], {"a": "x" * MAX_CHARS, "b": "y"})


class PlaceTests(SynchronousTestCase):
    """The log is where twistd's options say."""

    def setUp(self) -> None:
        self.patch(json_logs, "_where", json_logs._where)
        self.later: list[Callable[[], object]] = []
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)

    def observer(self, **options: object) -> FileLogObserver:
        """Begin to log as twistd does."""
        self.assertEqual(choose(options, self.later.append), "taky_twisted.json_logs.observer")
        return observer()

    def test_terminal(self) -> None:
        """In the foreground it is standard output, unless a file is named."""
        for logfile in ("", None, "-"):
            written = StringIO()
            self.patch(sys, "stdout", written)
            self.observer(nodaemon=1, logfile=logfile)({"log_format": "hello", "log_time": 1.0})
            self.assertEqual(json.loads(written.getvalue())["message"], "hello")

    def test_file(self) -> None:
        """A file is written, and rotated by a signal as with twistd's own log."""
        path = Path(self.mktemp()).absolute()
        log = self.observer(logfile=str(path), nodaemon=1)
        log({"log_format": "{x}é", "x": "first", "log_time": 1.0})
        self.assertEqual(json.loads(path.read_text())["message"], "firsté")
        signal.raise_signal(signal.SIGUSR1)
        (rotate,) = self.later
        rotate()
        log({"log_format": "second", "log_time": 1.0})
        self.assertEqual(json.loads(path.read_text())["message"], "second")
        self.assertIn("first", path.with_name(f"{path.name}.1").read_text())

    def test_background(self) -> None:
        """In the background it is twistd's usual file; somebody else's way of rotating stays."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.patch(json_logs, "DAEMON_FILE", str(folder / DAEMON_FILE))
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self.observer(nodaemon=0)({"log_format": "hello", "log_time": 1.0})
        self.assertEqual(json.loads((folder / DAEMON_FILE).read_text())["message"], "hello")
        self.assertEqual(signal.getsignal(signal.SIGUSR1), signal.SIG_IGN)

    def test_refused(self) -> None:
        """Where no JSON can go, that is told."""
        for options, words in (
            ({"syslog": 1}, "--syslog"),
            ({"logger": "a.b"}, "--logger"),
            ({"logfile": "-", "nodaemon": 0}, "--logfile"),
        ):
            error = self.assertRaises(NoPlace, choose, options, self.later.append)
            self.assertIn(words, str(error))
