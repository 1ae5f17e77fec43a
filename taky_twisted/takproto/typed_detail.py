"""The six children of ``<detail>`` that have fields of their own, both ways.

An element becomes a field if its attributes are exactly those of the field, none is empty (the field could not tell
that from absent), and numbers are numbers. That it is empty and the only one of its name is `xml_detail`'s to say.

Source: ATAK-CIV ``commoncommo/core/impl/cotmessage.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isinf
from typing import Any
from xml.sax.saxutils import escape

from .xml_detail import child_names

ELEMENTS = frozenset({"contact", "__group", "precisionlocation", "status", "takv", "track"})
"""Names of the elements."""

MAX_COUNT = 0xFFFF_FFFF
SMALLEST_PLAIN, LARGEST_PLAIN = 1e-20, 1e20
"""Between these, numbers are spelled without an exponent: not everybody reads one."""

_TEXTS = {
    "contact": ("contact", (frozenset({"callsign", "endpoint"}), frozenset({"callsign"}))),
    "__group": ("group", (frozenset({"name", "role"}),)),
    "precisionlocation": ("precisionLocation", (frozenset({"geopointsrc", "altsrc"}),)),
    "takv": ("takv", (frozenset({"device", "platform", "os", "version"}),)),
}
# Spellings that a number does not give back ("+5", "087") are not only a number to whoever wrote them.
_COUNT = re.compile("0|[1-9][0-9]{0,9}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_NOT_ZERO = re.compile("[^eE]*[1-9]")
_SPECIAL = re.compile('[&<>"\t\n\r]')
_ESCAPES = {'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}


def field_of(name: str, attributes: dict[str, str]) -> tuple[str, Mapping[str, object]] | None:
    """Find the field that says an element.

    Args:
        name: one of `ELEMENTS`.
        attributes: all that the element has.

    Returns:
        The field's name in ``Detail`` and what it holds; None if it cannot say all of the element.
    """
    if name in _TEXTS:
        field, allowed = _TEXTS[name]
        return (field, attributes) if attributes.keys() in allowed and all(attributes.values()) else None
    if name == "status":
        battery = attributes.get("battery", "")
        if len(attributes) == 1 and _COUNT.fullmatch(battery) and int(battery) <= MAX_COUNT:
            return "status", {"battery": int(battery)}
        return None
    speed, course = _number(attributes.get("speed", "")), _number(attributes.get("course", ""))
    if len(attributes) == 2 and speed is not None and course is not None:
        return "track", {"speed": speed, "course": course}
    return None


def spell_fields(detail: Any) -> str:
    """Spell the fields of a ``Detail`` message as elements, except where ``xmlDetail`` has one of that name.

    Raises:
        MalformedEvent: ``xmlDetail`` is not what may stand inside ``<detail>``.
    """
    elements = {}
    if detail.HasField("takv"):
        takv = detail.takv
        elements["takv"] = (
            f"<takv device={quoted(takv.device)} platform={quoted(takv.platform)} os={quoted(takv.os)}"
            f" version={quoted(takv.version)}/>"
        )
    if detail.HasField("contact"):
        contact = detail.contact
        endpoint = f" endpoint={quoted(contact.endpoint)}" if contact.endpoint else ""
        elements["contact"] = f"<contact callsign={quoted(contact.callsign)}{endpoint}/>"
    if detail.HasField("group"):
        group = detail.group
        elements["__group"] = f"<__group name={quoted(group.name)} role={quoted(group.role)}/>"
    if detail.HasField("status"):
        elements["status"] = f'<status battery="{detail.status.battery}"/>'
    if detail.HasField("track"):
        track = detail.track
        elements["track"] = f'<track course="{spell_number(track.course)}" speed="{spell_number(track.speed)}"/>'
    if detail.HasField("precisionLocation"):
        precision = detail.precisionLocation
        elements["precisionlocation"] = (
            f"<precisionlocation altsrc={quoted(precision.altsrc)} geopointsrc={quoted(precision.geopointsrc)}/>"
        )
    xml_detail = detail.xmlDetail
    if any(f"<{name}" in xml_detail for name in elements):
        taken = child_names(xml_detail)
        return "".join(element for name, element in elements.items() if name not in taken)
    return "".join(elements.values())


def quoted(text: str) -> str:
    """Spell an attribute's value, with its quotes; blanks of any kind survive."""
    return f'"{escape(text, _ESCAPES)}"' if _SPECIAL.search(text) else f'"{text}"'


def spell_number(value: float) -> str:
    """Spell a number with as few digits as give it back."""
    text = repr(value)
    if "e" in text and SMALLEST_PLAIN <= abs(value) < LARGEST_PLAIN:
        return format(Decimal(text), "f")
    return text if text != "nan" else "NaN"


def _number(text: str) -> float | None:
    """Read what a double can hold, be it with fewer digits."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return None if isinf(value) or (not value and _NOT_ZERO.match(text)) else value
