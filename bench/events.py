"""Events as the clients say them, and the mark by which a receiver knows each again.

A mark is text of fixed width inside ``<remarks>``: ``mark-RUN STREAM NUMBER NANOSECONDS``. A stream is what one sender
says to the same receivers; its numbers count from 0; the time is `time.monotonic_ns` when it was said.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol

PROLOG = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
KEY_BYTES = 4
"""Length of a stream's name in a mark."""
NUMBER_END = KEY_BYTES + 1 + 8
"""Where the number ends in a mark."""
MAX_STREAMS = 10_000
TEAMS = ("Cyan", "White", "Yellow", "Orange", "Magenta", "Red", "Maroon", "Purple", "Blue", "Teal", "Green", "Brown")
POSITION, MARKER, CHAT, EMERGENCY, DELETE = "a-f-G-U-C", "a-h-G", "b-t-f", "b-a-o-tbl", "t-x-d-d"
PING, PONG = "t-x-c-t", b"t-x-c-t-r"
REQUEST, RESPONSE = "t-x-takp-q", "t-x-takp-r"

FindMarks = Callable[[bytearray, int, int], list[bytes]]
"""Finds the marks in a buffer from, to: each as ``STREAM NUMBER NANOSECONDS``."""


class Encoding(Protocol):
    """How events stand on one client's stream.

    Each client has one of its own, so that it may change its ways on the stream: one that is negotiated asks for it in
    `hello`, and sees the answer in `whole`. Marks are text, and found in any encoding.
    """

    def hello(self) -> bytes:
        """Say what is sent as soon as the client is connected."""

    def spell(self, document: bytes) -> bytes:
        """Make what goes on the wire from one ``<event>...</event>``."""

    def whole(self, buffer: bytearray, end: int) -> int:
        """Say where the last whole event in ``buffer[:end]`` ends; 0 if there is none."""

    def holds(self, buffer: bytearray, end: int, document: bytes) -> bool:
        """Whether the document stands in ``buffer[:end]`` as it was said."""


class XML:
    """TAK protocol 0: documents with a prolog each, as ATAK sends them."""

    def hello(self) -> bytes:
        return b""

    def spell(self, document: bytes) -> bytes:
        return PROLOG + document + b"\n"

    def whole(self, buffer: bytearray, end: int) -> int:
        at = buffer.rfind(b"</event>", 0, end)
        return at + 8 if at >= 0 else 0

    def holds(self, buffer: bytearray, end: int, document: bytes) -> bool:
        return buffer.find(document, 0, end) >= 0


def stream_key(number: int) -> bytes:
    """Spell a stream as it stands in marks."""
    if number >= MAX_STREAMS:
        raise ValueError(f"{number} streams do not fit into a mark")
    return b"%04d" % number


def mark(run: str, key: bytes, number: int) -> str:
    """Spell the mark of an event that is said now."""
    return f"mark-{run} {key.decode()} {number:08d} {time.monotonic_ns():016d}"


def mark_finder(run: str) -> FindMarks:
    """Make what finds this run's marks; those of earlier runs, kept by the server, are not seen."""
    return re.compile(b"mark-%s ([0-9 ]{30})" % run.encode()).findall


def uid_of(index: int) -> str:
    """Name a client as an Android device does."""
    return f"ANDROID-{index:016x}"


def callsign_of(index: int) -> str:
    """Name a client for people."""
    return f"UNIT {index:04d}"


def position(index: int, number: int = 0, remarks: str = "", callsign: str | None = None) -> bytes:
    """Spell a self-report, about as long as ATAK's; with a callsign it is directed to that one only."""
    name = callsign_of(index)
    dest = "" if callsign is None else f'<marti><dest callsign="{callsign}"/></marti>'
    return _event(
        uid_of(index),
        POSITION,
        f'<takv os="34" version="5.2.0.4 (1f2e3d4c).1719000000-CIV" device="GOOGLE PIXEL 8 PRO" platform="ATAK-CIV"/>'
        f'<contact endpoint="*:-1:stcp" callsign="{name}"/><uid Droid="{name}"/>'
        f'<precisionlocation altsrc="GPS" geopointsrc="GPS"/><__group role="Team Member" name="{team_of(index)}"/>'
        f'<status battery="{30 + number % 70}"/><track course="{number % 360}.1250000" speed="{number % 30}.5000000"/>'
        f"<remarks>{remarks}</remarks>{dest}",
        index,
        number,
        600,
    )


def marker(uid: str, index: int = 0, number: int = 0, remarks: str = "") -> bytes:
    """Spell a map item that the server keeps for newcomers."""
    detail = (
        f'<contact callsign="{uid}"/><color argb="-65536"/><usericon iconsetpath="COT_MAPPING_2525B/a-h/a-h-G"/>'
        f'<precisionlocation altsrc="DTED2"/><link uid="{uid_of(index)}" type="{POSITION}" parent_callsign='
        f'"{callsign_of(index)}" relation="p-p"/><archive/><remarks>{remarks}</remarks>'
    )
    return _event(uid, MARKER, detail, index, number, 86_400)


def chat(index: int, number: int, remarks: str) -> bytes:
    """Spell a chat message to everybody."""
    uid, room = uid_of(index), "All Chat Rooms"
    return _event(
        f"GeoChat.{uid}.{room}.{number}",
        CHAT,
        f'<__chat parent="RootContactGroup" groupOwner="false" messageId="{number}" chatroom="{room}" id="{room}"'
        f' senderCallsign="{callsign_of(index)}"><chatgrp uid0="{uid}" uid1="{room}" id="{room}"/></__chat>'
        f'<link uid="{uid}" type="{POSITION}" relation="p-p"/>'
        f'<remarks source="BAO.F.ATAK.{uid}" to="{room}" time="{_times(0)[0]}">{remarks}</remarks>',
        index,
        number,
        86_400,
    )


def emergency(index: int, remarks: str) -> bytes:
    """Spell an alert; a client has one at a time."""
    uid, name = uid_of(index), callsign_of(index)
    return _event(
        f"{uid}-9-1-1",
        EMERGENCY,
        f'<link uid="{uid}" type="{POSITION}" relation="p-p"/><contact callsign="{name}-Alert"/>'
        f'<emergency type="911 Alert">{name}</emergency><remarks>{remarks}</remarks>',
        index,
        0,
        10,
    )


def cancel(index: int) -> bytes:
    """Spell the end of an alert."""
    detail = f'<emergency cancel="true">{callsign_of(index)}</emergency>'
    return _event(f"{uid_of(index)}-9-1-1", "b-a-o-can", detail, index, 0, 10)


def delete(uid: str, index: int, number: int, remarks: str) -> bytes:
    """Spell the delete of a map item."""
    detail = f'<link uid="{uid}" type="{MARKER}" relation="p-p"/><__forcedelete/><remarks>{remarks}</remarks>'
    return _event(f"delete-{index}-{number}", DELETE, detail, index, number, 20)


def ping(index: int) -> bytes:
    """Spell a ping."""
    return _event(f"{uid_of(index)}-ping", PING, "", index, 0, 10)


def control(type_: str, detail: str) -> bytes:
    """Spell a message that is between a client and its server."""
    return _event("protouid", type_, detail, 0, 0, 60)


def team_of(index: int) -> str:
    """Choose a team."""
    return TEAMS[index % len(TEAMS)]


def _event(uid: str, type_: str, detail: str, index: int, number: int, stale: int) -> bytes:
    now, until = _times(stale)
    return (
        f'<event version="2.0" uid="{uid}" type="{type_}" how="m-g" time="{now}" start="{now}" stale="{until}">'
        f'<point lat="{52 + index * 1e-4 + number % 1000 * 1e-6:.7f}" lon="{4 - index * 1e-4:.7f}"'
        f' hae="{100 + number % 50}.250" ce="9.9" le="9999999.0"/><detail>{detail}</detail></event>'
    ).encode()


def _times(stale: int, spelled: dict[tuple[int, int], tuple[str, str]] = {}) -> tuple[str, str]:  # noqa: B006
    """Spell now and some seconds later, the same all through one second: it is asked for each event."""
    now = int(time.time())
    found = spelled.get((now, stale))
    if found is None:
        spelled.clear()
        texts = [time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at)) for at in (now, now + stale)]
        found = spelled[now, stale] = texts[0], texts[1]
    return found
