"""How much of the stream is kept: half a minute, and of one node's batches no more than so many bytes.

Times are those that Redis gives entries: its clock and ours need not agree.
"""

from __future__ import annotations

from collections import deque

KEPT_SECONDS = 30
"""How long a batch can be read: who was away for longer than that asks for what it missed."""
MAX_OWN_BYTES = 32 << 20
"""Bytes of this node's own batches that are kept at most."""

Id = tuple[int, int]
"""An entry's, as Redis makes it: milliseconds, and a number that tells entries of one millisecond apart."""


def parse_id(data: bytes) -> Id:
    """Read the id of an entry."""
    milliseconds, _, number = data.partition(b"-")
    return int(milliseconds), int(number)


class Trimming:
    """Remembers this node's entries, and says what of the stream can go."""

    def __init__(self) -> None:
        self._own: deque[tuple[Id, int]] = deque()
        self._size = 0
        self._last: Id | None = None
        self._floor: Id = (0, 0)
        self._is_certain = False

    def arguments(self) -> tuple[str, ...]:
        """Say what XADD is told of this."""
        if self._last is None or not self._is_certain:
            return ()
        milliseconds, number = max(self._floor, (self._last[0] - KEPT_SECONDS * 1000, 0))
        return ("MINID", "~", f"{milliseconds}-{number}") if milliseconds > 0 else ()

    def added(self, id_: bytes, size: int) -> bool:
        """Note that an entry of this node is there.

        Returns:
            Whether its id is before that of the entry before: then this is another stream.
        """
        new = parse_id(id_)
        begun_anew = self._last is not None and new < self._last
        if begun_anew:
            self._own.clear()
            self._size, self._floor = 0, (0, 0)
        self._last, self._is_certain = new, True
        self._own.append((new, size))
        self._size += size
        while self._size > MAX_OWN_BYTES and len(self._own) > 1:
            self._size -= self._own.popleft()[1]
            self._floor = self._own[0][0]
        while self._own[0][0][0] < new[0] - KEPT_SECONDS * 1000:
            self._size -= self._own.popleft()[1]
        return begun_anew

    def forget(self) -> None:
        """Let nothing go before Redis has said what time it is: it may be another one, with another clock."""
        self._is_certain = False
