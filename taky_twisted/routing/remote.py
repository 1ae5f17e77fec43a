"""Connections of other nodes: a subscription for each, which speaks here and hears nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from taky_twisted.cot.event import Event
from taky_twisted.interfaces import Node
from taky_twisted.takproto.batch import Batch

from . import switching
from .subscription import Subscription
from .words import Present, Speaker

if TYPE_CHECKING:
    from .nodes import Nodes
    from .outbox import Replay
    from .router import Router

MAX_SERVER_SPEAKERS = 1000
"""Senders without a connection (UDP, multicast, HTTP) that are told apart, of one node; the oldest goes first."""


class RemoteSink:
    """Stands for the sink of another node's connection, which delivers there by itself.

    Only what this node alone has for it is passed on: chat that waited here, what a broken connection did not take.
    """

    def __init__(self, nodes: Nodes, remotes: Remotes) -> None:
        self._nodes, self._remotes = nodes, remotes
        self.receiver: Subscription | None = None

    def deliver(self, batch: Batch) -> None:
        if self.receiver is not None:
            for event in batch.events:
                self._nodes.hand(self.receiver, event)

    def replay(self, entries: Iterable[Replay]) -> None:
        """Show nothing: its own node does."""

    def close(self, reason: str) -> None:
        """Forget the connection; its own node closes it by the same rule."""
        if self.receiver is not None:
            self._remotes.forget(self.receiver)

    def unsent(self) -> list[Event]:
        return []


class _Table:
    """The connections of one node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections: dict[int, Subscription] = {}
        self.servers: OrderedDict[int, Subscription] = OrderedDict()


class Remotes:
    """All connections of other nodes."""

    def __init__(self, router: Router, nodes: Nodes) -> None:
        self._router, self._nodes = router, nodes
        self._tables: dict[str, _Table] = {}

    def name(self, node: str) -> str:
        """Say what people call a node."""
        table = self._tables.get(node)
        return table.name if table is not None else node

    def joined(self, node: Node) -> None:
        """Learn of a node."""
        self._table(node.instance).name = node.name

    def source(self, node: str, speaker: Speaker, event: Event | None = None) -> Subscription | None:
        """Find the subscription that stands for a connection, as it is now.

        Args:
            node: the connection's.
            speaker: what that node says of it.
            event: what it says.

        Returns:
            None if the event must not count, because it reports a uid that a later connection speaks for.
        """
        table = self._table(node)
        source = table.connections.get(speaker.connection) or table.servers.get(speaker.connection)
        if source is None:
            source = self._connect(node, table, speaker)
        elif source.speaker is not speaker and source.speaker != speaker:
            switching.follow(self._router, source, speaker.granted, speaker.active, self._router.now())
            source.since = speaker.since
            source.speaker = speaker
        return None if event is not None and self._is_outdated(source, event) else source

    def present(self, node: str, word: Present) -> None:
        """Learn that a connection is there."""
        source = self.source(node, word.speaker)
        assert source is not None, "no event was in question"
        if word.incognito and not source.incognito:
            source.incognito = True
            self._router.hide(source)
        source.incognito = word.incognito
        for report in word.reports:
            contact = self._router.contacts.get(report.uid)
            is_known = contact is not None and source in contact.holders and contact.sa is not None
            if is_known and contact is not None and contact.sa is not None and contact.sa.time >= report.time:
                continue
            if not self._is_outdated(source, report):
                source.publish(report)
        for contact in source.uids.values():
            if source in contact.holders:  # what could not be handed over before
                switching.hand_missed(self._router, contact, source, self._router.now())

    def only(self, node: str, connections: Iterable[int]) -> None:
        """Learn that a node has no other connections than these."""
        known = set(connections)
        for number in [number for number in self._table(node).connections if number not in known]:
            self.left(node, number, False)

    def left(self, node: str, connection: int, clean: bool) -> None:
        """Learn that a connection is gone."""
        source = self._table(node).connections.pop(connection, None)
        if source is not None:
            source.close(clean)

    def gone(self, node: str, clean: bool) -> int:
        """Learn that a node is gone.

        Args:
            node: which.
            clean: whether it stopped; then its clients may be on their way to another one. If it was not heard for long
                they would be there by now.

        Returns:
            How many clients it had.
        """
        table = self._tables.pop(node, None)
        if table is None:
            return 0
        sources = list(table.connections.values())
        clients = sum(source.primary is not None for source in sources)
        for source in (*sources, *table.servers.values()):
            source.close(clean=not clean)
        return clients

    def forget(self, source: Subscription) -> None:
        """Let go of a connection that is closed by a rule that its own node follows too."""
        if source.speaker is not None:
            self._table(source.node).connections.pop(source.speaker.connection, None)

    def _table(self, node: str) -> _Table:
        table = self._tables.get(node)
        if table is None:
            table = self._tables[node] = _Table(node)
        return table

    def _connect(self, node: str, table: _Table, speaker: Speaker) -> Subscription:
        sink = RemoteSink(self._nodes, self)
        peer = f"{speaker.peer} on {table.name}"
        source = Subscription(self._router, speaker.granted, sink, peer, from_server=speaker.from_server)
        source.principal = speaker.active
        source.node, source.since, source.speaker = node, speaker.since, speaker
        # Its own node closes it when nothing is heard from it.
        source.sink_heard = float("inf")
        sink.receiver = source
        if not speaker.from_server:
            table.connections[speaker.connection] = source
            return source
        table.servers[speaker.connection] = source
        if len(table.servers) > MAX_SERVER_SPEAKERS:
            table.servers.popitem(last=False)[1].close()
        return source

    def _is_outdated(self, source: Subscription, event: Event) -> bool:
        if not event.is_self_report or event.uid in source.uids:
            return False
        contact = self._router.contacts.get(event.uid)
        return contact is not None and any(holder.since > source.since for holder in contact.holders)
