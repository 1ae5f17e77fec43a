"""One event to one message of TAK protocol version 1, and back.

A child of ``<detail>`` becomes a typed field only if the field says all of it; any other child stands in ``xmlDetail``
as it is, and counts before a typed field of its name. So nothing is lost in ``<detail>``. What the messages have no
place for exists in the XML form only: unknown attributes of ``<event>`` and ``<point>``, attributes of ``<detail>``,
other children of ``<event>``.

Sources: ATAK-CIV ``commoncommo/core/impl/cotmessage.cpp`` (``serializeAsProtobuf``), TAK Server
``tak/server/proto/StreamingProtoBufHelper.java``. Where they differ, what loses nothing counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from math import isinf
from typing import Any

from google.protobuf.message import DecodeError

from taky_twisted.cot import xmlcodec
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.times import LATEST

from .messages import TakMessage
from .typed_detail import ELEMENTS, field_of, quoted, spell_fields, spell_number
from .xml_detail import DetailReader, child_names

UNKNOWN = 9999999.0
"""Meters: what ATAK says of a height or an error that it does not know."""

_LATEST_MILLIS = LATEST * 1000
_EPOCH = datetime(1970, 1, 1)
_END = re.compile(rb"</event[ \t\r\n]*>")
_OPTIONAL = (
    # attribute, field; the schema spells one of them differently
    ("access", "access"),
    ("qos", "qos"),
    ("opex", "opex"),
    ("caveat", "caveat"),
    ("releasableTo", "releaseableTo"),
)


def encode(event: Event) -> bytes:
    """Spell an event as a serialized ``TakMessage``, without a frame around it."""
    reader = DetailReader(event.xml, ELEMENTS)
    root, point, pieces = reader.root, reader.point, reader.pieces
    said: dict[str, object] = {
        "uid": event.uid,
        "type": event.type,
        "how": event.how,
        "sendTime": _millis(event.time),
        "startTime": _millis(event.start),
        "staleTime": _millis(event.stale),
        "lat": event.lat,
        "lon": event.lon,
        "hae": _meters(point["hae"]),
        "ce": _meters(point["ce"]),
        "le": _meters(point["le"]),
    }
    for attribute, field in _OPTIONAL:
        if attribute in root:
            said[field] = root[attribute]
    detail: dict[str, object] = {}
    for name, (at, attributes) in reader.candidates.items():
        if (found := field_of(name, attributes)) is not None:
            detail[found[0]] = found[1]
            pieces[at] = b""
    if xml_detail := b"".join(pieces):
        detail["xmlDetail"] = xml_detail.decode()
    if detail:
        said["detail"] = detail
    payload: bytes = TakMessage(cotEvent=said).SerializeToString()
    return payload


def payload_of(event: Event) -> bytes:
    """Spell an event as `encode` does, but only the first time."""
    payload = event.protobuf
    if payload is None:
        payload = event.protobuf = encode(event)
    return payload


def decode(payload: bytes, read: Callable[[bytes], Event] = xmlcodec.decode) -> Event | None:
    """Read what one frame carries.

    Args:
        payload: a serialized ``TakMessage``.
        read: makes the event from its XML, as `xmlcodec.decode` does.

    Returns:
        The event, or None if the message is only between its sender and us (``takControl``).

    Raises:
        MalformedEvent: it is no ``TakMessage``, or no valid event.
    """
    message = TakMessage()
    try:
        message.ParseFromString(payload)
    except (DecodeError, ValueError) as error:  # ValueError: text that is not UTF-8, where protobuf is pure Python
        raise MalformedEvent(f"no TakMessage: {error}") from error
    if not message.HasField("cotEvent"):
        return None
    said = message.cotEvent
    document = _spell(said)
    event = read(document)
    _check_end(event.xml)
    unchanged = event.xml.endswith(document) and len(event.xml) == len(PROLOG) + len(document)
    if unchanged and max(said.sendTime, said.startTime, said.staleTime) <= _LATEST_MILLIS:
        if message.HasField("takControl"):
            message.ClearField("takControl")
            payload = message.SerializeToString()
        event.protobuf = payload
    return event


def _spell(said: Any) -> bytes:
    detail = said.detail
    xml_detail = detail.xmlDetail
    if "</detail" in xml_detail:
        child_names(xml_detail)  # one that ends <detail> itself would be well-formed in the end
    inner = spell_fields(detail) + xml_detail
    optional = "".join(
        [f" {attribute}={quoted(text)}" for attribute, field in _OPTIONAL if (text := getattr(said, field))]
    )
    return (
        f'<event version="2.0" uid={quoted(said.uid)} type={quoted(said.type)} how={quoted(said.how)}'
        f' time="{_spell_millis(said.sendTime)}" start="{_spell_millis(said.startTime)}"'
        f' stale="{_spell_millis(said.staleTime)}"{optional}>'
        f'<point lat="{spell_number(said.lat)}" lon="{spell_number(said.lon)}" hae="{spell_number(said.hae)}"'
        f' ce="{spell_number(said.ce)}" le="{spell_number(said.le)}"/>'
        f"{f'<detail>{inner}</detail>' if inner else '<detail/>'}</event>"
    ).encode()


def _check_end(xml: bytes) -> None:
    """Refuse an event that would fall into two on an XML stream.

    Raises:
        MalformedEvent: the end tag stands in it more than once, in an element of that name or in an instruction.
    """
    if xml.find(b"</event") != len(xml) - len(b"</event>"):
        match = _END.search(xml)
        if match is None or match.end() != len(xml):
            raise MalformedEvent("xmlDetail holds </event>, at which an XML stream would be cut")


@lru_cache(4096)  # time and start are mostly the same, and many events have the same stale
def _spell_millis(millis: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=min(millis, _LATEST_MILLIS))
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def _millis(seconds: float) -> int:
    return max(0, round(min(seconds, LATEST) * 1000))


def _meters(text: str) -> float:
    value = float(text)
    return UNKNOWN if isinf(value) else value  # too large for a double: whoever reads infinity drops the event
