from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti import video as module
from taky_twisted.marti.video import VideoArea
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.video.videos import Videos
from tests.fakes import principal
from tests.marti.asking import Answer, Asking, Connection, spell

ALICE = principal("alice", ["red", "blue"], ["red"])
BOB = principal("bob", ["red"], ["red"])
CAROL = principal("carol", ["green"], ["green"])
FEED = {"uuid": "f-1", "alias": "Gate", "url": "rtsp://192.0.2.7:554/live"}
SAID: dict[str, Any] = {"uuid": "c-1", "active": True, "alias": "Gates", "feeds": [FEED]}
"""As CloudTAK says it."""


class VideoCase(SynchronousTestCase):
    """The newer API for video connections."""

    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start with nothing."""
        self.clock = Clock()
        self.videos = Videos(MemoryStore(self.clock), self.clock, 1000)
        self.ask = Asking(VideoArea(self.clock, self.videos), clock=self.clock)

    def post(self, *said: object, who: Any = ALICE, query: str = "") -> Answer:
        """Make connections."""
        return self.ask("POST", f"/Marti/api/video{query}", json.dumps({"videoConnections": said}).encode(), who=who)

    def listed(self, who: Any = BOB, query: str = "") -> list[Any]:
        """List what somebody sees."""
        answer = self.ask("GET", f"/Marti/api/video{query}", who=who)
        self.assertEqual(
            (answer.status, answer.type, list(answer.json)), (200, "application/json", ["videoConnections"])
        )
        connections: list[Any] = answer.json["videoConnections"]
        return connections


class VideoTests(VideoCase):
    def test_empty(self) -> None:
        """Without any connection the list is there, and empty."""
        self.assertEqual(self.listed(), [])

    def test_what_cloudtak_does(self) -> None:
        """CloudTAK makes, reads, changes and deletes a connection; others of its group see it."""
        created = self.post(SAID)
        self.assertEqual((created.status, created.body), (200, b""))
        answer = self.ask("GET", "/Marti/api/video/c-1", who=BOB)
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual((answer.json["uuid"], answer.json["alias"], answer.json["active"]), ("c-1", "Gates", True))
        self.assertEqual({name: answer.json["feeds"][0][name] for name in FEED}, FEED)
        self.assertEqual(self.listed(), [answer.json])
        changed = self.ask("PUT", "/Marti/api/video/c-1", json.dumps(SAID | {"alias": "Doors"}).encode(), who=ALICE)
        self.assertEqual((changed.status, self.listed()[0]["alias"]), (200, "Doors"))
        deleted = self.ask("DELETE", "/Marti/api/video/c-1", who=ALICE)
        self.assertEqual((deleted.status, self.listed()), (200, []))

    def test_groups(self) -> None:
        """With ``group`` only those groups see it."""
        self.post(SAID, query="?group=blue&group=red")
        self.post(SAID | {"uuid": "c-2", "feeds": []}, query="?group=blue")
        self.assertEqual([connection["uuid"] for connection in self.listed()], ["c-1"])
        self.assertEqual(self.listed(CAROL), [])
        self.assertEqual(self.ask("GET", "/Marti/api/video/c-1", who=CAROL).status, 404)
        self.assertEqual(self.post(SAID | {"uuid": "c-3", "feeds": []}, query="?group=green").status, 403)

    def test_somebody_elses(self) -> None:
        """Only who made a connection may change it; others are told that, or that there is none that they see."""
        self.post(SAID)
        body = json.dumps(SAID).encode()
        for who, status in ((BOB, 403), (CAROL, 404), (None, 404)):
            self.assertEqual(self.ask("PUT", "/Marti/api/video/c-1", body, who=who).status, status)
            self.assertEqual(self.ask("DELETE", "/Marti/api/video/c-1", who=who).status, status)
            self.assertEqual(self.post(SAID, who=who).status, 403)
        body = json.dumps(SAID | {"uuid": "none"}).encode()
        self.assertEqual(self.ask("PUT", "/Marti/api/video/none", body, who=ALICE).status, 404)

    def test_protocol(self) -> None:
        """With ``protocol`` only feeds of that are listed, and connections that have some."""
        other = {"uuid": "f-2", "alias": "Drone", "url": "UDP://239.1.1.1:1234"}
        self.post(SAID | {"feeds": [FEED, other]}, SAID | {"uuid": "c-2", "feeds": [FEED | {"uuid": "f-3"}]})
        (connection,) = self.listed(query="?protocol=udp")
        self.assertEqual([feed["uuid"] for feed in connection["feeds"]], ["f-2"])
        self.assertEqual([len(each["feeds"]) for each in self.listed(query="?protocol=rtsp")], [1, 1])
        self.assertEqual([len(each["feeds"]) for each in self.listed(query="?protocol=")], [2, 1])

    def test_xml(self) -> None:
        """Who accepts XML alone gets it."""
        self.post(SAID, SAID | {"uuid": "c-2", "feeds": []})
        for accepted, kind in (
            ("application/xml", "application/xml"),
            ("text/xml;q=0.9", "application/xml"),
            ("application/xml, application/json", "application/json"),
            ("text/html,application/xml;q=0.9,*/*;q=0.8", "application/json"),
            ("*/*", "application/json"),
        ):
            for path in ("/Marti/api/video", "/Marti/api/video/c-1"):
                self.assertEqual(self.ask("GET", path, headers={"Accept": accepted}, who=BOB).type, kind)
        xml = {"Accept": "application/xml"}
        root = ElementTree.fromstring(self.ask("GET", "/Marti/api/video", headers=xml, who=BOB).body)
        self.assertEqual((root.tag, [each.get("uid") for each in root]), ("videoCollections", ["c-1", "c-2"]))
        root = ElementTree.fromstring(self.ask("GET", "/Marti/api/video/c-1", headers=xml, who=BOB).body)
        self.assertEqual((root.tag, root[0].get("url")), ("videoCollection", FEED["url"]))
        self.assertEqual(self.ask("GET", "/Marti/api/video/x", headers=xml, who=BOB).status, 404)

    def test_any_uid(self) -> None:
        """A uid may be made of anything that a path can carry."""
        for uid in ("a b", "ä/猫", "100%", "?x#y", "'\"<&>", "a.b"):
            self.assertEqual(self.post(SAID | {"uuid": uid, "feeds": []}).status, 200)
            path = f"/Marti/api/video/{quote(uid, safe='')}"
            self.assertEqual(self.ask("GET", path, who=BOB).json["uuid"], uid)
            self.assertEqual(self.ask("DELETE", path, who=ALICE).status, 200)

    def test_senseless(self) -> None:
        """What makes no sense is refused, and the answer says what it is."""
        for body, what in (
            (b"", "no JSON"),
            (b"[" * 100_000, "no JSON"),
            (b'{"videoConnections":' + b"9" * 5000 + b"}", "no JSON"),
            (b"\xff\xfe", "no JSON"),
            (b"null", "videoConnections"),
            (b"{}", "videoConnections"),
            (b'{"videoConnections":{}}', "videoConnections"),
            (b'{"videoConnections":[null]}', "no JSON object"),
            (b'{"videoConnections":[{"alias":"\\ud800"}]}', "alias"),
            (json.dumps({"videoConnections": [SAID] * 1001}).encode(), "up to 1000"),
        ):
            answer = self.ask("POST", "/Marti/api/video", body, who=ALICE)
            self.assertEqual(answer.status, 400, body[:50])
            self.assertIn(what, answer.json["message"])
        for body in (b"[]", b"{", b'{"alias":""}', json.dumps(SAID | {"uuid": "another"}).encode()):
            self.post(SAID)
            self.assertEqual(self.ask("PUT", "/Marti/api/video/c-1", body, who=ALICE).status, 400)
        self.assertEqual(self.ask("POST", "/Marti/api/video", b"x" * (1 << 21), who=ALICE).status, 413)
        self.assertEqual(self.ask("POST", "/Marti/api/video/c-1", b"{}", who=ALICE).status, 405)

    def test_no_uuid_to_put(self) -> None:
        """Who changes a connection need not repeat which."""
        self.post(SAID)
        body = json.dumps({"alias": "Doors", "feeds": [FEED]}).encode()
        self.assertEqual(self.ask("PUT", "/Marti/api/video/c-1", body, who=ALICE).status, 200)
        self.assertEqual([each["alias"] for each in self.listed()], ["Doors"])

    def test_no_room(self) -> None:
        """When there is no room for more, the answer says so."""
        self.ask = Asking(VideoArea(self.clock, Videos(MemoryStore(self.clock), self.clock, 1)), clock=self.clock)
        answer = self.post(SAID, SAID | {"uuid": "c-2", "feeds": []})
        self.assertEqual((answer.status, self.listed()), (507, []))
        self.assertIn("video_connections", answer.json["message"])

    def test_a_long_list(self) -> None:
        """A long list is spelled a piece at a time; events are routed in between."""
        self.patch(module, "PIECE", 2)
        self.post(*(SAID | {"uuid": str(number), "feeds": []} for number in range(5)))
        self.ask.door.who = BOB
        connection = Connection(self.ask.door)
        connection.send(spell("GET", "/Marti/api/video"))
        self.assertRaises(AssertionError, connection.answer)
        self.clock.advance(0)
        self.assertEqual([each["uuid"] for each in connection.answer().json["videoConnections"]], list("01234"))

    @settings(max_examples=100, deadline=None)
    @given(
        st.binary(max_size=50)
        | st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["videoConnections", "uuid", "alias", "feeds", "url", "active"]), inner
                )
            ),
        ).map(lambda said: json.dumps(said).encode()),
        st.sampled_from(["POST", "PUT"]),
    )
    def test_anything(self, body: bytes, method: str) -> None:
        """Whatever is sent, the server does not break, and what it shows can be read."""
        self.begin()
        self.post(SAID)
        path = "/Marti/api/video" if method == "POST" else "/Marti/api/video/c-1"
        self.assertIn(self.ask(method, path, body, who=ALICE).status, (200, 400, 403))
        self.listed()
        xml = self.ask("GET", "/Marti/api/video", headers={"Accept": "application/xml"}, who=BOB).body
        self.assertEqual(ElementTree.fromstring(xml).tag, "videoCollections")
