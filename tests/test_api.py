from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.api import Api
from taky_twisted.config import Settings
from taky_twisted.config.limits import Limits
from taky_twisted.data_folder import DataFolder
from taky_twisted.enterprise_sync.files import Caller
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.passwords import hash_of
from taky_twisted.identity.principal import Principal
from taky_twisted.records import Kept
from taky_twisted.routing.router import Router
from taky_twisted.stores.memory import MemoryStore
from tests.enterprise_sync.taky_folder import TakyFolder
from tests.fakes import MemorySink
from tests.marti.asking import Connection, spell
from tests.samples import event, marker
from tests.threaded_clock import ThreadedClock


class ApiTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ThreadedClock()
        self.settings = Settings(store="memory:", hostname="tak.example", public_url="https://tak.example:8443")
        self.folder = DataFolder(Path(self.mktemp()))
        self.store = MemoryStore(self.reactor)
        self.router = Router(self.reactor, self.store, self.settings.limits)
        self.api = Api(self.reactor, self.settings, self.folder, self.store, self.router)

    def start(self) -> None:
        """Start it as the server does."""
        self.folder.open()
        self.addCleanup(self.folder.close)
        found: list[Kept] = []
        self.store.open().addCallback(found.append)
        self.router.restore(found[0])
        self.api.restore(found[0])
        self.api.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop it, if it runs, and wait for the end."""
        if self.api.running:
            stopped = self.api.stopService()
            assert isinstance(stopped, Deferred)
            self.reactor.wait(stopped)

    def test_routes(self) -> None:
        """No path is answered by two areas: which of them were asked would be chance."""
        table = self.api.marti.table
        answered = Counter((bound.route.path, method) for bound in table.bound for method in bound.route.methods)
        self.assertEqual([route for route, count in answered.items() if count > 1], [])
        self.assertGreater(len(answered), 40)

    def test_server(self) -> None:
        """What the API says about the server is what the operator has said, and its id."""
        self.start()
        connection = Connection(self.api.site(anonymous=True))
        connection.send(spell("GET", "/Marti/api/node/id"))
        self.assertEqual(connection.answer().body.decode(), self.folder.server_id())
        self.assertEqual(self.api.info.public_url, "https://tak.example:8443")
        connection.lose()

    def test_doors(self) -> None:
        """All doors share the count of connections, and each has its name and its rule for callers without TLS."""
        self.start()
        one, two = self.api.site(True, "tcp:1"), self.api.site(False, "tcp:2")
        self.assertEqual([(site.door, site.anonymous) for site in (one, two)], [("tcp:1", True), ("tcp:2", False)])
        self.assertIs(one.marti, two.marti)
        connections = [Connection(one), Connection(two)]
        self.assertEqual(len(self.api.connections), 2)
        for connection, status in zip(connections, (200, 401), strict=True):
            connection.send(spell("GET", "/Marti/api/version"))
            self.assertEqual(connection.answer().status, status)
            connection.lose()

    def test_accounts(self) -> None:
        """With accounts there are access tokens on the enrollment port, and passwords count there."""
        accounts = Accounts(self.reactor, self.store)
        self.addCleanup(accounts.stop)
        accounts.add("fox", hash_of("secret12"))
        self.api = Api(self.reactor, self.settings, self.folder, self.store, self.router, accounts=accounts)
        self.start()
        for site, expected in ((self.api.enroll_site("ssl:1"), 400), (self.api.site(True, auth="password"), 404)):
            connection = Connection(site)
            connection.send(spell("POST", "/oauth/token", b"", {"X": "y"}))
            self.assertEqual(connection.answer().status, 401 if site.enrolls else expected)
            connection.lose()
        self.assertTrue(self.api.enroll_site("ssl:1").takes_passwords)
        self.assertIs(self.api.marti.callers.accounts, accounts)
        self.assertIsNone(self.api.marti.callers.tokens)
        self.assertIsNotNone(self.api.enroll_marti.callers.tokens)

    def test_stop(self) -> None:
        """A stop closes the connections, and is done when they are closed."""
        self.start()
        connection = Connection(self.api.site(anonymous=True))
        stopped = self.api.stopService()
        assert isinstance(stopped, Deferred)
        self.assertEqual(connection.closed, "closed")
        self.assertNoResult(stopped)
        connection.lose()
        self.reactor.wait(stopped)

    def test_close_refused(self) -> None:
        """Who is anonymous has no certificate that could be revoked."""
        self.start()
        connection = Connection(self.api.site(anonymous=True))
        self.api.close_refused()
        self.assertIsNone(connection.closed)
        connection.lose()


class ContentsTests(SynchronousTestCase):
    def test_another_store(self) -> None:
        """A server that is started with another store leaves alone the contents that only its usual store knows of."""
        folder = DataFolder(Path(self.mktemp()))
        content = folder.path / "dp-user" / "blobs" / "ab" / f"ab{'0' * 62}"
        reactor = ThreadedClock()
        for store, kept in ((None, True), ("memory:", True), ("sqlite:/elsewhere", True), (None, False)):
            settings = Settings(store=store, limits=Limits(history_days=0))
            memory = MemoryStore(reactor)
            api = Api(reactor, settings, folder, memory, Router(reactor, memory, settings.limits))
            folder.open()
            api.startService()
            if not content.parent.exists():
                content.parent.mkdir()
                content.write_bytes(b"data")
            self.assertEqual(content.exists(), kept, store)
            stopped = api.stopService()
            assert isinstance(stopped, Deferred)
            reactor.wait(stopped)
            folder.close()


class TakeoverTests(SynchronousTestCase):
    def test_workers(self) -> None:
        """Of several workers one takes over what taky has: later ones would bring back what was deleted since."""
        for worker, names in ((None, ["a.zip"]), (1, ["a.zip"]), (2, [])):
            reactor, folder = ThreadedClock(), DataFolder(Path(self.mktemp()))
            uploads = folder.path / "dp-user"
            TakyFolder(uploads).upload("A", "a.zip", b"data", Visibility="public")
            (uploads / "video_feed").mkdir()
            (uploads / "video_feed" / "v.xml").write_text(
                "<feed><protocol>rtsp</protocol><alias>Drone</alias><uid>V-1</uid><address>10.0.0.1</address>"
                "<port>554</port><path>/a</path></feed>"
            )
            settings = Settings(worker=worker, limits=Limits(history_days=0))
            store = MemoryStore(reactor)
            api = Api(reactor, settings, folder, store, Router(reactor, store, settings.limits))
            folder.open()
            api.startService()
            while len(api.videos) < len(names):
                reactor.run_one()
            for _ in range(3):  # found, read, put in its place: each is over when what comes after it in its thread is
                reactor.wait(api.sync.blobs.aside(lambda: None))
                reactor.wait(api.sync.blobs.write(lambda: None))
            self.assertEqual([file.name for file in api.files.all(Caller())], names, worker)
            self.assertEqual(len(api.videos), len(names))
            stopped = api.stopService()
            assert isinstance(stopped, Deferred)
            reactor.wait(stopped)
            folder.close()


class HistoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ThreadedClock()
        self.folder = DataFolder(Path(self.mktemp()))

    def api(self, settings: Settings) -> Api:
        """Put the API together."""
        store = MemoryStore(self.reactor)
        self.router = Router(self.reactor, store, settings.limits)
        return Api(self.reactor, settings, self.folder, store, self.router)

    def test_off(self) -> None:
        """Who wants no history, or nothing on a disk, has none, and the router is spared."""
        for settings in (Settings(limits=Limits(history_days=0)), Settings(store="memory:")):
            self.assertIsNone(self.api(settings).history)
            self.assertIsNone(self.router.witness)

    def test_on(self) -> None:
        """By default there is one, in the data folder, which tells what was said before the server was stopped."""
        for documents, found in ((2, 2), (0, 2)):
            api = self.api(Settings())
            self.folder.open()
            api.startService()
            speaker = self.router.speaker(Principal(), MemorySink(), "test")
            for number in range(documents):
                speaker.publish(event(marker(f"M-{number}")))
            connection = Connection(api.site(anonymous=True))
            connection.send(spell("POST", "/Marti/api/cot", b'["M-0", "M-1"]'))
            while not connection.transport.value():
                self.reactor.run_one()
            self.assertEqual(connection.answer().body.count(b"</event>"), found)
            connection.lose()
            stopped = api.stopService()
            assert isinstance(stopped, Deferred)
            self.reactor.wait(stopped)
            self.folder.close()
            self.router.stop()
            left = [name for name in os.listdir(self.folder.path) if name.startswith("history")]
            self.assertEqual(left, ["history.sqlite"])
