"""History in a SQLite file of its own: it may be large, and a server without it still routes.

One thread writes and forgets, another one reads; SQLite's write-ahead log lets them work at the same time. A file that
is damaged is put aside and a new one begun.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from taky_twisted.history.packing import pack
from taky_twisted.history.records import Heard, HistoryBusy, HistoryError, Past, Written
from taky_twisted.logs import Logger
from taky_twisted.own_thread import OwnThread
from taky_twisted.stores.history_past import TOO_LATE, SqlitePast
from taky_twisted.stores.migrations import create_private, migrations

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from taky_twisted.routing.records import Groups

T = TypeVar("T")

APPLICATION_ID = 0x54616B48
"""What tells this file from others, also from our own store: "TakH" in ASCII."""
BUSY_SECONDS = 2.0
"""How long a lock that another program holds on the file is waited for."""
READ_SECONDS = 20.0
"""How long looking things up may take."""
CHECK_STEPS = 10_000
"""SQLite's steps between two looks at the clock while something is looked up; about a millisecond."""
WAL_BYTES = 16 << 20
"""To what size the write-ahead log is cut back."""
FORGET_ROWS = 300
"""Events that are forgotten in one transaction at most."""
FORGET_BYTES = 1 << 20
"""After so many bytes of them a transaction ends."""
VACUUM_PAGES = 256
"""Pages that are given back to the disk at once."""
MAX_GROUP_SETS = 10_000
"""Sets of groups; a site has a few, so who needs more than that makes them up."""
UNKNOWN_METERS = 9_999_999
"""How clients spell that they do not know a height."""

_HAE = re.compile(rb"<point\s[^>]*?\bhae\s*=\s*[\"']([^\"']{1,40})[\"']")
_UNFIT = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
)
"""What SQLite says of one event that it cannot keep, as opposed to a file that it cannot write."""
_INSERT = (
    "INSERT INTO event (uid, type, time, stored, group_set, readers, callsign, lat, lon, hae, packed, xml) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class SqliteHistory:
    """Keep events for a time and within a size, in a file that is made when it is first needed."""

    log = Logger()

    def __init__(
        self,
        path: Path,
        clock: IReactorTime,
        max_seconds: float,
        max_bytes: int,
        *,
        busy_seconds: float = BUSY_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        """Touch nothing yet.

        Args:
            path: The file; its folder must be there by the first call.
            clock: The reactor, which takes calls from threads.
            max_seconds: How long an event is kept.
            max_bytes: How large the file becomes, within a few percent.
            busy_seconds: How long a lock that another program holds on the file is waited for.
            read_seconds: How long looking things up may take.
        """
        self.path = path
        self._max_seconds, self._max_bytes = max_seconds, max_bytes
        self._busy_seconds, self._read_seconds = busy_seconds, read_seconds
        self._writer = OwnThread("history", IReactorFromThreads(clock))
        self._reader = OwnThread("history reader", IReactorFromThreads(clock))
        # Of the writing thread:
        self._connection: sqlite3.Connection | None = None
        self._group_sets: dict[Groups, int] = {}
        # Of the reading thread:
        self._reading: sqlite3.Connection | None = None
        self._read_file = 0
        self._closing = False
        """Whether nobody waits for what is looked up any more."""
        # Of both, each written by one:
        self._file = 0
        """Counts the files that were opened: a reader must not go on with one that was put aside."""
        self._damage: tuple[int, str] | None = None
        """In which file the reading thread found what damage, for the writing one to act on."""

    def write(self, batch: Sequence[Heard], now: float) -> Deferred[Written]:
        return self._writer.run(self._write, batch, now)

    def read(self, reading: Callable[[Past], T]) -> Deferred[T]:
        return self._reader.run(self._read, reading)

    def close(self) -> Deferred[None]:
        self._closing = True
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._reader.run(self._stop_reading)
        await self._writer.run(self._disconnect)  # the last connection tidies up the log
        self._reader.stop()
        self._writer.stop()

    # In the writing thread

    def _write(self, batch: Sequence[Heard], now: float) -> Written:
        try:
            damage, self._damage = self._damage, None
            if damage is not None and damage[0] == self._file:  # else a new file was begun in the meantime
                self._put_aside(damage[1])
            return self._write_now(batch, now)
        except sqlite3.Error as error:
            if type(error) is not sqlite3.DatabaseError:  # the others say that it cannot be used, not that it is bad
                raise _why_not(error) from error
            reason = str(error)
        except OSError as error:
            raise _why_not(error) from error
        try:
            self._put_aside(reason)
            return self._write_now(batch, now)
        except (sqlite3.Error, OSError) as error:
            raise _why_not(error) from error

    def _write_now(self, batch: Sequence[Heard], now: float) -> Written:
        connection = self._connection or self._connect()
        before = self._used(connection)
        unfit: list[str] = []
        try:
            if batch:
                connection.execute("BEGIN IMMEDIATE")
                for heard in batch:
                    try:
                        connection.execute(_INSERT, self._row(connection, heard, now))
                    except _UNFIT as error:
                        unfit.append(f"{heard.event.type!a} {heard.event.uid!a}: {error!a}")
                connection.execute("COMMIT")
            more = self._forget(connection, now, 1 + 2 * len(batch) // FORGET_ROWS, before)
        except BaseException:
            # Sets that were new in this batch are gone again, and their numbers will be others'.
            self._group_sets.clear()
            if connection.in_transaction:  # most errors end it themselves
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        return Written(tuple(unfit), more)

    def _row(self, connection: sqlite3.Connection, heard: Heard, now: float) -> tuple[object, ...]:
        event = heard.event
        how, xml = pack(event.xml)
        return (
            event.uid,
            event.type,
            heard.time,
            now,
            self._group_set(connection, heard.groups),
            None if heard.readers is None else json.dumps(heard.readers),
            event.detail.callsign,
            event.lat,
            event.lon,
            _height(event.xml),
            how,
            xml,
        )

    def _group_set(self, connection: sqlite3.Connection, groups: Groups) -> int:
        number = self._group_sets.get(groups)
        if number is None:
            names = json.dumps(sorted(groups))
            find = "SELECT number FROM group_set WHERE names = ?"
            row = connection.execute(find, (names,)).fetchone()
            if row is None:
                (count,) = connection.execute("SELECT count(*) FROM group_set").fetchone()
                if count >= MAX_GROUP_SETS:
                    raise OverflowError(f"over {MAX_GROUP_SETS} sets of groups")
                connection.execute("INSERT INTO group_set (names) VALUES (?)", (names,))
                row = connection.execute(find, (names,)).fetchone()
            number = self._group_sets[groups] = int(row[0])
        return number

    def _forget(self, connection: sqlite3.Connection, now: float, steps: int, before: int) -> bool:
        """Forget what is too old or too much, a few at a time; returns whether there is more of it.

        Args:
            connection: The file.
            now: The time, by which it is decided what is too old.
            steps: How many times a few are forgotten.
            before: What the file held before the batch, in bytes: one that holds too much must not hold more after it.
        """
        step = 0
        while True:
            used = self._used(connection)
            oldest = connection.execute("SELECT stored FROM event ORDER BY number LIMIT 1").fetchone()
            if oldest is None:
                break
            too_old = now - self._max_seconds
            if used <= self._max_bytes and oldest[0] >= too_old:
                break
            if step >= steps and used <= max(before, self._max_bytes):
                return True
            until = self._few(connection)
            if used > self._max_bytes:
                connection.execute("DELETE FROM event WHERE number <= ?", (until,))
            else:
                connection.execute("DELETE FROM event WHERE number <= ? AND stored < ?", (until, too_old))
            step += 1
        # Free pages are used again; they go back to the disk only if the file was once allowed to be larger.
        size = self._pages(connection, "page_count")
        if size <= self._max_bytes + WAL_BYTES or not self._pages(connection, "freelist_count"):
            return False
        connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")  # `execute` ends after one page
        return self._pages(connection, "page_count") < size

    @staticmethod
    def _few(connection: sqlite3.Connection) -> int:
        """Find the last of the events that are forgotten next."""
        rows = connection.execute(f"SELECT number, length(xml) FROM event ORDER BY number LIMIT {FORGET_ROWS}")
        last = size = 0
        for number, length in rows:
            last = number
            size += length
            if size >= FORGET_BYTES:
                break
        rows.close()  # else it would hold the transaction open
        return last

    def _used(self, connection: sqlite3.Connection) -> int:
        """Tell what of the file is in use, in bytes."""
        return self._pages(connection, "page_count") - self._pages(connection, "freelist_count")

    @staticmethod
    def _pages(connection: sqlite3.Connection, kind: str) -> int:
        """Tell the size of pages of a kind, in bytes."""
        (count,) = connection.execute(f"PRAGMA {kind}").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        return int(count * size)

    def _connect(self) -> sqlite3.Connection:
        create_private(self.path)
        connection = sqlite3.connect(
            self.path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            scripts = migrations("schema_history")
            version = _check_owner(connection, len(scripts))
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}").fetchone()
            for number, script in enumerate(scripts[version:], version + 1):
                connection.executescript(
                    f"BEGIN IMMEDIATE;\n{script}\n;"
                    f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;"
                )
        except (sqlite3.Error, HistoryError):
            connection.close()
            raise
        self._connection, self._file = connection, self._file + 1
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._group_sets.clear()
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _put_aside(self, damage: str) -> None:
        self._disconnect()
        aside = self.path.with_name(self.path.name + ".damaged")
        self.path.replace(aside)
        for ending in ("-wal", "-shm"):
            # A log must never be applied to the new file.
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + ending).replace(aside.with_name(aside.name + ending))
        self.log.warn(
            "{path} is damaged ({damage}): it was renamed to {aside}, and history begins anew. Delete that file when "
            "nobody wants to repair it; look after the disk.",
            path=self.path,
            damage=damage,
            aside=aside.name,
        )

    # In the reading thread

    def _read(self, reading: Callable[[Past], T]) -> T:
        end = time.monotonic() + self._read_seconds

        def late() -> bool:
            return self._closing or time.monotonic() > end

        try:
            connection = self._open_reading()
            connection.set_progress_handler(late, CHECK_STEPS)
            past = SqlitePast(connection, late)
            result = reading(past)
            if past.unreadable:
                self.log.warn(
                    "{count} events in {path} are damaged and were left out", count=past.unreadable, path=self.path
                )
            return result
        except sqlite3.Error as error:
            if "interrupted" in str(error):
                raise HistoryBusy(TOO_LATE) from error
            if type(error) is sqlite3.DatabaseError:
                self._damage = self._read_file, str(error)
            raise _why_not(error) from error
        finally:
            if self._reading is not None:
                self._reading.set_progress_handler(None, 0)
                self._cut_log(self._reading)

    def _cut_log(self, connection: sqlite3.Connection) -> None:
        # The writer cannot while somebody reads, which may be always; here nobody does.
        with suppress(sqlite3.Error, OSError):
            if self.path.with_name(self.path.name + "-wal").stat().st_size > WAL_BYTES:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _open_reading(self) -> sqlite3.Connection:
        file = self._file
        if self._reading is None or self._read_file != file:
            self._stop_reading()
            if not file:
                raise HistoryError("it cannot be opened", "The log says why.")
            self._reading = sqlite3.connect(
                self.path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
            )
            self._reading.execute("PRAGMA query_only = 1")
            self._read_file = file
        return self._reading

    def _stop_reading(self) -> None:
        connection, self._reading = self._reading, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _check_owner(connection: sqlite3.Connection, latest: int) -> int:
    """Tell which version of the schema a file has; 0 is a fresh file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID and (owner or version or tables):
        raise HistoryError("it is another program's file, or the store", "Move it away, or name another store.")
    if version > latest:
        raise HistoryError("a newer version of this server wrote it", "Start that version, or move the file away.")
    return int(version)


def _height(xml: bytes) -> float | None:
    match = _HAE.search(xml)
    try:
        height = float(match[1]) if match is not None else UNKNOWN_METERS
    except ValueError:
        return None
    return height if abs(height) < UNKNOWN_METERS else None


def _why_not(error: Exception) -> HistoryError:
    reason = str(error)
    if "full" in reason or "No space" in reason:
        return HistoryError(reason, "Make room on that disk.")
    if "locked" in reason:
        return HistoryError(reason, "Another program has locked the file: end it.")
    return HistoryError(
        reason, "Make the file and its folder writable for the user of the server; look after the disk."
    )
