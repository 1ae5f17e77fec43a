from __future__ import annotations

import getpass
import io
import shutil
import sqlite3
import stat
import sys
import tarfile
from contextlib import closing
from pathlib import Path

from taky_twisted.cli import backup, backup_names, sealed
from taky_twisted.cli.sealed import SealedReader
from tests.cli.tool import SiteTestCase, takyctl

SECRET = "correct horse"
HASH = "0a" * 32


class BackupTestCase(SiteTestCase):
    """A site with everything that a site may have."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(sealed, "_ROUNDS", 2)  # what makes guessing slow makes tests slow
        data = self.layout.data
        (data / "dp-user/blobs/0a").mkdir(parents=True)
        (data / "dp-user/blobs/incoming").mkdir()
        (data / "profiles/enrollment/maps").mkdir(parents=True)
        for name, content in (
            ("server-id", b"ab" * 16),
            ("taky-files-taken-over", b""),
            ("taky.lock", b"1 2026"),
            ("dp-user/blobs/owner", b"ab" * 16),
            (f"dp-user/blobs/0a/{HASH}", b"content" * 10_000),
            ("dp-user/blobs/incoming/half", b"half"),
            ("dp-user/notes.txt", b"of the operator"),
            ("profiles/enrollment/maps/Übersicht.zip", b"PK"),
        ):
            (data / name).write_bytes(content)
        for name in ("taky.sqlite", "history.sqlite"):
            with closing(sqlite3.connect(data / name)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("CREATE TABLE kept (text)")
                database.execute("INSERT INTO kept VALUES (?)", (name,))
                database.commit()
        self.run_well("build_client", "FOX")
        Path("secret").write_text(f"{SECRET}\nmore\n", "utf-8")


class BackupTests(BackupTestCase):
    def contents(self, path: str) -> dict[str, bytes]:
        """Read a plain backup as anybody can."""
        with tarfile.open(path) as archive:
            return {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]

    def test_plain(self) -> None:
        """Everything that a site is is in the file, and nothing else; it is for its owner alone."""
        ran = self.run_well("backup", "--plain", "b.tar.gz")
        found = self.contents("b.tar.gz")
        self.assertRegex(
            ran.out, rf"b\.tar\.gz  {len(found)} files, 0\.\d MiB, not encrypted: it holds the authority's key"
        )
        self.assertEqual(stat.S_IMODE(Path("b.tar.gz").stat().st_mode), 0o600)
        issued = [name for name in found if name.startswith("ssl/issued/")]
        self.assertEqual(len(issued), 2)
        self.assertEqual(
            sorted(set(found) - set(issued)),
            sorted(
                [
                    *("taky.conf", "ssl/ca.crt", "ssl/ca.key", "ssl/ca.crl", "ssl/server.crt", "ssl/server.key"),
                    *("ssl/server.p12", "ssl/cert-db.txt", "ssl/cert-db.jsonl", "data/taky.sqlite"),
                    *("data/history.sqlite", "data/server-id", "data/taky-files-taken-over"),
                    *("data/dp-user/blobs/owner", f"data/dp-user/blobs/0a/{HASH}"),
                    "data/profiles/enrollment/maps/Übersicht.zip",
                ]
            ),
        )
        self.assertTrue(all(backup_names.kind_of(name) for name in found))
        self.assertEqual(found["ssl/ca.key"], (self.layout.ssl / "ca.key").read_bytes())
        self.assertEqual([path.name for path in self.folder.glob(".taky*")], [])

    def test_profiles(self) -> None:
        """A file of a profile that has no place in a backup is named, and the rest is in it."""
        for name in (".hidden", "x" * 100, "bad\udcff"):
            (self.layout.data / "profiles/enrollment" / name).write_bytes(b"")
        ran = self.run_well("backup", "--plain", "b.tar.gz")
        self.assertEqual(ran.err.count("is not in the backup"), 3)
        self.assertIn("data/profiles/enrollment/maps/Übersicht.zip", self.contents("b.tar.gz"))

    def test_encrypted(self) -> None:
        """Without --plain nothing in it can be read without the passphrase."""
        ran = self.run_well("backup", "--passphrase-file", "secret", "b")
        self.assertIn("encrypted", ran.out)
        self.assertEqual(stat.S_IMODE(Path("b").stat().st_mode), 0o600)
        self.assertNotIn(b"PRIVATE", Path("b").read_bytes())
        with Path("b").open("rb") as file:
            content = SealedReader(file, SECRET).read() or b""
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            self.assertIn("ssl/ca.key", archive.getnames())

    def test_while_written(self) -> None:
        """A database that a server writes is copied as it was at one moment, with what is only in its log."""
        with closing(sqlite3.connect(self.layout.data / "taky.sqlite")) as server:
            server.execute("PRAGMA wal_autocheckpoint = 0")
            server.execute("INSERT INTO kept VALUES ('in the log')")
            server.commit()
            server.execute("BEGIN IMMEDIATE")
            server.execute("INSERT INTO kept VALUES ('not yet')")
            self.run_well("backup", "--plain", "b.tar.gz")
            server.rollback()
        Path("copy.sqlite").write_bytes(self.contents("b.tar.gz")["data/taky.sqlite"])
        with closing(sqlite3.connect("copy.sqlite")) as copy:
            self.assertEqual(copy.execute("SELECT text FROM kept").fetchall(), [("taky.sqlite",), ("in the log",)])

    def test_deleted_meanwhile(self) -> None:
        """A file that a client deletes at this moment is left out."""
        real = backup._copied

        def copied(database: Path, copy: Path) -> Path:
            found = real(database, copy)
            if database.name == "history.sqlite":
                found.unlink()
            return found

        self.patch(backup, "_copied", copied)
        self.run_well("backup", "--plain", "b.tar.gz")
        self.assertNotIn("data/history.sqlite", self.contents("b.tar.gz"))

    def test_elsewhere(self) -> None:
        """What the configuration has in other places is in the backup under its usual name."""
        shutil.move(self.layout.data / "taky.sqlite", self.folder / "picture.db")
        shutil.move(self.layout.data / "dp-user", self.folder / "files")
        text = self.layout.conf.read_text("utf-8")
        text = text.replace("root_dir = data", f"root_dir = data\nstore = sqlite:{self.folder}/picture.db")
        self.layout.conf.write_text(f"{text}\n[dp_server]\nupload_path = {self.folder}/files\n", "utf-8")
        self.run_well("backup", "--plain", "b.tar.gz")
        self.assertLessEqual({"data/taky.sqlite", f"data/dp-user/blobs/0a/{HASH}"}, set(self.contents("b.tar.gz")))

    def test_little(self) -> None:
        """A site that never ran, keeps nothing and has no register is backed up as well."""
        shutil.rmtree(self.layout.data)
        text = self.layout.conf.read_text("utf-8").replace("cert_db = ssl/cert-db.txt", "cert_db =")
        self.layout.conf.write_text(text.replace("root_dir = data", "root_dir = data\nstore = memory:"), "utf-8")
        (self.layout.ssl / "ca.key").unlink()
        ran = self.run_well("backup", "--plain", "b.tar.gz")
        self.assertIn("note: [ssl] ca_key", ran.err)
        names = set(self.contents("b.tar.gz"))
        self.assertEqual(names, {"taky.conf", "ssl/ca.crt", "ssl/server.crt", "ssl/server.key", "ssl/server.p12"})

    def test_new_register(self) -> None:
        """A register of taky alone, with something strange beside it, is taken as it is."""
        (self.layout.ssl / "cert-db.jsonl").unlink()
        (self.layout.ssl / "issued/notes.pem").write_text("x")
        self.run_well("backup", "--plain", "b.tar.gz")
        names = self.contents("b.tar.gz")
        self.assertIn("ssl/cert-db.txt", names)
        self.assertNotIn("ssl/cert-db.jsonl", names)
        self.assertNotIn("ssl/issued/notes.pem", names)

    def test_damaged(self) -> None:
        """A database that cannot be copied is told, and nothing is left behind."""
        (self.layout.data / "taky.sqlite").write_bytes(b"garbage" * 1000)
        line = self.fail_to("backup", "--plain", "b.tar.gz")
        self.assertIn("taky.sqlite cannot be copied: file is not a database", line)
        self.assertEqual([path.name for path in self.folder.glob("*b.tar*")] + list(self.folder.glob(".taky*")), [])

    def test_never_over(self) -> None:
        """A backup that is there is only replaced with --force."""
        Path("b").write_text("old")
        self.assertIn("--force replaces it", self.fail_to("backup", "--plain", "b"))
        self.run_well("backup", "--plain", "--force", "b")
        self.assertNotEqual(Path("b").read_bytes(), b"old")

    def ask(self, *answers: str) -> None:
        """Let there be a terminal at which somebody answers."""
        given = list(answers)

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        self.patch(sys, "stdin", Terminal())
        self.patch(getpass, "getpass", lambda _: given.pop(0))

    def test_asked(self) -> None:
        """The passphrase is asked for, twice, and has a length that is worth something."""
        self.ask(SECRET, SECRET)
        self.run_well("backup", "b")
        self.ask(SECRET, "another one")
        self.assertIn("not the same; nothing was written", self.fail_to("backup", "c"))
        self.ask("short", "short")
        self.assertIn("at least 8 characters", self.fail_to("backup", "c"))
        self.assertFalse(Path("c").exists())
        self.ask(SECRET)
        self.assertEqual(takyctl("restore", "b", "back").status, 0)

    def test_strange_passphrase(self) -> None:
        """A passphrase that is no text, and none at all (Control-D), is one line and not a traceback."""
        Path("image").write_bytes(b"\xff\xfe\x00")
        self.assertIn("image: not UTF-8 text", self.fail_to("backup", "--passphrase-file", "image", "b"))
        self.ask("passphrase\udcff", "passphrase\udcff")
        self.assertIn("not UTF-8 text", self.fail_to("backup", "b"))

        def ended(_: str) -> str:
            raise EOFError

        self.patch(getpass, "getpass", ended)
        self.assertIn("no passphrase was given", self.fail_to("backup", "b"))
        self.assertFalse(Path("b").exists())

    def test_nobody_to_ask(self) -> None:
        """Without a terminal the way for scripts is told."""
        self.patch(sys, "stdin", io.StringIO())
        self.assertIn("name a file with --passphrase-file", self.fail_to("backup", "b"))

    def test_disk(self) -> None:
        """A folder that is not there is told."""
        self.assertIn("No such file or directory", self.fail_to("backup", "--plain", "nowhere/b"))
        self.assertIn("none: No such file", self.fail_to("backup", "--passphrase-file", "none", "b"))
