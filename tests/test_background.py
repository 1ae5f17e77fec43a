from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import Logger, globalLogPublisher
from twisted.trial.unittest import TestCase

from taky_twisted.background import logged, undeterred


class LoggedTests(TestCase):
    def test_failure(self) -> None:
        """What fails where nobody waits is in the log as a bug, with what was being done, and goes no further."""
        waited_for: Deferred[None] = Deferred()
        waited_for.addErrback(logged(Logger(), "pruning"))
        waited_for.errback(RuntimeError("no"))
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual(failure.getErrorMessage(), "no")
        self.assertIsNone(self.successResultOf(waited_for))

    def test_words(self) -> None:
        """The log line names what failed."""
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        failed: Deferred[None] = Deferred()
        failed.addErrback(logged(Logger(), "pruning"))
        failed.errback(RuntimeError("no"))
        self.flushLoggedErrors(RuntimeError)
        self.assertTrue(any(event.get("what") == "pruning" and "failed" in event["log_format"] for event in observer))


class UndeterredTests(TestCase):
    def test_failure(self) -> None:
        """A duty that fails is reported, and done again."""
        log = Logger()
        calls: list[int] = []

        def duty() -> None:
            calls.append(len(calls))
            if len(calls) == 1:
                raise ZeroDivisionError

        again = undeterred(log, "counting", duty)
        self.successResultOf(again())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(again())
        self.assertEqual(calls, [0, 1])
