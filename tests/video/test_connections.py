from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.video import connections as module
from taky_twisted.video.connections import Connection, Feed, checked, connection_of, read_connection
from taky_twisted.video.errors import BadVideo, NoRoom
from taky_twisted.video.urls import Place

FEED = {"uuid": "f-1", "alias": "Gate", "url": "rtsp://192.0.2.7:554/live"}
SAID = {"uuid": "c-1", "alias": "Gates", "feeds": [FEED]}


def read(**changes: Any) -> Connection:
    """Read a connection whose one feed has these members too."""
    return read_connection(SAID | {"feeds": [FEED | changes]})


class ReadTests(SynchronousTestCase):
    """Connections that were JSON."""

    def test_what_cloudtak_says(self) -> None:
        """CloudTAK says little of a connection; the rest is what ATAK would take, with the types that it wants."""
        connection = read_connection(SAID)
        self.assertEqual(
            json.loads(connection.document),
            {
                "uuid": "c-1",
                "active": True,
                "alias": "Gates",
                "thumbnail": None,
                "classification": None,
                "feeds": [
                    {
                        "uuid": "f-1",
                        "active": True,
                        "alias": "Gate",
                        "url": "rtsp://192.0.2.7:554/live",
                        "macAddress": "",
                        "roverPort": "-1",
                        "ignoreEmbeddedKLV": "false",
                        "source": None,
                        "networkTimeout": "5000",
                        "bufferTime": "-1",
                        "rtspReliable": "0",
                        "thumbnail": None,
                        "classification": None,
                        "latitude": None,
                        "longitude": None,
                        "fov": None,
                        "heading": None,
                        "range": None,
                        "order": None,
                        "width": None,
                        "height": None,
                        "bitrate": None,
                    }
                ],
            },
        )
        self.assertEqual(connection.feeds[0].place, Place("rtsp", "192.0.2.7", 554, "/live"))

    def test_everything(self) -> None:
        """What is kept of a connection is all of it: it is read again as it was."""
        said = {
            "uuid": "ç-1",
            "alias": "Käm 猫",
            "active": False,
            "thumbnail": "http://x/y.png",
            "classification": "U",
            "feeds": [
                FEED | dict.fromkeys((*module.TEXTS, *module.OLD_TEXTS), "text") | dict.fromkeys(module.NUMBERS, 7),
                FEED | {"uuid": "f-2", "active": False, "protocol": "raw"},
            ],
        }
        connection = read_connection(said)
        self.assertEqual(read_connection(json.loads(connection.document)).document, connection.document)
        self.assertEqual((connection.active, connection.feeds[1].active, connection.feeds[1].raw), (False, False, True))
        self.assertEqual(connection.feeds[1].place, Place("raw", FEED["url"], -1, ""))
        self.assertEqual(set(connection.feeds[0].texts.values()), {"text"})

    def test_kinds(self) -> None:
        """A client may send numbers for texts and the other way round."""
        feed = read(
            latitude=52.5, roverPort=9000, ignoreEmbeddedKLV=True, rtspReliable=False, width="640", height=""
        ).feeds[0]
        self.assertEqual(
            feed.texts,
            {"latitude": "52.5", "roverPort": "9000", "ignoreEmbeddedKLV": "true", "rtspReliable": "false"},
        )
        self.assertEqual(feed.numbers, {"width": 640})

    def test_uuids(self) -> None:
        """Who names none gets one."""
        first, second = (read_connection({"alias": "a", "feeds": [{"alias": "b", "url": "c"}]}) for _ in range(2))
        self.assertEqual(len({first.uid, second.uid, first.feeds[0].uid, second.feeds[0].uid}), 4)
        self.assertEqual(read_connection({"alias": "a"}).feeds, ())

    def test_senseless(self) -> None:
        """What makes no sense is refused, and the text says what it is."""
        deep: Any = []
        for _ in range(900):
            deep = [deep]
        for said, what in (
            (None, "no JSON object"),
            ([], "no JSON object"),
            ("x", "no JSON object"),
            (SAID | {"feeds": {}}, "feeds"),
            (SAID | {"feeds": [FEED | {"uuid": str(number)} for number in range(101)]}, "feeds"),
            (SAID | {"feeds": [None]}, "feed"),
            (SAID | {"feeds": [FEED, FEED]}, "same uuid"),
            ({"feeds": []}, "alias"),
            (SAID | {"alias": ""}, "alias"),
            (SAID | {"alias": {}}, "alias"),
            (SAID | {"alias": "x" * 1025}, "alias"),
            (SAID | {"alias": "\ud800"}, "alias"),
            (SAID | {"alias": "\x00"}, "alias"),
            (SAID | {"alias": "\uffff"}, "alias"),
            (SAID | {"uuid": "x" * 1025}, "uuid"),
            (SAID | {"uuid": deep}, "uuid"),
            (SAID | {"active": "yes"}, "active"),
            (SAID | {"active": 1}, "active"),
            (SAID | {"thumbnail": "x" * (module.MAX_TEXT + 1)}, "thumbnail"),
            (SAID | {"classification": []}, "classification"),
            (SAID | {"feeds": [{"uuid": "f", "alias": "a"}]}, "url"),
            (SAID | {"feeds": [FEED | {"url": ""}]}, "url"),
            (SAID | {"feeds": [FEED | {"url": "a\x1fb"}]}, "url"),
            (SAID | {"feeds": [FEED | {"width": 1.5}]}, "width"),
            (SAID | {"feeds": [FEED | {"width": True}]}, "width"),
            (SAID | {"feeds": [FEED | {"width": "x"}]}, "width"),
            (SAID | {"feeds": [FEED | {"width": 1 << 31}]}, "width"),
            (SAID | {"feeds": [FEED | {"width": "9999999999"}]}, "width"),
            (SAID | {"feeds": [FEED | {"width": float("inf")}]}, "width"),
            (SAID | {"feeds": [FEED | {"range": {}}]}, "range"),
        ):
            error = self.assertRaises(BadVideo, read_connection, said)
            self.assertIn(what, str(error))

    def test_limits(self) -> None:
        """Texts may be as long as that, to the character; a connection as a whole too."""
        self.assertEqual(checked("x", "y" * 5, 5), "y" * 5)
        self.assertRaises(BadVideo, checked, "x", "y" * 6, 5)
        self.assertEqual(checked("x", "\t\n\r ~\ud7ff\ue000\ufffd\U0010ffff"), "\t\n\r ~\ud7ff\ue000\ufffd\U0010ffff")
        feeds = tuple(Feed(str(number), "a", "u", texts={"thumbnail": "ä" * 8000}) for number in range(5))
        size = len(Connection("c", "a", feeds[:4]).document.encode())
        self.patch(module, "MAX_DOCUMENT", size)
        self.assertRaises(NoRoom, getattr, Connection("c", "a", feeds), "document")
        self.assertEqual(len(Connection("c", "a", feeds[:4]).document.encode()), size)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["uuid", "alias", "url", "feeds", "active", "order", "range", "protocol"]), inner
                )
            ),
        )
    )
    def test_anything(self, said: object) -> None:
        """Whatever is said, it is refused in words or kept whole."""
        try:
            connection = read_connection(said)
        except BadVideo:
            return
        self.assertEqual(read_connection(json.loads(connection.document)).document, connection.document)


class FeedTests(SynchronousTestCase):
    """Feeds on their own, as the older API has them."""

    def test_alone(self) -> None:
        """A feed that stands for itself is a connection of its uid and name."""
        feed = Feed("f", "Gate", "udp://x", False, texts={"thumbnail": "t", "classification": "c"})
        self.assertEqual(connection_of(feed), Connection("f", "Gate", (feed,), False, "t", "c"))

    def test_in_place(self) -> None:
        """A feed said anew takes the old one's place; the older API cannot say the numbers, so they stay."""
        old = Feed("f", "Gate", "udp://x", numbers={"width": 640, "order": 1})
        new = Feed("f", "Gate 2", "udp://y", False, texts={"range": "5"}, numbers={"order": 2})
        connection = Connection("c", "Gates", (old,)).with_feed(new)
        self.assertEqual((connection.alias, connection.active), ("Gate 2", False), "as its only feed is")
        self.assertEqual(connection.feeds[0].numbers, {"width": 640, "order": 2})
        self.assertEqual((connection.feeds[0].url, connection.feeds[0].texts), ("udp://y", {"range": "5"}))

    def test_one_of_several(self) -> None:
        """One of several feeds changes nothing of the others or the whole."""
        feeds = (Feed("1", "One", "a"), Feed("2", "Two", "b"))
        connection = Connection("c", "Both", feeds).with_feed(Feed("2", "Zwei", "c", False))
        self.assertEqual((connection.alias, connection.active, connection.feeds[0]), ("Both", True, feeds[0]))
        self.assertEqual([feed.alias for feed in connection.feeds], ["One", "Zwei"])

    def test_too_many(self) -> None:
        """A connection has room for so many feeds."""
        full = Connection("c", "a", tuple(Feed(str(number), "a", "u") for number in range(module.MAX_FEEDS)))
        self.assertEqual(len(full.with_feed(Feed("0", "b", "u")).feeds), module.MAX_FEEDS)
        self.assertRaises(NoRoom, full.with_feed, Feed("new", "a", "u"))
