"""How an event's XML is made small: deflate, told beforehand what events look like.

A self-report of 700 bytes becomes some 150: several times as many days fit on a small disk.
"""

from __future__ import annotations

import zlib

PLAIN, PACKED = 0, 1
"""How the bytes are to be read; part of the file's format."""
MAX_BYTES = 64 << 20
"""The largest event that is packed, and unpacked; a damaged file does not fill the memory."""
_WINDOW = -13  # 8 KiB, without header and checksum: with the usual 32 KiB an event takes eight times as long
_MEMORY_LEVEL = 6

# Part of the file's format: it may never change. A better one is a new number beside `PACKED`. What is most frequent
# comes last, where deflate finds it with the shortest distances.
_DICTIONARY = b"""\
<__chat parent="RootContactGroup" groupOwner="false" messageId="" chatroom="All Chat Rooms" id="All Chat Rooms" \
senderCallsign=""><chatgrp uid0="ANDROID-" uid1="All Chat Rooms" id="All Chat Rooms"/></__chat><remarks \
source="BAO.F.ATAK.ANDROID-" to="All Chat Rooms" time=""></remarks><link uid="ANDROID-" type="a-f-G-U-C" \
relation="p-p"/><__serverdestination destinations=":4242:tcp:"/><emergency type="911 Alert"></emergency>\
<usericon iconsetpath="COT_MAPPING_SPOTMAP/b-m-p-s-m/-1"/><usericon iconsetpath="COT_MAPPING_2525C/a-h/a-h-G"/>\
<strokeColor value="-1"/><strokeWeight value="3.0"/><fillColor value="-1761607681"/><labels_on value="true"/>\
<height_unit>4</height_unit><color argb="-1"/><color value="-1"/><archive/><remarks></remarks><remarks/>\
<link uid="" callsign="" type="b-m-p-w" point="" remarks="" relation="c"/><link_attr color="-1" method="Driving" \
type="Vehicle" direction="Infil" routetype="Primary" order="Ascending Check Points"/><link relation="p-p" \
parent_callsign="" production_time="" type="a-f-G-U-C" uid="ANDROID-"/><creator uid="ANDROID-" callsign="" time="" \
type="a-f-G-U-C"/><_flow-tags_ TAK-Server-=""/>\
<?xml version="1.0" encoding="UTF-8"?>
<event version="2.0" uid="GeoChat.ANDROID-.All Chat Rooms." type="b-t-f" how="h-g-i-g-o" time="2026-\
<event version="2.0" uid="" type="b-m-p-s-m" how="h-g-i-g-o" time="2027-<event version="2.0" uid="" type="a-u-G" \
how="m-p" time="2026-<event version="2.0" type="a-h-G" uid="ANDROID-" how="m-g" time="T00:00:00.000Z" start="2026-\
T00:00:00.000Z" stale="2026-T00:00:00.000Z"><point lat="0.0" lon="0.0" hae="9999999.0" ce="9999999.0" \
le="9999999.0"/><detail><contact callsign=""/><precisionlocation geopointsrc="???" altsrc="DTED0"/>\
<?xml version="1.0" encoding="UTF-8"?>
<event version="2.0" uid="ANDROID-" type="a-f-G-U-C" how="m-g" time="2026-01-01T00:00:00.000Z" \
start="2026-01-01T00:00:00.000Z" stale="2026-01-01T00:06:15.000Z" access="Undefined"><point lat="" lon="-" hae="" \
ce="9999999.0" le="9999999.0"/><detail><takv os="33" version="5.4.0.16 (55e727de).1741814400-CIV" device="SAMSUNG \
SM-G" platform="ATAK-CIV"/><contact endpoint="*:-1:stcp" phone="" callsign=""/><uid Droid=""/><precisionlocation \
altsrc="GPS" geopointsrc="GPS"/><__group role="Team Member" name="Cyan"/><status battery="100" \
readiness="true"/><track course="0.0" speed="0.0"/></detail></event>"""


def pack(xml: bytes) -> tuple[int, bytes]:
    """Make bytes small, if that helps; the number says how to read them again."""
    packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, _WINDOW, _MEMORY_LEVEL, zdict=_DICTIONARY)
    packed = packer.compress(xml) + packer.flush()
    # What `unpack` would not unpack stays plain: an event that grew when it was spelled as XML.
    return (PACKED, packed) if len(packed) < len(xml) <= MAX_BYTES else (PLAIN, xml)


def unpack(how: int, data: bytes) -> bytes:
    """Read what `pack` made.

    Raises:
        ValueError: it did not make that: the file is damaged, or of a newer version.
    """
    if how == PLAIN:
        return data
    if how != PACKED:
        raise ValueError(f"packed in an unknown way, {how}")
    unpacker = zlib.decompressobj(_WINDOW, zdict=_DICTIONARY)
    try:
        xml = unpacker.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"damaged: {error}") from error
    if not unpacker.eof:
        raise ValueError("damaged: its end is missing")
    return xml
