"""TAK protocol 0: where one XML document of a stream begins and ends.

A document ends at the first ``</event>`` outside CDATA and comments (ATAK-CIV
``commoncommo/core/impl/protobuf/protocol.txt``; TAK Server ``nio/protocol/connections/StreamingCotProtocol.java``
looks for the bare token), or with its first tag if that is an empty one. Depth is not counted, because that would
swallow what follows a malformed event. Everything between documents is skipped: prologs, byte order marks, blanks,
comments, processing instructions, other elements. What is skipped until a terminator (a comment, CDATA, another
element) also ends where, behind an ``</event>``, the next document obviously starts: an unterminated one must not
swallow the stream.

The framer looks at each byte about once however the network cuts the stream, and gives the same documents for every
cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from .errors import RemoteProtocolError

_SAMPLE = 512
"""Bytes of something unreadable that are kept for the log."""
_NAME_LIMIT = 256
"""Bytes of a tag's name; longer is garbage."""
_LOOK_BACK = _NAME_LIMIT + 20
"""Bytes at the end of what was searched that may be the beginning of a token."""

_BLANKS = rb"[ \t\r\n]{0,16}"
_PLAIN_START = re.compile(rb"(?:\xef\xbb\xbf|[ \t\r\n]|<\?xml [^<>]{0,200}\?>)*<(event|auth)[ \t\r\n/>]")
_TOP = re.compile(rb"<(?:(!--)|(\?)|(!)|(/)|([A-Za-z_:\x80-\xff][^\s<>/]{0,255})[\s<>/])")
_DECLARATION_STEP = re.compile(rb"[\[<>]")
_CDATA_START = b"<![CDATA["
_TAG_STEP = {b"": re.compile(rb"[<>\"']"), b'"': re.compile(rb'[<"]'), b"'": re.compile(rb"[<']")}
"""What decides inside a tag, by the quote that is open; ``<`` stands in none."""
_INSIDE = {
    b"event": re.compile(rb"(</event" + _BLANKS + rb">)|<!--|<!\[CDATA\["),
    # No event stands in an <auth>: where one starts, the <auth> has lost its end.
    b"auth": re.compile(rb"(</auth" + _BLANKS + rb">)|(?=<\?xml |<event )()|<!--|<!\[CDATA\["),
}
_OVER = {
    b"event": re.compile(rb"</event" + _BLANKS + rb">"),
    b"auth": re.compile(rb"</auth" + _BLANKS + rb">|(?=<\?xml |<event )"),
}
"""Where an oversize document is over, whatever it is inside of."""


def _section(end: bytes) -> re.Pattern[bytes]:
    """Step through something that ends at ``end`` (group 2): the ends of events (1) and starts of documents."""
    return re.compile(rb"(</event" + _BLANKS + rb">)|(" + end + rb")|<\?xml |<event ")


_COMMENT = _section(rb"-->")
_CDATA = _section(rb"\]\]>")
_INSTRUCTION = _section(rb"\?>")
_SUBSET = _section(rb"\]" + _BLANKS + rb">")
_ELEMENT = re.compile(rb"(</event" + _BLANKS + rb">)|</([^\s<>/]{1,256})" + _BLANKS + rb">|<\?xml |<event ")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something on the stream that is not passed on."""

    reason: str
    data: bytes
    """Its beginning, or all of it; nothing where it may hold a password."""


class _State(Enum):
    TOP = "between documents"
    DOCUMENT = "inside a document"
    SKIPPING = "inside something else, until its end"
    OVERSIZE = "inside a document that is too large"


_Step = bytes | Unreadable | Literal[True] | None
"""A frame, or True when there may be more in the buffer, or None when more bytes are needed."""


class XMLFraming:
    """Cut documents off the front of a buffer that the caller owns.

    ``next_frame`` returns a document (bytes from ``<event`` or ``<auth`` to the end of its end tag), or what was
    unreadable, or None until more bytes come.
    """

    def __init__(self, limit: int, first_limit: int) -> None:
        """Start with the small limit, for a peer that said nothing valid yet.

        Args:
            limit: bytes in one document.
            first_limit: bytes in all until `trust` is called, and not over ``limit``; over it the stream is given up.
        """
        self._limit = limit
        self._first_limit: int | None = min(first_limit, limit)
        self._skipped = 0  # bytes taken off the buffer before the first valid event
        self._state = _State.TOP
        self._name = b""  # of the document that we are in
        self._refused = ""  # why the next document is not passed on
        self._in_tag = False  # whether the document's first tag is not over yet
        self._tag_at = 1  # bytes of the tag at the front that are looked at
        self._quote = b""  # the quote that is open there
        self._searched = 0  # bytes of the buffer that need no second look
        self._until: re.Pattern[bytes] | None = None  # what steps through the comment, CDATA or element that we are in
        self._element = b""  # the name of that element
        self._saw_end = False  # whether an </event> stood in it

    def trust(self) -> None:
        """Allow whole-sized documents: the peer has sent a valid event."""
        self._first_limit = None

    def next_frame(self, buffer: bytearray) -> bytes | Unreadable | None:
        """Take one document off the front.

        Raises:
            RemoteProtocolError: over the first limit and nothing valid yet.
        """
        while buffer:
            if self._state is _State.DOCUMENT:
                return self._in_document(buffer)
            if self._state is _State.TOP:
                if self._first_limit is None and (document := self._plain_document(buffer)):
                    return document
                step = self._at_top(buffer)
            elif self._state is _State.SKIPPING:
                step = self._skip(buffer)
            else:
                step = self._skip_oversize(buffer)
            if step is not True:
                return step
        return None

    def _plain_document(self, buffer: bytearray) -> bytes | None:
        """Take a document that is there whole and needs no closer look off the front: most are like that."""
        match = _PLAIN_START.match(buffer)
        if match is None or match[1] != b"event" or self._refused:
            return None
        start = match.start(1) - 1
        tag = buffer.find(b">", start)
        double, single = buffer.count(b'"', start, tag), buffer.count(b"'", start, tag)
        # Where only one kind of quotes stands, or none, counting tells whether one is open.
        if tag < 0 or buffer[tag - 1] == 0x2F or (double | single) & 1 or (double and single):
            return None
        end = buffer.find(b"</event", start) + len(b"</event>")
        if not buffer.endswith(b"</event>", start, end) or end - start > self._limit:
            return None
        if buffer.find(b"<!", start, end) >= 0:
            return None
        document = bytes(buffer[start:end])
        del buffer[:end]
        return document

    def _to_top(self) -> None:
        self._state = _State.TOP
        self._until = None
        self._tag_at, self._quote = 1, b""
        self._searched = 0

    def _drop(self, buffer: bytearray, count: int) -> None:
        del buffer[:count]
        if self._first_limit is not None:
            self._skipped += count
            if self._skipped > self._first_limit:
                raise self._too_much()

    def _too_much(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"no valid event within the first {self._first_limit} bytes")

    def _current_limit(self) -> int:
        return self._limit if self._first_limit is None else self._first_limit - self._skipped

    # Between documents

    def _at_top(self, buffer: bytearray) -> _Step:
        """Skip to the next thing that has a name."""
        if plain := _PLAIN_START.match(buffer):
            return self._begin(buffer, plain.start(1) - 1, plain[1])
        match = _TOP.search(buffer)
        if match is None:
            tail = buffer.rfind(b"<")
            self._drop(buffer, tail if tail >= 0 and len(buffer) - tail <= _NAME_LIMIT + 2 else len(buffer))
            return None
        comment, instruction, declaration, end_tag, name = match.groups()
        if name in (b"event", b"auth"):
            return self._begin(buffer, match.start(), name)
        if comment:
            return self._skip_until(buffer, match.end(), _COMMENT)
        if instruction:
            return self._skip_until(buffer, match.end(), _INSTRUCTION)
        if end_tag:
            self._drop(buffer, match.end())
            return True
        self._drop(buffer, match.start())
        return self._declaration(buffer) if declaration else self._other_element(buffer, bytes(name))

    def _begin(self, buffer: bytearray, at: int, name: bytes) -> _Step:
        self._drop(buffer, at)
        self._to_top()
        self._state = _State.DOCUMENT
        self._name = bytes(name)
        self._in_tag = True
        return True

    def _declaration(self, buffer: bytearray) -> _Step:
        if buffer.startswith(_CDATA_START):
            return self._skip_until(buffer, len(_CDATA_START), _CDATA)
        match = _DECLARATION_STEP.search(buffer, 2, _SAMPLE)
        if len(buffer) < (len(_CDATA_START) if match else _SAMPLE) and (match is None or match[0] == b"["):
            return None  # "<!-" and "<![" may yet become something else
        self._refused = "document type declarations are refused"
        if match is None:
            self._drop(buffer, 2)
        elif match[0] == b"[":
            return self._skip_until(buffer, match.end(), _SUBSET)
        else:
            self._drop(buffer, match.start() if match[0] == b"<" else match.end())
        return True

    def _other_element(self, buffer: bytearray, name: bytes) -> _Step:
        limit = self._current_limit()
        end = self._end_of_tag(buffer, min(len(buffer), limit))
        if end < 0:
            if len(buffer) <= limit:
                return None
            if self._first_limit is not None:
                raise self._too_much()
            end = len(name)
        elif buffer[end] == 0x3E:
            end += 1
            if buffer[end - 2] != 0x2F:
                return self._skip_until(buffer, end, _ELEMENT, name)
        self._drop(buffer, end)
        self._to_top()
        return True

    def _skip_until(self, buffer: bytearray, at: int, until: re.Pattern[bytes], element: bytes = b"") -> _Step:
        self._drop(buffer, at)
        self._to_top()
        self._state = _State.SKIPPING
        self._enter(until, element)
        return True

    def _skip(self, buffer: bytearray) -> _Step:
        found = self._leave(buffer, len(buffer))
        if found is None:
            self._drop(buffer, self._searched)
            self._searched = 0
            return None
        end, is_own = found
        self._drop(buffer, end)
        self._to_top()
        if is_own:
            return True
        self._refused = ""
        return Unreadable("an event inside something that has no end", b"")

    # Comments, CDATA, instructions, other elements

    def _enter(self, until: re.Pattern[bytes], element: bytes = b"") -> None:
        self._until, self._element, self._saw_end = until, element, False

    def _leave(self, buffer: bytearray, stop: int) -> tuple[int, bool] | None:
        """Find where what we are in ends, and whether that is its own end; else the stream obviously starts anew."""
        assert self._until is not None
        at = self._searched
        while match := self._until.search(buffer, at, stop):
            at = match.end()
            if match.lastindex == 1:
                self._saw_end = True
            elif match.lastindex == 2:
                if self._element in (b"", match[2]):
                    return at, True
            elif self._saw_end:
                return match.start(), False
        self._searched = max(at, stop - _LOOK_BACK)
        return None

    # Inside a document

    def _in_document(self, buffer: bytearray) -> bytes | Unreadable | None:
        # Only what is within the limit is looked at, so that it does not matter how much more has come with it.
        limit = self._current_limit()
        end = self._end_of_document(buffer, min(len(buffer), limit))
        if end is None:
            return self._oversize(buffer) if len(buffer) > limit else None
        document = bytes(buffer[:end])
        del buffer[:end]
        self._to_top()
        if self._first_limit is not None:
            self._skipped += end
        if self._refused:
            reason, self._refused = self._refused, ""
            return Unreadable(reason, self._sample(document))
        return document

    def _sample(self, document: bytes) -> bytes:
        return b"" if self._name == b"auth" else document[:_SAMPLE]

    def _end_of_document(self, buffer: bytearray, stop: int) -> int | None:
        """Find the end; if it lost its own, the start of the next, and say so."""
        if self._in_tag:
            end = self._end_of_tag(buffer, stop)
            if end < 0:
                return None
            self._in_tag = False
            if buffer[end] == 0x3E and buffer[end - 1] == 0x2F:
                return end + 1
            self._searched = end
        while True:
            if self._until is not None:
                found = self._leave(buffer, stop)
                if found is None:
                    return None
                end, is_own = found
                if not is_own:
                    self._refused = "an unterminated comment or CDATA section"
                    return end
                self._searched, self._until = end, None
            match = _INSIDE[self._name].search(buffer, self._searched, stop)
            if match is None:
                self._searched = max(self._searched, stop - _LOOK_BACK)
                return None
            if match.lastindex == 1:
                return match.end()
            if match.lastindex == 2:
                self._refused = "an <auth> without an end"
                return match.end()
            self._searched = match.end()
            self._enter(_COMMENT if match[0] == b"<!--" else _CDATA)

    def _end_of_tag(self, buffer: bytearray, stop: int) -> int:
        """Find the ``>`` of the tag at the front, or a ``<`` that has no place in it; -1 when neither is there yet."""
        while match := _TAG_STEP[self._quote].search(buffer, self._tag_at, stop):
            if match[0] in (b"<", b">"):
                return match.start()
            self._quote = b"" if self._quote else match[0]
            self._tag_at = match.end()
        self._tag_at = max(self._tag_at, stop)
        return -1

    def _oversize(self, buffer: bytearray) -> Unreadable:
        if self._first_limit is not None:
            raise self._too_much()
        self._to_top()
        self._state = _State.OVERSIZE
        self._refused = ""
        return Unreadable(
            f"an event of over {self._limit} bytes", self._sample(bytes(buffer[: min(self._limit, _SAMPLE)]))
        )

    def _skip_oversize(self, buffer: bytearray) -> _Step:
        match = _OVER[self._name].search(buffer)
        if match is None:
            del buffer[: max(0, len(buffer) - _LOOK_BACK)]
            return None
        del buffer[: match.end()]
        self._to_top()
        return True
