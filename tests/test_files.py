from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.files import PUBLIC, replace_file, write_new


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "file"
        self.addCleanup(os.umask, os.umask(0o077))

    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def test_new(self) -> None:
        """A new file is for its owner alone unless it is public, whatever the umask says."""
        write_new(self.path, b"secret")
        self.assertEqual((self.path.read_bytes(), self.mode()), (b"secret", 0o600))
        self.path.unlink()
        write_new(self.path, b"public", PUBLIC)
        self.assertEqual(self.mode(), 0o644)

    def test_new_is_there(self) -> None:
        """What is there is not written over, nor is what a link points to."""
        self.path.write_bytes(b"old")
        self.assertRaises(FileExistsError, write_new, self.path, b"new")
        self.assertEqual(self.path.read_bytes(), b"old")
        link = self.folder / "link"
        link.symlink_to("nowhere")
        self.assertRaises(FileExistsError, write_new, link, b"new")

    def test_new_fails(self) -> None:
        """Of a file that cannot be written nothing is left."""
        self.assertRaises(OSError, write_new, Path("/dev/full/x"), b"new")
        self.patch(os, "fsync", _no_space)
        self.assertRaises(OSError, write_new, self.path, b"new")
        self.assertEqual(os.listdir(self.folder), [])

    def test_new_at_once(self) -> None:
        """As long as a new file is not complete nobody sees it; then it is there once."""
        seen: list[bool] = []
        sync = os.fsync

        def watch(descriptor: int) -> None:
            seen.append(self.path.exists())
            sync(descriptor)

        self.patch(os, "fsync", watch)
        write_new(self.path, b"new")
        self.assertEqual((seen, os.listdir(self.folder), self.path.stat().st_nlink), ([False], ["file"], 1))

    def test_new_without_links(self) -> None:
        """Where the file system has no links a new file is written all the same, and not over another one."""
        self.patch(os, "link", _no_links)
        write_new(self.path, b"new")
        self.assertEqual((self.path.read_bytes(), self.mode(), os.listdir(self.folder)), (b"new", 0o600, ["file"]))
        self.assertRaises(FileExistsError, write_new, self.path, b"other")
        self.assertEqual((self.path.read_bytes(), os.listdir(self.folder)), (b"new", ["file"]))

    def test_replace(self) -> None:
        """A file is replaced with its mode; another mode can be given; a new one is private."""
        replace_file(self.path, b"first")
        self.assertEqual((self.path.read_bytes(), self.mode()), (b"first", 0o600))
        self.path.chmod(0o640)
        replace_file(self.path, b"second")
        self.assertEqual((self.path.read_bytes(), self.mode()), (b"second", 0o640))
        replace_file(self.path, b"third", 0o600)
        self.assertEqual((self.path.read_bytes(), self.mode()), (b"third", 0o600))
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_replace_fails(self) -> None:
        """A file that cannot be replaced stays as it was, and nothing lies about."""
        self.path.write_bytes(b"old")
        self.patch(os, "fsync", _no_space)
        self.assertRaises(OSError, replace_file, self.path, b"new")
        self.assertEqual((self.path.read_bytes(), os.listdir(self.folder)), (b"old", ["file"]))

    def test_link(self) -> None:
        """A link stays a link: the file that it points to is replaced."""
        target = self.folder / "target"
        target.write_bytes(b"old")
        self.path.symlink_to("target")
        replace_file(self.path, b"new")
        self.assertTrue(self.path.is_symlink())
        self.assertEqual(target.read_bytes(), b"new")

    def test_link_of_somebody_else(self) -> None:
        """Root does not write where somebody's link leads: the server's user could choose any file of the system."""
        target = self.folder / "target"
        target.write_bytes(b"root's")
        self.path.symlink_to("target")
        if os.geteuid() == 0:
            os.lchown(self.path, 65534, 65534)
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "fchown", lambda *_: None)
        error = self.assertRaises(PermissionError, replace_file, self.path, b"new")
        self.assertIn("a link that is not root's", str(error))
        self.assertEqual(target.read_bytes(), b"root's")

    def test_mode_without_more(self) -> None:
        """A file that was set-user-ID, by whatever accident, is not so again."""
        self.path.write_bytes(b"old")
        self.path.chmod(0o4755)
        replace_file(self.path, b"new")
        self.assertEqual(self.mode(), 0o755)

    def test_owner(self) -> None:
        """What root replaces keeps its owner; a new file gets the owner of its folder."""
        given: list[tuple[int, int]] = []
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "fchown", lambda _, user, group: given.append((user, group)))
        replace_file(self.path, b"new")
        replace_file(self.path, b"newer")
        folder, file = self.folder.stat(), self.path.stat()
        self.assertEqual(given, [(folder.st_uid, folder.st_gid), (file.st_uid, file.st_gid)])

    def test_not_root(self) -> None:
        """Others leave the owner alone."""
        self.patch(os, "geteuid", lambda: 1000)
        self.patch(os, "fchown", _no_space)
        replace_file(self.path, b"new")
        self.assertEqual(self.path.read_bytes(), b"new")


def _no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")
