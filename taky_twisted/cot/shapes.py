"""Read what is said over and over only by what is new in it.

Of two position reports by one kind of client all markup is the same, and only what stands between double quotes, or
between tags, differs. Cut at its double quotes, a document falls into markup and values in turn. If all its markup is
to the byte that of a document which expat has read, and no value or text holds ``<``, ``&``, a double quote or
anything but plain ASCII, then it is well-formed, has the same structure, and the values that matter stand at known
places. That takes less than half of a parser's time.

Everything else goes the long way, through `taky_twisted.cot.xmlcodec.decode`. Both ways give the same event:
``tests/cot/test_shapes.py`` holds them against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter

from .errors import MalformedEvent
from .event import PROLOG, Chat, Detail, Event
from .times import LATEST, parse_time
from .xmlcodec import MAX_NAME_CHARS, Reader, decode, destinations, position

MAX_BYTES = 4096
"""Larger documents are rarely alike."""
MAX_SHAPES = 256
"""How many structures are known; when there are more, all are forgotten."""
MAX_DETAILS = 4096
"""How many senders' names and destinations are remembered in all; when there are more, all are forgotten."""
MAX_DETAIL_BYTES = 512
"""Longer names and destinations are not remembered."""

_TEXT = re.compile(rb">[^<>\"]+<")
_CONTROL = bytes(range(0x20)) + b"\x7f"
_ONCE = (b"<contact", b"<__group", b"<takv", b"<link", b"<__chat", b"<marti", b"<point", b"<detail")
_UNUSUAL = (b"'", b"&", b"<!", b"<?")
_ROOT = ("uid", "type", "how", "time", "start", "stale")
_POINT = ("lat", "lon", "hae", "ce", "le")


class Shapes:
    """Decode events, quickly where possible. One serves all connections."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, _Shape | None] = {}
        self._details: Details = {}
        self._once: set[int] = set()

    def decode(self, document: bytes) -> Event:
        """Read one ``<event>...</event>``, without prolog.

        Raises:
            MalformedEvent: as `taky_twisted.cot.xmlcodec.decode`.
        """
        if len(document) > MAX_BYTES:
            return decode(document)
        pieces = document.split(b'"')
        if len(pieces) % 2 == 0:  # a quote without its other half
            return decode(document)
        markup = _TEXT.sub(b"><", b'"'.join(pieces[::2]))
        shape = self._shapes.get(markup)
        if shape is not None:
            event = shape.read(document, pieces[1::2], self._details)
            if event is not None:
                return event
        event = decode(document)
        if shape is None and markup not in self._shapes:
            self._learn(markup)
        return event

    def _learn(self, markup: bytes) -> None:
        """Note a structure at its second sight: most that are not alike are seen once."""
        seen = hash(markup)
        if seen not in self._once:
            if len(self._once) >= 4 * MAX_SHAPES:
                self._once.clear()
            self._once.add(seen)
            return
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
            self._details.clear()
        self._shapes[markup] = _shape_of(markup)


Details = dict[tuple["_Shape", tuple[bytes, ...]], Detail]
"""What was made of the values of one structure that say who speaks and to whom."""


class _Shape:
    """One structure: where its values stand."""

    def __init__(self, reader: Reader, markup: bytes) -> None:
        """Find the places.

        Args:
            reader: what expat makes of the structure with ``v0``, ``v1``, ... as values.
            markup: the structure.

        Raises:
            KeyError: it lacks what every event has, or something stands where no value does.
        """
        point = reader.point or {}  # quotes in text can make a value of an element
        self._tags = markup.count(b"<")
        self._root = _places([reader.root[name] for name in _ROOT])
        self._point = _places([point[name] for name in _POINT])
        self._has_marti = bool(reader.edits)
        self._reader = reader
        platform, _, version = (reader.detail.takv or "").partition(":")
        detail, chat = reader.detail, reader.chat or Chat("", "", ())
        texts = [detail.callsign, detail.endpoint, detail.team, detail.role, platform, version, detail.link_uid]
        texts += [chat.id, chat.chatroom, *chat.uids, *(value for _, value in reader.dests)]
        self._known = {text: at for at, text in enumerate(dict.fromkeys(text for text in texts if text))}
        self._key = _places(list(self._known))

    def read(self, document: bytes, values: list[bytes], details: Details) -> Event | None:
        """Read a document of this structure; None if its values need a parser.

        Args:
            document: all of it.
            values: what stands between its double quotes.
            details: what was made of such values before, for all structures.
        """
        if (
            document.count(b"<") != self._tags
            or b"&" in document
            or b"]]>" in document
            or not document.isascii()
            or len(document.translate(None, _CONTROL)) != len(document)
        ):
            return None
        key = self._key(values)
        detail = details.get((self, key))
        if detail is None:
            if not all(key) or sum(map(len, key)) > MAX_DETAIL_BYTES:
                return None  # what is empty counts as absent
            if len(details) >= MAX_DETAILS:
                details.clear()
            detail = details[self, key] = self._detail([value.decode() for value in key])
        uid, type_, how, time_text, start_text, stale_text = self._root(values)
        if not (uid and type_ and how) or len(uid) > MAX_NAME_CHARS:
            return None
        try:
            time, time_kept = parse_time(time_text.decode())
            start, start_kept = parse_time(start_text.decode())
            stale, stale_kept = parse_time(stale_text.decode())
            lat, lon = position(*[text.decode() for text in self._point(values)])
        except MalformedEvent:
            return None
        if not (time_kept and start_kept and stale_kept) or stale > LATEST or time > LATEST or start > LATEST:
            return None
        if self._has_marti:
            begin, end = document.index(b"<marti"), document.index(b"</marti>") + len(b"</marti>")
            xml = b"%b%b%b" % (PROLOG, document[:begin], document[end:])
        else:
            xml = PROLOG + document
        return Event(uid.decode(), type_.decode(), how.decode(), time, start, stale, lat, lon, detail, xml)

    def _detail(self, texts: list[str]) -> Detail:
        """Fill in the values; an event's detail is never changed, so that events can share it."""

        def said(text: str) -> str:
            return texts[self._known[text]] if text else ""

        reader = self._reader
        detail = replace(reader.detail)
        detail.callsign, detail.team, detail.role = said(detail.callsign), said(detail.team), said(detail.role)
        detail.link_uid = said(detail.link_uid)
        if detail.endpoint is not None:
            detail.endpoint = said(detail.endpoint)
        if detail.takv is not None:
            platform, _, version = detail.takv.partition(":")
            detail.takv = f"{said(platform)}:{said(version)}"
        if reader.dests:
            detail.destinations = destinations([(kind, said(value)) for kind, value in reader.dests])
        if reader.chat is not None:
            chat = reader.chat
            detail.chat = Chat(said(chat.id), said(chat.chatroom), tuple(map(said, chat.uids)))
        return detail


def _shape_of(markup: bytes) -> _Shape | None:
    """Find out where the values of a structure stand; None if that cannot be said."""
    if any(mark in markup for mark in _UNUSUAL) or any(markup.count(name) > 1 for name in _ONCE):
        return None
    first, *others = markup.split(b'"')
    marked = first + b"".join(b'"v%d"%b' % (at, piece) for at, piece in enumerate(others))
    try:
        reader = Reader(marked)
        if reader.detail.emergency is not None or not reader.has_detail:
            return None
        if not (marked.startswith(b"<event ") and marked.endswith(b"</event>")):
            return None
        if any(not marked.endswith(b"</marti>", 0, end) for _, end, _ in reader.edits):
            return None
        if markup.count(b"<marti") != len(reader.edits):
            return None  # another element whose name begins so, or one in another place
        return _Shape(reader, markup)
    except (KeyError, MalformedEvent):
        return None


def _places(texts: Sequence[str]) -> Callable[[list[bytes]], tuple[bytes, ...]]:
    """Make what picks the values of these marks out of all values.

    Raises:
        KeyError: something is no mark.
    """
    if not all(text.startswith("v") and text[1:].isdecimal() for text in texts):
        raise KeyError(texts)
    at = [int(text[1:]) for text in texts]
    if len(at) == 1:
        return lambda values: (values[at[0]],)
    return itemgetter(*at) if at else lambda _: ()
