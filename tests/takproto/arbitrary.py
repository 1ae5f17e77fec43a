"""Any event that is valid, in XML and as a message, and what two forms of one event must agree on."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from taky_twisted.cot.times import LATEST, format_time
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.protobuf_framing import ProtobufFraming

CORPUS = {path.name: path.read_bytes() for path in sorted((Path(__file__).parent / "corpus").glob("*.stream"))}
"""Streams, some of them damaged; their names say what they are."""
TYPED = ("contact", "__group", "precisionlocation", "status", "takv", "track")

BRIEF = settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_XML_CHARACTERS = st.characters(
    exclude_categories=["Cs"],
    exclude_characters=[chr(code) for code in range(0x20) if code not in (9, 10, 13)] + ["\ufffe", "\uffff"],
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "FOX1", " blanks ", "\t\n\r", "&<>\"'", "]]>", "café \U0001f98a", "p:q", "0", "087", "1e3", "abc"]
    ),
    st.text(_XML_CHARACTERS, max_size=12),
)
MILLIS = st.integers(0, LATEST * 1000)
LATITUDES, LONGITUDES = st.floats(-90, 90), st.floats(-180, 180)
METERS = st.one_of(st.sampled_from([9999999.0, 999999.0, 0.0, math.nan]), st.floats(allow_infinity=False))
_NAMES = st.sampled_from(
    ["remarks", "link", "uid", "archive", "detail", "det", "point", "é", "__chat", "events", *TYPED]
)
_PREFIXES = st.sampled_from(["", "", "", "p:", "q:"])
_ATTRIBUTE_NAMES = st.sampled_from(
    ["name", "role", "callsign", "endpoint", "battery", "speed", "course", "altsrc", "geopointsrc", "é", "p:x", "q:x"]
)
_NUMBERS = st.one_of(
    st.floats().map(repr),
    st.sampled_from(["0", "0.0", "12.5", "+5", "-1.", ".5", "1e-7", "1e400", "NaN", "abc", "1_0", ""]),
)
_URIS = st.sampled_from(["urn:a", "urn:b", "urn:&amp;c"])


def _spelled_value(text: str, how: int) -> str:
    if how == 0:
        return '"' + "".join(f"&#{ord(character)};" for character in text) + '"'
    if how == 1:
        return "'" + escape(text, {"'": "&apos;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}) + "'"
    return '"' + escape(text, {'"': "&quot;"}) + '"'  # blanks that XML makes spaces of


def _spelled_text(text: str, how: int) -> str:
    if how == 0:
        return "".join(f"&#x{ord(character):x};" for character in text)
    if how == 1:
        return "<![CDATA[" + text.replace("]]>", "]]]]><![CDATA[>") + "]]>"
    return escape(text)


_VALUES = st.builds(_spelled_value, TEXTS, st.integers(0, 2))
_CHARACTER_DATA = st.builds(_spelled_text, TEXTS, st.integers(0, 2))
_MISCELLANY = st.one_of(
    st.just("<!-- </detail> <contact/> -->"), st.just("<?pi <x> ?>"), st.just(" \n"), _CHARACTER_DATA
)


@st.composite
def _attributes(draw: st.DrawFn) -> str:
    # "p" and "q" may be bound to one namespace, in which one element may not have the same name twice.
    names = draw(st.lists(_ATTRIBUTE_NAMES, max_size=3, unique_by=lambda name: name.replace("q:", "p:")))
    return "".join(f" {name}={draw(_VALUES)}" for name in names)


@st.composite
def _typed_elements(draw: st.DrawFn) -> str:
    """Spell an element that has a field of its own, or nearly."""

    def said(element: str, /, **values: str) -> str:
        attributes = [f" {key}={value}" for key, value in values.items()]
        if draw(st.integers(0, 9)) == 0:
            attributes.pop()
        if draw(st.integers(0, 9)) == 0:
            attributes.append(' phone="1"')
        inside = draw(
            st.sampled_from(["/>"] * 8 + [f"></{element}>", f"> </{element}>", f"><x/></{element}>", f">t</{element}>"])
        )
        return f"<{element}{''.join(draw(st.permutations(attributes)))}{inside}"

    number = _NUMBERS.map(lambda text: f'"{text}"')
    which = draw(st.sampled_from(TYPED))
    if which == "contact":
        return said(which, callsign=draw(_VALUES), endpoint=draw(_VALUES))
    if which == "__group":
        return said(which, name=draw(_VALUES), role=draw(_VALUES))
    if which == "precisionlocation":
        return said(which, geopointsrc=draw(_VALUES), altsrc=draw(_VALUES))
    if which == "status":
        return said(which, battery=f'"{draw(st.one_of(st.integers(-1, 1 << 33).map(str), _NUMBERS))}"')
    if which == "takv":
        return said(which, **{key: draw(_VALUES) for key in ("device", "platform", "os", "version")})
    return said(which, speed=draw(number), course=draw(number))


def _element(name: str, prefix: str, attributes: str, inner: list[str]) -> str:
    return (
        f"<{prefix}{name}{attributes}>{''.join(inner)}</{prefix}{name} >"
        if inner
        else f"<{prefix}{name}{attributes} />"
    )


_ELEMENTS = st.recursive(
    st.builds(_element, _NAMES, _PREFIXES, _attributes(), st.lists(_CHARACTER_DATA, max_size=1)),
    lambda inner: st.builds(
        _element, _NAMES, _PREFIXES, _attributes(), st.lists(st.one_of(inner, _MISCELLANY), max_size=3)
    ),
    max_leaves=4,
)
_DECLARATIONS = st.one_of(st.just(""), st.just(""), st.builds(' xmlns="{}"'.format, _URIS))
DETAILS = st.lists(st.one_of(_typed_elements(), _ELEMENTS, _MISCELLANY), max_size=6).map("".join)
"""What stands inside ``<detail>``; prefixes p and q are in use."""


def _spelled_time(millis: int, how: int) -> str:
    text = format_time(millis / 1000)
    return (text, text[:-1] + "999Z", text[:-1] + "+00:00", text[:19] + "Z")[how]


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Make an event that is valid, though hardly ever beautiful."""
    time, start, stale = (_spelled_time(draw(MILLIS), draw(st.integers(0, 3))) for _ in range(3))
    uid, type_, how = (f'"{escape(draw(TEXTS.filter(bool)), {chr(34): "&quot;"})}"' for _ in range(3))
    optional = draw(
        st.lists(st.sampled_from(["access", "qos", "opex", "caveat", "releasableTo", "other"]), unique=True)
    )
    attributes = "".join(f" {name}={draw(_VALUES)}" for name in optional)
    lat, lon = repr(draw(LATITUDES)), repr(draw(LONGITUDES))
    hae, ce, le = (repr(draw(METERS)) for _ in range(3))
    point = f'<point lat="{lat}" lon="{lon}" hae="{hae}" ce="{ce}" le="{le}" note="only in XML"/>'
    inner = draw(DETAILS)
    detail = f'<detail xmlns:q="{draw(_URIS)}"{draw(_DECLARATIONS)}>{inner}</detail>'
    if not inner and draw(st.booleans()):
        detail = draw(st.sampled_from(["", "<detail/>", "<detail ></detail >"]))
    return (
        f'<event version="2.0" uid={uid} type={type_} how={how} time="{time}" start="{start}" stale="{stale}"'
        f'{attributes} xmlns:p="{draw(_URIS)}"{draw(_DECLARATIONS)}>{point}{detail}</event>'
    ).encode()


def _fields(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


_DOUBLES = st.floats(allow_infinity=False, allow_nan=False)
TYPED_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "contact": _fields(endpoint=TEXTS, callsign=TEXTS),
    "group": _fields(name=TEXTS, role=TEXTS),
    "precisionLocation": _fields(geopointsrc=TEXTS, altsrc=TEXTS),
    "status": _fields(battery=st.integers(0, 0xFFFFFFFF)),
    "takv": _fields(device=TEXTS, platform=TEXTS, os=TEXTS, version=TEXTS),
    "track": _fields(speed=_DOUBLES, course=_DOUBLES),
}
_SELF_DECLARED = DETAILS.map(lambda inner: inner.replace("p:", "p_").replace("q:", "q_"))
MESSAGES = st.fixed_dictionaries(
    {
        "uid": TEXTS.filter(bool),
        "type": TEXTS.filter(bool),
        "how": TEXTS.filter(bool),
        "sendTime": MILLIS,
        "startTime": MILLIS,
        "staleTime": MILLIS,
        "lat": LATITUDES,
        "lon": LONGITUDES,
        "hae": METERS,
        "ce": METERS,
        "le": METERS,
    },
    optional={
        **dict.fromkeys(("access", "qos", "opex", "caveat", "releaseableTo"), TEXTS),
        "detail": _fields(xmlDetail=_SELF_DECLARED, **TYPED_FIELDS),
    },
)
"""What a ``CotEvent`` message holds."""


def meaning(xml: bytes) -> object:
    """Say what a delivered event means, leaving out what may change on the way.

    That is: the order of typed children beside others, the spelling of their numbers, CDATA or escaped, blanks beside
    children, whether all stands in one ``<detail>``, and what messages have no place for.
    """
    root = ElementTree.fromstring(xml)
    details = [child for child in root if _local(child) == "detail"]
    children = [child for detail in details for child in detail]
    point = next(child for child in root if _local(child) == "point")
    texts = [text or "" for detail in details for text in (detail.text, *(child.tail for child in detail))]
    typed = sorted(repr(_child(child)) for child in children if child.tag in TYPED)
    others = [_child(child) for child in children if child.tag not in TYPED]
    names = ("uid", "type", "how", "time", "start", "stale", "access", "qos", "opex", "caveat", "releasableTo")
    meters = [repr(float(point.attrib[name])) for name in ("hae", "ce", "le")]
    return (
        [root.get(name, "") for name in names],
        [float(point.attrib[name]) for name in ("lat", "lon")],
        [text if "inf" not in text else "9999999.0" for text in meters],
        "".join("".join(texts).split()),
        typed,
        others,
    )


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _child(element: ElementTree.Element) -> object:
    attributes = dict(element.attrib)
    if element.tag == "track":
        attributes = {name: _number(text) for name, text in attributes.items()}
    return (
        element.tag,
        sorted(attributes.items()),
        element.text or "",
        [(_child(inner), inner.tail or "") for inner in element],
    )


def _number(text: str) -> str:
    try:
        return repr(float(text)) if math.isfinite(float(text)) and "_" not in text else text
    except ValueError:
        return text


def payloads(stream: bytes) -> list[bytes]:
    """Take a stream apart, as far as it is in order."""
    framing, buffer, found = ProtobufFraming(1 << 20), bytearray(stream), []
    with suppress(RemoteProtocolError):
        while (payload := framing.next_frame(buffer)) is not None:
            if isinstance(payload, bytes):
                found.append(payload)
    return found


@st.composite
def damaged(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """Spoil a sample in a few places, or make something up."""
    data = bytearray(draw(st.sampled_from([b"", *samples])))
    for _ in range(draw(st.integers(0, 4))):
        at, count = draw(st.integers(0, len(data))), draw(st.integers(0, 4))
        other = draw(st.sampled_from(samples)) if samples else b""
        begin = draw(st.integers(0, len(other)))
        new = draw(st.one_of(st.binary(max_size=4), st.just(other[begin : begin + draw(st.integers(0, 64))])))
        data[at : at + count] = new
    return bytes(data)
