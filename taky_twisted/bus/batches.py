"""Batches that have a number: the one that is on its way, and those that may have to be told again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from taky_twisted.routing.words import Word

RECENT_SECONDS = 1.0
"""How long a batch is remembered that Redis has taken: if Redis crashes in that moment, not all nodes have read it."""
RECENT_BYTES = 1 << 19
"""How many bytes of them."""


@dataclass(slots=True, eq=False)
class Batch:
    """Words that were written down together."""

    data: bytes
    words: list[Word]
    number: int
    since: float
    """When its first word was told."""
    bye: bool
    """Whether it is the last one."""
    maybe_there: bool = False
    """Whether Redis may have it: then it must be sent again as it is, with its number."""
    taken: bool = False
    """Whether Redis has said that it has it."""


class Batches:
    """What is to be sent, in order; each waits until those before it are there."""

    def __init__(self) -> None:
        self._pending: deque[Batch] = deque()
        self._recent: deque[tuple[float, Batch]] = deque()
        self._recent_size = 0
        self.size = 0
        """Bytes that are to be sent."""

    @property
    def first(self) -> Batch | None:
        """The one that is to be sent now."""
        return self._pending[0] if self._pending else None

    def put(self, batch: Batch) -> None:
        """Add a new one."""
        self._pending.append(batch)
        self.size += len(batch.data)

    def take_back(self) -> Batch:
        """Take the newest one out: nobody has seen it."""
        batch = self._pending.pop()
        self.size -= len(batch.data)
        return batch

    def sent(self, now: float) -> None:
        """Note that Redis has the first one."""
        batch = self._pop()
        batch.taken = batch.maybe_there = True
        self._recent.append((now, batch))
        self._recent_size += len(batch.data)
        while self._recent[0][0] < now - RECENT_SECONDS or (self._recent_size > RECENT_BYTES and len(self._recent) > 1):
            self._recent_size -= len(self._recent.popleft()[1].data)

    def send_again(self) -> None:
        """Send those again that Redis has taken not long before it was gone; who has heard them does not count them."""
        while self._recent:
            _, batch = self._recent.pop()
            self._pending.appendleft(batch)
            self.size += len(batch.data)
        self._recent_size = 0

    def overdue(self, since: float, limit: int) -> list[Batch]:
        """Take out what was told then or earlier, and the oldest as long as all take more bytes than allowed."""
        late = []
        while self._pending and (self.size > limit or self._pending[0].since <= since):
            late.append(self._pop())
        return late

    def clear(self) -> list[Batch]:
        """Take everything out that is to be sent."""
        return [self._pop() for _ in range(len(self._pending))]

    def _pop(self) -> Batch:
        batch = self._pending.popleft()
        self.size -= len(batch.data)
        return batch
