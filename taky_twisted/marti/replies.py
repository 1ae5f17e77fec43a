"""What goes back to a client: the envelope, and the content types that clients insist on.

Sources: TAK Server ``cot/search/model/ApiResponse.java`` (the envelope) and ``Constants.COT_DATE_FORMAT``; node-tak
``lib/api.ts`` takes a body as JSON only if its type is exactly ``application/json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

JSON = "application/json"
TEXT = "text/plain"
XML = "application/xml"
LAST_SECOND = 253402300799.0
"""The end of the year 9999, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, headers and a body in memory."""

    body: bytes = b""
    content_type: str = TEXT
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    written: bool = False
    """Whether the handler has written it all itself, so that only the end is missing."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What most of ``/Marti/api`` answers; the server's id is added when it is sent."""

    type: str
    """Of the data, as TAK Server calls it; ATAK compares some of them."""
    data: Any

    def reply(self, node_id: str) -> Reply:
        """Spell it for a client."""
        return as_json({"version": "3", "type": self.type, "data": self.data, "nodeId": node_id})


def text(body: str, status: int = 200) -> Reply:
    """Reply with a text; nothing is added to it, no line feed either."""
    return Reply(_encoded(body), TEXT, status)


def as_json(data: Any, status: int = 200) -> Reply:
    """Reply with JSON."""
    return Reply(_encoded(json.dumps(data, ensure_ascii=False, separators=(",", ":"))), JSON, status)


def xml(body: bytes, status: int = 200) -> Reply:
    """Reply with an XML document."""
    return Reply(body, XML, status)


def _encoded(text: str) -> bytes:
    # JSON can smuggle halves of characters in ("\ud800"), which UTF-8 has no bytes for.
    return text.encode("utf-8", "replace")


EMPTY = Reply()
"""200 and nothing else."""


def date(seconds: float) -> str:
    """Spell a time as ATAK reads it: UTC, exactly three digits of a second; more digits would shift it by minutes."""
    moment = datetime.fromtimestamp(min(max(seconds, 0.0), LAST_SECOND), timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
