from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.video.takeover import take_over
from taky_twisted.video.videos import UNKNOWN, Videos
from tests.fakes import LogLines
from tests.threaded_clock import ThreadedClock


def kept_by_taky(uid: str, alias: str = "Gate") -> str:
    """Spell a feed as taky 0.10 keeps it."""
    return (
        f"<?xml version='1.0' encoding='ASCII'?>\n<feed>\n<protocol>rtsp</protocol>\n<alias>{alias}</alias>\n"
        f"<uid>{uid}</uid>\n<address>192.0.2.7</address>\n<port>554</port>\n<path>/live</path>\n</feed>\n"
    )


class TakeOverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.store = MemoryStore(self.clock)
        self.log = LogLines(self)
        root = Path(self.mktemp())
        self.upload_path, self.marker = root / "uploads", root / "taken-over"
        self.folder = self.upload_path / "video_feed"
        self.folder.mkdir(parents=True)

    def write(self, name: str, text: str) -> Path:
        """Write a file as taky does."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path

    def start(self, marker: bool = True) -> list[str]:
        """Start the server; tell which feeds it has."""
        videos = Videos(self.store, self.clock, 1000)
        videos.restore(self.clock.wait(self.store.open()).videos)
        taking = take_over(self.upload_path, videos, self.marker if marker else None, self.clock)
        self.clock.wait(Deferred.fromCoroutine(taking))
        return [connection.uid for connection in videos.visible(ANONYMOUS.groups_out)]

    def test_feeds(self) -> None:
        """The feeds of a taky site are here, for everybody, and its files are as they were."""
        texts = {"f-1.xml": kept_by_taky("f-1"), "f_2.xml": kept_by_taky("f/2", "K&#228;fer")}
        paths = [self.write(name, text) for name, text in texts.items()]
        before = [(path.read_text("utf-8"), path.stat().st_mtime_ns) for path in paths]
        self.assertEqual(self.start(), ["f-1", "f/2"])
        record = self.clock.wait(self.store.open()).videos[1]
        self.assertEqual((record.alias, record.owner), ("Käfer", UNKNOWN))
        self.assertIn('"url":"rtsp://192.0.2.7:554/live"', record.document)
        self.assertEqual([(path.read_text("utf-8"), path.stat().st_mtime_ns) for path in paths], before)
        self.assertIn(f"2 video feeds of taky were taken over from {self.upload_path}", self.log())

    def test_once(self) -> None:
        """It is done once: what was deleted since does not come back. Another folder of taky is another matter."""
        self.write("f.xml", kept_by_taky("f"))
        self.assertEqual(self.start(), ["f"])
        (record,) = self.clock.wait(self.store.open()).videos
        self.store.remove(type(record), record.key)
        self.write("g.xml", kept_by_taky("g"))
        self.assertEqual(self.start(), [])
        self.marker.write_text("/elsewhere", "utf-8")
        self.assertEqual(self.start(), ["f", "g"])

    def test_nothing_to_mark(self) -> None:
        """Without a marker it is done at each start; without feeds nothing is marked, nor is a folder missed."""
        self.assertEqual(self.start(), [])
        os.rmdir(self.folder)
        self.assertEqual((self.start(), self.marker.exists(), self.log()), ([], False, []))
        self.folder.mkdir()
        self.write("f.xml", kept_by_taky("f"))
        self.assertEqual((self.start(marker=False), self.marker.exists()), (["f"], False))

    def test_unusable(self) -> None:
        """What cannot be read is left out, and the log says why; nothing outside the folder is read."""
        self.write("good.xml", kept_by_taky("good"))
        self.write("a.xml", "<feed>")
        self.write("b.xml", '<!DOCTYPE feed [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + kept_by_taky("b", "&x;"))
        self.write("c.xml", "x" * 70_000)
        (self.folder / "d.xml").mkdir()
        outside = self.upload_path.parent / "outside.xml"
        outside.write_text(kept_by_taky("outside"), "utf-8")
        (self.folder / "e.xml").symlink_to(outside.resolve())
        (self.folder / "f.xml").symlink_to("f.xml")
        (self.folder / "g.xml").symlink_to("good.xml")
        self.write("ignored.txt", kept_by_taky("ignored"))
        self.assertEqual(self.start(), ["good"])
        left_out = [line for line in self.log() if "was not taken over" in line]
        self.assertEqual([Path(line.split()[0]).name for line in left_out], [f"{name}.xml" for name in "abcdef"])
