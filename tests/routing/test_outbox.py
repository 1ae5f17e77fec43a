from __future__ import annotations

from dataclasses import replace
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot import compose
from taky_twisted.cot.event import Event
from taky_twisted.routing import outbox
from taky_twisted.routing.outbox import CHUNK_BYTES, Outbox, OutboxOverflow
from taky_twisted.takproto.batch import Batch
from tests.samples import NOW, cancel, chat, delete, emergency, event, marker, ping, sa, xml

LIMIT = 10_000
PING = event(ping())
PINGS = 2 * len(PING.xml)


def padded(document: Event, size: int) -> Event:
    """Make an event so many bytes long."""
    missing = size - len(document.xml)
    assert missing >= 0
    padding = b" " * missing
    return event(document.xml.partition(b"\n")[2].replace(b"<detail>", b"<detail>" + padding, 1))


def item(uid: str = "ITEM", number: int = 0, size: int = 1000) -> Event:
    """Make a map item."""
    return padded(event(marker(uid, f"TGT {number}")), size)


def report(uid: str = "A", number: int = 0, size: int = 1000) -> Event:
    """Make a client's report of itself."""
    return padded(event(sa(uid, uid, now=NOW + number)), size)


def drain(outbox: Outbox) -> list[Event]:
    """Take everything."""
    events: list[Event] = []
    while (batch := outbox.take()) is not None:
        events += batch.events
    return events


def thin(outbox: Outbox) -> None:
    """Let two pings wait so long that the backlog is thinned from now on."""
    outbox.add(Batch([PING]), NOW)
    outbox.add(Batch([PING]), NOW + 5)


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.outbox = Outbox(LIMIT, 1.0)

    def add(self, *events: Event, after: float = 0.0, directed: bool = False) -> Batch:
        """Queue events in one batch."""
        batch = Batch(events, directed)
        self.outbox.add(batch, NOW + after)
        return batch

    def uids(self) -> list[str]:
        """Take everything and tell the uids."""
        return [taken.uid for taken in drain(self.outbox)]

    def test_empty(self) -> None:
        """For a reader that keeps up nothing waits."""
        self.assertFalse(self.outbox)
        self.assertIsNone(self.outbox.take())
        self.assertEqual((self.outbox.backlog, self.outbox.dropped), (0, 0))

    def test_batches_are_shared(self) -> None:
        """What waits for a moment waits whole: the very batches that others wait for, in order, nothing left out."""
        batches = [self.add(report("A", number), item(number=number)) for number in range(3)]
        self.assertTrue(self.outbox)
        self.assertEqual(self.outbox.backlog, 6000)
        for batch in batches:
            self.assertIs(self.outbox.take(), batch)
        self.assertIsNone(self.outbox.take())
        self.assertEqual((bool(self.outbox), self.outbox.backlog, self.outbox.dropped), (False, 0, 0))

    def test_thinned_above_the_limit(self) -> None:
        """A backlog is thinned when it is larger than the limit, and not a byte earlier."""
        for size, thinned in ((LIMIT - 1, False), (LIMIT, False), (LIMIT + 1, True)):
            outbox = Outbox(LIMIT, 1.0)
            outbox.add(Batch([item(number=1, size=1000)]), NOW)
            outbox.add(Batch([item(number=2, size=size - 1000)]), NOW)
            self.assertEqual(outbox.dropped, int(thinned), size)
            self.assertEqual(len(drain(outbox)), 1 if thinned else 2)

    def test_thinned_when_old(self) -> None:
        """A backlog is thinned when the oldest part has waited longer than a second, and not sooner."""
        for age, thinned in ((0.999, False), (1.0, False), (1.001, True)):
            outbox = Outbox(LIMIT, 1.0)
            outbox.add(Batch([item(number=1)]), 0)
            outbox.add(Batch([item(number=2)]), age)
            self.assertEqual(outbox.dropped, int(thinned), age)

    def test_age_is_that_of_what_still_waits(self) -> None:
        """A reader that is slow but gets on is not thinned: what it has taken does not count."""
        for tenth in range(30):
            self.add(item(number=tenth), after=tenth / 10)
            if tenth >= 5:
                self.assertIsNotNone(self.outbox.take())
        self.assertEqual(self.outbox.dropped, 0)

    def test_newest_per_uid(self) -> None:
        """Thinning keeps of each uid only what was said last, at the place where it was said last."""
        for number in range(4):
            self.add(report("A", number), after=number)
            self.add(report("B" if number % 2 else "C", number), after=number)
        self.add(report("A", 9), after=9)
        events = drain(self.outbox)
        self.assertEqual([(each.uid, each.time) for each in events], [("C", NOW + 2), ("B", NOW + 3), ("A", NOW + 9)])
        self.assertEqual(self.outbox.dropped, 6)

    def test_whole_again_after_it_was_taken(self) -> None:
        """A reader that has caught up gets everything again, also if it is full again at that very moment."""
        thin(self.outbox)
        self.assertIsNotNone(self.outbox.take())
        self.add(item(number=1), after=9)
        self.add(item(number=2), after=9)
        self.assertEqual(len(drain(self.outbox)), 2)

    def test_protected_stay(self) -> None:
        """Chat, receipts, emergencies, deletes, file offers, notices and control messages all stay, in order."""
        protected = [
            event(document)
            for number in range(3)
            for document in (
                chat("A", str(number)),
                chat("A", type_="b-t-f-d"),
                chat("A", type_="b-t-f-r"),
                chat("A", type_="b-t-f-s"),
                emergency("A", "A"),
                cancel("A", "A"),
                delete("M"),
                xml("OFFER", "b-f-t-r"),
                xml("OFFER", "b-f-t-a"),
                xml("NOTICE", "t-x-m-c"),
                xml("GROUPS", "t-x-g-c"),
            )
        ] + [compose.departure("A", "a-f-G", NOW)]
        outbox = Outbox(1 << 20, 1.0)
        for number, each in enumerate(protected):
            outbox.add(Batch([each]), NOW + number)
            outbox.add(Batch([item(number=number), report("B", number)]), NOW + number)
        events = drain(outbox)
        self.assertEqual(events[:-2], protected)
        self.assertEqual([each.uid for each in events[-2:]], ["ITEM", "B"])

    def test_directed_stay(self) -> None:
        """Everything that was for this reader in particular stays, also several events of one uid."""
        for number in range(4):
            self.add(report("A", number), after=number, directed=True)
            self.add(report("A", number), after=number)
        events = drain(self.outbox)
        self.assertEqual([each.time for each in events], [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 3])

    def test_positions_never_push_messages_out(self) -> None:
        """However many positions come, a message that waits stays."""
        thin(self.outbox)
        self.add(padded(event(chat("A")), 2000))
        for number in range(100):
            self.add(report(f"R-{number}"), after=5)
        events = drain(self.outbox)
        self.assertEqual([each.type for each in events if not each.is_self_report], ["t-x-c-t", "t-x-c-t", "b-t-f"])
        self.assertEqual(self.outbox.dropped, 90)

    def test_oldest_reports_go_first(self) -> None:
        """When too much is left the oldest reports of clients go, and no marker does, up to the limit exactly."""
        thin(self.outbox)
        for number in range(4):
            self.add(item(f"M-{number}"), after=5)
            self.add(report(f"R-{number}"), after=5)
        self.add(report("R-0", 1), after=5)  # is the newest now
        self.add(item("M-4"), item("M-5"), after=5)
        self.assertEqual(self.outbox.backlog, LIMIT + PINGS)
        self.assertEqual(self.outbox.dropped, 1)
        self.add(item("M-6", size=1001), after=5)
        self.assertEqual(self.outbox.dropped, 3)
        taken = self.uids()[2:]
        self.assertEqual(taken, ["M-0", "M-1", "M-2", "M-3", "R-3", "R-0", "M-4", "M-5", "M-6"])

    def test_report_that_became_an_item(self) -> None:
        """What is not a report any more is not dropped like one."""
        thin(self.outbox)
        self.add(report("X"), after=5)
        self.add(item("X"), after=5)
        for number in range(9):
            self.add(item(f"M-{number}"), after=5)
        self.assertRaises(OutboxOverflow, self.add, item("M-9"), after=5)

    def test_overflow_of_items(self) -> None:
        """A marker is never dropped in silence: when there are too many the reader must be closed."""
        thin(self.outbox)
        for number in range(10):
            self.add(item(f"M-{number}"), after=5)
        error = self.assertRaises(OutboxOverflow, self.add, item("M-10"), after=5)
        self.assertIn("map items", str(error))
        self.assertEqual(len(self.outbox.unsent()), 13, "and what was said is still known")

    def test_overflow_of_messages(self) -> None:
        """Nor is a message: one byte too many, and the reader must be closed."""
        thin(self.outbox)
        size = LIMIT - PINGS
        self.add(padded(event(chat("A")), size), after=5)
        error = self.assertRaises(OutboxOverflow, self.add, PING, after=5)
        self.assertIn("messages", str(error))

    def test_one_event_larger_than_the_limit(self) -> None:
        """One item that alone is too large closes a slow reader, and one report that is goes itself."""
        self.add(report(size=LIMIT + 1))
        self.assertEqual((self.outbox.backlog, self.outbox.dropped), (0, 1))
        self.assertFalse(self.outbox)
        self.assertRaises(OutboxOverflow, self.add, item(size=LIMIT + 1))

    def test_pieces(self) -> None:
        """What was thinned is handed over in pieces of a size at which a transport says that it is full."""
        outbox = Outbox(1 << 20, 1.0)
        outbox.add(Batch([item(f"M-{number}") for number in range(200)]), NOW)
        outbox.add(Batch([item("LAST")]), NOW + 2)
        taken = []
        while (batch := outbox.take()) is not None:
            self.assertLess(len(batch), CHUNK_BYTES + 1000)
            self.assertFalse(batch.directed)
            taken += [each.uid for each in batch.events]
        self.assertEqual(taken, [*(f"M-{number}" for number in range(200)), "LAST"])

    def test_thinned_while_it_is_taken(self) -> None:
        """What is said while a thinned backlog is handed over still takes the place of what it makes old."""
        thin(self.outbox)
        self.add(item("M", 1), after=5)
        self.add(item("N", 1), after=5)
        self.add(item("M", 2), after=5)
        self.assertEqual(self.uids(), ["A-ping", "A-ping", "N", "M"])

    def test_replay_comes_last(self) -> None:
        """What a newcomer is shown comes after what is said meanwhile, in its order, with its departures."""
        sa_b, gone = report("B"), compose.departure("B", "a-f-G", NOW)
        self.outbox.replay([("B", (sa_b, gone)), ("M", (item("M"),))])
        self.assertTrue(self.outbox)
        self.assertEqual(self.outbox.backlog, 0)
        self.add(event(chat("A")))
        events = drain(self.outbox)
        self.assertEqual([each.type for each in events], ["b-t-f", "a-f-G-U-C", "t-x-d-d", "a-h-G"])

    def test_replay_in_pieces(self) -> None:
        """A newcomer is shown a full map in pieces."""
        self.outbox.replay((f"M-{number}", (item(f"M-{number}"),)) for number in range(200))
        sizes = []
        while (batch := self.outbox.take()) is not None:
            sizes.append(len(batch))
        self.assertEqual(sum(sizes), 200_000)
        self.assertLess(max(sizes), CHUNK_BYTES + 1000)

    def test_replay_is_superseded(self) -> None:
        """What is said about a uid meanwhile replaces what a newcomer was to be shown of it, and so does a delete."""
        self.outbox.replay((uid, (item(uid),)) for uid in ("M", "N", "O"))
        self.add(item("M", 2))
        self.add(event(delete("N")))
        events = drain(self.outbox)
        self.assertEqual([each.uid for each in events], ["M", "delete-N", "O"])

    def test_replay_is_superseded_while_thinned(self) -> None:
        """So it is when the reader is slow besides."""
        thin(self.outbox)
        self.outbox.replay((uid, (item(uid),)) for uid in ("M", "N", "O"))
        self.add(item("M", 2), event(delete("N")), after=5)
        self.assertEqual(self.uids(), ["A-ping", "A-ping", "M", "delete-N", "O"])

    def test_memory_of_what_is_superseded(self) -> None:
        """A newcomer that never catches up costs bounded memory, and is told what it would have been told."""
        self.patch(outbox, "MAX_SUPERSEDED", 10)
        thin(self.outbox)
        self.outbox.replay((uid, (item(uid),)) for uid in ("M", "N", "O", "P"))
        self.add(item("M", 2), after=5)
        for number in range(100):
            self.add(report(f"R-{number}", size=600), after=5)
            self.assertLessEqual(max(len(said) for _, said in self.outbox._replays), 10)
            if number == 50:
                self.add(event(delete("N")), after=5)
        told = [uid for uid in self.uids() if not uid.startswith("R-")]
        self.assertEqual(told, ["A-ping", "A-ping", "M", "delete-N", "O", "P"])

    def test_told_again(self) -> None:
        """What was said before somebody is told anew keeps nothing from it."""
        self.outbox.replay([("M", (item("M"),))])
        self.add(item("M", 2))
        drain(self.outbox)
        for empty in (lambda: self.assertFalse(self.outbox), self.outbox.unsent, self.outbox.keep_directed):
            empty()
            self.outbox.replay([("M", (item("M"),))])
            self.assertEqual(self.uids(), ["M"])
            self.outbox.replay([])
            self.add(item("M", 2))

    def test_told_again_while_it_is_told(self) -> None:
        """Nor does it if the first telling is not at its end yet: a client forgets its map when its groups change."""
        for slow in (False, True):
            self.outbox = Outbox(LIMIT, 1.0)
            if slow:
                thin(self.outbox)
            self.outbox.replay((uid, (item(uid),)) for uid in ("M", "N", "O"))
            self.add(item("M", 2), after=5)
            self.outbox.replay((uid, (item(uid, 3),)) for uid in ("M", "N", "O"))
            self.add(item("N", 4), after=5)
            told = [uid for uid in self.uids() if uid != "A-ping"]
            self.assertEqual(told, ["M", "N", "O", "M", "O"])
            self.assertFalse(self.outbox)

    def test_asked_again(self) -> None:
        """Nor what was said since somebody asked first, if it asks again before it was told anything."""
        entries = iter([(uid, (item(uid),)) for uid in ("M", "N")])
        for number in range(1000):
            self.outbox.replay(entries)
            self.assertEqual(len(self.outbox._replays), 1)
            if not number:
                self.add(item("M", 2))
        self.add(item("N", 2))
        self.assertEqual(self.uids(), ["M", "N", "M"])

    def test_told_again_and_again(self) -> None:
        """However often somebody is told anew just before it was told all, it is told everything, in pieces."""
        big, told = item(size=CHUNK_BYTES // 2), 0
        for _ in range(10_000):
            self.outbox.replay((uid, (big,)) for uid in ("M", "N"))
            batch = self.outbox.take()
            assert batch is not None
            told += len(batch.events)
            self.assertLessEqual(len(self.outbox._replays), 1)
        self.assertEqual((told, self.outbox.take(), bool(self.outbox)), (20_000, None, False))

    def test_unsent(self) -> None:
        """When the reader is gone everything that was said and not taken is there once, but not what it was shown."""
        self.outbox.replay([("M", (item("M"),))])
        self.add(report("A"))
        self.add(event(chat("A")), directed=True)
        self.assertEqual([each.uid for each in self.outbox.unsent()], ["A", "GeoChat.A.All Chat Rooms.m-1"])
        self.assertEqual((self.outbox.unsent(), bool(self.outbox), self.outbox.backlog), ([], False, 0))

    def test_unsent_when_thinned(self) -> None:
        """The same when it was thinned, and what comes afterwards is counted from nothing."""
        thin(self.outbox)
        self.add(event(chat("A")), report("R"), after=5)
        self.assertEqual([each.type for each in self.outbox.unsent()], ["t-x-c-t", "t-x-c-t", "b-t-f", "a-f-G-U-C"])
        self.assertEqual((bool(self.outbox), self.outbox.backlog), (False, 0))
        for number in range(10):
            self.add(item(number=number), after=5)
        self.assertEqual(self.outbox.dropped, 0)

    def test_keep_directed(self) -> None:
        """Before a connection is closed only messages are still sent, in order."""
        self.outbox.replay([("M", (item("M"),))])
        self.add(report("A"), event(chat("A", number=1)))
        self.add(item("B"), directed=True)
        self.outbox.keep_directed()
        self.assertEqual(self.outbox.backlog, 1000 + len(event(chat("A", number=1)).xml))
        self.assertEqual(self.uids(), ["GeoChat.A.All Chat Rooms.m-1", "B"])
        self.assertEqual(self.outbox.backlog, 0)

    def test_keep_directed_of_what_was_thinned(self) -> None:
        """The same when it was thinned before, and nothing is left of what was only a position."""
        thin(self.outbox)
        self.add(report("A"), item("M"), after=5)
        self.outbox.keep_directed()
        self.assertEqual(self.uids(), ["A-ping", "A-ping"])
        self.outbox.keep_directed()
        self.assertFalse(self.outbox)

    def test_reports_dropped_by_keep_directed_are_forgotten(self) -> None:
        """What goes on being said while a connection closes is bounded as before."""
        thin(self.outbox)
        self.add(report("A"), after=5)
        self.outbox.keep_directed()
        for number in range(20):
            self.add(report(f"R-{number}"), after=6)
        self.assertLessEqual(self.outbox.backlog, LIMIT + PINGS)
        self.assertEqual(self.outbox.dropped, 10)


SMALL = 4000
EVENTS = {
    (kind, uid): made
    for uid in "ABC"
    for kind, made in (
        ("report", report(uid, size=700)),
        ("item", item(f"M-{uid}", size=800)),
        ("chat", padded(event(chat(uid)), 900)),
    )
}
CHOSEN = st.lists(st.sampled_from(sorted(EVENTS)), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), CHOSEN, st.floats(0, 0.9)),
        st.tuples(st.just("direct"), CHOSEN, st.floats(0, 0.9)),
        st.tuples(st.just("replay"), CHOSEN, st.just(0.0)),
        st.tuples(st.just("take"), st.just([("item", "A")]), st.just(0.0)),
    ),
    max_size=60,
)


class Owed:
    """What a reader is owed, kept as simply as can be."""

    def __init__(self) -> None:
        self.messages: list[Event] = []
        self.positions: list[Event] = []
        self.shown: dict[str, Event] = {}

    @property
    def newest_items(self) -> list[Event]:
        """The markers of which the reader does not have the newest state."""
        newest = {each.uid: each for each in self.positions}
        return [each for each in newest.values() if not each.is_self_report]

    def took(self, each: Event) -> None:
        """Note what the reader got; it may skip positions of the same uid, and nothing else."""
        if self.messages and each is self.messages[0]:
            del self.messages[0]
        elif self.shown.get(each.uid) is each:
            del self.shown[each.uid]
        else:
            self.positions.remove(each)
            self.positions = [other for other in self.positions if other.uid != each.uid or other.start > each.start]


class OutboxModelTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(STEPS)
    def test_whatever_is_said_and_taken(self, steps: list[tuple[str, list[tuple[str, str]], float]]) -> None:
        """Messages come all and in order, of each item the newest comes, nothing twice, and memory is bounded."""
        outbox, owed, now, said, taken = Outbox(SMALL, 1.0), Owed(), NOW, 0, 0
        replayed, serial = False, count()
        for what, chosen, seconds in steps:
            now += seconds
            events = [replace(EVENTS[key], start=float(next(serial))) for key in chosen]
            if what == "replay" and replayed:
                continue  # a newcomer is told once
            if what == "take":
                batch = outbox.take()
                for each in batch.events if batch is not None else ():
                    owed.took(each)
                    taken += 1
                continue
            said += len(events)
            if what == "replay":
                replayed = True
                shown = {each.uid: each for each in events}
                outbox.replay((uid, (each,)) for uid, each in list(shown.items()))
                owed.shown = shown
                said += len(shown) - len(events)
                continue
            directed = what == "direct"
            for each in events:
                said -= owed.shown.pop(each.uid, None) is not None
                (owed.messages if directed or each.type == "b-t-f" else owed.positions).append(each)
            try:
                outbox.add(Batch(events, directed), now)
            except OutboxOverflow:
                left = outbox.unsent()
                self.assertEqual([each for each in left if each in owed.messages], owed.messages)
                self.assertEqual([each for each in owed.newest_items if each not in left], [])
                break
            self.assertLessEqual(outbox.backlog, 2 * SMALL)
        else:
            for each in drain(outbox):
                owed.took(each)
                taken += 1
            self.assertEqual((owed.messages, owed.newest_items, owed.shown), ([], [], {}))
            self.assertEqual(said - taken, outbox.dropped)
        self.assertEqual((outbox.backlog, bool(outbox), outbox.take()), (0, False, None))
