"""Send the content of a file: as it is stored, as fast as the client takes it, a piece in memory at a time.

Source: TAK Server ``sync/ContentServlet.java``; ATAK-CIV's commo takes a resumed download with the status 200 alone.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.disk_thread import Stopped
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.logs import Logger
from taky_twisted.marti.errors import MartiError
from taky_twisted.marti.file_forms import disposition
from taky_twisted.marti.refusals import told_to_the_client
from taky_twisted.marti.replies import Reply
from taky_twisted.marti.request import MartiRequest

PIECE_BYTES = 64 << 10
"""What is read at once, in bytes."""


async def send(request: MartiRequest, blobs: Blobs, file: StoredFile, kind: str = "inline") -> Reply:
    """Answer with a file's content, or with the part of it that is asked for.

    Args:
        request: the request; its parameters may be ``offset`` and ``length``.
        blobs: where it is.
        file: what it is.
        kind: ``inline`` or ``attachment``.

    Raises:
        MartiError: the content or the part is not there.
    """
    offset = request.arguments.count("offset")
    length = request.arguments.count("length")
    if offset and offset >= file.size:
        raise MartiError(416, f"the file has {file.size} bytes")
    part = min(length, file.size - offset) if length else file.size - offset
    headers = {
        "content-length": str(part),
        "content-disposition": disposition(kind, file.name),
        "accept-ranges": "none",
        "api-version": "3",
        # It is a stranger's: a browser must not take it for a page of this server.
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
    }
    status = 200
    if offset + part < file.size:
        status = 206
        headers["content-range"] = f"bytes {offset}-{offset + part - 1}/{file.size}"
    with told_to_the_client():
        content = await blobs.read(file.hash, file.size)
    head = Reply(b"", file.mime_type, status, headers)
    if request.method == b"HEAD" or not part:
        content.close()
        return head
    request.site.send(request, head)
    await Download(request, content, offset, part).run()
    return Reply(written=True)


class Readable(Protocol):
    """What is sent: a file that is open, or something that behaves like one."""

    def read(self, at: int, count: int) -> Deferred[bytes]:
        """Read up to so many bytes from a place on, never at once: the Deferred has not fired yet."""

    def close(self) -> None:
        """Let go of it, also while a piece is being read."""


@implementer(IPushProducer)
class Download:
    """Read pieces of a content, in a thread, and write them, unless the client has enough to read."""

    log = Logger()

    def __init__(self, request: MartiRequest, content: Readable, at: int, left: int) -> None:
        self._request, self._content, self._at, self._left = request, content, at, left
        self._paused = self._reading = False
        self._over: Deferred[None] | None = Deferred()

    def run(self) -> Deferred[None]:
        """Fire when all is written, or the client is gone."""
        assert self._over is not None
        over = self._over
        self._request.notifyFinish().addErrback(lambda _: self._end())
        self._request.registerProducer(self, True)
        self._read()
        return over

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._read()

    def stopProducing(self) -> None:
        self._paused = True  # the connection is as good as lost, and that will be told to the request

    def _read(self) -> None:
        if not self._paused and not self._reading and self._over is not None:
            self._reading = True
            self._content.read(self._at, min(PIECE_BYTES, self._left)).addCallbacks(self._got, self._failed)

    def _got(self, data: bytes) -> None:
        self._reading = False
        if self._over is None:
            return
        if not data:
            self.log.warn("a content became shorter while it was downloaded")
            self._cut()
            return
        self._at += len(data)
        self._left -= len(data)
        self._request.write(data)
        if self._left:
            self._read()
        else:
            self._request.unregisterProducer()
            self._end()

    def _failed(self, failure: Failure) -> None:
        self._reading = False
        if self._over is None:
            return
        if not failure.check(Stopped):
            self.log.warn("a content cannot be read: {error}", error=str(failure.value))
        self._cut()

    def _cut(self) -> None:
        """Break the connection: the client has been promised more than it gets, and must not take it for all."""
        self._request.channel.abort("")

    def _end(self) -> None:
        over, self._over = self._over, None
        assert over is not None, "it ends once: all is written, or the request is lost before"
        self._content.close()
        over.callback(None)
