from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.failures import MAX_ADDRESSES, MAX_PER_ADDRESS, REASON_CHARS, FailedAttempt, Failures


class FailuresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1000.0
        self.failures = Failures(self.clock)

    def reasons(self) -> list[str]:
        return [attempt.reason for attempt in self.failures]

    def test_what_is_remembered(self) -> None:
        """An operator reads who, when, where, why, and what to do."""
        self.failures.tell("10.0.0.1", "ssl:8089", "the client showed no certificate")
        (attempt,) = self.failures
        self.assertEqual((attempt.address, attempt.door, attempt.subject), ("10.0.0.1", "ssl:8089", ""))
        self.assertEqual((attempt.first, attempt.last, attempt.count), (1000.0, 1000.0, 1))
        self.assertIn("import the connection package", attempt.advice)

    def test_again(self) -> None:
        """The same failure again is counted, and becomes the newest."""
        self.failures.tell("10.0.0.1", "ssl:8089", "a", "ALPHA-1")
        self.failures.tell("10.0.0.1", "ssl:8089", "b", "ALPHA-1")
        self.clock.advance(60)
        self.failures.tell("10.0.0.1", "ssl:8089", "a", "ALPHA-1")
        self.assertEqual(self.reasons(), ["b", "a"])
        attempt = list(self.failures)[1]
        self.assertEqual((attempt.first, attempt.last, attempt.count), (1000.0, 1060.0, 2))

    def test_told_apart(self) -> None:
        """Other doors, other certificates and other addresses are other failures."""
        for address, door, subject in (("1", "a", "x"), ("1", "b", "x"), ("1", "a", "y"), ("2", "a", "x")):
            self.failures.tell(address, door, "why", subject)
        self.assertEqual([attempt.count for attempt in self.failures], [1, 1, 1, 1])

    def test_bound_per_address(self) -> None:
        """Who fails in many ways displaces his own failures, the oldest first, and nobody else's."""
        self.failures.tell("2", "a", "other")
        for number in range(MAX_PER_ADDRESS + 1):
            self.clock.advance(1)
            self.failures.tell("1", "a", str(number))
        self.assertEqual(self.reasons(), ["other", *map(str, range(1, MAX_PER_ADDRESS + 1))])
        self.assertEqual(self.failures.total, MAX_PER_ADDRESS + 2)

    def test_bound_of_addresses(self) -> None:
        """Of too many addresses the one that failed least recently is forgotten."""
        for number in range(MAX_ADDRESSES):
            self.clock.advance(1)
            self.failures.tell(str(number), "a", "why")
        self.clock.advance(1)
        self.failures.tell("0", "a", "why")
        self.failures.tell("new", "a", "why")
        remembered = [attempt.address for attempt in self.failures]
        self.assertEqual(len(remembered), MAX_ADDRESSES)
        self.assertEqual((remembered[0], remembered[-2:]), ("2", ["0", "new"]))

    def test_what_strangers_write(self) -> None:
        """What a stranger wrote cannot forge a line on the operator's screen, nor fill it."""
        self.failures.tell("1", "a", "x" * 10_000, "EVIL\n\x1b[2J")
        (attempt,) = self.failures
        self.assertEqual((len(attempt.reason), attempt.subject), (REASON_CHARS, r"EVIL\n\x1b[2J"))

    def test_watched(self) -> None:
        """Whoever watches is told of each failure from then on, until he does not want to hear any more."""
        seen: list[FailedAttempt] = []
        self.failures.tell("1", "a", "before")
        forget = self.failures.watch(seen.append)
        self.failures.tell("1", "a", "now")
        self.failures.tell("1", "a", "now")
        forget()
        forget()
        self.failures.tell("1", "a", "after")
        self.assertEqual([(attempt.reason, attempt.count) for attempt in seen], [("now", 1), ("now", 2)])
