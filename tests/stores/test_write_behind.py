from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.interfaces import StoreState
from taky_twisted.routing.records import Item, MissedChat
from taky_twisted.stores.write_behind import RETRY_SECONDS, CannotWrite, Changes, WriteBehind
from tests.stores.contract import chat, item

FULL = CannotWrite("the disk is full", "Make room.")


class WriteBehindTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.batches: list[tuple[Changes, Deferred[None]]] = []
        self.behind = WriteBehind(self.clock, self.write, "the store")

    def write(self, changes: Changes) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.batches.append((changes, done))
        return done

    def written(self) -> Changes:
        """The batch that is being written is done; return it."""
        changes, done = self.batches.pop(0)
        done.callback(None)
        return changes

    def failed(self, error: Exception = FULL) -> Changes:
        """The batch that is being written cannot be; return it."""
        changes, done = self.batches.pop(0)
        done.errback(error)
        return changes

    def test_collects(self) -> None:
        """Changes go together, newest per place, a quarter of a second after the first; then nothing is scheduled."""
        self.behind.put(item("a", xml=b"1"))
        self.clock.advance(0.2)
        self.behind.put(item("a", xml=b"2"))
        self.behind.put(chat(1))
        self.behind.remove(Item, "b")
        self.assertEqual(self.batches, [])
        self.clock.advance(0.05)
        self.assertEqual(
            self.written(), {(Item, "a"): item("a", xml=b"2"), (MissedChat, "1"): chat(1), (Item, "b"): None}
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_remove_wakes(self) -> None:
        """A removal alone is written as soon as anything else."""
        self.behind.remove(Item, "a")
        self.clock.advance(0.25)
        self.assertEqual(self.written(), {(Item, "a"): None})

    def test_one_batch_at_a_time(self) -> None:
        """While a batch is being written the next one collects, and follows a quarter of a second after it."""
        self.behind.put(item("a"))
        self.clock.advance(0.25)
        self.behind.put(item("b"))
        self.clock.advance(10)
        self.assertEqual(len(self.batches), 1)
        self.written()
        self.assertEqual(self.batches, [])
        self.clock.advance(0.25)
        self.assertEqual(self.written(), {(Item, "b"): item("b")})

    def test_same_record_over_and_over(self) -> None:
        """However often one thing changes, it is pending once."""
        for number in range(1000):
            self.behind.put(item("a", time=number))
        self.clock.advance(0.25)
        self.assertEqual(self.written(), {(Item, "a"): item("a", time=999)})

    def test_flush(self) -> None:
        """A flush writes at once, and fires when that is done."""
        self.behind.put(item("a"))
        flushed = self.behind.flush()
        self.assertNoResult(flushed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.written()
        self.successResultOf(flushed)

    def test_flush_nothing(self) -> None:
        """With nothing to write a flush has fired already."""
        self.successResultOf(self.behind.flush())
        self.assertEqual(self.batches, [])

    def test_now(self) -> None:
        """Whether writing works can be seen at any time, also with nothing to write; but one batch at a time."""
        self.behind.now()
        self.behind.now()
        self.assertEqual(len(self.batches), 1)
        self.assertEqual(self.written(), {})
        self.behind.put(item("a"))
        self.behind.now()
        self.assertEqual(self.written(), {(Item, "a"): item("a")})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.behind.stop()
        self.behind.now()
        self.assertEqual(self.batches, [])

    def test_how_often(self) -> None:
        """Who writes to something quick may do so more often."""
        behind = WriteBehind(self.clock, self.write, "the store", 0.05, 1.0)
        behind.put(item("a"))
        self.clock.advance(0.05)
        self.failed()
        self.clock.advance(0.99)
        self.assertEqual(self.batches, [])
        self.clock.advance(0.01)
        self.written()
        behind.put(item("b"))
        self.clock.advance(0.05)
        self.written()

    def test_flush_while_writing(self) -> None:
        """A flush waits for what is being written, and for what came after that; but no longer."""
        self.behind.put(item("a"))
        first = self.behind.flush()
        also_first = self.behind.flush()
        self.behind.put(item("b"))
        second = self.behind.flush()
        self.behind.put(item("c"))
        third = self.behind.flush()
        self.written()
        self.successResultOf(first)
        self.successResultOf(also_first)
        self.assertNoResult(second)
        self.assertEqual(self.written(), {(Item, "b"): item("b"), (Item, "c"): item("c")})
        self.successResultOf(second)
        self.successResultOf(third)

    def test_put_from_flush(self) -> None:
        """Who has waited for a flush may go on at once."""
        self.behind.put(item("a"))
        self.behind.flush().addCallback(lambda _: self.behind.put(item("b")))
        self.written()
        self.clock.advance(0.25)
        self.assertEqual(self.written(), {(Item, "b"): item("b")})

    def test_failure(self) -> None:
        """What failed is tried again every 5 seconds, under what has changed since; the log has two lines of it."""
        with capturedLogs() as logs:
            self.behind.put(item("a", xml=b"old"))
            self.behind.put(item("b"))
            self.clock.advance(0.25)
            self.behind.put(item("a", xml=b"new"))
            self.behind.put(item("c"))
            self.failed()
            self.clock.advance(4.9)
            self.assertEqual(self.batches, [])
            self.clock.advance(0.1)
            self.failed()
            self.behind.remove(Item, "c")
            self.clock.advance(5)
            newest = {(Item, "a"): item("a", xml=b"new"), (Item, "b"): item("b"), (Item, "c"): None}
            self.assertEqual(self.written(), newest)
        warning, over = logs
        self.assertEqual((warning["log_level"], over["log_level"]), (LogLevel.warn, LogLevel.warn))
        self.assertEqual((warning["where"], warning["reason"]), ("the store", "the disk is full"))
        self.assertEqual(warning["advice"], "Make room.")
        self.assertEqual(over["seconds"], 10.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_state(self) -> None:
        """How writing goes is known: what waits, when something was written, and why it does not work."""
        self.assertEqual(self.behind.state, StoreState())
        self.assertTrue(self.behind.state.writable)
        self.behind.put(item("a"))
        self.assertEqual(self.behind.state, StoreState(pending=1))
        self.clock.advance(7)
        self.failed()
        trouble = StoreState("the disk is full. Make room.", 7.0, 1)
        self.assertEqual((self.behind.state, trouble.writable), (trouble, False))
        self.clock.advance(5)
        self.failed(CannotWrite("it is locked", "End that."))
        self.assertEqual(self.behind.state, StoreState("it is locked. End that.", 7.0, 1))
        self.clock.advance(5)
        self.failed(ZeroDivisionError())
        self.assertIn("a mistake of this server", self.behind.state.reason)
        self.clock.advance(5)
        self.written()
        self.assertEqual(self.behind.state, StoreState(written=22.0))

    def test_trouble_again(self) -> None:
        """Trouble that comes back is told again."""
        with capturedLogs() as logs:
            for _ in range(2):
                self.behind.put(item("a"))
                self.behind.flush()
                self.failed()
                self.clock.advance(5)
                self.written()
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn, LogLevel.warn] * 2)

    def test_flush_in_trouble(self) -> None:
        """A flush in the middle of trouble tries at once, and fires when that has failed too."""
        self.behind.put(item("a"))
        first = self.behind.flush()
        self.failed()
        self.successResultOf(first)
        second = self.behind.flush()
        self.assertEqual(self.failed(), {(Item, "a"): item("a")})
        self.successResultOf(second)
        self.clock.advance(5)
        self.written()

    def test_bug(self) -> None:
        """A bug in writing is logged as one, once, and tried again like trouble."""
        self.behind.put(item("a"))
        self.behind.flush()
        self.failed(KeyError("bug"))
        self.clock.advance(5)
        self.failed(KeyError("bug"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.clock.advance(5)
        self.assertEqual(self.written(), {(Item, "a"): item("a")})

    def test_memory_in_trouble(self) -> None:
        """A disk that stays full for weeks does not fill the memory with things that came and went."""
        self.behind.found((Item, "old"))
        self.behind.put(item("written"))
        self.behind.flush()
        self.written()
        for uid in ("old", "written"):
            self.behind.remove(Item, uid)
        for number in range(100):
            self.behind.put(item(f"passing-{number}"))
            self.behind.remove(Item, f"passing-{number}")
            self.behind.flush()
            self.failed()
        self.behind.flush()
        self.assertEqual(self.written(), {(Item, "old"): None, (Item, "written"): None})
        self.behind.remove(Item, "old")
        self.behind.flush()
        self.failed()
        self.assertEqual(self.behind.state.pending, 0)

    def test_nothing_left(self) -> None:
        """When what could not be written is gone, it is tried all the same until it works: who watches is told so."""
        self.behind.put(item("a"))
        self.behind.flush()
        self.failed()
        self.behind.remove(Item, "a")
        for expected in ({(Item, "a"): None}, {}, {}):
            self.clock.advance(RETRY_SECONDS)
            self.assertEqual(self.failed(), expected)
            self.assertFalse(self.behind.state.writable)
        self.clock.advance(RETRY_SECONDS)
        self.written()
        self.assertTrue(self.behind.state.writable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_later(self) -> None:
        """Whether writing works is looked at in a while, if it did not at the start; what is put then goes with it."""
        self.behind.trouble(FULL)
        self.behind.later()
        self.behind.later()
        self.behind.put(item("a"))
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.written(), {(Item, "a"): item("a")})
        self.assertTrue(self.behind.state.writable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """After the end nothing is scheduled any more, and it is known what is missing."""
        self.behind.put(item("a"))
        self.behind.put(item("b"))
        self.assertEqual(self.behind.stop(), 2)
        self.behind.put(item("c"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_while_writing(self) -> None:
        """A batch that comes back after the end starts nothing."""
        for finish in (self.written, self.failed):
            self.behind = WriteBehind(self.clock, self.write, "the store")
            self.behind.put(item("a"))
            self.behind.flush()
            self.behind.put(item("b"))
            self.assertEqual(self.behind.stop(), 2, "what is being written may be lost as well")
            finish()
            self.behind.remove(Item, "c")
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(self.batches, [])

    def test_now_until_it_works(self) -> None:
        """Whether writing works again is tried until it does, also if there is nothing to write."""
        self.behind.now()
        self.assertEqual(self.failed(), {})
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.failed(), {})
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.written(), {})
        self.assertTrue(self.behind.state.writable)
        self.assertEqual(self.clock.getDelayedCalls(), [])
