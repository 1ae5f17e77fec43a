"""What both protocols on the sockets have in common: requests, one after the other, of a bounded size."""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from taky_twisted.background import logged
from taky_twisted.logs import Logger

MAX_REQUEST_BYTES = 16 << 10
"""Bytes of one request, and of all that wait."""


class Connection(typing.Protocol):
    """What we ask of a unix socket's transport."""

    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None: ...


class RequestProtocol(Protocol, ABC):
    """Cut what comes into requests and answer them in order."""

    log = Logger()
    transport: Connection  # type: ignore[assignment]  # always there when we are called
    delimiter: bytes

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answering: Deferred[None] | None = None
        self._cutting = False  # `_next` is at work
        self.over = False
        """Whether the connection is gone."""

    @abstractmethod
    async def answer(self, request: bytes) -> None:
        """Answer one request, which is without its delimiter."""

    @abstractmethod
    def refuse(self, why: str) -> None:
        """Say that a request cannot be understood."""

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        if self._answering is None:
            self._next()
        if len(self._buffer) > MAX_REQUEST_BYTES:
            self.refuse(f"a request has at most {MAX_REQUEST_BYTES} bytes")
            self.transport.loseConnection()
            self._buffer.clear()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over = True
        self._buffer.clear()
        if self._answering is not None:
            self._answering.cancel()

    def _next(self) -> None:
        if self._cutting:
            return
        self._cutting = True
        while not self.over and self._answering is None:
            request, found, rest = self._buffer.partition(self.delimiter)
            if not found:
                break
            self._buffer = rest
            answering = self._answering = Deferred.fromCoroutine(self.answer(bytes(request)))
            answering.addErrback(self._failed).addCallback(self._answered)
        self._cutting = False

    def _answered(self, _: None) -> None:
        self._answering = None
        self._next()

    def _failed(self, failure: Failure) -> None:
        if self.over:
            return  # nobody waits for the answer any more
        logged(self.log, "answering an operator")(failure)
        self.refuse("the server made a mistake; its log has more")
