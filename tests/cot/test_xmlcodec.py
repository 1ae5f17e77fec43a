"""What is read of a document. What is delivered of it stands in `tests.takproto.test_connection`, by scenario."""

from __future__ import annotations

import gc
import re
from weakref import ref

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Chat, Destinations, Detail
from taky_twisted.cot.times import LATEST
from taky_twisted.cot.xmlcodec import (
    MAX_ATTRIBUTE_CHARS,
    MAX_ATTRIBUTES,
    MAX_DEPTH,
    MAX_DESTINATIONS,
    MAX_NAME_CHARS,
    Reader,
    apply_edits,
    decode,
    set_attributes,
)
from tests.samples import NOW, POINT, cancel, chat, delete, emergency, sa, to, xml


def detail_of(inner: str) -> Detail:
    """Read what stands inside ``<detail>``."""
    return decode(xml(detail=inner)).detail


class Refusals(SynchronousTestCase):
    def assertRefused(self, document: bytes, reason: str) -> None:
        """Check that an event is refused, and with what words."""
        with self.assertRaises(MalformedEvent) as caught:
            decode(document)
        self.assertIn(reason, str(caught.exception))


class DecodeTests(Refusals):
    """What the server knows of an event."""

    def test_root(self) -> None:
        """Who, what, how, when and where."""
        said = decode(xml("U-1", "a-h-G", stale=60, how="h-e"))
        self.assertEqual((said.uid, said.type, said.how), ("U-1", "a-h-G", "h-e"))
        self.assertEqual((said.time, said.start, said.stale), (NOW, NOW, NOW + 60))
        self.assertEqual((said.lat, said.lon), (52.1, 4.3))
        self.assertEqual(said.detail, Detail())

    def test_three_times(self) -> None:
        """The three times are three."""
        document = re.sub(rb'start="[^"]*"', b'start="2026-03-01T09:00:00+00:00"', xml(stale=1))
        said = decode(document)
        self.assertEqual((said.time, said.start, said.stale), (NOW, NOW - 3600, NOW + 1))

    def test_stale_of_the_far_future(self) -> None:
        """The server itself goes by the stale that was said; only ATAK is told an earlier one."""
        said = decode(re.sub(rb'stale="[^"]*"', b'stale="9999-01-01T00:00:00.000Z"', xml()))
        self.assertGreater(said.stale, LATEST)
        self.assertIn(b'stale="2106-02-07T06:28:15.000Z"', said.xml)

    def test_time_of_the_far_future(self) -> None:
        """No client is sent a time or start that ATAK cannot read."""
        for name in (b"time", b"start"):
            said = decode(re.sub(name + rb'="[^"]*"', name + b'="9999-01-01T00:00:00.000Z"', xml()))
            self.assertIn(name + b'="2106-02-07T06:28:15.000Z"', said.xml)

    def test_references(self) -> None:
        """What is escaped is read as what it means, and delivered as it was spelled."""
        document = xml("&lt;&#65;&#x1F98A;&quot;&amp;")
        said = decode(document)
        self.assertEqual((said.uid, said.xml), ('<A\U0001f98a"&', PROLOG + document))

    def test_missing(self) -> None:
        """What is missing is named."""
        self.assertRefused(b'<event uid="x" how=""></event>', "event lacks type, how, time, start, stale")
        self.assertRefused(xml(point=""), "event has no point")
        self.assertRefused(xml(point='<point lat="1" lon="2" ce="3" le="4"/>'), "point lacks hae")
        self.assertRefused(b"<auth></auth>", "<auth> is not <event>")

    def test_place(self) -> None:
        """A place is five numbers, of which the first two are on Earth, with a little room for rounding."""

        def place(lat: str, lon: str = "0", *rest: str) -> bytes:
            hae, ce, le = rest or ("0", "0", "0")
            return xml(point=f'<point lat="{lat}" lon="{lon}" hae="{hae}" ce="{ce}" le="{le}"/>')

        for lat, lon in (("90.5", "180.5"), ("-90.5", "-180.5"), ("+1", ".5"), ("1.", "1e1"), ("-0.0", "1E-400")):
            said = decode(place(lat, lon))
            self.assertEqual((said.lat, said.lon), (float(lat), float(lon)))
        for lat, lon in (("90.6", "0"), ("-90.6", "0"), ("0", "180.6"), ("0", "-180.6"), ("1e9999", "0")):
            self.assertRefused(place(lat, lon), "point is not on Earth")
        for lat in ("", "NaN", "nan", "inf", "1_0", "0x1", " 1", "1 ", "1,5", "--1", "1e", ".", "1e12345"):
            self.assertRefused(place(lat), "point has a value that is no number")
        decode(place("0", "0", "9999999.0", "NaN", "nan"))
        for rest in (("inf", "0", "0"), ("0", "", "0"), ("0", "0", "x"), ("-NaN", "0", "0")):
            self.assertRefused(place("0", "0", *rest), "point has a value that is no number")

    def test_first_point(self) -> None:
        """Where there are two points, the first one counts; one inside the detail is none."""
        other = POINT.replace("52.1", "12")
        self.assertEqual(decode(xml(point=POINT + other)).lat, 52.1)
        self.assertRefused(xml(point="", detail=POINT), "event has no point")

    def test_not_well_formed(self) -> None:
        """What is no XML is refused with the place where it is not."""
        for inner in ("<a>", "</a>", "<a></b>", "&nbsp;", "<a b='1' b='2'/>", "<a b=1/>", "]]>", "a & b", "<a b='<'/>"):
            self.assertRefused(xml(detail=inner), "not well-formed XML: ")
        self.assertRefused(xml() + xml(), "not well-formed XML: junk after document element")
        self.assertRefused(b"", "not well-formed XML")
        for end in (b"</marti", b"</marti>", b"</martian", b""):
            self.assertRefused(b"<event><detail><marti/>" + end, "not well-formed XML: ")

    def test_doctype(self) -> None:
        """A document type declaration is refused before anything in it is looked at."""
        self.assertRefused(b"<!DOCTYPE event>" + xml(), "document type declarations are refused")

    def test_namespaces(self) -> None:
        """CoT has no namespaces: names count as they are written, prefixes are kept."""
        detail = detail_of('<x:contact callsign="no"/><contact xmlns="urn:x" callsign="yes"/>')
        self.assertEqual(detail.callsign, "yes")

    def test_nothing_is_left_behind(self) -> None:
        """An event that is forgotten is gone at once, and so is all that was needed to read it."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

        def readers() -> list[Reader]:
            return [found for found in gc.get_objects() if isinstance(found, Reader)]

        others = len(readers())
        self.assertIsNone(ref(Reader(xml()))())
        for bad in (b"<event>", xml() + b"x", xml(detail="<a>" * 200)):
            with self.assertRaises(MalformedEvent):
                decode(bad)
        self.assertEqual(len(readers()), others)


class DeliveredTests(SynchronousTestCase):
    """What is changed for those who hear; all else arrives to the byte."""

    def assertDelivered(self, said: bytes, sent: bytes) -> None:
        """Check what is made of a document, and that nothing is made of that again."""
        self.assertEqual(decode(said).xml, PROLOG + sent)
        self.assertEqual(decode(sent).xml, PROLOG + sent)

    def test_as_said(self) -> None:
        """Nothing is changed where nothing must be."""
        self.assertDelivered(sa("A", "FOX"), sa("A", "FOX"))

    def test_times(self) -> None:
        """Each time that is in another form than ours is put into it; one that is in it keeps its bytes."""
        ours, other = b'"2026-03-01T10:00:00.000Z"', b'"2026-03-01T10:00:00Z"'
        for name in (b" time=", b" start=", b" stale="):
            said = re.sub(name + b'"[^"]*"', name + other, xml(stale=0))
            self.assertDelivered(said, said.replace(other, ours))

    def test_start_tag(self) -> None:
        """A blank stands behind ``<event``: some look for both together."""
        self.assertDelivered(xml().replace(b"<event ", b"<event\n"), xml())

    def test_end_tag(self) -> None:
        """The end tag is spelled as everybody looks for it."""
        self.assertDelivered(xml().replace(b"</event>", b"</event\n>"), xml())

    def test_detail(self) -> None:
        """A detail that is missing is added, before an odd end tag too."""
        for end in (b"</event>", b"</event >"):
            said = xml().replace(b"<detail></detail></event>", end)
            self.assertDelivered(said, xml().replace(b"<detail></detail>", b"<detail/>"))

    def test_marti_comments_cdata(self) -> None:
        """Destinations and comments go, and CDATA becomes escaped text; what is in both is gone too."""
        for inner, left in (
            ("<marti/>", ""),
            ("<a/><marti></marti>b", "<a/>b"),
            ("<a/><marti><!-- x --><![CDATA[y]]></marti><marti/>", "<a/>"),
            ("a<!-- </event> -->b<!---->", "ab"),
            ("<![CDATA[</event>&]]><![CDATA[]]>", "&lt;/event&gt;&amp;"),
        ):
            self.assertDelivered(xml(detail=inner), xml(detail=left))


class DetailTests(SynchronousTestCase):
    """What the server reads in ``<detail>``."""

    def test_self_report(self) -> None:
        """A client's callsign, endpoint, team, role and software."""
        detail = decode(sa("A", "FOX", team="Red")).detail
        self.assertEqual((detail.callsign, detail.endpoint), ("FOX", "*:-1:stcp"))
        self.assertEqual((detail.team, detail.role), ("Red", "Team Member"))
        self.assertEqual(detail.takv, "ATAK-CIV:4.10.0.5")

    def test_absent_and_empty(self) -> None:
        """No endpoint is something else than an empty one, and so is no software."""
        self.assertEqual((Detail().endpoint, Detail().takv), (None, None))
        detail = detail_of('<contact callsign="FOX"/>')
        self.assertEqual((detail.endpoint, detail.takv), (None, None))
        detail = detail_of('<contact callsign="FOX" endpoint=""/><takv/>')
        self.assertEqual((detail.endpoint, detail.takv), ("", ":"))

    def test_first_callsign(self) -> None:
        """The first contact with a callsign counts."""
        detail = detail_of('<contact/><contact callsign="A" endpoint="1"/><contact callsign="B" endpoint="2"/>')
        self.assertEqual((detail.callsign, detail.endpoint), ("A", "1"))

    def test_only_children_count(self) -> None:
        """What stands deeper, or beside the detail, is somebody else's."""
        self.assertEqual(detail_of('<x><contact callsign="A"/><archive/><link uid="L"/></x>'), Detail())
        beside = xml().replace(b"<detail>", b'<x><contact callsign="A"/></x><marti><dest uid="U"/></marti><detail>')
        self.assertEqual(decode(beside).detail, Detail())

    def test_two_details(self) -> None:
        """Where there are two details, both are read."""
        document = xml(detail='<contact callsign="A"/>').replace(b"</event>", b"<detail><archive/></detail></event>")
        detail = decode(document).detail
        self.assertEqual((detail.callsign, detail.archive), ("A", True))

    def test_links(self) -> None:
        """A delete names its item and an emergency who raised it: the first link that has a uid."""
        self.assertEqual(decode(delete("M-1")).detail.link_uid, "M-1")
        self.assertEqual(decode(emergency("A", "FOX")).detail.link_uid, "A")
        self.assertEqual(detail_of('<link point="1,2"/><link uid="B"/><link uid="C"/>').link_uid, "B")

    def test_emergencies(self) -> None:
        """An emergency is raised, or it is canceled, or there is none."""
        self.assertIs(decode(emergency("A", "FOX")).detail.emergency, False)
        self.assertIs(decode(cancel("A", "FOX")).detail.emergency, True)
        self.assertIs(detail_of('<emergency cancel="TRUE"/>').emergency, True)
        self.assertIs(detail_of('<emergency cancel="false"/>').emergency, False)
        self.assertIsNone(detail_of("").emergency)

    def test_archive(self) -> None:
        """``<archive/>`` marks what is to be kept."""
        self.assertTrue(detail_of("<archive/>").archive)
        self.assertFalse(detail_of("<archived/>").archive)

    def test_flow_tags(self) -> None:
        """The servers that an event has passed, in their order."""
        self.assertEqual(detail_of("<_flow-tags_ b='1' a='2'/><_flow-tags_ c=''/>").flow_tags, ("b", "a", "c"))

    def test_chat(self) -> None:
        """A message names its conversation and everybody in it but the sender, who is number 0."""
        detail = decode(chat("A", room="FOX1", id_="B", uids=("B", "C"))).detail
        self.assertEqual(detail.chat, Chat("B", "FOX1", ("B", "C")))
        self.assertIsNone(detail_of("").chat)

    def test_odd_chat_groups(self) -> None:
        """Only numbered uids are members, and only those that name somebody."""
        group = (
            '<chatgrp id="B" uid="x" uid0="A" uid1="B" uid2="" uidx="y" uid10="C"/><chatgrp uid1="D"/><other uid1="z"/>'
        )
        detail = detail_of(f'<__chat id="B">{group}</__chat><chatgrp uid1="no"/>')
        self.assertEqual(detail.chat, Chat("B", "", ("B", "C", "D")))


class DestinationTests(Refusals):
    """Whom an event is meant for."""

    def destinations(self, marti: str) -> Destinations | None:
        """Read what stands in ``<marti>``; nothing of it is delivered."""
        said = decode(xml(detail="<a/>", marti=marti))
        self.assertEqual(said.xml, PROLOG + xml(detail="<a/>"))
        return said.detail.destinations

    def test_nobody(self) -> None:
        """Without a destination, or with an empty one, an event is for everybody."""
        for marti in ("", "<dest/>", '<dest callsign=""/>', '<dest what="x"/>', "text", "<x><dest callsign='B'/></x>"):
            self.assertIsNone(self.destinations(marti), marti)
        self.assertIsNone(detail_of("").destinations)

    def test_kinds(self) -> None:
        """Callsigns, uids, missions by name or GUID, each once and in their order."""
        self.assertEqual(self.destinations(to("B", "C", "B")), Destinations(callsigns=("B", "C"), explicit=True))
        self.assertEqual(
            self.destinations('<dest uid="U"/><dest callsign="B"/><dest mission="M"/><dest mission-guid="G"/>'),
            Destinations(("B",), ("U",), ("M", "G"), explicit=True),
        )

    def test_publish(self) -> None:
        """An address to send to is not served, but it is no broadcast either."""
        self.assertEqual(self.destinations('<dest publish="udp:10.0.0.1:1"/>'), Destinations(explicit=True))

    def test_groups(self) -> None:
        """A group narrows down a broadcast; it is nobody in particular."""
        self.assertEqual(self.destinations('<dest group="g"/><dest group="h"/>'), Destinations(groups=("g", "h")))

    def test_all_streaming(self) -> None:
        """``All Streaming`` makes it a broadcast whatever other callsigns are named, but not whatever uids."""
        self.assertEqual(self.destinations(to("B", "All Streaming")), Destinations())
        self.assertEqual(
            self.destinations(to("All Streaming") + '<dest uid="U"/>'), Destinations(uids=("U",), explicit=True)
        )

    def test_several_marti(self) -> None:
        """What several of them name counts together."""
        said = decode(xml(detail=f"<marti>{to('B')}</marti><a/><marti>{to('C')}</marti>"))
        self.assertEqual(said.detail.destinations, Destinations(("B", "C"), explicit=True))
        self.assertEqual(said.xml, PROLOG + xml(detail="<a/>"))

    def test_limit(self) -> None:
        """A thousand destinations are served; with one more the event is refused."""
        names = [f"B{number}" for number in range(MAX_DESTINATIONS + 1)]
        for count in (MAX_DESTINATIONS - 1, MAX_DESTINATIONS):
            found = self.destinations(to(*names[:count]))
            assert found is not None
            self.assertEqual(len(found.callsigns), count)
        self.assertRefused(xml(marti=to(*names)), f"over {MAX_DESTINATIONS} destinations")


class LimitTests(Refusals):
    """What one event may cost."""

    def test_names(self) -> None:
        """Uids, types and callsigns have so many characters and not one more."""
        for size in (MAX_NAME_CHARS - 1, MAX_NAME_CHARS):
            name = "n" * size
            event = decode(sa(name, name).replace(b"a-f-G-U-C", b"a-" + b"t" * (size - 2)))
            self.assertEqual((event.uid, len(event.type), event.detail.callsign), (name, size, name))
        long = "n" * (MAX_NAME_CHARS + 1)
        for document in (sa(long, "C"), sa("A", long), xml("A", f"a-{long}")):
            self.assertRefused(document, f"over {MAX_NAME_CHARS} characters")

    def test_depth(self) -> None:
        """Elements stand in each other up to a hundred deep; deeper is refused."""
        for depth in (MAX_DEPTH - 1, MAX_DEPTH):
            decode(xml(detail="<a>" * (depth - 2) + "</a>" * (depth - 2)))
        deep = MAX_DEPTH + 1 - 2
        self.assertRefused(xml(detail="<a>" * deep + "</a>" * deep), f"over {MAX_DEPTH} elements inside each other")
        self.assertRefused(b"<event>" + b"<a>" * 100_000, f"over {MAX_DEPTH} elements inside each other")

    def test_attributes(self) -> None:
        """An element may have a thousand attributes, and not one more."""

        def with_attributes(count: int) -> bytes:
            return xml(detail="<a" + "".join(f' a{number}=""' for number in range(count)) + "/>")

        for count in (MAX_ATTRIBUTES - 1, MAX_ATTRIBUTES):
            decode(with_attributes(count))
        self.assertRefused(with_attributes(MAX_ATTRIBUTES + 1), f"<a> has over {MAX_ATTRIBUTES} attributes")

    def test_attribute_length(self) -> None:
        """A value may have 1 Mi characters, of any width, and not one more."""
        for count in (MAX_ATTRIBUTE_CHARS - 1, MAX_ATTRIBUTE_CHARS):
            for character in "x\u20ac":
                decode(xml(detail=f'<a b="{character * count}"/>'))
        reason = f"<a> has an attribute of over {MAX_ATTRIBUTE_CHARS} characters"
        self.assertRefused(xml(detail=f'<a b="{"x" * (MAX_ATTRIBUTE_CHARS + 1)}"/>'), reason)

    def test_reasons_are_short(self) -> None:
        """What a sender invents does not fill our log."""
        long = "x" * 100_000
        for bad in (
            f"<{long}></{long}>".encode(),
            xml(point=f'<point lat="{long}" lon="0" hae="0" ce="0" le="0"/>'),
            re.sub(rb'time="[^"]*"', f'time="{long}"'.encode(), xml()),
            xml(detail=f"<{long}" + "".join(f' a{number}=""' for number in range(MAX_ATTRIBUTES + 1)) + "/>"),
        ):
            with self.assertRaises(MalformedEvent) as caught:
                decode(bad)
            self.assertLess(len(str(caught.exception)), 200)


class EditTests(SynchronousTestCase):
    """Changes that leave everything around them as it was."""

    def test_set(self) -> None:
        """A value is replaced inside its own quotes, and escaped for them."""
        for said, wanted in (
            (b'<a x="1" b="2"/>', b'<a x="n&lt;&quot;&apos;&amp;" b="2"/>'),
            (b"<a b='x=\"1\"'\n\tx = '1'>", b"<a b='x=\"1\"'\n\tx = 'n&lt;&quot;&apos;&amp;'>"),
            (b"<a xx='1' yx='2'/>", b"<a xx='1' yx='2'/>"),
            (b"<a/>", b"<a/>"),
            (b"<a></a>", b"<a></a>"),
        ):
            self.assertEqual(apply_edits(said, set_attributes(said, 0, {b"x": "n<\"'&"})), wanted)

    def test_remove(self) -> None:
        """An attribute goes with the blanks before it."""
        for said, wanted in (
            (b'<a x="1" b="2"/>', b'<a b="2"/>'),
            (b"<a b='2' \n x='>' />", b"<a b='2' />"),
            (b"<a\tx=''></a>", b"<a></a>"),
        ):
            self.assertEqual(apply_edits(said, set_attributes(said, 0, {b"x": None})), wanted)

    def test_only_this_tag(self) -> None:
        """Only the tag at the place is changed."""
        said = b"<a x='1'/><a x='2'/><a x='3'/>"
        self.assertEqual(apply_edits(said, set_attributes(said, 10, {b"x": "n"})), b"<a x='1'/><a x='n'/><a x='3'/>")

    def test_order_and_nesting(self) -> None:
        """Edits may come in any order; one inside another is void, one beside it is not."""
        edits = [(6, 7, b"Z"), (1, 4, b"-"), (2, 3, b"void"), (4, 4, b"+"), (0, 0, b"<")]
        self.assertEqual(apply_edits(b"0123456789", edits), b"<0-+45Z789")
        self.assertEqual(apply_edits(b"same", []), b"same")


def meaning(element: etree._Element) -> object:
    """What an element says, apart from its spelling."""
    children = [(meaning(child), child.tail or "") for child in element]
    return element.tag, sorted(element.items()), element.text or "", children


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"], include_characters="\t\n<&>\"']"), max_size=12)
NAMES = st.sampled_from(["a", "b", "remarks", "contact", "event", "x-1", "\u00e4", "_"])


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> etree._Element:
    """Make anything that may stand in a detail."""
    element = etree.Element(draw(NAMES), draw(st.dictionaries(NAMES, TEXTS, max_size=3)))
    element.text = draw(TEXTS)
    for _ in range(draw(st.integers(0, 2)) if depth else 0):
        child = draw(elements(depth - 1))
        child.tail = draw(TEXTS)
        element.append(child)
    return element


class FidelityTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(elements(), TEXTS, TEXTS, st.booleans())
    def test_T63_whatever_is_said(self, element: etree._Element, comment: str, text: str, marti: bool) -> None:
        """Any detail arrives with the same meaning; without comments, CDATA and marti to the byte."""
        inner = etree.tostring(element, encoding="unicode")
        self.assertEqual(decode(xml(detail=inner)).xml, PROLOG + xml(detail=inner))
        comment = comment.replace("-", "~")
        cdata = text.replace("]]>", "")
        more = f"<!--{comment}-->{inner}<r><![CDATA[{cdata}]]></r>" + (
            "<marti><dest uid='U'/></marti>" if marti else ""
        )
        sent = etree.fromstring(decode(xml(detail=more)).xml).find("detail")
        assert sent is not None
        meant = etree.Element("detail")
        meant.append(etree.fromstring(inner))
        etree.SubElement(meant, "r").text = cdata
        self.assertEqual(meaning(sent), meaning(meant))
