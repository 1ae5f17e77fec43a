"""Several nodes in one process, and a bus between them that delivers when it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.interfaces import Node
from taky_twisted.routing.nodes import Nodes
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.routing.words import Handed, Present, Said, Word
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import LogLines, MemorySink
from tests.samples import NOW, chat, event, sa


def carried(word: Word) -> Word:
    """Take a word apart and put it together again, as a wire does."""
    if isinstance(word, Said | Handed):
        return replace(word, event=_carried(word.event))
    if isinstance(word, Present):
        return replace(word, reports=tuple(map(_carried, word.reports)))
    return replace(word)


def _carried(event: Event) -> Event:
    copy = decode(event.xml[len(PROLOG) :])
    return replace(copy, detail=replace(copy.detail, destinations=event.detail.destinations))


class MemoryBus:
    """One node's end of the bus."""

    def __init__(self, hub: Hub, instance: str) -> None:
        self.hub, self.instance = hub, instance
        self.up = True
        self.crowded = False
        self.heard: list[tuple[str, Word]] = []
        """What waits to be taken by this node: from whom, and what."""
        self.told: list[Word] = []

    @property
    def nodes(self) -> Sequence[Node]:
        return [Node(other, other.upper()) for other in self.hub.nodes if other != self.instance]

    def tell(self, word: Word) -> None:
        self.told.append(word)
        if self.up:
            for other in self.hub.nodes.values():
                if other.bus is not self and other.bus.up:
                    other.bus.heard.append((self.instance, carried(word)))


@dataclass
class Hub:
    """All nodes; what is told waits until `NodesCase.turn`."""

    nodes: dict[str, OneNode] = field(default_factory=dict)


class OneNode:
    """A node: router, store, its end of the bus."""

    def __init__(self, hub: Hub, clock: Clock, name: str, store: MemoryStore, left_off: float = 0.0) -> None:
        self.name, self.store = name, store
        self.kicked: list[tuple[str, str]] = []
        self.router = Router(clock, store, Limits())
        self.nodes = Nodes(self.router, clock, lambda who, why: self.kicked.append((who, why)))
        self.bus = MemoryBus(hub, name)
        self.nodes.join(self.bus)
        store.open().addCallback(self.router.restore)
        self.nodes.exchange.restored(left_off)

    def deliver(self) -> bool:
        """Take what the bus has; whether that was anything."""
        heard, self.bus.heard = self.bus.heard, []
        for node, word in heard:
            self.nodes.heard(node, word)
        return bool(heard)


class Client:
    """A connection to a node, without a wire."""

    def __init__(self, case: NodesCase, node: OneNode, proved: Principal) -> None:
        self.case, self.node = case, node
        self.sink = MemorySink()
        self.subscription: Subscription = node.router.subscribe(proved, self.sink, f"{node.name} peer")

    def say(self, *documents: bytes) -> None:
        """Say something, and let it get everywhere."""
        for document in documents:
            self.subscription.publish(event(document))
        self.case.turn()

    def heard(self) -> list[Event]:
        """Take what was delivered since the last time."""
        self.case.turn()
        events, self.sink.events = self.sink.events, []
        return events

    def uids(self) -> list[str]:
        """Take the uids of what was delivered; of departures, whose they are."""
        return [f"-{each.detail.link_uid}" if each.type == "t-x-d-d" else each.uid for each in self.heard()]

    def types(self) -> list[str]:
        """Take the types of what was delivered."""
        return [each.type for each in self.heard()]

    def shown(self) -> list[str]:
        """Tell what it was shown when it came: uids, and of departures whose they are."""
        return [f"-{each.detail.link_uid}" if each.type == "t-x-d-d" else each.uid for each in self.sink.replayed]

    def leave(self, clean: bool = True) -> None:
        """Be gone."""
        self.subscription.close(clean)
        self.case.turn()


class NodesCase(SynchronousTestCase):
    """Some nodes on one clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.log = LogLines(self)
        self.hub = Hub()
        self.a, self.b, self.c = self.start("a"), self.start("b"), self.start("c")
        self.turn()

    def start(self, name: str, store: MemoryStore | None = None, left_off: float = 0.0) -> OneNode:
        """Start a node that joins the others."""
        node = OneNode(self.hub, self.clock, name, store or MemoryStore(self.clock), left_off)
        for other in self.hub.nodes.values():
            other.nodes.joined(Node(name, name.upper()))
            node.nodes.joined(Node(other.name, other.name.upper()))
        self.hub.nodes[name] = node
        node.nodes.back()
        return node

    def stop(self, node: OneNode, clean: bool = False) -> None:
        """Let a node be gone; the others learn of it."""
        del self.hub.nodes[node.name]
        for other in self.hub.nodes.values():
            other.nodes.gone(Node(node.name, node.name.upper()), clean)
        self.turn()

    def turn(self) -> None:
        """Let everything that was told arrive everywhere."""
        while True:
            self.clock.advance(0)
            if not sum(node.deliver() for node in self.hub.nodes.values()):
                self.clock.advance(0)
                if not any(node.bus.heard for node in self.hub.nodes.values()):
                    return

    def connect(self, node: OneNode, proved: Principal = ANONYMOUS) -> Client:
        """Connect somebody who says nothing yet."""
        return Client(self, node, proved)

    def join(self, node: OneNode, uid: str, proved: Principal = ANONYMOUS, **keys: object) -> Client:
        """Connect somebody who reports itself."""
        client = self.connect(node, proved)
        client.say(sa(uid, uid, **keys))  # type: ignore[arg-type]
        return client


def ping_pong(sender: str, *uids: str, number: int = 1) -> bytes:
    """Spell a chat to somebody by uid, as ATAK does."""
    marti = "".join(f'<dest uid="{uid}"/>' for uid in uids)
    return chat(sender, number=number, room=uids[0], uids=uids, marti=marti)
