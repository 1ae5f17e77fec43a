from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.takproto.xml_detail import DetailReader, child_names

WANTED = frozenset({"contact", "status"})


def read(inner: str, root: str = "", detail: str = "") -> DetailReader:
    """Read an event with this in its <detail>, and with these attributes."""
    return DetailReader(f"<event{root}><point lat='1'/><detail{detail}>{inner}</detail></event>".encode(), WANTED)


class DetailReaderTests(SynchronousTestCase):
    def test_pieces(self) -> None:
        """Children and text come out to the byte and in order, without the blanks between them."""
        inner = ["<a/>", "<b x='/>' y=\">\" />", "<c></c >", " text ", "<d><a/></d>", "<?pi ?>", "<é>/></é>", "&#32;"]
        self.assertEqual([piece.decode() for piece in read("".join(inner)).pieces], inner)
        self.assertEqual(read("\n <a/>\n\t<b/> ").pieces, [b"<a/>", b"<b/>"])

    def test_last_child(self) -> None:
        """The last child is told from the end of <detail>, even if it has that name or looks like its end."""
        for inner in ("<a/>", "<detail/>", "<detail>/></detail>", "<detail></detail>", "<a><a/></a>", "<det/>"):
            self.assertEqual(read(inner).pieces, [inner.encode()])

    def test_attributes(self) -> None:
        """What <event> and the first <point> say is there."""
        reader = DetailReader(b"<event a='1'><x><point/></x><point b='2'/><point b='3'/></event>", WANTED)
        self.assertEqual((reader.root, reader.point, reader.pieces), ({"a": "1"}, {"b": "2"}, []))

    def test_candidates(self) -> None:
        """Only a wanted child that is empty and the only one of its name is told of."""
        for inner in ("<a/><contact x='&amp;'/>", "<a/><contact x='&amp;'></contact>"):
            self.assertEqual(read(inner).candidates, {"contact": (1, {"x": "&"})})
        for inner in (
            "<contact> </contact>",
            "<contact>></contact>",
            "<contact>/></contact>",
            "<contact><a/></contact>",
            "<contact/><contact/>",
            "<contact/><contact>x</contact>",
            "<contact>x</contact><contact/>",
            "<contact/><contact/><contact/>",
            "<a><contact/></a>",
        ):
            self.assertEqual(read(inner).candidates, {}, inner)

    def test_two_details(self) -> None:
        """If there are two <detail>, the children of both count."""
        reader = DetailReader(
            b"<event><detail>t<contact/></detail><contact/><detail><a/><contact/></detail></event>", WANTED
        )
        self.assertEqual(reader.pieces, [b"t", b"<contact/>", b"<a/>", b"<contact/>"])
        self.assertEqual(reader.candidates, {})
        self.assertEqual(DetailReader(b"<event><detail a='>'/><detail/></event>", WANTED).pieces, [])

    def test_prefixes(self) -> None:
        """A prefix from above is declared on the children that use it, in a name or in a value, and on no other."""
        reader = read(
            "<p:a/><b q:x='1'/><c>p:y</c><d/><e xmlns:p='urn:own' p:z=''/>", " xmlns:p='urn:&amp;'", " xmlns:q='urn:q'"
        )
        self.assertEqual(
            reader.pieces,
            [
                b'<p:a xmlns:p="urn:&amp;"/>',
                b"<b xmlns:q=\"urn:q\" q:x='1'/>",
                b'<c xmlns:p="urn:&amp;">p:y</c>',
                b"<d/>",
                b"<e xmlns:p='urn:own' p:z=''/>",
            ],
        )
        self.assertEqual(read("<p:a/>", " xmlns:p='urn:1'", " xmlns:p='urn:2'").pieces, [b'<p:a xmlns:p="urn:2"/>'])

    def test_default_namespace(self) -> None:
        """In a namespace no child is one that we know; it is declared on all, unless it was taken back."""
        reader = read("<contact/><b xmlns=''/>", " xmlns='urn:1'")
        self.assertEqual(reader.pieces, [b'<contact xmlns="urn:1"/>', b"<b xmlns=''/>"])
        self.assertEqual(reader.candidates, {})
        reader = read("<contact/>", " xmlns='urn:1'", " xmlns=''")
        self.assertEqual(reader.pieces, [b"<contact/>"])
        self.assertEqual(reader.candidates, {"contact": (0, {})})


class ChildNamesTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Only what stands directly in it is named."""
        self.assertEqual(child_names("a<b/>c<d><e/></d><b/><!--<f/>-->"), {"b", "d"})
        self.assertEqual(child_names(""), set())

    def test_malformed(self) -> None:
        """What could not stand inside <detail> is refused."""
        for inner in ("<a>", "</detail><detail>", "</detail>", "<!DOCTYPE a>", "&a;", "\x00"):
            self.assertRaises(MalformedEvent, child_names, inner)
