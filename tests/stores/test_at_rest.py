from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.interfaces import StoreError
from taky_twisted.records import Kept
from taky_twisted.stores.at_rest import StoreAtRest
from taky_twisted.stores.migrations import migrations
from taky_twisted.stores.sqlite import SqliteStore
from tests.stores.contract import account, item
from tests.threaded_clock import EPOCH, ThreadedClock


class AtRestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.store = StoreAtRest(None, self.folder)

    def served(self) -> Kept:
        """Read what a server finds."""
        clock = ThreadedClock()
        store = SqliteStore(self.store.path, clock)
        kept = self.successResultOf(store.open())
        clock.wait(store.close())
        return kept

    def test_server_finds_it(self) -> None:
        """What is written is what the server finds at its next start, and the other way round."""
        self.assertEqual(self.store.read(EPOCH), Kept())
        self.store.put(account("a"))
        self.store.put(account("b"))
        self.store.put(item())
        self.store.remove(type(account()), "b")
        self.successResultOf(self.store.flush())
        self.assertEqual(self.served(), Kept())
        self.store.save()
        self.assertEqual(self.served(), Kept(accounts=[account("a")], items=[item()]))
        self.assertEqual(StoreAtRest(None, self.folder).read(EPOCH).accounts, [account("a")])

    def test_new(self) -> None:
        """A store that is not there is made, for its owner's eyes only."""
        self.store.read(EPOCH)
        self.assertEqual(stat.S_IMODE(self.store.path.stat().st_mode), 0o600)

    def test_older(self) -> None:
        """The store of an older version is brought up to date, after a copy was made."""
        with closing(sqlite3.connect(self.store.path)) as connection:
            connection.executescript(migrations()[0] + "; PRAGMA application_id = 0x54616B79; PRAGMA user_version = 1")
        self.assertEqual(self.store.read(EPOCH), Kept())
        self.assertTrue(self.store.path.with_name("taky.sqlite.schema-1").exists())

    def test_named(self) -> None:
        """The file is where the configuration says."""
        self.assertEqual(StoreAtRest("sqlite:x.db", self.folder).path, self.folder / "x.db")
        self.assertEqual(StoreAtRest("sqlite:/a/x.db", self.folder).path, Path("/a/x.db"))
        for description in ("memory:", "redis:x", "sqlite:"):
            error = self.assertRaises(StoreError, StoreAtRest, description, self.folder)
            self.assertIn("start it first", str(error))

    def test_unusable(self) -> None:
        """A file that is no store, or cannot be written, is told of in one line; nothing was changed."""
        self.store.path.write_bytes(b"rubbish" * 1000)
        self.assertIn("as store", str(self.assertRaises(StoreError, self.store.read, EPOCH)))
        self.store.path.unlink()
        self.store.read(EPOCH)
        self.store.put(account("a"))
        with closing(sqlite3.connect(self.store.path, isolation_level=None)) as other:
            other.execute("DROP TABLE account")
        self.assertIn("nothing was changed", str(self.assertRaises(StoreError, self.store.save)))

    def test_locked(self) -> None:
        """So is one that another program has locked."""
        self.store.read(EPOCH)
        self.patch(self.store, "_connect", lambda: sqlite3.connect(self.store.path, timeout=0, isolation_level=None))
        self.store.put(account("a"))
        with closing(sqlite3.connect(self.store.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            self.assertIn("locked", str(self.assertRaises(StoreError, self.store.save)))
        self.store.save()
        self.assertEqual(self.served().accounts, [account("a")])
