from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import Event
from taky_twisted.history import keeper
from taky_twisted.history.keeper import CLOSE_SECONDS, FORGET_SECONDS, History
from taky_twisted.history.records import Heard, HistoryBusy, HistoryError, Past, Written
from taky_twisted.identity.principal import Principal
from taky_twisted.interfaces import HistoryStore, Witness
from taky_twisted.routing.records import Groups
from tests.fakes import LogLines, Site, principal
from tests.samples import NOW, chat, delete, emergency, event, marker, sa, to, xml

T = TypeVar("T")
ANON = frozenset({"__ANON__"})
FULL = HistoryError("the disk is full", "Make room.")


class MemoryHistory:
    """A store whose batches are written when the test says so."""

    def __init__(self) -> None:
        self.kept: list[Heard] = []
        self.batches: list[list[Heard]] = []
        self.answer: Callable[[], Deferred[Written]] = lambda: succeed(Written())
        self.reads: list[Deferred[None]] = []
        self.closed = 0

    def write(self, batch: Sequence[Heard], now: float) -> Deferred[Written]:
        self.batches.append(list(batch))
        return self.answer().addCallback(self._keep, batch)

    def _keep(self, written: Written, batch: Sequence[Heard]) -> Written:
        self.kept += batch
        return written

    def read(self, reading: Callable[[Past], T]) -> Deferred[T]:
        turn: Deferred[None] = Deferred()
        self.reads.append(turn)

        def read(_: None) -> T:
            return reading(cast(Past, self))

        return turn.addCallback(read)

    def close(self) -> Deferred[None]:
        self.closed += 1
        return succeed(None)


class HistoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = LogLines(self)
        self.site = Site()
        self.clock: Clock = self.site.clock
        self.store = MemoryHistory()
        store: HistoryStore = self.store
        self.history = History(self.clock, store, self.site.router.contacts, "the disk")
        witness: Witness = self.history
        self.site.router.witness = witness

    def start(self) -> None:
        """Begin, without what is written then."""
        self.history.start()
        self.addCleanup(self.stop)
        self.store.batches.clear()

    def stop(self) -> None:
        """End, and leave nothing that is still to be done."""
        self.history.stop()
        self.clock.advance(CLOSE_SECONDS)
        self.assertEqual([str(call) for call in self.clock.getDelayedCalls() if "history" in str(call)], [])

    def hear(
        self,
        document: bytes | Event,
        groups: Groups = ANON,
        who: Principal | None = None,
    ) -> None:
        """Let it hear something now."""
        source, _ = self.site.subscribe(who or principal("alice"))
        said = document if isinstance(document, Event) else event(document)
        self.history.heard(said, groups, source, self.clock.seconds())

    def kept(self) -> list[str]:
        """Read the uids of what is kept by now."""
        self.clock.advance(keeper.WRITE_SECONDS)
        uids = [heard.event.uid for heard in self.store.kept]
        self.store.kept.clear()
        return uids


class KeepingTests(HistoryTests):
    def test_what(self) -> None:
        """Chat, emergencies and items are kept as they were heard; control messages, receipts and offers are not."""
        self.start()
        documents = [
            marker("M"),
            chat("A"),
            emergency("A", "ALPHA"),
            xml("R", "b-m-r"),
            xml("D", "u-d-f"),
            xml("Y", "y"),
        ]
        for document in documents:
            self.hear(document)
        for type_ in ("t-x-c-t", "t-x-d-d", "t-x-m-c", "b-t-f-d", "b-t-f-r", "b-t-f-s", "b-f-t-r", "b-f-t-a"):
            self.hear(xml("X", type_))
        self.clock.advance(keeper.WRITE_SECONDS)
        self.assertEqual([heard.event.xml for heard in self.store.kept], [event(one).xml for one in documents])
        self.assertEqual({(heard.time, heard.groups, heard.readers) for heard in self.store.kept}, {(NOW, ANON, None)})

    def test_positions(self) -> None:
        """Of everybody one position in five seconds is kept, the first."""
        self.start()
        for number in range(81):
            self.hear(sa("A", str(number)))
            self.hear(sa("B", str(number)))
            self.clock.advance(0.125)
        self.clock.advance(1)
        said = [(heard.event.uid, heard.event.detail.callsign) for heard in self.store.kept]
        self.assertEqual(sorted(said), [("A", "0"), ("A", "40"), ("A", "80"), ("B", "0"), ("B", "40"), ("B", "80")])

    def test_items_are_whole(self) -> None:
        """A marker that somebody put on the map is no position: each of its changes is kept."""
        self.start()
        for _ in range(3):
            self.hear(marker("M"))
            self.hear(xml("N", "b-m-p-s-m"))
        self.assertEqual(self.kept(), ["M", "N"] * 3)

    def test_nobody_keeps_others_out(self) -> None:
        """Whoever says positions of somebody else's uid, or to other groups, does not take that one's place."""
        self.start()
        self.hear(sa("A", "FALSE"), who=principal("mallory"))
        self.hear(sa("A", "TRUE"), who=principal("alice"))
        self.hear(sa("A", "TRUE"), groups=frozenset({"red"}), who=principal("alice"))
        self.hear(sa("A", "TRUE", marti=to("BRAVO")), who=principal("alice"))
        self.assertEqual(self.kept(), ["A"] * 4)

    def test_clock_goes_back(self) -> None:
        """Positions are kept also after the server's clock was set back."""
        self.start()
        self.hear(sa("A", "A"))
        self.clock.rightNow -= 3600
        self.hear(sa("A", "A"))
        self.clock.advance(3600)  # what was scheduled before waits for that long
        self.assertEqual(self.kept(), ["A", "A"])

    def test_many_uids(self) -> None:
        """Inventing uids does not fill the memory; who was seen longest ago is forgotten first."""
        self.patch(keeper, "MAX_POSITIONS", 3)
        self.start()
        for uid in "ABCDBCDA":
            self.hear(sa(uid, uid))
        self.assertEqual(self.kept(), ["A", "B", "C", "D", "A"])
        self.assertEqual(len(self.history._positions), 3)

    def test_private(self) -> None:
        """What is directed to somebody is kept for its sender and for who is proved to be a recipient."""
        self.start()
        self.site.join("B", "BRAVO", principal("bob"))
        self.site.join("C", "CHARLIE", principal("carol"))
        self.site.join("D", "DELTA")
        self.kept()
        for destinations in (
            to("BRAVO"),
            '<dest uid="B"/>',
            to("BRAVO", "charlie", "NOBODY"),
            to("DELTA"),
            '<dest uid="X"/>',
        ):
            self.hear(chat("A", marti=destinations))
        self.clock.advance(1)
        readers = [heard.readers for heard in self.store.kept]
        self.assertEqual(readers, [("alice", "bob")] * 2 + [("alice", "bob", "carol"), ("alice",), ("alice",)])

    def test_private_to_nobody(self) -> None:
        """What nobody could ever be shown is not kept at all."""
        self.start()
        self.site.join("D", "DELTA")
        self.kept()
        self.hear(chat("A", marti=to("DELTA")), who=Principal())
        self.assertEqual(self.kept(), [])

    def test_not_running(self) -> None:
        """Before it starts and after it stopped nothing is kept, and nothing goes wrong."""
        self.hear(marker())
        self.start()
        self.successResultOf(self.history.stop())
        self.successResultOf(self.history.stop())
        self.hear(marker())
        self.assertEqual(self.kept(), [])
        self.assertEqual(self.store.closed, 1)


class RouterTests(HistoryTests):
    """What the router tells history."""

    def test_said(self) -> None:
        """What clients say is kept once each, and what the server says itself is not."""
        self.start()
        alice = self.site.join("A", "ALPHA", principal("alice"))
        alice.say(marker("M"), delete("M"), emergency("A", "ALPHA"))
        alice.leave()
        self.site.pass_time(60)
        uids = self.kept()
        self.assertEqual(uids, ["A", "M", "A-9-1-1"])

    def test_not_routed(self) -> None:
        """What is not passed on is not kept: other people's groups, and who is incognito."""
        self.start()
        alice = self.site.join("A", "ALPHA", principal("alice"))
        self.kept()
        alice.say(marker("G", marti='<dest group="secret"/>'), xml("I", "t-x-c-i-e"), marker("INCOGNITO"))
        self.assertEqual(self.kept(), [])

    def test_named_chat(self) -> None:
        """A chat that is private only because of the members that it names is kept as private too."""
        self.start()
        alice = self.site.join("A", "ALPHA", principal("alice"))
        self.site.join("B", "BRAVO", principal("bob"))
        self.kept()
        alice.say(chat("A", room="BRAVO", id_="B", uids=("B",)))
        self.clock.advance(1)
        ((_, _, groups, readers),) = self.store.kept
        self.assertEqual((groups, readers), (ANON, ("alice", "bob")))
        self.store.kept.clear()
        alice.say(chat("A"))
        self.clock.advance(1)
        self.assertIsNone(self.store.kept[0].readers)

    def test_groups(self) -> None:
        """What was said to a part of the sender's groups is kept with that part."""
        self.start()
        alice = self.site.connect(principal("alice", ["red", "blue"], ["red"]))
        alice.say(marker("M"), marker("N", marti='<dest group="red"/>'))
        self.clock.advance(1)
        groups = [heard.groups for heard in self.store.kept]
        self.assertEqual(groups, [{"red", "blue"}, {"red"}])

    def test_no_witness(self) -> None:
        """A router without history routes."""
        self.site.router.witness = None
        listener = self.site.join("B")
        self.site.join("A").say(marker("M"))
        self.assertIn("M", listener.uids())


class WritingTests(HistoryTests):
    def test_batches(self) -> None:
        """What is heard in a quarter of a second is written at once, and nothing is written while nothing is said."""
        self.start()
        for uid in "AB":
            self.assertEqual(self.store.batches, [])
            self.hear(marker(uid))
            self.clock.advance(0.125)
        self.assertEqual([len(batch) for batch in self.store.batches], [2])
        self.clock.advance(1)
        self.assertEqual(len(self.store.batches), 1)

    def test_one_at_a_time(self) -> None:
        """While a batch is written the next one collects."""
        self.start()
        writing: Deferred[Written] = Deferred()
        self.store.answer = lambda: writing
        self.hear(marker("A"))
        self.clock.advance(1)
        for uid in "BC":
            self.hear(marker(uid))
            self.clock.advance(1)
        self.assertEqual(len(self.store.batches), 1)
        self.store.answer = lambda: succeed(Written())
        writing.callback(Written())
        self.assertEqual(self.kept(), ["A", "B", "C"])
        self.assertEqual(len(self.store.batches), 2)

    def test_forgetting(self) -> None:
        """What is old is forgotten also while nothing is said, and as long as there is more of it."""
        self.start()
        self.clock.advance(FORGET_SECONDS)
        self.assertEqual(self.store.batches, [[]])
        self.store.answer = lambda: succeed(Written(more=True))
        self.clock.advance(FORGET_SECONDS)
        self.clock.pump([keeper.WRITE_SECONDS] * 3)
        self.assertEqual(self.store.batches, [[]] * 5)
        self.store.answer = lambda: succeed(Written())
        self.clock.pump([keeper.WRITE_SECONDS] * 3)
        self.assertEqual(self.store.batches, [[]] * 6)
        self.hear(marker())
        self.clock.advance(0.1)
        self.history._wake()  # a batch is due anyway
        self.assertEqual(self.store.batches, [[]] * 6)

    def test_trouble(self) -> None:
        """While the disk is full nothing is lost that fits in memory; beginning and end are in the log, once each."""
        self.start()
        self.store.answer = lambda: fail(FULL)
        for uid in "ABC":
            self.hear(marker(uid))
            self.clock.advance(10)
        (line,) = self.lines(LogLevel.warn)
        self.assertIn("cannot keep all of history in the disk: the disk is full.", line)
        self.assertIn("Make room.", line)
        self.store.answer = lambda: succeed(Written())
        self.clock.advance(5)
        self.assertEqual(self.kept(), ["A", "B", "C"])
        self.hear(marker("D"))
        self.clock.advance(5)
        self.assertEqual(self.lines(LogLevel.info)[-1], "history is kept again; 0 events were left out")
        self.assertEqual(len(self.lines(LogLevel.warn)), 1)
        self.assertEqual(self.history._queued, 0)

    def test_too_much(self) -> None:
        """What does not fit in memory is left out, counted, and the rest goes on."""
        self.patch(keeper, "QUEUE_BYTES", 3 * (keeper.ENTRY_BYTES + len(event(marker("0")).xml)))
        self.start()
        writing: Deferred[Written] = Deferred()
        self.store.answer = lambda: writing
        for number in range(10):
            self.hear(marker(str(number)))
            self.clock.advance(1)
        (line,) = self.lines(LogLevel.warn)
        self.assertIn("the disk is too slow", line)
        self.store.answer = lambda: succeed(Written())
        writing.callback(Written())
        self.assertEqual(self.kept(), ["0", "1", "2"])
        self.assertEqual(len(self.lines(LogLevel.info)), 0)  # it is too early to say that all is well
        self.clock.advance(keeper.CALM_SECONDS)
        self.hear(marker("A"))
        self.assertEqual(self.kept(), ["A"])
        self.assertEqual(self.lines(LogLevel.info)[-1], "history is kept again; 7 events were left out")

    def test_clock_set_back(self) -> None:
        """Trouble is over when it is, also if somebody has set the clock back by hours meanwhile."""
        self.start()
        self.store.answer = lambda: fail(FULL)
        self.hear(marker("A"))
        self.clock.advance(keeper.WRITE_SECONDS)
        self.assertIn("the disk is full", self.history.trouble)
        self.store.answer = lambda: succeed(Written())
        self.clock.rightNow -= 7200
        self.history._flush()
        self.assertEqual(self.history.trouble, "")

    def test_large_event(self) -> None:
        """An event that is larger than all that may wait is taken when nothing waits."""
        self.patch(keeper, "QUEUE_BYTES", 100)
        self.start()
        self.hear(marker("A"))
        self.assertEqual(self.kept(), ["A"])

    def test_unfit(self) -> None:
        """What the store cannot keep is counted as left out."""
        self.start()
        self.store.answer = lambda: succeed(Written(unfit=("'a-h-G' 'A': too odd",)))
        self.hear(marker("A"))
        self.clock.advance(1)
        (line,) = self.lines(LogLevel.warn)
        self.assertIn("'A': too odd", line)

    def test_bug(self) -> None:
        """A batch that brings out a bug is given up, so that it does not stop history for ever."""
        self.start()
        self.store.answer = lambda: fail(ZeroDivisionError("a bug"))
        self.hear(marker("A"))
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.store.answer = lambda: succeed(Written())
        self.hear(marker("B"))
        self.clock.advance(5)
        self.assertEqual(self.kept(), ["B"])

    def test_start_says_what_is_wrong(self) -> None:
        """A file that cannot be used is told of when the server starts, and tried again."""
        self.store.answer = lambda: fail(FULL)
        self.start()
        self.assertEqual(len(self.lines(LogLevel.warn)), 1)


class ReadingTests(HistoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    def read(self) -> Deferred[list[str]]:
        """Look up all uids."""
        return self.history.read(lambda past: [heard.event.uid for heard in past.kept])  # type: ignore[attr-defined]

    def test_moment_ago(self) -> None:
        """What was heard just now is found, also what is said while something is written."""
        self.hear(marker("A"))
        answer = self.read()
        self.store.reads.pop().callback(None)
        self.assertEqual(self.successResultOf(answer), ["A"])
        writing: Deferred[Written] = Deferred()
        self.store.answer = lambda: writing
        self.hear(marker("B"))
        self.clock.advance(1)
        behind = self.read()
        self.hear(marker("C"))
        answer = self.read()
        self.assertEqual(self.store.reads, [])
        self.store.answer = lambda: succeed(Written())
        writing.callback(Written())
        for read in self.store.reads:
            read.callback(None)
        self.assertEqual(self.successResultOf(answer), ["A", "B", "C"])
        self.assertEqual(self.successResultOf(behind)[:2], ["A", "B"])

    def test_while_nothing_can_be_written(self) -> None:
        """What was kept before can be looked up although the disk is full by now."""
        self.store.answer = lambda: fail(FULL)
        self.hear(marker("A"))
        answer = self.read()
        self.store.reads.pop().callback(None)
        self.assertEqual(self.successResultOf(answer), [])

    def test_failure(self) -> None:
        """Whoever asks is told that it did not work."""
        answer = self.read()
        self.store.reads.pop().errback(FULL)
        self.assertIs(self.failureResultOf(answer, HistoryError).value, FULL)

    def test_too_many(self) -> None:
        """Only so many may wait; who left is counted until what he asked for is over, but it is not looked up."""
        answers = [self.read() for _ in range(keeper.MAX_READING)]
        self.failureResultOf(self.read(), HistoryBusy)
        answers[0].cancel()
        self.failureResultOf(answers[0], CancelledError)
        self.failureResultOf(self.read(), HistoryBusy)
        self.store.reads[0].callback(None)
        again = self.read()
        for read in self.store.reads[1:]:
            read.callback(None)
        for answer in (*answers[1:], again):
            self.successResultOf(answer)

    def test_left(self) -> None:
        """Nothing is looked up for somebody who is gone."""
        looked: list[object] = []
        answer = self.history.read(looked.append)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.store.reads.pop().callback(None)
        self.assertEqual(looked, [])


class AddingTests(HistoryTests):
    def test_add(self) -> None:
        """What comes in large numbers is written in parts, and is on disk when that is said."""
        self.start()
        events = [Heard(event(marker(str(number))), NOW, ANON) for number in range(2500)]
        self.successResultOf(Deferred.fromCoroutine(self.history.add(events)))
        self.assertEqual([len(batch) for batch in self.store.batches], [1000, 1000, 500])
        self.assertEqual(self.store.kept, events)

    def test_failures(self) -> None:
        """Who hands in something is told if it is not kept."""
        self.start()
        for answer in (fail(FULL), succeed(Written(unfit=("odd",)))):
            self.store.answer = lambda answer=answer: answer  # type: ignore[misc]
            self.failureResultOf(
                Deferred.fromCoroutine(self.history.add([Heard(event(marker()), NOW, ANON)])), HistoryError
            )


class StoppingTests(HistoryTests):
    def test_flush(self) -> None:
        """What waits is written before the end."""
        self.start()
        self.hear(marker("A"))
        self.successResultOf(self.history.stop())
        self.assertEqual([heard.event.uid for heard in self.store.kept], ["A"])
        self.assertEqual(self.store.closed, 1)

    def test_trouble_is_over(self) -> None:
        """If the last batch gets through after all, that is said."""
        self.start()
        self.store.answer = lambda: fail(FULL)
        self.hear(marker("A"))
        self.clock.advance(1)
        self.store.answer = lambda: succeed(Written())
        self.successResultOf(self.history.stop())
        self.assertIn("history is kept again; 0 events were left out", self.lines(LogLevel.info))

    def test_watched(self) -> None:
        """Whoever watches knows why not all is kept, what waits and how much was lost, also when that is over."""
        self.patch(keeper, "QUEUE_BYTES", 3 * (keeper.ENTRY_BYTES + len(event(marker("0")).xml)))
        self.start()
        self.assertEqual((self.history.trouble, self.history.queued, self.history.lost), ("", 0, 0))
        self.store.answer = lambda: fail(FULL)
        self.hear(marker("A"))
        self.clock.advance(1)
        self.assertIn(FULL.advice, self.history.trouble)
        self.assertGreater(self.history.queued, 0)
        for number in range(5):
            self.hear(marker(f"M{number}"))
        lost = self.history.lost
        self.assertGreater(lost, 0)
        self.store.answer = lambda: succeed(Written())
        self.clock.pump([5.0, 5.0, 1.0])
        self.hear(marker("Z"))
        self.clock.pump([1.0, 5.0])
        self.assertEqual((self.history.trouble, self.history.queued, self.history.lost), ("", 0, lost))
        self.successResultOf(self.history.stop())

    def test_lost(self) -> None:
        """What cannot be written at the end is counted in the log."""
        self.start()
        self.store.answer = lambda: fail(FULL)
        self.hear(marker("A"))
        self.successResultOf(self.history.stop())
        self.assertIn("1 events of history could not be written and are lost", self.lines(LogLevel.warn))

    def test_gives_up(self) -> None:
        """A disk that does not answer does not keep the server from ending."""
        self.start()
        writing: Deferred[Written] = Deferred()
        self.store.answer = lambda: writing
        self.hear(marker("A"))
        stopping = self.history.stop()
        self.assertNoResult(stopping)
        self.clock.advance(CLOSE_SECONDS)
        self.successResultOf(stopping)
        self.assertIn("does not answer", self.lines(LogLevel.warn)[-1])
        writing.errback(Failure(FULL))  # and if it does in the end, nothing goes wrong
        self.assertEqual(self.store.closed, 1)
