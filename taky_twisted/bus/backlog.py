"""Words that wait to be told: a moment when Redis is there; within bounds, and not all of them, while it is away."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from taky_twisted.cot.types import is_protected
from taky_twisted.routing.words import Handed, Kick, Known, Present, Said, Word

WORD_BYTES = 200
"""About what a word takes beside the bytes of its events."""


def may_wait(word: Word) -> bool:
    """Tell whether a word is worth telling later too; comparing what nodes know makes up for the others."""
    return is_protected(word.event.type) if type(word) is Said else isinstance(word, Handed | Kick)


def size_of(word: Word) -> int:
    """Say about how many bytes a word takes."""
    if isinstance(word, Said | Handed):
        return WORD_BYTES + len(word.event.xml)
    if isinstance(word, Present):
        return WORD_BYTES + sum(len(event.xml) for event in word.reports)
    if isinstance(word, Known):
        return WORD_BYTES + sum(WORD_BYTES + len(getattr(record, "xml", b"")) for record in word.records)
    return WORD_BYTES


class Backlog:
    """Words in their order, with their size and since when they wait."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Word, int, float]] = deque()
        self.size = 0
        """About how many bytes they take."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, word: Word, now: float) -> None:
        """Add a word behind all others."""
        size = size_of(word)
        self._waiting.append((word, size, now))
        self.size += size

    def put_back(self, words: Sequence[Word], since: float) -> None:
        """Add words before all others; in their order, and waiting since then."""
        for word in reversed(words):
            size = size_of(word)
            self._waiting.appendleft((word, size, since))
            self.size += size

    def first_size(self) -> int:
        """Say about how many bytes the first word takes."""
        return self._waiting[0][1]

    def take(self) -> tuple[Word, float]:
        """Take the first word out; say since when it has waited."""
        word, size, since = self._waiting.popleft()
        self.size -= size
        return word, since

    def strip(self) -> int:
        """Drop what must not wait.

        Returns:
            How many words those were.
        """
        before = len(self._waiting)
        self._waiting = deque(each for each in self._waiting if may_wait(each[0]))
        self.size = sum(size for _, size, _ in self._waiting)
        return before - len(self._waiting)

    def overdue(self, since: float, limit: int) -> list[Word]:
        """Take out what has waited since then or longer, and the oldest as long as all take more bytes than allowed."""
        late = []
        while self._waiting and (self.size > limit or self._waiting[0][2] <= since):
            late.append(self.take()[0])
        return late
