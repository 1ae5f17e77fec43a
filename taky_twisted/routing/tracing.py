"""Who got an event and who did not, and by which rule: for an operator who asks, about a few events.

What was delivered is not computed a second time but looked at: the event is routed with an eye on every sink. Only why
somebody did not get it is found out afterwards, by asking the router's rules in its order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from taky_twisted.cot.event import Destinations, Event
from taky_twisted.cot.types import CHAT, DELETE, FILE_OFFER

from .directing import EVERYBODY_ROOMS, TEAMS
from .tak_stream import TAKStream

if TYPE_CHECKING:
    from taky_twisted.takproto.batch import Batch

    from .contact import Contact
    from .outbox import Replay
    from .router import Router
    from .subscription import Sink, Subscription

MAX_OUTCOMES = 200
"""Receivers that are listed of one event; the others are counted."""
MAX_NAMED = 20
"""Destinations that are listed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event for one possible receiver."""

    name: str
    peer: str
    """Its address and door; empty for who is not connected."""
    got: bool
    rule: str
    """``delivered``, ``offered``, ``waits``, or what kept it away: ``groups``, ``destination``, ``filter``, ``size``,
    ``incognito``, ``echo``, ``uid``, ``away``, ``unknown``."""
    why: str
    """The same in a sentence."""


@dataclass(slots=True)
class Traced:
    """One event, and what became of it."""

    uid: str
    type: str
    size: int
    """Bytes of its XML."""
    sender: str
    peer: str
    principal: str
    groups: list[str]
    """What the sender may send to, or what it restricted the event to."""
    destinations: list[str]
    outcomes: list[Outcome] = field(default_factory=list)
    rules: dict[str, int] = field(default_factory=dict)
    """How many outcomes there are by rule, those that are not listed included."""


Watcher = Callable[[Traced], None]


class Tracing:
    """Trace the events of whoever somebody wants to know about. While nobody does, the router does not know of it."""

    def __init__(self, router: Router, clock: IReactorTime) -> None:
        self._router, self._clock = router, clock
        self._watchers: dict[object, tuple[str, Watcher]] = {}
        self._following = False

    def watch(self, whom: str, watcher: Watcher) -> Callable[[], None]:
        """Trace what comes from a uid or callsign, until what is returned is called."""
        key = object()
        self._watchers[key] = whom.casefold(), watcher
        self._router.tracing = self

        def forget() -> None:
            self._watchers.pop(key, None)
            if not self._watchers:
                self._router.tracing = None

        return forget

    def follow(self, event: Event, source: Subscription) -> bool:
        """Route an event and tell whoever wants to know what became of it; False if nobody does."""
        if self._following:
            return False
        names = {name.casefold() for name in _names_of(event, source)}
        watchers = [watcher for whom, watcher in self._watchers.values() if whom in names]
        if not watchers:
            return False
        traced = self._route(event, source)
        for watcher in watchers:
            watcher(traced)
        return True

    def _route(self, event: Event, source: Subscription) -> Traced:
        router = self._router
        destinations, groups = event.detail.destinations, source.principal.groups_in
        traced = Traced(
            uid=event.uid,
            type=event.type,
            size=len(event.xml),
            sender=source.name,
            peer=source.peer,
            principal=str(source.principal),
            groups=sorted(destinations.groups if destinations is not None and destinations.groups else groups),
            destinations=list(_listed(destinations)),
        )
        stopped = self._stopped(event, source)
        named = self._named(event, source)
        away = [] if named is None or stopped else [contact for contact in named if not contact.holders]
        router.audiences.flush()  # what was said before is no business of ours
        eyes = {member: _Eye(member.sink) for member in list(router.subscriptions)}
        for member, eye in eyes.items():
            member.sink = eye
        self._following = True
        try:
            router.route(event, source)
            router.audiences.flush()
        finally:
            self._following = False
            for member, eye in eyes.items():
                member.sink = eye.sink
        traced.sender = source.name  # it may have said only now what it is called
        outcomes = [
            self._delivered(member, eye, event)
            or Outcome(member.name, member.peer, False, *(stopped or self._why_not(event, source, member, named)))
            for member, eye in eyes.items()
        ]
        outcomes += map(self._away, away, [event] * len(away))
        if not stopped:
            outcomes += self._unknown(destinations)
        traced.rules = dict(Counter(outcome.rule for outcome in outcomes))
        traced.outcomes = outcomes[:MAX_OUTCOMES]
        return traced

    def _stopped(self, event: Event, source: Subscription) -> tuple[str, str] | None:
        """Say why nobody at all gets an event: rule and sentence."""
        destinations, detail = event.detail.destinations, event.detail
        if (pins := self._router.pins) is not None and not source.from_server and event.type.startswith("a-"):
            owner = pins.owner(event.uid, source, self._clock.seconds()) if event.uid not in source.uids else None
            if owner is not None:
                return "uid", f"refused: {owner} was heard with this uid a moment ago (pin_uid)"
        if destinations is not None and not source.principal.groups_in.issuperset(destinations.groups):
            return "groups", "the sender may not send to the groups that it names"
        explicit = destinations is not None and destinations.explicit
        if source.incognito and not event.type.startswith("b-a-") and not explicit:
            return "incognito", "the sender is incognito, and named nobody in particular"
        if event.type == DELETE and not detail.link_uid:
            return "destination", "a delete that says not of what is not passed on"
        return None

    def _named(self, event: Event, source: Subscription) -> list[Contact] | None:
        """Find the contacts that an event is for; None if it is for everybody."""
        destinations, contacts = event.detail.destinations, self._router.contacts
        if destinations is not None and destinations.explicit:
            found = [contact for callsign in destinations.callsigns for contact in contacts.called(callsign)]
            found += [contact for uid in destinations.uids if (contact := contacts.get(uid)) is not None]
            return list(dict.fromkeys(found))
        chat = event.detail.chat
        if event.type != CHAT or destinations is not None or chat is None or not self._router.chat_fallback:
            return None
        if chat.chatroom in EVERYBODY_ROOMS or chat.id in EVERYBODY_ROOMS:
            return None
        if chat.id in TEAMS:
            return [contact for contact in contacts.in_team(chat.id) if source not in contact.holders]
        found = [contact for uid in (*chat.uids, chat.id) if (contact := contacts.get(uid)) is not None]
        return [contact for contact in dict.fromkeys(found) if source not in contact.holders]

    def _delivered(self, member: Subscription, eye: _Eye, event: Event) -> Outcome | None:
        name, peer = member.name, member.peer
        if any(heard.xml is event.xml for heard in eye.heard):
            if isinstance(eye.sink, TAKStream) and eye.sink.state.full:
                return Outcome(name, peer, True, "waits", "its connection takes no more at the moment")
            return Outcome(name, peer, True, "delivered", "it was sent")
        if any(heard.type == FILE_OFFER for heard in eye.heard):
            return Outcome(name, peer, True, "offered", "too large: it was offered as a file")
        return None

    def _why_not(
        self, event: Event, source: Subscription, member: Subscription, named: list[Contact] | None
    ) -> tuple[str, str]:
        """Say why somebody got nothing, in the order in which the router asks."""
        destinations = event.detail.destinations
        groups = source.principal.groups_in
        if named is not None and not any(member in contact.holders for contact in named):
            if member is source:
                return "echo", "it said it itself"
            return "destination", "it is for somebody else"
        if destinations is not None and destinations.groups and named is None:
            groups = frozenset(destinations.groups)
        if named is None and member.echo is source:
            return "echo", "it said it itself"
        hears = member.principal.groups_out
        if groups.isdisjoint(hears):
            return "groups", f"it hears {_words(hears)}; this was said to {_words(groups)}"
        if member.max_bytes and len(event.xml) > member.max_bytes:
            return "size", f"{len(event.xml)} bytes; up to {member.max_bytes} are sent (max_event_to_client)"
        if member.filter is not None and not member.filter(event):
            return "filter", "it asked not to hear this (an area or an XPath)"
        if member.closed:
            return "away", "it left in this moment"
        return "unexplained", "no rule explains this; please report it"

    def _away(self, contact: Contact, event: Event) -> Outcome:
        name = contact.callsign or contact.uid
        if event.type == CHAT:
            return Outcome(name, "", False, "away", "it is not connected; chat waits for it, if it may be kept")
        return Outcome(name, "", False, "away", "it is not connected")

    def _unknown(self, destinations: Destinations | None) -> Iterator[Outcome]:
        if destinations is None or not destinations.explicit:
            return
        contacts = self._router.contacts
        for callsign in destinations.callsigns:
            if not contacts.called(callsign):
                yield Outcome(callsign, "", False, "unknown", "nobody is known by this callsign")
        for uid in destinations.uids:
            if contacts.get(uid) is None:
                yield Outcome(uid, "", False, "unknown", "nobody is known by this uid")


class _Eye:
    """Stand before a sink and see what is delivered."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.heard: list[Event] = []

    def deliver(self, batch: Batch) -> None:
        self.heard += batch.events
        self.sink.deliver(batch)

    def replay(self, entries: Iterable[Replay]) -> None:
        self.sink.replay(entries)

    def close(self, reason: str) -> None:
        self.sink.close(reason)

    def unsent(self) -> list[Event]:
        return self.sink.unsent()


def _names_of(event: Event, source: Subscription) -> Iterator[str]:
    yield event.uid
    if event.detail.callsign:
        yield event.detail.callsign
    for contact in source.uids.values():
        yield contact.uid
        yield contact.callsign


def _listed(destinations: Destinations | None) -> Iterator[str]:
    if destinations is None:
        return
    for kind in ("callsigns", "uids", "missions", "groups"):
        for name in getattr(destinations, kind)[:MAX_NAMED]:
            yield f"{kind[:-1]} {name}"


def _words(groups: Iterable[str]) -> str:
    return ", ".join(sorted(groups)) or "no group"
