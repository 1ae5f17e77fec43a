from __future__ import annotations

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.logs import LEVELS, Logger, set_level
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
