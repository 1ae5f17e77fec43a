from __future__ import annotations

from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import principal
from tests.marti.file_server import FileServer
from tests.threaded_clock import EPOCH

DATA = b"some data"
HASH = sha256(DATA).hexdigest()
METADATA = f"/Marti/api/sync/metadata/{HASH}"
ALICE, BOB = principal("alice"), principal("bob")


class SyncMetadataTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = FileServer(self)
        self.ask.upload(DATA, "filename=a.zip", ALICE)

    def test_fields(self) -> None:
        """The owner changes the tool, the type, the keywords and the expiration, and that survives a restart."""
        for field, body in (("tool", b" other\n"), ("mimetype", b"image/png"), ("keywords", '["ä","b","b"]'.encode())):
            answer = self.ask("PUT", f"{METADATA}/{field}", body, who=ALICE)
            self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.ask("PUT", f"{METADATA}/expiration?expiration={int(EPOCH) + 99}", who=ALICE).status, 200)
        self.ask.restart()
        (file,) = self.ask("GET", "/Marti/sync/search").json["results"]
        found = (file["Tool"], file["MIMEType"], file["Keywords"], file["EXPIRATION"])
        self.assertEqual(found, ("other", "image/png", ["ä", "b"], str(int(EPOCH) + 99)))
        self.assertEqual(self.ask("PUT", f"{METADATA}/tool", b"", who=ALICE).status, 200)
        self.assertEqual(self.ask("PUT", f"{METADATA}/expiration?expiration=-1", who=ALICE).status, 200)
        self.assertEqual([(record.tool, record.expiration) for record in self.ask.records()], [("", -1)])

    def test_refused(self) -> None:
        """What makes no sense is 400 and changes nothing; an unknown hash is 404."""
        before = self.ask.records()
        for path, body in (
            ("tool", b"\xff"),
            ("tool", b"a\nb"),
            ("tool", b"x" * 256),
            ("mimetype", b"no type"),
            ("keywords", b"{}"),
            ("keywords", b"[1]"),
            ("keywords", b"["),
            ("keywords", b"[" * 50_000),
            ("expiration", b""),
            ("expiration?expiration=soon", b""),
            ("expiration?expiration=1e300", b""),
            ("hash", b"x"),
        ):
            self.assertEqual(self.ask("PUT", f"{METADATA}/{path}", body, who=ALICE).status, 400, (path, body[:50]))
        unknown = METADATA.replace(HASH, "0" * 64)
        self.assertEqual(self.ask("PUT", f"{unknown}/tool", b"public", who=ALICE).status, 404)
        self.assertEqual(self.ask("PUT", "/Marti/api/sync/metadata/zz/tool", b"public", who=ALICE).status, 404)
        self.assertEqual(self.ask("PUT", f"{METADATA}/tool", b"x" * 100_000, who=ALICE).status, 413)
        self.assertEqual(self.ask.records(), before)

    def test_others(self) -> None:
        """ATAK sets the tool of what it passes on, too: it is told 200, and the owner's file stays in the list."""
        for who in (BOB, None):
            self.assertEqual(self.ask("PUT", f"{METADATA}/tool", b"private", who=who).status, 200)
        self.assertEqual(self.ask.listed(), ["a.zip"])

    def test_anonymous(self) -> None:
        """Who uploaded anonymously sets the tool afterwards; somebody anonymous from elsewhere does not."""
        self.ask.upload(DATA, "filename=b.zip&creatorUid=B")
        self.ask("PUT", f"{METADATA}/tool", b"private")
        self.assertEqual(self.ask.listed(), ["a.zip"])
        self.ask("PUT", f"{METADATA}/tool", b"public")
        self.assertEqual(self.ask.listed(), ["a.zip", "b.zip"])
        number = self.ask.records()[-1].number
        self.ask.sync.files._addresses[number] = "203.0.113.1"
        self.assertEqual(self.ask("PUT", f"{METADATA}/tool", b"private").status, 200)
        self.assertEqual(self.ask.listed(), ["a.zip", "b.zip"])

    def test_content(self) -> None:
        """Links that other servers have handed out lead to the content."""
        self.assertEqual(self.ask("GET", f"{METADATA}/tool?receiver=X").body, DATA)
        self.assertEqual(self.ask("GET", METADATA.replace(HASH, "0" * 64) + "/tool").status, 404)

    def test_search(self) -> None:
        """The newer search has numbers as numbers, in the envelope."""
        answer = self.ask("GET", "/Marti/api/sync/search?keyword=package&keyword=none&name=A.ZIP")
        self.assertEqual((answer.type, answer.json["type"]), ("application/json", "Resource"))
        (file,) = answer.json["data"]
        found = {name: file[name] for name in ("hash", "size", "expiration", "submitter", "keywords", "groups")}
        expected = {"hash": HASH, "size": 9, "expiration": -1, "submitter": "alice", "keywords": ["missionpackage"]}
        self.assertEqual(found, expected | {"groups": ["__ANON__"]})
        for query in ("mission=m", f"hash={'0' * 64}"):
            self.assertEqual(self.ask("GET", f"/Marti/api/sync/search?{query}").json["data"], [])
        self.assertEqual(self.ask("GET", f"/Marti/api/sync/search?hash={HASH.upper()}").json["data"], [file])
        self.assertEqual(self.ask("GET", "/Marti/api/sync/search?circle=1,2,3&box=1,2,3,4").status, 400)

    def test_admin(self) -> None:
        """What only administrators see is 403 for all others."""
        self.assertEqual(self.ask("GET", f"/Marti/api/resources/{HASH}", who=ALICE).status, 403)
        self.ask.asking.door.check_access = lambda request, access: None  # type: ignore[method-assign]  # all are
        answer = self.ask("GET", f"/Marti/api/resources/{HASH}", who=ALICE).json
        self.assertEqual((answer["type"], [file["hash"] for file in answer["data"]]), ("Resource", [HASH]))
        self.assertEqual(self.ask("GET", f"/Marti/api/resources/{'0' * 64}", who=ALICE).status, 404)
