from __future__ import annotations

import itertools
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.bus.shared_redis import Found, SharedRedis
from taky_twisted.bus.shared_register import BANS, CERTIFICATES, LOOK_SECONDS, SharedRegister
from taky_twisted.bus.versions import Versions
from taky_twisted.enrollment.register import CertificateRegister
from taky_twisted.enterprise_sync.disk_thread import STOP_SECONDS
from taky_twisted.identity.cert_db import Ban, CertDb, Record, beside
from taky_twisted.stores.memory import MemoryStore
from tests.bus.memory_redis import MemoryRedis, MemorySharedRedis
from tests.fakes import LogLines
from tests.threaded_clock import EPOCH, ThreadedClock

NOW = datetime.fromtimestamp(EPOCH, timezone.utc)
ISSUER = "CN=Test CA"


class Node:
    """One node, with register files of its own or of its neighbor."""

    def __init__(self, redis: MemoryRedis, path: Path, number: int) -> None:
        self.clock = ThreadedClock()
        self.redis = MemorySharedRedis(redis)
        self.store = MemoryStore(self.clock)
        self.register = CertificateRegister(path, lambda: datetime.fromtimestamp(self.clock.seconds(), timezone.utc))
        self.path, self.number = path, number
        self.reloads = 0
        self.log: SharedLog
        self.shared: SharedRegister

    def start(self) -> None:
        """Start, as a new process."""
        self.log = SharedLog(
            self.clock, cast(SharedRedis, self.redis), self.store, versions=Versions(self.clock, self.number)
        )
        kept: list[object] = []
        self.store.open().addCallback(lambda found: self.log.restore(found.synced)).addCallback(kept.append)
        self.shared = SharedRegister(self.clock, self.log, self.register, self.reload)
        self.clock.wait(Deferred.fromCoroutine(self.shared.begin()))
        self.log.startService()

    def stop(self) -> None:
        """Stop."""
        self.clock.wait(Deferred.fromCoroutine(self.shared.end()))
        self.log.stopService()
        self.redis.waiting.clear()

    def reload(self) -> None:
        self.reloads += 1

    def look(self) -> None:
        """Look for what was entered."""
        self.clock.wait(self.shared.look())

    def settle(self) -> bool:
        """Do what can be done without waiting for a thread; say whether there was anything."""
        busy = False
        while self.redis.waiting or self.redis.hear():
            busy = True
            while self.redis.waiting:
                self.redis.step()
        if self.log._taking.locked:
            self.clock.run_one()
            busy = True
        self.clock.advance(0)
        return busy

    def names(self) -> dict[str, bool]:
        """Say of each certificate's name whether it is revoked."""
        return {record.name: record.revoked is not None for record in self.register.records()}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.redis = MemoryRedis()
        self.nodes = [self.make_node(number) for number in (1, 2)]

    def make_node(self, number: int, path: Path | None = None) -> Node:
        """Make a node that is not started."""
        folder = Path(self.mktemp())
        folder.mkdir()
        return Node(self.redis, (path or folder / "cert-db.txt").absolute(), number)

    def start(self) -> None:
        """Start all nodes."""
        for node in self.nodes:
            node.start()
            self.addCleanup(node.stop)
        self.settle()

    def settle(self) -> None:
        """Let everything arrive everywhere."""
        while sum(node.settle() for node in self.nodes):
            pass

    def look(self) -> None:
        """Have all nodes look, and let what they find arrive."""
        for node in self.nodes:
            node.look()
        self.settle()


def enter(node: Node, *records: Record) -> None:
    """Enter certificates, as enrollment does."""
    with node.register._changing() as found:
        for record in records:
            found.add(record)


def record(serial: int, name: str = "alpha") -> Record:
    """Make a certificate."""
    return Record(
        serial, name, NOW, NOW + timedelta(days=365), issuer=ISSUER, kind="client", sha256="ab", groups=("g",)
    )


class SharedRegisterTests(Case):
    def test_entered(self) -> None:
        """A certificate that one node has entered is in the registers of all, with everything that is known of it."""
        self.start()
        enter(self.nodes[0], record(1), record(2, "bravo"))
        self.nodes[0].look()
        self.settle()
        self.assertEqual(self.nodes[1].register.records(), [record(1), record(2, "bravo")])
        self.assertEqual([node.reloads for node in self.nodes], [0, 1])

    def test_banned(self) -> None:
        """A ban, and what it revokes, is everywhere, and so is its end."""
        self.start()
        enter(self.nodes[0], record(1))
        self.look()
        self.nodes[1].register.revoke_name("Alpha")
        self.look()
        self.assertEqual(self.nodes[0].names(), {"alpha": True})
        self.assertTrue(self.nodes[0].register.is_banned("ALPHA"))
        self.assertEqual(self.nodes[0].register.bans(), self.nodes[1].register.bans())
        self.nodes[0].register.unban("alpha")
        self.look()
        self.assertFalse(self.nodes[1].register.is_banned("alpha"))
        self.assertEqual(self.nodes[1].names(), {"alpha": True})

    def test_by_itself(self) -> None:
        """Nobody has to say that something was entered."""
        self.start()
        enter(self.nodes[0], record(1))
        self.nodes[0].clock.advance(LOOK_SECONDS)
        while not self.redis.log:
            self.nodes[0].clock.run_one()
            self.settle()
        self.assertEqual(self.nodes[1].names(), {"alpha": False})

    def test_quiet(self) -> None:
        """When nothing changes nothing is said, and nothing is read."""
        self.start()
        enter(self.nodes[0], record(1))
        for _ in range(4):
            self.look()
        self.assertEqual(len(self.redis.log), 1)
        self.nodes[0].register.path.unlink()
        before = self.nodes[1].path.stat()
        self.look()
        self.assertEqual(self.nodes[1].path.stat(), before)

    def test_taky(self) -> None:
        """Lines that taky or somebody's editor wrote are shared too, and end up alike on all nodes."""
        lines = (
            "V\t2024-03-01T10:00:00\t2026-03-01T10:00:00\t04d2\tALPHA 1\n",
            "R\t2024-03-01T10:00:00\t2024-04-01T12:30:00\t04d3\tBRAVO\x01\n",
            "V\tyesterday\tsometime\t04d4\tCHARLIE\n",
            "R\t260301100000Z\t250301100000Z,keyCompromise\t04D5\tunknown\t/CN=DELTA/O=x\n",
            "something else\n",
        )
        self.nodes[0].path.write_text("".join(lines))
        self.start()
        for _ in range(4):
            self.look()
        self.assertEqual(len(self.redis.log), 4)
        names = {"ALPHA 1": False, "BRAVO\\x01": True, "CHARLIE": False, "DELTA": True}
        self.assertEqual(self.nodes[1].names(), names)
        for node in self.nodes:
            node.stop()
            node.start()
        self.settle()
        self.assertEqual(len(self.redis.log), 4)
        self.assertEqual(self.nodes[0].path.read_text(), "".join(lines))

    def test_both(self) -> None:
        """If one node revokes what another one enters anew, it is revoked on both."""
        self.start()
        enter(self.nodes[0], record(1))
        self.look()
        self.nodes[0].register.revoke_serial(1)
        enter(self.nodes[1], Record(1, "renamed", NOW, issuer=ISSUER))
        for node in self.nodes:
            node.look()
        self.settle()
        self.look()
        self.assertEqual([list(node.names().values()) for node in self.nodes], [[True], [True]])
        self.assertEqual(self.nodes[0].register.records(), self.nodes[1].register.records())

    def test_backup(self) -> None:
        """Register files that were put back from a backup, or deleted, do not make anybody valid again."""
        self.start()
        enter(self.nodes[0], record(1), record(2, "bravo"))
        self.look()
        old = self.nodes[0].path.read_bytes(), beside(self.nodes[0].path).read_bytes()
        self.nodes[0].register.revoke_name("alpha")
        self.look()
        self.nodes[0].stop()
        self.nodes[0].path.write_bytes(old[0])
        beside(self.nodes[0].path).write_bytes(old[1])
        self.nodes[0].start()
        self.settle()
        self.look()
        for node in self.nodes:
            self.assertEqual(node.names(), {"alpha": True, "bravo": False})
            self.assertTrue(node.register.is_banned("alpha"))
        self.nodes[0].stop()
        self.nodes[0].path.unlink()
        beside(self.nodes[0].path).unlink()
        self.nodes[0].start()
        self.settle()
        self.assertEqual(self.nodes[0].names(), {"alpha": True, "bravo": False})
        self.assertTrue(self.nodes[0].register.is_banned("alpha"))

    def test_backup_alone(self) -> None:
        """They do not even while this node is the only one that runs: Redis knows who is revoked, and goes on to."""
        self.nodes.pop()
        node = self.nodes[0]
        self.start()
        enter(node, record(1))
        self.look()
        old = node.path.read_bytes(), beside(node.path).read_bytes()
        node.register.revoke_name("alpha")
        self.look()
        node.stop()
        node.path.write_bytes(old[0])
        beside(node.path).write_bytes(old[1])
        node.start()
        self.settle()
        self.look()
        self.assertEqual(node.names(), {"alpha": True})
        self.assertTrue(node.register.is_banned("alpha"))

    def test_teller_is_down(self) -> None:
        """What a node has revoked counts on one that was away and says later words, though the first is down now."""
        for stopped in (True, False):
            self.redis = MemoryRedis()
            self.nodes = [self.make_node(number) for number in (1, 2)]
            self.start()
            enter(self.nodes[0], record(1))
            self.look()
            if stopped:
                self.nodes[1].stop()
            else:
                self.nodes[1].redis.away = True
                self.nodes[1].redis.break_off()
            self.nodes[0].register.revoke_serial(1)
            self.nodes[0].look()
            self.nodes[0].settle()
            self.nodes[0].stop()
            self.nodes[1].clock.advance(60)
            enter(self.nodes[1], Record(1, "renamed", NOW, issuer=ISSUER))
            if stopped:
                self.nodes[1].start()
            else:
                self.nodes[1].look()
                self.nodes[1].redis.away = False
                self.nodes[1].clock.advance(1)
            self.nodes.pop(0)
            self.settle()
            self.look()
            self.assertEqual(list(self.nodes[0].names().values()), [True])
            (there,) = self.redis.entries.values()
            self.assertIn(b'"revoked"', there.payload or b"")

    def test_same_files(self) -> None:
        """Nodes on one machine may have the files in common."""
        self.nodes[1] = self.make_node(2, self.nodes[0].path)
        self.nodes.append(self.make_node(3))
        self.start()
        enter(self.nodes[0], record(1))
        self.look()
        self.nodes[2].register.revoke_name("alpha")
        self.look()
        self.look()
        self.assertEqual(self.nodes[0].names(), {"alpha": True})
        said = len(self.redis.log)
        self.look()
        self.assertEqual(len(self.redis.log), said)

    def test_entered_meanwhile(self) -> None:
        """What was entered here while something of another node arrived is told, too."""
        self.start()
        enter(self.nodes[1], record(2, "bravo"))
        enter(self.nodes[0], record(1))
        self.nodes[0].look()
        self.settle()
        self.assertEqual(self.nodes[0].names(), {"alpha": False, "bravo": False})

    def test_unreadable(self) -> None:
        """What cannot be read is skipped, the log says so once, and the rest counts."""
        good = json.dumps({"v": 1, "ban": "alpha", "since": "2024-03-01T10:00:00Z"}).encode()
        entries = {
            (BANS, "alpha"): good,
            (BANS, "bravo"): good,
            (BANS, "broken"): b"{",
            (BANS, "later"): good.replace(b"1", b"2", 1),
            (BANS, "list"): b"[]",
            (CERTIFICATES, "1\n"): json.dumps({"v": 1, "serial": "1", "name": 5}).encode(),
        }
        self.redis.entries = {place: Found("1" * 27, payload) for place, payload in entries.items()}
        self.redis.entries[CERTIFICATES, "gone"] = Found("1" * 27, None)
        self.start()
        self.assertEqual([ban.name for ban in self.nodes[0].register.bans()], ["alpha"])
        for node in self.nodes:
            node.redis.break_off()
            node.clock.advance(1)
        self.settle()
        self.assertEqual(sum("is skipped" in line for line in self.lines(LogLevel.warn)), 10)

    def test_cannot_write(self) -> None:
        """What cannot be entered is said once, tried again every two seconds, and does not count as entered."""
        self.start()
        folder = self.nodes[1].path.parent
        folder.rename(folder.with_name("away"))
        self.nodes[0].register.revoke_name("alpha")
        self.look()
        self.look()
        (line,) = [line for line in self.lines(LogLevel.warn) if "register" in line]
        self.assertIn("does not count here until it can be entered, which is tried every 2 s", line)
        self.assertEqual(self.nodes[1].reloads, 0)
        folder.with_name("away").rename(folder)
        self.nodes[1].look()
        self.assertTrue(self.nodes[1].register.is_banned("alpha"))
        self.assertEqual(self.nodes[1].reloads, 1)

    def test_disk_hangs(self) -> None:
        """A disk that hangs does not keep the server from stopping; one that never looked has nothing to stop."""
        node = self.make_node(3)
        node.start()
        node.shared._busy.acquire()
        ending = Deferred.fromCoroutine(node.shared.end())
        self.assertNoResult(ending)
        node.clock.advance(STOP_SECONDS)
        self.successResultOf(ending)
        self.successResultOf(Deferred.fromCoroutine(node.shared.end()))
        node.shared._thread.stop()
        node.log.stopService()
        node.redis.waiting.clear()

    def test_cannot_read(self) -> None:
        """A register that cannot be read changes nothing; when it can again, what is new in it is told."""
        self.start()
        enter(self.nodes[0], record(1))
        os.rename(self.nodes[0].path, self.nodes[0].path.with_suffix(".away"))
        self.nodes[0].path.mkdir()
        self.nodes[0].look()
        self.settle()
        self.assertEqual(self.redis.log, [])
        self.nodes[0].path.rmdir()
        os.rename(self.nodes[0].path.with_suffix(".away"), self.nodes[0].path)
        self.look()
        self.assertEqual(self.nodes[1].names(), {"alpha": False})


class JoinTests(SynchronousTestCase):
    """What two nodes have entered is made one, in whatever order it arrives."""

    moments = st.integers(0, 3).map(lambda seconds: NOW + timedelta(seconds=seconds))
    bans = st.builds(Ban, st.just("alpha"), moments, st.none() | moments)
    records = st.builds(
        Record,
        st.just(7),
        st.just("alpha"),
        st.just(NOW),
        revoked=st.none() | moments,
        issuer=st.sampled_from([ISSUER, None]),
    )

    @settings(deadline=None)
    @given(st.lists(bans, max_size=4), st.lists(records, max_size=4))
    def test_any_order(self, bans: list[Ban], records: list[Record]) -> None:
        """The order does not matter, nor does hearing something twice; nobody is valid who was revoked somewhere."""
        results = []
        for some_bans, some_records in zip(
            itertools.permutations(bans), itertools.cycle(itertools.permutations(records))
        ):
            found = CertDb()
            for ban in some_bans:
                found.join([], [ban])
            for each in (*some_records, *some_records[:1]):
                found.join([each], [])
            one_form = len({each.issuer for each in records}) == 1
            revoked = [
                (each.issuer, each.revoked if one_form else each.revoked is not None) for each in found.records()
            ]
            results.append((found.bans, sorted(revoked, key=str)))
        for result in results:
            self.assertEqual(result, results[0])
        if any(each.revoked for each in records):
            self.assertTrue(all(revoked for _, revoked in results[0][1]))

    def test_last_word(self) -> None:
        """Banned, unbanned and banned again within a second: the name is banned; and the other way round."""
        path = Path(self.mktemp())
        path.mkdir()
        register = CertificateRegister(path / "cert-db.txt", lambda: NOW)
        orders = []
        for act in ("ban", "unban", "ban", "unban", "ban"):
            if act == "ban":
                register.revoke_name("alpha")
            else:
                register.unban("alpha")
            (ban,) = register.bans()
            self.assertEqual(ban.until is None, act == "ban")
            orders.append(ban.order)
        self.assertEqual(orders, sorted(set(orders)))
