from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.trimming import KEPT_SECONDS, MAX_OWN_BYTES, Trimming, parse_id

NOW = 1_700_000_000_000
MIB = 1 << 20


class TrimmingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.trimming = Trimming()

    def add(self, milliseconds: int, size: int = 100, number: int = 0) -> bool:
        """Have an entry added."""
        return self.trimming.added(b"%d-%d" % (NOW + milliseconds, number), size)

    def oldest(self) -> tuple[int, int] | None:
        """Say what is kept: from which millisecond and number on; None if everything is."""
        arguments = self.trimming.arguments()
        if not arguments:
            return None
        self.assertEqual(arguments[:2], ("MINID", "~"))
        milliseconds, number = parse_id(arguments[2].encode())
        return milliseconds - NOW, number

    def test_time(self) -> None:
        """Half a minute is kept, by the time of Redis; nothing goes before that is known."""
        self.assertIsNone(self.oldest())
        self.add(0)
        self.assertEqual(self.oldest(), (-KEPT_SECONDS * 1000, 0))
        self.add(60_000)
        self.assertEqual(self.oldest(), (30_000, 0))

    def test_size(self) -> None:
        """Of one node's own entries only so many bytes are kept, down to the last one."""
        for at in range(32):
            self.add(at, MIB)
        self.assertEqual(self.oldest(), (31 - KEPT_SECONDS * 1000, 0))
        self.add(31, MIB, number=1)
        self.assertEqual(self.oldest(), (1, 0))
        self.add(32, MAX_OWN_BYTES + 1)
        self.assertEqual(self.oldest(), (32, 0))

    def test_old_ones_do_not_count(self) -> None:
        """What has gone by its age leaves room."""
        for at in range(31):
            self.add(at, MIB)
        self.add(40_000, MIB)
        for at in range(20):
            self.add(40_001 + at, MIB)
        self.assertEqual(self.oldest(), (10_020, 0))

    def test_begun_anew(self) -> None:
        """An id that is before the last one belongs to another stream, where nothing of ours is known."""
        self.add(0, 20 * MIB)
        self.assertTrue(self.add(-86_400_000, 20 * MIB))
        self.assertEqual(self.oldest(), (-86_400_000 - KEPT_SECONDS * 1000, 0))
        self.assertFalse(self.add(-86_399_999, MIB))

    def test_another_clock(self) -> None:
        """After a reconnect nothing goes until Redis has said what time it is there."""
        self.add(0)
        self.trimming.forget()
        self.assertIsNone(self.oldest())
        self.add(1)
        self.assertIsNotNone(self.oldest())

    def test_early(self) -> None:
        """A Redis whose clock begins at zero is no trouble."""
        self.trimming.added(b"5-0", 1)
        self.assertEqual(self.trimming.arguments(), ())
