"""One connection to Redis: commands out, replies back in their order; txredisapi reads and checks the replies.

Only `taky_twisted.redis_client` imports this, where Redis is used: txredisapi wants a reactor when it is imported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hiredis import pack_command
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from txredisapi import HiredisProtocol, InvalidData, ResponseError

from taky_twisted.redis_errors import Argument, RedisAway, RedisRefused

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.python.failure import Failure


@dataclass(slots=True)
class _Asked:
    """Commands that were sent together."""

    count: int
    size: int
    answered: Deferred[list[Any]]
    too_late: IDelayedCall | None = None
    replies: list[Any] = field(default_factory=list)


class RedisConnection(HiredisProtocol):  # type: ignore[misc]  # txredisapi has no types
    """Ask Redis, each time with a limit in seconds; who is not answered in time makes the connection end.

    After that a late reply cannot be taken for the reply to another command.
    """

    def __init__(self, clock: IReactorTime, lost: Callable[[RedisConnection, RedisAway], object]) -> None:
        # Without a charset and numbers: what was written is what is read. RESP 2, which is what Redis speaks unasked.
        super().__init__(charset=None, convertNumbers=False)
        self._clock, self._lost = clock, lost
        self._asked: deque[_Asked] = deque()
        self.waiting_bytes = 0
        """Size of the commands that have no reply yet."""
        self._ended = False

    def connectionMade(self) -> None:
        """Send everything at once, and notice some day that the peer is gone; who connects does the rest."""
        with suppress(AttributeError):  # unix sockets have neither
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)

    def ask(self, commands: Sequence[Sequence[Argument]], seconds: float) -> Deferred[list[Any]]:
        """Send commands together; fires with their replies, or fails.

        Raises:
            RedisRefused: Redis refused one of them, the first of these; all were tried.
            RedisAway: the connection ended, or was too slow.
        """
        data = b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]  # of any length
        asked = _Asked(len(commands), len(data), Deferred())
        asked.too_late = self._clock.callLater(seconds, self._too_late, seconds)
        self._asked.append(asked)
        self.waiting_bytes += asked.size
        self.transport.write(data)
        return asked.answered

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        try:
            super().dataReceived(data)
        except InvalidData as error:
            self.end(RedisAway(f"what answers does not speak as Redis does ({error})"))

    def replyReceived(self, reply: Any) -> None:
        if self._ended:
            return
        if not self._asked:
            self.end(RedisAway(f"it said something that was not asked for: {reply!s:.100}"))
            return
        asked = self._asked[0]
        asked.replies.append(reply)
        if len(asked.replies) == asked.count:
            self._asked.popleft()
            self.waiting_bytes -= asked.size
            _cancel(asked.too_late)
            error = next(filter(None, map(_refusal, asked.replies)), None)
            if error is None:
                asked.answered.callback(asked.replies)
            else:
                asked.answered.errback(error)

    def connectionLost(self, why: Failure) -> None:
        self.end(RedisAway(f"the connection was lost ({why.getErrorMessage()})"))

    def end(self, why: RedisAway) -> None:
        """End the connection at once; who waits for a reply hears why."""
        if self._ended:
            return
        self._ended = True
        self.transport.abortConnection()
        asked, self._asked = self._asked, deque()
        for each in asked:
            _cancel(each.too_late)
        self._lost(self, why)
        for each in asked:
            each.answered.errback(why)

    def _too_late(self, seconds: float) -> None:
        self.end(RedisAway(f"no answer within {seconds:g} s"))


class RedisConnectionFactory(Factory):
    """Makes connections."""

    noisy = False

    def __init__(self, clock: IReactorTime, lost: Callable[[RedisConnection, RedisAway], object]) -> None:
        self._clock, self._lost = clock, lost

    def buildProtocol(self, addr: IAddress | None) -> RedisConnection:
        connection = RedisConnection(self._clock, self._lost)
        connection.factory = self
        return connection


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


def _refusal(reply: Any) -> RedisRefused | None:
    """Find the error in a reply, also in that of a transaction."""
    if isinstance(reply, ResponseError):
        # Where in a script it was helps nobody, and what an unknown command said may be a password.
        return RedisRefused(str(reply).partition(" script: ")[0].partition(", with args beginning with:")[0])
    if isinstance(reply, list):
        return next(filter(None, map(_refusal, reply)), None)
    return None
