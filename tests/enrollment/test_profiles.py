from __future__ import annotations

import io
import os
import time
import zipfile
from pathlib import Path

from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment import profiles as module
from taky_twisted.enrollment.profiles import CACHED, Profiles
from tests.fakes import LogLines


class ProfilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.profiles = Profiles(self.folder)
        self.log = LogLines(self)

    def put(self, name: str, content: bytes = b"content", kind: str = "enrollment") -> Path:
        """Put a file into a profile."""
        path = self.folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def made(self, since: float | None = None) -> bytes:
        """Make the package, which must have something in it."""
        package = self.profiles.package("enrollment", since)
        assert package is not None
        return package

    def entries(self, since: float | None = None) -> dict[str, bytes]:
        """Read the package, without its manifest."""
        package = zipfile.ZipFile(io.BytesIO(self.made(since)))
        return {name: package.read(name) for name in package.namelist() if name != "MANIFEST/manifest.xml"}

    def test_nothing(self) -> None:
        """Without a folder, and with an empty one, there is no profile."""
        self.assertIsNone(self.profiles.package("enrollment"))
        (self.folder / "enrollment").mkdir(parents=True)
        self.put("a.pref", kind="connection")
        self.assertIsNone(self.profiles.package("enrollment"))
        self.assertIsNotNone(self.profiles.package("connection"))

    def test_package(self) -> None:
        """A profile is a data package that is imported without a question, with all files of its folder."""
        self.put("teams.pref", b"<preferences/>")
        self.put("maps/Übersicht.zip", b"PK")
        self.put(".hidden")
        self.put(".git/config")
        self.assertEqual(self.entries(), {"teams.pref": b"<preferences/>", "maps/Übersicht.zip": b"PK"})
        package = zipfile.ZipFile(io.BytesIO(self.made()))
        self.assertEqual(package.namelist()[0], "MANIFEST/manifest.xml")
        spelled = package.read("MANIFEST/manifest.xml")
        self.assertIn(b'version="2"', spelled)
        manifest = etree.fromstring(spelled)
        parameters = {each.get("name"): each.get("value") for each in manifest.iter("Parameter")}
        self.assertEqual(parameters["name"], "Enrollment")
        self.assertEqual((parameters["onReceiveImport"], parameters["onReceiveDelete"]), ("true", "true"))
        listed = [each.get("zipEntry") for each in manifest.iter("Content")]
        self.assertEqual(listed, ["maps/Übersicht.zip", "teams.pref"])

    def test_cached(self) -> None:
        """As long as nothing changes it is made once; a change is seen at the next request."""
        path = self.put("a.pref", b"1")
        first = self.made()
        self.assertIs(self.made(), first)
        path.write_bytes(b"22")
        second = self.made()
        self.assertNotEqual(first, second)
        self.put("b.pref")
        self.assertEqual(set(self.entries()), {"a.pref", "b.pref"})
        for number in range(2 * CACHED):
            self.put("c.pref", b"x" * number)
            self.made()
        self.assertEqual(len(self.profiles._made), CACHED)

    def test_uid(self) -> None:
        """The same content is the same package for a phone, however often it is made; other content is another."""
        self.put("a.pref", b"1")
        first = self.made()
        self.profiles = Profiles(self.folder)
        self.assertEqual(self.made(), first)
        self.put("a.pref", b"2")
        uids: set[str | None] = set()
        for package in (first, self.made()):
            manifest = etree.fromstring(zipfile.ZipFile(io.BytesIO(package)).read("MANIFEST/manifest.xml"))
            (uid,) = [each.get("value") for each in manifest.iter("Parameter") if each.get("name") == "uid"]
            uids.add(uid)
        self.assertEqual(len(uids), 2)

    def test_since(self) -> None:
        """Who has asked before is given what was put there since, also if the file says that it is older."""
        path = self.put("a.pref")
        os.utime(path, (1, 1))
        now = time.time()
        self.assertEqual(set(self.entries(now - 60)), {"a.pref"})
        self.assertIsNone(self.profiles.package("enrollment", now + 60))

    def test_too_much(self) -> None:
        """What does not fit into memory is given to nobody, and the operator is told so, once."""
        self.patch(module, "MAX_BYTES", 10)
        self.patch(module, "MAX_FILES", 2)
        self.put("a", b"x" * 10)
        self.assertEqual(set(self.entries()), {"a"})
        self.put("b", b"x")
        for _ in range(2):
            self.assertIsNone(self.profiles.package("enrollment"))
        self.put("a", b"")
        self.put("b", b"")
        self.assertEqual(set(self.entries()), {"a", "b"})
        self.put("c", b"")
        self.assertIsNone(self.profiles.package("enrollment"))
        (line,) = self.log()
        self.assertIn("take something out", line)

    def test_unreadable(self) -> None:
        """A file that cannot be read spoils the profile, not the request; the operator is told so."""
        self.put("a.pref")

        def fail(kind: str, files: object) -> bytes:
            raise PermissionError(13, "Permission denied")

        self.patch(module, "_zip", fail)
        self.assertIsNone(self.profiles.package("enrollment"))
        self.assertIn("Permission denied; nobody is given that profile", self.log()[0])

    def test_strange(self) -> None:
        """What is no file, or has a name that is no text, is left out; the others are given away."""
        self.put("a.pref")
        top = self.folder / "enrollment"
        (top / "gone").symlink_to("nowhere")
        os.mkfifo(top / "pipe")
        (top / "bad\nname").write_bytes(b"")
        Path(os.fsdecode(os.fsencode(top) + b"/\xff")).write_bytes(b"")
        self.assertEqual(set(self.entries()), {"a.pref"})
        self.assertEqual(len(self.log()), 2)
