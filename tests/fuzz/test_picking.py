from __future__ import annotations

import contextlib

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.times import parse_time
from tests.fuzz.picking import pick
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    parse_time.cache_clear()
    with contextlib.suppress(MalformedEvent):
        parse_time(data.decode("latin-1"))


class PickTests(SynchronousTestCase):
    def test_smallest(self) -> None:
        """Of inputs that reach the same the smallest is taken, and none that reaches nothing new."""
        sent, offset = b"2026-03-01T10:00:00.000Z", b"2026-03-01T10:00:00+01:00"
        inputs = [b"garbage", b"x", sent, offset, b"2026-03-01T11:00:00+02:00 ", b""]
        self.assertEqual(set(pick(Target(run), inputs, [])), {b"", sent, offset})
        self.assertEqual(pick(Target(run), inputs, [b"junk", sent]), [offset])
        self.assertEqual(len(pick(Target(run), inputs, [], most=1)), 1)
