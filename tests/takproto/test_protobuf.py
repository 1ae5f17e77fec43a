from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import takproto
from hypothesis import given
from takproto.constants import TAKProtoVer
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot import compose, xmlcodec
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Destinations, Event
from taky_twisted.cot.times import LATEST
from taky_twisted.takproto import protobuf
from taky_twisted.takproto.messages import TakMessage
from taky_twisted.takproto.protobuf_framing import ProtobufFraming, frame, mesh_frame
from tests.samples import NOW, chat, marker, sa, to, xml

from .arbitrary import BRIEF, CORPUS, MESSAGES, TYPED_FIELDS, documents, meaning, payloads

MILLIS = round(NOW * 1000)
PRECISION = '<precisionlocation altsrc="DTED0" geopointsrc="GPS"/>'


def message(**fields: Any) -> Any:
    """Make a message with an event, from a valid one and what differs."""
    said: dict[str, Any] = {
        "uid": "A",
        "type": "a-f-G",
        "how": "m-g",
        "sendTime": MILLIS,
        "startTime": MILLIS,
        "staleTime": MILLIS + 60_000,
        "lat": 52.1,
        "lon": 4.3,
        "hae": 9999999.0,
        "ce": 9999999.0,
        "le": 9999999.0,
    }
    return TakMessage(cotEvent={**said, **fields})


def written(**fields: Any) -> bytes:
    """Spell a message with an event, from a valid one and what differs."""
    payload: bytes = message(**fields).SerializeToString()
    return payload


def said_by(payload: bytes) -> Any:
    """Read a message's event."""
    read = TakMessage()
    read.ParseFromString(payload)
    return read.cotEvent


def read_payload(payload: bytes) -> Event:
    """Decode a payload that has an event."""
    event = protobuf.decode(payload)
    assert event is not None
    return event


def there_and_back(event: Event) -> Event:
    """Send an event to a protobuf client, which sends it on."""
    return read_payload(protobuf.encode(event))


class EncodeTests(SynchronousTestCase):
    def encoded(self, document: bytes) -> Any:
        """Encode a document and read the message's event."""
        return said_by(protobuf.encode(xmlcodec.decode(document)))

    def test_T16_self_report(self) -> None:
        """A protobuf client gets an XML client's report with all that has a field in its field."""
        said = self.encoded(sa("A", "FOX1", extra=PRECISION))
        self.assertEqual((said.uid, said.type, said.how), ("A", "a-f-G-U-C", "m-g"))
        self.assertEqual((said.sendTime, said.startTime, said.staleTime), (MILLIS, MILLIS, MILLIS + 375_000))
        self.assertEqual((said.lat, said.lon, said.hae, said.ce, said.le), (52.1, 4.3, 101.5, 4.9, 9999999.0))
        detail = said.detail
        self.assertEqual((detail.contact.callsign, detail.contact.endpoint), ("FOX1", "*:-1:stcp"))
        self.assertEqual((detail.group.name, detail.group.role), ("Cyan", "Team Member"))
        self.assertEqual((detail.precisionLocation.altsrc, detail.precisionLocation.geopointsrc), ("DTED0", "GPS"))
        self.assertEqual(detail.status.battery, 87)
        takv = detail.takv
        self.assertEqual(
            (takv.device, takv.platform, takv.os, takv.version), ("GOOGLE PIXEL 6", "ATAK-CIV", "33", "4.10.0.5")
        )
        self.assertEqual((detail.track.speed, detail.track.course), (0.0, 12.5))
        self.assertEqual(detail.xmlDetail, '<uid Droid="FOX1"/>')

    def test_T16_to_xml(self) -> None:
        """An XML client gets a protobuf client's report as if that had sent XML."""
        event = there_and_back(xmlcodec.decode(sa("A", "FOX1", extra=PRECISION)))
        said = xmlcodec.decode(sa("A", "FOX1", extra=PRECISION))
        self.assertEqual(meaning(event.xml), meaning(said.xml))
        self.assertEqual(event.detail, said.detail)
        self.assertTrue(event.is_self_report)
        self.assertTrue(event.xml.startswith(PROLOG + b'<event version="2.0" uid="A" type="a-f-G-U-C" how="m-g"'))
        self.assertTrue(event.xml.endswith(b"</detail></event>"))

    def test_T26_stays_whole(self) -> None:
        """What a field could say only in part goes through protobuf as XML, untouched and in order."""
        for detail in (
            '<contact callsign="A" endpoint="e" phone="+31"/>',
            '<status readiness="true" battery="5"/>',
            '<contact callsign="A"/><contact callsign="B"/>',
            '<__group name="Cyan" role="HQ"><x/></__group>',
            '<track speed="abc" course="1"/>',
            '<precisionlocation altsrc="DTED0"/>',
            '<status battery="087"/><takv device="" platform="p" os="o" version="v"/>',
            "<contact callsign='A'> </contact>",
        ):
            event = xmlcodec.decode(xml(detail=detail))
            said = said_by(protobuf.encode(event)).detail
            self.assertEqual(said.xmlDetail, detail)
            self.assertEqual([field.name for field, _ in said.ListFields()], ["xmlDetail"])
            self.assertIn(f"<detail>{detail}</detail>".encode(), there_and_back(event).xml)

    def test_T28_root(self) -> None:
        """Markings of an event arrive, the one whose spellings differ too; empty ones are not made up."""
        markings = {"access": "Undefined", "qos": "1-r-c", "opex": "e-x", "caveat": "FOUO", "releasableTo": "A & B"}
        spelled = "".join(f' {name}="{text}"' for name, text in markings.items()).replace("&", "&amp;").encode()
        event = xmlcodec.decode(xml().replace(b" type=", spelled + b" type="))
        said = said_by(protobuf.encode(event))
        self.assertEqual((said.access, said.releaseableTo), ("Undefined", "A & B"))
        back = there_and_back(event)
        self.assertIn(spelled, back.xml)
        self.assertEqual(meaning(back.xml), meaning(event.xml))
        self.assertNotIn(b"access", there_and_back(xmlcodec.decode(xml())).xml)

    def test_T29_numbers(self) -> None:
        """Unknown heights stay the unknown that they were, and small numbers have no exponent."""
        event = xmlcodec.decode(xml(point='<point lat="1e-7" lon="-0.00000012" hae="9999999" ce="999999" le="1E17"/>'))
        said = said_by(protobuf.encode(event))
        self.assertEqual((said.hae, said.ce), (9999999.0, 999999.0))
        point = b'<point lat="0.0000001" lon="-0.00000012" hae="9999999.0" ce="999999.0" le="100000000000000000"/>'
        self.assertIn(point, there_and_back(event).xml)

    def test_T30_size(self) -> None:
        """Before anything is sent one knows how large an event is as protobuf."""
        event = xmlcodec.decode(xml(detail=f"<remarks>{'x' * 80 * 1024}</remarks>"))
        self.assertGreater(len(protobuf.payload_of(event)), 80 * 1024)
        self.assertEqual(meaning(there_and_back(event).xml), meaning(event.xml))

    def test_only_in_xml(self) -> None:
        """What protobuf has no place for does no harm, and XML clients get it."""
        document = xml().replace(b" type=", b' other="1" type=').replace(b" lat=", b' note="2" lat=')
        event = xmlcodec.decode(document.replace(b"<detail", b"<extra><contact/></extra><detail"))
        self.assertIn(b'note="2"', event.xml)
        self.assertEqual(protobuf.encode(event), protobuf.encode(xmlcodec.decode(xml())))

    def test_nothing(self) -> None:
        """An event without details has none in protobuf."""
        self.assertFalse(self.encoded(xml()).HasField("detail"))
        self.assertFalse(self.encoded(xml(detail=" \n ")).HasField("detail"))

    def test_times(self) -> None:
        """What has no number in protobuf becomes the nearest: before 1970, and after what ATAK can read."""
        event = xmlcodec.decode(xml())
        said = said_by(protobuf.encode(replace(event, time=-1.0, start=0.001, stale=1e12)))
        self.assertEqual((said.sendTime, said.startTime, said.staleTime), (0, 1, LATEST * 1000))

    def test_infinite(self) -> None:
        """A number that no double holds is unknown, because readers drop an event with infinity."""
        point = '<point lat="1" lon="1" hae="1e999" ce="-1e999" le="NaN"/>'
        said = self.encoded(xml(point=point))
        self.assertEqual((said.hae, said.ce), (protobuf.UNKNOWN, protobuf.UNKNOWN))
        self.assertTrue(math.isnan(said.le))


class DecodeTests(SynchronousTestCase):
    def assert_malformed(self, words: str, payload: bytes) -> None:
        """The payload is refused, and the operator is told why."""
        error = self.assertRaises(MalformedEvent, protobuf.decode, payload)
        self.assertIn(words, str(error))

    def test_T22_no_message(self) -> None:
        """Bytes that are no message are refused alone; text that is no text too."""
        for payload in (b"garbage", b"\x12\x05abc", b"\x12\x04\x0a\x02\xff\xfe", written()[:-1]):
            self.assert_malformed("no TakMessage", payload)

    def test_T24_control(self) -> None:
        """A message without an event is nothing to pass on and no error."""
        self.assertIsNone(protobuf.decode(TakMessage(takControl={"minProtoVersion": 1}).SerializeToString()))
        self.assertIsNone(protobuf.decode(b""))

    def test_T27_xml_wins(self) -> None:
        """What stands in xmlDetail counts before the field of its name, and is there once."""
        fields = {"contact": {"callsign": "FIELD"}, "status": {"battery": 5}}
        event = read_payload(written(detail={**fields, "xmlDetail": '<x/><contact callsign="XML"/>'}))
        self.assertEqual(event.xml.count(b"<contact"), 1)
        self.assertEqual(event.detail.callsign, "XML")
        self.assertIn(b'<status battery="5"/>', event.xml)
        deeper = read_payload(written(detail={**fields, "xmlDetail": '<x><contact callsign="XML"/></x>'}))
        self.assertEqual(deeper.detail.callsign, "FIELD")

    def test_invalid(self) -> None:
        """An event that XML clients would drop is refused, whatever is wrong with it."""
        for name in ("uid", "type", "how"):
            self.assert_malformed(f"event lacks {name}", written(**{name: ""}))
        self.assert_malformed("not on Earth", written(lat=91.0))
        self.assert_malformed("no number", written(lon=math.nan))
        self.assert_malformed("no number", written(hae=math.inf))
        self.assert_malformed("not well-formed", written(uid="\x00"))
        for inner in ("<x>", "</x>", "<!DOCTYPE x>", "&bomb;", "<?xml version='1.0'?><x/>", "<x a='1' a='2'/>", "]]>"):
            self.assert_malformed("not well-formed", written(detail={"xmlDetail": inner}))
        self.assert_malformed("inside each other", written(detail={"xmlDetail": "<x>" * 200 + "</x>" * 200}))

    def test_out_of_detail(self) -> None:
        """Nobody gets out of <detail> to say what the message's fields do not say."""
        for inner in ("</detail><point/><detail>", "</detail></event><event><detail>"):
            self.assert_malformed("not well-formed", written(detail={"xmlDetail": inner}))
        event = read_payload(written(detail={"xmlDetail": "<x><detail></detail></x>"}))
        self.assertIn(b"<x><detail></detail></x>", event.xml)

    def test_two_in_one(self) -> None:
        """Nobody hides a second event in one: XML streams are cut at any </event>."""
        forged = '<event uid="B"></event>'
        for inner in (forged, f"<?x </event>{forged}?>", f"<x>{forged}</x>", "<event></event\n>"):
            self.assert_malformed("would be cut", written(detail={"xmlDetail": inner}))
        for inner in ("<events></events>", "<event/>", "<remarks>&lt;/event&gt;</remarks>"):
            self.assertIn(inner.encode(), read_payload(written(detail={"xmlDetail": inner})).xml)
        for inner in (f"<!--{forged}-->", f"<x><![CDATA[{forged}]]></x>"):
            self.assertEqual(read_payload(written(detail={"xmlDetail": inner})).xml.count(b"</event"), 1)

    def test_times(self) -> None:
        """Times are milliseconds; none is 1970, and what ATAK cannot read is the latest that it can."""
        event = read_payload(written(sendTime=1, startTime=0, staleTime=(1 << 64) - 1))
        self.assertIn(b'time="1970-01-01T00:00:00.001Z" start="1970-01-01T00:00:00.000Z"', event.xml)
        self.assertIn(b'stale="2106-02-07T06:28:15.000Z"', event.xml)
        self.assertEqual((event.time, event.start, event.stale), (0.001, 0, LATEST))
        self.assertEqual(said_by(protobuf.payload_of(event)).staleTime, LATEST * 1000)

    def test_marti(self) -> None:
        """Whom an event is for is read, and not passed on in either form."""
        for marti in (f"<marti>{to('FOX2')}</marti>", f"<x/><marti>{to('FOX2')}</marti><y/>"):
            event = read_payload(written(detail={"xmlDetail": marti}))
            self.assertEqual(event.detail.destinations, Destinations(("FOX2",), explicit=True))
            self.assertNotIn(b"marti", event.xml)
            self.assertNotIn(b"marti", protobuf.payload_of(event))

    def test_empty(self) -> None:
        """An event without details has an empty <detail/>, as everybody expects."""
        self.assertTrue(read_payload(written()).xml.endswith(b"/><detail/></event>"))
        self.assertTrue(read_payload(written(detail={})).xml.endswith(b"/><detail/></event>"))

    def test_attributes(self) -> None:
        """Any text survives in an attribute: quotes, markup, line ends, emoji."""
        uid = " a\t\n\r<&>\"'\U0001f98a "
        event = read_payload(written(uid=uid, caveat=uid))
        self.assertEqual(event.uid, uid)
        self.assertEqual(said_by(protobuf.encode(event)).caveat, uid)

    def test_reader(self) -> None:
        """A quicker reader of XML can be put in."""
        seen = []

        def read(document: bytes) -> Event:
            seen.append(document)
            return xmlcodec.decode(document)

        event = protobuf.decode(written(), read)
        assert event is not None
        self.assertEqual(seen, [event.xml[len(PROLOG) :]])


class PayloadOfTests(SynchronousTestCase):
    def test_once(self) -> None:
        """However many protobuf clients hear an event, it is encoded once."""
        event = xmlcodec.decode(marker())
        self.assertIsNone(event.protobuf)
        payload = protobuf.payload_of(event)
        self.assertEqual(payload, protobuf.encode(event))
        self.assertIs(protobuf.payload_of(event), payload)

    def test_as_it_came(self) -> None:
        """An event from a protobuf client goes to others as it came, with what only newer clients know."""
        payload = written(detail={"xmlDetail": " <x/> ", "contact": {}}) + b"\x9a\x01\x03new"
        self.assertIs(protobuf.payload_of(read_payload(payload)), payload)

    def test_control_is_for_us(self) -> None:
        """What a client says about itself to its neighbor is not passed on; the event beside it is, all of it."""
        both = message()
        both.takControl.contactUid = "A"
        payload = both.SerializeToString() + b"\x9a\x01\x03new"
        kept = protobuf.payload_of(read_payload(payload))
        self.assertNotIn(b"\x0a\x03\x1a\x01A", kept)
        self.assertTrue(kept.endswith(b"\x9a\x01\x03new"))
        self.assertEqual(said_by(kept), message().cotEvent)

    def test_changed_on_the_way(self) -> None:
        """Where the XML form had to change, protobuf clients get the same."""
        event = read_payload(written(detail={"xmlDetail": "<!-- --><x><![CDATA[<&>]]></x>"}))
        self.assertEqual(said_by(protobuf.payload_of(event)).detail.xmlDetail, "<x>&lt;&amp;&gt;</x>")

    def test_copies(self) -> None:
        """A copy that says something else is not sent as what it was made of."""
        emergency = read_payload(protobuf.encode(xmlcodec.decode(xml(type_="b-a-o-tbl"))))
        again = compose.repeated(emergency, NOW + 10, NOW + 70)
        self.assertEqual(said_by(protobuf.payload_of(again)).sendTime, MILLIS + 10_000)
        failed = compose.chat_failed(read_payload(protobuf.encode(xmlcodec.decode(chat("A")))))
        self.assertEqual(said_by(protobuf.payload_of(failed)).type, "b-t-f-s")
        tagged = read_payload(written(detail={"xmlDetail": '<_flow-tags_ ours="x" theirs="y"/>'}))
        untagged = compose.without_flow_tag(tagged, "ours")
        self.assertNotIn(b"ours", protobuf.payload_of(untagged))
        self.assertIn(b"theirs", protobuf.payload_of(untagged))

    def test_said_by_us(self) -> None:
        """What the server says itself can be said in protobuf."""
        for event in (compose.pong(NOW), compose.departure("A", "a-f-G", NOW)):
            self.assertEqual(meaning(there_and_back(event).xml), meaning(event.xml))


class PropertyTests(SynchronousTestCase):
    @BRIEF
    @given(documents())
    def test_xml_protobuf_xml(self, document: bytes) -> None:
        """Whatever an XML client says means the same after a way through protobuf."""
        event = xmlcodec.decode(document)
        back = there_and_back(event)
        self.assertEqual(meaning(back.xml), meaning(event.xml))
        self.assertEqual(back.detail, event.detail)
        self.assertEqual(protobuf.encode(xmlcodec.decode(back.xml[len(PROLOG) :])), protobuf.encode(event))

    @BRIEF
    @given(MESSAGES)
    def test_protobuf_xml_protobuf(self, fields: dict[str, Any]) -> None:
        """Whatever a protobuf client says means the same after a way through XML."""
        payload = written(**fields)
        event = read_payload(payload)
        again = xmlcodec.decode(event.xml[len(PROLOG) :])
        self.assertEqual(again.xml, event.xml)
        self.assertEqual(meaning(there_and_back(again).xml), meaning(event.xml))
        if event.protobuf is not None:
            self.assertEqual(event.protobuf, payload)

    @BRIEF
    @given(MESSAGES)
    def test_fields_stay_fields(self, fields: dict[str, Any]) -> None:
        """Fields that hold something come back as fields, to the bit."""
        detail = {}
        for name, value in fields.get("detail", {}).items():
            if name in ("status", "track") or (
                name in TYPED_FIELDS and all(value.values()) and _is_complete(name, value)
            ):
                detail[name] = value
        said = said_by(written(**{**fields, "detail": detail}))
        back = said_by(
            protobuf.encode(xmlcodec.decode(read_payload(written(**{**fields, "detail": detail})).xml[len(PROLOG) :]))
        )
        for field in (*(name for name in fields if name != "detail"), *detail):
            ours, theirs = (getattr(where.detail if field in detail else where, field) for where in (back, said))
            self.assertEqual(repr(ours), repr(theirs), field)


def _is_complete(name: str, value: dict[str, Any]) -> bool:
    return "callsign" in value if name == "contact" else len(value) == (4 if name == "takv" else 2)


class CrossCheckTests(SynchronousTestCase):
    """Beside PyPI's takproto, which knows the typed fields and copies the rest."""

    SAMPLES = (
        sa("A", "FOX \U0001f98a", extra=PRECISION),
        marker(extra="<remarks>café &lt;tag&gt; &amp;</remarks><color argb='-1'/>"),
        xml(type_="t-x-d-d", detail='<link uid="A" type="a-f-G" relation="p-p"/>'),
    )

    def test_they_read_us(self) -> None:
        """Programs that use it read what we send, on a stream and in a datagram."""
        for document in self.SAMPLES:
            payload = protobuf.encode(xmlcodec.decode(document))
            ours = said_by(payload)
            for wire in (frame(payload), mesh_frame(payload)):
                theirs = takproto.parse_proto(bytearray(wire)).cotEvent
                self.assertEqual(theirs.SerializeToString(), ours.SerializeToString())
                self.assertEqual(theirs.detail.contact.callsign, ours.detail.contact.callsign)
                self.assertEqual(theirs.detail.xmlDetail, ours.detail.xmlDetail)

    def test_we_read_them(self) -> None:
        """We read what they send as we would read the XML that they made it of."""
        for document in self.SAMPLES:
            wire = bytearray(takproto.xml2proto(document.decode(), TAKProtoVer.STREAM))
            payload = ProtobufFraming(1 << 20).next_frame(wire)
            assert isinstance(payload, bytes)
            event, direct = read_payload(payload), xmlcodec.decode(document)
            self.assertEqual(meaning(event.xml), meaning(direct.xml))
            self.assertEqual(event.detail, direct.detail)


class CorpusTests(SynchronousTestCase):
    def test_events(self) -> None:
        """Captured streams give the events that they hold."""
        uids = {
            name: [read_payload(payload).uid for payload in payloads(stream)]
            for name, stream in CORPUS.items()
            if name.startswith("good-")
        }
        self.assertEqual(
            uids,
            {
                "good-goatak.stream": ["A", "MARK-1"],
                "good-reports.stream": ["A", "B", "MARK-1", "GeoChat.A.All Chat Rooms.m-1"],
                "good-unicode.stream": ["café \U0001f98a"],
            },
        )
