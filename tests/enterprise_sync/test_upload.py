from __future__ import annotations

import errno
import os
from hashlib import sha256
from threading import Event

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.disk_thread import STOP_SECONDS
from taky_twisted.enterprise_sync.errors import BadUpload, NoRoom, NotYours, Overloaded, SyncError, UploadTooLarge
from taky_twisted.enterprise_sync.files import Words
from taky_twisted.enterprise_sync.upload import PAUSE_BYTES, RESUME_BYTES, Order, Upload, Uploads
from tests.enterprise_sync.stored_files import ALICE, StoredFiles
from tests.fakes import LogLines
from tests.threaded_clock import PATIENCE

HASH = sha256(b"data").hexdigest()
WORDS = Words(name="a")


class UploadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stored = StoredFiles(self)
        self.uploads = Uploads(self.stored.files, self.stored.blobs, self.stored.clock, 1 << 20)
        self.flow: list[str] = []

    def begin(self, **order: object) -> Upload:
        asked = Order(ALICE, WORDS, **order)  # type: ignore[arg-type]  # as the tests say
        return self.uploads.begin(asked, lambda: self.flow.append("pause"), lambda: self.flow.append("resume"))

    def finish(self, upload: Upload) -> object:
        return self.stored.clock.wait(upload.finish())

    def refused(self, upload: Upload, kind: type[SyncError]) -> str:
        """It fails, and leaves nothing."""
        with self.assertRaises(kind) as caught:
            self.finish(upload)
        self.assert_nothing()
        return str(caught.exception)

    def assert_nothing(self) -> None:
        self.assertEqual((self.stored.contents(), self.stored.files.all(ALICE)), (set(), []))
        self.assertEqual(os.listdir(self.stored.blobs.folder / "incoming"), [])
        self.assertEqual(self.uploads._active, set())

    def hold(self) -> Event:
        """Have the disk hang until told otherwise."""
        go_on = Event()
        self.addCleanup(go_on.set)
        self.stored.blobs.write(go_on.wait, PATIENCE)
        return go_on

    def test_stored(self) -> None:
        """What was uploaded is stored, and the hash that was announced may be right."""
        for order in ({}, {"hash": HASH}, {"length": 4}):
            upload = self.begin(**order)
            upload.write(b"da")
            upload.write(b"ta")
            self.assertEqual(self.finish(upload), upload.file)
            self.assertEqual(upload.file and upload.file.hash, HASH)
            upload.abort()
        self.assertEqual((self.stored.contents(), self.flow), ({HASH}, []))

    def test_wrong_hash(self) -> None:
        """What is not what was announced leaves nothing, and the words say what it is."""
        upload = self.begin(hash="0" * 64)
        upload.write(b"data")
        self.assertIn(HASH, self.refused(upload, BadUpload))

    def test_too_large(self) -> None:
        """A file over the limit is refused when that is said, and else when it is over."""
        for length in (1 << 20, None):
            self.begin(length=length).abort()
        with self.assertRaises(UploadTooLarge):
            self.begin(length=(1 << 20) + 1)
        self.begin(length=(1 << 20) + 1, boundary="B").abort()
        upload = self.begin()
        upload.write(b"x" * (1 << 20))
        self.assertRaises(UploadTooLarge, upload.write, b"x")
        upload.abort()
        self.assert_nothing()

    def test_not_begun(self) -> None:
        """What cannot be stored is refused before its body is read."""
        order = Order(ALICE, Words(groups=frozenset({"green"})))
        self.assertRaises(NotYours, self.uploads.begin, order, lambda: None, lambda: None)
        self.assertRaises(BadUpload, self.begin, boundary="")
        self.assert_nothing()
        self.begin(boundary="B").abort()
        self.assert_nothing()

    def test_pause(self) -> None:
        """While the disk is slow the client waits; little is in memory, and it goes on when some is written."""
        go_on = self.hold()
        upload = self.begin()
        for _ in range(PAUSE_BYTES // 65536 + 1):
            upload.write(b"x" * 65536)
        self.assertEqual(self.flow, ["pause"])
        go_on.set()
        while self.flow == ["pause"]:
            self.stored.clock.run_one()
        self.assertEqual(self.flow, ["pause", "resume"])
        self.assertLessEqual(upload._held, RESUME_BYTES)
        self.finish(upload)
        self.assertEqual(upload.file and upload.file.size, PAUSE_BYTES + 65536)

    def test_finish_paused(self) -> None:
        """When the last piece makes the client wait, it does not wait for ever."""
        go_on = self.hold()
        upload = self.begin()
        upload.write(b"x" * PAUSE_BYTES)
        finishing = upload.finish()
        self.assertEqual(self.flow, ["pause", "resume"])
        go_on.set()
        self.stored.clock.wait(finishing)

    def test_abort(self) -> None:
        """An upload that is broken off leaves nothing, also while the disk is busy with it."""
        go_on = self.hold()
        upload = self.begin()
        upload.write(b"x" * PAUSE_BYTES)
        upload.write(b"more")
        upload.abort()
        upload.abort()
        self.assertEqual(self.flow, ["pause", "resume"])
        go_on.set()
        self.assert_nothing()

    def test_trouble_on_the_way(self) -> None:
        """What is found wrong in the thread is told with the next piece, so that the rest need not be sent."""
        upload = self.begin(boundary="B")
        upload.write(b"x" * 1000 + b"\r\n--Bxx")
        upload.write(b"x" * PAUSE_BYTES)
        self.stored.clock.wait(self.stored.blobs.write(lambda: None))
        self.assertRaises(BadUpload, upload.write, b"x")
        self.assertEqual(self.flow, ["pause", "resume"])
        upload.abort()
        self.assert_nothing()

    def test_trouble_in_the_end(self) -> None:
        """A form that is not whole is refused."""
        upload = self.begin(boundary="B")
        upload.write(b"--B\r\n")
        self.refused(upload, BadUpload)
        upload = self.begin(boundary="B")
        upload.write(b"--Bxxxx")
        self.refused(upload, BadUpload)

    def test_disk(self) -> None:
        """When the disk does not take it, the client is told so and the operator as well."""
        log = LogLines(self)

        def broken(*arguments: object) -> None:
            raise OSError(errno.EIO, "input/output error")

        for name in ("write", "seal"):
            upload = self.begin()
            upload.write(b"data")
            patch = self.patch(upload._body.incoming, name, broken)
            if name == "write":
                self.stored.clock.wait(self.stored.blobs.write(lambda: None))
                upload = self.begin()
                self.patch(upload._body.incoming, name, broken)
                upload.write(b"data")
            self.assertIn("input/output error", str(self.failed(upload)))
            patch.restore()
        self.assertEqual(len(log(LogLevel.warn)), 2)

    def failed(self, upload: Upload) -> NoRoom:
        with self.assertRaises(NoRoom) as caught:
            self.finish(upload)
        error: NoRoom = caught.exception
        return error

    def test_bug(self) -> None:
        """A mistake of ours is no mistake of the client's, and leaves nothing either."""
        upload = self.begin()
        self.patch(upload._body, "take", lambda pieces: 1 / 0)
        upload.write(b"data")
        with self.assertRaises(ZeroDivisionError):
            self.finish(upload)
        self.assert_nothing()

    def test_stop(self) -> None:
        """Stopping ends what is not complete, and waits for what is."""
        go_on = self.hold()
        half, whole = self.begin(), self.begin()
        half.write(b"half")
        whole.write(b"data")
        finishing = whole.finish()
        stopping = Deferred.fromCoroutine(self.uploads.stop())
        self.assertNoResult(stopping)
        go_on.set()
        self.stored.clock.wait(stopping)
        self.stored.clock.wait(finishing)
        self.assertEqual(self.stored.contents(), {HASH})

    def test_stop_hanging(self) -> None:
        """A disk that does not answer does not keep the server from stopping."""
        log = LogLines(self)
        go_on = self.hold()
        upload = self.begin()
        upload.write(b"data")
        finishing = upload.finish()
        stopping = Deferred.fromCoroutine(self.uploads.stop())
        self.stored.clock.advance(STOP_SECONDS)
        self.successResultOf(stopping)
        self.assertEqual(len(log(LogLevel.warn)), 1)
        go_on.set()
        self.stored.clock.wait(finishing)

    def test_stopped(self) -> None:
        """What is complete only after the end is refused in words."""
        upload = self.begin()
        upload.write(b"data")
        self.stored.clock.wait(self.stored.blobs.stop())
        with self.assertRaises(Overloaded):
            self.finish(upload)
