"""What taky 0.10 has in Redis is on our clients' maps, and what we keep there is what taky reads."""

from __future__ import annotations

import time
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import StreamClient
from tests.end_to_end.taky_venv import run_taky
from tests.redis_server import RedisServer
from tests.samples import delete, marker, sa, xml

HOST = "tak.example"

OPENED = """
import sys
from lxml import etree
from taky import config
from taky.cot import models, persistence
config.load_config()
config.app_config.set("taky", "hostname", sys.argv[1])
config.app_config.set("taky", "redis", sys.argv[2])
kept = persistence.build_persistence()
assert type(kept) is persistence.RedisPersistence
"""
"""taky's own way to its items."""
WRITE = (
    OPENED
    + """
for document in sys.stdin.buffer.read().split(b"\\0"):
    kept.track(models.Event.from_elm(etree.fromstring(document)))
"""
)
READ = (
    OPENED
    + """
events = [etree.tostring(event.as_element) for event in kept.get_all()]
sys.stdout.buffer.write(b"\\0".join(events))
"""
)


def drawing(uid: str, **keys: object) -> bytes:
    """Spell a drawing with what a detail may have in it."""
    detail = '<shape><polyline closed="true"><vertex lat="1" lon="2"/></polyline></shape><remarks>Ä &lt; 猫</remarks>'
    return xml(uid, "u-d-f", f'<contact callsign="Fläche"/>{detail}', **keys)  # type: ignore[arg-type]


class TakyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.redis = RedisServer(self)
        self.url = f"redis://127.0.0.1:{self.redis.port}/0"

    def server(self, *options: str) -> ServerProcess:
        """Start our server where taky was: its configuration names the host and Redis as taky's did."""
        server = ServerProcess(self, *options)
        (server.folder / "taky.conf").write_text(f"[taky]\nhostname = {HOST}\nredis = {self.url}\n", "utf-8")
        return server.start()

    def taky_writes(self, *documents: bytes) -> None:
        """Have taky keep events."""
        run_taky(WRITE, HOST, self.url, stdin=b"\0".join(documents))

    def taky_reads(self) -> dict[str, ElementTree.Element]:
        """Ask taky what it finds."""
        found = [ElementTree.fromstring(each) for each in run_taky(READ, HOST, self.url).split(b"\0") if each]
        return {event.attrib["uid"]: event for event in found}

    def test_of_taky(self) -> None:
        """Markers and drawings that taky has kept are on the map of whoever connects to us, until they are stale."""
        now = time.time()
        self.taky_writes(
            marker("M-1", "Brücke", now=now, stale=600),
            drawing("D-1", now=now, stale=600),
            marker("short", now=now, stale=25),
            sa("PHONE", "FOX", now=now, stale=600),
        )
        self.assertEqual(len(self.redis.keys(f"taky:{HOST}:persist:*")), 4)
        server = self.server()
        events = {event.get("uid"): event for event in StreamClient(self, server.port()).so_far()}
        self.assertEqual(set(events), {"M-1", "D-1", "short"})
        contact = events["M-1"].find("detail/contact")
        assert contact is not None
        self.assertEqual(contact.get("callsign"), "Brücke")
        self.assertEqual(events["D-1"].findtext("detail/remarks"), "Ä < 猫")
        self.assertIsNotNone(events["D-1"].find("detail/shape/polyline/vertex"))
        time.sleep(max(0.0, now + 26 - time.time()))
        client = StreamClient(self, server.port())
        self.assertEqual(set(client.uids()), {"M-1", "D-1"})
        client.say(sa("A", "A", now=time.time()), delete("M-1", now=time.time()))
        client.so_far()
        time.sleep(0.3)
        self.assertEqual(set(self.taky_reads()), {"D-1", "PHONE"}, "reports of people are left as they are")

    def test_of_ours(self) -> None:
        """It finds what we have kept, and its newer copy is what we show after a restart."""
        server = self.server()
        client = StreamClient(self, server.port())
        now = time.time()
        client.say(sa("A", "A", now=now), marker("M-1", "Brücke", now=now), drawing("D-1", now=now, stale=600))
        client.so_far()
        time.sleep(0.3)
        found = self.taky_reads()
        self.assertEqual(set(found), {"M-1", "D-1"})
        contact = found["M-1"].find("detail/contact")
        assert contact is not None
        self.assertEqual((contact.get("callsign"), found["M-1"].get("type")), ("Brücke", "a-h-G"))
        self.assertEqual(found["D-1"].findtext("detail/remarks"), "Ä < 猫")
        server.kill()
        self.taky_writes(marker("M-1", "Furt", now=now + 1), marker("M-2", now=now))
        server.start()
        events = {event.get("uid"): event for event in StreamClient(self, server.port()).so_far()}
        self.assertLessEqual({"M-1", "M-2", "D-1"}, set(events))
        contact = events["M-1"].find("detail/contact")
        assert contact is not None
        self.assertEqual(contact.get("callsign"), "Furt")
