"""Which other nodes are there, and which of their batches were heard: each counts once, and gaps are noticed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from taky_twisted.interfaces import BusListener, Node

from .calls import Call
from .tally import Tally

SILENT_SECONDS = 5.0
"""Who has not been heard for so long is gone; each node says every second that it is there."""
MAX_NODES = 256
"""Nodes that are known at once; a further one is not listened to."""
MAX_SEEN = 4 * MAX_NODES
"""Instances whose last number is remembered: what they said before they were gone must not count again."""


@dataclass(slots=True)
class _Member:
    node: Node
    silent: float = 0.0
    """For how many seconds it was listened to in vain."""
    is_heard: bool = True
    """Whether it was heard in what was read last."""


class Members:
    """The other nodes. What the listener must be told of them is returned as calls, to be made in order."""

    def __init__(self, listener: BusListener, tally: Tally) -> None:
        self._listener, self._tally = listener, tally
        self._members: dict[str, _Member] = {}
        self._seen: OrderedDict[str, int] = OrderedDict()

    @property
    def nodes(self) -> list[Node]:
        """Those that are there."""
        return [member.node for member in self._members.values()]

    def is_full(self, instance: str) -> bool:
        """Tell whether a node cannot be taken in."""
        return instance not in self._members and len(self._members) >= MAX_NODES

    def arrived(self, node: Node, number: int) -> list[Call] | None:
        """Note that a batch was heard.

        Args:
            node: whose it is.
            number: the batch's.

        Returns:
            None if it was heard before: it must not count again.
        """
        instance = node.instance
        last = self._see(instance, number)
        if last is not None and number <= last:
            self._tally.doubled += 1
            return None
        member = self._members.get(instance)
        if member is None:
            self._members[instance] = _Member(node)
            # Who was thought gone was forgotten: it has to tell everything again, as after a gap.
            return [(self._listener.joined, node)] + ([self.missed(instance)] if last is not None else [])
        member.is_heard = True
        member.node.counts = node.counts or member.node.counts
        return [self.missed(instance)] if number != (last or 0) + 1 else []

    def unreadable(self, instance: str, number: int) -> list[Call]:
        """Note that a batch was heard and not understood."""
        if instance not in self._members or number <= self._seen[instance]:
            return []
        self._see(instance, number)
        return [self.missed(instance)]

    def missed(self, instance: str) -> Call:
        """Note that words of a node are lost."""
        self._tally.gaps += 1
        return (self._listener.missed, instance)

    def left(self, instance: str) -> list[Call]:
        """Note that a node has said goodbye."""
        member = self._members.pop(instance)
        return [(self._listener.gone, member.node, True)]

    def listened(self, seconds: float) -> list[Call]:
        """Note that everything was heard that was said, since the time before this was noted.

        Args:
            seconds: how long that was.
        """
        calls: list[Call] = []
        for instance, member in list(self._members.items()):
            member.silent = 0.0 if member.is_heard else member.silent + seconds
            member.is_heard = False
            if member.silent >= SILENT_SECONDS:
                del self._members[instance]
                calls.append((self._listener.gone, member.node, False))
        return calls

    def afresh(self) -> None:
        """Give everybody time to be heard again, since nobody could be."""
        for member in self._members.values():
            member.is_heard = True

    def _see(self, instance: str, number: int) -> int | None:
        last = self._seen.get(instance)
        self._seen[instance] = number if last is None else max(last, number)
        self._seen.move_to_end(instance)
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return last
