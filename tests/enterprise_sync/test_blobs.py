from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path
from threading import Event

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.contents import Incoming
from taky_twisted.enterprise_sync.errors import NoRoom, NoSuchFile, Overloaded
from taky_twisted.interfaces import StoreError
from tests.fakes import LogLines
from tests.threaded_clock import PATIENCE, ThreadedClock

HASH = sha256(b"data").hexdigest()


class BlobsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.folder = Path(self.mktemp()).absolute() / "deep" / "blobs"
        self.blobs = self.make()

    def make(self, server_id: str = "a" * 32, known: tuple[str, ...] = ()) -> Blobs:
        blobs = Blobs(self.folder, self.clock)
        blobs.open(server_id, known)
        self.addCleanup(lambda: self.clock.wait(blobs.stop()))
        return blobs

    def keep(self, data: bytes = b"data") -> None:
        incoming = self.blobs.begin()
        self.clock.wait(self.blobs.write(incoming.write, data))
        self.clock.wait(self.blobs.write(incoming.seal))
        self.clock.wait(Deferred.fromCoroutine(self.blobs.keep(incoming)))

    def read(self, size: int = 4) -> bytes:
        content = self.clock.wait(self.blobs.read(HASH, size))
        data = self.clock.wait(content.read(0, 100))
        content.close()
        return data

    def test_keep(self) -> None:
        """A content is found under its hash, in folders that only the server's user can look into."""
        self.assertFalse(self.blobs.has(HASH, 4))
        self.keep()
        self.assertTrue(self.blobs.has(HASH, 4))
        self.assertFalse(self.blobs.has(HASH, 5))
        self.assertEqual(self.read(), b"data")
        path = self.folder / HASH[:2] / HASH
        self.assertEqual(path.read_bytes(), b"data")
        for folder in (self.folder, self.folder / "incoming", path.parent):
            self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.keep()
        self.assertEqual(os.listdir(self.folder / "incoming"), [])

    def test_restart(self) -> None:
        """A start finds what is referred to, and takes away what is not and what was left half-done."""
        self.keep()
        self.keep(b"orphan")
        (self.folder / "incoming" / "left").write_bytes(b"half")
        (self.folder / HASH[:2] / "no-hash").write_bytes(b"somebody's")
        (self.folder / "zz").mkdir()
        self.blobs = self.make(known=(HASH,))
        self.assertEqual(self.read(), b"data")
        names = {path.name for path in self.folder.rglob("*") if path.is_file()}
        self.assertEqual(names, {HASH, "owner", "no-hash"})

    def test_foreign_folder(self) -> None:
        """In a folder that belongs to another server nothing is deleted, and the operator is told."""
        self.keep()
        (self.folder / "incoming" / "left").write_bytes(b"half")
        log = LogLines(self)
        self.make("b" * 32)
        self.assertIn(str(self.folder / "owner"), "".join(log(LogLevel.warn)))
        self.assertTrue((self.folder / HASH[:2] / HASH).exists())
        self.assertTrue((self.folder / "incoming" / "left").exists())
        (self.folder / "owner").write_text("")
        self.make("b" * 32)
        self.assertFalse((self.folder / HASH[:2] / HASH).exists())

    def test_cannot_open(self) -> None:
        """A folder that cannot be used ends the start with words that help."""
        self.folder.parent.joinpath("file").write_text("")
        blobs = Blobs(self.folder.parent / "file" / "blobs", self.clock)
        error = self.assertRaises(StoreError, blobs.open, "a" * 32, ())
        self.assertIn("upload_path", str(error))

    def test_damaged(self) -> None:
        """What is not there, not whole, or a link somewhere else is never served."""
        self.keep()
        path = self.folder / HASH[:2] / HASH
        other = self.folder.parent / "other"
        other.write_bytes(b"data")
        for damage in (lambda: path.write_bytes(b"dat"), path.unlink, lambda: path.symlink_to(other)):
            damage()
            with self.assertRaises(NoSuchFile):
                self.read()
            self.assertFalse(self.blobs.has(HASH, 4))
        self.keep()
        self.assertEqual(self.read(), b"data")

    def test_too_many_open(self) -> None:
        """A moment with too many open files is no loss: the content is served again afterwards."""
        self.keep()

        def full(*arguments: object) -> int:
            raise OSError(errno.EMFILE, "too many")

        patch = self.patch(os, "open", full)
        with self.assertRaises(Overloaded):
            self.read()
        patch.restore()
        self.assertEqual(self.read(), b"data")

    def test_canceled(self) -> None:
        """A client that leaves while a content is being opened leaves nothing open."""
        self.keep()
        before = len(os.listdir("/proc/self/fd"))
        self.clock.wait(self.blobs.aside(lambda: None))
        before = len(os.listdir("/proc/self/fd"))
        reading = self.blobs.read(HASH, 4)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.clock.wait(self.blobs.aside(lambda: None))
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_forget(self) -> None:
        """A content that is forgotten is gone at once."""
        self.keep()
        self.blobs.forget(HASH)
        self.blobs.forget(HASH)
        self.assertFalse(self.blobs.has(HASH, 4))
        self.clock.wait(self.blobs.write(lambda: None))
        self.assertFalse((self.folder / HASH[:2] / HASH).exists())

    def test_forgotten_meanwhile(self) -> None:
        """A content that is deleted while somebody asks for it is just not there; no operator need look after it."""
        self.keep()
        log = LogLines(self)
        go_on = Event()
        self.blobs.aside(go_on.wait, PATIENCE)
        reading = self.blobs.read(HASH, 4)
        self.blobs.forget(HASH)
        self.clock.wait(self.blobs.write(lambda: None))
        go_on.set()
        with self.assertRaises(NoSuchFile):
            self.clock.wait(reading)
        self.assertEqual(log(LogLevel.warn), [])

    def adopt(self, path: Path, digest: str = HASH) -> None:
        self.clock.wait(Deferred.fromCoroutine(self.blobs.adopt(path, digest, 4)))

    def test_adopt(self) -> None:
        """Another program's file is linked, so that it needs no second place, and stays where it is."""
        path = self.folder.parent / "theirs"
        path.write_bytes(b"data")
        self.adopt(path)
        self.assertEqual(self.read(), b"data")
        self.assertTrue(path.samefile(self.folder / HASH[:2] / HASH))

    def test_adopt_copy(self) -> None:
        """Where it cannot be linked, it is copied; what changes meanwhile is not taken."""
        path = self.folder.parent / "theirs"
        path.write_bytes(b"data")

        def cannot(*arguments: object, **more: object) -> None:
            raise OSError(errno.EXDEV, "another device")

        self.patch(os, "link", cannot)
        self.adopt(path)
        self.assertEqual(self.read(), b"data")
        self.assertFalse(path.samefile(self.folder / HASH[:2] / HASH))
        with self.assertRaises(OSError):
            self.adopt(path, "0" * 64)
        self.patch(Incoming, "write", lambda *_: (_ for _ in ()).throw(NoRoom()))
        with self.assertRaises(NoRoom):
            self.adopt(path)
        self.assertEqual(os.listdir(self.folder / "incoming"), [])

    def test_path(self) -> None:
        """Nothing but a hash is ever part of a path."""
        for digest in ("../x", "", HASH.upper(), HASH + "\n"):
            self.assertRaises(AssertionError, self.blobs.path, digest)
