"""A store in a real Redis, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from taky_twisted.config.values import RedisSettings
from taky_twisted.cot.event import PROLOG
from taky_twisted.records import Kept, Record
from taky_twisted.redis_client import Redis
from taky_twisted.routing.records import Item
from taky_twisted.stores.redis import RedisStore
from tests.fakes import LogLines
from tests.redis_server import RedisServer
from tests.samples import marker

HOST = "tak.example"
PERSIST = f"taky:{HOST}:persist:"
INDEX = f"taky:{HOST}:store:items"


class RedisTestCase(TestCase):
    """A real Redis and, unless a test says otherwise, time as it is."""

    server_options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.log = LogLines(self)
        self.server = RedisServer(self, **self.server_options)
        self.store: RedisStore | None = None

    async def tearDown(self) -> None:  # type: ignore[override]  # trial takes a coroutine
        await self.close()

    async def open(
        self, import_groups: Collection[str] | None = None, node: str = "", former: Sequence[str] = (), **settings: Any
    ) -> Kept:
        """Open a store, after closing the one before."""
        await self.close()
        redis = Redis(reactor, RedisSettings(settings.pop("endpoint", self.server.endpoint), **settings))
        store = RedisStore(IReactorTime(reactor), redis, HOST, import_groups, node, former)
        kept = await store.open()
        self.store = store
        return kept

    async def close(self) -> None:
        """Close the store, if it is open."""
        store, self.store = self.store, None
        if store is not None:
            await store.close()

    def put(self, *records: Record) -> None:
        """Have records written."""
        assert self.store is not None
        for record in records:
            self.store.put(record)

    async def eventually(self, is_so: Callable[[], object], seconds: float = 5.0) -> float:
        """Wait until something is so; return how many seconds that took."""
        begin = time.monotonic()
        while not is_so():
            self.assertLess(time.monotonic() - begin, seconds, self.log())
            await deferLater(IReactorTime(reactor), 0.01)
        return time.monotonic() - begin

    def warnings(self) -> list[str]:
        """Read what the operator is warned of."""
        return self.log(LogLevel.warn, LogLevel.error, LogLevel.critical)

    def point(self, uid: str, **more: Any) -> Item:
        """Make an item as the router does, of now."""
        now = time.time()
        xml = marker(uid, now=now, stale=600, **more)
        return Item(uid, "b-m-p-s-m", PROLOG + xml, frozenset({"red"}), now, now + 600, now + 600)
