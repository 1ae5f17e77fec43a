"""Tests for `taky_twisted.takproto.negotiation`, and of what both ends see of it."""

from __future__ import annotations

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.takproto import protobuf
from taky_twisted.takproto.connection import TAKConnection
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable
from taky_twisted.takproto.messages import TakMessage
from taky_twisted.takproto.negotiation import OFFER, REQUEST, RESPONSE, Negotiation
from taky_twisted.takproto.protobuf_framing import ProtobufFraming, frame, mesh_frame
from tests.fakes import Client, Site, principal
from tests.samples import NOW, chat, emergency, marker, ping, sa, to, xml

BIG = 1 << 23


def request(uid: str, *versions: str, extra: str = "") -> bytes:
    """Spell a client's request for versions of the protocol."""
    asked = "".join(f'<TakRequest version="{version}"/>' for version in versions)
    return xml(uid, REQUEST, f"<TakControl>{asked}</TakControl>{extra}", stale=60)


def framed(document: bytes) -> bytes:
    """Spell an event as a frame."""
    return frame(protobuf.encode(decode(document)))


def events_in(frames: bytes) -> list[Event]:
    """Read frames as a strict client does: nothing but frames, none over 64 KiB."""
    buffer, framing, events = bytearray(frames), ProtobufFraming(65_536), []
    while buffer:
        assert buffer[0] == 0xBF, bytes(buffer[:20])
        payload = framing.next_frame(buffer)
        assert isinstance(payload, bytes)
        event = protobuf.decode(payload)
        assert event is not None
        events.append(event)
    return events


class ATAK:
    """A client in memory that switches to protobuf as ATAK does."""

    def __init__(self, client: Client) -> None:
        self.client = client
        wire = self.take()
        self.offer = decode(wire[wire.index(b"<event") : wire.index(b"</event>") + 8])
        assert self.offer.type == OFFER, self.offer.type

    def take(self) -> bytes:
        """Read what came."""
        transport = self.client.transport
        wire, transport.written = bytes(transport.written), bytearray()
        return wire

    def switch(self, *, behind: bytes = b"") -> bytes:
        """Ask for version 1; return what came behind the answer."""
        self.client.say(request(self.offer.uid, "1") + behind)
        wire = self.take()
        end = wire.index(b"</event>", wire.index(RESPONSE.encode())) + 8
        answer = decode(wire[wire.rindex(b"<event", 0, end) : end])
        assert (answer.uid, answer.type) == (self.offer.uid, RESPONSE)
        assert b'status="true"' in answer.xml
        return wire[end:]

    def say(self, *documents: bytes) -> None:
        """Say events in frames."""
        self.client.say(*map(framed, documents))

    def heard(self) -> list[Event]:
        """Read the events that came, as frames."""
        return events_in(self.take())


class NegotiationTests(SynchronousTestCase):
    """The server's side alone."""

    def setUp(self) -> None:
        self.negotiation = Negotiation()

    def answer(self, document: bytes) -> tuple[str, bool]:
        answer, agreed = self.negotiation.answer(decode(document), NOW)
        status = ElementTree.fromstring(answer.xml).find("detail/TakControl/TakResponse")
        assert status is not None
        return status.get("status", ""), agreed

    def test_offer(self) -> None:
        """The offer is an event that any client can read, with our version and a uid of its own."""
        offer = self.negotiation.offer(NOW)
        self.assertEqual(offer.xml, decode(offer.xml.partition(b"\n")[2]).xml)
        self.assertEqual((offer.type, offer.how, offer.stale), (OFFER, "m-g", NOW + 60))
        self.assertIn(b'<TakProtocolSupport version="1"/>', offer.xml)
        self.assertIn(b'apiVersion="3"', offer.xml)
        self.assertNotEqual(offer.uid, Negotiation().offer(NOW).uid)

    def test_agreed(self) -> None:
        """A request for the version that was offered is agreed to."""
        self.negotiation.offer(NOW)
        self.assertEqual(self.answer(request("x", "1")), ("true", True))

    def test_refused(self) -> None:
        """Another version, none, or several are refused, and so is any where nothing was offered."""
        self.assertEqual(self.answer(request("x", "1")), ("false", False))
        self.negotiation.offer(NOW)
        for versions in (("2",), (), ("1", "2"), ("",)):
            self.assertEqual(self.answer(request("x", *versions)), ("false", False), versions)
        self.assertEqual(self.answer(request("x", extra="<u:x/>")), ("false", False))


class StreamTests(SynchronousTestCase):
    """What a client and its peers see."""

    def setUp(self) -> None:
        self.site = Site()

    def join(self, uid: str) -> ATAK:
        """Connect a client that speaks protobuf and has reported itself."""
        client = ATAK(self.site.connect())
        client.switch()
        client.say(sa(uid, uid))
        client.take()
        return client

    def test_T15_offer_and_switch(self) -> None:
        """The offer comes at once; the answer has its uid; the next byte behind it is a frame's."""
        self.site.join("B")
        client = ATAK(self.site.connect())
        self.assertEqual(client.switch(), b"")
        client.client.say(framed(ping()))
        self.assertEqual([event.type for event in client.heard()], ["t-x-c-t-r"])

    def test_T16_both_kinds_understand_each_other(self) -> None:
        """What one says in protobuf the other hears in XML, and the other way round, with its typed fields."""
        b = self.site.join("B")
        a = self.join("A")
        self.assertEqual([event.uid for event in b.heard()], ["A"])
        b.say(sa("B", "B"))
        wire = a.take()
        message = TakMessage.FromString(ProtobufFraming(BIG).next_frame(bytearray(wire)))
        detail = message.cotEvent.detail
        self.assertEqual((detail.contact.callsign, detail.group.name, detail.status.battery), ("B", "Cyan", 87))
        self.assertEqual((detail.takv.platform, detail.track.course), ("ATAK-CIV", 12.5))
        self.assertEqual(detail.xmlDetail, '<uid Droid="B"/>')
        a.say(chat("A", marti=to("B")), marker(), emergency("A", "A"))
        self.assertEqual([event.type for event in b.heard()], ["b-t-f", "a-h-G", "b-a-o-tbl"])
        b.say(chat("B", marti=to("A")), marker("M2"))
        self.assertEqual([event.type for event in a.heard()], ["b-t-f", "a-h-G"])

    def test_T16_encoded_once(self) -> None:
        """However many hear an event, it is encoded once in each form; what came as protobuf goes as it came."""
        a, b, c = self.join("A"), self.join("B"), self.join("C")
        x, y = self.site.join("X"), self.site.join("Y")
        for client in (a, b, c):
            client.take()
        x.heard()
        payload = protobuf.encode(decode(marker()))
        a.client.say(frame(payload))
        self.assertEqual((b.take(), c.take()), (frame(payload), frame(payload)))
        heard = x.heard(), y.heard()
        self.assertEqual([[event.uid for event in events] for events in heard], [["MARK-1"], ["MARK-1"]])

    def test_T17_refused_then_agreed(self) -> None:
        """After a version that we do not speak XML goes on, and another try may succeed."""
        b, a = self.site.join("B"), ATAK(self.site.connect())
        a.client.say(request(a.offer.uid, "2"))
        self.assertIn(b'status="false"', a.take())
        a.client.say(marker())
        self.assertEqual(b.uids(), ["MARK-1"])
        b.say(marker("M2"))
        self.assertTrue(a.take().endswith(b"</event>"))
        self.assertEqual(a.switch(), b"")

    def test_T18_nothing_is_lost_in_the_switch(self) -> None:
        """In a flood, each event comes once, in order, in XML before the answer and in frames behind it."""
        b = self.site.join("B")
        for waits in (False, True):
            a = ATAK(self.site.connect())
            if waits:
                a.client.full()
            for number in range(50):
                b.say(marker(f"X-{number}"))
            # What the client sends right behind its request is frames already.
            a.client.say(request(a.offer.uid, "1") + framed(marker("OWN")))
            for number in range(50, 100):
                b.say(marker(f"X-{number}"))
            if waits:
                a.client.reads_on()
            wire = a.take()
            end = wire.index(b"</event>", wire.index(RESPONSE.encode())) + 8
            before = [decode(document) for document in wire[:end].split(PROLOG)[1:]]
            before = [event for event in before if event.uid.startswith("X-")]
            after = [event for event in events_in(wire[end:]) if event.uid.startswith("X-")]
            self.assertEqual([event.uid for event in before + after], [f"X-{number}" for number in range(100)])
            self.assertEqual(len(before), 0 if waits else 50)
            self.assertIn("OWN", b.uids())
            for number in range(100):
                b.say(xml(f"d-{number}", "t-x-d-d", f'<link uid="X-{number}" type="a" relation="p-p"/>'))
            a.client.leave()

    def test_T19_who_never_answers(self) -> None:
        """A client that does not answer the offer hears XML for good."""
        a, b = self.site.join("A"), self.site.join("B")
        a.heard()
        self.site.pass_time(120)
        b.say(marker(now=NOW + 120))
        self.assertEqual(a.uids(), ["MARK-1"])

    def test_T20_cut_anywhere(self) -> None:
        """The switch and the frames behind it may be cut at every byte."""
        documents = [sa("A", "A"), marker(extra=f"<remarks>{'x' * 300}</remarks>"), marker("M2")]
        stream = request("x", "1") + b"".join(map(framed, documents))
        for cut in range(len(stream) + 1):
            connection = TAKConnection(BIG, 65_536)
            connection.offer(NOW)
            said = [each for piece in (stream[:cut], stream[cut:]) for each in connection.receive(piece, NOW)]
            self.assertEqual([each.uid for each in said if isinstance(each, Event)], ["A", "MARK-1", "M2"], cut)

    def test_T21_stray_zeros(self) -> None:
        """A zero byte behind each frame (goatak sends one) does no harm."""
        a, b = self.join("A"), self.site.join("B")
        a.client.say(framed(marker()) + b"\0" + framed(marker("M2")) + b"\0")
        self.assertEqual(b.uids(), ["MARK-1", "M2"])

    def test_T22_broken_messages(self) -> None:
        """A message that is none is skipped; three in a row end the connection."""
        a, b = self.join("A"), self.site.join("B")
        bad = frame(b"\xff\xff")
        a.client.say(bad, bad, framed(marker()), bad, bad)
        self.assertEqual((b.uids(), a.client.transport.lost), (["MARK-1"], None))
        a.client.say(bad)
        self.assertEqual(a.client.transport.lost, "abort")

    def test_T23_a_gigabyte(self) -> None:
        """A frame that claims a gigabyte ends the connection before anything is set aside for it."""
        a = self.join("A")
        a.client.say(b"\xbf\x80\x80\x80\x80\x04")
        self.assertEqual(a.client.transport.lost, "abort")

    def test_T24_control_only(self) -> None:
        """A message without an event is not routed and not answered."""
        a, b = self.join("A"), self.site.join("B")
        a.take()
        a.client.say(frame(TakMessage(takControl={"minProtoVersion": 1, "maxProtoVersion": 1}).SerializeToString()))
        self.assertEqual((a.take(), b.heard()), (b"", []))

    def test_T25_frames_without_negotiation(self) -> None:
        """A peer that begins with a frame is understood, and gets XML (PyTAK with TAK_PROTO=1)."""
        b, client = self.site.join("B"), self.site.connect()
        client.heard()
        client.say(framed(sa("P", "P")), framed(ping()))
        self.assertEqual(b.uids(), ["P"])
        self.assertEqual(client.types(), ["t-x-c-t-r"])
        b.say(marker())
        self.assertEqual(client.uids(), ["MARK-1"])

    def test_T25_first_limit(self) -> None:
        """Who begins with a frame may say no more before its first valid event than others."""
        connection = TAKConnection(BIG, 1000)
        with self.assertRaises(RemoteProtocolError):
            list(connection.receive(b"\xbf\x80\x80\x01" + b"x" * 2000, NOW))

    def test_T30_large_events(self) -> None:
        """An event that is too large for ATAK is not sent, and those behind it come."""
        a, b = self.join("A"), self.site.join("B")
        a.take()
        b.say(marker(extra=f'<x a="{"y" * 80_000}"/>'), marker("SMALL"))
        self.assertEqual([event.uid for event in a.heard()], ["SMALL"])

    def test_pinned_to_xml(self) -> None:
        """A client that is pinned to XML sees no offer, nor does any on a site without; requests are refused."""
        self.site.factory._tak_protocol_of = {"fox 1": "xml"}
        self.assertEqual(self.site.factory.offers_protobuf(principal("FOX 1")), False)
        self.assertEqual(self.site.factory.offers_protobuf(principal("other")), True)
        self.site.factory._tak_protocol = "xml"
        client = self.site.connect()
        self.assertEqual(bytes(client.transport.written), b"")
        client.say(request("x", "1"))
        self.assertIn(b'status="false"', bytes(client.transport.written))
        self.assertEqual(client.protocol._tak.protocol, "xml")

    def test_monitor_is_offered_nothing(self) -> None:
        """The monitor port is plain XML."""
        self.assertEqual(bytes(self.site.connect(monitor=True).transport.written), b"")

    def test_a_flood_of_requests(self) -> None:
        """Refusals to somebody who does not read do not fill the memory."""
        a = ATAK(self.site.connect())
        a.client.full()
        for _ in range(100):
            a.client.say(request("x", "2"))
        self.assertLess(len(a.client.transport.written), 1000)

    def test_a_flood_of_requests_in_frames(self) -> None:
        """Nor do answers to requests after the switch."""
        a = self.join("A")
        a.take()
        a.client.full()
        for _ in range(100):
            a.say(request(a.offer.uid, "1"))
        self.assertLess(len(a.client.transport.written), 1000)

    def test_second_request(self) -> None:
        """A second request, now in a frame, is answered in a frame and changes nothing."""
        a = self.join("A")
        self.assertEqual(a.client.protocol._tak.protocol, "protobuf")
        a.say(request(a.offer.uid, "1"))
        self.assertEqual([event.type for event in a.heard()], [RESPONSE])

    def test_unreadable_between_frames(self) -> None:
        """What is no frame is reported and skipped."""
        connection = TAKConnection(BIG, 65_536)
        said = list(connection.receive(framed(marker()) + b"garbage" + framed(marker("M2")), NOW))
        self.assertEqual([type(each) for each in said], [Event, Unreadable, Event])

    def test_T80_mesh_datagram(self) -> None:
        """A datagram may be protobuf with a mesh header; the mesh's own messages are passed over."""
        from taky_twisted.cot.errors import MalformedEvent
        from taky_twisted.streaming.datagrams import read_datagram

        event = read_datagram(mesh_frame(protobuf.encode(decode(marker()))))
        assert event is not None
        self.assertEqual(event.uid, "MARK-1")
        self.assertIsNone(read_datagram(mesh_frame(TakMessage(takControl={"minProtoVersion": 1}).SerializeToString())))
        self.assertRaises(MalformedEvent, read_datagram, b"\xbf\x02\xbf" + protobuf.encode(decode(marker())))
