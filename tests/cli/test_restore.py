from __future__ import annotations

import gzip
import io
import os
import shutil
import sqlite3
import stat
import tarfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from taky_twisted.cli import backup_names
from taky_twisted.cli.restore import changed
from taky_twisted.cli.site import Site
from tests.cli.test_backup import HASH, BackupTestCase
from tests.cli.tool import Ran, takyctl


class Usage(NamedTuple):
    free: int


class RestoreTests(BackupTestCase):
    def backup(self) -> str:
        self.run_well("backup", "--passphrase-file", "secret", "b")
        return "b"

    def restore(self, *arguments: str) -> Ran:
        return takyctl("restore", "--passphrase-file", "secret", *arguments)

    def refuse(self, content: bytes, words: str) -> None:
        """A file is refused and nothing is left of it, neither in a new folder nor in an empty one."""
        Path("bad").write_bytes(content)
        Path("empty").mkdir(exist_ok=True)
        for target in ("new", "empty"):
            ran = self.restore("bad", target)
            self.assertEqual((ran.status, ran.out), (1, ""))
            self.assertIn(words, ran.err)
            self.assertEqual(len(ran.err.splitlines()), 1)
        self.assertFalse(Path("new").exists())
        self.assertEqual(list(Path("empty").iterdir()), [])

    def test_round_trip(self) -> None:
        """The site is there again, whole, with private keys private, and works."""
        ran = self.restore(self.backup(), "back")
        self.assertEqual((ran.status, ran.err), (0, ""))
        self.assertIn("The site is back", ran.out)
        self.assertIn("clients connect to  127.0.0.1:8089", ran.out)
        old, new = self.folder / "site", self.folder / "back"
        for name in ("ssl/ca.key", "ssl/ca.crt", "ssl/cert-db.jsonl", "ssl/cert-db.txt", "data/server-id", "taky.conf"):
            self.assertEqual((old / name).read_bytes(), (new / name).read_bytes(), name)
        self.assertEqual((new / f"data/dp-user/blobs/0a/{HASH}").read_bytes(), b"content" * 10_000)
        self.assertEqual((new / "data/profiles/enrollment/maps/Übersicht.zip").read_bytes(), b"PK")
        for name in ("taky.sqlite", "history.sqlite"):
            with closing(sqlite3.connect(new / "data" / name)) as database:
                self.assertEqual(database.execute("SELECT text FROM kept").fetchall(), [(name,)])
        for name, mode in (
            ("", 0o700),
            ("ssl/ca.key", 0o600),
            ("ssl/server.key", 0o600),
            ("ssl/ca.crt", 0o644),
            ("taky.conf", 0o600),
            ("data", 0o700),
            ("data/taky.sqlite", 0o600),
        ):
            self.assertEqual(stat.S_IMODE((new / name).stat().st_mode), mode, name)
        self.assertEqual(takyctl("-c", "back/taky.conf", "build_client", "BRAVO").status, 0)

    def test_here(self) -> None:
        """Without PATH it is made in the current folder, if that is empty."""
        path = Path(self.backup()).absolute()
        secret = Path("secret").absolute()
        Path("here").mkdir()
        os.chdir("here")
        ran = takyctl("restore", "--passphrase-file", str(secret), str(path))
        self.assertEqual(ran.status, 0, ran.err)
        self.assertTrue(Path("taky.conf").exists())

    def test_not_empty(self) -> None:
        """Where anything is, nothing is restored."""
        self.backup()
        for target in (".", "secret"):
            self.assertIn("is not an empty folder", self.restore("b", target).err)

    def test_paths(self) -> None:
        """Whatever paths the old configuration had, those of the new one are within its folder."""
        shutil.move(self.layout.data / "taky.sqlite", self.folder / "picture.db")
        text = self.layout.conf.read_text("utf-8")
        text = text.replace("root_dir = data", f"ROOT_DIR: {self.layout.data}\nstore = sqlite:{self.folder}/picture.db")
        text = text.replace("ca = ssl/ca.crt", f"ca = {self.layout.ssl}/ca.crt")
        self.layout.conf.write_text(text, "utf-8")
        self.assertEqual(self.restore(self.backup(), "back").status, 0)
        settings = Site.open("back/taky.conf").settings
        new = self.folder / "back"
        self.assertEqual((settings.data_dir, settings.store, settings.ssl.ca), (new / "data", None, new / "ssl/ca.crt"))
        self.assertTrue((new / "data/taky.sqlite").exists())

    def test_passphrase(self) -> None:
        """With another passphrase there is nothing."""
        self.backup()
        Path("secret").write_text("wrong horse")
        self.refuse(Path("b").read_bytes(), "nothing was restored: the passphrase is wrong, or the file is damaged")

    def test_cut(self) -> None:
        """A file that was cut off is refused as a whole, encrypted or not."""
        content = Path(self.backup()).read_bytes()
        self.refuse(content[:-1], "the file is damaged")
        self.run_well("backup", "--plain", "b.tar.gz")
        content = Path("b.tar.gz").read_bytes()
        for end in (len(content) // 2, len(content) - 4):
            self.refuse(content[:end], "nothing was restored")

    def test_not_a_backup(self) -> None:
        """Other files are told from backups."""
        self.refuse(b"", "is not a backup of takyctl")
        self.refuse(b"PK\3\4" + b"x" * 100, "is not a backup of takyctl")
        self.refuse(b"\x1f\x8bgarbage", "nothing was restored")
        self.refuse(gzip.compress(b"x" * 1024), "nothing was restored")
        self.assertIn("none: No such file", self.restore("none", "new").err)

    def archive(self, *entries: tuple[str, bytes], **how: object) -> bytes:
        """Make a plain backup by hand."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
            for name, content in entries:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                for key, value in how.items():
                    setattr(entry, key, value)
                archive.addfile(entry, io.BytesIO(content))
        return file.getvalue()

    def test_hostile(self) -> None:
        """No name leads out of the folder, nothing but plain files is made, and nothing twice."""
        good = ("taky.conf", b"[taky]\n")
        for name in ("../evil", "/tmp/evil", "ssl/../../evil", "ssl/authorized_keys", "data/taky.lock", "x" * 200):
            self.refuse(self.archive(good, (name, b"x")), "has no place in a backup")
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            self.refuse(self.archive(good, ("ssl/ca.key", b""), type=kind, linkname="/etc/passwd"), "has no place")
        self.refuse(self.archive(good, good), "has no place in a backup")
        self.refuse(self.archive(("ssl/ca.key", b"x")), "there is no taky.conf in the backup")
        self.refuse(self.archive(("taky.conf", b"\xff")), "nothing was restored")

    def test_too_large(self) -> None:
        """A small file that says it is large is refused before it is read; so is what the disk has no room for."""
        self.patch(backup_names, "KINDS", (backup_names.Kind(backup_names.KINDS[0].names, 10), *backup_names.KINDS[1:]))
        self.refuse(self.archive(("taky.conf", b"[taky]\n" + b"\n" * 4)), "taky.conf has 11 bytes, allowed: 10")
        self.assertEqual(self.restore(self.write(self.archive(("taky.conf", b"[taky]\n\n\n\n"))), "fits").status, 0)
        self.patch(shutil, "disk_usage", lambda _: Usage(6))
        self.refuse(self.archive(("taky.conf", b"[taky]\n")), "the disk of")

    def write(self, content: bytes) -> str:
        Path("made").write_bytes(content)
        return "made"

    def test_content_missing(self) -> None:
        """An archive that ends within a file is refused."""
        whole = gzip.decompress(self.archive(("taky.conf", b"[taky]\n" * 1000)))
        self.refuse(gzip.compress(whole[:1024]), "the backup ends within taky.conf")


class ChangedTests(BackupTestCase):
    def test_changed(self) -> None:
        """Values change where they are, what is missing is added, what is not wanted goes, and all else stays."""
        text = (
            "# mine\n[taky]\nHostname = h\nroot_dir: /var/taky\n  more\n\n# end\n"
            "[dp_server]\nupload_path = /x\n   /y\n; comment\n[ssl]\nca\nkey_pw\n"
        )
        changes = {
            ("taky", "root_dir"): "data",
            ("taky", "store"): None,
            ("dp_server", "upload_path"): None,
            ("ssl", "ca"): "ssl/ca.crt",
            ("ssl", "key"): "ssl/server.key",
            ("new", "key"): "value",
            ("gone", "key"): None,
        }
        self.assertEqual(
            changed(text, changes),
            "# mine\n[taky]\nHostname = h\nroot_dir = data\n\n# end\n[dp_server]\n; comment\n"
            "[ssl]\nca = ssl/ca.crt\nkey_pw\nkey = ssl/server.key\n\n[new]\nkey = value\n",
        )
        self.assertEqual(changed(changed(text, changes), changes), changed(text, changes))

    def test_indented(self) -> None:
        """However a file is indented, sections and keys are found, and no line comes to belong to another one."""
        changes = {("taky", "root_dir"): "data", ("taky", "new"): "value", ("taky", "x"): None}
        for text, expected in (
            (" [taky]\n root_dir = x\n hostname = h\n", " [taky]\n root_dir = data\n hostname = h\nnew = value\n"),
            (
                "[taky]\n  a = 1\n  root_dir = x\n    y\n  b = 1\n  [ssl]\nca = x\n",
                "[taky]\n  a = 1\n  root_dir = data\n  b = 1\n  new = value\n  [ssl]\nca = x\n",
            ),
            ("[taky]\nx = 1\n  2\n\n  3\n# c\n  4\nb = 1\n", "[taky]\n\n# c\nb = 1\nroot_dir = data\nnew = value\n"),
            ("[taky]\nroot_dir=x=y:z\na : b\n", "[taky]\nroot_dir = data\na : b\nnew = value\n"),
        ):
            self.assertEqual(changed(text, changes), expected)

    def test_what_ends_a_line(self) -> None:
        """Only what ends a line for the server does so here: nothing in a comment becomes a section or a value."""
        text = "[taky]\n# a\x0c[ssl]\u2028ca = x\x85\nhostname = h\n"
        self.assertEqual(changed(text, {("ssl", "ca"): "y"}), text + "\n[ssl]\nca = y\n")
        self.assertEqual(changed("[taky]\r\nroot_dir = x\r\n", {("taky", "root_dir"): "y"}), "[taky]\nroot_dir = y\n")
