from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO

from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.history import kml as kml_module
from taky_twisted.history.kml import (
    GX,
    KML,
    MAX_ROUTE_POINTS,
    Writer,
    kml,
    kmz,
    route_points,
    write_links,
    write_place,
    write_route,
    write_tracks,
)
from taky_twisted.history.records import Moment
from tests.samples import NOW, event, xml

NAMES = {"k": KML, "gx": GX}
Full = Callable[[], bool]


def at(uid: str, seconds: float, type_: str = "a-f-G-U-C", hae: float | None = 10.0, callsign: str = "") -> Moment:
    """Make a position so many seconds after the beginning."""
    return Moment(uid, type_, callsign or uid, NOW + seconds, 52.0 + seconds / 1000, 4.0, hae)


def route(uid: str, *points: str) -> Moment:
    """Make a route."""
    links = "".join(f'<link uid="{uid}.{n}" type="b-m-p-w" point="{point}"/>' for n, point in enumerate(points))
    said = event(xml(uid, "b-m-r", f'{links}<x><link point="9,9"/></x><contact callsign="Way"/>'))
    return Moment(uid, "b-m-r", "Way", NOW, 0, 0, None, said.xml)


class KmlTests(SynchronousTestCase):
    def document(self, write: Callable[[Writer, Full], int], name: str = "name") -> etree._Element:
        """Write a document and read it."""
        file = BytesIO()
        self.count, self.cut = kml(name, write, 1000)(file)
        self.text = file.getvalue().decode()
        return etree.fromstring(file.getvalue())

    def tracks(self, *moments: Moment, gap: float | None = None) -> etree._Element:
        """Write tracks and read them."""
        return self.document(lambda writer, full: write_tracks(writer, moments, gap, full))

    def find(self, root: etree._Element, path: str) -> list[str]:
        """Find texts."""
        return [str(one.text) for one in root.iterfind(path, NAMES)]

    def test_row26_track(self) -> None:
        """A track has as many times as places, first all of the one, then all of the other, as ATAK reads it."""
        root = self.tracks(at("A", 0, callsign="OLD"), at("A", 1.5, callsign="NEW"), at("B", 0))
        self.assertEqual(root.tag, f"{{{KML}}}kml")
        self.assertIn('xmlns:gx="http://www.google.com/kml/ext/2.2"', self.text)
        self.assertIn("<gx:Track>", self.text)
        self.assertEqual(self.find(root, "k:Document/k:Placemark/k:name"), ["NEW", "B"])
        first, second = root.iterfind("k:Document/k:Placemark/gx:Track", NAMES)
        self.assertEqual(self.find(first, "k:when"), ["2026-03-01T10:00:00.000Z", "2026-03-01T10:00:01.500Z"])
        self.assertEqual(self.find(first, "gx:coord"), ["4.0000000 52.0000000 10.0", "4.0000000 52.0015000 10.0"])
        self.assertEqual([one.tag.split("}")[1] for one in first], ["altitudeMode", "when", "when", "coord", "coord"])
        self.assertEqual((len(self.find(second, "k:when")), len(self.find(second, "gx:coord"))), (1, 1))
        self.assertEqual((self.count, self.cut), (3, False))

    def test_row26_gaps(self) -> None:
        """Where nothing was heard for longer than the threshold a track begins anew; every part is whole."""
        moments = [at("A", seconds) for seconds in (0, 10, 20, 100, 110, 300)]
        root = self.tracks(*moments, gap=60)
        parts = list(root.iterfind("k:Document/k:Placemark/gx:MultiTrack/gx:Track", NAMES))
        self.assertEqual([len(self.find(part, "k:when")) for part in parts], [3, 2, 1])
        self.assertEqual([len(self.find(part, "gx:coord")) for part in parts], [3, 2, 1])
        self.assertEqual(len(list(self.tracks(*moments, gap=200).iterfind(".//gx:MultiTrack", NAMES))), 0)
        self.assertEqual(len(list(self.tracks(*moments, gap=80).iterfind(".//gx:Track", NAMES))), 2)  # 80 is no gap
        self.assertEqual(len(list(self.tracks(*moments).iterfind(".//gx:Track", NAMES))), 1)

    def test_heights(self) -> None:
        """Who does not know how high he is stands on the ground, not at sea level below it."""
        root = self.tracks(at("A", 0), at("A", 1, hae=None), at("B", 0))
        self.assertEqual(self.find(root, ".//k:altitudeMode"), ["clampToGround", "absolute"])
        self.assertTrue(self.find(root, ".//gx:coord")[1].endswith(" 0.0"))

    def test_texts(self) -> None:
        """Names are only texts: they make no elements, and no document that cannot be read."""
        name = "</name><script>&\"' \x01\ud800\ufffe 猫\t"
        root = self.document(lambda writer, full: write_tracks(writer, [at("A", 0, callsign=name)], None, full), name)
        clean = "</name><script>&\"' \ufffd\ufffd\ufffd 猫\t"
        self.assertEqual(self.find(root, ".//k:name"), [clean, clean])
        self.assertEqual(len(list(root.iterfind(".//k:script", NAMES))), 0)

    def test_styles(self) -> None:
        """Friend and foe differ, and every style that is named is there."""
        types = ("a-f-G", "a-h-G", "a-n-G", "a-u-G", "a-s-G", "b-m-p", "a.f")
        root = self.tracks(*(at(type_, 0, type_) for type_ in types))
        there = {f"#{style.get('id')}" for style in root.iterfind("k:Document/k:Style", NAMES)}
        used = self.find(root, ".//k:styleUrl")
        self.assertEqual(used, ["#friendly", "#hostile", "#neutral", "#unknown", "#other", "#other", "#other"])
        self.assertLessEqual(set(used), there)

    def test_places(self) -> None:
        """What is no unit is a place, where it was last."""
        root = self.tracks(at("M", 0, "b-m-p-s-m"), at("M", 9, "b-m-p-s-m", hae=None))
        (placemark,) = root.iterfind("k:Document/k:Placemark", NAMES)
        self.assertEqual(self.find(placemark, "k:Point/k:coordinates"), ["4.0000000,52.0090000,0.0"])
        self.assertEqual(self.find(placemark, "k:TimeStamp/k:when"), ["2026-03-01T10:00:09.000Z"])

    def test_place_without_callsign(self) -> None:
        """What has no callsign is called by its uid."""

        def write(writer: Writer, full: Full) -> int:
            write_place(writer, Moment("uid-1", "b-m-p", "", NOW, -1.0, -2.0, 3.25))
            return 1

        root = self.document(write)
        self.assertEqual(self.find(root, ".//k:Placemark/k:name"), ["uid-1"])
        self.assertEqual(self.find(root, ".//k:coordinates"), ["-2.0000000,-1.0000000,3.2"])

    def test_routes(self) -> None:
        """A route is a line through its points; one without points is none."""
        routes = [route("R", "52.1,4.3,10", "52.2,4.4,11.5"), route("S", "1,2"), route("T", "1,2,3", "3,4")]
        root = self.document(lambda writer, _: sum(write_route(writer, one) for one in routes))
        lines = self.find(root, "k:Document/k:Placemark/k:LineString/k:coordinates")
        self.assertEqual(
            lines,
            ["4.3000000,52.1000000,10.0 4.4000000,52.2000000,11.5", "2.0000000,1.0000000,3.0 4.0000000,3.0000000,0.0"],
        )
        self.assertEqual(self.find(root, ".//k:altitudeMode"), ["absolute", "clampToGround"])
        self.assertEqual(self.count, 2)

    def test_route_points(self) -> None:
        """Points that are none are left out, links elsewhere are not the route's, and there is an end to it."""
        good = "1,2,3"
        odd = ("", "1", "a,b", "91,0", "0,181", "nan,1", "1,inf", "1,2,x", "1,2,1e9", "1,2,3,4", good)
        self.assertEqual(
            route_points(route("R", *odd).xml),
            [(1, 2, None), (1, 2, 3), (1, 2, 3)],
            "a height may be out of this world",
        )
        self.assertEqual(len(route_points(route("R", *[good] * (MAX_ROUTE_POINTS + 1)).xml)), MAX_ROUTE_POINTS)

    def test_links(self) -> None:
        """Google Earth loads what is linked again and again; what comes first is shown at once."""
        links = [("Friendlies", "http://x/?a=1&b=2"), ("Hostiles", "http://y/")]
        root = self.document(lambda writer, _: write_links(writer, links, 30))
        link = "k:Document/k:Folder/k:NetworkLink"
        self.assertEqual(self.find(root, f"{link}/k:Link/k:href"), [links[0][1], links[1][1]])
        self.assertEqual(self.find(root, f"{link}/k:Link/k:refreshMode"), ["onInterval"] * 2)
        self.assertEqual(self.find(root, f"{link}/k:Link/k:refreshInterval"), ["30"] * 2)
        self.assertEqual(self.find(root, f"{link}/k:visibility"), ["1", "0"])

    def test_bound(self) -> None:
        """A document ends in time, as one that can be read, and it is known that something is missing."""
        self.patch(kml_module, "MAX_BYTES", 50_000)
        root = self.tracks(*(at(f"{number}-{'x' * 1000}", 0) for number in range(200)))
        self.assertTrue(self.cut)
        self.assertLess(len(self.text), 100_000)
        self.assertEqual(self.count, len(list(root.iterfind(".//gx:Track", NAMES))))
        self.assertIn(self.count, range(10, 100))

    def test_limit(self) -> None:
        """Nor is it forgotten that there may be more than was asked for."""
        for limit, cut in ((2, True), (3, True), (4, False)):
            write = lambda writer, full: write_tracks(writer, [at("A", n) for n in range(3)], None, full)  # noqa: E731
            self.assertEqual(kml("name", write, limit)(BytesIO()), (3, cut))


class KmzTests(SynchronousTestCase):
    def test_row26_kmz(self) -> None:
        """A KMZ is an archive whose first file is doc.kml."""
        moments = [at("A", n) for n in range(500)]
        build = kml("name", lambda writer, full: write_tracks(writer, moments, None, full), 501)
        plain, zipped = BytesIO(), BytesIO()
        self.assertEqual(build(plain), (500, False))
        self.assertEqual(kmz(build)(zipped), (500, False))
        with zipfile.ZipFile(zipped) as archive:
            self.assertEqual(archive.namelist()[0], "doc.kml")
            self.assertIsNone(archive.testzip())
            self.assertEqual(archive.read("doc.kml"), plain.getvalue())
        self.assertLess(len(zipped.getvalue()), len(plain.getvalue()) / 4)
