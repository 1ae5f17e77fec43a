from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.backlog import WORD_BYTES, Backlog, may_wait, size_of
from taky_twisted.routing.words import Ask, Handed, Known, Present, Said, Word
from tests.bus.ear import CHAT, REPORT, SPEAKER, kick, left, said
from tests.routing.test_records import RECORDS
from tests.samples import delete, event, marker


class BacklogTests(SynchronousTestCase):
    def test_may_wait(self) -> None:
        """Chat, deletes, what is handed over and kicks wait for Redis; what can be asked for again does not."""
        waiting: list[Word] = [
            said(True),
            Said(SPEAKER, event(delete("X"))),
            Handed("i", 1, "u", REPORT, frozenset()),
            kick(1),
        ]
        others: list[Word] = [
            said(),
            Said(SPEAKER, event(marker())),
            left(1),
            Ask(""),
            Known(()),
            Present(SPEAKER, False, ()),
        ]
        self.assertEqual([may_wait(word) for word in waiting], [True] * 4)
        self.assertEqual([may_wait(word) for word in others], [False] * 6)

    def test_sizes(self) -> None:
        """Events count with their bytes, wherever they are."""
        size = len(REPORT.xml) + WORD_BYTES
        self.assertEqual(size_of(said()), size)
        self.assertEqual(size_of(Handed("i", 1, "u", REPORT, frozenset())), size)
        self.assertEqual(size_of(Present(SPEAKER, True, (REPORT, REPORT))), 2 * size - WORD_BYTES)
        self.assertEqual(size_of(left(1)), WORD_BYTES)
        records = tuple(RECORDS)
        contents = sum(len(getattr(record, "xml", b"")) for record in records)
        self.assertEqual(size_of(Known(records)), WORD_BYTES * (1 + len(records)) + contents)

    def test_order(self) -> None:
        """First in, first out; what is put back comes first, in its order."""
        backlog = Backlog()
        backlog.put(left(3), 10.0)
        backlog.put(left(4), 11.0)
        backlog.put_back([left(1), left(2)], 9.0)
        self.assertEqual((len(backlog), backlog.size, backlog.first_size()), (4, 4 * WORD_BYTES, WORD_BYTES))
        taken = [backlog.take() for _ in range(4)]
        self.assertEqual(taken, [(left(1), 9.0), (left(2), 9.0), (left(3), 10.0), (left(4), 11.0)])
        self.assertEqual((len(backlog), backlog.size), (0, 0))

    def test_strip(self) -> None:
        """Only what may wait is left."""
        backlog = Backlog()
        for word in (left(1), kick(2), said(), said(True)):
            backlog.put(word, 1.0)
        self.assertEqual(backlog.strip(), 2)
        self.assertEqual(backlog.size, size_of(kick(2)) + size_of(said(True)))
        self.assertEqual([backlog.take()[0] for _ in range(2)], [kick(2), Said(SPEAKER, CHAT)])

    def test_overdue(self) -> None:
        """The oldest goes when it has waited too long, or takes too much room: exactly as much as needed."""
        backlog = Backlog()
        for number in range(6):
            backlog.put(kick(number), float(number))
        self.assertEqual(backlog.overdue(1.0, 1 << 20), [kick(0), kick(1)])
        self.assertEqual(backlog.overdue(1.0, 4 * WORD_BYTES), [])
        self.assertEqual(backlog.overdue(1.0, 4 * WORD_BYTES - 1), [kick(2)])
        self.assertEqual(backlog.overdue(9.0, 1 << 20), [kick(3), kick(4), kick(5)])
        self.assertEqual(backlog.overdue(9.0, 0), [])
