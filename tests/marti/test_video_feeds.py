from __future__ import annotations

import json
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.video import VideoArea
from taky_twisted.marti.video_feeds import VideoFeedsArea
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.video.videos import Videos
from tests.fakes import principal
from tests.marti.asking import Answer, Asking
from tests.video.test_feed_xml import ATAK, feed

ALICE = principal("alice", ["red"], ["red"])
BOB = principal("bob", ["red"], ["red"])
CAROL = principal("carol", ["green"], ["green"])
HEADERS = {"Content-Type": "application/xml", "Content-Encoding": "UTF-8"}
"""As ATAK sends them."""
TAGS = [
    f"<{slash}{tag}>" for tag in ("videoConnections", "feed", "uid", "alias", "protocol", "port") for slash in ("", "/")
]
PIECES = [
    *TAGS,
    "<address>h</address>",
    "udp",
    "raw",
    "1",
    "&amp;",
    "&#0;",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "\x00",
    "ä",
]
"""What hostile documents are made of."""


class VideoFeedsTests(SynchronousTestCase):
    """The older API for video feeds."""

    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start with nothing."""
        clock = Clock()
        videos = Videos(MemoryStore(clock), clock, 1000)
        self.ask = Asking(VideoFeedsArea(clock, videos), VideoArea(clock, videos), clock=clock)

    def post(self, body: bytes = ATAK, who: object = ALICE) -> Answer:
        """Post feeds as ATAK does."""
        return self.ask("POST", "/Marti/vcm", body, HEADERS, who)  # type: ignore[arg-type]

    def feeds(self, who: object = BOB) -> dict[str | None, dict[str, str | None]]:
        """List the feeds that somebody sees, by uid."""
        answer = self.ask("GET", "/Marti/vcm", who=who)  # type: ignore[arg-type]
        self.assertEqual((answer.status, answer.type), (200, "application/xml"))
        self.assertIn(b"videoConnections", answer.body)
        root = ElementTree.fromstring(answer.body)
        self.assertEqual((root.tag, {each.tag for each in root} - {"feed"}), ("videoConnections", set()))
        return {each.findtext("uid"): {child.tag: child.text for child in each} for each in root}

    def test_row25_content_encoding(self) -> None:
        """ATAK's upload, with a content encoding that is none, is taken, and the feeds are listed as they were."""
        answer = self.post()
        self.assertEqual((answer.status, answer.body), (200, b""))
        feeds = self.feeds()
        self.assertEqual(list(feeds), ["f-1", "f-2"])
        self.assertEqual(
            [
                feeds["f-1"][name]
                for name in ("protocol", "alias", "address", "port", "path", "rtspReliable", "timeout")
            ],
            ["rtsp", "Gate & yard", "192.0.2.7", "554", "/live", "1", "5000"],
        )

    def test_row25_empty(self) -> None:
        """Without any feed the list holds the word that ATAK looks for."""
        self.assertEqual(self.feeds(), {})
        self.assertEqual(self.post(b"<videoConnections/>").status, 200)
        self.assertEqual(self.feeds(), {})

    def test_again(self) -> None:
        """A feed that is posted again is changed."""
        self.post()
        self.post(ATAK.replace(b"Drone", b"Plane").replace(b"239.1.1.1", b"239.1.1.2"))
        feeds = self.feeds()
        self.assertEqual((len(feeds), feeds["f-2"]["alias"], feeds["f-2"]["address"]), (2, "Plane", "239.1.1.2"))

    def test_both_apis(self) -> None:
        """What one API takes the other shows: it is one table."""
        self.post()
        shown = self.ask("GET", "/Marti/api/video/f-1", who=BOB).json
        self.assertEqual((shown["alias"], shown["feeds"][0]["url"]), ("Gate & yard", "rtsp://192.0.2.7:554/live"))
        said = {"uuid": "c", "alias": "Both", "feeds": [{"uuid": "f-9", "alias": "Nine", "url": "srt://h:9000/x?y=1"}]}
        self.ask("POST", "/Marti/api/video", json.dumps({"videoConnections": [said]}).encode(), who=ALICE)
        nine = self.feeds()["f-9"]
        self.assertEqual(
            [nine[name] for name in ("protocol", "address", "port", "path")], ["srt", "h", "9000", "/x?y=1"]
        )

    def test_groups_and_owners(self) -> None:
        """Who hears no group of a feed's maker does not see it, and nobody else changes it."""
        self.post()
        self.assertEqual(self.feeds(CAROL), {})
        for who, status in ((BOB, 403), (CAROL, 404)):
            self.assertEqual(self.ask("DELETE", "/Marti/vcm?id=f-1", who=who).status, status)
            self.assertEqual(self.ask("POST", "/Marti/vcm?setActive&id=f-1&active=false", who=who).status, status)
            self.assertEqual(self.post(who=who).status, 403)

    def test_anonymous(self) -> None:
        """Without certificates feeds are shared as well."""
        self.assertEqual(self.post(who=None).status, 200)
        self.assertEqual(list(self.feeds(None)), ["f-1", "f-2"])
        self.assertEqual(self.ask("DELETE", "/Marti/vcm?id=f-1").status, 200)
        self.assertEqual(list(self.feeds(None)), ["f-2"])

    def test_active(self) -> None:
        """A feed is switched off and on, in either spelling of the request."""
        self.post()
        for query, active in (
            ("setActive&id=f-1&active=false", "false"),
            ("action=setActive&id=f-1&active=true", "true"),
            ("setactive=&ID=f-1&active=no", "false"),
        ):
            self.assertEqual(self.ask("POST", f"/Marti/vcm?{query}", who=ALICE).status, 200)
            self.assertEqual(self.feeds()["f-1"]["active"], active)
        self.assertEqual(self.ask("POST", "/Marti/vcm?setActive&active=true", who=ALICE).status, 400)
        self.assertEqual(self.ask("POST", "/Marti/vcm?setActive&id=none&active=true", who=ALICE).status, 404)

    def test_delete(self) -> None:
        """Its maker deletes a feed; it must be named."""
        self.post()
        self.assertEqual(self.ask("DELETE", "/Marti/vcm?id=f-1", who=ALICE).status, 200)
        self.assertEqual(list(self.feeds()), ["f-2"])
        self.assertEqual(self.ask("DELETE", "/Marti/vcm?id=f-1", who=ALICE).status, 404)
        self.assertEqual(self.ask("DELETE", "/Marti/vcm", who=ALICE).status, 400)

    def test_senseless(self) -> None:
        """What makes no sense is refused, and the answer says what it is; nothing outside is read."""
        for body, what in (
            (b"", "no XML"),
            (b"{}", "no XML"),
            (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + feed("<path>&e;</path>"), "refused"),
            (feed().replace(b"<uid>U</uid>", b""), "no uid"),
        ):
            answer = self.post(body)
            self.assertEqual(answer.status, 400)
            self.assertIn(what, answer.json["message"])
        self.assertEqual(self.post(b"x" * (1 << 21)).status, 413)
        self.assertEqual(self.feeds(), {})

    def test_web_only(self) -> None:
        """The forms of TAK Server's own pages are not here, and the answer says where to go."""
        for path in ("/Marti/vcu", "/Marti/vcs"):
            answer = self.ask("POST", path, who=ALICE)
            self.assertEqual((answer.status, answer.json["code"]), (501, 3))
            self.assertIn("/Marti/vcm", answer.json["message"])

    @settings(max_examples=100, deadline=None)
    @given(
        st.binary(max_size=60)
        | st.lists(
            st.sampled_from(PIECES),
            max_size=20,
        ).map(lambda pieces: "".join(pieces).encode())
    )
    def test_anything(self, body: bytes) -> None:
        """Whatever is posted, the server does not break, and what it lists can be read."""
        self.begin()
        self.assertIn(self.post(body).status, (200, 400))
        self.assertIn(self.post(feed(start=body.decode("latin-1"))).status, (200, 400))
        self.feeds()
