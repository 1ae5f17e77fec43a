"""Video feeds on a real server: what it has taken it still has after it was killed, and taky's feeds are here."""

from __future__ import annotations

import http.client
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import SECONDS
from tests.video.test_feed_xml import ATAK
from tests.video.test_takeover import kept_by_taky


class VideoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ServerProcess(self, "--marti-endpoint=tcp:0:interface=127.0.0.1")

    def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Make one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port(), timeout=SECONDS)
        self.addCleanup(connection.close)
        connection.request(method, target, body, {"Content-Encoding": "UTF-8"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def uids(self) -> list[str]:
        """List the uids of all feeds."""
        status, body = self.ask("GET", "/Marti/vcm")
        self.assertEqual(status, 200)
        return sorted(feed.findtext("uid") or "" for feed in ElementTree.fromstring(body))

    def test_row25_survives(self) -> None:
        """What was taken with 200 is there after ``kill -9``, and what was deleted is not."""
        self.server.start()
        self.assertEqual(self.ask("POST", "/Marti/vcm", ATAK)[0], 200)
        self.assertEqual(self.ask("DELETE", "/Marti/api/video/f-2")[0], 200)
        self.server.kill()
        self.server.start()
        self.assertEqual(self.uids(), ["f-1"])

    def test_taken_over(self) -> None:
        """The feeds of taky are listed from the first start on; one that is deleted stays deleted."""
        folder = self.server.data_dir / "dp-user" / "video_feed"
        folder.mkdir(parents=True)
        for uid in ("t-1", "t-2"):
            (folder / f"{uid}.xml").write_text(kept_by_taky(uid), "utf-8")
        self.server.start()
        self.server.wait_for_log("2 video feeds of taky were taken over")
        self.assertEqual(self.uids(), ["t-1", "t-2"])
        self.assertEqual(self.ask("DELETE", "/Marti/vcm?id=t-1")[0], 200)
        self.server.terminate()
        self.assertEqual(self.server.wait(), 0)
        self.server.start()
        self.assertEqual(self.uids(), ["t-2"])
        self.assertEqual(len(list(folder.glob("*.xml"))), 2)
