from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.notices import BURST, WINDOW_SECONDS, Notices
from tests.fakes import LogLines


class NoticesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_000_000.0
        self.notices = Notices(self.clock)
        self.log = LogLines(self)

    def say(self, count: int) -> None:
        """Say something a number of times."""
        for number in range(count):
            self.notices.say("{who} refused: number {number}", who="10.0.0.1:1", number=number)

    def test_line(self) -> None:
        """What is said is a line of the log."""
        self.say(1)
        self.assertEqual(self.log(), ["10.0.0.1:1 refused: number 0"])

    def test_warning(self) -> None:
        """What an operator should look into is a warning."""
        self.notices.warn("{who} is odd", who="X")
        self.assertEqual(self.log(LogLevel.warn), ["X is odd"])

    def test_burst(self) -> None:
        """So many lines are written and not one more, and what is left out is counted."""
        self.say(BURST - 1)
        self.assertEqual((len(self.log()), self.notices.suppressed), (BURST - 1, 0))
        self.say(1)
        self.assertEqual((len(self.log()), self.notices.suppressed), (BURST, 0))
        self.say(1)
        self.assertEqual((len(self.log()), self.notices.suppressed), (BURST, 1))

    def test_next_window(self) -> None:
        """Afterwards lines are written again, the first of them says how many were left out."""
        self.say(BURST + 7)
        self.clock.advance(WINDOW_SECONDS - 0.1)
        self.say(1)
        self.assertEqual(len(self.log()), BURST)
        self.clock.advance(0.1)
        self.say(1)
        self.assertEqual(
            self.log()[BURST:], ["8 more lines of this kind were left out", "10.0.0.1:1 refused: number 0"]
        )
        self.assertEqual(self.notices.suppressed, 8)

    def test_nothing_left_out(self) -> None:
        """After a quiet window nothing is said about it."""
        self.say(BURST)
        self.clock.advance(WINDOW_SECONDS)
        self.say(1)
        self.assertEqual(len(self.log()), BURST + 1)

    def test_clock_set_back(self) -> None:
        """A clock that is set back does not silence the log."""
        self.say(BURST + 1)
        self.clock.rightNow -= 3600
        self.say(1)
        self.assertEqual(len(self.log()), BURST + 2)
