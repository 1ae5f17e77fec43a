from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync import contents
from taky_twisted.enterprise_sync.contents import Content, Incoming
from taky_twisted.enterprise_sync.disk_thread import DiskThread
from taky_twisted.enterprise_sync.errors import NoRoom
from tests.threaded_clock import ThreadedClock


class IncomingTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.incoming = Incoming(folder / "x")

    def test_write(self) -> None:
        """What is written is there, private, and its hash is known when it is sealed."""
        for piece in (b"one", b"", b"two" * 100_000):
            self.incoming.write(piece)
        self.incoming.seal()
        data = b"one" + b"two" * 100_000
        self.assertEqual(self.incoming.path.read_bytes(), data)
        self.assertEqual((self.incoming.size, self.incoming.hash), (len(data), sha256(data).hexdigest()))
        self.assertEqual(self.incoming.path.stat().st_mode & 0o777, 0o600)

    def test_empty(self) -> None:
        """A content of no bytes is one, too."""
        self.incoming.seal()
        self.assertEqual((self.incoming.hash, self.incoming.path.read_bytes()), (sha256().hexdigest(), b""))

    def test_restart(self) -> None:
        """What is taken back is not in the file and not in the hash."""
        self.incoming.restart()
        self.incoming.write(b"wrong and long")
        self.incoming.restart()
        self.incoming.write(b"right")
        self.incoming.seal()
        self.assertEqual(self.incoming.path.read_bytes(), b"right")
        self.assertEqual((self.incoming.size, self.incoming.hash), (5, sha256(b"right").hexdigest()))

    def test_discard(self) -> None:
        """What is not wanted goes; asking again, or too early, does no harm."""
        self.incoming.discard()
        self.incoming.write(b"x")
        self.incoming.discard()
        self.incoming.discard()
        self.assertEqual(os.listdir(self.incoming.path.parent), [])

    def test_never_over_another(self) -> None:
        """A file that is there is never written over, nor is a link followed."""
        self.incoming.path.symlink_to("elsewhere")
        self.assertRaises(FileExistsError, self.incoming.write, b"x")
        self.assertEqual(os.listdir(self.incoming.path.parent), ["x"])

    def test_disk_almost_full(self) -> None:
        """Something of the disk stays free: the rest of the server needs it."""
        self.patch(contents, "RESERVE_BYTES", 1 << 62)
        self.assertRaises(NoRoom, self.incoming.write, b"x")


class ContentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.thread = DiskThread("test", self.clock)
        self.addCleanup(lambda: self.clock.wait(self.thread.stop()))
        path = self.mktemp()
        Path(path).write_bytes(b"0123456789")
        self.descriptor = os.open(path, os.O_RDONLY)
        self.content = Content(self.descriptor, 10, self.thread)

    def assert_closed(self) -> None:
        self.assertRaises(OSError, os.fstat, self.descriptor)

    def test_read(self) -> None:
        """Any part can be read."""
        self.assertEqual(self.clock.wait(self.content.read(3, 4)), b"3456")
        self.assertEqual(self.clock.wait(self.content.read(8, 4)), b"89")
        self.content.close()
        self.content.close()
        self.assert_closed()

    def test_close_while_reading(self) -> None:
        """A file that is being read is closed afterwards, never under the reading thread's hands."""
        reading = self.content.read(0, 10)
        self.content.close()
        os.fstat(self.descriptor)
        self.assertEqual(self.clock.wait(reading), b"0123456789")
        self.assert_closed()
