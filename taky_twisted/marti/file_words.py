"""What clients say of files in the parameters of a request, and which files they look for.

Sources: TAK Server ``sync/UploadServlet.java``, ``sync/SearchServlet.java`` (the names).
"""

from __future__ import annotations

import re

from taky_twisted.enterprise_sync.files import Caller, Words
from taky_twisted.enterprise_sync.records import NEVER
from taky_twisted.enterprise_sync.search import Search
from taky_twisted.enterprise_sync.texts import clean, clean_name, clean_type
from taky_twisted.marti.arguments import Arguments
from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.replies import LAST_SECOND
from taky_twisted.marti.request import MartiRequest

MAX_TEXT = 255
"""Characters of a tool, a uid, a keyword."""
MAX_WORDS = 50
"""Keywords, permissions, contacts."""
MAX_REMARKS = 2000
"""Characters."""
MAX_ALL = 4000
"""Characters of all that is said of one file: it is kept in memory."""
FAR = 1e7
"""Meters; no altitude or radius is larger."""


def caller_of(request: MartiRequest) -> Caller:
    """Say who asks."""
    return Caller(request.principal, host_of(request.getClientAddress()), request.principal.admin)


def words_of(request: MartiRequest) -> Words:
    """Read what an uploader says of a file.

    Raises:
        BadRequest: it makes no sense, or is too much.
    """
    said = request.arguments
    groups = said.words("groups")
    words = Words(
        name=clean_name(said.one("name", "filename") or ""),
        uid=_text(said, "uid") or None,
        mime_type=_type(said.one("mimetype")),
        tool=_text(said, "tool") if "tool" in said else None,
        keywords=checked_words("keywords", said.words("keywords", "keyword")),
        creator_uid=_text(said, "creatoruid"),
        groups=frozenset(groups) if groups else None,
        expiration=expiration_of(said),
        remarks=_text(said, "remarks", MAX_REMARKS),
        latitude=said.number("latitude", None, -90, 90),
        longitude=said.number("longitude", None, -180, 180),
        altitude=said.number("altitude", None, -FAR, FAR),
        permissions=checked_words("permissions", said.words("permissions")),
        contacts=checked_words("contacts", said.words("contacts")),
    )
    texts = (words.name, words.tool or "", words.uid or "", words.creator_uid, words.remarks)
    if sum(map(len, (*texts, *words.keywords, *words.permissions, *words.contacts))) > MAX_ALL:
        raise BadRequest(f"too much is said of the file; up to {MAX_ALL} characters are kept")
    return words


def checked_words(name: str, words: list[str]) -> tuple[str, ...]:
    """Take a list of words, each once, in its order; `BadRequest` if they are too many or too long."""
    cleaned = [word for text in words if (word := clean(text))]
    if len(cleaned) > MAX_WORDS or any(len(word) > MAX_TEXT for word in cleaned):
        raise BadRequest(f"{name}: up to {MAX_WORDS} of up to {MAX_TEXT} characters are kept")
    return tuple(dict.fromkeys(cleaned))


def checked_text(name: str, text: str, limit: int = MAX_TEXT) -> str:
    """Take a text; `BadRequest` if it is too long or has control characters."""
    text = text.strip()
    if len(text) > limit or clean(text) != text:
        raise BadRequest(f"{name}: up to {limit} characters are kept, and no control characters")
    return text


def checked_type(text: str) -> str:
    """Take a MIME type; `BadRequest` if it is none."""
    mime_type = clean_type(text)
    if not mime_type:
        raise BadRequest("the MIME type is none like application/zip")
    return mime_type


def expiration_of(said: Arguments) -> float:
    """Read when a file is to go, seconds since the epoch; negative: never."""
    expiration = said.number("expiration", NEVER, -LAST_SECOND, LAST_SECOND)
    return NEVER if expiration is None or expiration < 0 else expiration


def search_of(said: Arguments) -> Search:
    """Read what files a client looks for; names that it does not know are left aside.

    Raises:
        BadRequest: a value makes no sense.
    """
    box, circle = _numbers(said, 4, "bbox", "box"), _numbers(said, 3, "circle")
    if box and circle:
        raise BadRequest("bbox and circle exclude each other")
    start, stop = said.time("starttime"), said.time("stoptime", "endtime")
    moment = said.time("submissiondatetime")
    return Search(
        keywords=tuple(said.words("keywords", "keyword")),
        tool=said.one("tool") or None,
        hash=said.hash() if said.one("hash") else None,
        name=(said.one("name") or "") or (said.one("filename") or ""),
        uid=said.one("uid") or "",
        mime_type=said.one("mimetype") or "",
        submitter=said.one("submissionuser") or "",
        remarks=said.one("remarks") or "",
        permission=said.one("permissions") or "",
        number=said.count("primarykey", 0) if said.one("primarykey") else None,
        start=moment if moment is not None else start,
        stop=moment + 0.001 if moment is not None else stop,  # times are shown in milliseconds
        low=said.number("minaltitude"),
        high=said.number("maxaltitude"),
        box=(box[0], box[1], box[2], box[3]) if box else None,
        circle=(circle[0], circle[1], circle[2]) if circle else None,
    )


def _text(said: Arguments, name: str, limit: int = MAX_TEXT) -> str:
    return checked_text(name, said.one(name) or "", limit)


def _type(text: str | None) -> str:
    return checked_type(text) if text else ""


def _numbers(said: Arguments, count: int, *names: str) -> list[float]:
    text = said.one(*names)
    if not text:
        return []
    parts = text.split(",")
    if len(parts) != count or not all(
        re.fullmatch(r"\s*[+-]?\d{1,9}(\.\d{1,15})?\s*", part, re.ASCII) for part in parts
    ):
        raise BadRequest(f"{names[0]} must be {count} numbers with commas between")
    return [float(part) for part in parts]
