from __future__ import annotations

import time
from xml.sax.saxutils import quoteattr

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import Event
from taky_twisted.routing import filters
from taky_twisted.routing.filters import (
    MAX_BOXES,
    MAX_XPATH_CHARS,
    MAX_XPATH_ELEMENTS,
    AreaFilter,
    BadFilter,
    Filter,
    area_filter,
    xpath_filter,
)
from tests.samples import cancel, chat, control, emergency, event, marker, sa, xml

UNBOUND = "<x:y/>"
"""Fine for expat and for TAK clients, but not for a parser that knows namespaces."""


def point(lat: float, lon: float) -> str:
    """Spell a place."""
    return f'<point lat="{lat}" lon="{lon}" hae="0" ce="1" le="1"/>'


def at(lat: float, lon: float, type_: str = "a-h-G") -> Event:
    """Make an item at a place."""
    return event(xml("M", type_, point=point(lat, lon)))


def box(south: object = 10, west: object = 20, north: object = 11, east: object = 21) -> str:
    """Spell a box."""
    return f'<boundingBox minLatitude="{south}" minLongitude="{west}" maxLatitude="{north}" maxLongitude="{east}"/>'


def area_request(*boxes: str, attributes: str = "") -> Event:
    """Ask for an area."""
    inner = f"<geospatialFilter {attributes}>{''.join(boxes)}</geospatialFilter>"
    return event(control("t-x-c-f", f"<subscription>{inner}</subscription>"))


def area(*boxes: str, attributes: str = "") -> AreaFilter:
    """Make an area."""
    made = area_filter(area_request(*boxes, attributes=attributes))
    assert made is not None
    return made


def xpath_request(expression: str, publish: str = "stcp:1.2.3.4:0") -> Event:
    """Ask for an XPath."""
    tests = f"<tests xpath={quoteattr(expression)}/>"
    return event(control("t-b", f"<subscription publish={quoteattr(publish)}>{tests}</subscription>"))


def xpath(expression: str) -> Filter:
    """Make a filter of an XPath."""
    made = xpath_filter(xpath_request(expression))
    assert made is not None
    return made


class AreaTests(SynchronousTestCase):
    def test_inside_and_outside(self) -> None:
        """An area lets through what lies in its box, edges included, and holds back the rest."""
        wanted = area(box())
        for lat, lon in ((10, 20), (11, 21), (10.5, 20.5), (10, 21)):
            self.assertTrue(wanted(at(lat, lon)), (lat, lon))
        for lat, lon in ((9.999, 20.5), (11.001, 20.5), (10.5, 19.999), (10.5, 21.001), (-10.5, -20.5)):
            self.assertFalse(wanted(at(lat, lon)), (lat, lon))

    def test_several_boxes(self) -> None:
        """Several boxes let through what lies in one of them."""
        wanted = area(box(), box(-5, -5, -4, -4))
        self.assertTrue(wanted(at(-4.5, -4.5)))
        self.assertTrue(wanted(at(10.5, 20.5)))
        self.assertFalse(wanted(at(0.5, 0.5)))

    def test_never_held_back(self) -> None:
        """Chat, receipts and emergencies are never held back, nor what has no place (0/0)."""
        wanted = area(box())
        for document in (
            chat("A"),
            *(chat("A", type_=f"b-t-f-{kind}") for kind in "drps"),
            *(emergency("A", "A", type_) for type_ in ("b-a-o-tbl", "b-a-o-pan", "b-a-o-opn", "b-a-g")),
            cancel("A", "A"),
        ):
            self.assertTrue(wanted(event(document)), document)
        self.assertTrue(wanted(at(0, 0)))
        self.assertFalse(wanted(at(0, 50)))
        self.assertFalse(wanted(at(50, 0)))
        self.assertFalse(wanted(at(50, 50, "b-m-p-s-m")))

    def test_clients(self) -> None:
        """Reports of clients come through unless the area is for them as well."""
        for attributes, through in (
            ("", True),
            ('filterTAKClients="false"', True),
            ('filterTAKClients="true"', False),
            ('filterTAKClients="TRUE"', False),
        ):
            wanted = area(box(), attributes=attributes)
            self.assertEqual(wanted(event(sa("A", "A"))), through, attributes)
            self.assertTrue(wanted(event(sa("A", "A", point=point(10.5, 20.5)))))
        self.assertFalse(area(box())(event(marker(extra='<__group name="Cyan"/>'))), "a client has a team and a role")

    def test_clearing(self) -> None:
        """A request without boxes clears the area."""
        self.assertIsNone(area_filter(area_request()))
        self.assertIsNone(area_filter(event(control("t-x-c-f"))))
        self.assertIsNone(area_filter(event(control("t-x-c-f", "<subscription/>"))))

    def test_malformed_boxes(self) -> None:
        """One box that is none makes the request void, whatever is wrong with it."""
        for bad in ("<boundingBox/>", box("north"), box(""), box("nan"), box(north="inf"), box(east="1e999")):
            self.assertRaises(BadFilter, area_filter, area_request(box(), bad))
        error = self.assertRaises(BadFilter, area_filter, area_request('<boundingBox minLatitude="1"/>'))
        self.assertIn("minLongitude", str(error))

    def test_number_of_boxes(self) -> None:
        """So many boxes are taken and not one more."""
        self.assertEqual(len(area(*[box()] * MAX_BOXES).boxes), MAX_BOXES)
        self.assertRaises(BadFilter, area_filter, area_request(*[box()] * (MAX_BOXES + 1)))

    def test_undeclared_namespace(self) -> None:
        """A request with a namespace that nobody declared is read all the same."""
        self.assertIsNone(area_filter(event(control("t-x-c-f", UNBOUND))))


class XPathTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.names: set[str] = set()
        self.patch(filters, "_names", self.names)  # so that what is invented here is not held against others

    def test_what_matches(self) -> None:
        """An XPath lets through what it selects something of, or finds true."""
        for expression, through in (
            ("/event[starts-with(@type,'a-h')]", True),
            ("/event[starts-with(@type,'b-m-p')]", False),
            ("//contact[@callsign='TGT 1']", True),
            ("//contact[@callsign='TGT 2']", False),
            ("/event/detail/*[@callsign]", True),
            ("string(/event/detail/remarks)", True),
            ("/event/detail/remarks[.='two <vehicles>']", True),
            ("/event/point[@lat>52 and @lon<5]", True),
            ("count(//nothing)", False),
            ("not(//archive)", False),
            ("/event[@type='a-h-G' and not(detail/archive)]", False),
            ("//contact[contains(@callsign,'/ //../ TGT | :: **** [[[[')]", False),
        ):
            wanted = xpath(expression)
            self.assertEqual(
                wanted(event(marker(extra="<remarks>two &lt;vehicles&gt;</remarks>"))), through, expression
            )

    def test_wants_everything(self) -> None:
        """No XPath, an empty one and ``*`` ask for everything."""
        for request in (xpath_request("*"), xpath_request(""), event(control("t-b", "<subscription/>"))):
            self.assertIsNone(xpath_filter(request))

    def test_no_connection_on_request(self) -> None:
        """A request for a connection to an address is refused, whatever it asks besides."""
        for publish in ("udp:10.0.0.1:9999", "tcp:10.0.0.1:1", "mcast:239.2.3.1:6969", "ssl:x:1", "x"):
            error = self.assertRaises(BadFilter, xpath_filter, xpath_request("//contact", publish))
            self.assertIn("no connections", str(error))
        for publish in ("", "stcp:10.0.0.1:9999", "STCP"):
            self.assertIsNotNone(xpath_filter(xpath_request("//contact", publish)))

    def test_no_subscription(self) -> None:
        """A request that asks for nothing is refused."""
        self.assertRaises(BadFilter, xpath_filter, event(control("t-b")))

    def test_not_understood(self) -> None:
        """An XPath that is none, or calls what does not exist, is refused with what was wrong."""
        for expression in (
            "/event[",
            "nosuch()",
            "$variable",
            "x:y",
            "document('file:///etc/passwd')",
            "re:test('', '')",
        ):
            error = self.assertRaises(BadFilter, xpath_filter, xpath_request(expression))
            self.assertIn(expression[:5], str(error))

    def test_fails_later(self) -> None:
        """An XPath that only fails on some events holds those back."""
        wanted = xpath("/event[@type='t-b'] or nosuch()")
        self.assertFalse(wanted(event(marker())))

    def test_too_costly(self) -> None:
        """An XPath that would walk through the event again and again is refused."""
        for expression in (
            "/event/child::detail",
            "//a|//b",
            "//x[../x]",
            "//x//x//x//x",
            "//*/*/*/*",
            "/event[a][b][c][d]",
            "//*[//*[//*]]",
            "//x[count(//x)>1]",
            "//x[@a and //x]",
            "//x[@a and//x]",
            "//x[1 div//x]",
            "//x[2*//x]",
            "//x[2 * /event]",
            "//x[.//x[.//x]]",
            "//x[@a=/event/@type]",
        ):
            error = self.assertRaises(BadFilter, xpath_filter, xpath_request(expression))
            self.assertIn("costly", str(error), expression)

    def test_length(self) -> None:
        """An XPath may be so long and no longer."""
        longest = "/event['" + "x" * (MAX_XPATH_CHARS - 10) + "']"
        self.assertEqual(len(longest), MAX_XPATH_CHARS)
        self.assertTrue(xpath(longest)(event(marker())))
        self.assertRaises(BadFilter, xpath_filter, xpath_request(longest.replace("x'", "xx'")))

    def test_what_is_allowed_is_cheap(self) -> None:
        """The worst that is allowed on the worst event takes no time that others would notice."""
        wide = event(xml("X", "a-h-G", "<x>" + "<x/>" * 490 + "</x>"))
        deep = event(xml("X", "a-h-G", "<x>" * 90 + "<x/>" * 400 + "</x>" * 90))
        for expression in ("//x//x//x", "//x[.//x='q']", "//x[x<.//x]", "count(//x[x[.//x='q']])", "//*[*/*]/x"):
            wanted = xpath(expression)
            for said in (wide, deep):
                before = time.process_time()
                wanted(said)
                self.assertLess(time.process_time() - before, 0.25, expression)

    def test_number_of_elements(self) -> None:
        """An event with more elements than are looked at is passed on."""
        wanted = xpath("//nothing")
        for more, through in ((-1, False), (0, False), (1, True)):
            inner = "<x/>" * (MAX_XPATH_ELEMENTS - 3 + more)  # beside event, point and detail
            self.assertEqual(wanted(event(xml("X", "a-h-G", inner))), through, more)

    def test_what_only_lenient_parsers_read(self) -> None:
        """An event whose namespaces are not declared is looked at like any other; a request needs a subscription."""
        for inner in (UNBOUND, '<x xmlns:a="u" xmlns:b="u" a:c="1" b:c="2"/>'):
            self.assertFalse(xpath("//nothing")(event(marker(extra=inner))))
            self.assertTrue(xpath("/event")(event(marker(extra=inner))))
        self.assertRaises(BadFilter, xpath_filter, event(control("t-b", UNBOUND)))

    def test_namespaces_and_comments(self) -> None:
        """Elements and attributes in namespaces, comments and instructions disturb nothing."""
        odd = '<a xmlns="urn:a" xmlns:b="urn:b" b:c="1" xml:lang="en"><!-- x --><?pi x?><b:d/>t</a>'
        self.assertTrue(xpath("//contact[@callsign='TGT 1']")(event(marker(extra=odd))))

    def test_names_are_bounded(self) -> None:
        """However many names clients invent, libxml2 (which forgets none) is given so many; what it knows works on."""
        self.patch(filters, "MAX_NAMES", 60)
        wanted = xpath("//contact[@callsign='TGT 1']")
        self.assertTrue(wanted(event(marker())))
        for number in range(100):
            wanted(event(xml("X", "a-h-G", f'<name{number} attribute{number}="x" other="y" more="z"/>')))
        self.assertEqual(len(self.names), 60)
        self.assertTrue(wanted(event(marker(extra="<later a='1' b='2'/>"))))
        self.assertFalse(xpath("//later")(event(marker(extra="<later/>"))))

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet="/[]*.@x1'=()|:$-+ <>a", max_size=30))
    def test_any_expression(self, expression: str) -> None:
        """Whatever a client asks for, it gets a filter or a refusal."""
        try:
            wanted = xpath_filter(xpath_request(expression))
        except BadFilter:
            return
        if wanted is not None:
            self.assertIn(wanted(event(marker())), (True, False))

    @settings(max_examples=200, deadline=None)
    @given(
        st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z", "C")), max_size=20),
        st.text(alphabet=st.characters(codec="utf-8"), max_size=8),
    )
    def test_any_event(self, text: str, name: str) -> None:
        """Whatever the codec takes in, a filter can look at."""
        document = marker().replace(b"<archive/>", f"<x{name} a{name}={quoteattr(text)}>{text}</x{name}>".encode())
        try:
            said = event(document)
        except ValueError:
            return
        self.assertIn(xpath("//x[@a='b']")(said), (True, False))
