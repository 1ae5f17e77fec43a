"""A store in one SQLite file: a restart finds everything again, and no server has to be installed."""

from __future__ import annotations

import os.path
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads

from taky_twisted.background import logged
from taky_twisted.interfaces import StoreError, StoreState
from taky_twisted.logs import Logger
from taky_twisted.own_thread import OwnThread
from taky_twisted.stores.migrations import check_version, create_private, migrations, upgrade
from taky_twisted.stores.tables import TABLES, delete_expired, read_all
from taky_twisted.stores.write_behind import CannotWrite, Changes, WriteBehind

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from taky_twisted.records import Kept, Record

BUSY_SECONDS = 2.0
"""How long a lock that another program holds on the file is waited for."""
CLOSE_SECONDS = 5.0
"""After this time closing gives up on a disk that does not answer."""
WAL_BYTES = 16 * 1024 * 1024
"""To what size the write-ahead log is cut back."""

_UNFIT = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    TypeError,
    UnicodeError,
)
"""What SQLite says of one record that it cannot keep, as opposed to a file that it cannot write."""


class SqliteStore:
    """Keep records in a SQLite file that one thread of our own writes.

    The file survives the end of the process at any moment. When the power fails, the last moments may be missing, but
    the file is whole. Two servers must not share one file.
    """

    log = Logger()

    def __init__(
        self,
        path: Path,
        clock: IReactorTime,
        *,
        busy_seconds: float = BUSY_SECONDS,
        schema: Sequence[str] | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            path: The file; made when it is not there, its folder is not.
            clock: The reactor: seconds since the epoch, and it takes calls from threads.
            busy_seconds: How long a lock that another program holds on the file is waited for.
            schema: The migrations, if not those of this program.
        """
        self.path = path
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._schema = migrations() if schema is None else schema
        self._thread = OwnThread("store", IReactorFromThreads(clock))
        self._behind = WriteBehind(clock, self._write, str(path))
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Deferred[Kept]:
        """Open the file, bring it to our schema, drop what has expired, and read everything.

        This waits for the disk: call it before the reactor runs, and after twistd has gone to the background, because
        an open SQLite file does not survive a fork.
        """
        try:
            return succeed(self._open())
        except StoreError:
            return fail()
        except (sqlite3.Error, OSError, ValueError) as error:
            self._disconnect()
            return fail(StoreError(_why_not_open(self.path, error)))

    def put(self, record: Record) -> None:
        self._behind.put(record)

    def remove(self, kind: type[Record], key: str) -> None:
        self._behind.remove(kind, key)

    def flush(self) -> Deferred[None]:
        return self._behind.flush()

    def close(self) -> Deferred[None]:
        """Flush, close the file and end the thread; gives up on a disk that does not answer for 5 seconds."""
        closed: Deferred[None] = Deferred()
        giving_up = self._clock.callLater(CLOSE_SECONDS, self._give_up, closed)

        def flushed(_: None) -> Deferred[None]:
            missing = self._behind.stop()
            if missing:
                self.log.warn(
                    "{missing} changes could not be written to {path} and are lost", missing=missing, path=self.path
                )
            return self._thread.run(self._disconnect)

        def done(_: None) -> None:
            self._thread.stop()
            if giving_up.active():
                giving_up.cancel()
                closed.callback(None)

        closing = self._behind.flush()
        closing.addCallback(flushed)
        closing.addCallback(done)
        closing.addErrback(logged(self.log, f"closing {self.path}"))
        return closed

    @property
    def state(self) -> StoreState:
        return self._behind.state

    def _give_up(self, closed: Deferred[None]) -> None:
        missing = self._behind.stop()
        self.log.warn(
            "{path} was not closed within {seconds:.0f} s, the disk does not answer; {missing} or more changes are "
            "lost",
            path=self.path,
            seconds=CLOSE_SECONDS,
            missing=missing,
        )
        closed.callback(None)

    # Before the reactor runs

    def _open(self) -> Kept:
        create_private(self.path)
        connection = self._connection = sqlite3.connect(
            self.path,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,  # opened here, then used by our thread alone
        )
        try:
            check_version(connection, self.path, len(self._schema))
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}").fetchone()
            upgrade(connection, self.path, self._schema)
        except StoreError:
            self._disconnect()
            raise
        now = self._clock.seconds()
        try:
            delete_expired(connection, now)
        except sqlite3.OperationalError as error:
            # What has expired is not read either way, and a full disk is no reason not to route.
            self._behind.trouble(_why_not_written(error))
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        kept = read_all(connection, now)
        for record in kept.all():
            self._behind.found((type(record), record.key))
        if not self._behind.state.writable:
            self._behind.later()
        return kept

    # In our own thread

    def _write(self, changes: Changes) -> Deferred[None]:
        return self._thread.run(self._write_now, changes).addCallback(self._report_unfit)

    def _write_now(self, changes: Changes) -> list[str]:
        connection = self._connection
        assert connection is not None, "the store is not open"
        unfit = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            if not changes:  # to see whether it can be written: an empty transaction would not tell
                connection.execute(f"PRAGMA user_version = {len(self._schema)}")
            for (kind, key), record in changes.items():
                table = TABLES[kind]
                try:
                    if record is None:
                        connection.execute(table.remove, (key,))
                    else:
                        connection.execute(table.put, table.row(record))
                except _UNFIT as error:
                    unfit.append(f"{kind.__name__} {key!a}: {error!a}")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise _why_not_written(error) from error
        finally:
            # Most errors end the transaction themselves.
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
        return unfit

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # SQLite writes the log back into the file when the last connection goes.
            with suppress(sqlite3.Error):
                connection.close()

    def _report_unfit(self, unfit: list[str]) -> None:
        for record in unfit:
            self.log.error("cannot keep {record}; it will be missing after a restart", record=record)


def _why_not_written(error: sqlite3.Error) -> CannotWrite:
    reason = str(error)
    if "full" in reason:
        return CannotWrite(reason, "Make room on that disk.")
    if "locked" in reason:
        return CannotWrite(reason, "Another program has locked the file: end it.")
    if "readonly" in reason:
        return CannotWrite(reason, "Make the file and its folder writable for the user that the server runs as.")
    return CannotWrite(reason, "Look after the disk, and into the system's log.")


def _why_not_open(path: Path, error: Exception) -> str:
    reason = str(error)
    if not os.path.exists(path.parent):
        return f"cannot use {path} as store: there is no folder {path.parent}. Create it, or name another file."
    if os.path.isdir(path):
        return f"cannot use {path} as store: it is a folder. Name a file with --store=sqlite:PATH."
    if isinstance(error, sqlite3.OperationalError) and "locked" in reason:
        return f"cannot use {path} as store: another program has locked it. End that program, then start again."
    if isinstance(error, sqlite3.OperationalError | OSError):
        return (
            f"cannot use {path} as store: {reason}. The file and its folder must be writable for the user that the "
            "server runs as, and the disk must have room."
        )
    return (
        f"cannot use {path} as store: it is damaged, or no store at all ({reason}). Put back a backup of it, or move "
        "it away to start with an empty store, or name another file with --store=sqlite:PATH."
    )
