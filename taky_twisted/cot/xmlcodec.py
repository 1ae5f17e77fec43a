"""One XML document to one `Event`, and the bytes that are delivered.

Expat reads (stdlib; every parser is its own, so that names which a hostile sender invents are freed with it), and tells
where things stand, so that what must change in the delivered copy is cut out of the sender's bytes and everything else
arrives as it was sent. What must change: ``<marti>`` goes, comments go, CDATA becomes escaped text (clients cut at
``</event>`` wherever it stands: ATAK-CIV ``streamingsocketmanagement.cpp``, PyTAK ``classes.py``), times become
milliseconds and ``Z``, a missing ``<detail/>`` is added.
"""

from __future__ import annotations

import re
from xml.parsers import expat
from xml.sax.saxutils import escape

from .errors import MalformedEvent
from .event import PROLOG, Chat, Destinations, Detail, Event
from .times import LATEST, format_time, parse_time

MAX_DEPTH = 100
"""Elements inside each other."""
MAX_ATTRIBUTES = 1000
"""Attributes of one element."""
MAX_ATTRIBUTE_CHARS = 1 << 20
"""Characters in one attribute's value."""
MAX_DESTINATIONS = 1000
"""``<dest>`` of one event."""
MAX_LATITUDE, MAX_LONGITUDE = 90.5, 180.5

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?"
_POINT = re.compile(rf"{_NUMBER} {_NUMBER} (?:{_NUMBER}|NaN) (?:{_NUMBER}|NaN) (?:{_NUMBER}|NaN)", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"\s*([^\s=<>/]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_READ = frozenset({"contact", "__group", "takv", "marti", "link", "archive", "_flow-tags_", "__chat", "emergency"})
_DEST_KINDS = ("callsign", "publish", "uid", "mission", "mission-guid", "group")
_TIMES = ("time", "start", "stale")
_QUOTES = {'"': "&quot;", "'": "&apos;"}

Edit = tuple[int, int, bytes]
"""Replace the bytes from, to (exclusive) by these."""


def decode(document: bytes) -> Event:
    """Read one ``<event>...</event>``, without prolog.

    Raises:
        MalformedEvent: it is not well-formed, not a CoT event, or over a limit.
    """
    reader = _Reader(document)
    reader.read()
    return reader.event()


def set_attributes(document: bytes, at: int, values: dict[bytes, str | None]) -> list[Edit]:
    """Make the edits that set (or with None remove) attributes of the start tag at ``at``; none is added."""
    edits: list[Edit] = []
    position = document.index(b"<", at) + 1
    while document[position : position + 1] not in b" \t\r\n/>":
        position += 1
    while match := _ATTRIBUTE.match(document, position):
        position = match.end()
        if match[1] in values:
            value = values[match[1]]
            if value is None:
                edits.append((match.start(), match.end(), b""))
            else:
                edits.append((match.start(2) + 1, match.end(2) - 1, escape(value, _QUOTES).encode()))
    return edits


def apply_edits(document: bytes, edits: list[Edit]) -> bytes:
    """Carry out edits that do not overlap, except that one inside an earlier one is void."""
    pieces, position = [], 0
    for start, end, replacement in sorted(edits):
        if start < position:
            continue
        pieces += [document[position:start], replacement]
        position = end
    pieces.append(document[position:])
    return b"".join(pieces)


class _Reader:
    """One pass of expat over one document."""

    def __init__(self, document: bytes) -> None:
        self._document = document
        self._depth = 0
        self._in_detail = False
        self._has_detail = False
        self._child = ""  # the child of <detail> that we are in, if it is one that we read into
        self._root: dict[str, str] = {}
        self._point: dict[str, str] | None = None
        self._detail = Detail()
        self._dests: list[tuple[str, str]] = []
        self._chat: tuple[str, str] = ("", "")
        self._chat_uids: tuple[str, ...] = ()
        self._marti_at = -1
        self._cdata_at = -1
        self._edits: list[Edit] = []
        self._parser = parser = expat.ParserCreate("UTF-8")
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        if b"<!" in document:
            parser.StartDoctypeDeclHandler = self._doctype
            parser.CommentHandler = self._comment
            parser.StartCdataSectionHandler = self._cdata_start
            parser.EndCdataSectionHandler = self._cdata_end

    def read(self) -> None:
        try:
            self._parser.Parse(self._document, True)
        except expat.ExpatError as error:
            raise MalformedEvent(f"not well-formed XML: {error}") from error
        finally:
            # The parser holds our methods and we hold it: without this each event would wait for the cycle collector.
            del self._parser

    def event(self) -> Event:
        root, point = self._root, self._point
        missing = [name for name in ("uid", "type", "how", *_TIMES) if not root.get(name)]
        if missing:
            raise MalformedEvent(f"event lacks {', '.join(missing)}")
        if point is None:
            raise MalformedEvent("event has no point")
        time, time_kept = parse_time(root["time"])
        start, start_kept = parse_time(root["start"])
        stale, stale_kept = parse_time(root["stale"])
        if not (time_kept and start_kept and stale_kept and stale <= LATEST):
            values: dict[bytes, str | None] = {b"stale": format_time(stale)}
            if not time_kept:
                values[b"time"] = format_time(time)
            if not start_kept:
                values[b"start"] = format_time(start)
            self._edits += set_attributes(self._document, 0, values)
        lat, lon = _position(point)
        detail = self._detail
        if self._dests:
            detail.destinations = _destinations(self._dests)
        if self._chat_uids or self._chat[0]:
            detail.chat = Chat(*self._chat, self._chat_uids)
        return Event(
            root["uid"], root["type"], root["how"], time, start, stale, lat, lon, detail, self._delivered_form()
        )

    def _delivered_form(self) -> bytes:
        document = self._document
        if not document.endswith(b"</event>"):
            self._edits.append((document.rindex(b"</"), len(document), b"</event>"))
        if not self._has_detail:
            end = document.rindex(b"</")
            self._edits.append((end, end, b"<detail/>"))
        if self._edits:
            document = apply_edits(document, self._edits)
        return PROLOG + document

    def _start(self, name: str, attributes: list[str]) -> None:
        self._depth = depth = self._depth + 1
        if len(attributes) > 2 * MAX_ATTRIBUTES:
            raise MalformedEvent(f"<{name[:40]}> has over {MAX_ATTRIBUTES} attributes")
        if len(self._document) > MAX_ATTRIBUTE_CHARS and any(len(text) > MAX_ATTRIBUTE_CHARS for text in attributes):
            raise MalformedEvent(f"<{name[:40]}> has an attribute of over {MAX_ATTRIBUTE_CHARS} characters")
        if depth == 3:
            if self._in_detail and name in _READ:
                self._read_child(name, attributes)
        elif depth == 2:
            if name == "detail":
                self._in_detail = self._has_detail = True
            elif name == "point" and self._point is None:
                self._point = _pairs(attributes)
        elif depth == 4:
            if self._child == "marti" and name == "dest":
                self._read_dest(_pairs(attributes))
            elif self._child == "__chat" and name == "chatgrp":
                self._read_chatgrp(_pairs(attributes))
        elif depth == 1:
            if name != "event":
                raise MalformedEvent(f"<{name[:40]}> is not <event>")
            self._root = _pairs(attributes)
        elif depth > MAX_DEPTH:
            raise MalformedEvent(f"over {MAX_DEPTH} elements inside each other")

    def _end(self, name: str) -> None:
        depth = self._depth
        self._depth = depth - 1
        if depth == 3:
            if self._child:
                self._child = ""
                if name == "marti":
                    self._edits.append((self._marti_at, self._end_of_element(), b""))
        elif depth == 2:
            self._in_detail = False

    def _end_of_element(self) -> int:
        at = self._parser.CurrentByteIndex
        # Behind an empty-element tag expat already stands at its end.
        return self._document.index(b">", at) + 1 if self._document.startswith(b"</", at) else at

    def _read_child(self, name: str, attributes: list[str]) -> None:
        detail, pairs = self._detail, _pairs(attributes)
        if name == "contact":
            if not detail.callsign:
                detail.callsign = pairs.get("callsign", "")
                detail.endpoint = pairs.get("endpoint")
        elif name == "__group":
            detail.team, detail.role = pairs.get("name", ""), pairs.get("role", "")
        elif name == "takv":
            detail.takv = f"{pairs.get('platform', '')}:{pairs.get('version', '')}"
        elif name == "link":
            detail.link_uid = detail.link_uid or pairs.get("uid", "")
        elif name == "archive":
            detail.archive = True
        elif name == "_flow-tags_":
            detail.flow_tags += tuple(pairs)
        elif name == "emergency":
            detail.emergency = pairs.get("cancel", "").lower() == "true"
        else:
            self._child = name
            if name == "marti":
                self._marti_at = self._parser.CurrentByteIndex
            else:
                self._chat = pairs.get("id", ""), pairs.get("chatroom", "")

    def _read_dest(self, pairs: dict[str, str]) -> None:
        for kind in _DEST_KINDS:
            if value := pairs.get(kind):
                if len(self._dests) >= MAX_DESTINATIONS:
                    raise MalformedEvent(f"over {MAX_DESTINATIONS} destinations")
                self._dests.append((kind, value))
                return

    def _read_chatgrp(self, pairs: dict[str, str]) -> None:
        uids = ((name[3:], value) for name, value in pairs.items() if name.startswith("uid") and value)
        self._chat_uids += tuple(value for number, value in uids if number.isdecimal() and number != "0")

    def _doctype(self, *_declaration: object) -> None:
        raise MalformedEvent("document type declarations are refused")

    def _comment(self, _text: str) -> None:
        at = self._parser.CurrentByteIndex
        self._edits.append((at, self._document.index(b"-->", at + 4) + 3, b""))

    def _cdata_start(self) -> None:
        self._cdata_at = self._parser.CurrentByteIndex

    def _cdata_end(self) -> None:
        at = self._cdata_at
        end = self._document.index(b"]]>", at)
        text = self._document[at + len(b"<![CDATA[") : end]
        text = text.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")
        self._edits.append((at, end + 3, text))


def _pairs(attributes: list[str]) -> dict[str, str]:
    return dict(zip(attributes[::2], attributes[1::2], strict=True))


def _position(point: dict[str, str]) -> tuple[float, float]:
    try:
        values = [point[name] for name in ("lat", "lon", "hae", "ce", "le")]
    except KeyError as error:
        raise MalformedEvent(f"point lacks {error.args[0]}") from error
    if not _POINT.fullmatch(" ".join(values)):
        raise MalformedEvent(f"point has a value that is no number: {' '.join(values)[:100]!r}")
    lat, lon = float(values[0]), float(values[1])
    if not (-MAX_LATITUDE <= lat <= MAX_LATITUDE and -MAX_LONGITUDE <= lon <= MAX_LONGITUDE):
        raise MalformedEvent(f"point is not on Earth: lat={lat:g} lon={lon:g}")
    return lat, lon


def _destinations(dests: list[tuple[str, str]]) -> Destinations:
    def named(*kinds: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value for kind, value in dests if kind in kinds))

    callsigns, uids, missions = named("callsign"), named("uid"), named("mission", "mission-guid")
    if "All Streaming" in callsigns:
        callsigns = ()
    explicit = bool(callsigns or uids or missions or named("publish"))
    return Destinations(callsigns, uids, missions, named("group"), explicit)
