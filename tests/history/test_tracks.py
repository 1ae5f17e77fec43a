from __future__ import annotations

import contextlib
from time import process_time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import PROLOG
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.history import tracks
from taky_twisted.history.kml import GX, KML
from taky_twisted.history.tracks import BadTrack, TrackPoint, Walker, positions, read_tracks
from tests.samples import NOW

WHEN = "2026-03-01T10:00:00.000Z"


def document(*inside: str) -> bytes:
    """Spell a KML document with tracks."""
    placed = "".join(f"<Placemark><gx:Track>{one}</gx:Track></Placemark>" for one in inside)
    return f'<kml xmlns="{KML}" xmlns:gx="{GX}"><Document>{placed}</Document></kml>'.encode()


def track(*points: tuple[str, str]) -> str:
    """Spell a track."""
    return "".join(f"<when>{when}</when>" for when, _ in points) + "".join(
        f"<gx:coord>{place}</gx:coord>" for _, place in points
    )


class ReadingTests(SynchronousTestCase):
    def test_track(self) -> None:
        """Times and places are read in pairs, in whatever order they stand, from all tracks."""
        mixed = f"<when>{WHEN}</when><gx:coord> 4.3 52.1 10 </gx:coord><when>2026-03-01T11:00:01+01:00</when>"
        mixed += "<gx:coord>4.4 52.2</gx:coord>"
        found = read_tracks(document(mixed, track((WHEN, "-1e0 -2 -3.5"))), NOW)
        self.assertEqual(
            found,
            [
                TrackPoint(NOW, "52.1", "4.3", "10"),
                TrackPoint(NOW + 1, "52.2", "4.4", "9999999.0"),
                TrackPoint(NOW, "-2", "-1e0", "-3.5"),
            ],
        )

    def test_namespaces(self) -> None:
        """Newer KML has tracks of its own, and some programs forget the namespaces."""
        for spelled in (
            f"<kml xmlns='http://www.opengis.net/kml/2.3'><Track><when>{WHEN}</when><coord>1 2 3</coord></Track></kml>",
            f"<kml><MultiTrack><Track><when>{WHEN}</when><coord>1 2 3</coord></Track></MultiTrack></kml>",
        ):
            self.assertEqual(read_tracks(spelled.encode(), NOW), [TrackPoint(NOW, "2", "1", "3")])

    def test_long_namespace(self) -> None:
        """The work that a document makes grows with its size: a name of a namespace is not spelled per element."""
        inside = document(track((WHEN, "1 2 3"))).replace(b"<Document>", b"<Document>" + b"<a/>" * 50_000)
        whole = inside.replace(b"<kml", b'<kml xmlns:long="http://' + b"x" * 1_000_000 + b'"', 1)
        whole = whole.replace(b"<a/>", b"<long:a/>")
        began = process_time()
        self.assertEqual(len(read_tracks(whole, NOW)), 1)
        self.assertLess(process_time() - began, 5)

    def test_others(self) -> None:
        """Anything else is passed over: lines, angles, other data, comments, names."""
        extra = "<ExtendedData><when>x</when><coord>y</coord><Track/></ExtendedData><gx:angles>1 2 3</gx:angles>"
        inside = document(track((WHEN, "1 2 3")) + extra + "<!-- <when/> --><Model><when>z</when></Model>")
        self.assertEqual(len(read_tracks(inside, NOW)), 1)
        self.assertEqual(read_tracks(b"<kml><when>x</when><LineString>1,2,3</LineString></kml>", NOW), [])

    def test_empty_place(self) -> None:
        """A place may be empty: nobody knows where that was."""
        found = read_tracks(document(track((WHEN, "1 2 3"), (WHEN, " "), (WHEN, "4 5 6"))), NOW)
        self.assertEqual([point.lon for point in found], ["1", "4"])

    def test_future(self) -> None:
        """A clock may be a day ahead, not more, and nobody was anywhere before 1970."""
        for when, good in (
            ("2026-03-02T10:00:00Z", True),
            ("2026-03-02T10:00:00.001Z", False),
            ("1970-01-01T00:00:00Z", True),
            ("1969-12-31T23:59:59Z", False),
        ):
            if good:
                self.assertEqual(len(read_tracks(document(track((when, "1 2 3"))), NOW)), 1)
            else:
                self.assertRaises(BadTrack, read_tracks, document(track((when, "1 2 3"))), NOW)

    def test_refused(self) -> None:
        """What means nothing is refused whole, with the reason."""
        for wrong, reason in (
            (b"", "not well-formed"),
            (b"\x89PNG", "not well-formed"),
            (b"<kml>", "not well-formed"),
            (b"<kml/>more", "not well-formed"),
            (b'<?xml version="1.0" encoding="no-such"?><kml/>', "not well-formed"),
            (b"<kml>&unknown;</kml>", "not well-formed"),
            (b'<!DOCTYPE k [<!ENTITY a "b">]><kml>&a;</kml>', "document type"),
            (b'<!DOCTYPE k SYSTEM "file:///etc/passwd"><kml/>', "document type"),
            (
                '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE k [<!ENTITY a "b">]><k>&a;</k>'.encode("utf-16"),
                "document type",
            ),
            (b"<a>" * 101 + b"</a>" * 101, "inside each other"),
            (document(f"<when>{WHEN}</when>"), "1 times and 0 places"),
            (document(track(("yesterday", "1 2 3"))), "no time"),
            (document(track(("2026-03", "1 2 3"))), "no time"),
            (document(track(("", "1 2 3"))), "no time"),
            (document(track((WHEN, "1"))), "is no place"),
            (document(track((WHEN, "1 2 3 4"))), "is no place"),
            (document(track((WHEN, "1,2,3"))), "is no place"),
            (document(track((WHEN, "1 91 3"))), "not on Earth"),
            (document(track((WHEN, "1 2 x"))), "no number"),
            (document(track((WHEN, "nan nan 3"))), "no number"),
            (document(track((WHEN, '1 2 3"/&gt;'))), "no number"),
            (document(track((WHEN, "1" * 201))), "too long"),
            (document(track((f"{WHEN}<x>{'y' * 201}</x>", "1 2 3"))), "too long"),
        ):
            error = self.assertRaises(BadTrack, read_tracks, wrong, NOW)
            self.assertIn(reason, str(error), wrong[:100])

    def test_many(self) -> None:
        """There is an end to how many positions are taken, over all tracks of a document."""
        self.patch(tracks, "MAX_POINTS", 4)
        two = track((WHEN, "1 2 3"), (WHEN, "1 2 3"))
        self.assertEqual(len(read_tracks(document(two, two), NOW)), 4)
        self.assertRaises(BadTrack, read_tracks, document(two, two, track((WHEN, "1 2 3"))), NOW)
        self.assertRaises(BadTrack, read_tracks, document("<when/>" * 5), NOW)

    @given(st.binary(max_size=200) | st.text(alphabet="<>/&;!Tracwhenod 123\"'[]").map(str.encode))
    def test_anything(self, data: bytes) -> None:
        """Whatever is handed in is read or refused."""
        for whole in (data, document(data.decode("utf-8", "replace"))):
            with contextlib.suppress(BadTrack):
                read_tracks(whole, NOW)


class PositionsTests(SynchronousTestCase):
    def test_events(self) -> None:
        """Each position is an event that any client can read, heard when and where somebody was."""
        points = read_tracks(document(track((WHEN, "4.3 52.1 10"), ("2026-03-01T10:00:05.5Z", "4.4 52.2"))), NOW)
        walker = Walker('A "1" <&>', "ALPHA'", "a-f-G-U-C-V", "Dark Green", "Medic")
        heard = positions(walker, points, frozenset({"red"}))
        self.assertEqual([one.time for one in heard], [NOW, NOW + 5.5])
        self.assertEqual({(one.groups, one.readers) for one in heard}, {(frozenset({"red"}), None)})
        for one, point in zip(heard, points, strict=True):
            said = decode(one.event.xml[len(PROLOG) :])
            self.assertEqual(said.xml, one.event.xml)
            self.assertEqual(
                (said.uid, said.type, said.time, said.start, said.stale),
                (one.event.uid, one.event.type, point.time, point.time, point.time + 375),
            )
            self.assertEqual((said.lat, said.lon), (one.event.lat, one.event.lon))
            self.assertEqual(
                (said.detail.callsign, said.detail.team, said.detail.role), ("ALPHA'", "Dark Green", "Medic")
            )
            self.assertEqual((one.event.uid, one.event.detail.callsign), ('A "1" <&>', "ALPHA'"))

    def test_without_team(self) -> None:
        """Who is in no team is made to belong to none."""
        (heard,) = positions(Walker("A", "ALPHA"), [TrackPoint(NOW, "1", "2", "3")], frozenset())
        self.assertNotIn(b"__group", heard.event.xml)
        self.assertEqual(heard.event.type, "a-f-G-U-C-I")

    def test_refused(self) -> None:
        """Names that cannot stand in XML, or are endless, are refused."""
        point = TrackPoint(NOW, "1", "2", "3")
        for walker in (
            Walker("\x01", "A"),
            Walker("A", "\x00"),
            Walker("A" * 1025, "A"),
            Walker("A", "A", role="\ufffe"),
        ):
            self.assertRaises(BadTrack, positions, walker, [point], frozenset())
        self.assertEqual(positions(Walker("\x01", "A"), [], frozenset()), [])
