"""A store that forgets when the process ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from taky_twisted.enrollment.records import Invite, SpentUse
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.identity.records import Account
from taky_twisted.records import Kept, Record
from taky_twisted.routing.records import ActiveGroups, Emergency, Item, KnownContact, MissedChat, Tombstone
from taky_twisted.video.records import VideoConnection

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class MemoryStore:
    """Keep records in a dictionary. Nothing survives the process."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._records: dict[tuple[type[Record], str], Record] = {}

    def open(self) -> Deferred[Kept]:
        now = self._clock.seconds()
        kept = Kept()
        for place, record in list(self._records.items()):
            if isinstance(record, Item | Tombstone | MissedChat | Invite | SpentUse) and record.expires <= now:
                del self._records[place]
            elif isinstance(record, Item):
                kept.items.append(record)
            elif isinstance(record, Tombstone):
                kept.tombstones.append(record)
            elif isinstance(record, KnownContact):
                kept.contacts.append(record)
            elif isinstance(record, Emergency):
                kept.emergencies.append(record)
            elif isinstance(record, MissedChat):
                kept.chats.append(record)
            elif isinstance(record, ActiveGroups):
                kept.active_groups.append(record)
            elif isinstance(record, StoredFile):
                kept.files.append(record)
            elif isinstance(record, VideoConnection):
                kept.videos.append(record)
            elif isinstance(record, Invite):
                kept.invites.append(record)
            elif isinstance(record, Account):
                kept.accounts.append(record)
            else:
                kept.spent_uses.append(record)
        kept.chats.sort(key=lambda chat: chat.number)
        return succeed(kept)

    def put(self, record: Record) -> None:
        self._records[type(record), record.key] = record

    def remove(self, kind: type[Record], key: str) -> None:
        self._records.pop((kind, key), None)

    def flush(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)
