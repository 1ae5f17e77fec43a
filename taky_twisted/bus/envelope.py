r"""One entry on the bus: who says it, its number, words as JSON, and behind that the bytes of events as they are.

::

    taky-bus 1 6b0f...c2 17\n      version, instance, number: stands even if the rest is unreadable
    {"node": {...}, "principals": [...], "speakers": [...], "words": [...]}\n
    <?xml ...?>\n<event ...>...</event><?xml ...

Whatever words have in common (who speaks, with which groups) is in a table that lasts for one batch. Fields and kinds
of words that are not known are passed over, so that two versions can share a bus during an upgrade; only a change that
an older version must not read at all raises the version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from json import JSONDecodeError, JSONEncoder, loads
from typing import Any, TypeVar, get_args

from taky_twisted.identity.principal import Principal
from taky_twisted.interfaces import Node
from taky_twisted.routing.words import Speaker, Word

from .errors import EnvelopeError, NewerBatch
from .fields import MAX_COUNT, PRINCIPAL, SKIP, SPEAKER, Write, by_fields, codec

T = TypeVar("T")

VERSION = 1
MAX_BATCH = 32 << 20
"""Bytes of a batch; only one with a single word comes near."""
MAX_HEADER = 2 << 20
"""Bytes of JSON in a batch."""
MAX_LINE = 200
"""Bytes of the first line."""
MAX_NAME = 200
"""Characters in the name and in the version of a node."""
MAX_COUNTS = 100
"""Numbers that a node tells of itself."""
MAX_TEXTS = MAX_HEADER // 2
"""Bytes of JSON in one word; the other half is for what stands beside it."""
MAX_SHARED = 128 << 10
"""Bytes of JSON of a speaker, or of a principal; a word needs three of them at most."""
MAX_BYTES = MAX_BATCH - 2 * MAX_HEADER
"""Bytes of the events of one word."""

_FIRST = re.compile(rb"taky-bus ([0-9]{1,9}) ([0-9a-zA-Z-]{1,64}) ([0-9]{1,18})")
_WORDS = {kind.__name__: by_fields(kind) for kind in get_args(Word)}
_TEXT, _FLOAT, _COUNTS = codec(str), codec(float), codec(int)
_json: Callable[[Any], str] = JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode


def first_words(instance: str) -> bytes:
    """Say what all batches of an instance begin with, in this version."""
    return b"taky-bus %d %b " % (VERSION, instance.encode("ascii"))


class Outgoing:
    """A batch that is being written."""

    def __init__(self, node: Node, number: int) -> None:
        """Start with nothing.

        Args:
            node: who tells.
            number: counts the batches of this instance up.
        """
        self.node, self.number = node, number
        self.words: list[Word] = []
        self.size = 0
        """Bytes that the words take so far."""
        self._told: list[str] = []
        self._bytes: list[bytes] = []
        self._end = 0
        self._principals, self._speakers = _Table(PRINCIPAL[0], self), _Table(SPEAKER[0], self)

    def add(self, word: Word) -> None:
        """Add a word.

        Raises:
            EnvelopeError: it cannot be told; the batch is as before.
        """
        kind = type(word).__name__
        count, end = len(self._bytes), self._end
        try:
            text = _json({"word": kind, **_WORDS[kind][0](word, self)})
            if len(text) > MAX_TEXTS or self._end - end > MAX_BYTES:
                raise EnvelopeError(f"{len(text)} bytes in texts and {self._end - end} in events are too much")
        except EnvelopeError:
            del self._bytes[count:]
            self._end = end
            raise
        self._told.append(text)
        self.words.append(word)
        self.size += self._end - end + len(text) + 1

    def finish(self, counts: Mapping[str, int] | None = None, bye: bool = False) -> bytes:
        """Write it all down.

        Args:
            counts: what the node counts of itself, if that is to be told now.
            bye: whether this is the last batch of this instance.
        """
        node = self.node
        about = {"name": node.name[:MAX_NAME], "version": node.version[:MAX_NAME], "started": node.started}
        parts = [f'{{"node":{_json(about)}']
        if counts is not None:
            counted = {key[:MAX_NAME]: int(value) for key, value in list(counts.items())[:MAX_COUNTS]}
            parts.append(f'"counts":{_json(counted)}')
        if bye:
            parts.append('"bye":true')
        if self._told:
            parts.append(f'"principals":{self._principals}')
            parts.append(f'"speakers":{self._speakers}')
            parts.append(f'"words":[{",".join(self._told)}]')
        header = ",".join(parts).encode("ascii")
        return b"".join([b"%b%d\n%b}\n" % (first_words(node.instance), self.number, header), *self._bytes])

    # Where fields.py puts what is no JSON

    def bytes_(self, data: bytes) -> list[int]:
        at = self._end
        self._bytes.append(data)
        self._end = at + len(data)
        return [at, len(data)]

    def speaker(self, speaker: Speaker) -> int:
        return self._speakers.place(speaker)

    def principal(self, principal: Principal) -> int:
        return self._principals.place(principal)


class _Table:
    """What words of one batch have in common, each written once."""

    def __init__(self, write: Write, batch: Outgoing) -> None:
        self._write, self._batch = write, batch
        # By identity: to compare what it holds would take longer than writing it. The thing is kept, so that no other
        # one can get its id.
        self._places: dict[int, tuple[int, object]] = {}
        self._texts: list[str] = []

    def place(self, value: object) -> int:
        """Say where a thing is in the table."""
        place = self._places.get(id(value))
        if place is None:
            text = _json(self._write(value, self._batch))
            if len(text) > MAX_SHARED:
                raise EnvelopeError(f"{len(text)} bytes are too much for a {type(value).__name__}")
            place = self._places[id(value)] = len(self._texts), value
            self._texts.append(text)
            self._batch.size += len(text) + 1
        return place[0]

    def __str__(self) -> str:
        return f"[{','.join(self._texts)}]"


class Incoming:
    """A batch that was read; its words are read one by one."""

    def __init__(self, instance: str, number: int, header: dict[str, Any], data: bytes, begin: int) -> None:
        """Read the tables.

        Args:
            instance: who tells.
            number: which of its batches this is.
            header: the JSON.
            data: all bytes.
            begin: where those begin that are no JSON.

        Raises:
            EnvelopeError: it cannot be read.
        """
        self.instance, self.number = instance, number
        self.unreadable = 0
        self.bye = header.get("bye") is True
        self.node = self._read_node(header)
        self._data = memoryview(data)
        self._begin = self._position = begin
        self._principals: list[Principal] = self._table(header, "principals", PRINCIPAL)
        self._speakers: list[Speaker] = self._table(header, "speakers", SPEAKER)
        self._words = _list(header, "words")

    def words(self) -> Iterator[Word]:
        """Read the words that this version knows, in their order.

        Raises:
            EnvelopeError: the rest cannot be read.
        """
        for told in self._words:
            kind = told.get("word") if type(told) is dict else None
            if type(kind) is not str:
                raise EnvelopeError("a word is of no kind")
            if kind in _WORDS:
                word = _WORDS[kind][1](told, self)
                if word is not SKIP:
                    yield word

    def _read_node(self, header: dict[str, Any]) -> Node:
        node, counts = header.get("node"), header.get("counts", {})
        if type(node) is not dict or type(counts) is not dict or len(counts) > MAX_COUNTS:
            raise EnvelopeError("nothing is said of the node")
        name, version = (_TEXT[1](node.get(key, ""), self)[:MAX_NAME] for key in ("name", "version"))
        counted = {key[:MAX_NAME]: _COUNTS[1](value, self) for key, value in counts.items()}
        return Node(self.instance, name, version, _FLOAT[1](node.get("started", 0.0), self), counted)

    def _table(self, header: dict[str, Any], name: str, part: Any) -> list[Any]:
        return [part[1](value, self) for value in _list(header, name)]

    # Where fields.py gets what is no JSON

    def bytes_(self, place: Any) -> bytes:
        if type(place) is not list or len(place) != 2 or type(place[0]) is not int or type(place[1]) is not int:
            raise EnvelopeError("not a place of bytes")
        at, count = self._begin + place[0], place[1]
        # Forward only: so nothing is copied twice, however often it is named.
        if count < 0 or at < self._position or at + count > len(self._data):
            raise EnvelopeError("bytes from a place where there are none")
        self._position = at + count
        return bytes(self._data[at : at + count])

    def speaker(self, number: Any) -> Speaker:
        return _nth(self._speakers, number)

    def principal(self, number: Any) -> Principal:
        return _nth(self._principals, number)


def sender_of(data: bytes) -> tuple[str, int]:
    """Say who wrote a batch, and which of its batches it is.

    Raises:
        NewerBatch: this version must not read it.
        EnvelopeError: it is no batch.
    """
    match = _FIRST.fullmatch(data, 0, _end_of_line(data, 0, MAX_LINE))
    if match is None:
        raise EnvelopeError("not a batch of words")
    if int(match[1]) != VERSION:
        raise NewerBatch(f"version {int(match[1])} of the bus, where this server speaks version {VERSION}")
    return match[2].decode("ascii"), int(match[3])


def open_batch(data: bytes) -> Incoming:
    """Read who wrote a batch, and find the words.

    Raises:
        NewerBatch: this version must not read it.
        EnvelopeError: it cannot be read.
    """
    instance, number = sender_of(data)
    begin = data.index(b"\n") + 1
    if len(data) > MAX_BATCH:
        raise EnvelopeError(f"{len(data)} bytes are too much for one batch")
    end = _end_of_line(data, begin, MAX_HEADER)
    try:
        header = loads(data[begin:end].decode("ascii"))
    except (UnicodeDecodeError, JSONDecodeError, RecursionError) as error:
        raise EnvelopeError(f"not JSON: {error}") from error
    except ValueError as error:  # a number with thousands of digits
        raise EnvelopeError(f"not JSON that we read: {error}") from error
    if type(header) is not dict:
        raise EnvelopeError("no JSON object")
    return Incoming(instance, number, header, data, end + 1)


def _end_of_line(data: bytes, begin: int, limit: int) -> int:
    end = data.find(b"\n", begin, begin + limit + 1)
    if end < 0:
        raise EnvelopeError(f"no end of the line within {limit} bytes")
    return end


def _list(header: dict[str, Any], name: str) -> list[Any]:
    values = header.get(name, [])
    if type(values) is not list or len(values) > MAX_COUNT:
        raise EnvelopeError(f"no list of {name}, or too long a one")
    return values


def _nth(table: list[T], number: Any) -> T:
    if type(number) is not int or not 0 <= number < len(table):
        raise EnvelopeError("a place that the table does not have")
    return table[number]
