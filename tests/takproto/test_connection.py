"""What a client says, and what is delivered of it: the promises about framing and spelling, each under its number."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.times import format_time
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.takproto.batch import Batch
from taky_twisted.takproto.connection import MAX_ERRORS, Reply, TAKConnection
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable
from tests.samples import ATAK_PROLOG, NOW, POINT, marker, ping, sa, to, xml
from tests.takproto.streams import BAD, EMOJI, GOOD, MIXED, NOTHING, TELESTRATION, cuts_of, pieces, renamed, streams

AUTH = b'<?xml version="1.0"?>\n<auth><cot username="fox1" password="secret" uid="A"/></auth>'
LARGE = 8 << 20
SMALL = 64 << 10
STRICT = re.compile(rb'<\?xml version="1\.0" encoding="UTF-8"\?>\n<event .*</event>', re.DOTALL)
SENT_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def strictly_read(wire: bytes) -> list[etree._Element]:
    """Read a stream as ATAK does: cut right behind each ``</event>``, parse what is between with libxml2, strictly."""
    *spans, rest = re.split(rb"(?<=</event>)", wire)
    assert rest == b"", rest
    elements = []
    for span in spans:
        assert STRICT.fullmatch(span), span
        element = etree.fromstring(span, etree.XMLParser(resolve_entities=False, no_network=True))
        assert element.tag == "event", element.tag
        for name in ("uid", "type", "how"):
            assert element.get(name), (name, span)
        for name in ("time", "start", "stale"):
            assert SENT_TIME.fullmatch(element.get(name, "")), (name, span)
        (point,) = element.findall("point")
        for name in ("lat", "lon", "hae", "ce", "le"):
            float(point.get(name, ""))
        assert element.find("detail") is not None, span
        elements.append(element)
    return elements


class Peer:
    """One client, on the wire: what it says, and what others get of it."""

    def __init__(self, max_event_bytes: int = LARGE, first_bytes: int = SMALL) -> None:
        self.tak = TAKConnection(max_event_bytes, first_bytes)
        self.events: list[Event] = []
        self.replies: list[bytes] = []
        self.problems: list[Unreadable] = []
        self.error = ""

    def say(self, *segments: bytes) -> Peer:
        """Send segments."""
        try:
            for segment in segments:
                for outcome in self.tak.receive(segment, NOW):
                    if isinstance(outcome, Event):
                        self.events.append(outcome)
                    elif isinstance(outcome, Reply):
                        self.replies.append(outcome.data)
                    else:
                        self.problems.append(outcome)
        except RemoteProtocolError as error:
            self.error = str(error)
        return self

    def uids(self) -> list[str]:
        """Name what others get, after reading it as strictly as ATAK does."""
        wire = self.tak.send(Batch(self.events)) if self.events else b""
        read = [element.get("uid", "") for element in strictly_read(wire)]
        assert read == [event.uid for event in self.events], read
        return read

    def outcome(self) -> object:
        """All that came of what it said."""
        events = [(event.uid, event.xml, event.detail) for event in self.events]
        return events, self.problems, self.error, len(self.replies), self.tak.pinged, self.tak.spoke


def bytewise(stream: bytes) -> Iterable[bytes]:
    """Cut a stream at every byte."""
    return [stream[at : at + 1] for at in range(len(stream))]


def without_detail(document: bytes) -> bytes:
    """Leave the detail of a sample out."""
    return renamed(document, b"<detail></detail>", b"")


class ScenarioTests(SynchronousTestCase):
    """From the bytes of one client to the bytes for the others."""

    def delivered(self, document: bytes) -> bytes:
        """Say one event, byte by byte and at once; answer with its delivered form."""
        peer = Peer().say(document)
        self.assertEqual((peer.problems, peer.error), ([], ""))
        self.assertEqual(Peer().say(*bytewise(document)).outcome(), peer.outcome())
        (uid,) = peer.uids()
        self.assertTrue(uid)
        return peer.events[0].xml

    def assertKept(self, document: bytes) -> None:
        """Check that an event is delivered to the byte as it was said."""
        self.assertEqual(self.delivered(document), PROLOG + document)

    def test_T01_nothing_between(self) -> None:
        """Events with nothing between them arrive in order, each parseable from right behind the one before."""
        peer = Peer().say(ATAK_PROLOG + sa("A", "FOX") + ATAK_PROLOG + marker())
        self.assertEqual(peer.uids(), ["A", "MARK-1"])
        self.assertEqual(peer.tak.send(Batch(peer.events)), PROLOG + sa("A", "FOX") + PROLOG + marker())

    def test_T02_byte_by_byte(self) -> None:
        """An event that comes byte by byte, cut inside a character too, arrives whole."""
        peer = Peer().say(*bytewise(ATAK_PROLOG + sa("A", EMOJI)))
        self.assertEqual(peer.uids(), ["A"])
        self.assertEqual(peer.events[0].detail.callsign, EMOJI)
        self.assertEqual(peer.events[0].xml, PROLOG + sa("A", EMOJI))

    def test_T03_many_in_one_segment(self) -> None:
        """Five hundred events in one write all arrive, in order."""
        uids = [f"M-{number}" for number in range(500)]
        self.assertEqual(Peer().say(b"".join(ATAK_PROLOG + marker(uid) for uid in uids)).uids(), uids)

    def test_T04_separators(self) -> None:
        """Whatever says nothing does no harm between events: blanks, comments, other elements, ..."""
        for separator in NOTHING:
            peer = Peer().say(separator, marker("M-1") + separator + marker("M-2"), separator, marker("M-3"), separator)
            self.assertEqual(peer.uids(), ["M-1", "M-2", "M-3"], separator)
            self.assertEqual((peer.problems, peer.error), ([], ""), separator)

    def test_T04_prologs(self) -> None:
        """A prolog may be spelled in any way and name any encoding; the event is read as UTF-8."""
        for prolog in (
            b"<?xml version='1.0'?>",
            b'<?xml version="1.0" encoding="utf8" standalone="no" ?>\r\n',
            b'<?xml version="1.0" encoding="US-ASCII"?>',
            b'<?xml\tversion = "1.0"\nencoding="UTF-16"?>',
            b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>',
            b"<?XML?>",
            ATAK_PROLOG * 2,
        ):
            self.assertEqual(self.delivered(prolog + sa("A", EMOJI)), PROLOG + sa("A", EMOJI), prolog)

    def test_T05_malformed_between_good(self) -> None:
        """A malformed event is dropped alone; its neighbors arrive and the sender stays connected."""
        for bad in BAD:
            peer = Peer().say(marker("M-1") + bad + ATAK_PROLOG + marker("M-2"))
            self.assertEqual(peer.uids(), ["M-1", "M-2"], bad)
            self.assertEqual((len(peer.problems), peer.error), (1, ""), bad)
            self.assertNotEqual(peer.problems[0].reason, "")

    def test_T05_lost_end(self) -> None:
        """An event that lost its end is dropped, and the one that follows it is not."""
        whole = marker("M-1")
        for length in (len("<event "), 30, len(whole) - 20, len(whole) - 8, len(whole) - 1):
            peer = Peer().say(whole[:length] + ATAK_PROLOG + marker("M-2") + marker("M-3"))
            self.assertEqual(peer.uids(), ["M-2", "M-3"], length)
            self.assertEqual((len(peer.problems), peer.error), (1, ""))
            self.assertEqual(peer.problems[0].data, whole[:length] + ATAK_PROLOG)

    def test_T06_self_closing(self) -> None:
        """A self-closing event does not swallow the next one."""
        for empty in (
            b'<event uid="x"/>',
            b"<event/>",
            b"<event uid='>' />",
            renamed(marker(), b"<event v", b"<event/><event v"),
        ):
            peer = Peer().say(empty + ATAK_PROLOG + marker("M-2"))
            self.assertEqual(peer.uids()[-1], "M-2")
            self.assertEqual(
                peer.problems[0].reason,
                "event lacks uid, type, how, time, start, stale"
                if b"uid" not in empty or b"MARK" in empty
                else "event lacks type, how, time, start, stale",
            )

    def test_T07_end_tag_in_cdata(self) -> None:
        """``</event>`` in CDATA ends nothing, and is sent escaped: no client meets it before the end."""
        remarks = b"<remarks>1 &lt; 2<![CDATA[</event> & <b> ]] ]]>3</remarks>"
        said = xml(detail=remarks.decode())
        escaped = b"<remarks>1 &lt; 2&lt;/event&gt; &amp; &lt;b&gt; ]] 3</remarks>"
        self.assertEqual(self.delivered(said), PROLOG + said.replace(remarks, escaped))

    def test_T07_end_tag_in_comment(self) -> None:
        """Comments are not sent on, whatever is in them."""
        said = xml(detail="<a/><!-- </event> --><!----><b/>")
        self.assertEqual(self.delivered(said), PROLOG + xml(detail="<a/><b/>"))

    def test_T07_escaped_event(self) -> None:
        """A whole event, escaped in an attribute, stays what it is."""
        self.assertKept(TELESTRATION)

    def test_T08_entity_bomb(self) -> None:
        """A DOCTYPE or an entity bomb costs its sender that event, and us nothing."""
        layers = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
        bomb = f'<!DOCTYPE event [<!ENTITY e0 "ha">{layers}]>'.encode() + xml("BOMB", detail="<remarks>&e11;</remarks>")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for segments in ([bomb + marker()], bytewise(bomb + marker())):
            peer = Peer().say(*segments)
            self.assertEqual(peer.uids(), ["MARK-1"])
            self.assertEqual([problem.reason for problem in peer.problems], ["document type declarations are refused"])
        self.assertLess(tracemalloc.get_traced_memory()[1], 4 << 20)

    def test_T08_external_entity(self) -> None:
        """Nothing outside of an event is looked at, and no entity but the five of XML is known."""
        for start in (
            b'<!DOCTYPE event SYSTEM "file:///etc/passwd">',
            b'<!DOCTYPE event [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
            b"",
        ):
            peer = Peer().say(start + xml("X", detail="<remarks>&x;</remarks>") + marker())
            self.assertEqual((peer.uids(), len(peer.problems)), (["MARK-1"], 1))
        self.assertKept(xml(detail="<remarks a='&quot;&apos;'>&lt;&gt;&amp;&#65;&#x1F98A;</remarks>"))

    def test_T09_too_large(self) -> None:
        """An event over the limit is dropped without holding it; the next one arrives."""
        peer = Peer().say(marker("M-1"))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        start = marker("BIG")[:-30] + b"<remarks>"
        peer.say(start, *([b"x" * SMALL] * (9 << 4)), b"</remarks></detail></event>" + ATAK_PROLOG + marker("M-2"))
        self.assertEqual(peer.uids(), ["M-1", "M-2"])
        self.assertEqual([problem.reason for problem in peer.problems], [f"an event of over {LARGE} bytes"])
        self.assertEqual(peer.error, "")
        self.assertLess(tracemalloc.get_traced_memory()[1], 2.5 * LARGE)
        self.assertLess(tracemalloc.get_traced_memory()[0], 1 << 20)

    def test_T10_no_utf8(self) -> None:
        """Bytes that are no UTF-8 affect only the event they are in."""
        for wrong in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\xa6", b"\xc0\xaf", b"\xef\xbf\xbf"):
            bad = renamed(sa("A", "FOX%"), b'callsign="FOX%"', b'callsign="FOX' + wrong + b'"')
            peer = Peer().say(marker("M-1") + bad + marker("M-2"))
            self.assertEqual((peer.uids(), len(peer.problems)), (["M-1", "M-2"], 1), wrong)

    def test_T10_no_xml_characters(self) -> None:
        """Characters that XML does not have, written raw or as a reference, cost the event that they are in."""
        for wrong in (b"\x00", b"\x08", b"\x1b", b"&#0;", b"&#8;", b"&#xFFFE;", b"&#xD800;", b"&#x110000;"):
            peer = Peer().say(
                marker("M-1") + xml("X", detail="<remarks>%</remarks>").replace(b"%", wrong) + marker("M-2")
            )
            self.assertEqual((peer.uids(), len(peer.problems)), (["M-1", "M-2"], 1), wrong)

    def test_T11_auth_where_nobody_asked(self) -> None:
        """``<auth>`` where no password is asked for is skipped, and what follows it counts."""
        peer = Peer().say(AUTH + ATAK_PROLOG + sa("A", "FOX"))
        self.assertEqual((peer.uids(), peer.problems), (["A"], []))

    def test_T12_what_strict_clients_parse(self) -> None:
        """Everything we send is what strict clients parse: our prolog, one event, its end tag, nothing else."""
        for document, uid in GOOD:
            peer = Peer().say(document)
            self.assertEqual(peer.uids(), [uid])
            self.assertEqual(peer.events[0].xml.count(b"</event>"), 1)

    def test_T12_end_tag(self) -> None:
        """The end tag is spelled as everybody looks for it."""
        self.assertEqual(self.delivered(renamed(xml(), b"</event>", b"</event \r\n>")), PROLOG + xml())

    def test_T12_missing_detail(self) -> None:
        """An event without a ``<detail>`` gets an empty one, which ATAK would invent; one that has it keeps its own."""
        bare = without_detail(xml())
        self.assertEqual(self.delivered(bare), PROLOG + bare[:-8] + b"<detail/></event>")
        self.assertEqual(
            self.delivered(renamed(bare, b"</event>", b"</event\t>")), PROLOG + bare[:-8] + b"<detail/></event>"
        )
        for detail in (b"<detail/>", b"<detail />", b"<detail a='1'/>", b"<detail> </detail>"):
            self.assertKept(renamed(bare, b"</event>", detail + b"</event>"))
        self.assertKept(renamed(bare, b"<point", b"<detail/><point"))

    def test_T13_times(self) -> None:
        """Times with any fraction, ``Z`` or an offset are understood, and sent with milliseconds and ``Z``."""
        for said, sent in (
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z"),
            ("2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.100Z"),
            ("2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.123Z"),
            ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123Z"),
            ("2026-01-01T00:00:00+02:00", "2025-12-31T22:00:00.000Z"),
            ("2026-01-01T00:00:00.5-0330", "2026-01-01T03:30:00.500Z"),
            ("2026-01-01T00:00:00.999Z", "2026-01-01T00:00:00.999Z"),
        ):
            times = f'time="{said}" start=\'{said}\' stale = "{said}"'
            document = b'<event uid="U" version="2.0" how="m-g" ' + times.encode() + b' type="a-h-G">%b</event>'
            document = document.replace(b"%b", POINT.encode() + b"<detail/>")
            self.assertEqual(self.delivered(document), PROLOG + document.replace(said.encode(), sent.encode()))

    def test_T13_not_times(self) -> None:
        """A time that nobody understands costs its event, and only that."""
        for wrong in (
            "",
            "now",
            "2026-01-01",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00",
            "0001-01-01T00:00:00+02:00",
        ):
            for name in (b"time", b"start", b"stale"):
                bad = re.sub(rb"\b" + name + rb'="[^"]*"', name + b'="' + wrong.encode() + b'"', xml("X"))
                peer = Peer().say(bad + marker())
                self.assertEqual((peer.uids(), len(peer.problems)), (["MARK-1"], 1), (name, wrong))

    def test_T14_far_future(self) -> None:
        """A ``stale`` that ATAK could not read becomes the latest that it can."""
        for said in (
            "9999-12-31T23:59:59.000Z",
            "9999-12-31T23:59:59Z",
            "2106-02-07T06:28:16.000Z",
            "9999-12-31T23:59:59-23:00",
        ):
            document = re.sub(rb'stale="[^"]*"', b'stale="' + said.encode() + b'"', xml())
            sent = self.delivered(document)
            self.assertEqual(sent, PROLOG + document.replace(said.encode(), b"2106-02-07T06:28:15.000Z"))
        self.assertKept(re.sub(rb'stale="[^"]*"', b'stale="2106-02-07T06:28:15.000Z"', xml()))

    def test_T61_validity(self) -> None:
        """An event without a detail is delivered; one without a place, or without what every event has, is not."""
        self.assertIn(b"<detail/>", self.delivered(without_detail(xml())))
        wrong = [renamed(xml("X"), POINT.encode(), b"")]
        for name in ("lat", "lon", "hae", "ce", "le"):
            for value in ("", "abc", "1,5", "0x10", "inf", "1 2", "\u0661"):
                wrong.append(re.sub(rf'{name}="[^"]*"'.encode(), f'{name}="{value}"'.encode(), xml("X")))
            wrong.append(re.sub(rf'{name}="[^"]*"'.encode(), b"", xml("X")))
        for value in ("NaN", "90.51", "-91", "1e300", "1e9999"):
            wrong.append(xml("X").replace(b'lat="52.1"', f'lat="{value}"'.encode()))
        wrong.append(xml("X").replace(b'lon="4.3"', b'lon="180.6"'))
        for name in ("uid", "type", "how", "time", "start", "stale"):
            wrong.append(re.sub(rf' {name}="[^"]*"'.encode(), b"", xml("X")))
            wrong.append(re.sub(rf' {name}="[^"]*"'.encode(), f' {name}=""'.encode(), xml("X")))
        for bad in wrong:
            peer = Peer().say(bad + marker())
            self.assertEqual((peer.uids(), len(peer.problems), peer.error), (["MARK-1"], 1, ""), bad)

    def test_T61_root(self) -> None:
        """Only what is called ``event`` is one."""
        for name in (b"Event", b"e:event", b"events", b"EVENT"):
            document = xml("X").replace(b"<event", b"<" + name).replace(b"</event", b"</" + name)
            self.assertEqual(Peer().say(document + marker()).uids(), ["MARK-1"])

    def test_T63_fidelity(self) -> None:
        """Whatever is in ``<detail>`` arrives to the byte, also what nobody knows."""
        nested = "".join(
            f'<x{n} xmlns:p{n}="urn:p{n}" p{n}:a = \'{n}\'  b="&#x41;&lt;\'">'
            f"<p{n}:y>\r\n\t{n} &gt; ]] {EMOJI}</p{n}:y ></x{n}>"
            for n in range(200)
        )
        self.assertKept(xml(detail=nested))
        self.assertKept(xml(detail='<ns xmlns="urn:default"><contact/></ns><?pi x?>'))

    def test_T63_undeclared_namespace(self) -> None:
        """A prefix that nobody declared is kept too: CoT has no namespaces."""
        document = xml(detail='<m:x m:y="1"/>')
        self.assertEqual([event.xml for event in Peer().say(document).events], [PROLOG + document])

    def test_T63_attributes(self) -> None:
        """Attributes of the event and of its point arrive as they were spelled, also those that nobody knows."""
        document = renamed(
            renamed(
                xml(),
                b'version="2.0"',
                b"version = '2.0'\n access=\"Undefined\" qos='1-r-c' opex=\"e-\" caveat='>' releasableTo=\"NL\"",
            ),
            b'lat="52.1" lon="4.3" hae="101.5" ce="4.9" le="9999999"',
            b"le='9999999.0' ce=\"NaN\" lon=\"+004.300\" lat='5.21E1' hae=\".5\" note='n'",
        )
        self.assertKept(document)

    def test_T63_only_marti_goes(self) -> None:
        """Of who an event was meant for nothing is told; all around it stays."""
        for marti in (
            f"<marti>{to('B')}</marti>",
            "<marti/>",
            "<marti />",
            "<marti  >\n</marti\n>",
            "<marti a='>'/>",
            "<marti><marti/><!-- x --></marti>",
        ):
            for before, behind in (("", ""), ("<a/>", "<b></b>"), ("text", " "), ("<marti2/>", "<martin></martin>")):
                self.assertEqual(
                    self.delivered(xml(detail=before + marti + behind)), PROLOG + xml(detail=before + behind), marti
                )
        self.assertEqual(self.delivered(xml(detail="<marti/><a/><marti></marti>")), PROLOG + xml(detail="<a/>"))
        self.assertKept(xml(detail="<x><marti><dest callsign='B'/></marti></x>"))

    def test_T63_all_edits_at_once(self) -> None:
        """What must change in one event changes, in any combination, and nothing else."""
        said = (
            b'<event\nuid="U" type="a-h-G" stale=\'9999-01-01T00:00:00Z\' how="m-g" time="2026-01-01T00:00:00Z"'
            b' start="2026-01-01T00:00:00.000Z"><!-- a --><point lat="1" lon="2" hae="3" ce="4" le="5"/>'
            b"<detail><marti><!-- b --><dest callsign='B'/><![CDATA[c]]></marti><r><![CDATA[<]]></r><!-- d --></detail>"
            b"<!-- e --></event >"
        )
        self.assertEqual(
            self.delivered(said),
            PROLOG
            + b'<event uid="U" type="a-h-G" stale=\'2106-02-07T06:28:15.000Z\' how="m-g"'
            + b' time="2026-01-01T00:00:00.000Z" start="2026-01-01T00:00:00.000Z">'
            + b'<point lat="1" lon="2" hae="3" ce="4" le="5"/><detail><r>&lt;</r></detail></event>',
        )

    def test_T74_foreign_flow_tags(self) -> None:
        """ATAK's casevac carries a flow tag of its own; it stays."""
        document = xml(
            "MED", "b-r-f-h-c", "<_flow-tags_ AndroidMedicalLine='2026-03-01T10:00:00.000Z'/><_medevac_ urgent='1'/>"
        )
        self.assertKept(document)
        self.assertEqual(Peer().say(document).events[0].detail.flow_tags, ("AndroidMedicalLine",))

    def test_T78_auth_in_three_segments(self) -> None:
        """An ``<auth>`` that comes in pieces is skipped as a whole."""
        for one in range(1, len(AUTH), 7):
            for two in range(one, len(AUTH), 11):
                peer = Peer().say(AUTH[:one], AUTH[one:two], AUTH[two:] + ATAK_PROLOG + sa("A", "FOX"))
                self.assertEqual((peer.uids(), peer.problems), (["A"], []))

    def test_T84_a_hundred_slow_senders(self) -> None:
        """Who sends an endless event byte by byte is held to the first limit, before it has said anything valid."""
        opening = marker("NEVER")[:-30] + b"<remarks>"
        peers = [Peer(first_bytes=2000) for _ in range(100)]
        for peer in peers:
            peer.say(opening, *([b"x"] * (1999 - len(opening))))
            self.assertEqual(peer.error, "")
            peer.say(b"xx")
            self.assertEqual(peer.error, "no valid event within the first 2000 bytes")

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 2000))
    def test_T85_random_bytes(self, segments: list[bytes], limit: int) -> None:
        """Bytes without any sense give nothing but a reason to close."""
        Peer(limit, limit).say(*segments)
        Peer(limit, limit).say(b"<event ", *segments, b"</event>")

    @settings(max_examples=400, deadline=None)
    @given(st.data(), st.sampled_from([document for document, _ in GOOD]))
    def test_T85_mutated_events(self, data: st.DataObject, document: bytes) -> None:
        """A damaged event arrives in a form that strict clients parse, or not at all; nothing else happens."""
        damaged = bytearray(document)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(damaged)))
            length = data.draw(st.integers(0, 4))
            damaged[at : at + length] = data.draw(
                st.one_of(
                    st.binary(max_size=3),
                    st.sampled_from([b"<", b">", b"/>", b'"', b"'", b"&", b"<!--", b"]]>", b"9", b"\xff"]),
                )
            )
        peer = Peer().say(bytes(damaged) + b"<x/>" + marker("LAST") + marker("LAST"))
        self.assertEqual(peer.error, "")
        for event in peer.events:
            self.assertTrue(STRICT.fullmatch(event.xml))
            self.assertEqual(event.xml.count(b"</event>"), 1)
            self.assertEqual(decode(event.xml[len(PROLOG) :]).xml, event.xml)
        self.assertEqual(peer.events[-1].uid, "LAST")

    def test_T89_two_events_in_two_reads(self) -> None:
        """A read that ends in the middle of the second of two events loses neither."""
        stream = ATAK_PROLOG + marker("M-1") + ATAK_PROLOG + marker("M-2")
        for cut in range(len(stream) + 1):
            self.assertEqual(
                [event.uid for event in Peer().say(stream[:cut], stream[cut:]).events], ["M-1", "M-2"], cut
            )


class ConnectionTests(SynchronousTestCase):
    """What is between us and our peer."""

    def test_ping(self) -> None:
        """A ping is answered, even from somebody who has said nothing else, and goes no further."""
        peer = Peer().say(ping() + marker() + ATAK_PROLOG + ping().replace(b"t-x-c-t", b"T-X-C-T"))
        self.assertEqual(peer.uids(), ["MARK-1"])
        self.assertTrue(peer.tak.pinged)
        self.assertTrue(peer.tak.spoke)
        (first, second) = strictly_read(b"".join(peer.replies))
        for pong in (first, second):
            self.assertEqual(
                (pong.get("uid"), pong.get("type"), pong.get("time")), ("takPong", "t-x-c-t-r", format_time(NOW))
            )

    def test_silent_peer(self) -> None:
        """Nothing is owed to a peer that did not ask, and nobody counts as a speaker who said nothing valid."""
        peer = Peer().say(b"\n" + BAD[0] + AUTH)
        self.assertEqual((peer.replies, peer.tak.pinged, peer.tak.spoke), ([], False, False))
        peer.say(marker())
        self.assertEqual((peer.replies, peer.tak.pinged, peer.tak.spoke), ([], False, True))

    def test_ping_counts_as_valid(self) -> None:
        """After a ping the small limit is over."""
        peer = Peer(first_bytes=500).say(ping(), marker(extra="<remarks>" + "x" * 1000 + "</remarks>"))
        self.assertEqual((peer.uids(), peer.error), (["MARK-1"], ""))

    def test_errors_in_a_row(self) -> None:
        """Twenty unreadable events one after the other end the stream; a good one starts the count anew."""
        self.assertEqual(MAX_ERRORS, 20)
        bad = b"<event></event>"
        peer = Peer().say(bad * 19 + marker() + bad * 18, bad)
        self.assertEqual((len(peer.problems), peer.error), (38, ""))
        peer.say(ping() + bad * 19)
        self.assertEqual((len(peer.problems), peer.error), (57, ""))
        peer.say(bad)
        self.assertEqual(len(peer.problems), 57)
        self.assertEqual(
            peer.error,
            "20 unreadable events one after the other, the last: event lacks uid, type, how, time, start, stale",
        )

    def test_errors_of_any_kind(self) -> None:
        """It does not matter why they are unreadable."""
        some = b"<event />" + BAD[-1] + b"<event><!--</event>" + b"<event ></event>" + b"<foo></event>"
        peer = Peer().say(marker() + some * 3 + some[:-13])
        self.assertEqual((len(peer.problems), peer.error), (19, ""))
        peer.say(some)
        self.assertIn("20 unreadable events one after the other", peer.error)

    def test_event_order(self) -> None:
        """What could be read and what could not come in the order in which they were said."""
        tak = TAKConnection(LARGE, SMALL)
        outcomes = tak.receive(marker("M-1") + b"<event/>" + marker("M-2"), NOW)
        self.assertEqual([isinstance(outcome, Event) for outcome in outcomes], [True, False, True])

    def test_limits_at_their_edges(self) -> None:
        """An event of the limit is taken and one of a byte more is not; so it is with the first bytes."""
        document = marker(extra="<remarks>" + "x" * 1000 + "</remarks>")
        size = len(document)
        for limit, uids in ((size - 1, ["M-1"]), (size, ["M-1", "MARK-1"]), (size + 1, ["M-1", "MARK-1"])):
            peer = Peer(limit).say(marker("M-1") + document)
            self.assertEqual((peer.uids(), peer.error), (uids, ""))
            peer = Peer(first_bytes=limit).say(document)
            self.assertEqual(peer.uids(), uids[1:])
            self.assertEqual(peer.error, "" if uids[1:] else f"no valid event within the first {limit} bytes")

    def test_another_reader(self) -> None:
        """Connections may share what reads documents for them."""
        seen: list[bytes] = []

        def read(document: bytes) -> Event:
            seen.append(document)
            return decode(document)

        for _ in range(2):
            (event,) = TAKConnection(LARGE, SMALL, read).receive(ATAK_PROLOG + marker(), NOW)
            self.assertIsInstance(event, Event)
        self.assertEqual(seen, [marker(), marker()])

    def test_decoded_once(self) -> None:
        """An event that is well-formed is read by one pass, however it comes."""
        seen: list[bytes] = []

        def read(document: bytes) -> Event:
            seen.append(document)
            return decode(document)

        tak = TAKConnection(LARGE, SMALL, read)
        for segment in bytewise(sa("A", EMOJI) + marker()):
            list(tak.receive(segment, NOW))
        self.assertEqual(seen, [sa("A", EMOJI), marker()])


class CutTests(SynchronousTestCase):
    """However the network cuts the bytes, the same is heard."""

    def test_mixed_stream_at_every_byte(self) -> None:
        """A stream with a bit of everything gives the same events and reasons, cut anywhere and byte by byte."""
        whole = Peer().say(MIXED)
        self.assertEqual(whole.error, "")
        self.assertGreater(len(whole.uids()), 15)
        self.assertGreater(len(whole.problems), 8)
        self.assertEqual(Peer().say(*bytewise(MIXED)).outcome(), whole.outcome())
        for cut in range(len(MIXED) + 1):
            self.assertEqual(Peer().say(MIXED[:cut], MIXED[cut:]).outcome(), whole.outcome(), f"cut at {cut}")

    @settings(max_examples=150, deadline=None)
    @given(st.data(), streams, st.sampled_from([LARGE, 400]), st.sampled_from([SMALL, 1500]))
    def test_anything(self, data: st.DataObject, stream: bytes, limit: int, first_bytes: int) -> None:
        """What holds for one stream holds for all of them, also for those that reach a limit."""
        whole = Peer(limit, first_bytes).say(stream).outcome()
        self.assertEqual(Peer(limit, first_bytes).say(*bytewise(stream)).outcome(), whole)
        cuts = data.draw(cuts_of(stream))
        self.assertEqual(Peer(limit, first_bytes).say(*pieces(stream, cuts)).outcome(), whole)

    @settings(max_examples=200, deadline=None)
    @given(
        st.data(),
        st.lists(
            st.one_of(
                st.sampled_from(GOOD),
                st.sampled_from(BAD).map(lambda bad: (bad, None)),
                st.sampled_from(NOTHING).map(lambda no: (no, "")),
            ),
            max_size=12,
        ),
    )
    def test_each_for_itself(self, data: st.DataObject, said: list[tuple[bytes, str | None]]) -> None:
        """In whatever order good, bad and other things come: each good one is heard, each bad one is told of."""
        stream = b"".join(piece for piece, _ in said)
        peer = Peer().say(*pieces(stream, data.draw(cuts_of(stream))))
        self.assertEqual(peer.uids(), [uid for _, uid in said if uid])
        self.assertEqual(len(peer.problems), sum(uid is None for _, uid in said))
        self.assertEqual(peer.error, "")
