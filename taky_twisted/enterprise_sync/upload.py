"""Uploads on their way: from the reactor, which must not wait, to the disk, which makes it wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.bodies import FRAME_BYTES, Body, FormBody, RawBody, check_size
from taky_twisted.enterprise_sync.disk_thread import STOP_SECONDS, Stopped, patiently
from taky_twisted.enterprise_sync.errors import BadUpload, NoRoom, Overloaded, SyncError, UploadTooLarge
from taky_twisted.enterprise_sync.files import Caller, Files, Words
from taky_twisted.logs import Logger

if TYPE_CHECKING:
    from taky_twisted.enterprise_sync.records import StoredFile

PAUSE_BYTES = 256 << 10
"""So much of one upload waits for the disk until the client is paused, in bytes; a last read comes on top."""
RESUME_BYTES = 64 << 10
"""So little waits when it may go on."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is known of an upload before its body is read."""

    caller: Caller
    words: Words
    hash: str | None = None
    """SHA-256 that the client says it has, in lower-case hexadecimal digits."""
    boundary: str | None = None
    """Of the form in which the file is; None: the body is the file."""
    length: int | None = None
    """Of the body, in bytes; None: not known."""


class Uploads:
    """All uploads that are on their way."""

    log = Logger()

    def __init__(self, files: Files, blobs: Blobs, clock: IReactorTime, limit: int) -> None:
        """Describe what is taken.

        Args:
            files: gets what is complete.
            blobs: where contents go.
            clock: for stopping.
            limit: of one file, in bytes.
        """
        self.files, self.blobs, self.limit = files, blobs, limit
        self._clock = clock
        self._active: set[Upload] = set()

    def begin(self, order: Order, pause: Callable[[], None], resume: Callable[[], None]) -> Upload:
        """Begin one.

        Args:
            order: what is to come.
            pause: asks the client to wait.
            resume: lets it go on.

        Raises:
            SyncError: it is not taken.
        """
        frame = FRAME_BYTES if order.boundary is not None else 0
        if order.length is not None:
            check_size(order.length - frame, self.limit)
        self.files.check_room(order.caller, order.words)
        incoming = self.blobs.begin()
        body: Body
        if order.boundary is None:
            body = RawBody(incoming, self.limit)
        else:
            body = FormBody(incoming, self.limit, order.boundary)
        upload = Upload(self, order, body, self.limit + frame, pause, resume)
        self._active.add(upload)
        return upload

    def over(self, upload: Upload) -> None:
        """Learn that one has ended, well or not."""
        self._active.discard(upload)

    async def stop(self) -> None:
        """End those that are on their way; wait for those that are complete."""
        for upload in list(self._active):
            upload.abort()
        complete = await patiently(DeferredList([one.done for one in self._active]), STOP_SECONDS, self._clock)
        if not complete:
            self.log.warn("an upload could not be completed: the disk does not answer")


class Upload:
    """One upload: takes pieces, hands them to the thread in batches, and ends as a `StoredFile` or not at all."""

    def __init__(
        self,
        uploads: Uploads,
        order: Order,
        body: Body,
        limit: int,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._uploads, self._order, self._body, self._limit = uploads, order, body, limit
        self._pause, self._resume = pause, resume
        self._size = 0
        self._waiting: list[bytes] = []
        self._held = 0  # bytes that wait, or are being written
        self._writing = self._paused = self._finishing = False
        self._problem: BaseException | None = None
        self._all_taken: Deferred[None] = Deferred()
        self.file: StoredFile | None = None
        """What became of it, once it is done."""
        self.done: Deferred[None] = Deferred()
        """Fires when it is over, well or not."""

    def write(self, data: bytes) -> None:
        """Take a piece.

        Raises:
            SyncError: it need not go on; call `abort`.
        """
        self._size += len(data)
        if self._size > self._limit:
            raise UploadTooLarge(f"the file is too large; up to {self._uploads.limit} bytes are taken")
        if self._problem is not None:
            raise self._refusal()
        self._waiting.append(data)
        self._held += len(data)
        if self._held >= PAUSE_BYTES and not self._paused:
            self._paused = True
            self._pause()
        self._send()

    def finish(self) -> Deferred[StoredFile]:
        """Store it: nothing more comes. Fails with `SyncError`, and then nothing is left of it."""
        self._finishing = True
        self._go_on()
        return Deferred.fromCoroutine(self._finish())

    def abort(self) -> None:
        """Forget it, unless all of it is there already. May be called at any time, also twice."""
        if not self._finishing:
            self._finishing = True
            self._waiting.clear()
            self._go_on()
            self._over(keep=False)

    async def _finish(self) -> StoredFile:
        try:
            self._check_taken()
            await self._all_taken
            if self._problem is not None:
                raise self._refusal()
            return await self._store()
        except (OSError, Stopped) as error:
            self._problem = error
            raise self._refusal() from error
        finally:
            self._over(keep=self.file is not None)

    async def _store(self) -> StoredFile:
        await self._uploads.blobs.write(self._body.finish)
        incoming, words = self._body.incoming, self._order.words
        if self._order.hash not in (None, incoming.hash):
            raise BadUpload(f"the file's SHA-256 is {incoming.hash}, not {self._order.hash}; nothing was stored")
        words = words.completed(incoming.hash, self._body.file_name, self._body.mime_type)
        self.file = await self._uploads.files.add(incoming, words, self._order.caller)
        return self.file

    def _send(self) -> None:
        if not self._writing and self._waiting:
            batch, self._waiting = self._waiting, []
            self._writing = True
            taken = self._uploads.blobs.write(self._body.take, batch)
            taken.addBoth(self._taken, sum(map(len, batch)))

    def _taken(self, result: Failure | None, size: int) -> None:
        self._writing = False
        self._held -= size
        if isinstance(result, Failure):
            self._problem = result.value
            self._waiting.clear()
        self._send()
        if self._held <= RESUME_BYTES or self._problem is not None:
            self._go_on()
        self._check_taken()

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._resume()

    def _check_taken(self) -> None:
        if self._finishing and not self._writing and not self._all_taken.called:
            self._all_taken.callback(None)

    def _refusal(self) -> SyncError:
        """Tell the client what went wrong in the thread; a bug flies."""
        problem = self._problem
        if isinstance(problem, SyncError):
            return problem
        if isinstance(problem, Stopped):
            return Overloaded("the server is stopping; try again later")
        if isinstance(problem, OSError):
            self._uploads.log.warn("an upload could not be stored: {error}", error=str(problem))
            return NoRoom(f"the server could not store the file: {problem.strerror}")
        assert problem is not None
        raise problem

    def _over(self, keep: bool) -> None:
        if not keep:
            self._uploads.blobs.discard(self._body.incoming)
        self._uploads.over(self)
        self.done.callback(None)
