from __future__ import annotations

from hashlib import sha256
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from tests.fakes import principal
from tests.marti.asking import spell
from tests.marti.file_server import BOUNDARY, FORM, FileServer, form

DATA = b"PK\x03\x04" + bytes(range(256)) * 40
HASH = sha256(DATA).hexdigest()
UNKNOWN = "0" * 64
UPLOAD = "/Marti/sync/missionupload"
URL = f"http://tak.example:8080/Marti/sync/content?hash={HASH}".encode()
ALICE, BOB = principal("alice"), principal("bob")


class SyncTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = FileServer(self)

    def test_row02_unknown(self) -> None:
        """Of an unknown package ATAK is told 404, and then uploads it; anything else would end the transfer."""
        self.assertEqual(self.ask("GET", f"/Marti/sync/missionquery?hash={UNKNOWN}").status, 404)
        for hash in ("", "zz", UNKNOWN[1:]):
            self.assertEqual(self.ask("GET", f"/Marti/sync/missionquery?hash={hash}").status, 400)
        self.assertEqual(self.ask("GET", "/Marti/sync/missionquery").status, 400)
        self.assertEqual(self.ask("POST", "/Marti/sync/missionquery").status, 405)

    def test_row03_upload(self) -> None:
        """A package may come without a hash and without a device; the answer is its URL and nothing else."""
        answer = self.ask("POST", UPLOAD, form(DATA), FORM)
        self.assertEqual((answer.status, answer.type, answer.body), (200, "text/plain", URL))
        self.assertEqual([record.name for record in self.ask.records()], ["Fotos.zip"])

    def test_row04_wrong_hash(self) -> None:
        """A content that is not what was announced is refused, and nothing of it stays."""
        answer = self.ask("POST", f"{UPLOAD}?hash={UNKNOWN}", form(DATA), FORM)
        self.assertEqual(answer.status, 400)
        self.assertIn(HASH, answer.json["message"])
        self.assertEqual((self.ask.records(), self.ask.contents(), self.ask.incoming()), ([], set(), []))
        self.assertEqual(self.ask("POST", f"{UPLOAD}?hash=zz", form(DATA), FORM).status, 400)
        self.assertEqual(self.ask("POST", f"{UPLOAD}?hash={HASH.upper()}", form(DATA), FORM).body, URL)

    def test_row05_repeated(self) -> None:
        """An upload that is repeated answers the same, and there is still one file."""
        for _ in range(2):
            self.assertEqual(self.ask("POST", f"{UPLOAD}?filename=a.zip&creatorUid=A", form(DATA), FORM).body, URL)
        self.assertEqual(len(self.ask.records()), 1)
        self.ask("POST", f"{UPLOAD}?filename=a.zip&creatorUid=B", form(DATA), FORM)
        self.assertEqual(len(self.ask.records()), 2)

    def test_row06_known(self) -> None:
        """A known package is found in any spelling of its hash; the answer is the URL, without a line feed."""
        self.ask.upload(DATA)
        for hash in (HASH, HASH.upper()):
            for path in ("/Marti/sync/missionquery", "//Marti/sync/missionquery/"):
                answer = self.ask("GET", f"{path}?Hash={hash}&receiver=X")
                self.assertEqual((answer.status, answer.type, answer.body), (200, "text/plain", URL))

    def test_row07_content(self) -> None:
        """The receiver gets exactly the bytes that were uploaded, and their number before them."""
        self.ask.upload(DATA)
        answer = self.ask("GET", f"/Marti/sync/content?hash={HASH}&receiver=BRAVO%201")
        self.assertEqual((answer.status, answer.headers["content-length"]), (200, str(len(DATA))))
        self.assertEqual((answer.type, answer.body), ("application/x-zip-compressed", DATA))
        self.assertIn('filename="Fotos.zip"', answer.headers["content-disposition"])
        head = self.ask("HEAD", f"/Marti/sync/content?hash={HASH}")
        self.assertEqual((head.status, head.headers, head.body), (200, answer.headers, b""))

    def test_row08_offset(self) -> None:
        """A download that was cut is resumed with the status 200, which is the only one that ATAK takes."""
        self.ask.upload(DATA)
        answer = self.ask("GET", f"/Marti/sync/content?hash={HASH}&offset=10")
        self.assertEqual((answer.status, answer.body), (200, DATA[10:]))
        for offset, status in ((0, 200), (len(DATA) - 1, 200), (len(DATA), 416), (len(DATA) + 1, 416)):
            answer = self.ask("GET", f"/Marti/sync/content?hash={HASH}&offset={offset}")
            self.assertEqual(answer.status, status, offset)
        for text in ("-1", "x", "1.5"):
            self.assertEqual(self.ask("GET", f"/Marti/sync/content?hash={HASH}&offset={text}").status, 400)

    def test_row09_no_hash(self) -> None:
        """What is no hash is 400, above all if it looks like a path."""
        for query in ("hash=../../etc/passwd", "hash=zz", "hash=", "", f"hash={HASH}%00", "hash=%2e%2e", "uid="):
            answer = self.ask("GET", f"/Marti/sync/content?{query}")
            self.assertEqual((answer.status, answer.type), (400, "application/json"), query)

    def test_row10_unknown_content(self) -> None:
        """An unknown content is 404."""
        for query in (f"hash={UNKNOWN}", "uid=nobody"):
            self.assertEqual(self.ask("GET", f"/Marti/sync/content?{query}").status, 404)

    def test_row11_private(self) -> None:
        """A private package is in no list, and can be downloaded all the same: transfers to contacts need that."""
        self.ask.upload(DATA)
        self.assertEqual(self.ask.listed(), ["Fotos.zip"])
        answer = self.ask(
            "PUT", f"/Marti/api/sync/metadata/{HASH.upper()}/tool", b"private", {"Content-Type": "text/plain"}
        )
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.ask.listed(), [])
        for query in ("", "keywords=missionpackage", "tool=private"):
            self.assertEqual(self.ask.listed(query), [])
        self.assertEqual(self.ask("GET", f"/Marti/sync/content?hash={HASH}").body, DATA)
        self.assertEqual(self.ask("GET", f"/Marti/sync/missionquery?hash={HASH}").body, URL)

    def test_row12_search(self) -> None:
        """ATAK finds every entry as it wants it: strings that are not empty, and times with three digits."""
        self.ask.upload(DATA, "filename=a.zip")
        self.ask.upload(DATA + b"2", "filename=b.zip&creatorUid=B", ALICE)
        answer = self.ask("GET", "/Marti/sync/search?keywords=missionpackage&tool=public")
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual((answer.json["resultCount"], len(answer.json["results"])), (2, 2))
        for file in answer.json["results"]:
            for name in (
                "UID",
                "Name",
                "Hash",
                "PrimaryKey",
                "Size",
                "SubmissionUser",
                "MIMEType",
                "EXPIRATION",
                "Tool",
            ):
                self.assertIsInstance(file[name], str)
                self.assertNotEqual(file[name], "")
            self.assertRegex(file["SubmissionDateTime"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual((file["Keywords"], file["UID"]), (["missionpackage"], file["Hash"]))
        self.assertEqual([file["SubmissionUser"] for file in answer.json["results"]], ["anonymous", "alice"])
        self.assertEqual(self.ask("GET", "/Marti/sync/search?keywords=none").body, b'{"resultCount":0,"results":[]}')
        self.assertEqual(self.ask("POST", "/Marti/sync/search").status, 405)

    def test_row13_itak(self) -> None:
        """What iTAK uploads, as it is and with a name without a suffix, is a package in everybody's list."""
        target = "/Marti/sync/upload?CreatorUid=ABC-1&keywords=missionpackage&name=FM05-iOS.05.142741.zip"
        headers = {"User-Agent": "iTAK/602 CFNetwork/1410", "Content-Type": "application/x-zip-compressed"}
        answer = self.ask("POST", target, DATA, headers)
        self.assertEqual((answer.status, answer.type, answer.json["Hash"]), (200, "application/json", HASH))
        self.assertEqual((answer.json["CreatorUid"], answer.json["Size"]), ("ABC-1", str(len(DATA))))
        self.assertEqual(self.ask.listed(), ["FM05-iOS.05.142741.zip"])

    def test_row14_doubled_slash(self) -> None:
        """Older servers have handed out URLs with two slashes; they work."""
        self.ask.upload(DATA)
        self.assertEqual(self.ask("GET", "//Marti/sync/search").status, 200)
        self.assertEqual(self.ask("GET", f"//Marti//sync/content?hash={HASH}").body, DATA)

    def test_row15_parts(self) -> None:
        """The file may be the part ``resource``, or the only one that is a file; a form without one is 400."""
        for field, status in (("resource", 200), ("foo", 200)):
            self.assertEqual(self.ask("POST", UPLOAD, form(DATA, field), FORM).status, status, field)
        text = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="foo"\r\n\r\nx\r\n--{BOUNDARY}--\r\n'.encode()
        for body in (text, b"", b"rubbish", form(DATA)[:-10], form(DATA)[:60]):
            self.assertEqual(self.ask("POST", UPLOAD, body, FORM).status, 400, body[:100])
        for kind in ("application/zip", "multipart/form-data", "multipart/form-data; boundary=", ""):
            self.assertEqual(self.ask("POST", UPLOAD, form(DATA), {"Content-Type": kind}).status, 400, kind)
        self.assertEqual(self.ask.incoming(), [])

    def test_row16_too_large(self) -> None:
        """One byte over the limit is refused before it is sent, or as soon as it came, and nothing of it stays."""
        self.ask = FileServer(self, limits=Limits(upload_bytes=5000))
        self.assertEqual(self.ask("POST", UPLOAD, form(b"x" * 5000), FORM).status, 200)
        self.assertEqual(self.ask("POST", UPLOAD, form(b"x" * 5001), FORM).status, 413)
        upload = "/Marti/sync/upload?name=a"
        self.assertEqual(self.ask("POST", upload, b"y" * 5000).status, 200)
        connection = self.ask.connect()
        connection.send(spell("POST", upload, headers={"Content-Length": "5001"}))
        self.assertEqual(connection.answer().status, 413, "not a byte of the body was waited for")
        connection.lose()
        chunked = {"Transfer-Encoding": "chunked", "Content-Length": ""}
        for size, status in ((5000, 200), (5001, 413)):
            connection = self.ask.connect()
            head = f"POST {upload} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode()
            connection.send(head + b"z" * size + b"\r\n0\r\n\r\n")
            self.assertEqual(self.ask.answer(connection, "POST").status, status, chunked)
            connection.lose()
        self.assertEqual((len(self.ask.records()), len(self.ask.contents()), self.ask.incoming()), (3, 3, []))

    def test_package_words(self) -> None:
        """A package is a package whatever the uploader calls it, and has the name and the groups that it says."""
        red = principal("alice", {"red", "blue"}, {"red"})
        self.ask.upload(
            DATA, "filename=..%2f..%2fP%C3%A4ck%20+1.zip&keyword=a&keyword=b,c&Groups=red&mimetype=a/b", red
        )
        (record,) = self.ask.records()
        self.assertEqual((record.name, record.keywords), ("Päck  1.zip", ("missionpackage", "a", "b", "c")))
        self.assertEqual((record.groups, record.mime_type, record.uid), ({"red"}, "a/b", HASH))
        answer = self.ask("POST", f"{UPLOAD}?filename=a&Groups=green", form(DATA), FORM, red)
        self.assertEqual(answer.status, 403)
        self.assertIn("green", answer.json["message"])

    def test_groups(self) -> None:
        """A file is there for who hears one of its groups; for others it is not there at all."""
        red, blue = principal("r", {"red"}, {"red"}), principal("b", {"blue"}, {"blue"})
        self.ask.upload(DATA, who=red)
        for target in (f"content?hash={HASH}", f"content?uid={HASH}", f"missionquery?hash={HASH}"):
            self.assertEqual(self.ask("GET", f"/Marti/sync/{target}", who=red).status, 200, target)
            self.assertEqual(self.ask("GET", f"/Marti/sync/{target}", who=blue).status, 404, target)
        self.assertEqual((len(self.ask.listed(who=red)), self.ask.listed(who=blue)), (1, []))
        self.assertEqual(self.ask("DELETE", f"/Marti/sync/delete?hash={HASH}", who=blue).status, 404)

    def test_own_private(self) -> None:
        """Its owner finds a private file; nobody else does, whatever is asked for."""
        self.ask.upload(DATA, "filename=a.zip&tool=private", ALICE)
        self.ask.upload(DATA + b"2", "filename=b.zip&tool=other", ALICE)
        self.assertEqual(self.ask.listed("keywords=missionpackage", ALICE), ["a.zip", "b.zip"])
        self.assertEqual(self.ask.listed("keywords=missionpackage", BOB), [])
        self.assertEqual(self.ask.listed("tool=private", BOB), [])
        self.assertEqual(self.ask.listed("", BOB), ["b.zip"])

    def test_any_file(self) -> None:
        """Any file may be uploaded with all that is said of it, raw or in a form, and is found by its uid."""
        query = "name=n.jpg&uid=U-1&tool=t&latitude=1.5&longitude=-2&altitude=3&remarks=r&EXPIRATION=1900000000"
        answer = self.ask("POST", f"/Marti/sync/upload?{query}&permissions=p&contacts=c,d&keywords=k&x=y", DATA)
        expected = {
            "UID": "U-1",
            "Name": "n.jpg",
            "Hash": HASH,
            "PrimaryKey": "1",
            "Tool": "t",
            "Latitude": "1.5",
            "Longitude": "-2.0",
            "Altitude": "3.0",
            "Remarks": "r",
            "EXPIRATION": "1900000000",
            "Permissions": ["p"],
            "Contacts": ["c", "d"],
            "Keywords": ["k"],
            "Groups": ["__ANON__"],
            "MIMEType": "application/octet-stream",
        }
        self.assertEqual({name: answer.json.get(name) for name in expected}, expected)
        self.assertEqual(self.ask("GET", "/Marti/sync/content?UID=U-1").body, DATA)
        answer = self.ask("POST", "/Marti/sync/upload", form(b"2", name="x\\y.zip"), FORM)
        self.assertEqual((answer.json["Name"], answer.json["MIMEType"]), ("y.zip", "application/x-zip-compressed"))
        self.assertRegex(answer.json["UID"], "^[0-9a-f-]{36}$")
        empty = self.ask("POST", "/Marti/sync/upload?name=empty", b"", {"Content-Type": "text/html; charset=x"})
        self.assertEqual((empty.json["Size"], empty.json["MIMEType"]), ("0", "text/html"))
        download = self.ask("GET", f"/Marti/sync/content?hash={empty.json['Hash']}&offset=0")
        self.assertEqual((download.status, download.body), (200, b""))
        self.assertEqual(download.headers["x-content-type-options"], "nosniff")
        for method, path, status in (("GET", "upload", 405), ("PUT", "content", 405), ("POST", "content", 405)):
            self.assertEqual(self.ask(method, f"/Marti/sync/{path}").status, status)

    def test_delete(self) -> None:
        """Who uploaded a file may delete it, by number or hash; nobody else, and least of all who is anonymous."""
        self.ask.upload(DATA, who=ALICE)
        self.ask.upload(DATA, who=BOB)
        self.ask.upload(DATA)
        for query in (f"hash={HASH}", "PrimaryKey=1", "PrimaryKey=3"):
            for method in ("GET", "POST", "DELETE"):
                self.assertEqual(self.ask(method, f"/Marti/sync/delete?{query}").status, 403)
        self.assertEqual(self.ask("DELETE", "/Marti/sync/delete?PrimaryKey=2", who=ALICE).status, 403)
        answer = self.ask("GET", "/Marti/sync/delete?PrimaryKey=1&PrimaryKey=2", who=ALICE)
        self.assertEqual((answer.status, answer.type), (200, "text/html"))
        self.assertIn(b"Deleted 1 resource(s).", answer.body)
        self.assertEqual(self.ask("DELETE", f"/Marti/sync/delete?hash={HASH}", who=ALICE).status, 403)
        self.assertEqual(self.ask.contents(), {HASH})
        form_type = {"Content-Type": "application/x-www-form-urlencoded"}
        self.assertEqual(self.ask("POST", "/Marti/sync/delete", f"hash={HASH}".encode(), form_type, BOB).status, 200)
        self.assertEqual([record.number for record in self.ask.records()], [3])
        self.assertEqual(self.ask("DELETE", "/Marti/sync/delete?PrimaryKey=99", who=BOB).status, 404)
        for query in ("PrimaryKey=x", "PrimaryKey=-1", "", f"PrimaryKey={'9' * 20}", "PrimaryKey=%C2%B2"):
            self.assertEqual(self.ask("DELETE", f"/Marti/sync/delete?{query}", who=BOB).status, 400, query)

    def test_url(self) -> None:
        """The URL has the address by which the client reached the server."""
        body = self.ask("POST", UPLOAD, form(DATA), FORM | {"Host": "10.0.0.5:8443"}, ALICE).body
        self.assertEqual(body, f"https://10.0.0.5:8443/Marti/sync/content?hash={HASH}".encode())
        self.ask.asking.info.public_url = "https://tak.example.org"
        body = self.ask("GET", f"/Marti/sync/missionquery?hash={HASH}", headers={"Host": "evil"}).body
        self.assertEqual(body, f"https://tak.example.org/Marti/sync/content?hash={HASH}".encode())

    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from(["missionquery", "content", "search", "delete", "upload", "missionupload"]),
        st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]),
        st.lists(
            st.tuples(
                st.sampled_from(
                    [
                        "hash",
                        "uid",
                        "name",
                        "filename",
                        "keywords",
                        "tool",
                        "offset",
                        "length",
                        "bbox",
                        "circle",
                        "Groups",
                    ]
                ),
                st.text(max_size=30) | st.sampled_from([HASH, UNKNOWN, "1", "-1", "1e999", "nan", "../../x", "0,0,1"]),
            ),
            max_size=4,
        ),
        st.binary(max_size=200)
        | st.just(form(DATA))
        | st.just(form(DATA, name="../\x00\udcff".encode("utf-8", "replace").decode())),
    )
    def test_hostile(self, path: str, method: str, query: list[tuple[str, str]], body: bytes) -> None:
        """Whatever is asked, the server makes no mistake of its own, and nothing leaves its folder."""
        text = "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in query)
        headers = FORM if body.startswith(b"--") else {}
        answer = self.ask(method, f"/Marti/sync/{path}?{text}", body, headers)
        self.assertLess(answer.status, 500, (path, method, text))
        self.assertEqual({path.name for path in self.ask.upload_path.iterdir()}, {"blobs"})
