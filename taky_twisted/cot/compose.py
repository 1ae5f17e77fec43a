"""Events that the server says itself, and copies that differ from what was said in one point.

Sources: TAK Server ``service/SubmissionService.java`` (pong), ``groups/MessagingUtilImpl.java`` (departure, failed
chat), ``service/RepeaterService.java`` (repeats), ``util/CommonUtil.java`` (file offer),
``cot/filter/FlowTagFilter.java``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from uuid import uuid4
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from .event import PROLOG, Destinations, Detail, Event
from .times import format_time
from .types import CHAT, CHAT_FAILED, DELETE, FILE_OFFER, GROUPS_CHANGED, PONG
from .xmlcodec import Edit, apply_edits, set_attributes

NOTICE_SECONDS = 20
"""How long what we say ourselves stays fresh."""
OFFER_SECONDS = 100
"""How long the offer of a file stays fresh (TAK Server ``util/CommonUtil.java``)."""
MAX_FILE_NAME_CHARS = 100
DAY = 24 * 3600
SERVER = "TAK-Server"
"""As whom the server writes to clients."""
FALLBACK_TYPE = "a-f-G-U-C"
"""The type named in a departure when the contact's own is not known."""

_ROOT = len(PROLOG)
_HOW = "h-g-i-g-o"
_NO_FILE_NAME = re.compile(r"[^\w.~@-]")
_FLOW_TAGS = re.compile(rb"<_flow-tags_(?=[ \t\r\n/>])")
_START_TAG = re.compile(rb"<(?:\"[^\"]*\"|'[^']*'|[^\"'>])*?(/?)>")
_NOWHERE = '<point lat="0" lon="0" hae="0" ce="9999999" le="9999999"/>'


def _notice(
    uid: str, type_: str, now: float, detail: Detail, inner: str, how: str = _HOW, seconds: float = NOTICE_SECONDS
) -> Event:
    time, stale = format_time(now), format_time(now + seconds)
    xml = (
        PROLOG
        + (
            f'<event version="2.0" uid={quoteattr(uid)} type="{type_}" how="{how}" time="{time}" start="{time}"'
            f' stale="{stale}">{_NOWHERE}{inner}</event>'
        ).encode()
    )
    return Event(uid, type_, how, now, now, now + seconds, 0.0, 0.0, detail, xml)


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


def groups_changed(now: float) -> Event:
    """Say that other groups of the listener are active than before: it asks over HTTP which.

    Source: TAK Server ``service/DistributedSubscriptionManager.java``.
    """
    return _notice(str(uuid4()), GROUPS_CHANGED, now, Detail(), '<detail><link relation="p-p"/></detail>')


def file_offer(event: Event, url: str, sha256: str, sender: str, now: float) -> Event:
    """Offer an event as a file.

    ATAK ignores an offer that lacks one of these attributes (ATAK-CIV ``commoncommo/core/impl/cotmessage.cpp``). It is
    not asked to acknowledge: nobody waits for that.

    Args:
        event: what is offered.
        url: where it is fetched, to the byte as it is here.
        sha256: its digest.
        sender: the callsign of who said it.
        now: seconds since the epoch.
    """
    name = quoteattr((_NO_FILE_NAME.sub("_", event.uid).lstrip(".")[:MAX_FILE_NAME_CHARS] or "event") + ".cot")
    inner = (
        f'<detail><fileshare filename={name} name={name} senderUrl={quoteattr(url)} sizeInBytes="{len(event.xml)}"'
        f' sha256="{sha256}" senderUid="{sha256}" senderCallsign={quoteattr(sender)}/></detail>'
    )
    # Directed as the event was, should it have to find its way again because a connection breaks.
    detail = Detail(destinations=event.detail.destinations)
    return _notice(sha256, FILE_OFFER, now, detail, inner, "h-e", OFFER_SECONDS)


def message(text: str, to: str, now: float) -> Event:
    """Write to a client, as a chat from the server.

    Source: ATAK-CIV ``android/chat/GeoChatService.java`` (what it wants in ``__chat`` and ``remarks``).

    Args:
        text: what is said.
        to: the client's uid.
        now: seconds since the epoch.
    """
    identifier, room = str(uuid4()), quoteattr(SERVER)
    inner = (
        f'<detail><__chat parent="RootContactGroup" groupOwner="false" messageId="{identifier}" chatroom={room}'
        f" id={room} senderCallsign={room}><chatgrp uid0={room} uid1={quoteattr(to)} id={room}/></__chat>"
        f'<link uid={room} type="{FALLBACK_TYPE}" relation="p-p"/><remarks source={room} to={quoteattr(to)}'
        f' time="{format_time(now)}">{escape(text)}</remarks></detail>'
    )
    detail = Detail(destinations=Destinations(uids=(to,), explicit=True))
    return _notice(f"GeoChat.{SERVER}.{to}.{identifier}", CHAT, now, detail, inner, seconds=DAY)


def repeated(event: Event, now: float, stale: float) -> Event:
    """Say an emergency again: fresh ``time`` and ``stale``, the ``start`` of the first time."""
    return _with_root(
        event, {b"time": format_time(now), b"stale": format_time(stale)}, replace(event, time=now, stale=stale)
    )


def chat_failed(event: Event, max_bytes: int = 0) -> Event:
    """Tell the sender that a chat reached nobody: the same message, of another type.

    Args:
        event: the chat.
        max_bytes: what a client can read, 0 for anything; a longer message is told of without its text.
    """
    failed = _with_root(event, {b"type": CHAT_FAILED}, replace(event, type=CHAT_FAILED))
    if max_bytes and len(failed.xml) > max_bytes:
        failed.xml = apply_edits(failed.xml, _without_remarks(failed.xml))
    return failed


def without_flow_tag(event: Event, tag: str) -> Event:
    """Take one server's tag out of ``<_flow-tags_>``; other tags stay."""
    edits: list[Edit] = []
    name = tag.encode()
    for match in _FLOW_TAGS.finditer(event.xml):
        edits += set_attributes(event.xml, match.start(), {name: None})
    tags = tuple(other for other in event.detail.flow_tags if other != tag)
    return replace(event, xml=apply_edits(event.xml, edits), detail=replace(event.detail, flow_tags=tags))


def with_flow_tag(event: Event, tag: str, now: float) -> bytes:
    """Spell an event for another server, with our tag in it, once.

    It goes into the ``<_flow-tags_>`` that is there, if any: TAK Server looks at no second one.
    """
    xml = without_flow_tag(event, tag).xml if tag in event.detail.flow_tags else event.xml
    attribute = f' {tag}="{format_time(now)}"'.encode()
    name, at = _place_for_tags(xml)
    if name != "detail":
        at += len(b"<_flow-tags_")
        return xml[:at] + attribute + xml[at:]
    match = _START_TAG.match(xml, at)
    assert match is not None
    element = b"<_flow-tags_" + attribute + b"/>"
    if match[1]:
        return xml[: match.start(1)] + b">" + element + b"</detail>" + xml[match.end() :]
    return xml[: match.end()] + element + xml[match.end() :]


def _without_remarks(xml: bytes) -> list[Edit]:
    """Make the edits that take out every ``<remarks>`` in ``<detail>``."""
    path: list[str] = []
    edits: list[Edit] = []
    begin = 0
    parser = expat.ParserCreate("UTF-8")

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal begin
        path.append(name)
        if path[1:] == ["detail", "remarks"]:
            begin = parser.CurrentByteIndex

    def end(name: str) -> None:
        if path[1:] == ["detail", "remarks"]:
            at = parser.CurrentByteIndex  # behind an empty-element tag, but before an end tag
            edits.append((begin, xml.index(b">", at) + 1 if xml.startswith(b"</remarks", at) else at, b""))
        path.pop()

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(xml, True)
    # The parser holds functions that hold the parser.
    parser.StartElementHandler = parser.EndElementHandler = None
    return edits


def _place_for_tags(xml: bytes) -> tuple[str, int]:
    """Find the first ``<_flow-tags_>`` in ``<detail>``, else the first ``<detail>``."""
    path: list[str] = []
    places: dict[str, int] = {}
    parser = expat.ParserCreate("UTF-8")

    def start(name: str, _attributes: dict[str, str]) -> None:
        path.append(name)
        if path[1:] in (["detail"], ["detail", "_flow-tags_"]):
            places.setdefault(name, parser.CurrentByteIndex)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: path.pop()
    parser.Parse(xml, True)
    # The parser holds a function that holds the parser.
    parser.StartElementHandler = None
    name = "_flow-tags_" if "_flow-tags_" in places else "detail"
    return name, places[name]


def document(event: Event) -> ElementTree.Element:
    """Read an event's elements, for the few that are looked into: filters and requests to the server.

    Names are qualified names as they are spelled: CoT has no namespaces, and clients do not always declare theirs.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(event.xml, True)
    return builder.close()


def _with_root(event: Event, values: dict[bytes, str | None], copy: Event) -> Event:
    copy.xml = apply_edits(event.xml, set_attributes(event.xml, _ROOT, values))
    return copy
