"""Tests for `taky_twisted.routing.kept`."""

from __future__ import annotations

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import PROLOG
from taky_twisted.routing.kept import kept_event
from taky_twisted.routing.records import Item
from tests.fakes import LogLines
from tests.samples import NOW, marker


class KeptEventTests(SynchronousTestCase):
    def item(self, xml: bytes) -> Item:
        """Make a record."""
        return Item("M", "a-h-G", xml, frozenset({"g"}), NOW, NOW + 1, NOW + 1)

    def test_event(self) -> None:
        """What was kept is read again."""
        event = kept_event(self.item(PROLOG + marker("M")))
        assert event is not None
        self.assertEqual((event.uid, event.xml), ("M", PROLOG + marker("M")))

    def test_unreadable(self) -> None:
        """What cannot be read is left out, and an operator is told which it is."""
        lines = LogLines(self)
        self.assertIsNone(kept_event(self.item(b"garbage")))
        (line,) = lines(LogLevel.warn)
        self.assertIn("Item M in the store cannot be read and is left out", line)
