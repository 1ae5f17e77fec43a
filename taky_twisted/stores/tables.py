"""How each kind of record is spelled as a row in SQLite: one table per kind, one column per field."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

from taky_twisted.enrollment.records import Invite, SpentUse
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.identity.records import Account
from taky_twisted.records import Kept, Record, Synced
from taky_twisted.routing.records import ActiveGroups, Emergency, Groups, Item, KnownContact, MissedChat, Tombstone
from taky_twisted.video.records import VideoConnection

R = TypeVar("R", bound=Record)


def _strings(column: str) -> list[str]:
    strings = json.loads(column)
    if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
        raise ValueError(f"not a list of strings: {column:.100}")
    return strings


def _write_groups(groups: Groups) -> str:
    return json.dumps(sorted(groups), ensure_ascii=False)


# Most records carry one of a few sets of groups: sharing them saves memory and time.
@lru_cache(maxsize=1024)
def _read_groups(column: str) -> Groups:
    return frozenset(_strings(column))


def _write_list(texts: tuple[str, ...]) -> str:
    return json.dumps(texts, ensure_ascii=False)


def _read_list(column: str) -> tuple[str, ...]:
    return tuple(_strings(column))


_SPELLINGS: dict[str, tuple[Callable[[Any], object], Callable[[Any], object]]] = {
    "Groups": (_write_groups, _read_groups),
    "tuple[str, ...]": (_write_list, _read_list),
    "bool": (int, bool),
}
"""How a field is written and read, by its annotation; other types are SQLite's own."""


class Table(Generic[R]):
    """The table of one kind of record."""

    def __init__(self, kind: type[R], name: str, key: str = "uid") -> None:
        columns = [field.name for field in fields(kind)]
        quoted = [f'"{column}"' for column in columns]
        self.kind = kind
        self.put = (
            f"INSERT INTO {name} ({', '.join(quoted)}) VALUES ({', '.join('?' * len(columns))}) "
            f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in quoted)}"
        )
        """Inserts a row, or changes the one with its key; takes what ``row`` makes."""
        self.remove = f"DELETE FROM {name} WHERE {key} = ?"
        """Deletes the row with a key."""
        expiring = "expires" in columns
        self._delete_expired = f"DELETE FROM {name} WHERE expires <= ?" if expiring else None
        where = "expires > ?" if expiring else "? IS NOT NULL"  # takes the same parameter
        self._select = f"SELECT {', '.join(quoted)} FROM {name} WHERE {where} ORDER BY {key}"
        self._values = attrgetter(*columns)
        self._spelled = [
            (at, *_SPELLINGS[str(field.type)]) for at, field in enumerate(fields(kind)) if str(field.type) in _SPELLINGS
        ]

    def row(self, record: Record) -> list[object]:
        """Spell a record as a row."""
        values = list(self._values(record))
        for at, write, _ in self._spelled:
            values[at] = write(values[at])
        return values

    def read(self, connection: sqlite3.Connection, now: float) -> list[R]:
        """Read the records that have not expired, in the order of their keys.

        Raises:
            sqlite3.Error: The file is damaged.
            ValueError: A column holds what this server never writes.
        """
        records = []
        for row in connection.execute(self._select, (now,)):
            values = list(row)
            for at, _, read in self._spelled:
                values[at] = read(values[at])
            records.append(self.kind(*values))
        return records

    def delete_expired(self, connection: sqlite3.Connection, now: float) -> None:
        """Delete what has expired.

        Raises:
            sqlite3.Error: The file cannot be written.
        """
        if self._delete_expired is not None:
            connection.execute(self._delete_expired, (now,))


ITEMS = Table(Item, "item")
TOMBSTONES = Table(Tombstone, "tombstone")
CONTACTS = Table(KnownContact, "contact")
EMERGENCIES = Table(Emergency, "emergency")
CHATS = Table(MissedChat, "chat", key="number")
ACTIVE_GROUPS = Table(ActiveGroups, "active_groups", key="key")
FILES = Table(StoredFile, "file", key="number")
VIDEOS = Table(VideoConnection, "video")
INVITES = Table(Invite, "invite", key="hash")
SPENT_USES = Table(SpentUse, "spent_use", key="key")
ACCOUNTS = Table(Account, "account", key="key")
SYNCED = Table(Synced, "synced", key="key")

TABLES: dict[type[Record], Table[Any]] = {
    table.kind: table
    for table in (
        *(ITEMS, TOMBSTONES, CONTACTS, EMERGENCIES, CHATS),
        *(ACTIVE_GROUPS, FILES, VIDEOS, INVITES, SPENT_USES, ACCOUNTS, SYNCED),
    )
}


def delete_expired(connection: sqlite3.Connection, now: float) -> None:
    """Delete what has expired from all tables, in one transaction.

    Raises:
        sqlite3.Error: The file cannot be written; nothing was deleted.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in TABLES.values():
            table.delete_expired(connection, now)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def read_all(connection: sqlite3.Connection, now: float) -> Kept:
    """Read everything that has not expired.

    Raises:
        sqlite3.Error: The file is damaged.
        ValueError: A column holds what this server never writes.
    """
    kept = Kept()
    for table in TABLES.values():
        for record in table.read(connection, now):
            kept.add(record)
    return kept
