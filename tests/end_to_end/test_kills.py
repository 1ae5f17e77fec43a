"""A server that is killed again and again under load: what is older than a second is always there afterwards.

``TAKY_KILLS`` says how often, ``TAKY_KEPT_SECONDS`` what a kill may cost: one second, on a machine whose disk does
nothing else. By default it is as much as a disk may need that others keep busy, and longer by what it needs for a few
bytes of the test at that time.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from hashlib import sha256
from http.client import HTTPException
from threading import Thread

from tests.disk import Disk
from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import StreamClient
from tests.end_to_end.test_stored_files import DOORS, FilesTestCase
from tests.marti.file_server import FORM, form
from tests.samples import delete, marker, sa

KILLS = int(os.environ.get("TAKY_KILLS", "3"))
RATE = 300
"""Events in a second."""
ITEMS = 400
"""Different items; one in ten is deleted from time to time."""
STRICT = "TAKY_KEPT_SECONDS" in os.environ
KEPT_SECONDS = float(os.environ.get("TAKY_KEPT_SECONDS", "6"))
"""What a kill may cost at most."""
BUSY_SECONDS = (KEPT_SECONDS + 0.2, KEPT_SECONDS + 1.5)
QUIET_SECONDS = 1.0
_NUMBER = re.compile(rb'<n at="(\d+)"/>')
_UID = re.compile(rb'uid="(M-\d+)"')


class KillsTests(FilesTestCase):
    def setUp(self) -> None:
        self.server = ServerProcess(self, *DOORS).start()
        self.random = random.Random(8)
        self.said: dict[str, list[tuple[float, int]]] = {}
        """Of each item when it was said and with what number, the newest last; number 0 is a delete."""
        self.number = 0
        self.order: list[tuple[str, int, bool]] = []
        """What was said since the start, in order: item, number, whether it was deleted."""
        self.stored: dict[str, int] = {}
        self.stopping = False

    def talk(self, client: StreamClient, seconds: float) -> None:
        """Say things at the rate."""
        begin = time.monotonic()
        for count in range(int(seconds * RATE)):
            self.number += 1
            at = self.random.randrange(ITEMS)
            uid, now = f"M-{at}", time.time()
            gone = at % 10 == 0 and self.random.random() < 0.3
            document = delete(uid, now=now) if gone else marker(uid, now=now)
            client.say(document.replace(b"</detail>", b'<n at="%d"/></detail>' % self.number))
            self.order.append((uid, self.number, gone))
            time.sleep(max(0.0, begin + (count + 1) / RATE - time.monotonic()))

    def listen(self, witness: StreamClient, arrivals: dict[int, float]) -> None:
        """Note when each number was heard first: from then on the server has it."""
        rest = b""
        with contextlib.suppress(OSError):  # it has been killed
            while data := witness.socket.recv(1 << 18):
                *documents, rest = (rest + data).split(b"</event>")
                for document in documents:
                    if number := _NUMBER.search(document):
                        arrivals.setdefault(int(number[1]), time.monotonic())

    def upload_for_ever(self) -> None:
        number = 0
        while not self.stopping:
            number += 1
            data = os.urandom(self.random.choice((10, 5_000, 300_000)))
            try:
                status, _ = self.ask("POST", f"/Marti/sync/missionupload?filename=f-{time.time()}", form(data), FORM)
            except (OSError, IndexError, HTTPException):  # it has been killed, or is not up again
                time.sleep(0.05)
                continue
            if status == 200:
                self.stored[sha256(data).hexdigest()] = len(data)

    def check(self, killed: float, kept: float) -> None:
        """Compare what is there with what was said, of which a kill may have cost so many seconds."""
        client = StreamClient(self, self.server.port(0))
        found: dict[str, int] = {}
        heard = b""
        with contextlib.suppress(TimeoutError):  # it has been shown everything
            while data := client.socket.recv(1 << 20):
                heard += data
                client.socket.settimeout(QUIET_SECONDS)  # there is always something to show, at least who was there
        for document in heard.split(b"</event>"):
            number, item = _NUMBER.search(document), _UID.search(document)
            if number is not None and item is not None:
                found[item[1].decode()] = int(number[1])
        client.close()
        for uid, said in self.said.items():
            old = [number for at, number in said if at < killed - kept]
            if not old:
                continue
            newest, later = old[-1], [number for at, number in said if at >= killed - kept]
            allowed = {newest, *later}
            there = found.get(uid, 0)
            self.assertIn(there, allowed, f"{uid}: {there} is there, said {said[-5:]}, killed at {killed}")
            # What is there now is what counts from now on.
            self.said[uid] = [(0.0, found.get(uid, 0))]

    def test_kills(self) -> None:
        """However often it is killed, it starts, has every item that is old enough, and serves no half file."""
        uploading = Thread(target=self.upload_for_ever)
        uploading.start()
        self.addCleanup(uploading.join)
        self.addCleanup(setattr, self, "stopping", True)
        disk = Disk(self.server.folder)
        self.addCleanup(disk.thread.join)
        self.addCleanup(setattr, disk, "stopping", True)
        for _ in range(KILLS):
            client, witness = StreamClient(self, self.server.port(0)), StreamClient(self, self.server.port(0))
            client.say(sa("SENDER", "SENDER", now=time.time()))
            witness.wait_for_uid("SENDER")
            arrivals: dict[int, float] = {}
            listening = Thread(target=self.listen, args=(witness, arrivals))
            listening.start()
            disk.slowest()
            self.talk(client, self.random.uniform(*BUSY_SECONDS))
            killed, kept = time.monotonic(), KEPT_SECONDS + (0.0 if STRICT else disk.slowest())
            self.server.kill()
            listening.join()
            client.close()
            for uid, number, gone in self.order:
                self.said.setdefault(uid, []).append((arrivals.get(number, killed), 0 if gone else number))
            self.order.clear()
            self.server.start()
            self.check(killed, kept)
        self.stopping = True
        uploading.join()
        self.assertGreater(len(self.stored), KILLS)
        for digest in self.stored:
            self.assertEqual(sha256(self.download(digest)).hexdigest(), digest)
        for file in self.search():
            self.assertEqual(sha256(self.download(file["Hash"])).hexdigest(), file["Hash"])
