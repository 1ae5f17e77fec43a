from __future__ import annotations

import os
from typing import IO

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.history.documents import IN_MEMORY_BYTES, Build
from taky_twisted.history.records import HistoryBusy, HistoryError, Past
from taky_twisted.marti import answers
from taky_twisted.marti.replies import Reply
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from tests.fakes import LogLines
from tests.marti.asking import Asking, spell
from tests.marti.history_server import HistoryServer


class Area:
    """Documents of any size."""

    def __init__(self, server: HistoryServer) -> None:
        self.server = server
        self.error: Exception | None = None

    @route("/document")
    async def document(self, request: MartiRequest) -> Reply:
        size, cut = request.arguments.count("size"), request.arguments.flag("cut")

        def build(_: Past) -> Build:
            if self.error is not None:
                raise self.error

            def write(file: IO[bytes]) -> tuple[int, bool]:
                file.write(os.urandom(16) * (size // 16) + b"x" * (size % 16))
                return 1, cut

            return write

        document = await self.server.answers.document(build)
        return await self.server.answers.send(request, document, "text/x-test", {"x-more": "yes"})


class AnswersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = HistoryServer(self)
        self.area = Area(self.server)
        self.server.asking = Asking(self.area, clock=self.server.clock)

    def open_files(self) -> int:
        """Count what the process has open."""
        return len(os.listdir("/proc/self/fd"))

    def test_sizes(self) -> None:
        """A document arrives whole, whatever its size, and leaves nothing behind."""
        self.assertEqual(self.server("GET", "/document?size=1").body, b"x")
        self.assertEqual(len(self.server("GET", f"/document?size={4 * IN_MEMORY_BYTES}").body), 4 * IN_MEMORY_BYTES)
        before = self.open_files()
        for size in (0, 17, IN_MEMORY_BYTES, IN_MEMORY_BYTES + 1, 5 * IN_MEMORY_BYTES + 3):
            answer = self.server("GET", f"/document?size={size}")
            self.assertEqual((answer.status, answer.type, len(answer.body)), (200, "text/x-test", size))
            self.assertEqual(answer.headers["x-more"], "yes")
            self.assertNotIn("warning", answer.headers)
            self.assertEqual(self.server("HEAD", f"/document?size={size}").headers["content-length"], str(size))
        self.assertEqual(self.open_files(), before)
        names = {name.partition(".")[0] for name in os.listdir(self.server.folder)}
        self.assertEqual(names, {"history"})

    def test_cut(self) -> None:
        """That something is missing is said in a header."""
        for size in (10, 2 * IN_MEMORY_BYTES):
            answer = self.server("GET", f"/document?size={size}&cut=true")
            self.assertIn("more than one answer", answer.headers["warning"])

    def test_gone(self) -> None:
        """Who leaves while his answer is on the way leaves nothing behind."""
        self.server("GET", f"/document?size={3 * IN_MEMORY_BYTES}")
        before = self.open_files()
        connection = self.server.connect()
        connection.send(spell("GET", f"/document?size={3 * IN_MEMORY_BYTES}"))
        while not connection.transport.value():
            self.server.clock.run_one()
        connection.lose()
        self.server.clock.wait(self.server.answers._thread.run(lambda: None))
        self.server.clock.wait(self.server.answers._thread.run(lambda: None))
        self.assertEqual(self.open_files(), before)

    def test_nobody_reads(self) -> None:
        """Answers that nobody reads do not fill the disk: from some amount on only short ones are given."""
        self.patch(answers, "MAX_SENDING_BYTES", 10 * IN_MEMORY_BYTES)
        connections = []
        for _ in range(2):
            connection = self.server.connect()
            connection.channel.pauseProducing()
            connection.send(spell("GET", f"/document?size={4 * IN_MEMORY_BYTES}"))
            while not connection.transport.value():
                self.server.clock.run_one()
            connections.append(connection)
        before = self.open_files()
        answer = self.server("GET", f"/document?size={4 * IN_MEMORY_BYTES}")
        self.assertEqual(answer.status, 503)
        self.assertIn("too many", answer.json["message"])
        self.assertEqual(self.open_files(), before)
        self.assertEqual(self.server("GET", "/document?size=1000").status, 200)
        connections[0].lose()
        self.assertEqual(self.server("GET", f"/document?size={4 * IN_MEMORY_BYTES}").status, 200)
        connections[1].lose()

    def test_troubles(self) -> None:
        """What history cannot do is told with 503, and an operator reads why if it is his to mend."""
        lines = LogLines(self)
        for error, text, logged in (
            (HistoryBusy("ask for less"), "ask for less", 0),
            (HistoryError("it is broken", "Mend it."), "log says why", 1),
            (OSError(28, "No space left on device"), "log says why", 1),
        ):
            self.area.error = error
            answer = self.server("GET", "/document")
            self.assertEqual(answer.status, 503)
            self.assertIn(text, answer.json["message"])
            self.assertEqual(len(lines(LogLevel.warn)), logged)
            lines = LogLines(self)

    def test_bug(self) -> None:
        """A mistake of ours is in the log as one."""
        self.area.error = ZeroDivisionError()
        self.assertEqual(self.server("GET", "/document").status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_read(self) -> None:
        """Things can be looked up without a document."""
        answer = Deferred.fromCoroutine(self.server.answers.read(lambda past: 7))
        self.assertEqual(self.server.clock.wait(answer), 7)
