from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.versions import Versions, is_version, seconds_of
from tests.threaded_clock import EPOCH


def clock(now: float = EPOCH) -> Clock:
    """Make a clock that stands still."""
    made = Clock()
    made.rightNow = now
    return made


class VersionsTests(SynchronousTestCase):
    def test_newer(self) -> None:
        """Each version is newer than those before it, also while the clock stands still or goes back."""
        time = clock()
        versions = Versions(time)
        made = [versions.next(), versions.next()]
        time.rightNow -= 1000
        made.append(versions.next())
        time.rightNow += 2000
        made.append(versions.next())
        self.assertEqual(made, sorted(set(made)))
        self.assertTrue(all(map(is_version, made)))
        self.assertAlmostEqual(seconds_of(made[-1]), EPOCH + 1000, 3)

    def test_seen(self) -> None:
        """Who has seen a version makes newer ones, even if its clock is an hour behind."""
        ahead, behind = Versions(clock(EPOCH + 3600)), Versions(clock())
        behind.saw(ahead.next())
        self.assertGreater(behind.next(), ahead.next()[:17])

    def test_tie(self) -> None:
        """Two processes never make the same version; of two at one moment all say that the same one is newer."""
        one, other = Versions(clock(), 1), Versions(clock(), 2)
        self.assertLess(one.next(), other.next())
        self.assertNotEqual(Versions(clock()).next(), Versions(clock()).next())

    def test_at(self) -> None:
        """A change of some time ago has the version of then, but is newer than what it changes."""
        versions = Versions(clock())
        self.assertAlmostEqual(seconds_of(versions.at(EPOCH - 100)), EPOCH - 100, 3)
        before = versions.next()
        self.assertGreater(versions.at(EPOCH - 100, before), before)

    def test_form(self) -> None:
        """Versions are digits of one length; what is none, or leaves no room for a newer one, is refused."""
        good = Versions(clock()).next()
        self.assertRegex(good, "^[0-9]{27}$")
        for wrong in (
            "",
            good[1:],
            good + "0",
            "9" * 27,
            "-" + good[1:],
            good[:-1] + "x",
            good[:-1] + "\u0664",
            good + "\n",
        ):
            self.assertFalse(is_version(wrong), wrong)

    @given(st.floats(0, 1e10), st.integers(0, 10**10 - 1))
    def test_any_time(self, now: float, who: int) -> None:
        """That holds for any clock and any process."""
        versions = Versions(clock(now), who)
        self.assertTrue(is_version(versions.next()))
