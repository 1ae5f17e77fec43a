"""Events that the server says itself, and copies that differ from what was said in one point.

Sources: TAK Server ``service/SubmissionService.java`` (pong), ``groups/MessagingUtilImpl.java`` (departure, failed
chat), ``service/RepeaterService.java`` (repeats), ``cot/filter/FlowTagFilter.java``.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from .event import PROLOG, Detail, Event
from .times import format_time
from .types import CHAT_FAILED, DELETE, PONG
from .xmlcodec import apply_edits, set_attributes

NOTICE_SECONDS = 20
"""How long what we say ourselves stays fresh."""
FALLBACK_TYPE = "a-f-G-U-C"
"""The type named in a departure when the contact's own is not known."""

_ROOT = len(PROLOG)
_NOWHERE = '<point lat="0" lon="0" hae="0" ce="9999999" le="9999999"/>'


def _notice(uid: str, type_: str, now: float, detail: Detail, inner: str) -> Event:
    time, stale = format_time(now), format_time(now + NOTICE_SECONDS)
    xml = (
        PROLOG
        + (
            f'<event version="2.0" uid={quoteattr(uid)} type="{type_}" how="h-g-i-g-o" time="{time}" start="{time}"'
            f' stale="{stale}">{_NOWHERE}{inner}</event>'
        ).encode()
    )
    return Event(uid, type_, "h-g-i-g-o", now, now, now + NOTICE_SECONDS, 0.0, 0.0, detail, xml)


def pong(now: float) -> Event:
    """Answer a ping."""
    return _notice("takPong", PONG, now, Detail(), "<detail/>")


def departure(uid: str, type_: str, now: float) -> Event:
    """Say that a contact went away.

    ATAK acts on it only if the link has a uid, a relation and a type (ATAK-CIV
    ``android/cotdelete/CotDeleteImporter.java``).
    """
    link = f'<detail><link relation="p-p" uid={quoteattr(uid)} type={quoteattr(type_ or FALLBACK_TYPE)}/></detail>'
    return _notice(str(uuid4()), DELETE, now, Detail(link_uid=uid), link)


def repeated(event: Event, now: float, stale: float) -> Event:
    """Say an emergency again: fresh ``time`` and ``stale``, the ``start`` of the first time."""
    return _with_root(
        event, {b"time": format_time(now), b"stale": format_time(stale)}, replace(event, time=now, stale=stale)
    )


def chat_failed(event: Event) -> Event:
    """Tell the sender that a chat reached nobody: the same message, of another type."""
    return _with_root(event, {b"type": CHAT_FAILED}, replace(event, type=CHAT_FAILED))


def without_flow_tag(event: Event, tag: str) -> Event:
    """Take one server's tag out of ``<_flow-tags_>``; other tags stay."""
    edits, at = [], 0
    name = tag.encode()
    while (at := event.xml.find(b"<_flow-tags_", at)) >= 0:
        edits += set_attributes(event.xml, at, {name: None})
        at += 1
    tags = tuple(other for other in event.detail.flow_tags if other != tag)
    return replace(event, xml=apply_edits(event.xml, edits), detail=replace(event.detail, flow_tags=tags))


def with_flow_tag(event: Event, tag: str, now: float) -> bytes:
    """Spell an event for another server, with our tag in it."""
    xml = event.xml
    tags = f'<_flow-tags_ {tag}="{format_time(now)}"/>'.encode()
    end = xml.rindex(b"</event>")
    if xml.endswith(b"<detail/>", 0, end):
        return xml[: end - len(b"<detail/>")] + b"<detail>" + tags + b"</detail></event>"
    close = xml.rindex(b"</detail", 0, end)
    return xml[:close] + tags + xml[close:]


def document(event: Event) -> ElementTree.Element:
    """Read an event's elements, for the few that are looked into: filters and requests to the server."""
    return ElementTree.fromstring(event.xml)


def _with_root(event: Event, values: dict[bytes, str | None], copy: Event) -> Event:
    copy.xml = apply_edits(event.xml, set_attributes(event.xml, _ROOT, values))
    return copy
