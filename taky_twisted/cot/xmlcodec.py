"""One XML document to one `Event`, and the bytes that are delivered.

Expat reads (stdlib; every parser is its own, so that names which a hostile sender invents are freed with it), and tells
where things stand, so that what must change in the delivered copy is cut out of the sender's bytes and everything else
arrives as it was sent. What must change: ``<marti>`` goes, comments go, CDATA becomes escaped text (clients cut at
``</event>`` wherever it stands: ATAK-CIV ``streamingsocketmanagement.cpp``, PyTAK ``classes.py``), times become
milliseconds and ``Z``, a missing ``<detail/>`` is added.
"""

from __future__ import annotations

import re
from dataclasses import replace
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
UNCHECKED_BYTES = 4096
"""Documents up to this size cannot be over the limits on attributes."""
MAX_DESTINATIONS = 1000
"""``<dest>`` of one event."""
MAX_NAME_CHARS = 1024
"""Characters in a uid, a type or a callsign."""
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
    reader = Reader(document)
    root, point, detail = reader.root, reader.point, reader.detail
    missing = [name for name in ("uid", "type", "how", *_TIMES) if not root.get(name)]
    if missing:
        raise MalformedEvent(f"event lacks {', '.join(missing)}")
    if max(len(root["uid"]), len(root["type"]), len(detail.callsign)) > MAX_NAME_CHARS:
        raise MalformedEvent(f"a uid, type or callsign of over {MAX_NAME_CHARS} characters")
    if point is None:
        raise MalformedEvent("event has no point")
    time, time_kept = parse_time(root["time"])
    start, start_kept = parse_time(root["start"])
    stale, stale_kept = parse_time(root["stale"])
    edits = reader.edits
    if not (time_kept and start_kept and stale_kept and max(time, start, stale) <= LATEST):
        values: dict[bytes, str | None] = {
            b"time": format_time(time),
            b"start": format_time(start),
            b"stale": format_time(stale),
        }
        edits += set_attributes(document, 0, values)
    try:
        lat, lon = position(point["lat"], point["lon"], point["hae"], point["ce"], point["le"])
    except KeyError as error:
        raise MalformedEvent(f"point lacks {error.args[0]}") from error
    if reader.dests:
        detail.destinations = destinations(reader.dests)
    if reader.chat is not None:
        detail.chat = reader.chat
    if not document.startswith(b"<event "):
        edits.append((6, 7, b" "))  # node-tak looks for "<event "
    end = document.rindex(b"</")
    if not document.endswith(b"</event>"):
        edits.append((end, len(document), b"</event>"))
    if not reader.has_detail:
        edits.append((end, end, b"<detail/>"))
    if edits:
        document = apply_edits(document, edits)
    return Event(root["uid"], root["type"], root["how"], time, start, stale, lat, lon, detail, PROLOG + document)


def position(*spelled: str) -> tuple[float, float]:
    """Read lat, lon, hae, ce and le, of which the last three only must be numbers.

    Raises:
        MalformedEvent: one is no number, or the place is not on Earth.
    """
    if not _POINT.fullmatch(" ".join(spelled)):
        raise MalformedEvent(f"point has a value that is no number: {' '.join(spelled)[:100]!r}")
    lat, lon = float(spelled[0]), float(spelled[1])
    if not (-MAX_LATITUDE <= lat <= MAX_LATITUDE and -MAX_LONGITUDE <= lon <= MAX_LONGITUDE):
        raise MalformedEvent(f"point is not on Earth: lat={lat:g} lon={lon:g}")
    return lat, lon


def destinations(dests: list[tuple[str, str]]) -> Destinations:
    """Sort what ``<dest>`` elements name: pairs of kind and value."""

    def named(*kinds: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value for kind, value in dests if kind in kinds))

    callsigns, uids, missions = named("callsign"), named("uid"), named("mission", "mission-guid")
    if "All Streaming" in callsigns:
        callsigns = ()
    explicit = bool(callsigns or uids or missions or named("publish"))
    return Destinations(callsigns, uids, missions, named("group"), explicit)


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


class Reader:
    """One pass of expat over one document: what stands where."""

    def __init__(self, document: bytes) -> None:
        """Read.

        Raises:
            MalformedEvent: it is not well-formed, its root is not ``<event>``, or it is over a limit.
        """
        self.root: dict[str, str] = {}
        """The attributes of ``<event>``."""
        self.point: dict[str, str] | None = None
        """The attributes of ``<point>``."""
        self.detail = Detail()
        """What ``<detail>`` says, but for ``destinations`` and ``chat``."""
        self.has_detail = False
        self.dests: list[tuple[str, str]] = []
        """Kind and value of each ``<dest>``."""
        self.chat: Chat | None = None
        self.edits: list[Edit] = []
        """What must be cut out of the delivered copy or replaced: ``<marti>``, comments, CDATA."""
        self._document = document
        self._depth = 0
        self._in_detail = False
        self._child = ""  # the child of <detail> that we are in, if it is one that we read into
        self._marti_at = self._cdata_at = -1
        self._parser = parser = expat.ParserCreate("UTF-8")
        parser.StartElementHandler = self._start_checked if len(document) > UNCHECKED_BYTES else self._start
        parser.EndElementHandler = self._end
        if b"<!" in document:
            parser.StartDoctypeDeclHandler = self._doctype
            parser.CommentHandler = self._comment
            parser.StartCdataSectionHandler = self._cdata_start
            parser.EndCdataSectionHandler = self._cdata_end
        try:
            parser.Parse(document, True)
        except expat.ExpatError as error:
            raise MalformedEvent(f"not well-formed XML: {error}") from error
        finally:
            # The parser holds our methods and we hold it: without this each event would wait for the cycle collector.
            del self._parser

    def _start_checked(self, name: str, attributes: dict[str, str]) -> None:
        if len(attributes) > MAX_ATTRIBUTES:
            raise MalformedEvent(f"<{name[:40]}> has over {MAX_ATTRIBUTES} attributes")
        if any(len(text) > MAX_ATTRIBUTE_CHARS for text in attributes.values()):
            raise MalformedEvent(f"<{name[:40]}> has an attribute of over {MAX_ATTRIBUTE_CHARS} characters")
        self._start(name, attributes)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth = depth = self._depth + 1
        if depth == 3:
            if self._in_detail and name in _READ:
                self._read_child(name, attributes)
        elif depth == 2:
            if name == "detail":
                self._in_detail = self.has_detail = True
            elif name == "point" and self.point is None:
                self.point = attributes
        elif depth == 4:
            if self._child == "marti" and name == "dest":
                self._read_dest(attributes)
            elif self._child == "__chat" and name == "chatgrp":
                self._read_chatgrp(attributes)
        elif depth == 1:
            if name != "event":
                raise MalformedEvent(f"<{name[:40]}> is not <event>")
            self.root = attributes
        elif depth > MAX_DEPTH:
            raise MalformedEvent(f"over {MAX_DEPTH} elements inside each other")

    def _end(self, name: str) -> None:
        depth = self._depth
        self._depth = depth - 1
        if depth == 3:
            if self._child:
                self._child = ""
                if name == "marti":
                    self.edits.append((self._marti_at, self._end_of_element(), b""))
        elif depth == 2:
            self._in_detail = False

    def _end_of_element(self) -> int:
        at = self._parser.CurrentByteIndex
        # Behind an empty-element tag expat already stands at its end, before what it may complain about.
        return self._document.find(b">", at) + 1 if self._document.startswith(b"</marti", at) else at

    def _read_child(self, name: str, attributes: dict[str, str]) -> None:
        detail, get = self.detail, attributes.get
        if name == "contact":
            if not detail.callsign:
                detail.callsign, detail.endpoint = get("callsign", ""), get("endpoint")
        elif name == "__group":
            detail.team, detail.role = get("name", ""), get("role", "")
        elif name == "takv":
            detail.takv = f"{get('platform', '')}:{get('version', '')}"
        elif name == "link":
            detail.link_uid = detail.link_uid or get("uid", "")
        elif name == "archive":
            detail.archive = True
        elif name == "_flow-tags_":
            detail.flow_tags += tuple(attributes)
        elif name == "emergency":
            detail.emergency = get("cancel", "").lower() == "true"
        else:
            self._child = name
            if name == "marti":
                self._marti_at = self._parser.CurrentByteIndex
            else:
                self.chat = Chat(get("id", ""), get("chatroom", ""), ())

    def _read_dest(self, attributes: dict[str, str]) -> None:
        for kind in _DEST_KINDS:
            if value := attributes.get(kind):
                if len(self.dests) >= MAX_DESTINATIONS:
                    raise MalformedEvent(f"over {MAX_DESTINATIONS} destinations")
                self.dests.append((kind, value))
                return

    def _read_chatgrp(self, attributes: dict[str, str]) -> None:
        chat = self.chat
        assert chat is not None
        uids = ((name[3:], value) for name, value in attributes.items() if name.startswith("uid") and value)
        members = tuple(value for number, value in uids if number.isdecimal() and number != "0")
        self.chat = replace(chat, uids=chat.uids + members)

    def _doctype(self, *_declaration: object) -> None:
        raise MalformedEvent("document type declarations are refused")

    def _comment(self, _text: str) -> None:
        at = self._parser.CurrentByteIndex
        self.edits.append((at, self._document.index(b"-->", at + 4) + 3, b""))

    def _cdata_start(self) -> None:
        self._cdata_at = self._parser.CurrentByteIndex

    def _cdata_end(self) -> None:
        at = self._cdata_at
        end = self._document.index(b"]]>", at)
        text = self._document[at + len(b"<![CDATA[") : end]
        text = text.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")
        self.edits.append((at, end + 3, text))
