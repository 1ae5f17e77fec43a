from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.interfaces import StoreError
from taky_twisted.stores.migrations import (
    APPLICATION_ID,
    check_version,
    copy_path,
    create_private,
    migrations,
    upgrade,
)

FIRST = "CREATE TABLE a (n INTEGER); INSERT INTO a VALUES (1);"
SECOND = "INSERT INTO a VALUES (2);"
THIRD = "INSERT INTO a VALUES (3)"
BROKEN = "INSERT INTO a VALUES (99); INSERT INTO nowhere VALUES (1);"


class UpgradeTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.path = folder / "store"

    def upgrade(self, *scripts: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            upgrade(connection, self.path, scripts)

    def numbers(self, path: Path | None = None) -> list[int]:
        with closing(sqlite3.connect(path or self.path)) as connection:
            return [number for (number,) in connection.execute("SELECT n FROM a ORDER BY n")]

    def version(self) -> tuple[int, int]:
        with closing(sqlite3.connect(self.path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
        return version, owner

    def test_fresh(self) -> None:
        """A new file gets all migrations and no copy."""
        self.upgrade(FIRST, SECOND, THIRD)
        self.assertEqual(self.numbers(), [1, 2, 3])
        self.assertEqual(self.version(), (3, APPLICATION_ID))
        self.assertEqual(os.listdir(self.path.parent), ["store"])

    def test_once(self) -> None:
        """Each migration runs once in a file's life."""
        self.upgrade(FIRST)
        self.upgrade(FIRST)
        self.upgrade(FIRST, SECOND)
        self.upgrade(FIRST, SECOND)
        self.assertEqual(self.numbers(), [1, 2])

    def test_copy(self) -> None:
        """Before a file that holds something is changed, a private copy is made; it is what the file was."""
        self.upgrade(FIRST)
        self.upgrade(FIRST, SECOND, THIRD)
        copy = self.path.parent / "store.schema-1"
        self.assertEqual(self.numbers(copy), [1])
        self.assertEqual(stat.S_IMODE(copy.stat().st_mode), 0o600)
        self.assertEqual(sorted(os.listdir(self.path.parent)), ["store", "store.schema-1"])

    def test_no_copy_no_upgrade(self) -> None:
        """Where no copy can be made nothing is upgraded, and the operator is told why."""
        self.upgrade(FIRST)
        copy_path(self.path, 1).mkdir()
        with self.assertRaises(StoreError) as caught:
            self.upgrade(FIRST, SECOND)
        self.assertIn("making a copy of it first", str(caught.exception))
        self.assertIn("store.schema-1", str(caught.exception))
        self.assertEqual(self.version()[0], 1)
        self.assertEqual(self.numbers(), [1])

    def test_copy_left_unfinished(self) -> None:
        """What an earlier attempt left of its copy does no harm."""
        self.upgrade(FIRST)
        copy_path(self.path, 1).with_name("store.schema-1.unfinished").write_bytes(b"half")
        self.upgrade(FIRST, SECOND)
        self.assertEqual(sorted(os.listdir(self.path.parent)), ["store", "store.schema-1"])

    def test_broken(self) -> None:
        """A migration that fails leaves the file as the one before left it."""
        with self.assertRaises(sqlite3.OperationalError):
            self.upgrade(FIRST, SECOND, BROKEN)
        self.assertEqual(self.numbers(), [1, 2])
        self.assertEqual(self.version()[0], 2)

    def test_newer(self) -> None:
        """A newer file is refused with both versions, and the copy that may help is named."""
        self.upgrade(FIRST, SECOND, THIRD)
        with self.assertRaises(StoreError) as caught:
            self.upgrade(FIRST, SECOND)
        self.assertIn("schema is 3", str(caught.exception))
        self.assertIn("up to 2", str(caught.exception))
        self.assertIn("store.schema-2", str(caught.exception))

    def test_not_ours(self) -> None:
        """A file that bears another program's marks is refused."""
        for mark in ("PRAGMA application_id = 1", "PRAGMA user_version = 1", "CREATE TABLE a (n)"):
            with closing(sqlite3.connect(":memory:")) as connection:
                self.assertEqual(check_version(connection, self.path, 1), 0)
                connection.execute(mark)
                with self.assertRaises(StoreError) as caught:
                    check_version(connection, self.path, 1)
                self.assertIn("another program", str(caught.exception))


class SchemaTests(SynchronousTestCase):
    def test_numbered(self) -> None:
        """The migrations are numbered without a gap."""
        folder = Path(__file__).resolve().parent.parent.parent / "taky_twisted" / "stores" / "schema"
        names = sorted(path.name for path in folder.iterdir())
        self.assertEqual(names, [f"{number:03}.sql" for number in range(1, len(names) + 1)])
        self.assertEqual(len(migrations()), len(names))
        self.assertIn("CREATE TABLE item", migrations()[0])


class CreatePrivateTests(SynchronousTestCase):
    def test_existing(self) -> None:
        """A file that is there keeps its content and its mode."""
        path = Path(self.mktemp())
        path.write_text("x")
        path.chmod(0o640)
        create_private(path)
        self.assertEqual(path.read_text(), "x")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)

    def test_new(self) -> None:
        """A new file is the owner's alone."""
        path = Path(self.mktemp())
        create_private(path)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
