"""Who hears an event: the rules, one after the other. It does no I/O and never waits.

Sources: TAK Server ``service/SubmissionService.java``, ``service/DistributedSubscriptionManager.java``,
``cot/filter/StreamingEndpointRewriteFilter.java``, ``groups/MessagingUtilImpl.java``; what differs on purpose is in
``doc/reference/wire.rst``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import Event
from taky_twisted.cot.types import CHAT, DELETE, is_retained
from taky_twisted.identity.failures import Failures
from taky_twisted.identity.principal import Principal
from taky_twisted.interfaces import EventStore, Witness
from taky_twisted.notices import Notices

from . import directing, switching
from .audience import Audiences
from .contact import Contact
from .contacts import Contacts
from .emergencies import Alert, Emergencies
from .filters import Filter
from .groups import GroupChoices
from .missed_chat import MissedChats
from .offers import Offers, Reached
from .outbox import Replay
from .pins import Pins
from .records import Groups
from .retained import Retained
from .subscription import Sink, Subscription

if TYPE_CHECKING:
    from taky_twisted.records import Kept

    from .nodes import Nodes
    from .tracing import Tracing

HOUR, DAY = 3600, 24 * 3600


class Router:
    """Everything that hears is a subscription, everything that is said goes through `route`."""

    def __init__(
        self,
        clock: IReactorTime,
        store: EventStore,
        limits: Limits,
        max_persist_ttl: float = -1,
        chat_fallback: bool = True,
        witness: Witness | None = None,
        failures: Failures | None = None,
        pin_uid: bool = False,
    ) -> None:
        """Start with an empty map.

        Args:
            clock: tells the time and the end of the reactor turn.
            store: where what must survive a restart goes.
            limits: how much is kept.
            max_persist_ttl: seconds that an item is kept at most, whatever its stale; negative for no such cap.
            chat_fallback: whether a chat without destinations goes to those that it names instead of to everybody.
            witness: is told of every event that clients said and that is routed.
            failures: remembers what was refused.
            pin_uid: whether a uid that somebody with a certificate or account was heard with is nobody else's.
        """
        self._clock = clock
        self.chat_fallback = chat_fallback
        self.max_to_client = limits.max_event_to_client
        self.witness = witness
        self.notices = Notices(clock)
        self.flow_tag = "TAK-Server-"
        """Our mark in ``<_flow-tags_>``; whole once the server's id is known."""
        self.offers = Offers(clock, self.notices, self.find)
        self.audiences = Audiences(clock, self.offers)
        self.contacts = Contacts(clock, store, limits.known_contacts, limits.secondary_uids, self.announce)
        self.retained = Retained(
            store, limits.retained_items, limits.retained_bytes, max_persist_ttl, limits.tombstones
        )
        self.chats = MissedChats(store, limits.missed_chats, limits.missed_chat_days * DAY)
        self.emergencies = Emergencies(
            clock, store, limits.emergency_period, limits.emergencies, limits.emergency_hours * HOUR, self._say_alert
        )
        self.groups = GroupChoices(store)
        self.pins = Pins(self.contacts, failures or Failures(clock)) if pin_uid else None
        self.tracing: Tracing | None = None
        """Looks closely at some events, while somebody wants that."""
        self.nodes: Nodes | None = None
        """Tells the other nodes what happens here, if there are others."""
        self.subscriptions: dict[Subscription, None] = {}

    def now(self) -> float:
        """Tell the time, in seconds since the epoch."""
        return self._clock.seconds()

    def restore(self, kept: Kept) -> None:
        """Take over what a store held, before anybody is connected."""
        now = self._clock.seconds()
        self.retained.restore(kept.items, kept.tombstones, now)
        self.contacts.restore(kept.contacts, now)
        self.chats.restore(kept.chats)
        self.emergencies.restore(kept.emergencies)
        self.groups.restore(kept.active_groups)

    def prune(self) -> None:
        """Forget what is stale; to be called every few seconds."""
        now = self._clock.seconds()
        self.retained.prune(now)
        self.contacts.prune(now)
        self.chats.prune(now)

    def stop(self) -> None:
        """Hand over what is pending, and announce nothing from now on."""
        self.audiences.flush()
        self.contacts.stop()
        self.emergencies.stop()

    # Subscriptions

    def subscribe(
        self,
        principal: Principal,
        sink: Sink,
        peer: str,
        max_bytes: int = 0,
        wants_everything: bool = False,
        from_server: bool = False,
        reached: Reached | None = None,
    ) -> Subscription:
        """Let a connection hear: first what is on the map, then what is said, with nothing lost or doubled in between.

        Args:
            principal: who it is proved to be.
            sink: where it hears.
            peer: its address and door, for the log.
            max_bytes: the largest event it is sent; 0 for any.
            wants_everything: whether it hears all that is routed and is shown nothing old.
            from_server: whether other servers may speak here, so that our own events may come back.
            reached: our end of the connection, where that is an address.
        """
        subscription = Subscription(self, principal, sink, peer, max_bytes, wants_everything, from_server, reached)
        self.subscriptions[subscription] = None
        self.groups.joined(subscription)
        self.audiences.join(subscription)
        if not wants_everything and not from_server:
            sink.replay(self.picture(subscription, subscription.principal.groups_out))
        return subscription

    def speaker(self, principal: Principal, sink: Sink, peer: str) -> Subscription:
        """Make a place for somebody who speaks but never hears: the senders on a UDP or multicast port."""
        return Subscription(self, principal, sink, peer, from_server=True)

    def rejoin(self, subscription: Subscription, wanted: Filter | None) -> None:
        """Give a subscription another filter, for what is said from now on."""
        if subscription.audience is not None:
            subscription.audience.flush()
            self.audiences.leave(subscription)
            subscription.filter = wanted
            self.audiences.join(subscription)

    def left(self, subscription: Subscription, clean: bool) -> None:
        """Take a closed subscription out; called by `Subscription.close`."""
        self.subscriptions.pop(subscription, None)
        if self.nodes is not None:
            self.nodes.left(subscription, clean)
        self.groups.left(subscription)
        self.audiences.leave(subscription)
        now = self._clock.seconds()
        self.contacts.left(subscription, clean, now)
        primary = subscription.primary
        groups = subscription.granted.groups_out
        for event in (*subscription.sink.unsent(), *self.audiences.take_directed(subscription)):
            destinations = event.detail.destinations
            if primary is None or destinations is None or not destinations.explicit:
                continue
            if self.nodes is not None:
                self.nodes.returned(primary.uid, event)
            # Somebody else may have taken the uid: what was for one who has proved his name is nobody else's. And what
            # groups it was said to is not known any more: only who may hear all of them may have it.
            heirs = [
                holder
                for holder in primary.holders
                if holder.principal.name == subscription.principal.name and groups <= holder.granted.groups_out
            ]
            for heir in heirs:
                self.audiences.direct(event, None, heir)
            if not heirs and event.type == CHAT:
                proved = subscription.principal.name
                if self.chats.keep(primary.uid, proved, event, groups, now) and self.nodes is not None:
                    self.nodes.kept(primary.uid, proved, event, groups)

    def hide(self, subscription: Subscription) -> None:
        """Announce that somebody who went incognito is gone."""
        self.contacts.hide(subscription, self._clock.seconds())
        for uid in subscription.uids:
            self.offers.forget(uid, subscription.principal.groups_in)

    # Routing

    def route(self, event: Event, source: Subscription) -> None:
        """Pass an event on to whom it is for."""
        if self.tracing is not None and self.tracing.follow(event, source):
            return  # it was passed on under its eyes
        now = self._clock.seconds()
        type_, detail = event.type, event.detail
        if (
            self.pins is not None
            and type_.startswith("a-")
            and event.uid not in source.uids
            and not source.from_server
            and self.pins.refuse(event, source, now)
        ):
            self._refuse(event, source)
            return
        destinations = detail.destinations
        groups = source.principal.groups_in
        if destinations is not None and destinations.groups:
            if not groups.issuperset(destinations.groups):
                self.notices.say("{peer} may not send to the groups it names: dropped", peer=source.peer)
                self._refuse(event, source)
                return
            groups = frozenset(destinations.groups)
        new = None
        if event.is_self_report and source.reports:
            new = self.contacts.heard(source, event, groups, now)
            if new is not None and new is source.primary:
                groups = switching.identified(self, source, event)
        is_emergency = type_.startswith("b-a-")
        explicit = destinations is not None and destinations.explicit
        nodes = self.nodes
        if source.incognito and not is_emergency and not explicit:
            if nodes is not None and event.is_self_report:
                nodes.said(event, source)
            if new is not None:
                self._identified(new, source, now)
            return
        if type_ == DELETE:
            if not detail.link_uid:
                return  # PyTAK's greeting is one
            self._delete(event, source, now)
        elif is_emergency:
            if source.node and self.retained.was_deleted(event, groups):
                return  # it was canceled on another node before it came here
            raised = self.emergencies.time_of(event.uid)
            self.emergencies.heard(event, source, groups, now)
            if event.uid not in self.emergencies:
                self.offers.forget(event.uid, groups)
                if raised is not None and nodes is not None:
                    # A node that does not hear this must not raise it again for all.
                    self.retained.delete(event.uid, groups, event.time, now, raised)
        self.audiences.tap(event, source)
        if destinations is not None and explicit:
            # What changes more than whom it is for: those who hold none of its receivers must know it as well.
            told = nodes is not None and (type_ == DELETE or is_emergency or new is not None)
            if told and nodes is not None:
                nodes.said(event, source)
            directing.direct(self, event, source, destinations, told)
        elif (
            type_ == CHAT
            and self.chat_fallback
            and destinations is None
            and directing.chat_to_named(self, event, source)
        ):
            return
        else:
            if nodes is not None:
                nodes.said(event, source)
            if groups and is_retained(type_, detail.archive) and not self.contacts.is_present(event.uid, groups):
                self.retained.keep(event, groups, now)
            self.audiences.broadcast(event, groups, source)
        if self.witness is not None:
            self.witness.heard(event, groups, source, now)
        if new is not None:
            self._identified(new, source, now)

    def _refuse(self, event: Event, source: Subscription) -> None:
        if not source.node:  # or it was counted there
            self.audiences.tally.of(event).refused += 1

    def _identified(self, contact: Contact, source: Subscription, now: float) -> None:
        if source.primary is contact and not source.node:
            self.notices.say(
                "{callsign} ({uid}) joined as {principal} from {peer}, {takv}",
                callsign=contact.callsign,
                uid=contact.uid,
                principal=str(source.principal),
                peer=source.peer,
                takv=contact.takv or "unknown software",
            )
            source.sink.replay(self.contacts.doubtful(source, now))
        # It was an item only as long as nobody was connected for it.
        self.retained.remove(contact.uid, contact.groups_in)
        switching.hand_missed(self, contact, source, now)

    def _delete(self, event: Event, source: Subscription, now: float) -> None:
        uid, groups = event.detail.link_uid, source.principal.groups_in
        contact = self.contacts.get(uid)
        reported = contact.sa.time if contact is not None and contact.sa is not None else 0.0
        if uid not in self.emergencies and self.contacts.take_off_map(uid, groups):
            self.retained.delete(uid, groups, event.time, now, reported)
            self.offers.forget(uid, groups)

    # What the server knows

    def find(self, uid: str, groups_out: Groups) -> Event | None:
        """Find the newest that is known of a uid and that was said to everybody of a group that somebody hears."""
        contact = self.contacts.get(uid)
        known = (
            self.offers.find(uid, groups_out),
            contact.shown_to(groups_out) if contact is not None else None,
            self.retained.find(uid, groups_out, self._clock.seconds()),
            self.emergencies.find(uid, groups_out),
        )
        return max((event for event in known if event is not None), key=lambda event: event.time, default=None)

    # What the server says

    def announce(self, event: Event, groups: Groups) -> None:
        """Say something to everybody who hears one of the groups."""
        self.audiences.tap(event, None)
        self.audiences.broadcast(event, groups, None)

    def _say_alert(self, alert: Alert, event: Event) -> None:
        record = alert.record
        raiser = self.contacts.get(record.raiser)
        holders = list(raiser.holders) if raiser is not None else []
        source = alert.source if alert.source is not None and not alert.source.closed else None
        source = source or (holders[0] if holders else None)
        self.audiences.tap(event, None)
        if not record.callsigns and not record.uids:
            self.audiences.broadcast(event, record.groups, source)
            return
        contacts = [contact for callsign in record.callsigns for contact in self.contacts.called(callsign)]
        contacts += [contact for uid in record.uids if (contact := self.contacts.get(uid))]
        receivers = dict.fromkeys(holder for contact in contacts for holder in contact.holders)
        for receiver in receivers:
            hears = not receiver.node and not record.groups.isdisjoint(receiver.principal.groups_out)
            if hears and receiver is not source:
                self.audiences.direct(event, None, receiver)

    def picture(self, newcomer: Subscription, groups_out: Groups) -> Iterable[Replay]:
        """Go through what a newcomer is told: emergencies and what is on the map of some groups, and who is there."""
        now = self._clock.seconds()
        alerts: list[Replay] = [
            (event.uid, (event,))
            for alert, event in self.emergencies.current(groups_out, now)
            if not alert.record.callsigns and not alert.record.uids
        ]
        items = (
            (event.uid, (event,))
            for event in self.retained.visible(groups_out, now)
            # Somebody who reads slowly may have switched some of these off in the meantime.
            if newcomer.principal.groups_out >= groups_out
            or self.retained.find(event.uid, newcomer.principal.groups_out & groups_out, now)
        )
        entries = chain(alerts, self.contacts.visible(newcomer, now), items)
        return self.offers.replay(entries, newcomer) if newcomer.max_bytes else entries
