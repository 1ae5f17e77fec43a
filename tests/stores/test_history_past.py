from __future__ import annotations

import sqlite3
from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.history.records import Box, Query
from taky_twisted.stores.history_past import SqlitePast
from tests.samples import chat, marker, xml
from tests.stores.history_samples import BLUE, Kept, asked, heard
from tests.threaded_clock import EPOCH


def there(uid: str, lat: float, lon: float) -> bytes:
    """Spell a position."""
    return xml(uid, "a-f-G", point=f'<point lat="{lat}" lon="{lon}" hae="0" ce="1" le="1"/>')


class WhoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.kept = Kept(self)

    def everything(self, query: Query) -> list[set[str]]:
        """Ask the same in every way."""
        looks = (
            self.kept.look(lambda past: past.events(query)),
            self.kept.look(lambda past: past.latest(query)),
            self.kept.look(lambda past: past.places(query)),
        )
        return [{moment.uid for moment in moments} for moments in looks]

    def test_groups(self) -> None:
        """Whoever asks sees what was said to a group that he hears, in every way of asking, and nothing else."""
        both = frozenset({"red", "blue"})
        self.kept.write([heard("R"), heard("B", groups=BLUE), heard("RB", groups=both)])
        for groups, seen in (((), set()), (("red",), {"R", "RB"}), (("blue",), {"B", "RB"}), (("green",), set())):
            self.assertEqual(self.everything(asked(*groups)), [seen] * 3)
            self.assertEqual(self.everything(asked(*groups, uids=("R", "B", "RB"))), [seen] * 3)

    def test_private(self) -> None:
        """What was directed to somebody is shown to its sender and its recipients alone, not to others of the group."""
        self.kept.write(
            [
                heard("P", readers=("alice", "bob")),
                heard("N", readers=()),
                heard("Q", readers=('o"brien', "%", "al")),
            ]
        )
        for reader, seen in (("alice", {"P"}), ("bob", {"P"}), ("carol", set()), ("al", {"Q"}), ('o"brien', {"Q"})):
            self.assertEqual(self.everything(asked("red", reader=reader)), [seen] * 3, reader)
            self.assertEqual(self.everything(asked("blue", reader=reader)), [set()] * 3, reader)
        for stranger in (None, "", "null", "[]", "P"):
            self.assertEqual(self.everything(asked("red", reader=stranger)), [set()] * 3, stranger)


class WhatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.kept = Kept(self)

    def test_times(self) -> None:
        """Both ends of a time belong to it."""
        self.kept.write([heard(str(at), at=at) for at in range(5)])
        self.assertEqual(self.kept.uids(asked("red", start=EPOCH + 1, end=EPOCH + 3)), ["3", "2", "1"])
        self.assertEqual(self.kept.uids(asked("red", start=EPOCH + 3.001)), ["4"])
        self.assertEqual(self.kept.uids(asked("red", start=EPOCH + 3, end=EPOCH + 2)), [])

    def test_limit(self) -> None:
        """If there is more than was asked for, it is the newest that is shown."""
        self.kept.write([heard(str(at), at=at) for at in range(5)])
        self.assertEqual(self.kept.uids(asked("red", limit=2)), ["4", "3"])
        places = self.kept.look(lambda past: past.places(asked("red", limit=2)))
        self.assertEqual([moment.uid for moment in places], ["3", "4"])
        latest = self.kept.look(lambda past: past.latest(asked("red", limit=2)))
        self.assertEqual([moment.uid for moment in latest], ["4", "3"])

    def test_types(self) -> None:
        """Types go by their beginning, to the letter."""
        self.kept.write(
            [heard("A"), heard("M", marker("M"), at=1), heard("C", chat("A"), at=2), heard("%", xml("%", "a-%"), at=3)]
        )
        chat_uid = "GeoChat.A.All Chat Rooms.m-1"
        for types, without, uids in (
            (("a-f",), (), ["A"]),
            (("a-",), (), ["%", "M", "A"]),
            (("a-h", "b-"), (), [chat_uid, "M"]),
            ((), ("a-",), [chat_uid]),
            (("a-",), ("a-h", "a-f"), ["%"]),
            (("a-%",), (), ["%"]),
            (("A-f",), (), []),
        ):
            self.assertEqual(self.kept.uids(asked("red", types=types, without=without)), uids, (types, without))

    def test_latest(self) -> None:
        """Of each uid the newest event is shown, in its whole, newest first."""
        self.kept.write([heard("A", at=0, callsign="OLD"), heard("B", at=1), heard("A", at=2, callsign="NEW")])
        found = self.kept.look(lambda past: past.latest(asked("red")))
        self.assertEqual([(moment.uid, moment.callsign) for moment in found], [("A", "NEW"), ("B", "ALPHA")])
        self.assertIn(b'callsign="NEW"', found[0].xml)
        found = self.kept.look(lambda past: past.latest(asked("red", end=EPOCH + 1)))
        self.assertEqual([(moment.uid, moment.callsign) for moment in found], [("B", "ALPHA"), ("A", "OLD")])

    def test_latest_of_some(self) -> None:
        """Uids that are asked for by name come in that order; unknown ones are left out."""
        self.kept.write([heard("A", at=0, callsign="OLD"), heard("B", at=1), heard("A", at=2, callsign="NEW")])
        found = self.kept.look(lambda past: past.latest(asked("red", uids=("B", "X", "A"))))
        self.assertEqual([(moment.uid, moment.callsign) for moment in found], [("B", "ALPHA"), ("A", "NEW")])

    def test_heard_at_once(self) -> None:
        """Of two events of one moment the one that was stored later is the newest."""
        self.kept.write([heard("A", callsign="FIRST"), heard("A", callsign="SECOND")])
        found = self.kept.look(lambda past: past.events(asked("red", uids=("A",), limit=1)))
        self.assertEqual([moment.callsign for moment in found], ["SECOND"])

    def test_box(self) -> None:
        """Of a part of the map those are shown who are in it now, not who has been."""
        self.kept.write([heard("A", there("A", 10, 20)), heard("B", there("B", 10, 20))])
        self.kept.write([heard("B", there("B", 50, 20), at=1), heard("C", there("C", -10, -179), at=1)])
        for box, seen in (
            (Box(19, 9, 21, 11), {"A"}),
            (Box(20, 10, 20, 10), {"A"}),
            (Box(-180, -90, 180, 90), {"A", "B", "C"}),
            (Box(170, -20, -170, 20), {"C"}),
            (Box(21, 9, 19, 11), set()),
        ):
            found = self.kept.look(lambda past, box=box: past.latest(asked("red", box=box)))  # type: ignore[misc]
            self.assertEqual({moment.uid for moment in found}, seen, box)

    def test_places(self) -> None:
        """Places come by uid and then in the order of time, whatever the order in which they were stored."""
        self.kept.write([heard("B", at=2), heard("A", at=3), heard("B", at=1), heard("A", at=4)])
        found = self.kept.look(lambda past: past.places(asked("red")))
        self.assertEqual([(m.uid, m.time - EPOCH) for m in found], [("A", 3), ("A", 4), ("B", 1), ("B", 2)])
        self.assertEqual({moment.xml for moment in found}, {b""})

    def test_hard_texts(self) -> None:
        """Uids are only texts, whatever they look like."""
        uids = ("it's; DROP TABLE event; --", ":limit", "%", "\0", "Ünï-猫-😀", "")
        self.kept.write([heard(uid, marker("M")) for uid in uids])
        self.kept.write([heard("M", marker("M"))])
        for uid in uids:
            self.assertEqual(self.kept.uids(asked("red", uids=(uid,))), [])
        self.assertEqual(len(self.kept.uids(asked("red", uids=("M",)))), 7)

    def test_indexes(self) -> None:
        """A question about a few seconds or one uid goes through an index, however much there is."""
        self.kept.write([heard()])
        with closing(sqlite3.connect(self.kept.path)) as connection:
            for query, index in (
                (asked("red", start=EPOCH, end=EPOCH + 5), "event_time (time>? AND time<?)"),
                (asked("red", start=EPOCH, end=EPOCH, uids=("A",)), "event_uid (uid=?"),
            ):
                seen: list[str] = []
                connection.set_trace_callback(seen.append)
                past = SqlitePast(connection, lambda: False)
                list(past.events(query))
                list(past.latest(query))
                list(past.places(query))
                connection.set_trace_callback(None)
                for statement in (one for one in seen if "INDEXED" in one):
                    plan = str(connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall())
                    self.assertIn(index, plan)
                    self.assertNotIn("SCAN event", plan)
