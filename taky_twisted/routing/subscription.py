"""One listener's (and usually speaker's) place in the router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from taky_twisted.cot import compose
from taky_twisted.cot.event import Event
from taky_twisted.cot.types import (
    GEO_FILTER,
    INCOGNITO_OFF,
    INCOGNITO_ON,
    SUBSCRIBE,
    UNSUBSCRIBE,
    is_control,
)
from taky_twisted.identity.principal import Principal

from .filters import BadFilter, Filter, area_filter, xpath_filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from taky_twisted.notices import Notices
    from taky_twisted.takproto.batch import Batch

    from .audience import Audience
    from .contact import Contact
    from .offers import Reached
    from .outbox import Replay
    from .records import Groups
    from .router import Router
    from .words import Speaker


class Sink(Protocol):
    """Where delivered events go: a client's stream, the monitor port, multicast, the recorder."""

    def deliver(self, batch: Batch) -> None:
        """Take events, at once and without fail; what cannot leave now waits or goes by the sink's own rules."""

    def replay(self, entries: Iterable[Replay]) -> None:
        """Take what a newcomer is told; what is delivered later about the same uid takes its place.

        What is taken again before it was begun counts as taken only now.
        """

    def close(self, reason: str) -> None:
        """End the connection after what was delivered; the subscription is closed already."""

    def unsent(self) -> list[Event]:
        """Give back what was delivered but never left, when the connection is gone."""


class Subscription:
    """What the router knows of one connection. Doors make one per connection with `Router.subscribe`."""

    def __init__(
        self,
        router: Router,
        principal: Principal,
        sink: Sink,
        peer: str,
        max_bytes: int = 0,
        wants_everything: bool = False,
        from_server: bool = False,
        reached: Reached | None = None,
    ) -> None:
        """Describe a connection; `Router.subscribe` makes it hear.

        Args:
            router: where it speaks.
            principal: who it is proved to be.
            sink: where it hears.
            peer: its address and door, for the log.
            max_bytes: the largest event it is sent; 0 for any.
            wants_everything: whether it hears all that is routed, whatever the destinations and groups.
            from_server: whether other servers may speak here (UDP, multicast), so that our own events may come back.
            reached: our end of the connection, where that is an address.
        """
        self._router = router
        self.granted = principal
        """Who it is proved to be, with all groups that it has."""
        self.principal = principal
        """The same with the groups that are switched on."""
        self.sink = sink
        self.peer = peer
        self.max_bytes = max_bytes
        self.wants_everything = wants_everything
        self.from_server = from_server
        self.reached = reached
        self.reports = not wants_everything and not from_server
        """Whether who speaks here becomes a contact by a self-report."""
        self.node = ""
        """The node that it is connected to, an instance id; empty: this one."""
        self.since = 0.0
        """When it said who it is, in seconds since the epoch: of two that say they are the same, the later one is."""
        self.speaker: Speaker | None = None
        """What other nodes know of it."""
        self.closed = False
        self.audience: Audience | None = None
        self.primary: Contact | None = None
        """The first uid that it reported."""
        self.uids: dict[str, Contact] = {}
        """All uids that it speaks for."""
        self.echo: Subscription = self
        """Whose events are not sent back here: its own, or those of the newer connection of the same client."""
        self.rival: Subscription | None = None
        """The newer connection that took its uid, while it is unclear whether this one still lives."""
        self.sink_heard = 0.0
        """When any byte came from there, seconds since the epoch; kept by the door."""
        self.incognito = False
        self.untold: Groups = frozenset()
        """Groups whose part of the map it is still to be shown."""
        self.telling: Iterator[Replay] | None = None
        """What will show it that, as long as its sink has not begun with it."""
        self._area: Filter | None = None
        self._xpaths: dict[str, Filter] = {}
        self.filter: Filter | None = None

    def __repr__(self) -> str:
        return f"<Subscription {self.name} {self.peer}>"

    @property
    def name(self) -> str:
        """Callsign, else certificate or account, else address: for people."""
        if self.primary is not None and self.primary.callsign:
            return self.primary.callsign
        return self.principal.name or self.peer

    @property
    def host(self) -> str:
        """The address without the port; empty for who has none."""
        return self.peer.partition(" at ")[0].rpartition(":")[0]

    @property
    def door(self) -> str:
        """Where it came in; empty for who came in nowhere in particular."""
        return self.peer.partition(" at ")[2]

    @property
    def notices(self) -> Notices:
        """Where what this connection does is told of."""
        return self._router.notices

    def publish(self, event: Event) -> None:
        """Say an event: answer it if it is meant for the server, else route it."""
        if self.closed:
            return
        if self.rival is not None:
            self._router.contacts.still_there(self)
        if is_control(event.type):
            self._control(event)
            return
        tag = self._router.flow_tag
        if tag in event.detail.flow_tags:
            if self.from_server:
                return
            event = compose.without_flow_tag(event, tag)
        self._router.route(event, self)

    def close(self, clean: bool = False) -> None:
        """Leave the router.

        Args:
            clean: whether the peer said goodbye; else its departure is announced a moment later, unless it comes back.
        """
        if not self.closed:
            self.closed = True
            self._router.left(self, clean)

    def close_peer(self, reason: str) -> None:
        """Leave the router and end the connection; that was not the peer's wish, and it may be back in a moment."""
        self.close()
        self.sink.close(reason)

    def _control(self, event: Event) -> None:
        kind = event.type.lower()
        try:
            if kind == GEO_FILTER:
                self._area = area_filter(event)
                self._filter_by()
            elif kind == SUBSCRIBE:
                wanted = xpath_filter(event)
                self._xpaths = {} if wanted is None else {event.uid: wanted}
                self._filter_by()
            elif kind == UNSUBSCRIBE:
                if self._xpaths.pop(event.uid, None):
                    self._filter_by()
            elif kind == INCOGNITO_ON:
                if not self.incognito and not self.from_server:
                    self.incognito = True
                    self._router.hide(self)
                    self._tell_nodes(event)
            elif kind == INCOGNITO_OFF:
                self.incognito = False
                self._tell_nodes(event)
        except BadFilter as error:
            self.notices.say("{peer}: filter request ignored: {error}", peer=self.peer, error=error)

    def _tell_nodes(self, event: Event) -> None:
        if self._router.nodes is not None:
            self._router.nodes.said(event, self)

    def _filter_by(self) -> None:
        filters = [*self._xpaths.values()]
        if self._area is not None:
            filters.append(self._area)
        self._router.rejoin(self, (lambda event: all(wanted(event) for wanted in filters)) if filters else None)
