from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_crl
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase, TestCase

from taky_twisted.admitting import make_accounts
from taky_twisted.api import Api
from taky_twisted.bus import shared_log, shared_turns
from taky_twisted.config import Settings, SslSettings
from taky_twisted.config.limits import Limits
from taky_twisted.data_folder import DataFolder
from taky_twisted.enrollment.issuing import Device, Issued
from taky_twisted.enrollment.register import CRL_NAME, CertificateRegister
from taky_twisted.enrollment.service import NoUseLeft, TooOften
from taky_twisted.enterprise_sync.files import Caller, Words
from taky_twisted.identity.principal import Principal
from taky_twisted.reloading import Reloading
from taky_twisted.routing import switching
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.sharing import Sharing, _changed, _is_id, _is_key
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.video.connections import Connection, Feed
from tests.enrollment.site_files import made_authority, written
from tests.enrollment.test_signing_requests import request
from tests.fakes import LogLines, MemorySink, principal
from tests.redis_server import RedisServer

RED, BLUE = frozenset({"Red"}), frozenset({"Blue"})


class CountingReload(Reloading):
    """Reads nothing, and counts how often it was told to."""

    count = 0

    def __init__(self, reloaded: Callable[[], None]) -> None:
        super().__init__(IReactorTime(reactor), (), reloaded)
        self.told = reloaded

    def reload(self) -> Deferred[None]:
        self.count += 1
        self.told()
        return succeed(None)


class Node:
    """What of a server has to do with sharing."""

    def __init__(
        self, folder: Path, endpoint: str, *, http: bool = True, register: Path | None = None, **ssl: Any
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.register = CertificateRegister(register or folder / "cert-db.txt")
        settings = Settings(
            bus_endpoint=endpoint, store="memory:", data_dir=folder, ssl=SslSettings(cert_db=self.register.path, **ssl)
        )
        self.node_id = settings.node_id
        self.folder = DataFolder(folder)
        self.sharing = Sharing(reactor, settings, MemoryStore(IReactorTime(reactor)), self.folder)
        store = self.sharing.store
        self.router = Router(IReactorTime(reactor), store, Limits())
        self.accounts = make_accounts(reactor, store, self.router, None)
        self.api = Api(reactor, settings, self.folder, store, self.router, accounts=self.accounts) if http else None
        self.reloading = CountingReload(self.sharing.reloaded)
        self.sharing.join(self.router, self.accounts, self.api, self.reloading, ())

    async def start(self) -> None:
        """Start, as far as this has to do with it."""
        self.router.flow_tag += self.folder.server_id()
        kept = await self.sharing.store.open()
        self.router.restore(kept)
        self.accounts.restore(kept.accounts)
        await self.sharing.prepare()

    async def stop(self) -> None:
        """Stop."""
        await self.sharing.finish()
        self.router.stop()
        self.accounts.stop()
        if self.api is not None:
            await self.api.enrolling.stop()
            await self.api.sync.blobs.stop()
            assert self.api.tokens is not None
            self.api.tokens.stop()

    def connect(self, who: Principal) -> Subscription:
        """Connect somebody."""
        return self.router.subscribe(who, MemorySink(), "10.0.0.1:4711 at ssl:8089")


def serial_of(issued: Issued) -> int:
    """Make of a certificate what the client gets."""
    return issued.certificate.serial_number


class SharingTests(TestCase):
    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.redis = RedisServer(self)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.nodes: list[Node] = []

    async def tearDown(self) -> None:  # type: ignore[override]  # trial takes a coroutine
        for node in self.nodes:
            await node.stop()

    async def start(self, count: int = 2, **keys: Any) -> list[Node]:
        """Start nodes one after the other."""
        for _ in range(count):
            node = Node(self.folder / str(len(self.nodes)), self.redis.unix_endpoint, **keys)
            self.nodes.append(node)
            await node.start()
        return self.nodes

    async def eventually(self, true: Callable[[], bool], seconds: float = 5) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not true():
            self.assertLess(time.monotonic(), end)
            await deferLater(IReactorTime(reactor), 0.005)

    async def test_accounts(self) -> None:
        """Groups that an account is given on one node are those of its streams on another."""
        one, other = await self.start()
        stream = other.connect(principal("alice"))
        one.accounts.add("Alice", "", RED, BLUE)
        await self.eventually(lambda: stream.granted.name != "alice" or stream.sink.closed is not None)  # type: ignore[attr-defined]
        one.accounts.add("bob", "", RED, BLUE)
        await self.eventually(lambda: other.accounts.find("bob") is not None)
        stream = other.connect(other.accounts.principal("bob"))
        one.accounts.set_groups("bob", BLUE, BLUE)
        await self.eventually(lambda: stream.principal.groups_in == BLUE)

    async def test_channels(self) -> None:
        """Who switches a group off on one node has it off on all, also where he is connected."""
        one, other = await self.start()
        bob = principal("bob", RED | BLUE, RED | BLUE)
        here, there, gone = one.connect(bob), other.connect(bob), other.connect(bob)
        gone.closed = True
        switching.switch(one.router, bob, "", RED, RED, time.time())
        await self.eventually(lambda: there.principal.groups_out == RED)
        self.assertEqual(here.principal.groups_out, RED)
        self.assertEqual(gone.principal.groups_out, RED | BLUE)
        switching.switch(other.router, bob, "", RED | BLUE, RED | BLUE, time.time())
        await self.eventually(lambda: here.principal.groups_out == RED | BLUE)

    async def test_http(self) -> None:
        """Invites, files and video connections are those of all nodes."""
        one, other = await self.start()
        assert one.api is not None and other.api is not None
        token = one.api.enrolling.invites.invite("anna")
        invites, videos = other.api.enrolling.invites, other.api.videos
        await self.eventually(lambda: invites.find("anna", token) is not None)
        await one.api.videos.put([Connection("c", "Gate", (Feed("f", "Gate", "rtsp://h:554/x"),))], principal("anna"))
        await self.eventually(lambda: len(videos) == 1)
        numbers = []
        for api in (one.api, other.api):
            record = api.files.insert(Words(name="a"), "0" * 64, 1, Caller(principal("anna")), 0.0)
            numbers.append(record.number)
        await self.eventually(lambda: one.api is not None and len(one.api.files._by_number) == 2)
        self.assertEqual(len(set(numbers)), 2)

    async def test_one_server(self) -> None:
        """Who joins has the server's id and its key for access tokens: what one node has made is good on the other."""
        one, other = await self.start()
        assert one.api is not None and other.api is not None
        self.assertEqual(one.folder.server_id(), other.folder.server_id())
        self.assertEqual(one.router.flow_tag, other.router.flow_tag)
        self.assertTrue(one.router.flow_tag.endswith(one.folder.server_id()))
        self.assertEqual(other.api.info.node_id, one.folder.server_id())
        one.accounts.add("anna", "hash", since_before := RED)
        await self.eventually(lambda: other.accounts.find("anna") is not None)
        assert one.api.tokens is not None and other.api.tokens is not None and since_before
        token = await one.api.tokens.make(one.accounts.principal("anna"))
        await deferLater(IReactorTime(reactor), 1.1)
        self.assertEqual((await other.api.tokens.check(token)).name, "anna")

    async def test_same_time(self) -> None:
        """Nodes that are started for the first time at the same time agree before they open their doors."""
        self.nodes = [Node(self.folder / str(number), self.redis.unix_endpoint) for number in range(4)]
        await gatherResults([Deferred.fromCoroutine(node.start()) for node in self.nodes])
        for _ in range(2):
            for name in ("server-id", "jwt.key"):
                self.assertEqual(len({(self.folder / str(number) / name).read_bytes() for number in range(4)}), 1, name)
            await deferLater(IReactorTime(reactor), 0.5)

    async def test_register(self) -> None:
        """A ban on one node is in the register of another one, and its doors are told, before they open or after."""
        one = (await self.start(1))[0]
        one.register.revoke_name("mallory")
        one.sharing.reloaded()
        await self.eventually(lambda: b"bans\0mallory" in self.redis.shell("HKEYS", "taky:TAKY:shared:versions"))
        (_, other) = await self.start(1)
        self.assertTrue(other.register.is_banned("mallory"))
        self.assertEqual(other.reloading.count, 1)
        other.register.unban("mallory")
        other.sharing.reloaded()
        await self.eventually(lambda: not one.register.is_banned("mallory"))
        await self.eventually(lambda: one.reloading.count == 1)
        self.assertEqual(self.lines(LogLevel.warn), [])

    async def test_revocation_list(self) -> None:
        """A node that can sign writes the list of what others have revoked, for other programs."""
        one = (await self.start(1))[0]
        folder = self.folder / "1"
        folder.mkdir()
        files = written(folder, made_authority())
        (_, other) = await self.start(1, ca=files.certificate, ca_key=files.key)
        one.register.revoke_serial(4711)
        one.sharing.reloaded()
        await self.eventually((folder / CRL_NAME).exists)
        crl = load_pem_x509_crl((folder / CRL_NAME).read_bytes())
        self.assertIsNotNone(crl.get_revoked_certificate_by_serial_number(4711))
        self.assertEqual(other.reloading.count, 1)

    async def test_last_use(self) -> None:
        """Of devices that come to several nodes at the same moment only as many get a certificate as are invited."""
        self.folder.joinpath("ca").mkdir()
        files = written(self.folder / "ca", made_authority())
        register = self.folder / "ca" / "cert-db.txt"  # as of workers on one machine
        nodes = await self.start(3, ca=files.certificate, ca_key=files.key, register=register)
        enrollings = [node.api.enrolling for node in nodes if node.api is not None]
        token = enrollings[0].invites.invite("anna", 2)
        await self.eventually(lambda: all(each.invited("anna", token) for each in enrollings))
        asked = []
        for number, each in enumerate(2 * enrollings):
            body, device = request(ec.generate_private_key(ec.SECP256R1()), "anna"), Device(f"A-{number}")
            assert each.enrollment is not None
            signing = each.enrollment.sign("anna", body, device, each.invited("anna", token), lambda issued: 1)
            asked.append(Deferred.fromCoroutine(signing).addErrback(lambda failure: failure.trap(NoUseLeft) and 0))
        self.assertEqual(sum(await gatherResults(asked)), 2)
        token = enrollings[0].invites.invite("anna", 2)
        await self.eventually(lambda: all(each.invited("anna", token) for each in enrollings))
        body, serials = request(ec.generate_private_key(ec.SECP256R1()), "anna"), []
        for each in enrollings:
            assert each.enrollment is not None
            signing = each.enrollment.sign("anna", body, Device("A"), each.invited("anna", token), serial_of)
            serials.append(Deferred.fromCoroutine(signing))
        self.assertEqual(len(set(await gatherResults(serials))), 1, "one device that asks several nodes")
        self.assertEqual([invite.uses for invite in enrollings[0].invites], [1])
        for each in enrollings:
            each.invites.withdraw("anna")
        await self.eventually(lambda: not any(list(each.invites) for each in enrollings))

    async def test_invite_is_busy(self) -> None:
        """Where another node does not come to an end with an invite the client is told to try again."""
        self.patch(shared_turns, "TRIES", 1)
        self.folder.joinpath("ca").mkdir()
        files = written(self.folder / "ca", made_authority())
        (one,) = await self.start(1, ca=files.certificate, ca_key=files.key)
        assert one.api is not None and one.api.enrolling.enrollment is not None
        token = one.api.enrolling.invites.invite("anna")
        invited = one.api.enrolling.invited("anna", token)
        assert invited is not None
        self.redis.shell("SET", f"taky:{one.node_id}:shared:turn:invites\0{invited.hash}", "another node")
        body = request(ec.generate_private_key(ec.SECP256R1()), "anna")
        with self.assertRaises(TooOften):
            await one.api.enrolling.enrollment.sign("anna", body, Device("A"), invited, lambda issued: 1)

    async def test_streams_alone(self) -> None:
        """A node that serves no HTTP keeps what the others share of it, for the others."""
        one = (await self.start(1))[0]
        assert one.api is not None
        one.api.enrolling.invites.invite("anna")
        (_, other) = await self.start(1, http=False)
        kept = await other.sharing.store.open()
        self.assertEqual(len(kept.invites), 1)
        self.assertEqual(other.folder.server_id(), one.folder.server_id())
        self.assertTrue((self.folder / "1" / "jwt.key").exists())

    async def test_no_redis(self) -> None:
        """Without Redis a node goes on with what it has, and is told so by nobody else."""
        self.patch(shared_log, "OPEN_SECONDS", 0.2)
        self.redis.kill()
        (one,) = await self.start(1)
        assert one.api is not None
        one.sharing.reloaded()
        self.assertGreater(one.api.files.insert(Words(name="a"), "0" * 64, 1, Caller(principal("a")), 0.0).number, 1)
        self.assertIn("serves its last copy", self.lines(LogLevel.warn)[0])
        self.assertTrue((self.folder / "0" / "jwt.key").exists())

    async def test_no_key(self) -> None:
        """A key for access tokens that cannot be read keeps no node from starting."""
        (self.folder / "0").mkdir()
        (self.folder / "0" / "jwt.key").write_bytes(b"?")
        await self.start(1)
        self.assertIn("cannot be read", self.lines(LogLevel.warn)[0])

    async def test_stopped_early(self) -> None:
        """A node that is told to stop while it waits for Redis stops."""
        self.redis.kill()
        node = Node(self.folder / "0", self.redis.unix_endpoint)
        self.nodes.append(node)
        starting = Deferred.fromCoroutine(node.start())
        await deferLater(IReactorTime(reactor), 0.2)
        starting.cancel()
        starting.addErrback(lambda failure: None)
        await starting


class ChangedTests(SynchronousTestCase):
    def changed(self, store: str | None, folder: Path) -> float:
        """Say when a store was changed."""
        return _changed(IReactorTime(reactor), Settings(store=store), folder)()

    def test_changed(self) -> None:
        """What was changed while a node was stopped was so when its file was; other stores are no files."""
        folder = Path(self.mktemp())
        folder.mkdir()
        self.assertEqual(self.changed(None, folder), 0)
        for name, moment in (("taky.sqlite", 1000), ("taky.sqlite-wal", 2000), ("other", 3000)):
            (folder / name).touch()
            os.utime(folder / name, (moment, moment))
        self.assertEqual(self.changed(None, folder), 2000)
        self.assertEqual(self.changed("sqlite:other", folder), 3000)
        self.assertAlmostEqual(self.changed("memory:", folder), time.time(), 0)

    def test_good(self) -> None:
        """Only what can be an id or a key is taken for one."""
        self.assertTrue(_is_id(b"0a" * 16))
        self.assertTrue(_is_id(b"0a" * 16 + b"\n"))
        self.assertFalse(_is_id(b"0a" * 16 + b"\n\n"))
        self.assertFalse(_is_key(b"?"))
        self.assertFalse(_is_key(b"?" * (1 << 15)))
