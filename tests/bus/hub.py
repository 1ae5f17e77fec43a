"""Buses in memory, joined without Redis; words pass through the real envelope, as they would on the wire.

::

    hub = BusHub()                    # words arrive at once; BusHub(clock): with the clock's next turn
    a, b = hub.bus("a"), hub.bus("b")
    nodes.join(a)                     # `a` is a Bus
    a.start(nodes)                    # `nodes` is a BusListener: joined() for those that are there, then back()
    a.cut(), a.mend()                 # Redis is away for it, and back
    a.mute()                          # the others think it is gone; it is heard again with its next word
    a.lose()                          # its next word is lost, and the others notice it with the one after
    a.stop(), a.die()                 # it is gone, with or without saying so
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from twisted.internet.task import Clock

from taky_twisted.bus.backlog import may_wait
from taky_twisted.bus.envelope import Outgoing, open_batch
from taky_twisted.interfaces import BusListener, Node
from taky_twisted.routing.words import Word


class BusHub:
    """What joins buses."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Join nobody yet.

        Args:
            clock: when words arrive: with its next turn. Without one: at once, before ``tell`` returns, but each after
                what was told before it.
        """
        self.clock = clock
        self.buses: list[HubBus] = []
        """Those that are there."""
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._calling = False
        self._counter = count(1)

    def bus(self, name: str, counts: dict[str, int] | None = None) -> HubBus:
        """Make one node's end; nobody knows of it before it is started."""
        return HubBus(self, Node(f"instance-{name}-{next(self._counter)}", name, "1.0", 0.0, counts or {}))

    def call(self, what: Callable[..., object], *arguments: Any) -> None:
        """Call somebody, after everybody who is to be called before."""
        if self.clock is not None:
            self.clock.callLater(0, what, *arguments)
            return
        self._calls.append((what, arguments))
        if not self._calling:
            self._calling = True
            try:
                while self._calls:
                    what, arguments = self._calls.popleft()
                    what(*arguments)
            finally:
                self._calling = False


@dataclass(eq=False)
class HubBus:
    """One node's end of the hub: a `Bus`."""

    hub: BusHub
    node: Node
    up: bool = False
    told: list[Word] = field(default_factory=list)
    """Everything that this node wanted to tell."""
    dropped: list[Word] = field(default_factory=list)
    """What was not told to anybody because the bus was away."""
    waiting: list[Word] = field(default_factory=list)
    """What is told once the bus is back."""
    known: dict[str, Node] = field(default_factory=dict)
    """The other nodes, by instance."""
    _numbers: dict[str, int] = field(default_factory=dict)
    _number: int = 0
    _losing: int = 0
    _listener: BusListener | None = None

    @property
    def instance(self) -> str:
        return self.node.instance

    @property
    def nodes(self) -> Sequence[Node]:
        return list(self.known.values())

    @property
    def listener(self) -> BusListener:
        """Whom it tells."""
        assert self._listener is not None, "not started yet"
        return self._listener

    def start(self, listener: BusListener) -> None:
        """Join the others."""
        self._listener, self.up = listener, True
        for other in self.hub.buses:
            if other.up:
                other._meet(self.node)
                self._meet(other.node)
        self.hub.buses.append(self)
        self.hub.call(listener.back)

    def tell(self, word: Word) -> None:
        self.told.append(word)
        if not self.up:
            (self.waiting if may_wait(word) else self.dropped).append(word)
            return
        self._number += 1
        batch = Outgoing(self.node, self._number)
        batch.add(word)
        data = batch.finish(self.node.counts)
        if self._losing:
            self._losing -= 1
            return
        self.hub.call(self._deliver, data)

    def cut(self) -> None:
        """Be without Redis."""
        self.up = False

    def mend(self) -> None:
        """Have Redis again; what could wait is told first."""
        self.up = True
        waiting, self.waiting = self.waiting, []
        for word in waiting:
            self.told.remove(word)
            self.tell(word)
        self.hub.call(self.listener.back)

    def give_up(self) -> None:
        """What waits has waited too long."""
        waiting, self.waiting = self.waiting, []
        for word in waiting:
            self.hub.call(self.listener.undelivered, word)

    def lose(self, words: int = 1) -> None:
        """Lose the next words on the way."""
        self._losing += words

    def mute(self) -> None:
        """Not be heard for so long that the others think this node is gone."""
        for other in self.hub.buses:
            if other is not self and other.up:
                other._part(self.instance, False)

    def stop(self) -> None:
        """Say goodbye, and be gone."""
        self._leave(True)

    def die(self) -> None:
        """Be gone without a word; the others notice it."""
        self._leave(False)

    def _leave(self, clean: bool) -> None:
        self.up = False
        self.hub.buses.remove(self)
        for other in self.hub.buses:
            other._part(self.instance, clean)

    def _meet(self, node: Node) -> None:
        self.known[node.instance] = replace(node)
        self.hub.call(self.listener.joined, self.known[node.instance])

    def _part(self, instance: str, clean: bool) -> None:
        node = self.known.pop(instance, None)
        if node is not None:
            self.hub.call(self.listener.gone, node, clean)

    def _deliver(self, data: bytes) -> None:
        for other in list(self.hub.buses):
            if other is not self and other.up:
                other._read(data)

    def _read(self, data: bytes) -> None:
        batch = open_batch(data)
        last = self._numbers.get(batch.instance)
        self._numbers[batch.instance] = batch.number
        is_new = batch.instance not in self.known
        if is_new:
            self.known[batch.instance] = batch.node
            self.listener.joined(batch.node)
        if last is not None and (is_new or batch.number != last + 1):
            self.listener.missed(batch.instance)
        for word in batch.words():
            self.listener.heard(batch.instance, word)
