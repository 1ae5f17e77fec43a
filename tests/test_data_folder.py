from __future__ import annotations

import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.data_folder import DataFolder, DataFolderError

HOLD = """
import sys
from pathlib import Path
from taky_twisted.data_folder import DataFolder
DataFolder(Path(sys.argv[1])).open()
print("open", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class DataFolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir(parents=True)
        self.folder = DataFolder(self.root / "data")
        self.addCleanup(self.folder.close)

    def hold(self) -> subprocess.Popen[bytes]:
        """Start another process that has our folder open."""
        other = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self.folder.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
        )
        self.addCleanup(other.communicate)
        assert other.stdout is not None
        self.assertEqual(other.stdout.readline(), b"open\n")
        return other

    def refusal(self, folder: DataFolder) -> str:
        """Both check and open refuse, in the same words; return them."""
        with self.assertRaises(DataFolderError) as checked:
            folder.check()
        with self.assertRaises(DataFolderError) as opened:
            folder.open()
        self.assertEqual(str(checked.exception), str(opened.exception))
        return str(opened.exception)

    def test_made(self) -> None:
        """The folder and those above it are made when they are not there, and nobody else may look into them."""
        folder = DataFolder(self.root / "a" / "b" / "c")
        folder.open()
        self.addCleanup(folder.close)
        for path in (self.root / "a", self.root / "a" / "b", self.root / "a" / "b" / "c"):
            self.assertEqual(mode(path), 0o700)
        self.assertEqual(mode(self.root / "a" / "b" / "c" / "taky.lock"), 0o600)

    def test_existing_mode(self) -> None:
        """A folder that is there keeps the mode that the operator gave it."""
        self.folder.path.mkdir(mode=0o750)
        self.folder.open()
        self.assertEqual(mode(self.folder.path), 0o750)

    def test_relative(self) -> None:
        """A relative path stays what it was, also when the process changes its working directory."""
        folder = DataFolder(Path("some-data"))
        self.assertEqual(folder.path, Path.cwd() / "some-data")

    def test_lock_names_holder(self) -> None:
        """The lock file says which process holds the folder and since when."""
        self.folder.open()
        text = (self.folder.path / "taky.lock").read_text()
        self.assertRegex(text, rf"^{os.getpid()} \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n$")

    def test_second_server(self) -> None:
        """A second server is refused, and told which one is the first, since when, and what to do."""
        other = self.hold()
        words = self.refusal(self.folder)
        self.assertIn(str(self.folder.path), words)
        self.assertRegex(words, rf"process {other.pid}, running since 20\d\d-")
        self.assertIn("--data-dir", words)

    def test_same_process(self) -> None:
        """Two servers in one process do not share a folder either."""
        self.folder.open()
        self.refusal(DataFolder(self.folder.path))

    def test_killed(self) -> None:
        """What a server that was killed leaves behind does not keep the next one from starting."""
        other = self.hold()
        other.send_signal(signal.SIGKILL)
        other.wait()
        self.assertTrue((self.folder.path / "taky.lock").exists())
        self.folder.check()
        self.folder.open()

    def test_close(self) -> None:
        """After closing another one may have the folder; closing twice does no harm."""
        self.folder.open()
        self.folder.close()
        self.folder.close()
        self.hold()

    def test_not_inherited(self) -> None:
        """A program that the server starts does not hold the lock on when the server is gone."""
        self.folder.open()
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        self.folder.close()
        DataFolder(self.folder.path).check()

    def test_strange_lock_file(self) -> None:
        """A lock that somebody else holds, in whatever way, is respected."""
        self.folder.path.mkdir()
        descriptor = os.open(self.folder.path / "taky.lock", os.O_CREAT | os.O_RDWR)
        self.addCleanup(os.close, descriptor)
        os.write(descriptor, b"\x1b[31mboo\n" * 100)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self.assertIn("another server is using it", self.refusal(self.folder))

    def test_check_does_nothing(self) -> None:
        """Checking makes no file and no folder, and locks nothing."""
        self.folder.check()
        self.assertFalse(self.folder.path.exists())
        self.folder.path.mkdir()
        self.folder.check()
        self.assertEqual(list(self.folder.path.iterdir()), [])
        self.folder.open()

    def test_not_a_folder(self) -> None:
        """A file where the folder, or one above it, should be is named."""
        file = self.root / "file"
        file.write_text("x")
        self.assertIn(f"{file} is not a folder", self.refusal(DataFolder(file)))
        self.assertIn(f"{file} is not a folder", self.refusal(DataFolder(file / "below")))

    def test_dangling_link(self) -> None:
        """A link to nowhere is no folder."""
        (self.root / "link").symlink_to(self.root / "nowhere")
        self.assertIn("is not a folder", self.refusal(DataFolder(self.root / "link")))

    def test_lock_is_a_folder(self) -> None:
        """A lock that cannot be opened is named with the system's reason."""
        (self.folder.path / "taky.lock").mkdir(parents=True)
        words = self.refusal(self.folder)
        self.assertIn("taky.lock: Is a directory", words)

    def test_not_writable(self) -> None:
        """A folder in which nothing can be made is refused in plain words."""
        self.patch(os, "access", lambda path, wanted: False)
        words = self.refusal(DataFolder(self.root))
        self.assertIn(f"may not write in {self.root}", words)
        self.assertIn("--data-dir", words)

    def test_folder_cannot_be_made(self) -> None:
        """Where the system refuses to make a folder, although access looks right, its reason is told."""
        with self.assertRaises(DataFolderError) as caught:
            DataFolder(Path("/proc/self/taky-data")).open()
        self.assertIn("cannot use the data folder /proc/self/taky-data", str(caught.exception))

    def test_full_disk(self) -> None:
        """A disk without room for the lock is an error in plain words, and nothing stays locked."""

        def full(descriptor: int, data: bytes, at: int) -> int:
            raise OSError(28, "No space left on device")

        patched = self.patch(os, "pwrite", full)
        with self.assertRaises(DataFolderError) as caught:
            self.folder.open()
        self.assertIn("No space left on device", str(caught.exception))
        patched.restore()
        self.folder.open()


class ServerIdTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = DataFolder(Path(self.mktemp()))
        self.folder.open()
        self.addCleanup(self.folder.close)

    def test_stable(self) -> None:
        """A server keeps its id, over restarts too; another one has another."""
        first = self.folder.server_id()
        self.assertTrue(re.fullmatch("[0-9a-f]{32}", first))
        self.assertEqual(self.folder.server_id(), first)
        self.assertEqual(DataFolder(self.folder.path).server_id(), first)
        other = DataFolder(Path(self.mktemp()))
        other.open()
        self.addCleanup(other.close)
        self.assertNotEqual(other.server_id(), first)

    def test_private(self) -> None:
        """The file is the owner's alone, and nothing is left beside it."""
        self.folder.server_id()
        self.assertEqual(mode(self.folder.path / "server-id"), 0o600)
        self.assertEqual({path.name for path in self.folder.path.iterdir()}, {"server-id", "taky.lock"})

    def test_crash_while_making(self) -> None:
        """What a crash in the middle of the first start left does no harm."""
        (self.folder.path / "server-id.0123").write_text("12")
        self.assertEqual(len(self.folder.server_id()), 32)

    def test_shared(self) -> None:
        """Several processes of one server have one id, whoever makes it, also when both do at once."""
        site = self.folder.path
        worker = DataFolder(site / "worker-2", site)
        self.assertEqual(worker.server_id(), self.folder.server_id())
        (site / "server-id").unlink()
        link = os.link

        def slow(source: Path, target: Path) -> None:
            self.patch(os, "link", link)
            DataFolder(site / "worker-3", site).server_id()
            link(source, target)

        self.patch(os, "link", slow)
        self.assertEqual(worker.server_id(), self.folder.server_id())
        self.assertEqual({path.name for path in site.iterdir()}, {"server-id", "taky.lock"})

    def test_without_links(self) -> None:
        """A file system that has no links will do."""

        def refuse(source: Path, target: Path) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(os, "link", refuse)
        self.assertEqual(self.folder.server_id(), self.folder.server_id())
        self.assertEqual(mode(self.folder.path / "server-id"), 0o600)

    def test_damaged(self) -> None:
        """A damaged id is not used: the operator is told to delete it."""
        for text in (b"", b"G" * 32, b"0" * 31, b"\xff" * 32):
            (self.folder.path / "server-id").write_bytes(text)
            with self.assertRaises(DataFolderError) as caught:
                self.folder.server_id()
            self.assertIn("Delete the file", str(caught.exception))

    def test_unreadable(self) -> None:
        """An id that cannot be read, or made, is an error in plain words."""
        (self.folder.path / "server-id").mkdir()
        with self.assertRaises(DataFolderError) as caught:
            self.folder.server_id()
        self.assertIn("Is a directory", str(caught.exception))
        with self.assertRaises(DataFolderError) as caught:
            DataFolder(self.folder.path / "nowhere").server_id()
        self.assertIn("No such file", str(caught.exception))


class SocketPathTests(SynchronousTestCase):
    def test_limit(self) -> None:
        """A socket's path may have 107 bytes; one more is refused with what to do."""
        folder = DataFolder(Path("/" + "d" * 96))
        self.assertEqual(len(str(folder.socket_path("123456789"))), 107)
        with self.assertRaises(DataFolderError) as caught:
            folder.socket_path("1234567890")
        self.assertIn("108 bytes", str(caught.exception))
        self.assertIn("shorter path", str(caught.exception))

    def test_bytes_count(self) -> None:
        """What counts are bytes, not characters."""
        with self.assertRaises(DataFolderError):
            DataFolder(Path("/" + "ü" * 50)).socket_path("admin.sock")
