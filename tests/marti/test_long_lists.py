from __future__ import annotations

import json
from collections.abc import Iterator

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.errors import TooMany
from taky_twisted.marti.long_lists import PIECE, bare_list, enveloped_list, listed
from taky_twisted.marti.replies import Envelope


class LongListTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sizes: list[int] = []

    def test_short(self) -> None:
        """A short list is there at once; it looks as any JSON of ours."""
        for entries in ([], [1], [{"a": "ü"}, [None, True]], list(range(PIECE - 1))):
            text = self.successResultOf(Deferred.fromCoroutine(listed(self.clock, self.sizes.append, entries)))
            self.assertEqual(text, json.dumps(entries, ensure_ascii=False, separators=(",", ":")))

    def test_long(self) -> None:
        """A long one lets others do their work in between, and asks for entries only when their turn comes."""
        asked = []

        def entries() -> Iterator[int]:
            for number in range(2 * PIECE + 1):
                asked.append(number)
                yield number

        waiting = Deferred.fromCoroutine(listed(self.clock, self.sizes.append, entries()))
        self.assertNoResult(waiting)
        self.assertEqual(len(asked), PIECE)
        self.clock.advance(0)
        self.assertEqual(json.loads(self.successResultOf(waiting)), list(range(2 * PIECE + 1)))

    def test_counted(self) -> None:
        """What a list holds is counted while it grows; one that would be too much grows no further."""
        waiting = Deferred.fromCoroutine(listed(self.clock, self.sizes.append, [1] * (2 * PIECE)))
        self.assertEqual(self.sizes, [2 * PIECE - 1])
        self.clock.advance(0)
        self.clock.advance(0)
        self.successResultOf(waiting)
        self.assertEqual(self.sizes, [2 * PIECE - 1, 4 * PIECE - 2])

        def hold(_: int) -> None:
            raise TooMany("enough")

        refused = Deferred.fromCoroutine(listed(self.clock, hold, [1] * (2 * PIECE)))
        self.failureResultOf(refused, TooMany)

    def test_exactly_one_piece(self) -> None:
        """Where the end of a list is the end of a piece nothing is added."""
        waiting = Deferred.fromCoroutine(listed(self.clock, self.sizes.append, range(PIECE)))
        self.clock.advance(0)
        self.assertEqual(json.loads(self.successResultOf(waiting)), list(range(PIECE)))

    def test_nobody_waits(self) -> None:
        """Who has gone in the meantime leaves nothing running."""
        waiting = Deferred.fromCoroutine(listed(self.clock, self.sizes.append, range(10 * PIECE)))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_replies(self) -> None:
        """The list comes bare or in the same envelope as everything else."""
        bare = self.successResultOf(Deferred.fromCoroutine(bare_list(self.clock, self.sizes.append, ["a\ud800"])))
        self.assertEqual((bare.body, bare.content_type, bare.status), (b'["a?"]', "application/json", 200))
        coroutine = enveloped_list(self.clock, self.sizes.append, "T", [{"a": 1}], "id")
        reply = self.successResultOf(Deferred.fromCoroutine(coroutine))
        self.assertEqual(reply, Envelope("T", [{"a": 1}]).reply("id"))
