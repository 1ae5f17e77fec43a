from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from threading import Event

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.enterprise_sync.disk_thread import STOP_SECONDS
from taky_twisted.enterprise_sync.files import Caller, Words
from taky_twisted.enterprise_sync.service import EXPIRE_SECONDS, EnterpriseSync
from taky_twisted.enterprise_sync.upload import Order
from taky_twisted.interfaces import StoreError
from taky_twisted.stores.memory import MemoryStore
from tests.enterprise_sync.taky_folder import TakyFolder
from tests.threaded_clock import EPOCH, PATIENCE, ThreadedClock


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.store = MemoryStore(self.clock)
        self.path = Path(self.mktemp()).absolute()
        self.sync = self.make()

    def make(self) -> EnterpriseSync:
        return EnterpriseSync(self.clock, self.store, self.path, Limits())

    def start(self) -> None:
        self.sync.restore(self.clock.wait(self.store.open()).files)
        self.sync.start("a" * 32, None)

    def stop(self) -> None:
        self.clock.wait(Deferred.fromCoroutine(self.sync.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def upload(self, data: bytes, words: Words) -> None:
        upload = self.sync.uploads.begin(Order(Caller(), words), lambda: None, lambda: None)
        upload.write(data)
        self.clock.wait(upload.finish())

    def test_restart(self) -> None:
        """What is stored is there after a restart, and what is left over goes."""
        self.start()
        self.upload(b"data", Words(name="a"))
        self.stop()
        (self.path / "blobs" / "incoming" / "left").write_bytes(b"half")
        self.sync = self.make()
        self.start()
        file = self.sync.files.find(Caller(), hash=sha256(b"data").hexdigest())
        self.assertEqual(file.name, "a")
        self.assertEqual(list((self.path / "blobs" / "incoming").iterdir()), [])
        self.stop()

    def test_node(self) -> None:
        """One of several nodes gets what it lacks from the others when it starts."""
        self.start()
        self.upload(b"data", Words(name="a"))
        self.stop()
        (self.path / "blobs" / sha256(b"data").hexdigest()[:2] / sha256(b"data").hexdigest()).unlink()
        self.sync = EnterpriseSync(self.clock, self.store, self.path, Limits(), "node")
        fetched: list[int] = []

        def fetch(digest: str, size: int) -> Deferred[None]:
            fetched.append(size)
            return succeed(None)

        self.sync.blobs.fetch = fetch
        self.start()
        while not fetched:
            self.clock.run_one()
        self.assertEqual(fetched, [4])
        self.stop()

    def test_expire(self) -> None:
        """Files whose time is over go by themselves."""
        self.start()
        self.upload(b"data", Words(name="a", expiration=EPOCH + 1))
        self.clock.advance(EXPIRE_SECONDS)
        self.assertEqual(self.clock.wait(self.store.open()).files, [])
        self.stop()

    def test_taky(self) -> None:
        """What taky has is taken over after the start, without being waited for."""
        digest = TakyFolder(self.path).upload("A", "a.zip", b"data")
        self.start()
        self.assertEqual(self.sync.files.all(Caller()), [])
        while not self.sync.files.all(Caller()):
            self.clock.run_one()
        self.assertEqual(self.sync.files.find(Caller(), hash=digest).name, "a.zip")
        self.stop()

    def test_not_taken_over(self) -> None:
        """It can be left to another process of the same server."""
        TakyFolder(self.path).upload("A", "a.zip", b"data")
        self.sync.start("a" * 32, None, takes_over=False)
        for _ in range(3):
            self.clock.wait(self.sync.blobs.aside(lambda: None))
            self.clock.wait(self.sync.blobs.write(lambda: None))
        self.assertEqual(self.sync.files.all(Caller()), [])
        self.stop()

    def test_cannot_start(self) -> None:
        """A folder that cannot be used ends the start; stopping works all the same."""
        self.path.write_text("no folder")
        self.assertRaises(StoreError, self.start)
        self.stop()

    def test_hanging(self) -> None:
        """A disk that does not answer does not keep the server from stopping."""
        self.start()
        go_on = Event()
        self.clock.wait(self.sync.blobs.aside(lambda: None))
        hanging = self.sync.blobs.write(go_on.wait, PATIENCE)
        stopping = Deferred.fromCoroutine(self.sync.stop())
        self.assertNoResult(stopping)
        self.clock.advance(STOP_SECONDS)
        self.successResultOf(stopping)
        go_on.set()
        self.clock.wait(hanging)
