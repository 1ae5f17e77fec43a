"""Ask a server about what was said, in memory: real threads and files, a clock that stands still, no sockets."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.history.keeper import History
from taky_twisted.identity.principal import Principal
from taky_twisted.marti.answers import Answers
from taky_twisted.marti.cot import CotArea
from taky_twisted.marti.injectors import InjectorsArea
from taky_twisted.marti.kml import KmlArea
from taky_twisted.routing.router import Router
from taky_twisted.stores.history import SqliteHistory
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import MemoryRecorder, MemorySink
from tests.marti.asking import Answer, Asking, Connection, spell
from tests.marti.file_server import whole
from tests.samples import NOW, event
from tests.threaded_clock import ThreadedClock

DAY = 24 * 3600


class HistoryServer:
    """A router with history, one door to ask about it, and nobody else."""

    def __init__(self, test: SynchronousTestCase, *, keeps: bool = True, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self.clock = ThreadedClock(NOW)
        self.router = Router(self.clock, MemoryStore(self.clock), limits)
        self.folder = Path(test.mktemp())
        self.folder.mkdir()
        self.recorder = MemoryRecorder()
        self.history = None
        if keeps:
            store = SqliteHistory(self.folder / "history.sqlite", self.clock, 7 * DAY, 1 << 30)
            self.router.witness = self.history = History(self.clock, store, self.router.contacts, "history.sqlite")
            self.history.start()
        self.answers = Answers(self.clock, self.history, self.folder)
        self.asking = Asking(
            CotArea(self.clock, self.router, self.answers),
            KmlArea(self.clock, self.answers),
            InjectorsArea(self.router, limits.max_event_bytes, self.recorder),
            clock=self.clock,
        )
        test.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop."""
        self.clock.wait(self.answers.stop())
        if self.history is not None:
            self.clock.wait(self.history.stop())

    def say(self, *documents: bytes, who: Principal | None = None, step: float = 0) -> None:
        """Have somebody say something, so many seconds apart, who never reported himself."""
        speaker = self.router.speaker(who or Principal(), MemorySink(), "test")
        for document in documents:
            speaker.publish(event(document))
            self.clock.rightNow += step

    def connect(self, who: Principal | None = None) -> Connection:
        """Open a connection."""
        self.asking.door.who = who
        return Connection(self.asking.door)

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        who: Principal | None = None,
    ) -> Answer:
        """Ask, and wait for the answer."""
        connection = self.connect(who)
        connection.send(spell(method, target, body, headers))
        answer = self.answer(connection, method)
        connection.lose()
        return answer

    def answer(self, connection: Connection, method: str = "GET") -> Answer:
        """Wait for the answer on a connection."""
        while not whole(connection.transport.value(), method):
            self.clock.run_one()
        return connection.answer(method)
