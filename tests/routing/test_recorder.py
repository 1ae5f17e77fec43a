from __future__ import annotations

import os
import threading
from pathlib import Path
from xml.etree import ElementTree

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.routing.recorded_files import RecordedFiles
from taky_twisted.routing.recorder import Recorder
from tests.threaded_clock import ThreadedClock

EVENT = b"<event uid='a'/>"


class RecorderTestCase(SynchronousTestCase):
    """Has a place for files."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.folder = Path(self.mktemp()) / "cot"

    def recorder(self, *, started: bool = True, **options: object) -> Recorder:
        recorder = Recorder(self.folder, self.clock, **options)  # type: ignore[arg-type]  # named above
        if started:
            recorder.start()
            self.addCleanup(self.stop, recorder)
        return recorder

    def stop(self, recorder: Recorder) -> None:
        self.clock.wait(recorder.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def text(self, name: str = "a") -> str:
        return (self.folder / f"{name}.cot").read_bytes().decode()


class RecorderTests(RecorderTestCase):
    def test_record(self) -> None:
        """An event is in its sender's file soon, with the time at which it was heard above it."""
        recorder = self.recorder()
        recorder.record("a", EVENT)
        self.clock.advance(0.123)
        recorder.record("a", EVENT)
        self.clock.advance(0.127)
        self.clock.run_one()
        self.assertEqual(
            self.text(),
            "<!-- 2026-03-01T10:00:00.000Z -->\n<event uid='a'/>\n"
            "<!-- 2026-03-01T10:00:00.123Z -->\n<event uid='a'/>\n",
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_order(self) -> None:
        """Each sender's events are in the order in which they came, over many batches."""
        recorder = self.recorder()
        for number in range(300):
            for sender in "abc":
                recorder.record(sender, b"<%c%d/>" % (sender.encode(), number))
            if number % 50 == 0:
                self.clock.advance(0.25)
        self.stop(recorder)
        for sender in "abc":
            events = [line for line in self.text(sender).splitlines() if not line.startswith("<!--")]
            self.assertEqual(events, [f"<{sender}{number}/>" for number in range(300)])

    def test_failed(self) -> None:
        """What could not be understood is there, with the reason, and readable."""
        recorder = self.recorder()
        recorder.failed("a", b"<event>\xff\x00\x1b[31m\xc3\xa4\ttab</evil>", "mismatched tag: line 1")
        recorder.record("a", EVENT)
        self.stop(recorder)
        self.assertEqual(
            self.text(),
            "<!-- 2026-03-01T10:00:00.000Z not understood: mismatched tag: line 1\n"
            "<event>\\xff\\x00\\x1b[31mä\ttab</evil>\n-->\n"
            "<!-- 2026-03-01T10:00:00.000Z -->\n<event uid='a'/>\n",
        )

    def test_failed_stays_a_comment(self) -> None:
        """Nothing that a sender sends ends the comment: the file remains XML with the events that were good."""
        recorder = self.recorder()
        for data in (b"--> <event uid='forged'/> <!--", b"---", b"-", b"", b"]]>\xff--\r\n-", b"\xed\xa0\x80"):
            recorder.failed("a", data, "because -- of --->\x00 \ud800")
        recorder.record("a", EVENT)
        self.stop(recorder)
        root = ElementTree.fromstring(f"<all>{self.text()}</all>")
        self.assertEqual([child.get("uid") for child in root], ["a"])

    def test_failed_is_cut(self) -> None:
        """4 KiB of what could not be understood are kept; one byte more is cut."""
        recorder = self.recorder()
        recorder.failed("a", b"x" * 4096, "r")
        recorder.failed("b", b"x" * 4096 + b"y", "r" * 10_000)
        self.stop(recorder)
        self.assertIn("x" * 4096 + "\n-->", self.text("a"))
        self.assertIn("x" * 4096 + "\n(cut)\n-->", self.text("b"))
        self.assertLess(len(self.text("b")), 5000)

    def test_rotation(self) -> None:
        """The files of one sender never take more room than allowed."""
        recorder = self.recorder(max_bytes=1000, files=3)
        for _ in range(200):
            recorder.record("a", EVENT)
        self.stop(recorder)
        sizes = {path.name: path.stat().st_size for path in self.folder.iterdir()}
        self.assertEqual(set(sizes), {"a.cot", "a.cot.1", "a.cot.2"})
        self.assertLessEqual(max(sizes.values()), 1000)
        self.assertGreater(sizes["a.cot.1"], 900)

    def test_too_large_for_a_file(self) -> None:
        """An event that does not fit into any file is mentioned."""
        recorder = self.recorder(max_bytes=1000)
        recorder.record("a", b"x" * 1001)
        self.stop(recorder)
        self.assertIn("left out: 1001 bytes", self.text())

    def test_others(self) -> None:
        """When there are too many senders, the shared file says who each entry is from."""
        recorder = self.recorder(recorded=RecordedFiles(self.folder, 1000, 2, senders=1))
        recorder.record("a", EVENT)
        recorder.record("b --> <x/>", EVENT)
        recorder.failed("c", b"?", "r")
        self.stop(recorder)
        text = self.text("_others")
        self.assertIn("Z b -\\x2d> <x/> -->\n<event", text)
        self.assertIn("Z c not understood: r\n?\n-->", text)
        ElementTree.fromstring(f"<all>{text}</all>")

    def test_not_started(self) -> None:
        """Before the start and after the end nothing is taken, nothing scheduled and nothing raised."""
        recorder = self.recorder(started=False)
        recorder.record("a", EVENT)
        self.successResultOf(recorder.stop())
        recorder.start()
        self.stop(recorder)
        recorder.failed("a", b"x", "r")
        self.successResultOf(recorder.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.folder.exists())

    def test_stop_ends_all(self) -> None:
        """Stopping writes what is waiting and leaves no thread and no open file behind."""
        before = threading.active_count(), len(os.listdir("/proc/self/fd"))
        recorder = self.recorder()
        recorder.record("a", b"<first/>")
        self.clock.advance(0.25)
        recorder.record("a", b"<second/>")
        self.stop(recorder)
        self.assertIn("<second/>", self.text())
        self.assertEqual((threading.active_count(), len(os.listdir("/proc/self/fd"))), before)

    def test_next_batch(self) -> None:
        """What comes while a batch is being written is in the next one."""
        recorder = self.recorder()
        recorder.record("a", b"<first/>")
        self.clock.advance(0.25)
        recorder.record("a", b"<second/>")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.run_one()
        self.clock.advance(0.25)
        self.clock.run_one()
        self.assertIn("<second/>", self.text())


class TroubleTests(RecorderTestCase):
    def hang(self, recorder: Recorder) -> threading.Event:
        """The disk does not answer before the event is set."""
        answers = threading.Event()
        self.addCleanup(answers.set)
        recorder._thread.run(answers.wait)
        return answers

    def test_slow_disk(self) -> None:
        """When the disk cannot follow, entries are left out; that is told when it begins and when it is over."""
        recorder = self.recorder(queue_bytes=5000)
        answers = self.hang(recorder)
        with capturedLogs() as logs:
            for _ in range(100):
                recorder.record("a", b"x" * 599)
            self.clock.advance(0.25)
            recorder.record("a", b"x")
            recorder.record("a", b"x" * 599)
            (warning,) = logs
            self.assertEqual(warning["log_level"], LogLevel.warn)
            self.assertIn("too slow", warning["reason"])
            answers.set()
            self.clock.run_one()
            self.clock.run_one()
            recorder.record("a", b"<late/>")
            self.clock.advance(5)
            self.clock.run_one()
        _, over = logs
        self.assertEqual((over["log_level"], over["lost"]), (LogLevel.info, 97))
        self.assertEqual(self.text().count("x" * 599), 5)
        self.assertIn("<late/>", self.text())

    def test_queue_limit(self) -> None:
        """The queue is bounded in bytes: what just fits is taken, one byte more is not; then there is room again."""
        recorder = self.recorder(queue_bytes=1001)
        with capturedLogs() as logs:
            recorder.record("a", b"x" * 600)
            self.assertEqual(logs, [])
            recorder.record("a", b"")
            self.assertEqual(len(logs), 1)
        self.clock.advance(0.25)
        self.clock.run_one()
        recorder.record("a", b"x" * 600)
        recorder.record("a", b"")
        self.stop(recorder)
        self.assertEqual(self.text().count("x" * 600), 2)
        other = self.recorder(queue_bytes=1000)
        other.record("a", b"x" * 600)
        self.stop(other)
        self.assertEqual(self.text().count("x" * 600), 2)

    def test_full_disk(self) -> None:
        """Errors are told once, with the system's words; recording goes on by itself when they are over."""
        recorder = self.recorder()
        self.folder.mkdir(parents=True)
        (self.folder / "a.cot").mkdir()
        with capturedLogs() as logs:
            for _ in range(3):
                recorder.record("a", EVENT)
                recorder.record("b", EVENT)
                self.clock.advance(0.25)
                self.clock.run_one()
            (warning,) = logs
            self.assertEqual(warning["log_level"], LogLevel.warn)
            self.assertIn("Is a directory", warning["reason"])
            self.assertEqual(warning["folder"], self.folder)
            (self.folder / "a.cot").rmdir()
            self.clock.advance(5)
            recorder.record("a", EVENT)
            self.clock.advance(0.25)
            self.clock.run_one()
        self.assertEqual(logs[1]["lost"], 3)
        self.assertEqual(len(logs), 2)
        self.assertEqual(self.text("b").count("<event"), 3)
        self.assertEqual(self.text("a").count("<event"), 1)

    def test_no_folder(self) -> None:
        """A folder that cannot be made is one warning; the server runs on without a record."""
        self.folder.parent.mkdir(parents=True)
        self.folder.write_text("in the way")
        recorder = self.recorder()
        with capturedLogs() as logs:
            recorder.record("a", EVENT)
            recorder.record("b", EVENT)
            self.clock.advance(0.25)
            self.clock.run_one()
            recorder.record("b", EVENT)
            self.stop(recorder)
        self.assertEqual(len(logs), 1)
        self.assertIn("File exists", logs[0]["reason"])

    def test_disk_hangs_at_the_end(self) -> None:
        """A disk that does not answer holds the end up for 5 seconds, no longer."""
        recorder = self.recorder()
        answers = self.hang(recorder)
        recorder.record("a", EVENT)
        stopped = recorder.stop()
        self.clock.advance(4.9)
        self.assertNoResult(stopped)
        with capturedLogs() as logs:
            self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertIn("does not answer", logs[0]["log_format"])
        answers.set()
        while recorder._thread._pool.started:
            self.clock.run_one()
        self.assertEqual(self.clock.getDelayedCalls(), [])
