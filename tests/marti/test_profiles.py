from __future__ import annotations

import os
import random
import time
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.download import PIECE_BYTES
from taky_twisted.marti.profiles import AT_ONCE_BYTES
from tests.fakes import principal
from tests.marti.asking import Answer, Connection, spell
from tests.marti.enroll_server import EnrollServer

CONNECTION = "/Marti/api/device/profile/connection"


class ProfilesAreaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = EnrollServer(self)

    def ask(self, target: str, method: str = "GET") -> Answer:
        """Ask with a certificate."""
        return self.server.ask(method, target, who=principal("alice"))

    def put(self, name: str, kind: str = "connection") -> Path:
        """Put a file into a profile."""
        path = self.server.folder / "profiles" / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
        return path

    def test_none(self) -> None:
        """ATAK asks on each connection and takes 204 for none; anything else alarms its user."""
        for path in (
            *(CONNECTION, f"{CONNECTION}?syncSecago=10&clientUid=A", f"{CONNECTION}?syncSecago=&clientUid="),
            *("/Marti/api/device/profile/enrollment", "/Marti/api/device/profile/tool/x?syncSecago=-1"),
        ):
            answer = self.ask(path)
            self.assertEqual((answer.status, answer.body), (204, b""), path)

    def test_package(self) -> None:
        """What the operator has put there comes as a package; asking for its headers only works, too."""
        self.put("a.pref")
        answer = self.ask(CONNECTION)
        self.assertEqual((answer.status, answer.type), (200, "application/zip"))
        self.assertEqual(answer.headers["content-disposition"], "attachment; filename=profile.zip")
        self.assertIn("a.pref", zipfile.ZipFile(BytesIO(answer.body)).namelist())
        self.assertEqual(self.ask(CONNECTION, "HEAD").status, 200)
        self.put("b.pref", "enrollment")
        enrollment = self.ask("/Marti/api/device/profile/enrollment")
        self.assertIn("b.pref", zipfile.ZipFile(BytesIO(enrollment.body)).namelist())

    def test_large(self) -> None:
        """A large package comes whole, and waits for who reads it slowly; asking for its headers brings these alone."""
        self.put("map.zip").write_bytes(random.Random(1).randbytes(3 * AT_ONCE_BYTES))
        head = self.ask(CONNECTION, "HEAD")
        self.server.door.who = principal("alice")
        connection = Connection(self.server.door)
        connection.send(spell("GET", CONNECTION))
        while not connection.transport.value():
            self.server.reactor.run_one()
        producer: Any = connection.transport.producer
        producer.pauseProducing()
        self.server.reactor.run_one()
        before = len(connection.transport.value())
        self.assertLess(before, 2 * PIECE_BYTES)
        producer.resumeProducing()
        while len(connection.transport.value()) < int(head.headers["content-length"]):
            self.server.reactor.run_one()
        answer = connection.answer()
        connection.lose()
        self.assertEqual(str(len(answer.body)), head.headers["content-length"])
        self.assertIsNone(zipfile.ZipFile(BytesIO(answer.body)).testzip())

    def test_left(self) -> None:
        """Who leaves in the middle of it is no trouble."""
        self.put("map.zip").write_bytes(random.Random(1).randbytes(2 * AT_ONCE_BYTES))
        self.server.door.who = principal("alice")
        connection = Connection(self.server.door)
        connection.send(spell("GET", CONNECTION))
        while not connection.transport.value():
            self.server.reactor.run_one()
        connection.lose()
        self.assertEqual(self.ask(CONNECTION, "HEAD").status, 200)

    def test_since(self) -> None:
        """Who has asked before gets what is new; who says nothing, or nonsense, gets all."""
        self.put("a.pref")
        self.server.reactor.rightNow = time.time() + 1000
        for query, status in (
            *(("?syncSecago=10", 204), ("?syncSecago=2000", 200), ("?syncSecago=-1", 200), ("", 200)),
            *(("?syncSecago=nonsense", 200), ("?syncSecago=nan", 200), ("?syncSecago=1e300", 200)),
        ):
            self.assertEqual(self.ask(CONNECTION + query).status, status, query)

    def test_unreadable(self) -> None:
        """Whatever is wrong with the folder is not the phone's fault."""
        self.put("a.pref")
        os.symlink("loop", self.server.folder / "profiles" / "connection" / "loop")
        self.assertEqual(self.ask(CONNECTION).status, 200)

    def test_anonymous(self) -> None:
        """Who has no certificate gets none of it."""
        self.put("a.pref")
        self.assertEqual(self.server.ask("GET", CONNECTION).status, 401)
