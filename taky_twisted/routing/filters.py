"""What a client asks to be spared: an area (``t-x-c-f``) or an XPath (``t-b``), of broadcasts to its own connection.

Sources: TAK Server ``cot/filter/GeospatialEventFilter.java``, ``service/SubmissionService.java``
(``processFilterMessage``, ``processSubscriptionMessage``). The form of ``t-b`` that makes a server connect to an
address is deliberately missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from xml.etree.ElementTree import Element

from lxml import etree

from taky_twisted.cot.compose import document
from taky_twisted.cot.event import Event
from taky_twisted.cot.types import passes_geo_filter

Filter = Callable[[Event], bool]
"""Says whether the client wants a broadcast."""

MAX_BOXES = 100
MAX_XPATH_CHARS = 500
MAX_XPATH_STEPS = 3
"""How many of the constructs that multiply work (``//``, ``*``, ``[``) a client's XPath may have of each."""
MAX_XPATH_ELEMENTS = 500
"""Events with more elements are passed on without looking."""
MAX_NAMES = 4096
"""Names that are ever given to libxml2, which never forgets one; further ones are all alike to an XPath."""

_COSTLY = ("::", "|", "..")
_LITERAL = re.compile(r"\"[^\"]*\"|'[^']*'")
_FROM_ROOT = re.compile(r"[\[\s(,=<>+-]/|\b(?:and|or|div|mod)/|[^/\[(,@=<>+\-\s]\s*\*\s*/")
"""A path that begins anew at the root: in a predicate it would be walked once for every element."""
_names: set[str] = set()


class BadFilter(ValueError):
    """A request that is ignored; the text says why."""


@dataclass(frozen=True, slots=True)
class AreaFilter:
    """Only what lies in one of the boxes, apart from what an area never holds back."""

    boxes: tuple[tuple[float, float, float, float], ...]
    """South, west, north, east in degrees."""
    clients_too: bool
    """Whether the reports of clients are held back as well."""

    def __call__(self, event: Event) -> bool:
        if passes_geo_filter(event.type) or (event.lat == 0 and event.lon == 0):
            return True
        detail = event.detail
        if not self.clients_too and detail.team and detail.role:
            return True
        return any(south <= event.lat <= north and west <= event.lon <= east for south, west, north, east in self.boxes)


def area_filter(request: Event) -> AreaFilter | None:
    """Read a ``t-x-c-f``; None when it clears the filter.

    Raises:
        BadFilter: a box that is none.
    """
    area = document(request).find("detail/subscription/geospatialFilter")
    if area is None:
        return None
    boxes = area.findall("boundingBox")
    if len(boxes) > MAX_BOXES:
        raise BadFilter(f"over {MAX_BOXES} boxes")
    if not boxes:
        return None
    return AreaFilter(tuple(map(_box, boxes)), area.get("filterTAKClients", "").lower() == "true")


def _box(box: Element) -> tuple[float, float, float, float]:
    try:
        south, west, north, east = (
            float(box.attrib[name]) for name in ("minLatitude", "minLongitude", "maxLatitude", "maxLongitude")
        )
    except (KeyError, ValueError) as error:
        raise BadFilter(f"a box lacks a number: {error}") from error
    if not all(map(isfinite, (south, west, north, east))):
        raise BadFilter("a box lacks a number")
    return south, west, north, east


def xpath_filter(request: Event) -> Filter | None:
    """Read a ``t-b`` for the asking connection itself (``stcp``); None when it wants everything.

    Raises:
        BadFilter: it asks for a connection to somewhere, or its XPath is not understood.
    """
    root = document(request)
    subscription = root.find("detail/subscription")
    if subscription is None:
        raise BadFilter("no subscription in it")
    publish = subscription.get("publish", "")
    if publish and not publish.lower().startswith("stcp"):
        raise BadFilter("this server opens no connections on request")
    tests = subscription.find("tests")
    expression = "" if tests is None else tests.get("xpath", "")
    if expression in ("", "*"):
        return None
    if len(expression) > MAX_XPATH_CHARS or _is_costly(_LITERAL.sub("''", expression)):
        raise BadFilter("an XPath that is too costly")
    try:
        path = etree.XPath(expression, smart_strings=False)
        path(_tree(root))
    except etree.XPathError as error:
        raise BadFilter(f"XPath {expression!r}: {error}") from error

    def wanted(event: Event) -> bool:
        root = document(event)
        if sum(1 for _ in root.iter()) > MAX_XPATH_ELEMENTS:
            return True
        try:
            return bool(path(_tree(root)))
        except etree.XPathError:
            return False

    return wanted


def _is_costly(expression: str) -> bool:
    """Whether an XPath (without literals) goes anywhere but down, or all the way down again and again."""
    predicates = expression[expression.find("[") :] if "[" in expression else ""
    return (
        any(construct in expression for construct in _COSTLY)
        or any(expression.count(construct) > MAX_XPATH_STEPS for construct in ("//", "*", "["))
        or predicates.count("//") > 1
        or _FROM_ROOT.search(predicates) is not None
    )


def _tree(element: Element, parent: etree._Element | None = None) -> etree._Element:
    """Rebuild an event for libxml2, with a bounded number of names."""
    attributes = {_known(name): value for name, value in element.attrib.items()}
    name = _known(element.tag)
    copy = etree.Element(name, attributes) if parent is None else etree.SubElement(parent, name, attributes)
    copy.text = element.text
    for child in element:
        _tree(child, copy)
    return copy


def _known(name: str) -> str:
    if name not in _names:
        if len(_names) >= MAX_NAMES or ":" in name or "}" in name:
            return "_"
        _names.add(name)
    return name
