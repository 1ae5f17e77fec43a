"""The video connections of a server: who sees which, and who may change them.

Groups decide who sees a connection: those that its maker speaks to. Only who made it changes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from twisted.internet.interfaces import IReactorTime

from taky_twisted.identity.principal import Principal
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import Logger
from taky_twisted.video.connections import Connection, Feed, connection_of, read_connection
from taky_twisted.video.errors import BadVideo, NoRoom, NoSuchVideo, NotYours, VideoError
from taky_twisted.video.records import Groups, VideoConnection

MAX_BYTES = 8 << 20
"""Size of all connections together, as JSON."""
UNKNOWN = ""
"""The owner of what was here before anybody's ownership was noted: whoever sees and changes it owns it from then on."""

log = Logger()


@dataclass(frozen=True, slots=True)
class _Held:
    connection: Connection
    record: VideoConnection


class Videos:
    """All video connections, in memory and in the store."""

    def __init__(self, store: EventStore, clock: IReactorTime, most: int) -> None:
        """Start with none.

        Args:
            store: where they survive a restart.
            clock: tells the time.
            most: how many connections there may be.
        """
        self._store, self._clock, self._most = store, clock, most
        self._held: dict[str, _Held] = {}
        self._homes: dict[str, str] = {}  # by a feed's uid, its connection's
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def restore(self, records: Iterable[VideoConnection]) -> None:
        """Take over what the store held."""
        for record in records:
            self._restore(record)

    def take_in(self, uid: str, record: VideoConnection | None) -> None:
        """Have a connection be what another node says; None: it was removed. The store has it already."""
        held = self._held.get(uid)
        if held is not None:
            self._drop(held)
        if record is not None:
            self._restore(record)

    def _restore(self, record: VideoConnection) -> None:
        try:
            connection = read_connection(json.loads(record.document))
        except (ValueError, BadVideo) as error:
            log.warn(
                "video connection {uid} in the store cannot be read and is left out: {error}",
                uid=record.uid,
                error=str(error),
            )
        else:
            self._hold(_Held(replace(connection, uid=record.uid), record))

    # What a caller sees

    def visible(self, groups_out: Groups) -> Iterator[Connection]:
        """Go through what is seen by whoever hears these groups."""
        return (held.connection for held in list(self._held.values()) if _sees(groups_out, held))

    def documents(self, groups_out: Groups) -> Iterator[str]:
        """Go through the same as JSON."""
        return (held.record.document for held in list(self._held.values()) if _sees(groups_out, held))

    def find(self, uid: str, groups_out: Groups) -> Connection:
        """Find a connection.

        Raises:
            NoSuchVideo: there is none, or not for this caller.
        """
        return self._find(uid, groups_out).connection

    # What a caller changes; each returns when it is on disk

    async def put(self, connections: Iterable[Connection], who: Principal, groups: Groups | None = None) -> None:
        """Make connections, or make them anew; all of them or none.

        Args:
            connections: what they are from now on.
            who: asks for it.
            groups: those of the caller's groups that are to see them; all by default.

        Raises:
            VideoError: one of them cannot be made by this caller.
        """
        if groups is not None and not groups <= who.groups_in:
            raise NotYours("you are not in all of these groups")
        await self._put({connection.uid: connection for connection in connections}, who, groups or who.groups_in)

    async def put_feeds(self, feeds: Iterable[Feed], who: Principal) -> None:
        """Put feeds in place of those with their uids, wherever they are; a new one is a connection of its own.

        Raises:
            VideoError: one of them cannot be put there by this caller; then none is.
        """
        changed: dict[str, Connection] = {}
        homes: dict[str, str] = {}
        for feed in feeds:
            uid = homes.setdefault(feed.uid, self._homes.get(feed.uid, feed.uid))
            connection = changed.get(uid)
            if connection is None and uid in self._held:
                connection = self._held[uid].connection
            changed[uid] = connection_of(feed) if connection is None else connection.with_feed(feed)
        await self._put(changed, who, who.groups_in)

    async def replace(self, uid: str, connection: Connection, who: Principal) -> None:
        """Change a connection; who sees it stays.

        Raises:
            VideoError: there is none, or it is not the caller's, or it cannot become that.
        """
        held = self._find(uid, who.groups_out)
        await self._put({uid: replace(connection, uid=uid)}, who, held.record.groups)

    async def set_active(self, uid: str, active: bool, who: Principal) -> None:
        """Switch a feed, or a connection, on or off.

        Raises:
            VideoError: there is none, or it is not the caller's.
        """
        held, feed = self._find_either(uid, who)
        connection = held.connection
        if feed is not None:
            changed = connection.with_feed(replace(feed, active=active))
        else:
            changed = replace(connection, active=active)
        await self._put({connection.uid: changed}, who, held.record.groups)

    async def remove(self, uid: str, who: Principal) -> None:
        """Delete a connection.

        Raises:
            VideoError: there is none, or it is not the caller's.
        """
        held = self._find(uid, who.groups_out)
        _check_owner(held, who)
        self._drop(held)
        self._store.remove(VideoConnection, uid)
        await self._store.flush()

    async def remove_feed(self, uid: str, who: Principal) -> None:
        """Delete a feed, and its connection with the last one; or a connection.

        Raises:
            VideoError: there is none, or it is not the caller's.
        """
        held, feed = self._find_either(uid, who)
        connection = held.connection
        if feed is None or len(connection.feeds) == 1:
            await self.remove(connection.uid, who)
            return
        feeds = tuple(each for each in connection.feeds if each.uid != uid)
        await self._put({connection.uid: replace(connection, feeds=feeds)}, who, held.record.groups)

    async def adopt(self, feeds: Iterable[Feed], groups: Groups) -> int:
        """Take over feeds of which nobody knows whose they are, unless their uids are here already.

        Returns:
            How many were taken over.
        """
        taken = 0
        for feed in feeds:
            if feed.uid in self._held or feed.uid in self._homes:
                continue
            try:
                self._change({feed.uid: connection_of(feed)}, UNKNOWN, groups)
            except VideoError as error:
                log.warn("video feed {uid} was not taken over: {error}", uid=feed.uid, error=str(error))
            else:
                taken += 1
        await self._store.flush()
        return taken

    # Inside

    def _find(self, uid: str, groups_out: Groups) -> _Held:
        held = self._held.get(uid)
        if held is None or not _sees(groups_out, held):
            raise NoSuchVideo("there is no such video connection")
        return held

    def _find_either(self, uid: str, who: Principal) -> tuple[_Held, Feed | None]:
        """Find a feed and its connection, else a connection by its own uid."""
        held = self._find(self._homes.get(uid, uid), who.groups_out)
        return held, next((feed for feed in held.connection.feeds if feed.uid == uid), None)

    async def _put(self, connections: dict[str, Connection], who: Principal, groups: Groups) -> None:
        for uid in connections:
            held = self._held.get(uid)
            if held is not None:
                _check_owner(held, who)
        self._change(connections, who.name, groups)
        await self._store.flush()

    def _change(self, connections: dict[str, Connection], owner: str | None, groups: Groups) -> None:
        """Hold connections in place of those with their uids, if that is possible for all of them."""
        if not groups:
            raise NotYours("you may not speak to any group")
        homes: dict[str, str] = {}
        for connection in connections.values():
            for feed in connection.feeds:
                home = self._homes.get(feed.uid, connection.uid)
                if home != connection.uid or homes.setdefault(feed.uid, home) != home:
                    raise NotYours(f"the feed {feed.uid[:100]} belongs to another video connection")
        now = self._clock.seconds()
        records = [
            VideoConnection(uid, connection.alias, connection.active, connection.document, owner, groups, now)
            for uid, connection in connections.items()
        ]
        olds = [held for uid in connections if (held := self._held.get(uid)) is not None]
        if len(self._held) + len(records) - len(olds) > self._most:
            raise NoRoom(f"there are {self._most} video connections already (video_connections)")
        size = sum(_size(record) for record in records) - sum(_size(held.record) for held in olds)
        if self._bytes + size > MAX_BYTES:
            raise NoRoom(f"all video connections together may have {MAX_BYTES} bytes")
        for record in records:
            self._hold(_Held(connections[record.uid], record))
            self._store.put(record)

    def _hold(self, held: _Held) -> None:
        older = self._held.get(held.record.uid)
        if older is not None:
            self._forget(older)
        self._held[held.record.uid] = held
        self._bytes += _size(held.record)
        for feed in held.connection.feeds:
            self._homes.setdefault(feed.uid, held.record.uid)

    def _drop(self, held: _Held) -> None:
        del self._held[held.record.uid]
        self._forget(held)

    def _forget(self, held: _Held) -> None:
        self._bytes -= _size(held.record)
        for feed in held.connection.feeds:
            if self._homes.get(feed.uid) == held.record.uid:
                del self._homes[feed.uid]


def _sees(groups_out: Groups, held: _Held) -> bool:
    return not groups_out.isdisjoint(held.record.groups)


def _check_owner(held: _Held, who: Principal) -> None:
    owner = held.record.owner
    if owner != who.name and not (owner == UNKNOWN and _sees(who.groups_out, held)):
        raise NotYours("only who made a video connection may change or delete it")


def _size(record: VideoConnection) -> int:
    return len(record.document.encode())
