"""Events as clients send them; every value is invented."""

from __future__ import annotations

from taky_twisted.cot.event import Event
from taky_twisted.cot.times import format_time
from taky_twisted.cot.xmlcodec import decode

NOW = 1_772_359_200.0
"""2026-03-01T10:00:00Z: when the samples are said."""
ATAK_PROLOG = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
POINT = '<point lat="52.1" lon="4.3" hae="101.5" ce="4.9" le="9999999"/>'


def xml(
    uid: str = "ITEM-1",
    type_: str = "a-h-G",
    detail: str = "",
    *,
    now: float = NOW,
    stale: float = 375,
    point: str = POINT,
    how: str = "m-g",
    marti: str | None = None,
) -> bytes:
    """Spell an event; ``stale`` counts seconds from ``now``, ``marti`` is what stands inside ``<marti>``."""
    time = format_time(now)
    if marti is not None:
        detail += f"<marti>{marti}</marti>"
    return (
        f'<event version="2.0" uid="{uid}" type="{type_}" how="{how}" time="{time}" start="{time}"'
        f' stale="{format_time(now + stale)}">{point}<detail>{detail}</detail></event>'
    ).encode()


def to(*callsigns: str) -> str:
    """Spell destinations by callsign."""
    return "".join(f'<dest callsign="{callsign}"/>' for callsign in callsigns)


def sa(uid: str, callsign: str, *, team: str = "Cyan", extra: str = "", **keys: object) -> bytes:
    """Spell a client's self-report as ATAK does."""
    detail = (
        '<takv os="33" version="4.10.0.5" device="GOOGLE PIXEL 6" platform="ATAK-CIV"/>'
        f'<contact endpoint="*:-1:stcp" callsign="{callsign}"/><uid Droid="{callsign}"/>'
        f'<__group role="Team Member" name="{team}"/><status battery="87"/><track course="12.5" speed="0.0"/>{extra}'
    )
    return xml(uid, "a-f-G-U-C", detail, **keys)  # type: ignore[arg-type]


def marker(uid: str = "MARK-1", callsign: str = "TGT 1", extra: str = "", **keys: object) -> bytes:
    """Spell a shared map item: it has a callsign but is nobody's self-report."""
    keys.setdefault("stale", 86_400)
    return xml(uid, "a-h-G", f'<contact callsign="{callsign}"/><archive/>{extra}', **keys)  # type: ignore[arg-type]


def ping(uid: str = "A") -> bytes:
    """Spell a ping."""
    return xml(f"{uid}-ping", "t-x-c-t", stale=10)


def delete(uid: str, forced: bool = True, **keys: object) -> bytes:
    """Spell the delete of an item."""
    forcing = "<__forcedelete/>" if forced else ""
    detail = f'<link uid="{uid}" type="a-h-G" relation="p-p"/>{forcing}'
    return xml(f"delete-{uid}", "t-x-d-d", detail, **keys)  # type: ignore[arg-type]


def chat(
    sender: str,
    text: str = "hello",
    *,
    number: int = 1,
    room: str = "All Chat Rooms",
    id_: str | None = None,
    uids: tuple[str, ...] = ("All Chat Rooms",),
    type_: str = "b-t-f",
    **keys: object,
) -> bytes:
    """Spell a GeoChat message."""
    conversation = room if id_ is None else id_
    members = "".join(f' uid{at}="{uid}"' for at, uid in enumerate(uids, 1))
    detail = (
        f'<__chat parent="RootContactGroup" groupOwner="false" messageId="m-{number}" chatroom="{room}"'
        f' id="{conversation}" senderCallsign="{sender}"><chatgrp uid0="{sender}"{members} id="{conversation}"/>'
        "</__chat>"
        f'<link uid="{sender}" type="a-f-G-U-C" relation="p-p"/><remarks source="BAO.F.ATAK.{sender}">{text}</remarks>'
    )
    keys.setdefault("stale", 86_400)
    return xml(f"GeoChat.{sender}.{conversation}.m-{number}", type_, detail, **keys)  # type: ignore[arg-type]


def emergency(uid: str, callsign: str, type_: str = "b-a-o-tbl", **keys: object) -> bytes:
    """Spell an emergency as it is raised."""
    detail = (
        f'<link uid="{uid}" type="a-f-G-U-C" relation="p-p"/><contact callsign="{callsign}-Alert"/>'
        f'<emergency type="911 Alert">{callsign}</emergency>'
    )
    keys.setdefault("stale", 10)
    return xml(f"{uid}-9-1-1", type_, detail, **keys)  # type: ignore[arg-type]


def cancel(uid: str, callsign: str, **keys: object) -> bytes:
    """Spell the cancel of an emergency."""
    detail = f'<emergency cancel="true">{callsign}</emergency>'
    return xml(f"{uid}-9-1-1", "b-a-o-can", detail, **keys)  # type: ignore[arg-type]


def control(type_: str, detail: str = "", uid: str = "control-1") -> bytes:
    """Spell a message that is meant for the server."""
    return xml(uid, type_, detail, stale=60)


def event(document: bytes) -> Event:
    """Read a sample."""
    return decode(document)
