from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync import takeover
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.enterprise_sync.takeover import Unusable, read_package, take_over
from tests.enterprise_sync.stored_files import ALICE, StoredFiles
from tests.enterprise_sync.taky_folder import TakyFolder
from tests.fakes import LogLines


class TakeOverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stored = StoredFiles(self)
        self.taky = TakyFolder(self.stored.upload_path)
        self.marker = Path(self.mktemp()).absolute()
        self.log = LogLines(self)

    def take_over(self, marker: bool = True) -> dict[str, StoredFile]:
        """Do it; list what there is by name."""
        path = self.taky.path
        self.stored.run(take_over(path, self.stored.files, self.stored.blobs, self.marker if marker else None))
        return {file.name: file for file in self.stored.files.all(ALICE)}

    def test_packages(self) -> None:
        """Names, owners, devices, times and visibility are taky's; hashes are computed; contents are the same bytes."""
        private = self.taky.upload("ANDROID-1", "Pläne & x.zip", b"private")
        self.taky.upload("ANDROID-2", "public.zip", b"public", Visibility="public", SubmissionUser="Anonymous")
        self.taky.upload("ANDROID-3", "old.zip", b"old", Visibility=None, SubmissionDateTime="yesterday", Hash="f" * 64)
        before = self.taky.snapshot()
        files = self.take_over()
        self.assertEqual(set(files), {"Pläne & x.zip", "public.zip", "old.zip"})
        first = files["Pläne & x.zip"]
        self.assertEqual((first.hash, first.uid, first.size, first.tool), (private, private, 7, "private"))
        self.assertEqual((first.submitter, first.creator_uid, first.submitted), ("alice", "ANDROID-1", 1714979289.123))
        self.assertEqual((first.keywords, first.groups), (("missionpackage",), {"__ANON__"}))
        self.assertEqual((files["public.zip"].tool, files["public.zip"].submitter), ("public", None))
        self.assertEqual((files["old.zip"].tool, files["old.zip"].hash), ("public", sha256(b"old").hexdigest()))
        self.assertEqual(files["old.zip"].submitted, (self.taky.path / "ANDROID-3_old.zip").stat().st_mtime)
        for file in files.values():
            content = self.stored.clock.wait(self.stored.blobs.read(file.hash, file.size))
            data = self.stored.clock.wait(content.read(0, 100))
            content.close()
            self.assertEqual(sha256(data).hexdigest(), file.hash)
        self.assertEqual(self.taky.snapshot(), before, "taky's files are as they were")
        self.assertEqual(self.log(LogLevel.warn), [])

    def test_once(self) -> None:
        """It is done once: what was deleted since does not come back; with another folder it is done again."""
        digest = self.taky.upload("A", "a.zip", b"data")
        self.assertEqual(len(self.take_over()), 1)
        self.stored.run(self.stored.files.delete(ALICE, lambda file: file.hash == digest))
        self.assertEqual(self.take_over(), {})
        self.assertTrue((self.taky.path / "A_a.zip").exists())
        self.marker.write_text("/another/folder")
        self.assertEqual(len(self.take_over()), 1)

    def test_every_time(self) -> None:
        """Where files are forgotten with the process, it is done at every start; twice makes no second file."""
        self.taky.upload("A", "a.zip", b"data")
        for _ in range(2):
            self.assertEqual(len(self.take_over(marker=False)), 1)
        self.assertFalse(self.marker.exists())

    def test_nothing(self) -> None:
        """Where taky never was, nothing happens."""
        os.rmdir(self.taky.path / "meta")
        self.assertEqual(self.take_over(), {})
        self.assertEqual((self.marker.exists(), self.log()), (False, []))

    def test_hostile(self) -> None:
        """What is no package, or lies elsewhere, is skipped and named in the log; the others are taken over."""
        outside = self.taky.path.parent / "outside"
        outside.write_bytes(b"secret")
        self.taky.upload("A", "good.zip", b"good")
        meta = self.taky.path / "meta"
        os.symlink(outside, self.taky.path / "link.zip")
        os.symlink(outside, meta / "outside.json")
        os.symlink("circle.json", meta / "circle.json")
        os.symlink("nowhere", meta / "dangling.json")
        os.symlink("circle", self.taky.path / "circle")
        os.mkfifo(meta / "fifo.json")
        (meta / "long.json").write_bytes(b" " * (takeover.MAX_DESCRIPTION + 1))
        (meta / "deep.json").write_bytes(b"[" * 100_000)
        (meta / "text.json").write_bytes(b"\xff")
        hostile = [
            "../outside",
            str(outside),
            "link.zip",
            "meta/text.json",
            "",
            7,
            None,
            "gone",
            "\0",
            "\ud800",
            "x" * 5000,
        ]
        for number, uid in enumerate([*hostile, "circle", ".", "blobs/owner"]):
            self.taky.describe(f"bad{number}", {"UID": uid, "Name": "bad"})
        self.taky.describe("list", [])
        self.assertEqual(set(self.take_over()), {"good.zip"})
        self.assertEqual(len(self.log(LogLevel.warn)), len(hostile) + 3 + 8)
        self.assertIn("1 data packages of taky were taken over", "".join(self.log(LogLevel.info)))
        self.assertEqual(self.stored.contents(), {sha256(b"good").hexdigest()})

    def test_link_inside(self) -> None:
        """A link inside of taky's folder is followed."""
        (self.taky.path / "disk2").mkdir()
        (self.taky.path / "disk2" / "real").write_bytes(b"linked")
        os.symlink("disk2/real", self.taky.path / "package")
        self.taky.describe("package", {"UID": "package"})
        file = self.take_over()["package"]
        self.assertEqual((file.hash, file.mime_type), (sha256(b"linked").hexdigest(), "application/x-zip-compressed"))

    def test_too_many(self) -> None:
        """What is more than the server keeps is named in the log."""
        self.stored.files._limit = 1
        for name in ("a", "b"):
            self.taky.upload("A", name, name.encode())
        self.assertEqual(len(self.take_over()), 1)
        self.assertEqual(len(self.log(LogLevel.warn)), 1)

    def test_stopped(self) -> None:
        """A stop in the middle ends it, and it does not count as done."""
        for name in ("a", "b"):
            self.taky.upload("A", name, name.encode())

        def stop(*arguments: object) -> None:
            self.stored.clock.callFromThread(self.stored.blobs.stop)
            raise Unusable("stopped")

        self.patch(takeover, "read_package", stop)
        self.take_over()
        self.assertFalse(self.marker.exists())

    def test_no_description(self) -> None:
        """A folder that is called like a description is none."""
        self.assertRaises(Unusable, read_package, self.taky.path, self.taky.path)
