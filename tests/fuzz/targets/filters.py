"""Filters that clients ask for: boxes and XPaths.

The first byte chooses: an XPath alone (0), or the whole request as its event says it (1). Holds: only `BadFilter` is
raised; the filter answers yes or no for any event, also for the largest that it looks at, within a few milliseconds
each: it is asked for every broadcast, in the reactor's thread.
"""

from __future__ import annotations

from time import process_time
from xml.sax.saxutils import quoteattr

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.routing import filters
from taky_twisted.routing.filters import MAX_XPATH_ELEMENTS, BadFilter
from tests.fuzz.target import TRIES, Target
from tests.samples import chat, control, event, marker, sa, xml

EVENT_SECONDS = 0.05
"""CPU time for one event, with what measuring it costs."""
_MANY = MAX_XPATH_ELEMENTS - 4
EVENTS = [
    event(sa("A", "ALPHA")),
    event(marker()),
    event(chat("A")),
    event(xml(detail='<a b="1" c="2">1</a>' * _MANY)),
    event(xml(detail=("<a b='x'>" * 90 + "</a>" * 90) * 5)),
    event(xml(detail="".join(f"<n{number} at{number}='{'x' * 50}'>{'y' * 50}</n{number}>" for number in range(_MANY)))),
    event(xml(detail=f"<remarks>{'a' * 20000}</remarks>")),
]
BIG = len(EVENTS) - 4
"""From here on they are as costly as they may be."""


def run(data: bytes) -> None:
    kind, data = data[:1], data[1:]
    if kind == b"0":
        text = "".join(character for character in data.decode("utf-8", "replace") if character.isprintable())
        subscription = f"<subscription><tests xpath={quoteattr(text)}/></subscription>"
        try:
            asked = decode(control("t-b", subscription))
        except MalformedEvent:
            return
        check(asked)
    elif kind == b"1":
        try:
            asked = decode(data)
        except MalformedEvent:
            return
        check(asked)


def check(asked: Event) -> None:
    """Make both kinds of filters of a request, and ask them."""
    for make in (filters.area_filter, filters.xpath_filter):
        try:
            wanted = make(asked)
        except BadFilter as error:
            assert len(str(error)) < 2000
            continue
        if wanted is None:
            continue
        for each in EVENTS:
            took = []
            for _ in range(TRIES):
                began = process_time()
                assert wanted(each) in (True, False)
                took.append(process_time() - began)
                if took[-1] < EVENT_SECONDS:
                    break
            assert min(took) < EVENT_SECONDS, f"{min(took):.3f} s for an event of {len(each.xml)} bytes"


def _areas() -> list[bytes]:
    box = '<boundingBox minLatitude="1" minLongitude="2" maxLatitude="60" maxLongitude="9"/>'
    return [
        control("t-x-c-f", f"<subscription><geospatialFilter{more}>{inner}</geospatialFilter></subscription>")
        for more, inner in (("", box), (' filterTAKClients="true"', box * 101), ("", ""), ("", "<boundingBox/>"))
    ]


TARGET = Target(
    run,
    seeds=lambda: [
        *(
            b"0" + path
            for path in (
                *(b"//contact[@callsign='ALPHA']", b"/event/detail/*[@b=1]", b"count(//a)>3", b"*", b"", b"/event[1]"),
                *(b"//a//b//c", b"/event/detail/a[position()=last()]", b"contains(/event/@uid,'A')", b"//*[//a]"),
                *(b"string-length(translate(//remarks,'a','b'))>1", b"sum(//a)", b"id('x')", b"//a[/event]", b"$x"),
                *(b"//*[.//*]", b"/event/detail/a[.='1']", b"document('file:///etc/passwd')", b"a|b", b"ancestor::*"),
                *(b"//@*[.=//@*]", b"normalize-space(concat(//a,//b))", b"re:test(., 'x')", b"//a[@b=string(//c)]"),
            )
        ),
        *(b"1" + one for one in _areas()),
        b"1" + control("t-b", '<subscription publish="stcp:x"><tests xpath="//a"/></subscription>'),
        b"1" + control("t-b", '<subscription publish="tcp:1.2.3.4:1"/>'),
    ],
    words=[
        *(b"//", b"*", b"[", b"]", b"@", b"..", b"::", b"|", b"and ", b"or ", b" div ", b" mod ", b"(", b")", b"'"),
        b'"',
        *(b"contains(", b"translate(", b"concat(", b"count(", b"sum(", b"string(", b"number(", b"position()"),
        b"last()",
        *(b"substring(", b"normalize-space(", b"starts-with(", b"name()", b"text()", b"node()", b"comment()", b"not("),
        *(b"/event/detail/", b"boolean(", b"floor(", b"lang('x')", b"id(", b"=", b"!=", b"<", b">", b"-", b"1e400"),
    ],
    max_bytes=1000,
    seconds=2.0,
)
