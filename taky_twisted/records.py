"""Everything that a site's store keeps: the records of all parts of the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from taky_twisted.enrollment.records import Invite, SpentUse
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.identity.records import Account
from taky_twisted.routing.records import ActiveGroups, Emergency, Item, KnownContact, MissedChat, Tombstone
from taky_twisted.video.records import VideoConnection


@dataclass(frozen=True, slots=True)
class Synced:
    """What this node and the other nodes of its server agreed on last, for one entry that they share."""

    kind: str
    """Without a line break."""
    name: str
    """The entry's key, among those of its kind."""
    version: str
    """As `taky_twisted.bus.versions` makes them."""
    digest: str
    """Of the entry; empty: it was removed."""

    @property
    def key(self) -> str:
        """The kind and the name."""
        return f"{self.kind}\n{self.name}"


ALONE = Synced("", "alone", "", "")
"""What a store has after a run without other nodes, whose changes none of those has heard of."""


Record = Union[
    Item,
    Tombstone,
    KnownContact,
    Emergency,
    MissedChat,
    ActiveGroups,
    StoredFile,
    VideoConnection,
    Invite,
    SpentUse,
    Account,
    Synced,
]

LISTS: dict[type[Record], str] = {
    Item: "items",
    Tombstone: "tombstones",
    KnownContact: "contacts",
    Emergency: "emergencies",
    MissedChat: "chats",
    ActiveGroups: "active_groups",
    StoredFile: "files",
    VideoConnection: "videos",
    Invite: "invites",
    SpentUse: "spent_uses",
    Account: "accounts",
    Synced: "synced",
}
"""Where `Kept` has the records of each kind."""


@dataclass(slots=True)
class Kept:
    """Everything that a store held when it was opened; lists are in no particular order but ``chats`` by number."""

    items: list[Item] = field(default_factory=list)
    tombstones: list[Tombstone] = field(default_factory=list)
    contacts: list[KnownContact] = field(default_factory=list)
    emergencies: list[Emergency] = field(default_factory=list)
    chats: list[MissedChat] = field(default_factory=list)
    active_groups: list[ActiveGroups] = field(default_factory=list)
    files: list[StoredFile] = field(default_factory=list)
    videos: list[VideoConnection] = field(default_factory=list)
    invites: list[Invite] = field(default_factory=list)
    spent_uses: list[SpentUse] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    synced: list[Synced] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Put a record into the list of its kind."""
        getattr(self, LISTS[type(record)]).append(record)

    def all(self) -> list[Record]:
        """List the records of all kinds."""
        return [record for name in LISTS.values() for record in getattr(self, name)]
