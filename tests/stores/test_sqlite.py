from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from taky_twisted.interfaces import EventStore, StoreError
from taky_twisted.records import Record
from taky_twisted.routing.records import Item
from taky_twisted.stores.migrations import migrations
from taky_twisted.stores.sqlite import SqliteStore
from tests.disk import Disk
from tests.stores import contract, killed_writer
from tests.stores.contract import everything, item
from tests.threaded_clock import EPOCH, ThreadedClock

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT_SECONDS = 3.0
"""What a kill may cost where others keep the disk busy, besides what it needs for a few bytes at that time."""


@implementer(IReactorFromThreads)
class StillReactor(Clock):
    """Time stands still, but calls from threads are run by the real reactor."""

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        IReactorFromThreads(reactor).callFromThread(callable, *args, **kwargs)


class SqliteContractTests(contract.EventStoreContract):
    def setUp(self) -> object:  # type: ignore[override]  # trial takes a coroutine
        self.clock = StillReactor()
        self.clock.rightNow = EPOCH
        self.path = Path(self.mktemp())
        return super().setUp()

    def make_store(self) -> EventStore:
        return SqliteStore(self.path, self.clock)


class SqliteTestCase(SynchronousTestCase):
    """Has a place for a file."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.path = folder / "taky.sqlite"

    def make(self, path: Path | None = None) -> SqliteStore:
        """Make a store that does not wait long for locks."""
        return SqliteStore(path or self.path, self.clock, busy_seconds=0.05)

    def close(self, store: SqliteStore) -> None:
        self.clock.wait(store.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def opened(self) -> SqliteStore:
        """Open a store; it is closed in the end."""
        store = self.make()
        self.successResultOf(store.open())
        self.addCleanup(self.close, store)
        return store

    def refused(self, path: Path | None = None) -> str:
        """The store cannot be opened; return why."""
        return str(self.failureResultOf(self.make(path).open(), StoreError).value)

    def on_disk(self) -> set[str]:
        """Tell the uids of the items that another process would find now."""
        with closing(sqlite3.connect(self.path)) as connection:
            return {uid for (uid,) in connection.execute("SELECT uid FROM item")}


class FileTests(SqliteTestCase):
    def test_private(self) -> None:
        """Nobody else may read what was said, whatever the umask: neither the file nor what SQLite puts beside it."""
        for umask in (0, 0o277):
            self.path = self.path.with_name(f"{umask}.sqlite")
            before = os.umask(umask)
            try:
                store = self.make()
                self.successResultOf(store.open())
                store.put(item())
                self.clock.wait(store.flush())
            finally:
                os.umask(before)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.path.parent.glob(f"{umask}.*")}
            self.close(store)
            names = (self.path.name, f"{self.path.name}-shm", f"{self.path.name}-wal")
            self.assertEqual(modes, dict.fromkeys(names, 0o600))

    def test_closed_is_one_file(self) -> None:
        """After a proper stop there is one file to back up, and nothing beside it."""
        store = self.make()
        self.successResultOf(store.open())
        store.put(item())
        self.close(store)
        self.assertEqual(os.listdir(self.path.parent), [self.path.name])

    def test_fresh_is_not_copied(self) -> None:
        """A new file has the newest schema at once, and no copy of nothing is made."""
        self.opened()
        with closing(sqlite3.connect(self.path)) as connection:
            self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (len(migrations()),))
        self.assertEqual(list(self.path.parent.glob("*schema*")), [])

    def test_speed(self) -> None:
        """A store with 10,000 items opens in well under a second."""
        store = self.make()
        self.successResultOf(store.open())
        for number in range(10_000):
            store.put(item(f"item-{number}", xml=b"x" * 1024))
        self.close(store)
        store = self.make()
        before = time.process_time()
        kept = self.successResultOf(store.open())
        took = time.process_time() - before
        self.close(store)
        self.assertEqual(len(kept.items), 10_000)
        self.assertLess(took, 0.9)

    def test_put_is_cheap(self) -> None:
        """Keeping an event costs the event path next to nothing: far less than reading it did."""
        store = self.opened()
        marker = item()
        best = min(self.time_of_puts(store, marker) for _ in range(5))
        self.assertLess(best, 5e-6)

    def time_of_puts(self, store: SqliteStore, record: Record) -> float:
        before = time.perf_counter()
        for _ in range(1000):
            store.put(record)
        return (time.perf_counter() - before) / 1000


class OpeningTests(SqliteTestCase):
    def test_newer(self) -> None:
        """A file that a newer program wrote is not touched; both versions and what to do are told."""
        self.close_after_put()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        before = self.path.read_bytes()
        words = self.refused()
        self.assertIn(str(self.path), words)
        self.assertIn("its schema is 99", words)
        self.assertIn(f"knows up to {len(migrations())}", words)
        self.assertIn("Start the newer version", words)
        self.assertEqual(self.path.read_bytes(), before)

    def close_after_put(self) -> None:
        store = self.make()
        self.successResultOf(store.open())
        store.put(item())
        self.close(store)

    def test_upgrade(self) -> None:
        """A file of an older version is upgraded, keeps what it holds, and is copied before."""
        self.close_after_put()
        schema = (*migrations(), "CREATE TABLE more (a INTEGER); INSERT INTO more VALUES (1);")
        store = SqliteStore(self.path, self.clock, schema=schema)
        kept = self.successResultOf(store.open())
        self.close(store)
        self.assertEqual(kept.items, [item()])
        copy = self.path.with_name(f"taky.sqlite.schema-{len(migrations())}")
        self.assertEqual(stat.S_IMODE(copy.stat().st_mode), 0o600)
        self.assertIn(copy.name, self.refused())
        self.path = copy
        self.assertEqual(self.on_disk(), {"marker"})

    def test_other_programs_file(self) -> None:
        """Another program's database is not taken over."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("CREATE TABLE theirs (a INTEGER)")
        before = self.path.read_bytes()
        self.assertIn("another program's SQLite database", self.refused())
        self.assertEqual(self.path.read_bytes(), before)

    def test_no_database(self) -> None:
        """A file that is no database is not touched, and refused in plain words."""
        self.path.write_bytes(b"[taky]\nhostname = tak.example\n" * 100)
        before = self.path.read_bytes()
        words = self.refused()
        self.assertIn("damaged, or no store at all", words)
        self.assertIn("move it away", words)
        self.assertEqual(self.path.read_bytes(), before)

    def test_damaged(self) -> None:
        """A damaged file is refused when the server starts, not when the damage is come across."""
        store = self.make()
        self.successResultOf(store.open())
        for number in range(1000):
            store.put(item(f"item-{number}", xml=b"x" * 1000))
        self.close(store)
        whole = self.path.read_bytes()
        for at in (len(whole) // 2, len(whole) - 4096 * 3):
            self.path.write_bytes(whole[:at] + b"\xff" * 4096 + whole[at + 4096 :])
            self.assertIn("damaged", self.refused())
        self.path.write_bytes(whole[: len(whole) // 2])
        self.assertIn("damaged", self.refused())

    def test_broken_promise(self) -> None:
        """Damage that shows only where rows are compared with the schema is found at the start, too."""
        store = self.make()
        self.successResultOf(store.open())
        store.put(replace(contract.contact(), principal=None))
        self.close(store)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(
                "UPDATE sqlite_master SET sql = replace(sql, 'principal TEXT', 'principal TEXT NOT NULL')"
            )
        self.assertIn("NULL value in contact.principal", self.refused())

    def test_strange_column(self) -> None:
        """What this server never writes is damage as well."""
        self.close_after_put()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE item SET \"groups\" = 'red'")
        self.assertIn("damaged", self.refused())

    def test_no_folder(self) -> None:
        """A missing folder is named."""
        path = self.path.parent / "nowhere" / "taky.sqlite"
        self.assertIn(f"there is no folder {path.parent}", self.refused(path))

    def test_is_a_folder(self) -> None:
        """A folder in place of the file is named."""
        self.assertIn("it is a folder", self.refused(self.path.parent))

    def test_cannot_be_made(self) -> None:
        """Where no file can be made the system's reason is told."""
        self.assertIn("must be writable", self.refused(Path("/proc/self/taky.sqlite")))

    def test_locked(self) -> None:
        """A file that another program has locked for itself is refused with that reason."""
        self.close_after_put()
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            self.assertIn("another program has locked it", self.refused())

    def test_no_room_to_tidy_up(self) -> None:
        """What has expired is not shown even where it cannot be deleted; the server starts, with one warning."""
        store = self.make()
        self.successResultOf(store.open())
        store.put(item("past", expires=EPOCH + 1))
        store.put(item("future"))
        self.close(store)
        self.clock.advance(2)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store = self.make()
            with capturedLogs() as logs:
                kept = self.successResultOf(store.open())
            self.assertEqual([found.uid for found in kept.items], ["future"])
            (warning,) = logs
            self.assertEqual((warning["log_level"], warning["reason"]), (LogLevel.warn, "database is locked"))
            self.clock.advance(5)
            self.clock.run_one()
            self.assertFalse(store.state.writable)
        # Nobody has anything to write, and it is noticed all the same that it works again.
        self.clock.advance(5)
        self.clock.run_one()
        self.assertTrue(store.state.writable)
        self.close(store)


class WritingTests(SqliteTestCase):
    def test_within_half_a_second(self) -> None:
        """What is put is on disk a quarter of a second later, and then no timer runs."""
        store = self.opened()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        store.put(item("a"))
        store.put(item("b"))
        store.remove(Item, "b")
        (timer,) = self.clock.getDelayedCalls()
        self.assertLessEqual(timer.getTime() - self.clock.seconds(), 0.25)
        self.assertEqual(self.on_disk(), set())
        self.clock.advance(0.25)
        self.clock.run_one()
        self.assertEqual(self.on_disk(), {"a"})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full_disk(self) -> None:
        """A full disk is one warning; nothing is lost when there is room again, and that is said once."""
        store = self.opened()
        assert store._connection is not None
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        with capturedLogs() as logs:
            for number in range(50):
                store.put(item(f"item-{number}", xml=b"x" * 1000))
            self.clock.wait(store.flush())
            for number in range(50, 60):
                store.put(item(f"item-{number}", xml=b"x" * 1000))
            store.remove(Item, "item-0")
            store.put(item("item-1", xml=b"new"))
            self.clock.advance(5)
            self.clock.run_one()
        (warning,) = logs
        self.assertEqual(warning["log_level"], LogLevel.warn)
        self.assertEqual(warning["reason"], "database or disk is full")
        self.assertEqual(warning["advice"], "Make room on that disk.")
        self.assertIn(str(self.path), warning["where"])
        self.assertEqual(self.on_disk(), set())
        store._connection.execute("PRAGMA max_page_count = 1000000").fetchone()
        with capturedLogs() as logs:
            self.clock.advance(5)
            self.clock.run_one()
        (over,) = logs
        self.assertEqual((over["log_level"], over["seconds"]), (LogLevel.warn, 10.0))
        self.assertEqual(self.on_disk(), {f"item-{number}" for number in range(1, 60)})

    def test_nothing_to_write(self) -> None:
        """Whether the disk takes something is found out by writing, also when there is nothing to write."""
        store = self.opened()
        log = self.path.with_name(f"{self.path.name}-wal")
        before = log.stat().st_size
        store._behind.now()
        self.clock.wait(store.flush())
        self.assertGreater(log.stat().st_size, before)

    def test_locked(self) -> None:
        """A program that holds the file for too long is named as the reason; what it delayed is written later."""
        store = self.opened()
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other, capturedLogs() as logs:
            other.execute("BEGIN IMMEDIATE")
            store.put(item())
            self.clock.wait(store.flush())
            other.execute("ROLLBACK")
            self.clock.wait(store.flush())
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn, LogLevel.warn])
        self.assertEqual(logs[0]["reason"], "database is locked")
        self.assertIn("Another program has locked the file", logs[0]["advice"])
        self.assertEqual(self.on_disk(), {"marker"})

    def test_read_only(self) -> None:
        """A file that became read-only is a warning that says so; routing goes on."""
        store = self.opened()
        assert store._connection is not None
        store._connection.execute("PRAGMA query_only = ON")
        with capturedLogs() as logs:
            store.put(item())
            self.clock.wait(store.flush())
        self.assertIn("readonly", logs[0]["reason"])
        self.assertIn("writable", logs[0]["advice"])
        store._connection.execute("PRAGMA query_only = OFF")

    def test_broken_table(self) -> None:
        """Any other complaint of SQLite is a warning too, and no end of routing."""
        store = self.opened()
        with closing(sqlite3.connect(self.path)) as other:
            other.execute("ALTER TABLE item RENAME TO gone")
            with capturedLogs() as logs:
                store.put(item())
                self.clock.wait(store.flush())
            self.assertIn("no such table", logs[0]["reason"])
            other.execute("ALTER TABLE gone RENAME TO item")

    def test_unfit_record(self) -> None:
        """A record that SQLite cannot take does not keep the others from the disk; it is logged as a bug."""
        store = self.opened()
        with capturedLogs() as logs:
            store.put(item("a"))
            store.put(item("\ud800"))
            store.put(replace(item("c"), time=float("nan")))
            store.put(replace(item("d"), xml=["no", "bytes"]))  # type: ignore[arg-type]
            store.put(replace(contract.chat(1), number=2**70))
            store.put(item("z"))
            self.clock.wait(store.flush())
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.error] * 4)
        self.assertIn("Item '\\ud800'", logs[0]["record"])
        self.assertEqual(self.on_disk(), {"a", "z"})

    def test_changes_while_writing(self) -> None:
        """What is put while a batch is being written is not lost and not mixed up."""
        store = self.opened()
        for number in range(200):
            store.put(item("a", xml=b"%d" % number))
            store.put(item(f"item-{number}"))
            if number % 20 == 0:
                store.flush()
        self.clock.wait(store.flush())
        with closing(sqlite3.connect(self.path)) as connection:
            (xml,) = connection.execute("SELECT xml FROM item WHERE uid = 'a'").fetchone()
        self.assertEqual(xml, b"199")
        self.assertEqual(len(self.on_disk()), 201)

    @settings(max_examples=50, deadline=None)
    @given(contract.changes(), contract.changes())
    def test_any_changes(self, first: list[tuple[Record, bool]], second: list[tuple[Record, bool]]) -> None:
        """After any changes, some of them written in between, a restart finds what a dictionary would hold."""
        self.path.unlink(missing_ok=True)
        model: dict[tuple[type[Record], str], Record] = {}
        store = self.make()
        self.successResultOf(store.open())
        for changes in (first, second):
            for record, put in changes:
                if put:
                    store.put(record)
                    model[type(record), record.key] = record
                else:
                    store.remove(type(record), record.key)
                    model.pop((type(record), record.key), None)
            self.clock.wait(store.flush())
        self.close(store)
        store = self.make()
        kept = self.successResultOf(store.open())
        self.close(store)
        self.assertEqual(everything(kept), model)


class ClosingTests(SqliteTestCase):
    def test_thread_ends(self) -> None:
        """Nothing of the store is left after closing: no thread, no timer, no open file."""
        before = threading.active_count()
        store = self.make()
        self.successResultOf(store.open())
        store.put(item())
        self.close(store)
        self.assertEqual(threading.active_count(), before)
        held = [
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        ]
        self.assertEqual([path for path in held if path.startswith(str(self.path))], [])

    def test_unopened(self) -> None:
        """A store that could not be opened can be closed all the same."""
        store = self.make(self.path.parent)
        self.failureResultOf(store.open(), StoreError)
        self.close(store)

    def test_disk_stays_full(self) -> None:
        """When the end comes before there is room, the operator is told how much is lost."""
        store = self.make()
        self.successResultOf(store.open())
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other, capturedLogs() as logs:
            other.execute("BEGIN IMMEDIATE")
            store.put(item("a"))
            store.put(item("b"))
            self.close(store)
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn, LogLevel.warn])
        self.assertEqual(logs[1]["missing"], 2)
        self.assertIn("are lost", logs[1]["log_format"])

    def test_disk_hangs(self) -> None:
        """A disk that does not answer holds the end up for 5 seconds and no longer, and says so."""
        store = self.make()
        self.successResultOf(store.open())
        answers = threading.Event()
        self.addCleanup(answers.set)
        hanging = store._thread.run(answers.wait)
        store.put(item())
        closed = store.close()
        self.clock.advance(4.9)
        self.assertNoResult(closed)
        with capturedLogs() as logs:
            self.clock.advance(0.1)
        self.successResultOf(closed)
        (warning,) = logs
        self.assertEqual(warning["log_level"], LogLevel.warn)
        self.assertIn("does not answer", warning["log_format"])
        answers.set()
        self.clock.wait(hanging)
        while store._connection is not None or store._thread._pool.started:
            self.clock.run_one()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class KillTests(SynchronousTestCase):
    def test_killed_at_any_moment(self) -> None:
        """After kill -9 the file is whole, and all that was said long enough before is there.

        With a disk that does nothing else a second is long enough; ``tests/end_to_end/test_kills.py`` shows that.
        """
        path = Path(self.mktemp()).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        disk = Disk(path.parent)
        self.addCleanup(disk.thread.join)
        self.addCleanup(setattr, disk, "stopping", True)
        lifetimes = [random.uniform(KEPT_SECONDS + 0.2, KEPT_SECONDS + 1.2) for _ in range(3)]
        said: list[tuple[int, float, bool]] = []
        for lifetime in lifetimes:
            disk.slowest()
            killed_at = self.run_and_kill(path, lifetime, said)
            kept = KEPT_SECONDS + disk.slowest()
            with closing(sqlite3.connect(path)) as connection:
                self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            self.check(path, said, killed_at - kept, f"lifetimes {lifetimes}")

    def run_and_kill(self, path: Path, lifetime: float, said: list[tuple[int, float, bool]]) -> float:
        """Let a process write for some seconds; add what it said it did."""
        first = said[-1][0] + 1 if said else 0
        writer = subprocess.Popen(
            [sys.executable, "-m", killed_writer.__name__, str(path), str(first)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert writer.stdout is not None
        heard = bytearray(writer.stdout.read(killed_writer.LINE.size))
        reader = threading.Thread(target=lambda: heard.extend(writer.stdout.read()))  # type: ignore[union-attr]
        reader.start()
        time.sleep(lifetime)
        killed_at = time.time()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        reader.join()
        writer.stdout.close()
        del heard[len(heard) // killed_writer.LINE.size * killed_writer.LINE.size :]
        said += killed_writer.LINE.iter_unpack(heard)
        return killed_at

    def check(self, path: Path, said: list[tuple[int, float, bool]], since: float, words: str) -> None:
        """Each item is as it was at a moment (seconds since the epoch), or as it was at some moment after that."""
        allowed: dict[str, set[int | None]] = {}
        for number, when, put in said:
            state = number if put else None
            uid = killed_writer.uid_of(number)
            if when <= since:
                allowed[uid] = {state}
            else:
                allowed.setdefault(uid, {None}).add(state)
        last = said[-1][0]
        clock = ThreadedClock(time.time())
        store = SqliteStore(path, clock)
        kept = self.successResultOf(store.open())
        clock.wait(store.close())
        found = {record.uid: int(record.time) for record in kept.items}
        self.assertTrue(found, words)
        for uid, states in allowed.items():
            state = found.get(uid)
            # The very last change may have been written, but not said any more.
            self.assertTrue(state in states or (state or 0) > last, f"{uid} is {state}, not in {states}; {words}")
