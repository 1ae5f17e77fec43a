"""Tests for `taky_twisted.cot.shapes`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import Event
from taky_twisted.cot.shapes import _TEXT, MAX_BYTES, MAX_DETAIL_BYTES, MAX_DETAILS, MAX_SHAPES, Shapes
from taky_twisted.cot.xmlcodec import decode
from tests.samples import POINT, cancel, chat, control, delete, emergency, marker, ping, sa, to, xml

DOCUMENTS = (
    sa("A", "FOX"),
    sa("A", "FOX", extra="<remarks>he said \"hi\" and 'ho'</remarks>"),
    marker(),
    marker(marti=to("B", "C")),
    marker(marti='<dest uid="U" callsign="X"/><dest group="g"/><dest mission="m"/>'),
    marker(extra='<_flow-tags_ TAK-Server-x="t"/><link uid="L" relation="p-p"/>'),
    marker(extra='<link uid="L"/><link uid="M"/>'),
    marker(extra="<a b='c'/>"),
    marker(extra="<!-- c -->"),
    marker(extra='<remarks>5" tall</remarks>'),
    chat("A", room="B", id_="B", uids=("B", "C"), marti=to("B")),
    chat("A", "&lt;"),
    emergency("A", "A"),
    cancel("A", "A"),
    delete("M"),
    ping(),
    control("t-x-c-f", "<subscription/>"),
    xml(marti=""),
    xml(detail='<martian a="1"/>'),
    xml(detail="<martian/>", marti=to("B")),
    xml(detail='<a b="1"><marti><dest callsign="B"/></marti></a>'),
    xml().replace(b"<detail>", b'<marti><dest callsign="B"/></marti><detail>'),
    sa("U" * 1024, "FOX"),
    sa("U" * 1025, "FOX"),
    sa("A", "F" * 1025),
    xml().replace(b"<detail></detail>", b"<detail/>"),
    xml().replace(b"<detail></detail>", b""),
    xml().replace(b"</event>", b"</event >"),
    xml(detail='<__chat id="i" chatroom="r"/><takv platform="p"/><contact endpoint="" callsign="c"/>'),
    xml(point='<detail/>"' + POINT + '"').replace(b"<detail></detail>", b""),
    xml().replace(b"<detail></detail>", b'"<detail></detail>"'),
    xml(detail='"<contact callsign="c"/>"', marti=to("B")),
)
VALUES = st.one_of(
    st.sampled_from(
        ["", " ", "v0", "v3", "a:b", "All Streaming", "0", "91", "nan", "x'y", "a>b", "]]>", "&amp;", "&", "<"]
    ),
    st.sampled_from(
        ["2026-03-01T10:00:00.000Z", "2026-03-01T10:00:00Z", "9999-01-01T00:00:00.000Z", "1", "a\tb", "\x7f", "\x01"]
    ),
    st.text(alphabet=st.characters(exclude_characters='"', exclude_categories=["Cs"]), max_size=8),
)


def result(read: object, document: bytes) -> object:
    """What comes of a document: all fields of the event, or the refusal."""
    try:
        event = read(document)  # type: ignore[operator]
    except MalformedEvent:
        return "malformed"
    assert isinstance(event, Event)
    return {name: getattr(event, name) for name in event.__slots__}


def with_value(document: bytes, at: int, value: str) -> bytes:
    """Put another value between one pair of quotes."""
    pieces = document.split(b'"')
    at = 1 + 2 * (at % (len(pieces) // 2))
    pieces[at] = value.encode("utf-8", "surrogatepass")
    return b'"'.join(pieces)


class ShapesTests(SynchronousTestCase):
    """The quick way gives what the long way gives."""

    def setUp(self) -> None:
        self.shapes = Shapes()
        for document in DOCUMENTS * 3:
            self.assertEqual(result(self.shapes.decode, document), result(decode, document))

    @settings(max_examples=1500, deadline=None)
    @given(st.sampled_from(DOCUMENTS), st.lists(st.tuples(st.integers(0, 80), VALUES), min_size=1, max_size=4))
    def test_any_values(self, document: bytes, changes: list[tuple[int, str]]) -> None:
        """Whatever stands between the quotes of a known structure, both ways agree."""
        for at, value in changes:
            document = with_value(document, at, value)
        expected = result(decode, document)
        for _ in range(2):
            self.assertEqual(result(self.shapes.decode, document), expected, document)

    @settings(max_examples=1000, deadline=None)
    @given(
        st.sampled_from(DOCUMENTS), st.integers(0, 600), st.sampled_from([b"", b'"', b"<", b"/>", b"'", b" ", b"<x/>"])
    )
    def test_any_damage(self, document: bytes, at: int, damage: bytes) -> None:
        """Wherever a document is damaged, both ways agree."""
        document = document[:at] + damage + document[at + 1 :]
        expected = result(decode, document)
        for _ in range(3):
            self.assertEqual(result(self.shapes.decode, document), expected, document)

    def test_quick_for_what_is_usual(self) -> None:
        """Reports, markers, messages and chats of a known structure take the quick way."""
        for document in (DOCUMENTS[0], DOCUMENTS[2], DOCUMENTS[3], DOCUMENTS[10], DOCUMENTS[14]):
            pieces = document.split(b'"')
            shape = self.shapes._shapes[_TEXT.sub(b"><", b'"'.join(pieces[::2]))]
            assert shape is not None, document
            self.assertIsNotNone(shape.read(document, pieces[1::2], {}), document)

    def test_events_of_one_sender_share_their_detail(self) -> None:
        """What a sender says of itself is read once."""
        first, second = (self.shapes.decode(sa("A", "FOX", stale=stale)) for stale in (100, 200))
        self.assertIs(first.detail, second.detail)

    def test_memory_is_bounded(self) -> None:
        """Structures, names and first sights are forgotten when there are too many; large documents are left alone."""
        for number in range(5 * MAX_SHAPES):
            for _ in range(2):
                self.shapes.decode(xml(detail=f"<x{number}/>"))
        self.assertLessEqual(len(self.shapes._shapes), MAX_SHAPES)
        self.assertLessEqual(len(self.shapes._once), 4 * MAX_SHAPES)
        for number in range(MAX_DETAILS + 10):
            self.shapes.decode(sa("A", f"C{number}"))
        self.assertLessEqual(len(self.shapes._details), MAX_DETAILS)
        self.assertGreater(len(self.shapes._details), 0)
        for _ in range(3):
            self.shapes.decode(sa("A", "C" * MAX_DETAIL_BYTES))
        self.assertNotIn(MAX_DETAIL_BYTES, [sum(map(len, key)) for _, key in self.shapes._details])
        before = len(self.shapes._shapes)
        for size in (MAX_BYTES, MAX_BYTES + 1):
            document = xml(detail="<y/>" + " " * (size - len(xml(detail="<y/>"))))
            self.assertEqual(len(document), size)
            for _ in range(2):
                self.shapes.decode(document)
        self.assertEqual(len(self.shapes._shapes), before + 1)
