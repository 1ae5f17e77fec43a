from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.history.records import HistoryError, Query
from tests.fakes import principal


class QueryTests(SynchronousTestCase):
    def test_of(self) -> None:
        """Whoever asks sees what his groups and his name let him see; what is not said is not restricted."""
        query = Query.of(principal("alice", ["red"], ["red", "blue"]), start=None, end=7.0, uids=("A",))
        self.assertEqual((query.groups_out, query.reader), ({"red", "blue"}, "alice"))
        self.assertEqual((query.start, query.end, query.uids, query.types), (-inf, 7.0, ("A",), ()))

    def test_error(self) -> None:
        """What goes wrong says also what an operator can do."""
        error = HistoryError("the disk is full", "Make room.")
        self.assertEqual(
            (str(error), error.reason, error.advice), ("the disk is full", "the disk is full", "Make room.")
        )
