from __future__ import annotations

from hashlib import sha256
from time import process_time

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.enterprise_sync.upload import PAUSE_BYTES
from tests.marti.asking import spell
from tests.marti.file_server import FORM, FileServer, form

TARGET = "/Marti/sync/missionupload?filename=a.zip"


class UploadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = FileServer(self)

    def test_cut_anywhere(self) -> None:
        """However the network cuts a form, the same file comes out of it."""
        data = b"\r\n--\r\n" * 10
        wire = spell("POST", TARGET, form(data), FORM)
        for size in (1, 2, 3, 7, 50):
            connection = self.ask.connect()
            for at in range(0, len(wire), size):
                connection.send(wire[at : at + size])
            self.assertEqual(self.ask.answer(connection).body[-64:].decode(), sha256(data).hexdigest(), size)
            connection.lose()

    def test_paused(self) -> None:
        """A client that is faster than the disk is made to wait, and let go on, and all of it arrives."""
        data = bytes(range(256)) * 8192
        wire = spell("POST", TARGET, form(data), FORM)
        connection = self.ask.connect()
        transport = connection.transport
        waited, taken = 0, 0
        while taken < len(wire):
            connection.send(wire[taken : taken + 65536])
            taken += 65536
            while transport.producerState == "paused":
                waited += 1
                self.ask.clock.run_one()
        self.assertGreater(waited, len(data) // PAUSE_BYTES // 2)
        self.assertEqual(self.ask.answer(connection).status, 200)
        self.assertEqual(self.ask("GET", f"/Marti/sync/content?hash={sha256(data).hexdigest()}").body, data)
        connection.lose()

    def test_client_goes_away(self) -> None:
        """Of an upload that is broken off nothing stays, wherever it breaks."""
        wire = spell("POST", TARGET, form(b"x" * 500_000), FORM)
        for sent in (0, 200, 1000, 300_000, len(wire) - 1):
            connection = self.ask.connect()
            connection.send(wire[:sent])
            connection.lose()
            self.assertEqual(self.ask.incoming(), [])
        self.assertEqual((self.ask.records(), self.ask.contents()), ([], set()))

    def test_gone_after_all(self) -> None:
        """What was complete before the client went away is stored, and found when it asks again."""
        connection = self.ask.connect()
        connection.send(spell("POST", TARGET, form(b"data"), FORM))
        connection.lose()
        while not self.ask.listed():
            self.ask.clock.run_one()
        self.assertEqual(self.ask("GET", f"/Marti/sync/content?hash={sha256(b'data').hexdigest()}").body, b"data")

    def test_too_many(self) -> None:
        """One client has so many uploads on their way, and one more when one of them is over."""
        self.ask = FileServer(self, limits=Limits(uploads_per_principal=2))
        wire = spell("POST", TARGET, form(b"data"), FORM)
        first, second = self.ask.connect(), self.ask.connect()
        for connection in (first, second):
            connection.send(wire[:-5])
        self.assertEqual(self.ask("POST", TARGET, form(b"data"), FORM).status, 429)
        first.lose()
        self.assertEqual(self.ask("POST", TARGET, form(b"data"), FORM).status, 200)
        second.send(wire[-5:])
        self.assertEqual(self.ask.answer(second).status, 200)
        second.lose()

    def test_full(self) -> None:
        """When there are as many files as there may be, an upload is refused before it is sent, and says why."""
        self.ask = FileServer(self, limits=Limits(stored_files=1))
        self.ask.upload(b"1")
        connection = self.ask.connect()
        connection.send(spell("POST", TARGET, headers=FORM | {"Content-Length": "1000"}))
        answer = connection.answer()
        self.assertEqual(answer.status, 507)
        self.assertIn("stored_files", answer.json["message"])
        connection.lose()

    def test_hostile_type(self) -> None:
        """A content type that is all quotes and backslashes is refused at once: some parsers try for hours."""
        for said in ('\\"' * 200 + "x", "\\" * 400 + "x", "\\" * 401, '"' * 401):
            for name in ("boundary", "a"):
                kind = f'multipart/form-data; {name}="{said}'
                began = process_time()
                self.assertEqual(self.ask("POST", TARGET, form(b"data"), {"Content-Type": kind}).status, 400, kind)
                self.assertLess(process_time() - began, 1)

    def test_form_type(self) -> None:
        """Who sends raw bytes and says nothing of their type gets the type of any file."""
        answer = self.ask("POST", "/Marti/sync/upload", b"x", {"Content-Type": "application/x-www-form-urlencoded"})
        self.assertEqual(answer.json["MIMEType"], "application/octet-stream")
        self.assertEqual(answer.json["Name"], answer.json["Hash"])
