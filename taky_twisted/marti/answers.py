"""Answers from history: found and written in its thread, sent from memory or, if they are large, from a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.interfaces import IReactorFromThreads

from taky_twisted.enterprise_sync.contents import Content
from taky_twisted.enterprise_sync.disk_thread import DiskThread
from taky_twisted.history.documents import IN_MEMORY_BYTES, Build, Document, written
from taky_twisted.history.records import HistoryBusy, HistoryError, Past
from taky_twisted.logs import Logger
from taky_twisted.marti.download import Download
from taky_twisted.marti.errors import MartiError, NoSuchThing
from taky_twisted.marti.replies import Reply
from taky_twisted.marti.request import MartiRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from taky_twisted.history.keeper import History

T = TypeVar("T")
MAX_SENDING_BYTES = 1 << 30
"""What answers that are being sent take of the disk at most; who does not read must not fill it."""
CUT = '199 - "there is more than one answer holds; ask for less time or fewer uids"'
"""What the header ``warning`` says where something is missing."""


class Answers:
    """Look into history for a caller, and send what was found."""

    log = Logger()

    def __init__(self, clock: IReactorTime, history: History | None, folder: Path) -> None:
        """Touch nothing yet.

        Args:
            clock: the reactor, which takes calls from threads.
            history: what was said; None if that is not kept.
            folder: where answers are while they are too large for the memory.
        """
        self._history, self._folder = history, folder
        self._thread = DiskThread("answers", IReactorFromThreads(clock))
        self._sending = 0  # bytes of documents that are files

    def stop(self) -> Deferred[None]:
        """Read no more of any answer."""
        return self._thread.stop()

    @property
    def history(self) -> History:
        """What was said; `NoSuchThing` if that is not kept."""
        if self._history is None:
            raise NoSuchThing("this server keeps no history (history_days = 0, or store = memory:)")
        return self._history

    async def read(self, reading: Callable[[Past], T]) -> T:
        """Look something up in another thread.

        Raises:
            MartiError: that cannot be done, or not now.
        """
        history = self.history
        with self.told_to_the_client():
            return await history.read(reading)

    async def document(self, build: Callable[[Past], Build]) -> Document:
        """Have a document written, in another thread, of what is found.

        Raises:
            MartiError: that cannot be done, or not now.
        """
        return await self.read(lambda past: written(self._folder, build(past)))

    async def send(
        self, request: MartiRequest, document: Document, content_type: str, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a document, and close it.

        Raises:
            MartiError: too much is being sent already.
        """
        more = {"content-length": str(document.size), **(headers or {})}
        if document.cut:
            more["warning"] = CUT
        with document.file as file:
            if request.method == b"HEAD":
                return Reply(b"", content_type, headers=more)
            if document.size <= IN_MEMORY_BYTES:
                return Reply(file.read(), content_type, headers=more)
            if self._sending + document.size > MAX_SENDING_BYTES:
                raise MartiError(503, "too many answers are being sent already; try again in a moment")
            content = Content(os.dup(file.fileno()), document.size, self._thread)
        self._sending += document.size
        try:
            request.site.send(request, Reply(b"", content_type, headers=more))
            await Download(request, content, 0, document.size).run()
        finally:
            self._sending -= document.size
        return Reply(written=True)

    @contextmanager
    def told_to_the_client(self) -> Iterator[None]:
        """Refuse the request if history does not do what is asked of it in here."""
        try:
            yield
        except HistoryBusy as error:
            raise MartiError(503, str(error)) from error
        except (HistoryError, OSError) as error:
            self.log.warn("a question to history is not answered: {error}", error=str(error))
            raise MartiError(503, "history cannot be used just now; the server's log says why") from error
