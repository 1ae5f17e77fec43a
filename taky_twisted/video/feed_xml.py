"""How the older API spells feeds: ``<videoConnections>`` with a ``<feed>`` for each; and the newer one's, as XML.

Sources: ATAK-CIV ``android/video/manager/VideoXMLHandler.java`` (what ATAK writes and reads; without protocol, alias
and uid it drops a feed), TAK Server ``video/Feed.java``, ``video/VideoCollections.java`` and ``video/FeedV2.java``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from taky_twisted.video.connections import MAX_NAME, TEXTS, Connection, Feed, checked
from taky_twisted.video.errors import BadVideo
from taky_twisted.video.urls import NO_PORT, RAW, is_protocol, join

MAX_FEEDS = 1000
"""Feeds in one document."""
MAX_DEPTH = 20
"""Elements inside each other; there is a use for three."""

_PROLOG = '<?xml version="1.0" encoding="UTF-8"?>'
_NAMES = {"macAddress": "preferredMacAddress", "networkTimeout": "timeout", "bufferTime": "buffer"}
"""Members whose names differ in XML."""
_TEXTS = {_NAMES.get(name, name): name for name in (*TEXTS, "preferredInterfaceAddress", "type")}
_NUMBERS = ("port", "roverPort", "buffer", "timeout", "rtspReliable")
"""Elements that ATAK reads as whole numbers."""


class _Reader:
    """Collect the children of every ``<feed>``; what is inside of those is of no interest.

    This is expat and not lxml: libxml2 keeps every name that it has ever read until the process ends, and these are
    strangers' names. Without a document type there are no entities, and nothing outside is ever looked at.
    """

    def __init__(self, document: bytes) -> None:
        self.feeds: list[dict[str, str]] = []
        self._path: list[str] = []
        self._text: list[str] = []
        parser = expat.ParserCreate(_encoding(document))
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = self._doctype
        try:
            parser.Parse(document, True)
        except expat.ExpatError as error:
            raise BadVideo(f"the body is no XML that can be read: {error}") from error
        finally:
            # The parser holds our methods, which hold us.
            parser.StartElementHandler = parser.EndElementHandler = parser.StartDoctypeDeclHandler = None

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        path = self._path
        path.append(name.rpartition(":")[2])
        if len(path) > MAX_DEPTH:
            raise BadVideo(f"there are over {MAX_DEPTH} elements inside each other")
        if self._feed_at() == len(path) - 1:
            if len(self.feeds) == MAX_FEEDS:
                raise BadVideo(f"there are over {MAX_FEEDS} feeds")
            self.feeds.append({})
        elif len(path) == 1 and path[0].lower() != "videoconnections":
            raise BadVideo(f"the body is <{name[:40]}> and not <videoConnections>")
        self._text.clear()

    def _end(self, _name: str) -> None:
        path = self._path
        if self._feed_at() == len(path) - 2:
            self.feeds[-1][path[-1]] = "".join(self._text).strip()
        path.pop()
        self._text.clear()

    def _feed_at(self) -> int:
        """Say how deep the feed is that we are in; -2 if in none."""
        path = self._path
        if path[0].lower() == "feed":
            return 0
        return 1 if len(path) > 1 and path[1].lower() == "feed" else -2

    @staticmethod
    def _doctype(*_declaration: object) -> None:
        raise BadVideo("document type declarations are refused")


def _encoding(document: bytes) -> str:
    # ATAK says UTF-8, but its HTTP library writes the text in Latin-1 (``PostVideoListOperation.java``).
    try:
        document.decode("utf-8")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return "UTF-8"


def read_feeds(document: bytes) -> list[Feed]:
    """Read the feeds of a document; it may also be one ``<feed>`` alone.

    Raises:
        BadVideo: it makes no sense.
    """
    return [_read_feed(said) for said in _Reader(document).feeds]


def _read_feed(said: dict[str, str]) -> Feed:
    for name in ("protocol", "alias", "uid"):
        if not said.get(name):
            raise BadVideo(f"a feed has no {name}")
    protocol = said["protocol"].lower()
    if not is_protocol(protocol):
        raise BadVideo("the protocol of a feed is no word that a URL begins with")
    for name in _NUMBERS:
        if name in said and not _is_number(said[name]):
            del said[name]  # as ATAK does
    address, path = said.get("address", ""), said.get("path", "")
    if not address and (protocol == RAW or not path):
        raise BadVideo("a feed has no address")
    url = join(protocol, address, int(said.get("port", NO_PORT)), path)
    return Feed(
        uid=checked("uid", said["uid"], MAX_NAME),
        alias=checked("alias", said["alias"], MAX_NAME),
        url=checked("the address of a feed", url),
        active=said.get("active", "true").lower() != "false",
        raw=protocol == RAW,
        texts={name: checked(element, said[element]) for element, name in _TEXTS.items() if said.get(element)},
    )


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 11


def feed_element(feed: Feed) -> str:
    """Spell a feed as ATAK reads it."""
    place, texts = feed.place, feed.texts
    values = {
        "protocol": place.protocol,
        "alias": feed.alias,
        "uid": feed.uid,
        "address": place.address,
        "port": str(place.port),
        "path": place.path,
        **{element: texts.get(name, TEXTS.get(name)) for element, name in _TEXTS.items()},
        "active": _word(feed.active),
        "id": feed.uid,
    }
    children = [f"<{name}>{escape(value)}</{name}>" for name, value in values.items() if value is not None]
    return f"<feed>{''.join(children)}</feed>"


def connection_element(connection: Connection) -> str:
    """Spell a connection as the newer API does in XML."""
    values = {
        "uid": connection.uid,
        "active": connection.active,
        "alias": connection.alias,
        "thumbnail": connection.thumbnail,
        "classification": connection.classification,
    }
    feeds = []
    for feed in connection.feeds:
        shown = feed.shown()
        shown["uid"] = shown.pop("uuid")
        feeds.append(f"<feed{_attributes(shown)}/>")
    return f"<videoCollection{_attributes(values)}>{''.join(feeds)}</videoCollection>"


def document(root: str, elements: Iterable[str]) -> bytes:
    """Put elements into a document; the root element is there without any as well."""
    return f"{_PROLOG}<{root}>{''.join(elements)}</{root}>".encode()


def alone(element: str) -> bytes:
    """Make a document of one element."""
    return f"{_PROLOG}{element}".encode()


def _attributes(values: dict[str, Any]) -> str:
    return "".join(
        f" {_NAMES.get(name, name)}={quoteattr(_word(value))}" for name, value in values.items() if value is not None
    )


def _word(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
