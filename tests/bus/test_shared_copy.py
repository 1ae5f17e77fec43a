from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.shared_copy import Base, Kind, SharedCopy, Verdict, digest_of
from taky_twisted.bus.versions import Versions
from taky_twisted.records import Synced
from taky_twisted.stores.memory import MemoryStore
from tests.threaded_clock import EPOCH

PLACE = ("plain", "a")


class SharedCopyTests(SynchronousTestCase):
    """What is decided; what comes of it is tested with `SharedLog`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = EPOCH
        self.store = MemoryStore(self.clock)
        self.copy = SharedCopy(self.store, Versions(self.clock, 1))
        self.current: dict[str, bytes] = {}
        self.kind = Kind("plain", lambda payloads: (), lambda: self.current)

    def old(self, seconds: float = 60) -> str:
        """Make a version of some time ago."""
        return Versions(self.clock, 2).at(EPOCH - seconds)

    def kept(self) -> list[Synced]:
        """List what would survive a restart."""
        return self.successResultOf(self.store.open()).synced

    def test_verdict(self) -> None:
        """A version is known, newer than what is known, or shows that Redis has lost something."""
        self.assertIs(self.copy.verdict(PLACE, self.old()), Verdict.NEWER)
        self.copy.agreed(PLACE, self.old(), b"1")
        self.assertIs(self.copy.verdict(PLACE, self.old()), Verdict.KNOWN)
        self.assertIs(self.copy.verdict(PLACE, self.old(59)), Verdict.NEWER)
        self.assertIs(self.copy.verdict(PLACE, self.old(61)), Verdict.LOST)

    def test_agreed(self) -> None:
        """What was agreed on survives a restart; something older does not replace it."""
        self.copy.agreed(PLACE, self.old(), b"1")
        self.copy.agreed(PLACE, self.old(61), b"0")
        self.assertEqual(self.kept(), [Synced("plain", "a", self.old(), digest_of(b"1"))])
        again = SharedCopy(self.store, Versions(self.clock, 3))
        again.restore(self.kept())
        self.assertEqual(again.base(PLACE), Base(self.old(), digest_of(b"1")))
        self.assertTrue(again.has(PLACE, b"1"))
        self.assertFalse(again.has(PLACE, None))
        self.assertFalse(again.has(("plain", "b"), None))

    def test_put(self) -> None:
        """Only a change is told, in its newest state; what came and went before anybody heard of it is not."""
        self.copy.agreed(PLACE, self.old(), b"1")
        self.assertFalse(self.copy.put(self.kind, "a", b"1"))
        self.assertTrue(self.copy.put(self.kind, "a", b"2"))
        self.assertFalse(self.copy.put(self.kind, "a", b"2"))
        self.assertTrue(self.copy.put(self.kind, "a", None))
        self.assertEqual([(change.payload) for change, _ in self.copy.batch(9, 99)], [None])
        self.assertFalse(self.copy.put(self.kind, "b", None))
        self.copy.put(self.kind, "b", b"1")
        self.assertTrue(self.copy.put(self.kind, "b", None))
        self.assertEqual(set(self.copy.pending), {PLACE})

    def test_batch(self) -> None:
        """Batches have a number of changes, and a size, but never none."""
        for number in range(5):
            self.copy.put(self.kind, str(number), b"x" * 10)
        self.assertEqual(len(self.copy.batch(3, 1000)), 3)
        self.assertEqual(len(self.copy.batch(9, 22)), 2)
        self.assertEqual(len(self.copy.batch(9, 1)), 1)
        self.assertEqual(len(self.copy.batch(9, 1000)), 5)

    def test_told(self) -> None:
        """A change that was told is done, unless there is a newer one by now."""
        self.copy.put(self.kind, "a", b"1")
        ((change, pending),) = self.copy.batch(1, 10)
        self.copy.put(self.kind, "a", b"2")
        self.copy.told(change, pending)
        self.assertEqual(self.copy.base(PLACE), Base(change.version, digest_of(b"1")))
        self.assertEqual(self.copy.pending[PLACE].payload, b"2")
        ((change, pending),) = self.copy.batch(1, 10)
        self.copy.told(change, pending)
        self.assertEqual(self.copy.pending, {})

    def test_insist(self) -> None:
        """What Redis refuses for something unreadable is told as newer than that; something newer of ours stays."""
        self.copy.put(self.kind, "a", b"1")
        ((change, pending),) = self.copy.batch(1, 10)
        there = Versions(self.clock, 2).at(EPOCH + 1000)
        self.copy.insist(PLACE, pending, there)
        self.assertGreater(self.copy.pending[PLACE].version, there)
        self.copy.insist(PLACE, pending, "")
        self.copy.put(self.kind, "a", b"2")
        before = self.copy.pending[PLACE].version
        self.copy.insist(PLACE, pending, there)
        self.assertEqual(self.copy.pending[PLACE].version, before)
        ours = self.copy.pending[PLACE]
        ours.tried, ours.new = (before,), True
        self.copy.insist(PLACE, ours, before)
        self.assertEqual((ours.version, ours.new), (before, False))
        self.assertEqual(change.payload, b"1")

    def test_again(self) -> None:
        """What Redis has lost is told as it was, and if it has changed since, as a change."""
        self.copy.again(self.kind, "a", b"1")
        self.assertEqual(self.copy.pending, {})
        self.copy.agreed(PLACE, self.old(), b"1")
        self.copy.again(self.kind, "a", b"1")
        self.assertEqual(self.copy.pending[PLACE].version, self.old())
        self.copy.again(self.kind, "a", b"2")
        self.assertEqual(self.copy.pending.pop(PLACE).payload, b"1")
        self.copy.again(self.kind, "a", b"2")
        self.assertGreater(self.copy.pending[PLACE].version, self.old())

    def test_forget(self) -> None:
        """Of what was removed long ago some is forgotten at a time."""
        for number in range(3):
            self.copy.agreed(("plain", str(number)), self.old(100), None)
        self.copy.agreed(("plain", "late"), self.old(1), None)
        self.copy.agreed(("plain", "there"), self.old(100), b"1")
        self.assertEqual(len(self.copy.forget(EPOCH - 50, 2)), 2)
        self.assertEqual(len(self.copy.forget(EPOCH - 50, 2)), 1)
        self.assertEqual({record.name for record in self.kept()}, {"late", "there"})
