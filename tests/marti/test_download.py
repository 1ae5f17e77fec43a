from __future__ import annotations

import os
from hashlib import sha256

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.download import PIECE_BYTES
from tests.fakes import LogLines
from tests.marti.asking import Connection, spell
from tests.marti.file_server import FileServer

DATA = os.urandom(5 * PIECE_BYTES + 17)
HASH = sha256(DATA).hexdigest()
TARGET = f"/Marti/sync/content?hash={HASH}"


def open_files() -> int:
    """Count what this process has open."""
    return len(os.listdir("/proc/self/fd"))


class DownloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = FileServer(self)
        self.ask.upload(DATA)
        self.ask.incoming()
        self.ask.clock.wait(self.ask.sync.blobs.aside(lambda: None))
        self.open = open_files()

    def begin(self, target: str = TARGET) -> Connection:
        connection = self.ask.connect()
        connection.send(spell("GET", target))
        return connection

    def settle(self) -> None:
        """Wait until the thread has done all that it was asked to."""
        for _ in range(3):
            self.ask.clock.wait(self.ask.sync.blobs.aside(lambda: None))

    def test_pieces(self) -> None:
        """A content is never in memory as a whole: a piece is read when the one before was taken."""
        connection = self.begin()
        sizes = []
        while len(connection.transport.value()) < len(DATA):
            before = len(connection.transport.value())
            self.ask.clock.run_one()
            sizes.append(len(connection.transport.value()) - before)
        self.assertLess(max(sizes), PIECE_BYTES + 1000)
        self.assertEqual(self.ask.answer(connection).body, DATA)
        self.assertEqual(open_files(), self.open)
        connection.send(spell("GET", TARGET))
        self.assertEqual(self.ask.answer(connection).body, DATA, "the connection goes on")
        connection.lose()

    def test_slow_reader(self) -> None:
        """For who does not read nothing is read; when he goes on, all arrives."""
        connection = self.begin()
        while len(connection.transport.value()) < PIECE_BYTES:
            self.ask.clock.run_one()
        connection.channel.pauseProducing()
        self.settle()
        there = len(connection.transport.value())
        self.settle()
        self.assertEqual(len(connection.transport.value()), there)
        self.assertLess(there, 3 * PIECE_BYTES)
        connection.channel.resumeProducing()
        self.assertEqual(self.ask.answer(connection).body, DATA)
        connection.lose()

    def test_client_goes_away(self) -> None:
        """Who leaves early, at whatever moment, leaves nothing open."""
        for steps in range(5):
            connection = self.begin()
            for _ in range(steps):
                self.ask.clock.run_one()
            connection.lose()
            self.settle()
            self.assertEqual(open_files(), self.open, steps)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_told_to_stop(self) -> None:
        """A transport that is about to be lost gets no more."""
        connection = self.begin()
        while len(connection.transport.value()) < PIECE_BYTES:
            self.ask.clock.run_one()
        connection.channel.stopProducing()
        self.settle()
        self.assertLess(len(connection.transport.value()), 3 * PIECE_BYTES)
        connection.lose()
        self.settle()
        self.assertEqual(open_files(), self.open)

    def test_deleted(self) -> None:
        """Who is downloading a file when it is deleted gets all of it."""
        connection = self.begin()
        self.ask.clock.run_one()
        self.ask.sync.blobs.forget(HASH)
        self.ask.incoming()
        self.assertEqual(self.ask.contents(), set())
        self.assertEqual(self.ask.answer(connection).body, DATA)
        connection.lose()
        self.assertEqual(self.ask("GET", TARGET).status, 404)

    def test_part(self) -> None:
        """A part in the middle is marked as one; a part up to the end is not, as ATAK wants it."""
        for query, status, body in (
            ("offset=10&length=5", 206, DATA[10:15]),
            ("length=5", 206, DATA[:5]),
            (f"offset=10&length={len(DATA)}", 200, DATA[10:]),
            (f"offset=10&length={len(DATA) - 10}", 200, DATA[10:]),
            ("length=0", 200, DATA),
        ):
            answer = self.ask("GET", f"{TARGET}&{query}")
            self.assertEqual((answer.status, answer.body), (status, body), query)
        answer = self.ask("GET", f"{TARGET}&offset=10&length=5")
        self.assertEqual(answer.headers["content-range"], f"bytes 10-14/{len(DATA)}")

    def test_damaged(self) -> None:
        """A content that is not whole is not served; when somebody uploads it again, it is there again."""
        path = self.ask.sync.blobs.path(HASH)
        path.write_bytes(DATA[:-1])
        log = LogLines(self)
        self.assertEqual(self.ask("GET", TARGET).status, 404)
        self.assertIn(HASH, "".join(log(LogLevel.warn)))
        self.assertEqual(self.ask("GET", f"/Marti/sync/missionquery?hash={HASH}").status, 404)
        self.assertEqual(self.ask.listed(), [])
        self.ask.upload(DATA)
        self.assertEqual(self.ask("GET", TARGET).body, DATA)
        self.assertEqual(self.ask.listed(), ["Fotos.zip"])

    def test_cut_short(self) -> None:
        """When a content ends too early on the way, the connection is broken: nobody takes it for the whole."""
        connection = self.begin()
        self.ask.clock.run_one()
        os.truncate(self.ask.sync.blobs.path(HASH), PIECE_BYTES)
        while connection.closed is None:
            self.ask.clock.run_one()
        self.assertEqual(connection.closed, "aborted")
        self.assertLess(len(connection.transport.value()), len(DATA))
        connection.lose()
        self.settle()
        self.assertEqual(open_files(), self.open)

    def test_disk(self) -> None:
        """When the disk fails on the way, the connection is broken and the operator is told."""
        log = LogLines(self)
        connection = self.begin()
        self.ask.clock.run_one()

        def broken(*arguments: object) -> bytes:
            raise OSError(5, "input/output error")

        self.patch(os, "pread", broken)
        while connection.closed is None:
            self.ask.clock.run_one()
        self.assertIn("input/output error", "".join(log(LogLevel.warn)))
        connection.lose()
        self.settle()
        self.assertEqual(open_files(), self.open)

    def test_gone_and_broken(self) -> None:
        """When a client has left, nobody minds that the disk fails for it."""
        log = LogLines(self)
        connection = self.begin()

        def broken(*arguments: object) -> bytes:
            raise OSError(5, "input/output error")

        patch = self.patch(os, "pread", broken)
        self.ask.clock.run_one()
        connection.lose()
        self.settle()
        patch.restore()
        self.assertEqual((log(LogLevel.warn), open_files()), ([], self.open))

    def test_stopped(self) -> None:
        """When the server stops, a download is broken off."""
        connection = self.begin()
        self.ask.clock.run_one()
        self.ask.stop()
        self.assertEqual(connection.closed, "aborted")
        connection.lose()
