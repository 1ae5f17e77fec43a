"""One contact: what is known of a uid that has reported SA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from taky_twisted.cot import compose
from taky_twisted.cot.event import Event

from .kept import kept_event
from .records import Groups, KnownContact

if TYPE_CHECKING:
    from .subscription import Subscription


class Contact:
    """A uid that has reported SA, online or not."""

    __slots__ = (
        "callsign",
        "departed",
        "displaced",
        "groups_in",
        "groups_out",
        "holders",
        "leaving",
        "principal",
        "role",
        "sa",
        "seen",
        "takv",
        "team",
        "uid",
    )

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.callsign = self.team = self.role = self.takv = ""
        self.sa: Event | None = None
        """Its latest report to everybody; None before one, and once a delete took it off the map."""
        self.principal: str | None = None
        self.groups_in: Groups = frozenset()
        self.groups_out: Groups = frozenset()
        self.seen = 0.0
        self.holders: dict[Subscription, None] = {}
        """Who gets what is directed to the uid; empty when it is away."""
        self.displaced: dict[Subscription, None] = {}
        """Connections that said the uid first and are still there."""
        self.leaving: IDelayedCall | None = None
        """Its connection broke a moment ago."""
        self.departed: Event | None = None
        """What was said when it left."""

    @property
    def present(self) -> bool:
        """Whether others should see it as online."""
        return bool(self.holders) or self.leaving is not None

    @property
    def incognito(self) -> bool:
        """Whether it asked not to be seen."""
        return any(holder.incognito for holder in self.holders)

    def shown_to(self, groups_out: Groups) -> Event | None:
        """Find its latest report to everybody, if whoever hears these groups may see it."""
        return None if self.incognito or self.groups_in.isdisjoint(groups_out) else self.sa

    def restore(self, record: KnownContact, now: float) -> None:
        """Take over what is known of somebody who is not there."""
        self.team, self.role, self.takv = record.team, record.role, record.takv
        self.principal, self.seen = record.principal, record.seen
        self.groups_in, self.groups_out = record.groups_in, record.groups_out
        self.sa = kept_event(record)
        if self.sa is not None:
            self.departed = compose.departure(record.uid, record.type, now)

    def record(self) -> KnownContact | None:
        """Make what the store keeps; nothing while it is not shown."""
        sa = self.sa
        if sa is None:
            return None
        return KnownContact(
            uid=self.uid,
            callsign=self.callsign,
            type=sa.type,
            team=self.team,
            role=self.role,
            takv=self.takv,
            principal=self.principal,
            groups_in=self.groups_in,
            groups_out=self.groups_out,
            seen=self.seen,
            stale=sa.stale,
            xml=sa.xml,
            online=self.present,
        )
