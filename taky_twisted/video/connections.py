"""Video connections and their feeds, and how ``/Marti/api/video`` spells them: as JSON, which is also what is kept.

Sources: TAK Server ``video/VideoConnection.java`` and ``video/FeedV2.java`` (the members), node-tak
``lib/api/video.ts`` (numbers are strings, and which may be null).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from taky_twisted.video.errors import BadVideo, NoRoom
from taky_twisted.video.urls import RAW, Place, split

MAX_NAME = 1024
"""Characters of a uid or an alias."""
MAX_TEXT = 1 << 14
"""Characters of any other text."""
MAX_FEEDS = 100
"""Feeds of one connection."""
MAX_DOCUMENT = 1 << 16
"""Bytes of one connection as JSON."""
MAX_NUMBER = (1 << 31) - 1

TEXTS: dict[str, str | None] = {
    "macAddress": "",
    "roverPort": "-1",
    "ignoreEmbeddedKLV": "false",
    "source": None,
    "networkTimeout": "5000",
    "bufferTime": "-1",
    "rtspReliable": "0",
    "thumbnail": None,
    "classification": None,
    "latitude": None,
    "longitude": None,
    "fov": None,
    "heading": None,
    "range": None,
}
"""A feed's members that are texts, and what stands where there is none: what ATAK takes then, else nothing."""
NUMBERS = ("order", "width", "height", "bitrate")
"""A feed's members that are whole numbers."""
OLD_TEXTS = ("preferredInterfaceAddress", "type")
"""What only the older API has; shown only where somebody said it."""

_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot carry."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One camera or stream."""

    uid: str
    alias: str
    url: str
    active: bool = True
    raw: bool = False
    """Whether it was given as a URL that a player gets as it is, though its parts are known."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Those of `TEXTS` and `OLD_TEXTS` that were said."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Those of `NUMBERS` that were said."""

    @property
    def place(self) -> Place:
        """Where it comes from, in parts."""
        return Place(RAW, self.url, -1, "") if self.raw else split(self.url)

    def shown(self) -> dict[str, Any]:
        """Spell it for JSON."""
        return {
            "uuid": self.uid,
            "active": self.active,
            "alias": self.alias,
            "url": self.url,
            **{name: self.texts.get(name, default) for name, default in TEXTS.items()},
            **{name: self.numbers.get(name) for name in NUMBERS},
            **{name: self.texts[name] for name in OLD_TEXTS if name in self.texts},
            **({"protocol": RAW} if self.raw else {}),
        }


@dataclass(frozen=True, slots=True)
class Connection:
    """What belongs together: usually one feed, perhaps several cameras of one aircraft."""

    uid: str
    alias: str
    feeds: tuple[Feed, ...]
    active: bool = True
    thumbnail: str | None = None
    classification: str | None = None

    @property
    def document(self) -> str:
        """All of it as JSON.

        Raises:
            NoRoom: it is too large.
        """
        document = json.dumps(
            {
                "uuid": self.uid,
                "active": self.active,
                "alias": self.alias,
                "thumbnail": self.thumbnail,
                "classification": self.classification,
                "feeds": [feed.shown() for feed in self.feeds],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        if len(document.encode()) > MAX_DOCUMENT:
            raise NoRoom(f"{self.alias[:100]} is too large: a video connection may have {MAX_DOCUMENT} bytes")
        return document

    def with_feed(self, feed: Feed) -> Connection:
        """Put a feed in place of the one with its uid, or add it; numbers that it does not say stay."""
        feeds = {older.uid: older for older in self.feeds}
        older = feeds.get(feed.uid)
        if older is not None:
            feed = replace(feed, numbers={**older.numbers, **feed.numbers})
        feeds[feed.uid] = feed
        if len(feeds) > MAX_FEEDS:
            raise NoRoom(f"{self.alias[:100]} has {MAX_FEEDS} feeds already")
        alone = len(feeds) == 1
        return replace(
            self,
            feeds=tuple(feeds.values()),
            alias=feed.alias if alone else self.alias,
            active=feed.active if alone else self.active,
        )


def connection_of(feed: Feed) -> Connection:
    """Make a connection of a feed that stands for itself."""
    texts = feed.texts
    return Connection(feed.uid, feed.alias, (feed,), feed.active, texts.get("thumbnail"), texts.get("classification"))


def read_connection(said: object) -> Connection:
    """Read a connection that was JSON.

    Raises:
        BadVideo: it makes no sense.
    """
    if not isinstance(said, dict):
        raise BadVideo("a video connection is no JSON object")
    feeds = said.get("feeds", [])
    if not isinstance(feeds, list) or len(feeds) > MAX_FEEDS:
        raise BadVideo(f"feeds is no list of up to {MAX_FEEDS}")
    read = tuple(_read_feed(feed) for feed in feeds)
    if len({feed.uid for feed in read}) < len(read):
        raise BadVideo("two feeds have the same uuid")
    return Connection(
        uid=_name(said, "uuid", str(uuid4())),
        alias=_name(said, "alias"),
        feeds=read,
        active=_flag(said, "active"),
        thumbnail=_text(said, "thumbnail"),
        classification=_text(said, "classification"),
    )


def checked(name: str, text: str, most: int = MAX_TEXT) -> str:
    """Return a text if it is fit to be kept, and shown as XML too.

    Raises:
        BadVideo: it is not.
    """
    if len(text) > most:
        raise BadVideo(f"{name} has over {most} characters")
    if _UNFIT.search(text):
        raise BadVideo(f"{name} has characters that are none")
    return text


def _read_feed(said: object) -> Feed:
    if not isinstance(said, dict):
        raise BadVideo("a feed is no JSON object")
    texts = {name: text for name in (*TEXTS, *OLD_TEXTS) if (text := _text(said, name)) is not None}
    numbers = {name: number for name in NUMBERS if (number := _number(said, name)) is not None}
    url = _text(said, "url")
    if not url:
        raise BadVideo("a feed has no url")
    return Feed(
        uid=_name(said, "uuid", str(uuid4())),
        alias=_name(said, "alias"),
        url=url,
        active=_flag(said, "active"),
        raw=said.get("protocol") == RAW,
        texts=texts,
        numbers=numbers,
    )


def _name(said: dict[str, Any], name: str, default: str = "") -> str:
    text = checked(name, _text(said, name) or default, MAX_NAME)
    if not text:
        raise BadVideo(f"there is no {name}")
    return text


def _text(said: dict[str, Any], name: str) -> str | None:
    """Read a text; numbers and truth values are spelled, as clients may send either."""
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        value = repr(value)
    if not isinstance(value, str):
        raise BadVideo(f"{name} is no text")
    return checked(name, value)


def _number(said: dict[str, Any], name: str) -> int | None:
    value = said.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,10}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_NUMBER:
        raise BadVideo(f"{name} is no whole number that fits")
    return value


def _flag(said: dict[str, Any], name: str) -> bool:
    value = said.get(name)
    if value is None:
        return True
    if not isinstance(value, bool):
        raise BadVideo(f"{name} is neither true nor false")
    return value
