from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.routing.recorded_files import OTHERS, RecordedFile, RecordedFiles, file_name


class FileNameTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """A harmless name in lower case is used as it is, so that people find the file."""
        for name in ("pytak-1", "192.168.1.7", "a" * 80, "a_b.c-d"):
            self.assertEqual(file_name(name), name)

    def test_recognizable(self) -> None:
        """Any other name is still recognized, by its beginning."""
        self.assertRegex(file_name("ANDROID-358d"), "^ANDROID-358d-[0-9a-f]{10}$")
        self.assertRegex(file_name("10.0.0.1:5555"), "^10.0.0.1_5555-[0-9a-f]{10}$")
        self.assertRegex(file_name("../../etc/passwd"), "^_.._etc_passwd-[0-9a-f]{10}$")

    @given(strategies.text(strategies.characters(exclude_categories=())))
    def test_safe(self, sender: str) -> None:
        """Whatever a sender calls itself, its file stays in the folder and its name is short and harmless."""
        name = file_name(sender)
        self.assertTrue(re.fullmatch("[A-Za-z0-9_][A-Za-z0-9._-]{0,91}", name), name)

    def test_told_apart(self) -> None:
        """Different senders have different files, also where upper and lower case are the same."""
        hashed = file_name("AB")
        senders = ["ab", "AB", "Ab", "a/b", "a\\b", "a b", "", " ", ".", "..", ".ab", "-ab", "a" * 81, "a" * 82]
        senders += [hashed, hashed.lower(), hashed.upper(), OTHERS, "CON", "ab\n", "\ud800", "ä", "a\u0308"]
        names = {file_name(sender).lower() for sender in senders}
        self.assertEqual(len(names), len(set(senders)))
        self.assertNotIn(OTHERS, names)

    def test_stable(self) -> None:
        """A sender has the same file after a restart, whoever comes first."""
        self.assertEqual(file_name("ANDROID-1"), "ANDROID-1-9548cdede4")


class RecordedFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.path = folder / "a.cot"

    def file(self, *, max_bytes: int = 10, files: int = 3) -> RecordedFile:
        file = RecordedFile(self.path, max_bytes, files)
        self.addCleanup(file.close)
        return file

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.path.parent.iterdir()}

    def test_limit(self) -> None:
        """A file is filled to its last byte; one byte more begins the next."""
        self.file().append([b"12345", b"67890"])
        self.assertEqual(self.contents(), {"a.cot": b"1234567890"})
        self.file().append([b"x"])
        self.assertEqual(self.contents(), {"a.cot": b"x", "a.cot.1": b"1234567890"})

    def test_rotation(self) -> None:
        """So many files there are in all; the oldest goes first."""
        file = self.file()
        for entry in (b"11111111", b"22222222", b"33333333", b"44444444"):
            file.append([entry])
        self.assertEqual(self.contents(), {"a.cot": b"44444444", "a.cot.1": b"33333333", "a.cot.2": b"22222222"})

    def test_rotation_within_a_batch(self) -> None:
        """Entries that come together are spread over files as if they had come one by one."""
        self.file().append([b"11111", b"2222", b"33333333", b"44444444"])
        self.assertEqual(self.contents(), {"a.cot": b"44444444", "a.cot.1": b"33333333", "a.cot.2": b"111112222"})

    def test_one_file(self) -> None:
        """With one file only the newest entries are kept."""
        self.file(files=1).append([b"11111111", b"22222222"])
        self.assertEqual(self.contents(), {"a.cot": b"22222222"})

    def test_private(self) -> None:
        """Nobody else may read what was said."""
        self.file().append([b"11111111", b"22222222"])
        modes = {stat.S_IMODE(path.stat().st_mode) for path in self.path.parent.iterdir()}
        self.assertEqual(modes, {0o600})

    def test_full_disk(self) -> None:
        """Where not all can be written, no half entry stays; later entries follow properly."""
        file = self.file(max_bytes=1000)
        file.append([b"good\n"])
        write = os.write

        def full(descriptor: int, data: memoryview) -> int:
            if len(data) > 3:
                return write(descriptor, data[:3])
            raise OSError(28, "No space left on device")

        patched = self.patch(os, "write", full)
        with self.assertRaises(OSError):
            file.append([b"lost\n"])
        patched.restore()
        file.append([b"better\n"])
        self.assertEqual(self.contents(), {"a.cot": b"good\nbetter\n"})

    def test_link(self) -> None:
        """A link that somebody has put in the file's place is not followed."""
        target = self.path.with_name("target")
        target.write_text("precious")
        self.path.symlink_to(target)
        with self.assertRaises(OSError):
            RecordedFile(self.path, 10, 3)
        self.assertEqual(target.read_text(), "precious")


class RecordedFilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "cot"

    def recorded(self, *, senders: int = 3, open_files: int = 2) -> RecordedFiles:
        recorded = RecordedFiles(self.folder, 100, 2, senders=senders, open_files=open_files)
        self.addCleanup(recorded.close)
        return recorded

    def test_folder(self) -> None:
        """The folder is made at the first need, and is the owner's alone."""
        recorded = self.recorded()
        self.assertFalse(self.folder.exists())
        recorded.append(recorded.name_of("a"), [b"x"])
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual((self.folder / "a.cot").read_bytes(), b"x")

    def test_senders(self) -> None:
        """So many senders have files of their own, over restarts too; the rest shares one."""
        recorded = self.recorded()
        self.assertEqual([recorded.name_of(sender) for sender in "abcdab"], ["a", "b", "c", OTHERS, "a", "b"])
        for name in ("a", "b", "c", OTHERS):
            recorded.append(name, [b"x" * 60])
            recorded.append(name, [b"x" * 60])
        self.assertEqual(len(list(self.folder.iterdir())), 8)
        again = self.recorded()
        self.assertEqual([again.name_of(sender) for sender in "ecd"], [OTHERS, "c", OTHERS])
        more = self.recorded(senders=4)
        self.assertEqual([more.name_of(sender) for sender in "ef"], ["e", OTHERS])

    def test_open_files(self) -> None:
        """Few files are held open, however many senders there are; each gets its entries in order."""
        recorded = self.recorded(senders=100, open_files=2)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(5):
            for sender in "abcde":
                recorded.append(sender, [b"%d" % number])
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before + 2)
        for sender in "abcde":
            self.assertEqual((self.folder / f"{sender}.cot").read_bytes(), b"01234")
        recorded.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_busy_stays_open(self) -> None:
        """What is written to often is not closed for what is written to once."""
        recorded = self.recorded(senders=100, open_files=2)
        for sender in "abacad":
            recorded.append(sender, [b"x"])
        (self.folder / "a.cot").unlink()
        recorded.append("a", [b"x"])
        self.assertFalse((self.folder / "a.cot").exists(), "it was opened anew")

    def test_failure(self) -> None:
        """A file that could not be written is opened anew the next time."""
        recorded = self.recorded()
        recorded.append("a", [b"1"])
        patched = self.patch(os, "write", self.fail_to_write)
        with self.assertRaises(OSError):
            recorded.append("a", [b"2"])
        patched.restore()
        recorded.append("a", [b"3"])
        self.assertEqual((self.folder / "a.cot").read_bytes(), b"13")

    def fail_to_write(self, descriptor: int, data: bytes) -> int:
        raise OSError(5, "Input/output error")

    def test_folder_in_the_way(self) -> None:
        """A file in place of the folder is an error each time, until it is gone."""
        self.folder.parent.mkdir()
        self.folder.write_text("x")
        recorded = self.recorded()
        for _ in range(2):
            with self.assertRaises(OSError):
                recorded.name_of("a")
        self.folder.unlink()
        self.assertEqual(recorded.name_of("a"), "a")
