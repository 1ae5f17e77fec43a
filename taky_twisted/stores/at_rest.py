"""A store's file while no server has it open, for programs that change a few records and end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from taky_twisted.interfaces import StoreError
from taky_twisted.stores.migrations import check_version, create_private, migrations, upgrade
from taky_twisted.stores.tables import TABLES, read_all

if TYPE_CHECKING:
    from taky_twisted.records import Kept, Record

DEFAULT_FILE = "taky.sqlite"
BUSY_SECONDS = 2.0


class StoreAtRest:
    """Collect changes, and write them all at once; whoever uses it has locked the data folder."""

    def __init__(self, description: str | None, data_folder: Path) -> None:
        """Touch nothing yet.

        Args:
            description: what ``store =`` says.
            data_folder: where the default store is.

        Raises:
            StoreError: it describes nothing that is there while the server is stopped.
        """
        scheme, _, rest = (description or f"sqlite:{DEFAULT_FILE}").partition(":")
        if scheme != "sqlite" or not rest:
            raise StoreError(
                f"store = {description}: nothing in it can be changed while the server is stopped; start it first"
            )
        self.path = data_folder / rest
        self._changes: dict[tuple[type[Record], str], Record | None] = {}

    def read(self, now: float) -> Kept:
        """Read everything; a file that is not there is made, and an older one brought to our schema.

        Raises:
            StoreError: it cannot be used.
        """
        try:
            create_private(self.path)
            with closing(self._connect()) as connection:
                check_version(connection, self.path, len(migrations()))
                upgrade(connection, self.path, migrations())
                return read_all(connection, now)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise StoreError(f"cannot use {self.path} as store: {error}") from error

    def put(self, record: Record) -> None:
        """Keep a record."""
        self._changes[type(record), record.key] = record

    def remove(self, kind: type[Record], key: str) -> None:
        """Forget a record."""
        self._changes[kind, key] = None

    def flush(self) -> Deferred[None]:
        """Write nothing; `save` does."""
        return succeed(None)

    def save(self) -> None:
        """Write all changes, or none of them.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                for (kind, key), record in self._changes.items():
                    table = TABLES[kind]
                    if record is None:
                        connection.execute(table.remove, (key,))
                    else:
                        connection.execute(table.put, table.row(record))
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"cannot write {self.path}: {error}; nothing was changed") from error
        self._changes.clear()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
