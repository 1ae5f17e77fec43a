from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus import shared_store
from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.bus.shared_redis import Found, SharedRedis
from taky_twisted.bus.shared_store import SharedStore
from taky_twisted.enrollment.records import Invite
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.identity.records import Account
from taky_twisted.interfaces import EventStore
from taky_twisted.record_codec import encode
from taky_twisted.records import ALONE, Record
from taky_twisted.stores.memory import MemoryStore
from tests.bus.memory_redis import MemoryRedis, MemorySharedRedis
from tests.fakes import LogLines
from tests.stores import contract
from tests.stores.contract import account, active_groups, file, invite, item, spent_use, video
from tests.threaded_clock import EPOCH

SHARED: list[Record] = [account(), active_groups(), file(1), invite(), spent_use(), video()]


class Node:
    """One node with a store in memory."""

    def __init__(self, redis: MemoryRedis, clock: Clock, own: EventStore | None = None, lossy: bool = False) -> None:
        self.redis = MemorySharedRedis(redis)
        self.own = own or MemoryStore(clock)
        self.log = SharedLog(clock, cast(SharedRedis, self.redis), self.own)
        self.store = SharedStore(self.own, self.log, lossy)
        self.held: list[tuple[str, Any]] = []

    def start(self) -> None:
        """Open the store and begin."""
        self.store.open()
        self.log.startService()
        self.settle()

    def settle(self) -> None:
        """Do all that can be done."""
        while self.redis.waiting or self.redis.hear():
            while self.redis.waiting:
                self.redis.step()

    def hold(self, kind: Any) -> None:
        """Be told of records of a kind."""
        self.store.hold(kind, lambda key, record: self.held.append((key, record)))


class SharedStoreContractTests(contract.EventStoreContract):
    """It is a store like any other."""

    def setUp(self) -> Any:
        self.clock = Clock()
        self.clock.rightNow = EPOCH
        self.memory = MemoryStore(self.clock)
        return super().setUp()

    def make_store(self) -> EventStore:
        return Node(MemoryRedis(), self.clock, self.memory).store


class SharedStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.clock = Clock()
        self.clock.rightNow = EPOCH
        self.redis = MemoryRedis()
        self.one, self.other = Node(self.redis, self.clock), Node(self.redis, self.clock)

    def start(self) -> None:
        """Start both."""
        self.one.start()
        self.other.start()

    def settle(self) -> None:
        """Let everything arrive."""
        for _ in range(3):
            self.one.settle()
            self.other.settle()

    def kept(self, node: Node) -> dict[tuple[type[Record], str], Record]:
        """Say what would survive a restart."""
        kept = self.successResultOf(node.own.open())
        kept.synced.clear()
        return contract.everything(kept)

    def test_shared(self) -> None:
        """What an operator or a client sets is in the stores of all nodes; what is on the map is each node's own."""
        self.start()
        for record in (*SHARED, item()):
            self.one.store.put(record)
        self.settle()
        self.assertEqual(set(self.kept(self.other).values()), set(SHARED))
        for record in SHARED:
            self.other.store.remove(type(record), record.key)
        self.settle()
        self.assertEqual(list(self.kept(self.one).values()), [item()])

    def test_alone_in_between(self) -> None:
        """What such a node has removed while it was the only one is removed for all; then it may lose things again."""
        self.one, self.other = (Node(self.redis, self.clock, lossy=True) for _ in range(2))
        self.start()
        self.one.store.put(account())
        self.settle()
        for removes, left in ((True, []), (False, [account()])):
            self.one.log.stopService()
            self.one.own.remove(Account, account().key)
            if removes:
                self.one.own.put(ALONE)
            self.one = Node(self.redis, self.clock, self.one.own, lossy=True)
            self.one.start()
            self.settle()
            for node in (self.one, self.other):
                self.assertEqual(list(self.kept(node).values()), left)
            self.assertNotIn(ALONE, self.successResultOf(self.one.own.open()).synced)
            self.one.store.put(account())
            self.settle()

    def test_lossy(self) -> None:
        """What is missing in a store that loses nothing was removed by somebody; from one that may, it comes back."""
        for lossy in (False, True):
            self.one, self.other = (Node(self.redis, self.clock, lossy=lossy) for _ in range(2))
            self.start()
            self.one.store.put(account())
            self.settle()
            self.one.log.stopService()
            self.one.own.remove(Account, account().key)
            self.clock.advance(60)
            self.one = Node(self.redis, self.clock, self.one.own, lossy)
            self.one.start()
            self.settle()
            for node in (self.one, self.other):
                self.assertEqual(list(self.kept(node).values()), [account()] if lossy else [])

    def test_told(self) -> None:
        """Who has them in memory is told when the store has them, and telling does not tell the other nodes again."""
        self.other.hold(Account)
        self.start()
        self.one.store.put(account())
        self.settle()
        self.one.store.remove(Account, account().key)
        self.settle()
        self.assertEqual(self.other.held, [(account().key, account()), (account().key, None)])
        self.assertEqual(len(self.redis.log), 2)

    def test_before(self) -> None:
        """What a store held before counts as what this node has."""
        self.one.own.put(account())
        self.other.own.put(video())
        self.start()
        self.settle()
        for node in (self.one, self.other):
            self.assertEqual(set(self.kept(node).values()), {account(), video()})

    def test_same_number(self) -> None:
        """Of two files with one number the first counts; who has the other is told, before it takes in the first."""
        lost: list[tuple[StoredFile, StoredFile | None]] = []
        self.other.store.hold(StoredFile, lambda key, record: self.other.held.append((key, record)), self._lost(lost))
        self.start()
        ours, theirs = file(1, name="ours"), file(1, name="theirs")
        self.one.store.put(theirs)
        self.one.settle()
        self.other.store.put(ours)
        self.settle()
        self.assertEqual(lost, [(ours, theirs)])
        self.assertEqual(self.other.held, [("1", theirs)])
        for place, found in list(self.redis.entries.items()):
            self.redis.entries[place] = Found(found.version, None)
        self.redis.entries["files", "2"] = Found("1" * 27, None)
        self.redis.entries["files", "3"] = Found("1" * 27, b"{")
        for number in (2, 3):
            self.other.store.put(file(number))
            self.other.settle()
        self.assertEqual(lost[1:], [(file(2), None), (file(3), None)])
        self.one.store.put(file(2))
        self.settle()

    def _lost(self, lost: list[Any]) -> Any:
        def note(ours: StoredFile, theirs: StoredFile | None) -> None:
            self.assertEqual(len(self.other.held), 0 if not lost else len(self.other.held))
            lost.append((ours, theirs))

        return note

    def apart(self) -> None:
        """Keep the other node from Redis."""
        self.other.redis.away = True
        self.other.redis.break_off()

    def together(self) -> None:
        """Let it come back, and tell everything."""
        self.other.redis.away = False
        self.clock.advance(1)
        self.settle()

    def assert_invites(self, *invites: Record) -> None:
        """All nodes and Redis have just these."""
        for node in (self.one, self.other):
            self.assertEqual(list(self.kept(node).values()), list(invites))
        there = [found.payload for found in self.redis.entries.values() if found.payload is not None]
        self.assertEqual(there, [encode(each) for each in invites])

    def test_withdrawn(self) -> None:
        """An invite that was withdrawn never comes back, though a node that did not know spent a use later."""
        self.start()
        for lost in (False, True):
            self.one.store.put(replace(invite(), uses=5, hash=str(lost)))
            self.settle()
            self.apart()
            self.one.store.remove(Invite, str(lost))
            self.one.settle()
            self.clock.advance(60)
            self.other.store.put(replace(invite(), uses=4, hash=str(lost)))
            if lost:  # then who knows that it was withdrawn says so again
                self.redis.lose_everything()
                self.one.redis.away = True
                self.one.redis.break_off()
                self.together()
                self.one.redis.away = False
                self.clock.advance(1)
                self.settle()
            self.together()
            self.assert_invites()

    def test_withdrawn_meanwhile(self) -> None:
        """Nor does it if a use is spent in the same moment, whichever of both arrives first."""
        self.start()
        for number, first in enumerate((self.one, self.other)):
            self.one.store.put(replace(invite(), uses=5, hash=str(number)))
            self.settle()
            self.one.store.remove(Invite, str(number))
            self.clock.advance(0.001)
            self.other.store.put(replace(invite(), uses=4, hash=str(number)))
            first.redis.step()
            self.settle()
            self.assert_invites()

    def test_withdrawn_while_stopped(self) -> None:
        """Nor does it if the one or the other node was stopped when that happened to its store."""
        self.one.own.put(replace(invite(), uses=5))
        self.start()
        self.other.log.stopService()
        self.one.store.remove(Invite, invite().key)
        self.one.settle()
        self.clock.advance(60)
        self.other.own.put(replace(invite(), uses=4))
        self.other = Node(self.redis, self.clock, self.other.own)
        self.other.start()
        self.settle()
        self.assert_invites()

    def test_uses(self) -> None:
        """If two nodes took uses off while they did not hear each other, no use comes back; nor does the last one."""
        self.start()
        for number, (here, there) in enumerate(((1, 4), (4, 1), (4, 4), (0, 4), (4, 0))):
            self.one.store.put(replace(invite(), uses=5, hash=str(number)))
            self.settle()
            self.apart()
            for node, uses in ((self.one, here), (self.other, there)):
                if uses:
                    node.store.put(replace(invite(), uses=uses, hash=str(number)))
                else:
                    node.store.remove(Invite, str(number))
                node.settle()
                self.clock.advance(60)
            self.together()
            left = min(here, there)
            self.assert_invites(*[replace(invite(), uses=left, hash=str(number))] * (left > 0))
            self.one.store.remove(Invite, str(number))
            self.settle()

    def test_unreadable_uses(self) -> None:
        """If what another node says of an invite cannot be read, ours stays as it is."""
        self.start()
        self.one.store.put(replace(invite(), uses=5))
        self.settle()
        self.apart()
        self.other.store.put(replace(invite(), uses=4))
        self.redis.entries["invites", invite().key] = Found("8" * 27, b"{")
        self.together()
        self.assertEqual(list(self.kept(self.other).values()), [replace(invite(), uses=4)])
        self.assertTrue(any("is skipped" in line for line in self.lines(LogLevel.warn)))

    def test_unreadable(self) -> None:
        """What cannot be read, or has another key than it says, changes nothing; the log says so once."""
        self.patch(shared_store, "MAX_WARNED", 2)
        self.one.own.put(account())
        self.redis.entries = {
            ("accounts", account().key): Found("8" * 27, b'{"v": 2}'),
            ("accounts", "x"): Found("8" * 27, encode(replace(account(), key="y"))),
            ("accounts", "z"): Found("8" * 27, b"{"),
        }
        self.one.start()
        self.assertEqual(list(self.kept(self.one).values()), [account()])
        self.one.redis.break_off()
        self.clock.advance(1)
        self.one.settle()
        warned = [line for line in self.lines(LogLevel.warn) if "is skipped" in line]
        self.assertEqual(len(warned), 2)
        self.assertIn("accounts: what another node says of 'jörg müller' is skipped: version 2, not 1", warned)

    def test_listed(self) -> None:
        """What a Redis that is empty is given again is all that this node has, spelled when it is needed."""
        self.one.own.put(account())
        self.one.own.put(video())
        self.one.start()
        self.redis.lose_everything()
        self.one.redis.quiet()
        self.one.settle()
        self.assertEqual(
            {place: found.payload for place, found in self.redis.entries.items()},
            {("accounts", account().key): encode(account()), ("videos", "cam"): encode(video())},
        )
        current = self.one.log._kinds["accounts"].current()
        self.assertEqual((len(current), list(current)), (1, [account().key]))

    def test_state(self) -> None:
        """It is as well as the node's own store is."""
        self.assertEqual(self.one.store.state, self.one.own.state)
