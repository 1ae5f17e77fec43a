"""Whatever people do on three nodes, in whatever order the nodes learn of it: all is heard once and in order."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.types import CHAT, CHAT_FAILED
from taky_twisted.interfaces import Node
from taky_twisted.routing.records import Item
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import MemorySink, principal
from tests.routing.node_hub import Hub, OneNode, ping_pong
from tests.samples import NOW, cancel, delete, emergency, event, marker, sa, xml

NODES = ("a", "b", "c")
PEOPLE = ("P0", "P1", "P2", "P3")
MARKS = ("M0", "M1", "M2")

people = strategies.sampled_from(PEOPLE)
nodes = strategies.sampled_from(NODES)
marks = strategies.sampled_from(MARKS)


class NodesMachine(RuleBasedStateMachine):
    """Three nodes; each takes what the bus has for it when it likes, one word at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.hub = Hub()
        self.number = 0
        self.here: dict[str, tuple[str, Subscription, MemorySink]] = {}
        self.heard: dict[str, list[str]] = defaultdict(list)
        """Numbered events that each person heard on the connection that it has."""
        self.old: list[tuple[str, MemorySink]] = []
        """Connections that their nodes had not closed yet when their owners came anew."""
        self.ever: Counter[tuple[str, str]] = Counter()
        """How often each person heard something on any connection."""
        self.owed: dict[str, set[str]] = defaultdict(set)
        """Numbered events that each person must hear, if the connection that it had then goes on."""
        self.chats: dict[str, tuple[str, str]] = {}
        """By uid: who said it, to whom."""
        self.failed: Counter[str] = Counter()
        self.known: set[str] = set()
        for name in NODES:
            node = OneNode(self.hub, self.clock, name, MemoryStore(self.clock))
            for other in self.hub.nodes.values():
                other.nodes.joined(Node(name, name))
                node.nodes.joined(Node(other.name, other.name))
            self.hub.nodes[name] = node
            node.nodes.back()
        self.settle()

    # What people do

    @rule(who=people, where=nodes)
    def connect(self, who: str, where: str) -> None:
        old = self.here.get(who)
        sink = MemorySink()
        subscription = self.hub.nodes[where].router.subscribe(principal(who), sink, f"{who} peer")
        if old is not None:
            self._read(who, old[2])
            self.old.append((who, old[2]))
        self.owed[who].clear()
        self.heard[who].clear()
        self.known.add(who)
        self.here[who] = (where, subscription, sink)
        self._say(who, sa(who, who, now=self.clock.seconds()))

    @precondition(lambda self: self.here)
    @rule(who=people, clean=strategies.booleans())
    def leave(self, who: str, clean: bool) -> None:
        if who in self.here:
            _, subscription, sink = self.here.pop(who)
            self._read(who, sink)
            self.owed[who].clear()
            subscription.close(clean)

    @rule(who=people)
    def broadcast(self, who: str) -> None:
        if who in self.here:
            self.number += 1
            uid = f"{who}-{id(self.here[who][1])}-{self.number}"
            for other in self.here:
                if other != who:
                    self.owed[other].add(uid)
            self._say(who, xml(uid, "b-x-y", now=self.clock.seconds()))

    @rule(who=people, to=people)
    def chat(self, who: str, to: str) -> None:
        if who in self.here and who != to:
            self.number += 1
            document = ping_pong(who, to, number=self.number)
            self.chats[event(document).uid] = (who, to)
            self._say(who, document)

    @rule(who=people, mark=marks)
    def mark(self, who: str, mark: str) -> None:
        if who in self.here:
            self._say(who, marker(mark, now=self.clock.seconds()))

    @rule(who=people, mark=marks)
    def delete(self, who: str, mark: str) -> None:
        if who in self.here:
            self._say(who, delete(mark, now=self.clock.seconds()))

    @rule(who=people)
    def emergency(self, who: str) -> None:
        if who in self.here:
            self._say(who, emergency(who, who, now=self.clock.seconds()))

    @rule(who=people)
    def cancel(self, who: str) -> None:
        if who in self.here:
            self._say(who, cancel(who, who, now=self.clock.seconds()))

    # What the bus does

    @rule(where=nodes, count=strategies.integers(1, 5))
    def deliver(self, where: str, count: int) -> None:
        node = self.hub.nodes[where]
        for _ in range(count):
            if node.bus.heard:
                sender, word = node.bus.heard.pop(0)
                node.nodes.heard(sender, word)
        self.clock.advance(0.01)

    @rule(seconds=strategies.sampled_from((0.5, 6)))
    def wait(self, seconds: float) -> None:
        if seconds > 1:
            self.settle()  # no node lags so long behind without being thought dead
        self.clock.advance(seconds)

    # What must hold

    @invariant()
    def once_and_in_order(self) -> None:
        for who, (_, _, sink) in self.here.items():
            self._read(who, sink)
        for who, uids in self.heard.items():
            assert len(uids) == len(set(uids)), f"{who} heard something twice: {uids}"
            numbers: dict[str, list[int]] = defaultdict(list)
            for uid in uids:
                if uid.startswith("P"):
                    connection, _, number = uid.rpartition("-")
                    numbers[connection].append(int(number))
            for connection, order in numbers.items():
                assert order == sorted(order), f"{who} heard {connection} out of order: {order}"

    def teardown(self) -> None:
        self.settle()
        self.clock.advance(6)
        self.settle()
        self.once_and_in_order()
        for who in self.here:
            missing = self.owed[who] - set(self.heard[who])
            assert not missing, f"{who} never heard {missing}"
        self._agree()
        # Everybody comes back, somewhere, and has every chat exactly once, or its sender was told.
        for who in PEOPLE:
            if who in self.known and who not in self.here:
                self.connect(who, NODES[PEOPLE.index(who) % 3])
        self.settle()
        self.once_and_in_order()
        for who, sink in self.old:
            self.ever.update((who, each.uid) for each in sink.events)
        for uid, (_, to) in self.chats.items():
            assert self.ever[to, uid] or self.failed[uid], f"{uid} never reached {to}"
        self._agree()

    def _agree(self) -> None:
        for node in self.hub.nodes.values():
            node.nodes.compare()
        self.settle()
        pictures = []
        for node in self.hub.nodes.values():
            now, router = self.clock.seconds(), node.router
            pictures.append(
                (
                    {record.uid: record.xml for record in router.retained.records(now) if isinstance(record, Item)},
                    {record.uid for record in router.emergencies.records()},
                    {contact.uid for contact in router.contacts if contact.present},
                    sorted(record.xml for record in router.chats.records(now)),
                )
            )
        assert pictures[0] == pictures[1] == pictures[2], pictures
        assert pictures[0][2] == set(self.here), (pictures[0][2], set(self.here))

    def settle(self) -> None:
        """Let everything arrive everywhere."""
        while True:
            self.clock.advance(0)
            if not sum(node.deliver() for node in self.hub.nodes.values()):
                self.clock.advance(0)
                if not any(node.bus.heard for node in self.hub.nodes.values()):
                    return

    def _say(self, who: str, document: bytes) -> None:
        self.here[who][1].publish(event(document))
        self.clock.advance(0.001)

    def _read(self, who: str, sink: MemorySink) -> None:
        self.clock.advance(0)
        events, sink.events = sink.events, []
        for each in events:
            if each.type == CHAT_FAILED:
                self.failed[each.uid] += 1
            elif each.type == CHAT or each.type == "b-x-y":
                self.heard[who].append(each.uid)
                self.ever[who, each.uid] += 1


class NodesModelTests(SynchronousTestCase):
    def test_nodes(self) -> None:
        """Whatever happens in whatever order: each once and in order, and in the end all nodes agree."""
        NodesMachine.TestCase.settings = settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        NodesMachine.TestCase("runTest").debug()
