"""TAK protocol 0: where one XML document of a stream begins and ends.

A document ends at the first ``</event>`` outside CDATA and comments (ATAK-CIV
``commoncommo/core/impl/protobuf/protocol.txt``; TAK Server ``nio/protocol/connections/StreamingCotProtocol.java``
looks for the bare token). Depth is not counted, because that would swallow what follows a malformed event. Everything
between documents is skipped: prologs, byte order marks, blanks, comments, processing instructions, other elements.
What is skipped until a terminator (a comment, CDATA, another element) also ends where, behind an ``</event>``, the
next document obviously starts: an unterminated one must not swallow the stream.

The framer looks at each byte about once however the network cuts the stream, and gives the same documents for every
cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from .errors import RemoteProtocolError

_SAMPLE = 512
"""Bytes of something unreadable that are kept for the log."""
_LOOK_BACK = 40
"""Bytes at the end of what was searched that may be the beginning of a token."""
_NAME_LIMIT = 256
"""Bytes of a tag's name; longer is garbage."""

_BLANKS = rb"[ \t\r\n]{0,16}"
_PLAIN_START = re.compile(rb"(?:\xef\xbb\xbf|[ \t\r\n]|<\?xml [^<>]{0,200}\?>)*<(event|auth)[ \t\r\n/>]")
_TOP = re.compile(rb"<(?:(!--)|(\?)|(!)|(/)|([A-Za-z_:\x80-\xff][^\s<>/]{0,255})[\s<>/])")
_END = {name: re.compile(b"</" + name + _BLANKS + b">") for name in (b"event", b"auth")}
_INSIDE = {name: re.compile(b"<!--|<!\\[CDATA\\[|</" + name + _BLANKS + b">") for name in (b"event", b"auth")}
_ANY_EVENT_END = re.compile(b"</event" + _BLANKS + b">")
_NEXT_START = re.compile(rb"<\?xml |<event ")
_TAG_STEP = re.compile(rb"[\"'>]")
_COMMENT_END = re.compile(b"-->")
_CDATA_END = re.compile(rb"\]\]>")
_INSTRUCTION_END = re.compile(rb"\?>")
_DECLARATION_STEP = re.compile(rb"[\[>]")
_SUBSET_END = re.compile(b"\\]" + _BLANKS + b">")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something on the stream that is not passed on."""

    reason: str
    data: bytes
    """Its beginning, or all of it."""


class _State(Enum):
    TOP = "between documents"
    DOCUMENT = "inside a document"
    SKIPPING = "inside something else, until its end"
    OVERSIZE = "inside a document that is too large"


class XMLFraming:
    """Cut documents off the front of a buffer that the caller owns.

    ``next_frame`` returns a document (bytes from ``<event`` or ``<auth`` to the end of its end tag), or what was
    unreadable, or None until more bytes come.
    """

    def __init__(self, limit: int, first_limit: int) -> None:
        """Start with the small limit, for a peer that said nothing valid yet.

        Args:
            limit: bytes in one document.
            first_limit: bytes in all until `trust` is called; over it the stream is given up.
        """
        self._limit = limit
        self._first_limit: int | None = first_limit
        self._skipped = 0  # bytes thrown away before the first valid event
        self._state = _State.TOP
        self._name = b""  # of the document that we are in
        self._refused = ""  # why the next document is not passed on
        self._tag_at = 1  # bytes of its start tag that are looked at; 0 once its end was seen
        self._searched = 0  # bytes of the buffer that need no second look
        self._until: re.Pattern[bytes] | None = None  # what ends the comment, CDATA section or element that we are in
        self._look_back = _LOOK_BACK
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
                frame = self._in_document(buffer)
            elif self._state is _State.TOP:
                if match := _PLAIN_START.match(buffer):
                    self._begin(buffer, match.start(1) - 1, match[1])
                    continue
                if not self._at_top(buffer):
                    return None
                continue
            elif self._state is _State.SKIPPING:
                if not self._skip(buffer):
                    return None
                continue
            else:
                if not self._skip_oversize(buffer):
                    return None
                continue
            return frame
        return None

    def _begin(self, buffer: bytearray, at: int, name: bytes) -> None:
        self._drop(buffer, at)
        self._state = _State.DOCUMENT
        self._name = bytes(name)
        self._tag_at = 1
        self._searched = 0
        self._until = None

    def _to_top(self) -> None:
        self._state = _State.TOP
        self._until = None
        self._tag_at = 1

    def _drop(self, buffer: bytearray, count: int) -> None:
        del buffer[:count]
        if self._first_limit is not None:
            self._skipped += count
            if self._skipped > self._first_limit:
                raise RemoteProtocolError(f"no valid event within the first {self._first_limit} bytes")

    # Between documents

    def _at_top(self, buffer: bytearray) -> bool:
        """Skip to the next thing that has a name; False when more bytes are needed."""
        match = _TOP.search(buffer)
        if match is None:
            tail = buffer.rfind(b"<")
            self._drop(buffer, tail if tail >= 0 and len(buffer) - tail <= _NAME_LIMIT + 2 else len(buffer))
            return False
        comment, instruction, declaration, end_tag, name = match.groups()
        if name in (b"event", b"auth"):
            self._begin(buffer, match.start(), name)
        elif comment:
            self._skip_until(buffer, match.end(), _COMMENT_END)
        elif instruction:
            self._skip_until(buffer, match.end(), _INSTRUCTION_END)
        elif end_tag:
            self._drop(buffer, match.end())
        elif declaration:
            return self._declaration(buffer, match.start())
        else:
            return self._other_element(buffer, match.start(), bytes(name))
        return True

    def _declaration(self, buffer: bytearray, at: int) -> bool:
        self._drop(buffer, at)
        match = _DECLARATION_STEP.search(buffer, 0, _SAMPLE)
        if match is None and len(buffer) < _SAMPLE:
            return False  # also "<!-", which may yet become a comment
        self._refused = "document type declarations are refused"
        if match is None:
            self._drop(buffer, 2)
        elif match[0] == b"[":
            self._skip_until(buffer, match.end(), _SUBSET_END)
        else:
            self._drop(buffer, match.end())
        return True

    def _other_element(self, buffer: bytearray, at: int, name: bytes) -> bool:
        self._drop(buffer, at)
        end = self._end_of_start_tag(buffer, len(buffer))
        if end is None:
            if len(buffer) <= self._limit:
                return False
            self._drop(buffer, len(name))
        elif buffer.endswith(b"/>", 0, end):
            self._drop(buffer, end)
        else:
            self._skip_until(buffer, end, re.compile(b"</" + re.escape(name) + _BLANKS + b">"), len(name) + _LOOK_BACK)
        self._tag_at = 1
        return True

    def _skip_until(self, buffer: bytearray, at: int, until: re.Pattern[bytes], look_back: int = _LOOK_BACK) -> None:
        self._drop(buffer, at)
        self._look_back = look_back
        self._state = _State.SKIPPING
        self._until, self._saw_end = until, False
        self._searched = 0

    def _skip(self, buffer: bytearray) -> bool:
        assert self._until is not None
        end, resume = self._leave(buffer)
        at = end if end is not None else resume
        if at is not None:
            self._drop(buffer, at)
            self._to_top()
            return True
        keep = max(0, len(buffer) - self._look_back)
        self._drop(buffer, keep)
        self._searched = max(0, self._searched - keep)
        return False

    def _leave(self, buffer: bytearray) -> tuple[int | None, int | None]:
        """Find where a comment, CDATA section or foreign element ends, or where the stream obviously starts anew."""
        assert self._until is not None
        at = self._searched
        while True:
            found = [
                match
                for pattern in (self._until, _ANY_EVENT_END if not self._saw_end else _NEXT_START)
                if (match := pattern.search(buffer, at))
            ]
            if not found:
                self._searched = max(at, len(buffer) - self._look_back)
                return None, None
            match = min(found, key=lambda match: match.start())
            if match.re is self._until:
                self._searched = match.end()
                return match.end(), None
            if self._saw_end:
                return None, match.start()
            self._saw_end = True
            at = match.end()

    # Inside a document

    def _in_document(self, buffer: bytearray) -> bytes | Unreadable | None:
        end = self._end_of_document(buffer)
        if end is not None and end < 0:  # an unterminated section swallowed the end: give up this one
            return self._give_up(buffer, -end, "an unterminated comment or CDATA section")
        if end is None or _may_be_empty(buffer, end):
            tag_end = self._end_of_start_tag(buffer, len(buffer) if end is None else end)
            if tag_end is not None and buffer.endswith(b"/>", 0, tag_end):
                end = tag_end
        if (len(buffer) if end is None else end) > self._current_limit():
            return self._oversize(buffer)
        if end is None:
            return None
        document = bytes(buffer[:end])
        del buffer[:end]
        self._to_top()
        if self._first_limit is not None:
            self._skipped += end
        if self._refused:
            reason, self._refused = self._refused, ""
            return Unreadable(reason, document[:_SAMPLE])
        return document

    def _current_limit(self) -> int:
        return self._limit if self._first_limit is None else max(0, self._first_limit - self._skipped)

    def _end_of_document(self, buffer: bytearray) -> int | None:
        """Find the end; negative where the next document starts inside an unterminated section."""
        while True:
            if self._until is not None:
                end, resume = self._leave(buffer)
                if resume is not None:
                    return -resume
                if end is None:
                    return None
                self._until = None
                continue
            match = _INSIDE[self._name].search(buffer, self._searched)
            if match is None:
                self._searched = max(self._searched, len(buffer) - _LOOK_BACK)
                return None
            self._searched = match.end()
            if match[0] == b"<!--":
                self._until, self._saw_end, self._look_back = _COMMENT_END, False, _LOOK_BACK
            elif match[0] == b"<![CDATA[":
                self._until, self._saw_end, self._look_back = _CDATA_END, False, _LOOK_BACK
            else:
                return match.end()

    def _end_of_start_tag(self, buffer: bytearray, end: int) -> int | None:
        """Find where the tag at the front ends, quotes considered; None when it is not there or was found before."""
        while self._tag_at and (match := _TAG_STEP.search(buffer, self._tag_at, end)):
            if match[0] == b">":
                self._tag_at = 0
                return match.end()
            quote = buffer.find(match[0], match.end(), end)
            if quote < 0:
                self._tag_at = match.start()
                return None
            self._tag_at = quote + 1
        return None

    def _give_up(self, buffer: bytearray, at: int, reason: str) -> Unreadable:
        sample = bytes(buffer[: min(at, _SAMPLE)])
        self._to_top()
        self._refused = ""
        self._drop(buffer, at)
        return Unreadable(reason, sample)

    def _oversize(self, buffer: bytearray) -> Unreadable:
        if self._first_limit is not None:
            raise RemoteProtocolError(f"no valid event within the first {self._first_limit} bytes")
        self._state = _State.OVERSIZE
        self._refused = ""
        self._searched = 0
        return Unreadable(f"an event of over {self._limit} bytes", bytes(buffer[:_SAMPLE]))

    def _skip_oversize(self, buffer: bytearray) -> bool:
        match = _END[self._name].search(buffer)
        if match is None:
            del buffer[: max(0, len(buffer) - _LOOK_BACK)]
            return False
        del buffer[: match.end()]
        self._to_top()
        return True


def _may_be_empty(buffer: bytearray, end: int) -> bool:
    """Guess from the first ``>`` whether the document's first tag is its last (``<event/>``); never wrongly no."""
    at = buffer.find(b">", 1, end)
    return buffer[at - 1] == 0x2F or bool((buffer.count(b'"', 0, at) | buffer.count(b"'", 0, at)) & 1)
