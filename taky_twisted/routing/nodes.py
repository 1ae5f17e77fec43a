"""Several nodes are one server: what this one tells the others, and what it does with what they tell.

::

    Router --said, left, switched--> Nodes --words--> Bus ... the other nodes' Bus --words--> Nodes --> Router

A connection of another node is a `Subscription` here too, which speaks and never hears: what it says is routed by the
same rules as if it had been said here, and delivered to the connections of this node alone. So contacts, the map,
emergencies and waiting chat are the same everywhere, and nobody is told anything twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from taky_twisted.cot.event import Event
from taky_twisted.cot.types import CHAT
from taky_twisted.interfaces import Bus, Node
from taky_twisted.logs import Logger

from . import directing
from .exchange import Exchange
from .remote import Remotes
from .words import AllPresent, Ask, Digest, Handed, Kick, Known, Left, Present, Said, Speaker, Switched, Wanted, Word

if TYPE_CHECKING:
    from .router import Router
    from .subscription import Subscription

MAX_DELIVERED = 20_000
"""Chats that are remembered as delivered here, because another node may still hand them over."""


class Nodes:
    """This node among the others; the `BusListener` of its bus."""

    log = Logger()

    def __init__(self, router: Router, clock: IReactorTime, kicked: Callable[[str, str], object]) -> None:
        """Know of no other node yet.

        Args:
            router: this node's.
            clock: to do what takes long in pieces.
            kicked: ends the connections of a name here, for a reason.
        """
        self._router, self._clock, self._kicked = router, clock, kicked
        self._remotes = Remotes(router, self)
        self._exchange = Exchange(router, clock, self)
        self._local: dict[int, Subscription] = {}
        self._numbers = count(1)
        self._delivered: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.wanted: Callable[[Wanted], object] = lambda word: None
        """Called when another node needs part of a file."""
        self._answering: IDelayedCall | None = None
        self.unknown: set[str] = set()
        """Nodes that are there and have not said yet who is connected to them."""
        self._bus: Bus | None = None

    def join(self, bus: Bus) -> None:
        """Tell the others from now on."""
        self._bus = bus
        self._router.nodes = self

    @property
    def bus(self) -> Bus:
        """What carries the words."""
        assert self._bus is not None, "join comes first"
        return self._bus

    def name(self, node: str) -> str:
        """Say what people call another node, by its instance id."""
        return self._remotes.name(node)

    @property
    def exchange(self) -> Exchange:
        """What makes the map the same on all nodes again."""
        return self._exchange

    def compare(self) -> None:
        """Let the others see whether they know the same; to be called now and then.

        What people on two nodes do at the same moment, each node may have learned in another order.
        """
        self._exchange.do(self._exchange.tell_digest())

    def stop(self) -> None:
        """Answer nobody any more."""
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        self._exchange.stop()

    # What happens here

    def said(self, event: Event, source: Subscription) -> None:
        """Tell the others what a connection of this node said."""
        if not source.node:
            self.bus.tell(Said(self._speaker(source), event))

    def left(self, source: Subscription, clean: bool) -> None:
        """Tell the others that a connection of this node is gone, if they know of it."""
        speaker = source.speaker
        if not source.node and speaker is not None and not speaker.from_server:
            self._local.pop(speaker.connection, None)
            self.bus.tell(Left(speaker.connection, clean))

    def switched(self, source: Subscription) -> None:
        """Tell the others that a connection of this node has other groups now."""
        if source.speaker is not None:
            self.bus.tell(Switched(self._speaker(source)))

    def hand(self, receiver: Subscription, event: Event) -> None:
        """Pass on what there is for a connection of another node."""
        if receiver.speaker is not None and receiver.primary is not None:
            number, uid = receiver.speaker.connection, receiver.primary.uid
            self.bus.tell(Handed(receiver.node, number, uid, event, receiver.granted.groups_out))

    def kick(self, name: str, reason: str) -> None:
        """Have everybody with a name go, on the other nodes."""
        self.bus.tell(Kick(name, reason))

    def delivered(self, uid: str, event: Event) -> bool:
        """Note that a chat reaches a contact here; whether it did so before."""
        key = uid, event.uid
        before = key in self._delivered
        self._delivered[key] = None
        self._delivered.move_to_end(key)
        if len(self._delivered) > MAX_DELIVERED:
            self._delivered.popitem(last=False)
        return before

    def was_delivered(self, uid: str, event: Event) -> bool:
        """Whether a chat has reached a contact here."""
        return (uid, event.uid) in self._delivered

    def _speaker(self, source: Subscription) -> Speaker:
        speaker = source.speaker
        if (
            speaker is None
            or speaker.active is not source.principal
            or speaker.granted is not source.granted
            or speaker.since != source.since
        ):
            number = next(self._numbers) if speaker is None else speaker.connection
            speaker = source.speaker = Speaker(
                number, source.granted, source.principal, source.peer, source.since, source.from_server
            )
            if not source.from_server:
                self._local[number] = source
        return speaker

    # BusListener

    def heard(self, node: str, word: Word) -> None:
        """Take a word of another node."""
        if isinstance(word, Said):
            source = self._remotes.source(node, word.speaker, word.event)
            if source is not None:
                source.publish(word.event)
        elif isinstance(word, Left):
            self._remotes.left(node, word.connection, word.clean)
        elif isinstance(word, Switched):
            self._remotes.source(node, word.speaker)
        elif isinstance(word, Present):
            self._remotes.present(node, word)
        elif isinstance(word, AllPresent):
            self._remotes.only(node, word.connections)
            self.unknown.discard(node)
        elif isinstance(word, Ask):
            if word.node in ("", self.bus.instance):
                self._tell_all()
        elif isinstance(word, Digest):
            self._exchange.compare(word)
        elif isinstance(word, Known):
            self._exchange.take(node, word)
        elif isinstance(word, Handed):
            if word.node == self.bus.instance:
                self._take_over(word)
        elif isinstance(word, Kick):
            self._kicked(word.name, word.reason)
        else:
            self.wanted(word)

    def joined(self, node: Node) -> None:
        """Learn of another node."""
        self._remotes.joined(node)
        self.unknown.add(node.instance)
        self.log.info("node {name} is there, version {version}", name=node.name, version=node.version or "unknown")

    def gone(self, node: Node, clean: bool) -> None:
        """Learn that a node has stopped, or is silent."""
        self.unknown.discard(node.instance)
        self._exchange.forget(node.instance)
        clients = self._remotes.gone(node.instance, clean)
        if clean:
            self.log.info("node {name} has stopped; it had {clients} clients", name=node.name, clients=clients)
        else:
            self.log.warn(
                "node {name} is not heard any more: its {clients} clients count as gone until they connect elsewhere",
                name=node.name,
                clients=clients,
            )

    def missed(self, node: str) -> None:
        """Learn that words of a node were lost."""
        self.bus.tell(Ask(node))
        self.compare()

    def back(self) -> None:
        """Learn that words get through (again)."""
        self._tell_all()
        self.bus.tell(Ask(""))

    def undelivered(self, word: Word) -> None:
        """Learn that a word never got out: whoever waits for an answer is told."""
        if isinstance(word, Said):
            source = self._local.get(word.speaker.connection)
            destinations = word.event.detail.destinations
            if word.event.type == CHAT and source is not None and destinations is not None and destinations.explicit:
                directing.tell_failed(self._router, word.event, source)
        elif isinstance(word, Handed):
            self._keep(word)

    def _tell_all(self) -> None:
        if self._answering is None:  # one answer for all who ask at the same time
            self._answering = self._clock.callLater(0, self._begin_answer)

    def _begin_answer(self) -> None:
        self._answering = None
        self._exchange.do(self._presence())

    def _presence(self) -> Iterator[None]:
        for source in list(self._local.values()):
            if not source.closed and source.primary is not None:
                reports = tuple(
                    contact.sa
                    for contact in source.uids.values()
                    if contact.sa is not None and source in contact.holders
                )
                self.bus.tell(Present(self._speaker(source), source.incognito, reports))
            yield
        self.bus.tell(AllPresent(tuple(self._local)))
        yield from self._exchange.tell_digest()

    def _take_over(self, word: Handed) -> None:
        event = word.event
        local = self._local.get(word.connection)
        contact = self._router.contacts.get(word.uid)
        holders = [local] if local is not None and not local.closed else list(contact.holders) if contact else []
        receivers = [each for each in holders if not each.node and not word.groups.isdisjoint(each.granted.groups_out)]
        if not receivers:
            self._keep(word)
        elif event.type != CHAT or not self.delivered(word.uid, event):
            for receiver in receivers:
                self._router.audiences.direct(event, None, receiver)

    def _keep(self, word: Handed) -> None:
        contact = self._router.contacts.get(word.uid)
        if word.event.type == CHAT and contact is not None:
            self._router.chats.keep(word.uid, contact.principal, word.event, word.groups, self._router.now())
