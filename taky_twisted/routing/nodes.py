"""Several nodes are one server: what this one tells the others, and what it does with what they tell.

::

    Router --said, left, switched--> Nodes --words--> Bus ... the other nodes' Bus --words--> Nodes --> Router

A connection of another node is a `Subscription` here too, which speaks and never hears: what it says is routed by the
same rules as if it had been said here, and delivered to the connections of this node alone. So contacts, the map,
emergencies and waiting chat are the same everywhere, and nobody is told anything twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
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
from .underway import Underway
from .words import (
    AllPresent,
    Ask,
    Digest,
    Handed,
    Kick,
    Known,
    Left,
    Present,
    Said,
    Settled,
    Speaker,
    Switched,
    Wanted,
    Word,
)

if TYPE_CHECKING:
    from .exchange import Steps
    from .records import Groups
    from .router import Router
    from .subscription import Subscription

MAX_DELIVERED = 20_000
"""Chats that are remembered as delivered here, because another node may still hand them over."""
ASK_SECONDS = 5.0
"""How often at most others are asked for what was missed: if there is too much to say, answers make it more."""


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
        self._underway = Underway()
        self._local: dict[int, Subscription] = {}
        self._numbers = count(1)
        self._delivered: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.wanted: Callable[[Wanted], object] = lambda word: None
        """Called when another node needs part of a file."""
        self._answering: IDelayedCall | None = None
        self._asking: IDelayedCall | None = None
        self._missed: set[str] = set()
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
        for timer in (self._answering, self._asking):
            if timer is not None:
                timer.cancel()
        self._answering = self._asking = None
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
            number, uid, proved = receiver.speaker.connection, receiver.primary.uid, receiver.principal.name
            groups = receiver.granted.groups_out
            self.underway(receiver, uid, event, groups)
            self.bus.tell(Handed(receiver.node, number, uid, event, groups, proved))

    def underway(self, receiver: Subscription, uid: str, event: Event, groups: Groups) -> None:
        """Note that another node is to deliver a chat to a contact."""
        if event.type == CHAT:
            chat = Handed("", 0, uid, event, groups & receiver.granted.groups_out, receiver.principal.name)
            self._underway.put(receiver.node, chat, self._clock.seconds())

    def kept(self, uid: str, principal: str | None, event: Event, groups: Groups) -> None:
        """Have the others keep a chat as well that waits here: then it survives this node."""
        self.bus.tell(Handed("", 0, uid, event, groups, principal))

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

    def settle(self, uid: str, event: Event) -> None:
        """Have the others keep a chat no longer that has reached a contact here."""
        self.bus.tell(Settled(uid, event.uid))

    def returned(self, uid: str, event: Event) -> None:
        """Note that a chat has not reached a contact after all: its connection broke before."""
        self._delivered.pop((uid, event.uid), None)

    def _speaker(self, source: Subscription) -> Speaker:
        speaker = source.speaker
        if (
            speaker is None
            or speaker.active is not source.principal
            or speaker.granted is not source.granted
            or speaker.since != source.since
        ):
            number = next(self._numbers) if speaker is None else speaker.connection
            # Who only speaks, such as a client of the HTTP interface, is nobody's contact elsewhere either.
            speaker = source.speaker = Speaker(
                number, source.granted, source.principal, source.peer, source.since, not source.reports
            )
            if source.reports:
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
            if word.node in ("", self.bus.instance):
                self._take_over(word)
        elif isinstance(word, Settled):
            self._router.chats.settle(word.uid, word.chat)
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
        self._missed.discard(node.instance)
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
            for chat in self._underway.lost_with(node.instance, self._clock.seconds()):
                self._take_over(chat)

    def missed(self, node: str) -> None:
        """Learn that words of a node were lost."""
        self._missed.add(node)
        if self._asking is None:
            self._ask()

    def _ask(self) -> None:
        self._asking = None
        if self._missed:
            for node in self._missed:
                self.bus.tell(Ask(node))
            self._missed.clear()
            self.compare()
            self._asking = self._clock.callLater(ASK_SECONDS, self._ask)

    def back(self) -> None:
        """Learn that words get through (again)."""
        self._exchange.afresh()
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
            here = [each for each in self._receivers(word) if not each.node]
            if here:
                self._deliver(word, here)
            else:
                self._keep(word)

    def _tell_all(self) -> None:
        if self._answering is None:  # one answer for all who ask at the same time
            self._answering = self._clock.callLater(0, self._begin_answer)

    def _begin_answer(self) -> None:
        self._answering = None
        self._exchange.do(self._presence())

    def _presence(self) -> Steps:
        for source in list(self._local.values()):
            if not source.closed and source.primary is not None:
                reports = tuple(
                    contact.sa
                    for contact in source.uids.values()
                    if contact.sa is not None and source in contact.holders
                )
                self.bus.tell(Present(self._speaker(source), source.incognito, reports))
            yield None
            yield from self._exchange.wait()
        self.bus.tell(AllPresent(tuple(self._local)))
        yield from self._exchange.tell_digest()

    def _take_over(self, word: Handed) -> None:
        if word.event.type == CHAT and self.was_delivered(word.uid, word.event):
            if not word.node:
                self.settle(word.uid, word.event)
            return
        receivers = self._receivers(word)
        here = [each for each in receivers if not each.node]
        if here:
            self._deliver(word, here)
        elif not receivers:
            self._keep(word)
        elif word.node:  # it has moved on to another node in the meantime
            self._deliver(word, receivers)

    def _receivers(self, word: Handed) -> list[Subscription]:
        connection = self._local.get(word.connection) if word.node == self.bus.instance else None
        contact = self._router.contacts.get(word.uid)
        holders = list(contact.holders) if contact is not None else []
        return [
            each
            for each in ([connection] if connection is not None else holders)
            if word.principal in (None, each.principal.name) and word.groups <= each.granted.groups_out
        ]

    def _deliver(self, word: Handed, receivers: list[Subscription]) -> None:
        for receiver in receivers:
            if word.event.type == CHAT and not receiver.node:
                self.delivered(word.uid, word.event)
            self._router.audiences.direct(word.event, None, receiver)

    def _keep(self, word: Handed) -> None:
        event = word.event
        if event.type == CHAT and self._router.contacts.get(word.uid) is not None:
            self.returned(word.uid, event)
            self._router.chats.keep(word.uid, word.principal, event, word.groups, self._router.now())
            if word.node == self.bus.instance:
                self.kept(word.uid, word.principal, event, word.groups)
