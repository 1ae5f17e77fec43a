from __future__ import annotations

import zipfile
from io import BytesIO
from urllib.parse import parse_qsl, urlencode

from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.history import kml as writing
from taky_twisted.history.kml import GX, KML
from taky_twisted.marti import kml
from taky_twisted.marti.kml import ADD_POINTS, KML_TYPE, KMZ_TYPE
from tests.fakes import principal
from tests.marti.asking import Answer
from tests.marti.history_server import HistoryServer
from tests.samples import chat, emergency, marker, sa, to, xml

NAMES = {"k": KML, "gx": GX}
ALL = "startTime=2026-03-01T10:00:00.000Z&endTime=2026-03-01T11:00:00.000Z"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
RED = principal("rose", ["red"], ["red"])
BOTH = principal("boss", ["red"], ["red", "__ANON__"])
WHEN = "2026-03-01T09:00:00.000Z"


def route(uid: str = "R") -> bytes:
    """Spell a route."""
    links = '<link type="b-m-p-w" point="1,2"/><link type="b-m-p-w" point="3,4"/>'
    return xml(uid, "b-m-r", f'<contact callsign="Way {uid}"/>{links}')


class KmlTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = HistoryServer(self)

    def root(self, answer: Answer) -> etree._Element:
        """Read an answer that is KML."""
        self.assertEqual((answer.status, answer.type), (200, KML_TYPE), answer.body)
        return etree.fromstring(answer.body)

    def names(self, answer: Answer) -> list[str]:
        """Name the placemarks of an answer that is KML."""
        return [str(one.text) for one in self.root(answer).iterfind(".//k:Placemark/k:name", NAMES)]


class ExportTests(KmlTests):
    def test_row26_kmz(self) -> None:
        """ATAK's search for tracks gets a real KMZ: doc.kml with as many times as places."""
        for part in range(3):
            self.ask.say(*(sa("A", "ALPHA") for _ in range(4)), step=6)
            self.ask.clock.rightNow += 900 * (part < 2)
        query = f"{ALL}&uid=A&multiTrackThreshold=10&extendedData=true&format=kmz&optimizeExport=true"
        answer = self.ask("GET", f"/Marti/ExportMissionKML?{query}")
        self.assertEqual((answer.status, answer.type), (200, KMZ_TYPE))
        self.assertEqual(answer.headers["content-disposition"], 'attachment; filename="2026-03-01T10-00-00.000Z.kmz"')
        with zipfile.ZipFile(BytesIO(answer.body)) as archive:
            self.assertEqual(archive.namelist()[0], "doc.kml")
            root = etree.fromstring(archive.read("doc.kml"))
        tracks = list(root.iterfind("k:Document/k:Placemark/gx:MultiTrack/gx:Track", NAMES))
        counts = [(len(one.findall("k:when", NAMES)), len(one.findall("gx:coord", NAMES))) for one in tracks]
        self.assertEqual(counts, [(4, 4)] * 3)
        self.assertEqual(tracks[0].findtext("gx:coord", None, NAMES), "4.3000000 52.1000000 101.5")
        self.assertEqual(tracks[0].findtext("k:when", None, NAMES), "2026-03-01T10:00:00.000Z")

    def test_form(self) -> None:
        """CloudTAK asks with a form."""
        self.ask.say(sa("A", "ALPHA"), sa("B", "BRAVO"))
        form = [*parse_qsl(ALL), ("uid", "B"), ("format", "kml")]
        answer = self.ask("POST", "/Marti/ExportMissionKML", urlencode(form).encode(), FORM)
        self.assertEqual(self.names(answer), ["BRAVO"])
        self.assertEqual(answer.headers["content-disposition"], 'attachment; filename="2026-03-01T10-00-00.000Z.kml"')

    def test_everything(self) -> None:
        """Without uids everything is shown: tracks, places and routes, each once; not chat and offers of files."""
        self.ask.say(sa("A", "ALPHA"), marker("M", "TGT"), xml("P", "b-m-p-s-m"), chat("A"), emergency("A", "ALPHA"))
        self.ask.say(route(), route(), xml("E", "b-m-r"), xml("F", "b-f-t-r"))
        answer = self.ask("GET", f"/Marti/ExportMissionKML?{ALL}")
        self.assertEqual(sorted(self.names(answer)), ["ALPHA", "ALPHA-Alert", "P", "TGT", "Way R"])
        root = self.root(answer)
        kinds = ("gx:Track", "k:Point", "k:LineString")
        self.assertEqual([len(list(root.iterfind(f".//k:Placemark/{kind}", NAMES))) for kind in kinds], [2, 2, 1])

    def test_nothing(self) -> None:
        """If there is nothing, that is a document, too."""
        self.assertEqual(self.names(self.ask("GET", f"/Marti/ExportMissionKML?{ALL}")), [])

    def test_times(self) -> None:
        """The time is given by both ends, or by one and the hours that it takes."""
        self.ask.say(*(sa(str(n), str(n)) for n in range(4)), step=1800)  # 10:00 to 11:30
        for query, names in (
            ("startTime=2026-03-01T10:30:00Z&endTime=2026-03-01T11:00:00Z", ["1", "2"]),
            ("startTime=2026-03-01T10:30:00Z&interval=0.5", ["1", "2"]),
            ("endTime=2026-03-01T10:30:00Z&interval=0.25", ["1"]),
            ("startTime=2026-03-01T10:30:00Z&endTime=2026-03-01T10:00:00Z", []),
        ):
            self.assertEqual(sorted(self.names(self.ask("GET", f"/Marti/ExportMissionKML?{query}"))), names, query)

    def test_wrong(self) -> None:
        """Anything else is refused, and says why."""
        start = "startTime=2026-03-01T10:30:00Z"
        for query in (
            "",
            "interval=1",
            start,
            start.replace("start", "end"),
            f"{start}&interval=x",
            f"{start}&interval=-1",
            f"{ALL}&multiTrackThreshold=x",
            f"{ALL}&multiTrackThreshold=-1",
            "startTime=now&interval=1",
        ):
            answer = self.ask("GET", f"/Marti/ExportMissionKML?{query}")
            self.assertEqual(answer.status, 400, query)
            self.assertTrue(answer.json["message"])

    def test_groups(self) -> None:
        """Nobody gets what he could not have heard; who wants less than that gets less."""
        self.ask.say(sa("A", "ALPHA"))
        self.ask.say(sa("R", "RED"), who=RED)
        for who, groups, names in (
            (None, "", ["ALPHA"]),
            (None, "&groups=red", []),
            (RED, "", ["RED"]),
            (BOTH, "", ["ALPHA", "RED"]),
            (BOTH, "&groups=red", ["RED"]),
            (BOTH, "&groups=red&groups=__ANON__", ["ALPHA", "RED"]),
        ):
            answer = self.ask("GET", f"/Marti/ExportMissionKML?{ALL}{groups}", who=who)
            self.assertEqual(sorted(self.names(answer)), names, (who, groups))

    def test_private(self) -> None:
        """What was sent to somebody alone is not in others' exports."""
        self.ask.say(xml("P", "a-h-G", marti=to("BRAVO")), who=principal("alice"))
        self.assertEqual(self.names(self.ask("GET", f"/Marti/ExportMissionKML?{ALL}", who=principal("alice"))), ["P"])
        self.assertEqual(self.names(self.ask("GET", f"/Marti/ExportMissionKML?{ALL}", who=principal("carol"))), [])

    def test_bound(self) -> None:
        """A document has an end; that something is missing is said."""
        self.patch(kml, "MAX_PLACES", 3)
        self.ask.say(*(sa(str(n), str(n)) for n in range(5)), step=1)
        answer = self.ask("GET", f"/Marti/ExportMissionKML?{ALL}")
        self.assertEqual(self.names(answer), ["2", "3", "4"])
        self.assertIn("warning", answer.headers)
        self.patch(kml, "MAX_PLACES", 6)
        self.assertNotIn("warning", self.ask("GET", f"/Marti/ExportMissionKML?{ALL}").headers)


class LatestTests(KmlTests):
    def test_types(self) -> None:
        """Of each uid the newest place is shown, by type; routes are lines."""
        self.ask.say(sa("A", "OLD"), marker("M", "TGT"), route(), chat("A"), step=10)
        self.ask.say(sa("A", "NEW"))
        for type_, names in (
            ("a-f", ["NEW"]),
            ("a-h", ["TGT"]),
            ("a", ["NEW", "TGT"]),
            ("b-m-r", ["Way R"]),
            ("b", ["Way R"]),
            ("b-m-r-x", []),
            ("", ["NEW", "TGT", "Way R"]),
        ):
            answer = self.ask("GET", f"/Marti/LatestKML?cotType={type_}&secago=600")
            self.assertEqual(self.names(answer), names, type_)
        self.assertEqual(len(list(self.root(answer).iterfind(".//k:LineString", NAMES))), 1)
        self.assertEqual(len(list(self.root(answer).iterfind(".//k:Point", NAMES))), 2)

    def test_seconds(self) -> None:
        """What is older than was asked for is not shown."""
        self.ask.say(sa("A", "A"), sa("B", "B"), step=100)  # 200 and 100 seconds ago
        self.assertEqual(self.names(self.ask("GET", "/Marti/LatestKML?cotType=a-f&secago=150")), ["B"])
        self.assertEqual(self.names(self.ask("GET", "/Marti/LatestKML?cotType=a-f")), ["B", "A"])
        self.ask.clock.rightNow += 3600
        self.assertEqual(self.names(self.ask("GET", "/Marti/LatestKML?cotType=a-f")), [])
        self.assertEqual(self.ask("GET", "/Marti/LatestKML?secago=x").status, 400)

    def test_groups(self) -> None:
        """Others' places are not shown."""
        self.ask.say(sa("A", "ALPHA"), route(), who=RED)
        self.assertEqual(self.names(self.ask("GET", "/Marti/LatestKML")), [])
        self.assertEqual(len(self.names(self.ask("GET", "/Marti/LatestKML", who=RED))), 2)

    def test_bound(self) -> None:
        """A document has an end."""
        self.patch(writing, "MAX_BYTES", 0)
        self.ask.say(*(sa(str(n), str(n)) for n in range(200)), route("1"), route("2"))
        answer = self.ask("GET", "/Marti/LatestKML")
        self.assertLess(len(self.names(answer)), 200)
        self.assertIn("warning", answer.headers)


class LinksTests(KmlTests):
    def test_links(self) -> None:
        """Google Earth is led to the server by the address that it used, and comes back as often as it wants."""
        answer = self.ask("GET", "/Marti/KmlMasterSA?secago=30")
        root = self.root(answer)
        self.assertEqual(answer.headers["content-disposition"], 'attachment; filename="TAK-Master-Links.kml"')
        links = [str(one.text) for one in root.iterfind(".//k:href", NAMES)]
        base = "http://tak.example:8080/Marti/LatestKML?secago=30&cotType="
        self.assertEqual(links, [base + type_ for type_ in ("a-f", "a-n", "a-u", "a-h", "b-m-r")])
        self.assertEqual({one.text for one in root.iterfind(".//k:refreshInterval", NAMES)}, {"30"})
        self.ask.say(sa("A", "ALPHA"))
        self.assertEqual(self.names(self.ask("GET", links[0].partition("8080")[2])), ["ALPHA"])

    def test_defaults(self) -> None:
        """Without a number links are loaded each minute."""
        root = self.root(self.ask("GET", "/Marti/KmlMasterSA"))
        self.assertEqual({one.text for one in root.iterfind(".//k:refreshInterval", NAMES)}, {"60"})
        self.assertIn("secago=3600&", str(root.findtext(".//k:href", None, NAMES)))


class TracksTests(KmlTests):
    def track(self, count: int = 3) -> bytes:
        """Spell a track, a point every ten seconds."""
        times = "".join(f"<when>2026-03-01T09:{n // 6 % 60:02d}:{n % 6}0.000Z</when>" for n in range(count))
        places = "".join(f"<gx:coord>4.{n} 52.1 {n}</gx:coord>" for n in range(count))
        track = f"<gx:Track>{times}{places}</gx:Track>"
        return f'<kml xmlns="{KML}" xmlns:gx="{GX}"><Placemark>{track}</Placemark></kml>'.encode()

    def test_in_and_out(self) -> None:
        """A track that ATAK hands in is found like one that was heard, when and where it was."""
        answer = self.ask("POST", "/Marti/TracksKML?uid=A&callsign=ALPHA&groupName=Red&groupRole=Medic", self.track())
        self.assertEqual((answer.status, answer.body), (200, b""))
        query = "startTime=2026-03-01T09:00:00Z&endTime=2026-03-01T09:30:00Z&uid=A"
        root = self.root(self.ask("GET", f"/Marti/ExportMissionKML?{query}"))
        self.assertEqual([str(one.text) for one in root.iterfind(".//gx:coord", NAMES)][1], "4.1000000 52.1000000 1.0")
        self.assertEqual([str(one.text) for one in root.iterfind(".//k:when", NAMES)][2], "2026-03-01T09:00:20.000Z")
        events = self.ask("GET", "/Marti/api/cot/xml/A/all").body
        self.assertEqual(events.count(b"</event>"), 3)
        self.assertIn(b'type="a-f-G-U-C-I"', events)
        self.assertIn(b'<__group name="Red" role="Medic"/>', events)

    def test_whole_body_is_checked(self) -> None:
        """Nothing of a track is kept if a part of it means nothing."""
        wrong = self.track(2 * ADD_POINTS).replace(b" 52.1 1999<", b" 99 1999<")
        answer = self.ask("POST", "/Marti/TracksKML?uid=A&callsign=ALPHA", wrong)
        self.assertEqual(answer.status, 400)
        self.assertIn("not on Earth", answer.json["message"])
        self.assertEqual(self.ask("GET", "/Marti/api/cot/xml/A").status, 404)

    def test_long(self) -> None:
        """A long track arrives whole."""
        count = 2 * ADD_POINTS + 7
        self.assertEqual(self.ask("POST", "/Marti/TracksKML?uid=A&callsign=ALPHA", self.track(count)).status, 200)
        self.assertEqual(self.ask("GET", "/Marti/api/cot/xml/A/all").body.count(b"</event>"), count)

    def test_groups(self) -> None:
        """It is for those whom the caller may speak to."""
        self.ask("POST", "/Marti/TracksKML?uid=A&callsign=ALPHA", self.track(), who=RED)
        self.assertEqual(self.ask("GET", "/Marti/api/cot/xml/A", who=RED).status, 200)
        self.assertEqual(self.ask("GET", "/Marti/api/cot/xml/A").status, 404)

    def test_wrong(self) -> None:
        """Whose it is must be said, and it must be a track."""
        good = "uid=A&callsign=ALPHA"
        for query, body in (
            ("callsign=ALPHA", self.track()),
            ("uid=A", self.track()),
            ("uid=&callsign=ALPHA", self.track()),
            ("uid=A%01&callsign=ALPHA", self.track()),
            (f"uid={'x' * 1025}&callsign=ALPHA", self.track()),
            (f"{good}&cotType=b-t-f", self.track()),
            (f"{good}&cotType=a-%22", self.track()),
            (good, b""),
            (good, b"<kml/>"),
            (good, b'<!DOCTYPE a [<!ENTITY b "c">]><kml/>'),
        ):
            answer = self.ask("POST", f"/Marti/TracksKML?{query}", body)
            self.assertEqual(answer.status, 400, (query, body))
        self.assertEqual(self.names(self.ask("GET", "/Marti/LatestKML?secago=86400")), [])

    def test_no_history(self) -> None:
        """Where nothing is kept, nothing is taken."""
        ask = HistoryServer(self, keeps=False)
        self.assertEqual(ask("POST", "/Marti/TracksKML?uid=A&callsign=ALPHA", self.track()).status, 404)

    def test_no_room(self) -> None:
        """If the disk is full whoever hands it in is told."""
        self.ask("GET", "/Marti/LatestKML")
        assert self.ask.history is not None
        connection = self.ask.history._store._connection  # type: ignore[attr-defined]
        connection.execute("PRAGMA max_page_count = 1").fetchone()
        self.assertEqual(self.ask("POST", "/Marti/TracksKML?uid=A&callsign=A", self.track(500)).status, 503)
