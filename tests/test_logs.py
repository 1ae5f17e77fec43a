from __future__ import annotations

import io
import sys

import twisted.logger
from twisted.logger import ILogObserver, LogLevel, LogPublisher, textFileLogObserver
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.logs import LEVELS, Logger, set_level, worker_observer
from tests.fakes import LogLines

log = Logger(namespace="taky_twisted.test")


class LoggerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.addCleanup(set_level, "info")

    def say_all(self) -> list[str]:
        """Say something at each level; read what is in the log."""
        before = len(self.lines())
        log.debug("debug")
        log.info("info")
        log.warn("warn")
        log.error("error")
        log.critical("critical")
        return self.lines()[before:]

    def test_default(self) -> None:
        """Without a level everything but debug is in the log."""
        self.assertEqual(self.say_all(), ["info", "warn", "error", "critical"])

    def test_levels(self) -> None:
        """A level lets through itself and what matters more; names may be taky's or Twisted's, in any case."""
        everything = ["debug", "info", "warn", "error", "critical"]
        for name, first in (
            ("debug", 0),
            ("INFO", 1),
            ("warning", 2),
            ("warn", 2),
            ("Error", 3),
            ("critical", 4),
        ):
            set_level(name)
            self.assertEqual(self.say_all(), everything[first:], name)

    def test_fields(self) -> None:
        """Fields stand where the format says."""
        log.info("{who} joined", who="FOX1")
        self.assertEqual(self.lines(LogLevel.info), ["FOX1 joined"])

    def test_no_level(self) -> None:
        """A name that is no level is refused, and the text says which there are."""
        with self.assertRaises(ValueError) as caught:
            set_level("loud")
        self.assertEqual(str(caught.exception), f"'loud' is no log level; allowed: {', '.join(LEVELS)}")
        self.assertEqual(self.say_all(), ["info", "warn", "error", "critical"])


class WorkerObserverTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Each line of a worker's log says which worker it is of, and is as twistd's otherwise."""
        out = io.StringIO()
        observer = worker_observer(2, lambda: textFileLogObserver(out))
        logger = twisted.logger.Logger(namespace="part", observer=LogPublisher(observer))
        logger.info("{what} joined", what="ALPHA")
        logger.info("old", log_system="HTTP")
        lines = [line.partition(" ")[2] for line in out.getvalue().splitlines()]
        self.assertEqual(lines, ["[worker 2, part#info] ALPHA joined", "[worker 2, HTTP] old"])

    def test_without_origin(self) -> None:
        """What nobody says the origin of has a line, too; it goes where the process writes."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        observer = worker_observer(1)
        self.assertTrue(ILogObserver.providedBy(observer))
        observer({"log_format": "hello", "log_time": 0.0})
        self.assertTrue(out.getvalue().endswith(" [worker 1, -#-] hello\n"), out.getvalue())
