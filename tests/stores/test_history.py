from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from threading import Semaphore
from time import sleep
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import Detail, Event
from taky_twisted.history.records import Heard, HistoryBusy, HistoryError, Moment, Past
from taky_twisted.stores import history
from taky_twisted.stores.history_past import SqlitePast
from taky_twisted.stores.migrations import APPLICATION_ID as STORE_ID
from tests.fakes import LogLines
from tests.samples import marker, xml
from tests.stores.history_samples import BLUE, DAY, RED, Kept, asked, heard
from tests.threaded_clock import EPOCH, PATIENCE


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.kept = Kept(self)
        self.path = self.kept.path

    def test_reopen(self) -> None:
        """What was kept is there after a restart, to the byte."""
        said = heard("A")
        self.assertEqual(self.kept.write([said]), ((), False))
        self.kept.close()
        again = Kept(self, self.path)
        again.write()
        (moment,) = again.look(lambda past: past.events(asked("red")))
        self.assertEqual(moment, ("A", "a-f-G-U-C", "ALPHA", EPOCH, 52.1, 4.3, 101.5, said.event.xml))

    def test_private(self) -> None:
        """Nobody but the server's user may read the file."""
        self.kept.write([heard()])
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_crash(self) -> None:
        """What was written survives the end of the process at any moment."""
        self.kept.write([heard()])
        copy = Path(self.mktemp())
        for ending in ("", "-wal"):
            copy.with_name(copy.name + ending).write_bytes(self.path.with_name(self.path.name + ending).read_bytes())
        again = Kept(self, copy)
        again.write()
        self.assertEqual(again.uids(asked("red")), ["A"])

    def test_not_opened(self) -> None:
        """Who asks before there is a file is told that history cannot be used."""
        error = self.assertRaises(HistoryError, self.kept.uids, asked("red"))
        self.assertIn("cannot be opened", str(error))

    def test_no_folder(self) -> None:
        """A folder that is not there is an operator's to make; the server goes on."""
        kept = Kept(self, self.path / "missing" / "history.sqlite")
        error = self.assertRaises(HistoryError, kept.write, [heard()])
        self.assertIn("writable", error.advice)
        (self.path / "missing").mkdir(parents=True)
        kept.write([heard()])
        self.assertEqual(kept.uids(asked("red")), ["A"])

    def test_no_file(self) -> None:
        """Neither does a folder in the file's place stop it."""
        self.path.mkdir()
        error = self.assertRaises(HistoryError, self.kept.write, [heard()])
        self.assertIn("unable to open", error.reason)

    def test_others_file(self) -> None:
        """Another program's file, or the store of this one, is neither changed nor put aside."""
        for number, pragma in enumerate(("application_id = 7", f"application_id = {STORE_ID}", "user_version = 1")):
            path = self.path.with_name(f"{self.path.name}-{number}")
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(f"CREATE TABLE mine (a); PRAGMA {pragma};")
            before = path.read_bytes()
            kept = Kept(self, path)
            error = self.assertRaises(HistoryError, kept.write, [heard()])
            self.assertIn("another program", error.reason)
            self.assertEqual(path.read_bytes(), before)

    def test_newer(self) -> None:
        """Neither is the file of a newer version."""
        self.kept.write([heard()])
        self.kept.close()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        error = self.assertRaises(HistoryError, Kept(self, self.path).write, [heard()])
        self.assertIn("newer version", error.reason)
        with closing(sqlite3.connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM event").fetchone(), (1,))

    def test_locked(self) -> None:
        """A lock that another program holds is waited for, then said; nothing of the batch is half there."""
        kept = Kept(self, self.path, busy_seconds=0.01)
        kept.write([heard("A")])
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = self.assertRaises(HistoryError, kept.write, [heard("B"), heard("C")])
        self.assertIn("end it", error.advice)
        self.assertEqual(kept.uids(asked("red")), ["A"])
        kept.write([heard("B"), heard("C")])
        self.assertEqual(len(kept.uids(asked("red"))), 3)


class DamageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.path = Path(self.mktemp())
        self.aside = self.path.with_name(self.path.name + ".damaged")

    def test_no_database(self) -> None:
        """A file that is none is put aside with a warning, and history begins anew."""
        self.path.write_bytes(b"not a database" * 1000)
        kept = Kept(self, self.path)
        kept.write([heard()])
        self.assertEqual(kept.uids(asked("red")), ["A"])
        self.assertTrue(self.aside.read_bytes().startswith(b"not a database"))
        (line,) = self.lines()
        self.assertIn("is damaged", line)

    def damage(self) -> None:
        """Overwrite all pages but the first."""
        size = self.path.stat().st_size
        with self.path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))

    def filled(self) -> Kept:
        """Make a file of some pages, which nothing has read since."""
        kept = Kept(self, self.path)
        kept.write([heard(str(number), at=number) for number in range(500)])
        kept.close()
        return Kept(self, self.path)

    def test_damaged_for_the_writer(self) -> None:
        """Damage that is found while something is written costs what was kept, not what is being said."""
        kept = self.filled()
        self.damage()
        kept.write([heard("NEW")])
        self.assertEqual(kept.uids(asked("red")), ["NEW"])
        self.assertTrue(self.aside.exists())
        self.assertEqual(len(self.lines()), 1)

    def test_damaged_for_the_reader(self) -> None:
        """Damage that is found while something is looked up is acted upon with the next batch, also an empty one."""
        kept = self.filled()
        kept.write()
        self.damage()
        self.assertRaises(HistoryError, kept.uids, asked("red"))
        self.assertFalse(self.aside.exists())
        kept.write()
        self.assertTrue(self.aside.exists())
        self.assertEqual(kept.uids(asked("red")), [])
        kept.write([heard("NEW")])
        self.assertEqual(kept.uids(asked("red")), ["NEW"])

    def test_found_by_both(self) -> None:
        """A file that was begun because of damage is not put aside because of the same damage."""
        kept = self.filled()
        kept.write()
        self.damage()
        self.assertRaises(HistoryError, kept.uids, asked("red"))
        damage = kept.store._damage
        kept.write([heard("NEW")])
        kept.store._damage = damage  # as if it had been found only now
        kept.write([heard("NEWER", at=1)])
        self.assertEqual(kept.uids(asked("red")), ["NEWER", "NEW"])

    def test_cannot_put_aside(self) -> None:
        """If not even that is possible, it is said; the server goes on."""
        self.path.write_bytes(b"not a database" * 1000)
        self.aside.mkdir()
        error = self.assertRaises(HistoryError, Kept(self, self.path).write, [heard()])
        self.assertIn("look after the disk", error.advice)

    def test_damaged_event(self) -> None:
        """A single event that cannot be read is left out with a warning."""
        kept = Kept(self, self.path)
        kept.write([heard("A"), heard("B", at=1)])
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("UPDATE event SET xml = x'ffff' WHERE uid = 'A'")
        self.assertEqual(kept.uids(asked("red")), ["B"])
        (line,) = self.lines()
        self.assertIn("1 events", line)

    def test_reader_fails(self) -> None:
        """A mistake in what looks things up is no damage, and the next question is answered."""
        kept = Kept(self, self.path)
        kept.write([heard("A")])

        def reading(past: Past) -> list[object]:
            raise ValueError("a mistake")

        self.assertRaises(ValueError, kept.look, reading)

        def locked(past: Past) -> list[object]:
            raise sqlite3.OperationalError("database is locked")

        self.assertRaises(HistoryError, kept.look, locked)
        kept.write()
        self.assertEqual(kept.uids(asked("red")), ["A"])
        self.assertFalse(self.aside.exists())


class RoomTests(SynchronousTestCase):
    def test_full(self) -> None:
        """A full disk is said to be; nothing of the batch is half there, and what was kept can be read."""
        kept = Kept(self)
        kept.write([heard("A")])
        connection = kept.store._connection
        assert connection is not None
        connection.execute("PRAGMA max_page_count = 16").fetchone()
        batch = [heard(f"B{number}", marker(f"B{number}", "x" * 900)) for number in range(100)]
        for _ in range(2):
            error = self.assertRaises(HistoryError, kept.write, batch)
            self.assertIn("Make room", error.advice)
        self.assertEqual(kept.uids(asked("red")), ["A"])
        connection.execute("PRAGMA max_page_count = 100000").fetchone()
        kept.write(batch)
        self.assertEqual(len(kept.uids(asked("red"))), 101)

    def test_full_with_new_groups(self) -> None:
        """After a batch that failed nothing is shown to the wrong groups."""
        kept = Kept(self)
        kept.write([heard("A")])
        connection = kept.store._connection
        assert connection is not None
        connection.execute("PRAGMA max_page_count = 16").fetchone()
        batch = [heard(f"B{number}", marker(f"B{number}", "x" * 900), groups=BLUE) for number in range(100)]
        self.assertRaises(HistoryError, kept.write, batch)
        connection.execute("PRAGMA max_page_count = 100000").fetchone()
        kept.write([heard("G", groups=frozenset({"green"}))])
        kept.write([heard("B", groups=BLUE), heard("C")])
        seen = [kept.uids(asked(group, end=EPOCH)) for group in ("red", "blue", "green")]
        self.assertEqual(seen, [["C", "A"], ["B"], ["G"]])

    def test_days(self) -> None:
        """What was stored seven days ago is forgotten, in small steps, and nothing that is younger."""
        kept = Kept(self, days=7)
        kept.write([heard(str(number)) for number in range(1000)])
        kept.write([heard("B", at=DAY)], at=DAY)
        self.assertEqual(kept.write(at=7 * DAY), ((), False))
        self.assertEqual(len(kept.uids(asked("red"))), 1001)
        counts = []
        more = True
        while more:
            more = kept.write(at=7 * DAY + 1).more
            counts.append(len(kept.uids(asked("red"))))
        self.assertEqual(counts, [701, 401, 101, 1])
        self.assertEqual(kept.uids(asked("red")), ["B"])
        kept.write(at=9 * DAY)
        self.assertEqual(kept.write(at=9 * DAY), ((), False))
        self.assertEqual(kept.uids(asked("red")), [])

    def test_bytes(self) -> None:
        """The file stays within its size: the oldest events go, faster than new ones come."""
        kept = Kept(self, max_bytes=1 << 20)
        for number in range(100):
            batch = [
                heard(f"{number}-{one}", xml(f"{number}-{one}", detail=_noise(one)), at=number) for one in range(20)
            ]
            kept.write(batch, at=number)
        self.assertLess(kept.path.stat().st_size, 1.2 * (1 << 20))
        found = kept.uids(asked("red"))
        self.assertLess(len(found), 1500)
        self.assertGreater(len(found), 200)
        self.assertIn("99-19", found)
        self.assertNotIn("0-0", found)

    def test_large_after_small(self) -> None:
        """Large events do not outrun the forgetting of many small ones."""
        kept = Kept(self, max_bytes=4 << 20)
        kept.write(heard(str(number)) for number in range(12_000))
        for number in range(20):
            kept.write([heard("L", xml("L", detail=_noise(number, 1000)), at=number)], at=number)
        self.assertLess(kept.path.stat().st_size, 1.2 * (4 << 20))

    def test_large_forgotten(self) -> None:
        """Of large events no more are forgotten at once than it takes."""
        kept = Kept(self, max_bytes=4 << 20)
        for number in range(20):
            kept.write([heard(str(number), xml(str(number), detail=_noise(number, 1000)), at=number)], at=number)
        self.assertGreater(len(kept.uids(asked("red"))), 4)
        kept = Kept(self, days=7)
        kept.write(heard(str(number), xml(str(number), detail=_noise(number, 1000))) for number in range(20))
        counts = [20]
        while kept.write(at=7 * DAY + 1).more:
            counts.append(len(kept.uids(asked("red"))))
        self.assertLess(max(before - after for before, after in pairwise(counts)), 10)

    def test_always_read(self) -> None:
        """Questions that follow each other without a pause do not make the log grow for ever."""
        self.patch(history, "WAL_BYTES", 2 << 20)
        kept = Kept(self)
        kept.write([heard("A")])
        begun, go_on = Semaphore(0), Semaphore(0)

        def reading(past: Past) -> None:
            moments = past.events(asked("red"))
            next(moments)  # as long as there may be more of them SQLite is reading
            begun.release()
            go_on.acquire(timeout=PATIENCE)

        done = [kept.store.read(reading) for _ in range(20)]
        for number in range(20):
            begun.acquire(timeout=PATIENCE)
            kept.write([heard("L", xml("L", detail=_noise(number, 1000)))])
            go_on.release()
        for each in done:
            kept.clock.wait(each)
        self.assertLess(kept.path.with_name(f"{kept.path.name}-wal").stat().st_size, 5 << 20)

    def test_smaller(self) -> None:
        """Who lowers the size gets the room back from the disk, in small steps."""
        self.patch(history, "WAL_BYTES", 1 << 20)
        path = Path(self.mktemp())
        kept = Kept(self, path, max_bytes=1 << 30)
        for number in range(8):
            kept.write([heard(f"{number}-{one}", xml(f"{number}-{one}", detail=_noise(one, 50))) for one in range(50)])
        kept.close()
        self.assertGreater(path.stat().st_size, 8 << 20)
        kept = Kept(self, path, max_bytes=1 << 20)
        steps = 0
        while kept.write().more:
            steps += 1
        self.assertIn(steps, range(5, 50))
        kept.close()
        self.assertLess(path.stat().st_size, 3 << 20)
        self.assertFalse(Kept(self, path, max_bytes=1 << 20).write().more)

    def test_group_sets(self) -> None:
        """Who makes up sets of groups without end finds an end; the others' events are kept all the same."""
        self.patch(history, "MAX_GROUP_SETS", 3)
        kept = Kept(self)
        batch = [heard(str(number), groups=frozenset({str(number)})) for number in range(5)]
        written = kept.write([*batch, heard("A", groups=frozenset({"1"}))])
        self.assertEqual(len(written.unfit), 2)
        self.assertIn("sets of groups", written.unfit[0])
        self.assertEqual(sorted(kept.uids(asked(*"01234"))), ["0", "1", "2", "A"])

    def test_unfit(self) -> None:
        """An event that SQLite cannot hold does not keep the others out."""
        bad = Heard(Event("\ud800", "a-h-G", "m-g", 0, 0, 0, 0, 0, Detail(), b"<event>"), EPOCH, RED)
        kept = Kept(self)
        written = kept.write([heard("A"), bad, heard("B", groups=BLUE)])
        self.assertEqual(len(written.unfit), 1)
        self.assertEqual(sorted(kept.uids(asked("red", "blue"))), ["A", "B"])

    def test_takes_too_long(self) -> None:
        """A question that takes too long is given up, and the next one is answered."""
        kept = Kept(self, read_seconds=-1)
        kept.write([heard(str(number), at=number) for number in range(3000)])
        for way in (SqlitePast.events, SqlitePast.latest):  # while rows come, and before the first one
            error = self.assertRaises(HistoryBusy, kept.look, partial(way, query=asked("red")))
            self.assertIn("too long", str(error))
        kept.store._read_seconds = 20
        self.assertEqual(len(kept.uids(asked("red"))), 3000)

    def test_slow_at_it(self) -> None:
        """The time counts, too, that is spent on what was found: a few events may be a lot of work."""
        kept = Kept(self, read_seconds=0.5)
        kept.write([heard("A"), heard("B")])
        for way in (SqlitePast.events, SqlitePast.latest):
            seen: list[str] = []

            def reading(past: Past, way: Any = way, seen: list[str] = seen) -> list[Moment]:
                for moment in way(past, asked("red")):
                    seen.append(moment.uid)
                    sleep(0.6)
                return []

            self.assertRaises(HistoryBusy, kept.look, reading)
            self.assertEqual(len(seen), 1)

    def test_closed_meanwhile(self) -> None:
        """A question that takes long does not hold a stop up."""
        kept = Kept(self)
        kept.write([heard("A"), heard("B")])
        begun, go_on = Semaphore(0), Semaphore(0)

        def reading(past: Past) -> int:
            moments = past.events(asked("red"))
            next(moments)
            begun.release()
            go_on.acquire(timeout=PATIENCE)
            return len(list(moments))

        answer = kept.store.read(reading)
        begun.acquire(timeout=PATIENCE)
        closing, kept._closed = kept.store.close(), True
        go_on.release()
        self.assertRaises(HistoryBusy, kept.clock.wait, answer)
        kept.clock.wait(closing)


class HeightTests(SynchronousTestCase):
    def test_height(self) -> None:
        """Heights are read from the event's point; what clients say when they do not know it is no height."""
        kept = Kept(self)
        for at, (hae, height) in enumerate(
            [("101.5", 101.5), ("-3", -3.0), ("9999999.0", None), ("NaN", None), ("1e300", None), ("+.5", 0.5)]
        ):
            point = f'<point lat="1" lon="2" hae="{hae}" ce="1" le="1"/>'
            kept.write([heard("A", xml("A", point=point), at=at)])
            query = asked("red", start=EPOCH + at)
            (moment,) = kept.look(partial(SqlitePast.places, query=query))
            self.assertEqual(moment.hae, height, hae)
        self.assertIsNone(history._height(b"<event/>"))
        self.assertIsNone(history._height(b"<point hae='x'/>"))


def _noise(number: int, times: int = 1) -> str:
    """Make something that cannot be packed."""
    return f"<remarks>{Random(number).randbytes(512 * times).hex()}</remarks>"
