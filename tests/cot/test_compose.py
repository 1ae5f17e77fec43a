from __future__ import annotations

import re
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot import compose
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.times import format_time
from taky_twisted.cot.xmlcodec import decode
from tests.samples import NOW, chat, emergency, event, marker, to, xml

TAG = "TAK-Server-0123456789abcdef0123456789abcdef"
TAGGED = f'{TAG}="{format_time(NOW)}"'
LATER = NOW + 60


def fields(said: Event) -> dict[str, object]:
    """Take an event apart."""
    return {name: getattr(said, name) for name in Event.__slots__ if name != "detail"}


class NoticeCase(SynchronousTestCase):
    def assertWhole(self, notice: Event) -> None:
        """Check that what we know of an event is what others read in it."""
        read = decode(notice.xml[len(PROLOG) :])
        self.assertEqual(read.xml, notice.xml)
        self.assertEqual(fields(read), fields(notice))
        self.assertEqual(read.detail.link_uid, notice.detail.link_uid)


class NoticeTests(NoticeCase):
    """What the server says itself."""

    def test_pong(self) -> None:
        """A pong is what TAK Server sends: from ``takPong``, nowhere, fresh for twenty seconds."""
        pong = compose.pong(NOW)
        self.assertWhole(pong)
        self.assertEqual((pong.uid, pong.type, pong.how), ("takPong", "t-x-c-t-r", "h-g-i-g-o"))
        self.assertEqual((pong.time, pong.start, pong.stale), (NOW, NOW, NOW + 20))
        self.assertIn(b'<point lat="0" lon="0" hae="0" ce="9999999" le="9999999"/>', pong.xml)

    def test_departure(self) -> None:
        """ATAK takes a contact off only if the link has a uid, a relation and a type."""
        gone = compose.departure("ANDROID-1", "a-f-G-E-V-C", NOW)
        self.assertWhole(gone)
        self.assertEqual((gone.type, gone.detail.link_uid), ("t-x-d-d", "ANDROID-1"))
        (link,) = compose.document(gone).iterfind("detail/link")
        self.assertEqual(dict(link.attrib), {"uid": "ANDROID-1", "relation": "p-p", "type": "a-f-G-E-V-C"})

    def test_departure_of_unknown_type(self) -> None:
        """The type is never empty, also where nobody knows it."""
        (link,) = compose.document(compose.departure("A", "", NOW)).iterfind("detail/link")
        self.assertEqual(link.get("type"), "a-f-G-U-C")

    def test_departure_of_anybody(self) -> None:
        """Whatever a uid is made of, it arrives."""
        for uid in ("<&>", '"', "'", "\"'", "\n\t", "\U0001f98a", "</event>"):
            gone = compose.departure(uid, uid, NOW)
            self.assertWhole(gone)
            self.assertEqual(gone.xml.count(b"</event>"), 1)
            self.assertEqual(gone.detail.link_uid, uid)

    def test_departures_are_apart(self) -> None:
        """Each notice has a uid of its own, or a client would take the second for an update of the first."""
        self.assertNotEqual(compose.departure("A", "", NOW).uid, compose.departure("A", "", NOW).uid)

    def test_groups_changed(self) -> None:
        """A client is told that its groups changed as TAK Server tells it: no word of which, each time anew."""
        notice = compose.groups_changed(NOW)
        self.assertWhole(notice)
        self.assertEqual((notice.type, notice.how, notice.stale), ("t-x-g-c", "h-g-i-g-o", NOW + 20))
        (link,) = compose.document(notice).iterfind("detail/link")
        self.assertEqual(dict(link.attrib), {"relation": "p-p"})
        self.assertNotEqual(notice.uid, compose.groups_changed(NOW).uid)


class FileOfferTests(NoticeCase):
    """The offer of an event as a file."""

    def test_what_atak_demands(self) -> None:
        """An offer has all that ATAK's parser wants, is fresh as long as TAK Server's, and asks for no receipt."""
        item, url, sha256 = event(marker("LARGE")), "http://192.0.2.10:8080/x?a=1&b=2", "ab" * 32
        offer = compose.file_offer(item, url, sha256, 'A"&<', NOW)
        self.assertWhole(offer)
        (share,) = compose.document(offer).iterfind("detail/fileshare")
        self.assertEqual(
            dict(share.attrib),
            {
                "filename": "LARGE.cot",
                "name": "LARGE.cot",
                "senderUrl": url,
                "sizeInBytes": str(len(item.xml)),
                "sha256": sha256,
                "senderUid": sha256,
                "senderCallsign": 'A"&<',
            },
        )
        self.assertEqual((offer.uid, offer.type, offer.how), (sha256, "b-f-t-r", "h-e"))
        self.assertEqual((offer.time, offer.start, offer.stale), (NOW, NOW, NOW + 100))
        self.assertNotIn(b"ackrequest", offer.xml)

    def test_file_name(self) -> None:
        """A uid names a file of one folder, and no hidden one, whatever it is made of."""
        for uid, name in (
            ("ANDROID-1.2@x~y", "ANDROID-1.2@x~y"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("C:\\x\0", "C__x_"),
            ("..", "event"),
            ("", "event"),
            ("ä &?", "ä___"),
            ("x" * 1000, "x" * 100),
        ):
            offer = compose.file_offer(replace(event(marker()), uid=uid), "u", "h", "s", NOW)
            (share,) = compose.document(offer).iterfind("detail/fileshare")
            self.assertEqual((share.get("filename"), share.get("name")), (f"{name}.cot", f"{name}.cot"))


class CopyTests(SynchronousTestCase):
    """What is said again with one thing changed."""

    def test_repeated(self) -> None:
        """An emergency that is said again has a fresh time and stale; all else, also its start, is as it was."""
        first = event(emergency("A", "FOX"))
        again = compose.repeated(first, LATER, LATER + 15)
        self.assertEqual((again.time, again.start, again.stale), (LATER, NOW, LATER + 15))
        self.assertIs(again.detail, first.detail)
        expected = first.xml.replace(f' time="{format_time(NOW)}"'.encode(), f' time="{format_time(LATER)}"'.encode())
        expected = re.sub(rb'stale="[^"]*"', f'stale="{format_time(LATER + 15)}"'.encode(), expected)
        self.assertEqual(again.xml, expected)
        self.assertEqual(fields(decode(again.xml[len(PROLOG) :])), fields(again))

    def test_original_stays(self) -> None:
        """Saying an event again does not change the event: others hold it."""
        first = event(emergency("A", "FOX"))
        before = fields(first)
        compose.repeated(first, LATER, LATER)
        compose.chat_failed(first)
        compose.without_flow_tag(first, TAG)
        compose.with_flow_tag(first, TAG, NOW)
        self.assertEqual(fields(first), before)

    def test_repeated_odd_spelling(self) -> None:
        """Only the event's own times change, in whatever quotes and order, and not what looks like them."""
        said = (
            b'<event stale = \'2026-03-01T10:00:10.000Z\'\n uid="time=\'x\'" time="2026-03-01T10:00:00.000Z" mytime="1"'
            b' note=\' stale="2" >\' how="m-g" start="2026-03-01T10:00:00.000Z" type="b-a-o-tbl">'
            b'<point lat="1" lon="2" hae="3" ce="4" le="5"/><detail time="x"><emergency stale=""/></detail></event>'
        )
        again = compose.repeated(event(said), LATER, LATER + 15)
        expected = said.replace(b"'2026-03-01T10:00:10.000Z'", b"'%b'" % format_time(LATER + 15).encode())
        expected = expected.replace(b' time="2026-03-01T10:00:00.000Z"', f' time="{format_time(LATER)}"'.encode())
        self.assertEqual(again.xml, PROLOG + expected)

    def test_chat_failed(self) -> None:
        """The sender learns that nobody got it from the same message with another type; ATAK knows it by its uid."""
        said = event(chat("A", "hello", id_="B", room="B"))
        failed = compose.chat_failed(said)
        self.assertEqual((failed.type, failed.uid, failed.detail), ("b-t-f-s", said.uid, said.detail))
        self.assertEqual(failed.xml, said.xml.replace(b' type="b-t-f"', b' type="b-t-f-s"'))
        self.assertIn(b'type="a-f-G-U-C"', failed.xml)

    def test_no_protobuf_of_the_original(self) -> None:
        """A copy that says something else is not taken for the original in another spelling."""
        said = event(chat("A"))
        said.protobuf = b"original"
        for copy in (
            compose.repeated(said, LATER, LATER),
            compose.chat_failed(said),
            compose.without_flow_tag(said, TAG),
        ):
            self.assertIsNone(copy.protobuf)


class FlowTagTests(SynchronousTestCase):
    """Marks of the servers that an event has passed."""

    def without(self, detail: str) -> bytes:
        """Take our tag out of an event with this detail."""
        return self.untagged(detail).xml

    def untagged(self, detail: str) -> Event:
        """Take our tag out of an event with this detail, and check that what we know of it is what it says."""
        copy = compose.without_flow_tag(event(xml(detail=detail)), TAG)
        self.assertEqual(copy.detail, decode(copy.xml[len(PROLOG) :]).detail)
        self.assertNotIn(TAG, copy.detail.flow_tags)
        return copy

    def test_own_tag_goes(self) -> None:
        """Our own tag is taken out, however it is quoted; the order and the quotes of the others stay."""
        for before, behind in (
            (f"<_flow-tags_ {TAGGED}/>", "<_flow-tags_/>"),
            (f"<_flow-tags_ {TAG}='x'></_flow-tags_>", "<_flow-tags_></_flow-tags_>"),
            (f"<_flow-tags_ b='1' {TAGGED} a=\"2\"/>", "<_flow-tags_ b='1' a=\"2\"/>"),
            (f"<_flow-tags_\n{TAG} = 'x'\tz='\"'/>", "<_flow-tags_\tz='\"'/>"),
            (f"<_flow-tags_ {TAGGED}/><a/><_flow-tags_ {TAG}='2' c='3'/>", "<_flow-tags_/><a/><_flow-tags_ c='3'/>"),
            (f"<_flow-tags_ {TAG}=''/>", "<_flow-tags_/>"),
        ):
            self.assertEqual(self.without(before), PROLOG + xml(detail=behind))

    def test_others_stay(self) -> None:
        """Tags of others stay as they are, also one whose name or value only looks like ours."""
        for detail in (
            "",
            "<_flow-tags_/>",
            "<_flow-tags_ AndroidMedicalLine='2026-03-01T10:00:00.000Z'/>",
            f"<_flow-tags_ {TAG}0='x' x{TAG}=\"y\"/>",
            f"<_flow-tags_ a=' {TAG}=&quot;1&quot; '/>",
            f"<_flow-tags_ a=\" {TAG}='1' \" b=' {TAG}=\"1\" '/>",
            f"<remarks {TAG}='1'>{TAG}=\"1\"</remarks>",
            f"<_flow-tags_more {TAG}='1'/>",
        ):
            copy = self.untagged(detail)
            self.assertEqual(copy.xml, PROLOG + xml(detail=detail))

    def test_known_tags(self) -> None:
        """What the server knows of the tags is what is left."""
        self.assertEqual(self.untagged(f"<_flow-tags_ a='1' {TAGGED} b='2'/>").detail.flow_tags, ("a", "b"))

    def tagged(self, document: bytes) -> bytes:
        """Put our tag into an event, and check that it is there once."""
        said = event(document)
        sent = compose.with_flow_tag(said, TAG, NOW)
        read = decode(sent[len(PROLOG) :])
        self.assertEqual(read.xml, sent)
        self.assertEqual(read.detail.flow_tags.count(TAG), 1)
        others = [tag for tag in read.detail.flow_tags if tag != TAG]
        self.assertEqual(others, [tag for tag in said.detail.flow_tags if tag != TAG])
        self.assertEqual(compose.without_flow_tag(read, TAG).detail.flow_tags, tuple(others))
        return sent

    def test_new_element(self) -> None:
        """Where there are no tags yet, ours are put into the detail; all else is sent as it was."""
        element = f"<_flow-tags_ {TAGGED}/>"
        self.assertEqual(
            self.tagged(marker()), event(marker()).xml.replace(b"<detail>", b"<detail>" + element.encode())
        )
        for empty in (b"<detail></detail>", b"<detail/>"):
            said = xml().replace(b"<detail></detail>", empty)
            self.assertEqual(self.tagged(said), PROLOG + xml(detail=element))

    def test_odd_details(self) -> None:
        """The detail may stand anywhere and be spelled in any way."""
        element = f"<_flow-tags_ {TAGGED}/>".encode()
        bare = xml().replace(b"<detail></detail>", b"")
        for before, behind in (
            (b"<detail />", b"<detail >%b</detail>"),
            (b"<detail a='/>' b=\"'>\"/>", b"<detail a='/>' b=\"'>\">%b</detail>"),
            (b"<detail a='>' >x</detail >", b"<detail a='>' >%bx</detail >"),
            (b"<detail><detail/></detail>", b"<detail>%b<detail/></detail>"),
            (b"<detail><a><_flow-tags_/></a></detail>", b"<detail>%b<a><_flow-tags_/></a></detail>"),
            (b"<detail/><details></details>", b"<detail>%b</detail><details></details>"),
            (b"<a><detail></detail></a><detail/>", b"<a><detail></detail></a><detail>%b</detail>"),
        ):
            behind = behind.replace(b"%b", element)
            for place in (b"<point", b"</event>"):
                self.assertEqual(
                    self.tagged(bare.replace(place, before + place)), PROLOG + bare.replace(place, behind + place)
                )
        self.assertEqual(self.tagged(bare), PROLOG + bare[:-8] + b"<detail>" + element + b"</detail></event>")

    def test_beside_others(self) -> None:
        """Ours joins the tags that are there, whose order and quotes stay: TAK Server looks at no second element."""
        for before, behind in (
            ("<_flow-tags_/>", f"<_flow-tags_ {TAGGED}/>"),
            ("<a/><_flow-tags_ b='1' a=\"2\" /><c/>", f"<a/><_flow-tags_ {TAGGED} b='1' a=\"2\" /><c/>"),
            ("<_flow-tags_></_flow-tags_>", f"<_flow-tags_ {TAGGED}></_flow-tags_>"),
            ("<_flow-tags_ a='1'/><_flow-tags_ b='1'/>", f"<_flow-tags_ {TAGGED} a='1'/><_flow-tags_ b='1'/>"),
        ):
            self.assertEqual(self.tagged(xml(detail=before)), PROLOG + xml(detail=behind))

    def test_again(self) -> None:
        """An event that has our tag already has it once afterwards, with the time of now."""
        said = xml(detail=f"<_flow-tags_ {TAG}='long ago' a='1'/>")
        self.assertEqual(self.tagged(said), PROLOG + xml(detail=f"<_flow-tags_ {TAGGED} a='1'/>"))


class DocumentTests(SynchronousTestCase):
    def test_document(self) -> None:
        """The few parts that look into an event see its elements as they are delivered."""
        element = compose.document(event(marker(marti="")))
        self.assertEqual(element.tag, "event")
        self.assertEqual([child.tag for child in element.iterfind("detail/*")], ["contact", "archive"])


class LongChatTests(SynchronousTestCase):
    def test_without_its_text(self) -> None:
        """The notice about a message that is too long to be sent back is that message without its text."""
        long = decode(chat("A", "x" * 1000, marti=to("B")))
        size = len(compose.chat_failed(long).xml)
        self.assertEqual(len(compose.chat_failed(long, size).xml), size)
        short = compose.chat_failed(long, size - 1)
        self.assertLess(len(short.xml), size - 1000)
        self.assertEqual((short.type, decode(short.xml[len(PROLOG) :]).detail.chat), ("b-t-f-s", long.detail.chat))

    def test_without_any_text(self) -> None:
        """However its texts are spelled, and wherever else that word stands, what is left is an event."""
        for remarks, left in (
            ("<remarks /><remarks>hello</remarks>", ""),
            ("<a><remarks /></a><remarks>hello</remarks >", "<a><remarks /></a>"),
            ("<remarks><remarks>in</remarks>hello</remarks><remarks/>", ""),
            ("<remarks a='/>'>hello</remarks\n><remarksX/>", "<remarksX/>"),
        ):
            failed = compose.chat_failed(event(xml(type_="b-t-f", detail=remarks)), 1)
            self.assertEqual(failed.xml, compose.chat_failed(event(xml(type_="b-t-f", detail=left))).xml)
