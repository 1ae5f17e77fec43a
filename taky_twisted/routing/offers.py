"""What a client is told instead of an event that is too large for it: the offer of a file, to be fetched over HTTP.

ATAK reads at most 65,536 bytes at once. Of a larger event it gets a ``b-f-t-r``, as if somebody sent it a file: the
event, under the address of the Marti API.

Sources: TAK Server ``nio/protocol/connections/StreamingProtoBufProtocol.java`` (what is offered), ATAK-CIV
``commoncommo/core/impl/missionpackagemanager.cpp`` (how it is fetched; size and SHA-256 must fit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime

from taky_twisted.cot import compose
from taky_twisted.cot.event import Event
from taky_twisted.cot.types import CHAT
from taky_twisted.notices import Notices

from .outbox import Replay
from .records import Groups

if TYPE_CHECKING:
    from .audience import Audience
    from .subscription import Subscription

HELD_BYTES = 16 << 20
"""XML of all large events that are held only to be fetched."""
HELD_EVENTS = 100
"""Large events that are held only to be fetched; the newest stay."""
MAX_WARNINGS = 1000
"""Uids of too large events that are remembered, so that each is told of once."""
MAX_DIGESTS = 1000
"""Large events whose SHA-256 is remembered."""
SENDER = "takserver"
"""Who offers what nobody in particular said (TAK Server's word for itself)."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Our end of a client's connection: how it reached us."""

    host: str
    """The address, without a port."""
    tls: bool


Find = Callable[[str, Groups], "Event | None"]
"""Finds what the server knows of a uid for who hears some groups."""


class Offers:
    """Offer large events as files, and hold those that are held nowhere else.

    What was said to everybody is offered by its uid, and what is fetched is the newest of that uid. What was directed
    to somebody is offered under a name that nobody can guess who does not know the event.
    """

    def __init__(self, clock: IReactorTime, notices: Notices, find: Find) -> None:
        """Start with nothing to offer.

        Args:
            clock: tells the time.
            notices: where too large events are told of.
            find: what is fetched by a uid; it must ask `find` here too.
        """
        self._clock, self._notices, self._find = clock, notices, find
        self.base_url: Callable[[Subscription], str | None] = lambda _: None
        """Spells the address of our Marti API as a client reaches it; None if it cannot. Set by who serves it."""
        self.oversize = 0
        """Events that stream clients did not get as they are because of their size."""
        self._held: dict[tuple[str, Groups], Event] = {}
        self._bytes = 0
        self._digests: dict[tuple[int, int], str] = {}
        self._told: dict[tuple[str, bool], None] = {}

    def find(self, uid: str, groups_out: Groups) -> Event | None:
        """Find a large event that is held here, for who hears these groups."""
        for (name, groups), event in reversed(self._held.items()):
            if name == uid and not groups.isdisjoint(groups_out):
                return event
        return None

    def forget(self, uid: str, groups: Groups) -> None:
        """Let go of what is held of a uid for any of these groups: it was deleted, or is not to be seen any more."""
        for key in [key for key in self._held if key[0] == uid and not key[1].isdisjoint(groups)]:
            self._drop(key)

    def broadcast(
        self, event: Event, groups: Groups, source: Subscription | None, audience: Audience
    ) -> list[tuple[Event, Subscription]]:
        """Make the offers of an event that was said to everybody, for the members of an audience that cannot get it."""
        members = [
            member
            for member in (*audience.members, *audience.filtered)
            if member.echo is not source and (member.filter is None or member.filter(event))
        ]
        if not members:
            return []
        self.oversize += 1
        bases = {member: base for member in members if (base := self._base(event, member)) is not None}
        offers: dict[str, Event | None] = {}
        known = self._known(event, groups, audience.groups_out) if bases else None
        if known is not None:
            for base in set(bases.values()):
                offers[base] = self._offer(known, known.uid, base, source, audience.max_bytes)
        made = [(offer, member) for member, base in bases.items() if (offer := offers.get(base)) is not None]
        self._tell(event, audience.max_bytes, len(made) == len(members))
        return made

    def direct(self, event: Event, source: Subscription | None, member: Subscription) -> Event | None:
        """Make the offer of an event that was directed to somebody who cannot get it; None if it cannot be made."""
        self.oversize += 1
        offer = None
        base = self._base(event, member)
        if base is not None:
            name = f"{event.uid}.{self._digest(event.xml)}"
            if self._hold(name, event, member.principal.groups_out):
                offer = self._offer(event, name, base, source, member.max_bytes)
        self._tell(event, member.max_bytes, offer is not None)
        return offer

    def replay(self, entries: Iterable[Replay], newcomer: Subscription) -> Iterator[Replay]:
        """Put offers in place of what a newcomer cannot get; leave out whom that cannot be done for."""
        limit = newcomer.max_bytes
        for uid, told in entries:
            fitting = [event if len(event.xml) <= limit else self._offer_known(event, newcomer) for event in told]
            events = tuple(event for event in fitting if event is not None)
            if len(events) == len(told):
                yield uid, events

    def _offer_known(self, event: Event, newcomer: Subscription) -> Event | None:
        base = self._base(event, newcomer)
        known = self._find(event.uid, newcomer.principal.groups_out) if base is not None else None
        if base is None or known is None:
            return None
        return self._offer(known, known.uid, base, None, newcomer.max_bytes)

    def _base(self, event: Event, member: Subscription) -> str | None:
        """Find out where somebody may fetch an event; chat is never a file: its sender is told that it failed."""
        return None if event.type.startswith(CHAT) else self.base_url(member)

    def _known(self, event: Event, groups: Groups, groups_out: Groups) -> Event | None:
        """See to it that an event can be found; return what is found by its uid, which is nearly always itself."""
        known = self._find(event.uid, groups)
        # An emergency that is said again is offered as it was raised: a client sees by the hash that it has that.
        again = known is not None and known.type == event.type and event.type.startswith("b-a-")
        if known is not event and not again and not self._hold(event.uid, event, groups):
            return None
        return self._find(event.uid, groups_out)

    def _offer(self, event: Event, name: str, base: str, source: Subscription | None, limit: int) -> Event | None:
        """Compose an offer, if that fits."""
        url = f"{base}/Marti/api/cot/xml/{quote(name, safe='')}"
        digest = self._digest(event.xml)
        offer = compose.file_offer(event, url, digest, _sender(source), self._clock.seconds())
        return offer if len(offer.xml) <= limit else None

    def _digest(self, xml: bytes) -> str:
        # Python keeps the hash with the bytes: a crowd of newcomers does not make us read large events over and over,
        # and we need not hold them for that.
        key = len(xml), hash(xml)
        digest = self._digests.get(key)
        if digest is None:
            if len(self._digests) >= MAX_DIGESTS:
                del self._digests[next(iter(self._digests))]
            digest = self._digests[key] = sha256(xml).hexdigest()
        return digest

    def _hold(self, name: str, event: Event, groups: Groups) -> bool:
        if len(event.xml) > HELD_BYTES:
            return False
        key = (name, groups)
        if key in self._held:
            self._drop(key)
        self._held[key] = event
        self._bytes += len(event.xml)
        while len(self._held) > HELD_EVENTS or self._bytes > HELD_BYTES:
            self._drop(next(iter(self._held)))
        return True

    def _drop(self, key: tuple[str, Groups]) -> None:
        self._bytes -= len(self._held.pop(key).xml)

    def _tell(self, event: Event, limit: int, offered: bool) -> None:
        """Tell of a too large event, once per uid, and once more should it be worse for others."""
        key = (event.uid, offered)
        if key in self._told:
            return
        if len(self._told) >= MAX_WARNINGS:
            del self._told[next(iter(self._told))]
        self._told[key] = None
        facts = {"uid": event.uid, "type": event.type, "size": len(event.xml), "limit": limit}
        if offered:
            self._notices.say(
                "{uid} ({type}) has {size} bytes and is offered to clients as a file: ATAK reads at most {limit}"
                " (max_event_to_client)",
                **facts,
            )
        else:
            self._notices.warn(
                "{uid} ({type}) has {size} bytes and is not sent to clients: ATAK reads at most {limit}"
                " (max_event_to_client)",
                **facts,
            )


def _sender(source: Subscription | None) -> str:
    """Name who said an event, as far as everybody may know."""
    if source is None:
        return SENDER
    callsign = source.primary.callsign if source.primary is not None else ""
    return callsign or source.principal.name or SENDER
