"""A server's stored files without any door: real threads and files, a clock that stands still."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.files import Caller, Files, Words
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import principal
from tests.threaded_clock import ThreadedClock

T = TypeVar("T")

ALICE, BOB, NOBODY = Caller(principal("alice")), Caller(principal("bob")), Caller(address="192.0.2.1")
SERVER_ID = "a" * 32


class StoredFiles:
    """Blobs, files and a store."""

    def __init__(self, test: SynchronousTestCase, limit: int = 100) -> None:
        self.clock = ThreadedClock()
        self.store = MemoryStore(self.clock)
        self.upload_path = Path(test.mktemp()).absolute()
        self.blobs = Blobs(self.upload_path / "blobs", self.clock)
        self.blobs.open(SERVER_ID, ())
        self.files = Files(self.store, self.blobs, self.clock, limit)
        test.addCleanup(lambda: self.clock.wait(self.blobs.stop()))

    def run(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """Wait for something."""
        return self.clock.wait(Deferred.fromCoroutine(coroutine))

    def add(self, caller: Caller = ALICE, data: bytes = b"data", **words: Any) -> StoredFile:
        """Store something."""
        incoming = self.blobs.begin()
        self.clock.wait(self.blobs.write(incoming.write, data))
        self.clock.wait(self.blobs.write(incoming.seal))
        return self.run(self.files.add(incoming, Words(**({"name": "a.zip"} | words)), caller))

    def contents(self) -> set[str]:
        """List the contents on disk, when all is done that was asked for."""
        self.clock.wait(self.blobs.write(lambda: None))
        return {path.name for path in self.blobs.folder.glob("??/*")}
