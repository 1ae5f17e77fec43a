from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.enterprise_sync.files import Caller, Words
from taky_twisted.marti.long_lists import PIECE
from taky_twisted.routing.records import KnownContact
from tests.fakes import principal
from tests.marti.asking import spell
from tests.marti.file_server import FileServer
from tests.threaded_clock import EPOCH

DATA = b"some data"
HASH = sha256(DATA).hexdigest()
FILES = "/Marti/api/files"
ALICE, BOB = principal("alice"), principal("bob")


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = FileServer(self)

    def names(self, query: str) -> list[str]:
        return [file["Name"] for file in self.ask("GET", f"{FILES}/metadata?{query}").json["data"]]

    def test_metadata(self) -> None:
        """TAK Aware and people see texts only: sizes in units, times without a zone, callsigns."""
        known = KnownContact(
            "A", "ALPHA", "a-f", "", "", "", None, frozenset({"__ANON__"}), frozenset(), 1, 2, b"", True
        )
        hidden = KnownContact("B", "BRAVO", "a-f", "", "", "", None, frozenset({"red"}), frozenset(), 1, 2, b"", True)
        self.ask.contacts.restore([known, hidden], EPOCH)
        self.ask.upload(DATA, "filename=a.zip&creatorUid=A&keyword=x", ALICE)
        self.ask.upload(DATA, "filename=b.zip&creatorUid=B&expiration=1900000000")
        answer = self.ask("GET", f"{FILES}/metadata?missionPackage=true")
        self.assertEqual((answer.type, answer.json["type"]), ("application/json", "Files"))
        first, second = answer.json["data"]
        expected = {
            "Name": "a.zip",
            "User": "alice",
            "Creator": "ALPHA",
            "Size": "9B",
            "Time": "2026-03-01 10:00:00.000",
            "MimeType": "application/x-zip-compressed",
            "Keywords": "missionpackage,x",
            "Expiration": "none",
            "Hash": HASH,
            "Groups": "__ANON__",
            "Tool": "public",
        }
        self.assertEqual(first, expected)
        self.assertEqual((second["Creator"], second["Expiration"]), ("B", "2030-03-17T17:46:40"))

    def test_pages(self) -> None:
        """Lists come whole or in pages, sorted either way, filtered by name and for packages; they can be counted."""
        for name, size in (("b.zip", 3), ("a.zip", 1), ("C.zip", 2)):
            self.ask.upload(b"x" * size, f"filename={name}")
        self.ask("POST", "/Marti/sync/upload?name=photo.jpg", b"jpeg")
        self.assertEqual(self.names(""), ["b.zip", "a.zip", "C.zip", "photo.jpg"])
        self.assertEqual(self.names("missionPackage=true&sort=name"), ["a.zip", "b.zip", "C.zip"])
        self.assertEqual(self.names("missionPackage=true&sort=size&ascending=false"), ["b.zip", "C.zip", "a.zip"])
        self.assertEqual(self.names("sort=updateTime&name=.ZIP"), ["b.zip", "a.zip", "C.zip"])
        pages = [self.names(f"sort=name&page={page}&limit=3") for page in range(3)]
        self.assertEqual(pages, [["a.zip", "b.zip", "C.zip"], ["photo.jpg"], []])
        self.assertEqual((len(self.names("page=1")), len(self.names("limit=1")), self.names("mission=m")), (4, 4, []))
        for query, count in (("", 4), ("missionPackage=true", 3), ("mission=m", 0)):
            answer = self.ask("GET", f"{FILES}/metadata/count?{query}").json
            self.assertEqual((answer["type"], answer["data"]), ("Count", count))
        self.assertEqual(self.ask("GET", f"{FILES}/metadata?page=x").status, 400)

    def test_many(self) -> None:
        """A long list of any kind comes whole, while the server goes on with other work."""
        self.ask.upload(DATA)
        for number in range(2 * PIECE):
            words = Words(name=str(number), keywords=("missionpackage",))
            self.ask.sync.files.insert(words, HASH, len(DATA), Caller(), EPOCH)
        for path, entries in (
            ("/Marti/sync/search", "results"),
            ("/Marti/api/sync/search", "data"),
            (f"{FILES}/metadata", "data"),
        ):
            connection = self.ask.connect()
            connection.send(spell("GET", path))
            # Calls from threads until what was looked for is found: the upload's own may be among them.
            while all(call.getTime() > EPOCH for call in self.ask.clock.getDelayedCalls()):
                self.ask.clock.run_one()
            self.assertEqual(connection.transport.value(), b"", path)
            self.ask.clock.advance(0)
            self.assertEqual(len(connection.answer().json[entries]), 2 * PIECE + 1)
            connection.lose()

    def test_content(self) -> None:
        """A content is downloaded under its name; HEAD says how large it is."""
        self.ask.upload(DATA, "filename=a%22%C3%A4.zip")
        answer = self.ask("GET", f"{FILES}/{HASH.upper()}")
        self.assertEqual((answer.status, answer.body), (200, DATA))
        disposition = "attachment; filename=\"a__.zip\"; filename*=UTF-8''a%22%C3%A4.zip"
        self.assertEqual(answer.headers["content-disposition"], disposition)
        self.assertEqual(self.ask("HEAD", f"{FILES}/{HASH}").headers["content-length"], "9")
        for path in ("0" * 64, "zz"):
            self.assertEqual(self.ask("GET", f"{FILES}/{path}").status, 404)

    def test_delete(self) -> None:
        """The owner deletes a file, and then it is gone."""
        self.ask.upload(DATA, who=ALICE)
        self.assertEqual(self.ask("DELETE", f"{FILES}/{HASH}", who=BOB).status, 403)
        self.assertEqual(self.ask("DELETE", f"{FILES}/{HASH}").status, 403)
        self.assertEqual(self.ask("DELETE", f"{FILES}/{HASH}", who=ALICE).status, 200)
        self.assertEqual(self.ask("GET", f"{FILES}/{HASH}").status, 404)
        self.ask.incoming()
        self.assertEqual(self.ask.contents(), set())

    def test_delete_as_administrator(self) -> None:
        """An administrator deletes what is anybody's."""
        self.ask.upload(DATA, who=ALICE)
        self.assertEqual(self.ask("DELETE", f"{FILES}/{HASH}", who=replace(BOB, admin=True)).status, 200)
        self.assertEqual(self.ask("GET", f"{FILES}/{HASH}").status, 404)

    def test_change(self) -> None:
        """The owner changes keywords and expiration, each alone; who uploaded it stays true."""
        self.ask.upload(DATA, who=ALICE)
        target = f"{FILES}/{HASH}/metadata"
        self.assertEqual(self.ask("PUT", f"{target}?keywords=a,b&user=mallory", who=ALICE).status, 200)
        self.assertEqual(self.ask("PUT", f"{target}?expiration=1900000000", who=ALICE).status, 200)
        self.assertEqual(self.ask("PUT", f"{target}?keywords=", who=BOB).status, 200)
        (record,) = self.ask.records()
        self.assertEqual((record.keywords, record.expiration, record.submitter), (("a", "b"), 1.9e9, "alice"))
        self.assertEqual(self.ask("PUT", f"{FILES}/{'0' * 64}/metadata?keywords=a", who=ALICE).status, 404)

    def test_config(self) -> None:
        """CloudTAK learns how large an upload may be, in megabytes; nobody changes that here."""
        answer = self.ask("GET", "/files/api/config")
        self.assertEqual((answer.type, answer.body), ("application/json", b'{"uploadSizeLimit":400}'))
        self.assertEqual(self.ask("POST", "/files/api/config", b"{}", who=ALICE).status, 403)
        self.ask.asking.door.check_access = lambda request, access: None  # type: ignore[method-assign]  # all are
        answer = self.ask("POST", "/files/api/config", b"{}")
        self.assertEqual(answer.status, 501)
        self.assertIn("upload_bytes", answer.json["message"])
        small = FileServer(self, limits=Limits(upload_bytes=1024))
        self.assertEqual(small("GET", "/files/api/config").json, {"uploadSizeLimit": 1})
