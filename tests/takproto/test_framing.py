from __future__ import annotations

from collections.abc import Callable, Iterable
from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable, XMLFraming
from tests.samples import ATAK_PROLOG, marker, sa, xml
from tests.takproto.streams import LOOSE, MIXED, TELESTRATION, cuts_of, pieces, streams

ONE, TWO = xml("ONE"), xml("TWO")
LARGE = 1 << 23
SMALL = 1 << 16
REFUSED = "document type declarations are refused"


def framed(
    segments: Iterable[bytes], limit: int = LARGE, first_limit: int = SMALL, trusted: bool = False
) -> list[bytes | Unreadable | str]:
    """Read a stream; the text of the error comes last if it is given up."""
    framing, buffer = XMLFraming(limit, first_limit), bytearray()
    if trusted:
        framing.trust()
    frames: list[bytes | Unreadable | str] = []
    try:
        for segment in segments:
            buffer += segment
            while (frame := framing.next_frame(buffer)) is not None:
                frames.append(frame)
    except RemoteProtocolError as error:
        frames.append(str(error))
    return frames


def bytewise(stream: bytes) -> Iterable[bytes]:
    """Cut a stream at every byte."""
    return [stream[at : at + 1] for at in range(len(stream))]


class FramingTests(SynchronousTestCase):
    """Where documents begin and end."""

    def framed(self, stream: bytes, limit: int = LARGE, first_limit: int = SMALL) -> list[bytes | Unreadable | str]:
        """Read a stream, before and after its sender is trusted, in one piece and byte by byte."""
        frames = framed([stream], limit, first_limit)
        self.assertEqual(framed(bytewise(stream), limit, first_limit), frames, "byte by byte")
        if first_limit >= len(stream):
            self.assertEqual(framed([stream], limit, first_limit, True), frames, "trusted")
            self.assertEqual(framed(bytewise(stream), limit, first_limit, True), frames, "trusted, byte by byte")
        return frames

    def test_nothing_between(self) -> None:
        """Documents may follow each other without a byte between them."""
        self.assertEqual(self.framed(ONE + TWO + ATAK_PROLOG + ONE), [ONE, TWO, ONE])

    def test_bare_stream(self) -> None:
        """An empty stream has no documents, and neither has one of blanks."""
        self.assertEqual(self.framed(b""), [])
        self.assertEqual(self.framed(b" \n\t" * 100), [])

    def test_unfinished(self) -> None:
        """What has no end yet is not given out."""
        for length in range(len(ONE)):
            self.assertEqual(framed([ONE[:length]]), [])

    def test_end_tag_with_blanks(self) -> None:
        """Blanks before the ``>`` of an end tag are part of it, as XML has it, up to sixteen."""
        spaced = ONE.replace(b"</event>", b"</event" + b" \t\r\n" * 4 + b">")
        self.assertEqual(self.framed(spaced + TWO), [spaced, TWO])
        over = ONE.replace(b"</event>", b"</event" + b" " * 17 + b">")
        self.assertEqual(self.framed(over + TWO), [over + TWO])

    def test_like_an_end_tag(self) -> None:
        """A name that only begins like ``event`` is another name."""
        events = b"<event><events></events></event>"
        self.assertEqual(self.framed(b"<events>" + ONE + b"</events>" + events + TWO), [events, TWO])

    def test_empty_document(self) -> None:
        """``<event/>`` is a document, however its attributes are quoted."""
        for empty in (
            b"<event/>",
            b"<event />",
            b'<event a="1"/>',
            b"<event a='/>' b=\">\" c='\"'/>",
            b'<event a="\'" b=">" />',
            b'<event a=\'"\' b=">" />',
        ):
            self.assertEqual(self.framed(empty + ONE), [empty, ONE])
            self.assertEqual(self.framed(ONE + empty), [ONE, empty])

    def test_not_an_empty_document(self) -> None:
        """``/>`` inside a quoted value ends nothing."""
        for start in (b'<event a="/>">', b"<event a='/>'>", b'<event a=\'"\' b="/>">', b'<event a="\'" b="/>">'):
            document = start + b"<point/></event>"
            self.assertEqual(self.framed(document + ONE), [document, ONE])

    def test_less_than_in_first_tag(self) -> None:
        """A ``<`` has no place in a tag; the document ends at its end tag, and the next one is not swallowed."""
        for start in (b'<event a="<" />', b"<event a='</x>' />", b"<event <event />"):
            document = start + b"</event>"
            self.assertEqual(self.framed(document + ONE), [document, ONE])
        self.assertEqual(self.framed(b'<event a="</event>' + ONE), [b'<event a="</event>', ONE])

    def test_sections(self) -> None:
        """An ``</event>`` in CDATA or a comment ends nothing, and neither does an escaped one."""
        for inner in (
            b"<![CDATA[</event>]]>",
            b"<!--</event>-->",
            b"<![CDATA[</event><!--]]>",
            b"<!--</event><![CDATA[-->",
        ):
            document = b"<event>" + inner + b"</event>"
            self.assertEqual(self.framed(document + ONE), [document, ONE])
        self.assertEqual(self.framed(TELESTRATION + ONE), [TELESTRATION, ONE])

    def test_unterminated_section(self) -> None:
        """A comment or CDATA without an end costs its own event: where the next one obviously starts, it is over."""
        for inner in (b"<![CDATA[", b"<!--"):
            for separator in (b"", ATAK_PROLOG):
                document = b"<event>" + inner + b"</event>"
                problem = Unreadable("an unterminated comment or CDATA section", document)
                self.assertEqual(self.framed(document + separator + ONE + TWO), [problem, ONE, TWO])

    def test_section_in_section(self) -> None:
        """A start of an event in CDATA without an ``</event>`` before it is only text."""
        document = b"<event><![CDATA[<event ><?xml </event>]]></event>"
        self.assertEqual(self.framed(document + ONE), [document, ONE])

    def test_unterminated_sections_between(self) -> None:
        """Between events too, something without an end is over where the next event starts; it is reported."""
        problem = Unreadable("an event inside something that has no end", b"")
        for opening in (b"<!-- ", b"<?pi ", b"<![CDATA[", b"<foo>", b"<foo a='1'><bar></bar>"):
            self.assertEqual(self.framed(opening + ONE + ATAK_PROLOG + TWO), [problem, TWO])
            self.assertEqual(self.framed(ONE + opening + ONE + TWO), [ONE, problem, TWO])

    def test_other_elements(self) -> None:
        """Elements that we know nothing of are skipped with all that is in them."""
        for other in (
            b"<foo/>",
            b"<foo a='>' b=\"/>\" />",
            b"<foo></foo>",
            b"<foo>text<bar></bar></event></foo >",
            b"<foo><foobar></foobar></foo>",
            b"<e:event>x</e:event>",
            b"<\xc3\xa4></\xc3\xa4>",
            b"<" + b"n" * 256 + b"></" + b"n" * 256 + b">",
            b"<" + b"n" * 257 + b">",
        ):
            self.assertEqual(self.framed(ONE + other + TWO), [ONE, TWO], other)

    def test_broken_other_element(self) -> None:
        """A tag that breaks off does not swallow the event behind it."""
        for broken in (b"<foo ", b'<foo a="', b"<foo a='>' ", b"<foo"):
            self.assertEqual(self.framed(broken + ONE), [ONE])

    def test_no_names(self) -> None:
        """What has no name is skipped, even where it looks like markup."""
        for junk in (b"<", b"<<", b"< event>", b"<1/>", b"</", b"</event>", b"</ event>", b">", b"]]>", b"\x00\xff"):
            self.assertEqual(self.framed(junk + ONE + junk + TWO), [ONE, TWO], junk)

    def test_end_of_declaration(self) -> None:
        """A document type declaration refuses the one event that it belongs to, however it is written."""
        for doctype in (
            b"<!DOCTYPE event>",
            b'<!DOCTYPE event SYSTEM "http://example.invalid/x.dtd">\n',
            b'<!DOCTYPE event [<!ENTITY a "x">]>',
            b'<!DOCTYPE event [\n<!ENTITY a "x">\n<!ELEMENT event ANY> ] >' + ATAK_PROLOG,
            b"<!ENTITY a 'x'>",
            b"<!DOCTYPE ",
            b"<!DOCTYPE " + b"x" * 600 + b">",
            b"<!->",
        ):
            self.assertEqual(self.framed(ONE + doctype + TWO + ONE), [ONE, Unreadable(REFUSED, TWO), ONE], doctype)

    def test_doctype_without_an_end(self) -> None:
        """Where a declaration swallowed its own event, the next one is not refused for it."""
        problem = Unreadable("an event inside something that has no end", b"")
        self.assertEqual(self.framed(b"<!DOCTYPE x [<!ENTITY " + ONE + ATAK_PROLOG + TWO), [problem, TWO])

    def test_stray_cdata(self) -> None:
        """CDATA between events is no declaration: it may be the rest of an event that was cut."""
        self.assertEqual(self.framed(ONE + b"<![CDATA[x]]>" + TWO), [ONE, TWO])

    def test_auth(self) -> None:
        """``<auth>`` is a document of its own, and an event may follow at once."""
        for auth in (b"<auth/>", b'<auth><cot password="</event>"/></auth >', b"<auth><!--</auth>--></auth>"):
            self.assertEqual(self.framed(ATAK_PROLOG + auth + ONE), [auth, ONE])

    def test_auth_without_an_end(self) -> None:
        """An ``<auth>`` that breaks off swallows no event; the password in it is not told to anybody."""
        auth = b'<auth><cot username="fox1" password="secret"/>'
        problem = Unreadable("an <auth> without an end", b"")
        self.assertEqual(self.framed(auth + ONE + TWO), [problem, ONE, TWO])
        self.assertEqual(self.framed(auth + ATAK_PROLOG + ONE), [problem, ONE])

    def test_refused_auth(self) -> None:
        """Also where a declaration stands before it, nobody gets to see what is in an ``<auth>``."""
        self.assertEqual(self.framed(b"<!DOCTYPE auth><auth>secret</auth>" + ONE), [Unreadable(REFUSED, b""), ONE])


class LimitTests(SynchronousTestCase):
    """How much of one document, and of no document, is taken."""

    def test_event(self) -> None:
        """An event of just the limit is taken; with one byte more it is dropped alone, and the next one is taken."""
        for extra in (-1, 0, 1):
            document = marker(extra="<remarks>" + "x" * 1000 + "</remarks>")
            stream = ATAK_PROLOG + document + ATAK_PROLOG + ONE
            expected: list[object] = [document, ONE]
            if extra > 0:
                expected[0] = Unreadable(f"an event of over {len(document) - extra} bytes", document[:512])
            for segments in ([stream], bytewise(stream), pieces(stream, [len(document) - 3])):
                self.assertEqual(framed(segments, len(document) - extra, trusted=True), expected)

    def test_oversize_with_a_section(self) -> None:
        """What is too large is over at any ``</event>``, however it is cut; the next event is taken."""
        for inner in (
            b"<![CDATA[" + b"x" * 1000 + b"</event>]]>",
            b"<!--</event>" + b"x" * 1000,
            b"<!--" + b"x" * 1000,
        ):
            stream = b"<event>" + inner + b"</event>" + ONE
            expected: list[object] = [Unreadable("an event of over 500 bytes", stream[:500]), ONE]
            self.assertEqual(framed([stream], 500, trusted=True), expected)
            self.assertEqual(framed(bytewise(stream), 500, trusted=True), expected)

    def test_oversize_auth(self) -> None:
        """An ``<auth>`` that is too large is skipped too, and not told to anybody."""
        for end in (b"</auth>", b"", ATAK_PROLOG):
            stream = b"<auth>" + b"x" * 600 + end + ONE
            for segments in ([stream], bytewise(stream)):
                self.assertEqual(
                    framed(segments, 500, trusted=True), [Unreadable("an event of over 500 bytes", b""), ONE]
                )

    def test_first_bytes(self) -> None:
        """Before the first valid event, a stream may bring just so many bytes, of whatever kind."""
        for junk in (
            b"\n",
            b"<!-- comment -->",
            b"<foo/>",
            b"<foo a='b'>text</foo>",
            b"</event>",
            b"<event/>",
            b"<auth>x</auth>",
            b"<!DOCTYPE x [ ]>",
            b"x" * 100 + b"<",
            ATAK_PROLOG * 3,
        ):
            stream = junk + ONE
            for segments in ([stream], bytewise(stream)):
                self.assertEqual(
                    framed(segments, first_limit=len(stream))[-1],
                    ONE if b"DOC" not in junk else Unreadable(REFUSED, ONE),
                )
                self.assertEqual(framed(segments, first_limit=len(stream) + 1)[-1], framed([stream])[-1])
                self.assertEqual(
                    framed(segments, first_limit=len(stream) - 1)[-1],
                    f"no valid event within the first {len(stream) - 1} bytes",
                )

    def test_first_bytes_of_one_thing(self) -> None:
        """Something endless is given up at the first limit, too, whatever it is."""
        for opening in (
            b"",
            b"<!--",
            b"<?",
            b"<!",
            b"<!x[",
            b"<foo>",
            b"<foo a='",
            b"<event ",
            b"<event a='",
            b"<auth>",
            b"<",
        ):
            for piece in (b" ", b"x", b"<", b"<x ", b"<!"):
                stream = opening + piece * 3000
                for segments in ([stream], bytewise(stream)):
                    self.assertEqual(
                        framed(segments, first_limit=1000)[-1:],
                        ["no valid event within the first 1000 bytes"],
                        (opening, piece),
                    )

    def test_first_limit_is_no_larger(self) -> None:
        """The first event may not be larger than any other."""
        self.assertEqual(framed([ONE], 100, 1000), ["no valid event within the first 100 bytes"])

    def test_trust(self) -> None:
        """Once there was a valid event, only the size of each one matters."""
        large = marker(extra="<remarks>" + "x" * 2000 + "</remarks>")
        framing, buffer = XMLFraming(LARGE, 1000), bytearray(ONE + large + b"\n" * 2000 + TWO)
        self.assertEqual(framing.next_frame(buffer), ONE)
        framing.trust()
        self.assertEqual([framing.next_frame(buffer) for _ in range(3)], [large, TWO, None])

    def test_foreign_tag(self) -> None:
        """The tag of something else is held no longer than an event would be."""
        for length, expected in ((489, [ONE]), (490, [ONE]), (491, [ONE])):
            stream = b"<foo a='" + b"x" * length + b"'/>" + ONE
            for segments in ([stream], bytewise(stream)):
                self.assertEqual(framed(segments, 500, trusted=True), expected)

    def test_memory(self) -> None:
        """However much is sent without an end, what is held is bounded."""
        for opening in (
            b"",
            b"<!--",
            b"<?",
            b"<!",
            b"<!x[",
            b"<foo>",
            b"<foo a='",
            b"<event>",
            b"<event a='",
            b"<auth>",
            b"<",
        ):
            for piece in (b" " * 100, b"x" * 100, b"<x" * 50, b"</event>" * 10, b"<" + b"n" * 99):
                framing, buffer = XMLFraming(2000, 2000), bytearray(opening)
                framing.trust()
                for _ in range(200):
                    buffer += piece
                    while framing.next_frame(buffer) is not None:
                        pass
                    self.assertLessEqual(len(buffer), 2000, (opening, piece))


class CutTests(SynchronousTestCase):
    """However the network cuts the bytes, the same documents come out."""

    def test_mixed_stream_at_every_byte(self) -> None:
        """A stream with a bit of everything gives the same in one piece, in two, cut anywhere, and byte by byte."""
        whole = framed([MIXED])
        self.assertGreater(len(whole), 25)
        self.assertIn(sa("A", "FOX \U0001f98a"), whole)
        self.assertEqual(framed(bytewise(MIXED)), whole)
        for cut in range(len(MIXED) + 1):
            self.assertEqual(framed([MIXED[:cut], MIXED[cut:]]), whole, f"cut at {cut}")

    @settings(max_examples=250, deadline=None)
    @given(st.data(), streams, st.sampled_from([LARGE, 60, 400]), st.sampled_from([SMALL, 700]), st.booleans())
    def test_anything(self, data: st.DataObject, stream: bytes, limit: int, first_limit: int, trusted: bool) -> None:
        """What holds for one stream holds for all of them, also for those that reach a limit."""
        whole = framed([stream], limit, first_limit, trusted)
        self.assertEqual(framed(bytewise(stream), limit, first_limit, trusted), whole)
        cut = pieces(stream, data.draw(cuts_of(stream)))
        self.assertEqual(framed(cut, limit, first_limit, trusted), whole)

    def test_loose_ends_in_pairs(self) -> None:
        """Any two broken things after each other give the same for every cut, and an event soon behind them arrives."""
        for first in LOOSE:
            for second in LOOSE:
                stream = first + second + ONE + TWO + TWO
                whole = framed([stream])
                self.assertEqual(framed(bytewise(stream)), whole, (first, second))
                self.assertEqual(whole[-1], TWO, (first, second))


def seconds(work: Callable[[], object]) -> float:
    """Measure the processor time of something, at its best."""
    best = float("inf")
    for _ in range(3):
        begun = process_time()
        work()
        best = min(best, process_time() - begun)
    return best


class CostTests(SynchronousTestCase):
    """What a byte costs does not depend on what came before it; looking at all of it again would cost a hundredfold."""

    def test_T84_slow_drip(self) -> None:
        """One byte more of an unfinished event costs the same whether a little of it is held or a lot."""

        def drip(opening: bytes, held: int) -> float:
            framing, buffer = XMLFraming(LARGE, SMALL), bytearray(opening + b"x" * held)
            framing.trust()

            def more() -> None:
                for _ in range(2000):
                    framing.next_frame(buffer)
                    buffer.append(0x78)

            more()
            return seconds(more)

        for opening in (
            b'<event a="',
            b"<event a='",
            b"<event ",
            b"<event>",
            b"<event><!--",
            b"<event><![CDATA[",
            b'<foo a="',
        ):
            little, lot = drip(opening, 1000), drip(opening, 4 << 20)
            self.assertLess(lot, 12 * little, opening)

    def test_many_small_things(self) -> None:
        """A segment full of small things costs by its length, not by the square of it."""

        def read(stream: bytes) -> Callable[[], object]:
            return lambda: framed([stream], trusted=True)

        for thing in (
            b"<!---->",
            b"<?xml </event>",
            b"<?pi?>",
            b"</x>",
            b"<a></a>",
            b"<event/>",
            b"<!>",
            b"<a ",
            b"<event>",
        ):
            little, lot = seconds(read(thing * 400)), seconds(read(thing * 16_000))
            self.assertLess(lot, 40 * 6 * little, thing)

    def test_unknown_names(self) -> None:
        """A name that nobody knows costs no more than one that was seen before."""
        same = b"<same00000></same00000>" * 3000
        other = b"".join(b"<n%08d></n%08d>" % (at, at) for at in range(3000))
        self.assertLess(
            seconds(lambda: framed([other], trusted=True)), 6 * seconds(lambda: framed([same], trusted=True))
        )
