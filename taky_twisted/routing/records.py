"""What the router wants kept over a restart: one frozen record per thing, each with a key."""

from __future__ import annotations

from dataclasses import dataclass

Groups = frozenset[str]


@dataclass(frozen=True, slots=True)
class Item:
    """A retained event: something on the map that newcomers are shown."""

    uid: str
    type: str
    xml: bytes
    """The delivered form: prolog, line feed, ``<event>`` without ``<marti>``."""
    groups: Groups
    """The IN groups of who said it."""
    time: float
    """The event's own ``time``, seconds since the epoch."""
    stale: float
    """The event's own ``stale``, seconds since the epoch."""
    expires: float
    """When it leaves the store, seconds since the epoch."""

    @property
    def key(self) -> str:
        """The item's uid."""
        return self.uid


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An item was deleted: an older copy of it is not retained again."""

    uid: str
    groups: Groups
    """The IN groups of who deleted it: items of other groups are not affected."""
    deleted: float
    """Copies with an event time up to this (seconds since the epoch) stay deleted."""
    expires: float

    @property
    def key(self) -> str:
        """The deleted item's uid."""
        return self.uid


@dataclass(frozen=True, slots=True)
class KnownContact:
    """A uid that has reported SA, online or not."""

    uid: str
    callsign: str
    type: str
    """The type of its latest SA."""
    team: str
    role: str
    takv: str
    """Client software, ``platform:version``."""
    principal: str | None
    groups_in: Groups
    groups_out: Groups
    seen: float
    """When it was last heard or left, seconds since the epoch."""
    stale: float
    """The latest SA's ``stale``, seconds since the epoch."""
    xml: bytes
    """Its latest SA in delivered form."""
    online: bool
    """False once its departure was announced."""

    @property
    def key(self) -> str:
        """The contact's uid."""
        return self.uid


@dataclass(frozen=True, slots=True)
class Emergency:
    """An emergency that is repeated until it is canceled or a day old."""

    uid: str
    xml: bytes
    """As raised, in delivered form."""
    groups: Groups
    raiser: str
    """The uid that raised it: its ``link``, else the uid of the connection, else empty."""
    principal: str | None
    raised: float
    callsigns: tuple[str, ...] = ()
    """Destinations by callsign, if it was not for everybody."""
    uids: tuple[str, ...] = ()
    """Destinations by uid, if it was not for everybody."""

    @property
    def key(self) -> str:
        """The event's uid."""
        return self.uid


@dataclass(frozen=True, slots=True)
class MissedChat:
    """A directed chat for a known contact that was offline."""

    number: int
    """Counts up: the order in which they were said."""
    recipient: str
    """The uid it waits for."""
    principal: str | None
    """Who the recipient was proved to be when it was last there: nobody else gets it."""
    xml: bytes
    groups: Groups
    """The IN groups of who said it."""
    expires: float

    @property
    def key(self) -> str:
        """The number, in decimal digits."""
        return str(self.number)


@dataclass(frozen=True, slots=True)
class ActiveGroups:
    """Groups that somebody has switched off; ATAK calls groups channels."""

    principal: str
    """Who it is proved to be."""
    uid: str
    """The device that they are switched off on; empty: on all."""
    inactive_in: Groups
    """Groups that it may speak to and does not."""
    inactive_out: Groups
    """Groups that it may hear and does not."""
    changed: float = 0.0
    """When it was chosen so, seconds since the epoch."""

    @property
    def key(self) -> str:
        """Who, and on which device."""
        return f"{self.principal}\n{self.uid}"
