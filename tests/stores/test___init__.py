from __future__ import annotations

from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.values import RedisSettings
from taky_twisted.identity.errors import EndpointError
from taky_twisted.interfaces import StoreError
from taky_twisted.stores import MemoryStore, SqliteStore, open_store
from taky_twisted.stores.redis import RedisStore
from tests.threaded_clock import ThreadedClock


class OpenStoreTests(SynchronousTestCase):
    folder = Path("/srv/taky-data")

    def path_of(self, description: str | None) -> Path:
        store = open_store(description, self.folder, ThreadedClock())
        assert isinstance(store, SqliteStore)
        return store.path

    def test_default(self) -> None:
        """With nothing said, everything is kept in a file in the data folder."""
        self.assertEqual(self.path_of(None), self.folder / "taky.sqlite")

    def test_sqlite(self) -> None:
        """A path is relative to the data folder, or absolute; colons belong to it."""
        self.assertEqual(self.path_of("sqlite:sub/other.db"), self.folder / "sub/other.db")
        self.assertEqual(self.path_of("sqlite:/var/lib/a:b.db"), Path("/var/lib/a:b.db"))

    def test_memory(self) -> None:
        """A store that keeps nothing can be asked for."""
        self.assertIsInstance(open_store("memory:", self.folder, ThreadedClock()), MemoryStore)

    def test_unknown(self) -> None:
        """Anything else is refused with what was said and what may be said."""
        for description in ("", "memory", "memory:x", "sqlite", "sqlite:", "mysql:host", "redis:"):
            with self.assertRaises(StoreError) as caught:
                open_store(description, self.folder, ThreadedClock())
            self.assertIn(f"store = {description}: ", str(caught.exception))
            self.assertIn("write sqlite:PATH", str(caught.exception))

    def test_redis(self) -> None:
        """A Redis is named with user, password and database; what cannot be one is refused."""
        settings = RedisSettings("tcp:localhost:6379", db=3)
        store = open_store("redis:tcp:localhost:6379", self.folder, MemoryReactorClock(), settings, "tak.example")
        assert isinstance(store, RedisStore)
        self.assertEqual(store.where, "redis:tcp:localhost:6379")
        with self.assertRaises(EndpointError):
            open_store("redis:tpc:x", self.folder, MemoryReactorClock(), RedisSettings("tpc:x"), "tak.example")
