"""Classes of receivers that are owed the same broadcasts, and the one joined buffer that each gets per reactor turn.

A broadcast costs one append per class; at the end of the reactor turn everything that was said is joined once and
handed to every member. Who said some of it gets a copy of its own without that. What is directed to one receiver is
gathered for the same moment. Where a sender changes between the two, what it said before goes out first, so that
every receiver hears every sender in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from taky_twisted.cot.event import Event
from taky_twisted.takproto.batch import Batch

from .records import Groups
from .tally import Tally

if TYPE_CHECKING:
    from .offers import Offers
    from .subscription import Subscription

SAMPLE_TURNS = 8
"""Of so many reactor turns in which something is said one is measured: how long it took to hand all of it over."""

Said = tuple[Event, "Subscription | None"]
"""An event, and the connection that gets no copy because it said it."""


class Audience:
    """Subscriptions that hear the same groups and take events of the same size."""

    __slots__ = ("filtered", "groups_out", "max_bytes", "members", "pending", "sources", "tally")

    def __init__(self, groups_out: Groups, max_bytes: int, tally: Tally) -> None:
        self.groups_out = groups_out
        self.max_bytes = max_bytes
        """The largest event that is passed on; 0 for any."""
        self.members: dict[Subscription, None] = {}
        self.filtered: dict[Subscription, None] = {}
        """Members with a filter of their own."""
        self.pending: list[Said] = []
        self.sources: set[Subscription] = set()
        """Who said something that is pending."""
        self.tally = tally

    def say(self, event: Event, source: Subscription | None) -> None:
        """Owe an event to all members but one."""
        self.pending.append((event, source))
        if source is not None:
            self.sources.add(source)

    def flush(self) -> None:
        """Hand over what is pending."""
        pending, self.pending = self.pending, []
        sources, self.sources = self.sources, set()
        if not pending:
            return
        batch = Batch([event for event, _ in pending])
        delivered = len(pending) * len(self.members)
        for member in list(self.members):
            if member.echo not in sources:
                member.sink.deliver(batch)
            else:
                echo = member.echo
                others = [event for event, source in pending if source is not echo]
                delivered -= len(pending) - len(others)
                if others:
                    member.sink.deliver(Batch(others))
        for member in list(self.filtered):
            wanted = member.filter
            heard = [event for event, source in pending if source is not member.echo and (not wanted or wanted(event))]
            if heard:
                delivered += len(heard)
                member.sink.deliver(Batch(heard))
        self.tally.delivered += delivered


class Audiences:
    """All audiences, and who reaches which."""

    def __init__(self, clock: IReactorTime, offers: Offers) -> None:
        """Start empty.

        Args:
            clock: to flush at the end of the turn.
            offers: makes what is said in place of an event that is too large for an audience.
        """
        self._clock, self._offers = clock, offers
        self.tally = Tally()
        """Counts what goes through here, and what the connections of this router say."""
        self._audiences: dict[tuple[Groups, int], Audience] = {}
        self._reach: dict[Groups, list[Audience]] = {}
        self._everything: dict[Subscription, None] = {}
        self._flushing: IDelayedCall | None = None
        self._turn = 0  # of those in which something was said
        self._dirty: dict[Audience, None] = {}
        self._directed: dict[Subscription, list[Event]] = {}
        self._directing: set[Subscription] = set()  # who said something of that

    def __len__(self) -> int:
        """How many audiences there are."""
        return len(self._audiences)

    def join(self, member: Subscription) -> None:
        """Put a subscription where its principal, its size limit and its filter place it."""
        if member.wants_everything:
            self._everything[member] = None
            return
        key = member.principal.groups_out, member.max_bytes
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(*key, self.tally)
            self._reach.clear()
        # What is pending was said before: a newcomer is told by the replay.
        audience.flush()
        (audience.filtered if member.filter else audience.members)[member] = None
        member.audience = audience

    def leave(self, member: Subscription) -> None:
        """Take a subscription out."""
        self._everything.pop(member, None)
        audience = member.audience
        if audience is None:
            return
        member.audience = None
        audience.members.pop(member, None)
        audience.filtered.pop(member, None)
        if not audience.members and not audience.filtered:
            del self._audiences[audience.groups_out, audience.max_bytes]
            self._dirty.pop(audience, None)
            self._reach.clear()

    def broadcast(self, event: Event, groups: Groups, source: Subscription | None) -> None:
        """Say an event to everybody who hears one of the groups, but not back to its source."""
        reached = self._reach.get(groups)
        if reached is None:
            if len(self._reach) > 1000:
                self._reach.clear()
            reached = self._reach[groups] = [
                audience for audience in self._audiences.values() if not groups.isdisjoint(audience.groups_out)
            ]
        if source in self._directing:
            self._flush_directed()
        for audience in reached:
            if audience.max_bytes and len(event.xml) > audience.max_bytes:
                for offer, member in self._offers.broadcast(event, groups, source, audience):
                    self.direct(offer, source, member)
                continue
            audience.say(event, source)
            self._dirty[audience] = None
        if self._flushing is None and self._dirty:
            self._flush_later(source)

    def broadcast_between(self, event: Event, groups: Groups, others: Groups, source: Subscription | None) -> None:
        """Say an event to everybody who hears one of the groups, but none of the others."""
        for audience in self._audiences.values():
            if groups.isdisjoint(audience.groups_out) or not others.isdisjoint(audience.groups_out):
                continue
            if not audience.max_bytes or len(event.xml) <= audience.max_bytes:
                audience.say(event, source)
                self._dirty[audience] = None
        if self._flushing is None and self._dirty:
            self._flush_later(source)

    def direct(self, event: Event, source: Subscription | None, member: Subscription) -> None:
        """Say an event to one subscription."""
        audience = member.audience
        if audience is not None:
            if audience.max_bytes and len(event.xml) > audience.max_bytes:
                offer = self._offers.direct(event, source, member)
                if offer is None:
                    return
                event = offer
            if source in audience.sources:
                audience.flush()
        waiting = self._directed.get(member)
        if waiting is None:
            self._directed[member] = [event]
        else:
            waiting.append(event)
        if source is not None:
            self._directing.add(source)
        if self._flushing is None:
            self._flush_later(source)

    def take_directed(self, member: Subscription) -> list[Event]:
        """Take back what was directed to somebody in this turn, who is gone."""
        return self._directed.pop(member, [])

    def tap(self, event: Event, source: Subscription | None) -> None:
        """Say an event to those who hear everything that is routed."""
        for listener in list(self._everything):
            if listener is not source:
                listener.sink.deliver(Batch((event,)))

    def flush(self) -> None:
        """Hand over everything that is pending."""
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        self._flush_directed()
        dirty, self._dirty = self._dirty, {}
        for audience in dirty:
            audience.flush()

    def _flush_later(self, source: Subscription | None) -> None:
        """Flush at the end of the turn in which somebody was the first to say something."""
        self._turn = turn = (self._turn + 1) % SAMPLE_TURNS
        if turn or source is None:
            self._flushing = self._clock.callLater(0, self.flush)
        else:
            self._flushing = self._clock.callLater(0, self._flush_measured, source.sink_heard)

    def _flush_measured(self, heard: float) -> None:
        self.flush()
        if heard:  # else nobody knows when that was
            self.tally.latency.observe(self._clock.seconds() - heard)

    def _flush_directed(self) -> None:
        directed, self._directed = self._directed, {}
        self._directing.clear()
        for member, events in directed.items():
            self.tally.delivered += len(events)
            member.sink.deliver(Batch(events, directed=True))
