"""Who has heard what: lost, doubled, out of order, and how late. Pure; it only sees marks.

The part that runs for each delivered event is one list look-up and one comparison, so that the generator can keep up
with the server that it measures.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable

from .events import KEY_BYTES, NUMBER_END

NOT_OWED = 1 << 60
"""Stands where a receiver hears nothing of a stream."""
MAX_LATENCIES = 2_000_000
MAX_ORIGINALS = 512
ORIGINAL_EVERY = 64
"""Of each stream one event of so many is compared byte for byte."""


class Tally:
    """The next number that each receiver is owed of each stream."""

    def __init__(self, receivers: int) -> None:
        self._receivers = receivers
        self._rows: dict[bytes, list[int]] = {}
        self._bases: dict[tuple[bytes, int], int] = {}
        self._missing: dict[tuple[bytes, int], set[int]] = {}
        self.sent: dict[bytes, int] = {}
        """How many events each stream has."""
        self.originals: dict[bytes, bytes] = {}
        """Some of what was said, by stream and number as they stand in its mark."""
        self.repeated: set[bytes] = set()
        """Streams that are not counted, because the server says them again and again."""
        self.latencies = array("q")
        """Nanoseconds from sender to receiver."""
        self.delivered = 0
        self.duplicated = 0
        self.reordered = 0
        self.unexpected = 0
        """Events that came to somebody who should not hear them, such as their sender."""
        self.altered = 0
        """Of those that were compared, how many did not arrive as they were said."""

    def open(self, key: bytes, receivers: Iterable[int]) -> None:
        """Begin a stream that these receivers hear."""
        row = self._rows[key] = [NOT_OWED] * self._receivers
        for receiver in receivers:
            row[receiver] = 0
        self.sent[key] = 0

    def say(self, key: bytes, document: bytes | None = None) -> None:
        """Count one more event of a stream; now and then keep it to be compared."""
        number = self.sent[key]
        self.sent[key] = number + 1
        if document is not None and number % ORIGINAL_EVERY == 0:
            if len(self.originals) >= MAX_ORIGINALS:
                del self.originals[next(iter(self.originals))]
            self.originals[b"%s %08d" % (key, number)] = document

    def hear(self, receiver: int, marks: list[bytes]) -> None:
        """Note what one receiver got, in order."""
        rows = self._rows
        self.delivered += len(marks)
        for mark in marks:
            row = rows.get(mark[:KEY_BYTES])
            number = int(mark[KEY_BYTES + 1 : NUMBER_END])
            if row is not None and row[receiver] == number:
                row[receiver] = number + 1
            else:
                self._odd(receiver, mark[:KEY_BYTES], number)

    def time(self, marks: list[bytes], now: int) -> None:
        """Note how long these were under way; now in nanoseconds."""
        if len(self.latencies) < MAX_LATENCIES:
            self.latencies.extend([now - int(mark[NUMBER_END + 1 :]) for mark in marks])

    def compare(self, marks: list[bytes], holds: Callable[[bytes], bool]) -> None:
        """Look whether those that were kept are in what was read."""
        originals = self.originals
        for mark in marks:
            original = originals.get(mark[:NUMBER_END])
            if original is not None and not holds(original):
                self.altered += 1

    def heard_by_all(self, key: bytes) -> int:
        """How many events of a stream all its receivers have."""
        return min(min(self._rows[key]), self.sent[key])

    def complete(self) -> bool:
        """Whether everything has arrived."""
        return all(self.heard_by_all(key) == sent for key, sent in self.sent.items())

    def join(self, receiver: int, keys: Iterable[bytes]) -> None:
        """Owe a receiver what is said from now on; what it hears of earlier events is no mistake."""
        for key in keys:
            self._rows[key][receiver] = self._bases[key, receiver] = self.sent[key]
            self._missing.pop((key, receiver), None)

    def leave(self, receiver: int) -> None:
        """Owe a receiver nothing any more; what it had not got by then is forgiven."""
        for row in self._rows.values():
            row[receiver] = NOT_OWED

    def give_up(self) -> None:
        """Count everything that is under way as lost, so that its senders may go on."""
        for key, row in self._rows.items():
            for receiver, number in enumerate(row):
                if number < self.sent[key]:
                    self._missing.setdefault((key, receiver), set()).update(range(number, self.sent[key]))
                    row[receiver] = self.sent[key]

    @property
    def lost(self) -> int:
        """Events that have not come, by now."""
        under_way = sum(
            self.sent[key] - number for key, row in self._rows.items() for number in row if number < self.sent[key]
        )
        return under_way + sum(len(numbers) for numbers in self._missing.values())

    def forget_latencies(self) -> None:
        """Begin to measure."""
        del self.latencies[:]

    def latency_ms(self) -> dict[str, float]:
        """Say how late events were: half of them, all but a hundredth, and the last."""
        if not self.latencies:
            return {}
        ordered = sorted(self.latencies)
        return {
            f"{name}_ms": ordered[min(int(len(ordered) * part), len(ordered) - 1)] / 1e6
            for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1))
        }

    def _odd(self, receiver: int, key: bytes, number: int) -> None:
        row = self._rows.get(key)
        owed = NOT_OWED if row is None else row[receiver]
        missing = self._missing.get((key, receiver), set())
        if row is None or owed == NOT_OWED:
            self.unexpected += key not in self.repeated
            self.delivered -= 1
        elif number > owed:
            missing.update(range(owed, number))
            self._missing[key, receiver] = missing
            row[receiver] = number + 1
        elif number in missing:
            missing.discard(number)
            self.reordered += 1
        else:
            self.delivered -= 1
            self.duplicated += number >= self._bases.get((key, receiver), 0)
