"""Files from one node to another, through Redis, a few pieces at a time; what comes is verified by its hash.

::

    the one that needs it          Wanted(whom="", ...) to all ->          those that have it
                                   <- RPUSH their ids to the request's key
                                   Wanted(whom=one, piece) ->
                                   <- RPUSH the piece, which Redis forgets after a while

So nodes need no way to each other beside Redis, and Redis never holds more of a file than a few pieces.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from taky_twisted.background import logged
from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.contents import Incoming
from taky_twisted.enterprise_sync.errors import NoRoom, NoSuchFile
from taky_twisted.interfaces import Bus
from taky_twisted.logs import Logger
from taky_twisted.redis_client import Redis, RedisError, RedisSettings
from taky_twisted.routing.words import Wanted

PIECE_BYTES = 1 << 18
"""What is asked for at once."""
PIECES = 4
"""How many pieces are on their way at once."""
KEPT_SECONDS = 30
"""How long Redis keeps an answer that nobody takes."""
ANSWER_SECONDS = 5
"""How long an answer is waited for."""
MORE_SECONDS = 1
"""How long another one is waited for, after who answered first could not give the content."""
MAX_ANSWERS = 16
"""Pieces that are being read for other nodes at once; who asks for more waits in vain, and asks another node."""

_REQUEST = re.compile(r"[0-9a-f]{32}(\.[0-9]{1,12})?")
_DIGEST = re.compile("[0-9a-f]{64}")


class FileExchange(MultiService):
    """Give the other nodes what this one has, and get from them what it has not."""

    log = Logger()

    def __init__(self, reactor: Any, redis: RedisSettings, node_id: str, bus: Bus, blobs: Blobs) -> None:
        """Connect to nothing yet.

        Args:
            reactor: the reactor.
            redis: where the nodes meet.
            node_id: names the server.
            bus: carries the requests.
            blobs: this node's contents.
        """
        super().__init__()
        self._prefix = f"taky:{node_id}:file:"
        self._bus, self._blobs = bus, blobs
        self._giving = Redis(reactor, redis)
        self._waiting = Redis(reactor, redis)  # whose commands block
        for service in (self._giving, self._waiting):
            service.setServiceParent(self)
        self._answers = 0
        self._wanted: dict[str, list[Deferred[None]]] = {}
        self._queue: deque[tuple[str, int]] = deque()
        self._fetching = False
        blobs.fetch = self.fetch

    # For others

    def wanted(self, word: Wanted) -> None:
        """Answer another node, if this one can."""
        asked = word.node in ("", self._bus.instance)
        good = _REQUEST.fullmatch(word.request) and _DIGEST.fullmatch(word.digest) and word.offset >= 0
        if asked and good and self._answers < MAX_ANSWERS and self._blobs.size(word.digest) is not None:
            self._answers += 1
            Deferred.fromCoroutine(self._answer(word)).addBoth(self._answered)

    async def _answer(self, word: Wanted) -> None:
        size = self._blobs.size(word.digest)
        if size is None:
            return
        if word.node:
            content = await self._blobs.read(word.digest, size)
            try:
                answer = await content.read(word.offset, min(word.size, PIECE_BYTES))
            finally:
                content.close()
        else:
            answer = self._bus.instance.encode()
        key = self._prefix + word.request
        await self._giving.pipeline([("RPUSH", key, answer), ("EXPIRE", key, KEPT_SECONDS)])

    def _answered(self, result: Failure | None) -> None:
        self._answers -= 1
        if isinstance(result, Failure):
            self.log.debug("another node gets no answer: {why}", why=result.getErrorMessage())

    # For us

    def fetch(self, digest: str, size: int) -> Deferred[None]:
        """Get a content from another node.

        Returns:
            Fires when it is here; fails with `NoSuchFile` if no node could give it.
        """
        waiting: Deferred[None] = Deferred()
        if digest not in self._wanted:
            self._wanted[digest] = []
            self._queue.append((digest, size))
        elif (digest, size) in self._queue:
            # Somebody waits for it by now: it comes first.
            self._queue.remove((digest, size))
            self._queue.appendleft((digest, size))
        self._wanted[digest].append(waiting)
        if not self._fetching:
            self._fetching = True
            Deferred.fromCoroutine(self._fetch_all()).addErrback(logged(self.log, "fetching files from other nodes"))
        return waiting

    async def _fetch_all(self) -> None:
        while self._queue:
            digest, size = self._queue.popleft()
            problem: NoSuchFile | None = None
            try:
                await self._fetch(digest, size)
            except (RedisError, OSError, NoRoom) as error:
                problem = NoSuchFile(f"the content is on another node, and could not be fetched: {error}")
            except NoSuchFile as error:
                problem = error
            for waiting in self._wanted.pop(digest):
                if problem is None:
                    waiting.callback(None)
                else:
                    waiting.errback(problem)
        self._fetching = False

    async def _fetch(self, digest: str, size: int) -> None:
        request = secrets.token_hex(16)
        self._bus.tell(Wanted("", request, digest, 0, 0))
        problem: NoSuchFile | None = None
        while True:  # as often as there are nodes that have answered
            try:
                holder = await self._take(request, ANSWER_SECONDS if problem is None else MORE_SECONDS)
            except NoSuchFile as error:
                raise problem or error from None
            try:
                await self._fetch_from(holder.decode("ascii", "replace"), digest, size)
                return
            except NoSuchFile as error:
                problem = error

    async def _fetch_from(self, holder: str, digest: str, size: int) -> None:
        incoming = self._blobs.begin()
        try:
            await self._fill(incoming, Wanted(holder, secrets.token_hex(16), digest, 0, PIECE_BYTES), size)
            await self._blobs.write(incoming.seal)
            if incoming.hash != digest:
                self.log.warn(
                    "node {node} has a damaged copy of the file {digest}: it is not taken", node=holder, digest=digest
                )
                raise NoSuchFile("the content that another node has is damaged")
            await self._blobs.keep(incoming)
        except BaseException:
            self._blobs.discard(incoming)
            raise

    async def _fill(self, incoming: Incoming, word: Wanted, size: int) -> None:
        asked = 0
        for offset in range(0, size, PIECE_BYTES):
            while asked < min(size, offset + PIECES * PIECE_BYTES):
                request = f"{word.request}.{asked}"
                self._bus.tell(Wanted(word.node, request, word.digest, asked, min(PIECE_BYTES, size - asked)))
                asked += PIECE_BYTES
            piece = await self._take(f"{word.request}.{offset}", ANSWER_SECONDS)
            if len(piece) != min(PIECE_BYTES, size - offset):
                raise NoSuchFile("the content that another node has is not whole")
            await self._blobs.write(incoming.write, piece)

    async def _take(self, request: str, seconds: int) -> bytes:
        reply = await self._waiting.call("BLPOP", self._prefix + request, seconds, seconds=seconds + 2)
        if reply is None:
            raise NoSuchFile("no other node that can be reached has the content of this file")
        piece: bytes = reply[1]
        return piece
