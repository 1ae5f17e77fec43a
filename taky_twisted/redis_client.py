"""One connection to a Redis server that comes back by itself; Redis is trusted like the disk.

::

    stores, bus --call, pipeline--> Redis --> RedisConnection (redis_protocol.py) --> the endpoint
                <--came, went------

Nothing is sent later than it was asked for: while Redis is away every call fails at once, so that no old state arrives
after newer one, and nothing piles up.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime

from taky_twisted.background import logged
from taky_twisted.config.values import RedisSettings
from taky_twisted.identity.errors import EndpointError
from taky_twisted.logs import Logger
from taky_twisted.redis_errors import Argument, RedisAway, RedisError, RedisRefused, may_pass

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from taky_twisted.redis_protocol import RedisConnection

__all__ = ["Argument", "Redis", "RedisAway", "RedisError", "RedisRefused", "RedisSettings"]

REPLY_SECONDS = 2.0
"""How long a reply is waited for if the caller does not say."""
CONNECT_SECONDS = 2.0
"""How long connecting may take, and then the first replies."""
FIRST_DELAY_SECONDS = 0.1
"""How soon after a failure connecting is tried again; twice as long each time."""
MAX_DELAY_SECONDS = 2.0
"""But never later than this."""
CLOSE_SECONDS = 1.0
"""How long the last commands have to get out when we stop."""
MAX_WAITING = 32 << 20
"""Bytes of commands without a reply; who asks for more is refused."""
MAX_PASSWORD = 4096
"""Bytes of a file with a password."""


class Redis(Service):
    """A connection that is made again when it is lost, at most 2 seconds later.

    A blocking command keeps the connection for itself: whoever needs one has a `Redis` of his own. Nothing is logged
    here: who uses it knows what an outage means.
    """

    log = Logger()

    def __init__(self, reactor: Any, settings: RedisSettings) -> None:
        """Read the password; connect to nothing yet.

        Raises:
            EndpointError: the endpoint string, or a file that it or the settings name, cannot be used.
        """
        from taky_twisted.redis_protocol import RedisConnectionFactory  # only where it is used

        self.settings = settings
        self._clock = IReactorTime(reactor)
        self._endpoint = _endpoint(reactor, settings)
        self._introduction = _introduction(settings)
        self._factory = RedisConnectionFactory(self._clock, self._lost)
        self._connection: RedisConnection | None = None
        """Set while commands can be sent."""
        self._attempt: Deferred[None] | None = None
        self._retry: IDelayedCall | None = None
        self._delay = FIRST_DELAY_SECONDS
        self._watchers: list[tuple[Callable[[], object], Callable[[RedisError], object]]] = []
        self._waiters: list[Deferred[None]] = []
        self._closed: Deferred[None] | None = None
        """Fires when we have stopped and the connection is closed."""
        self._open: RedisConnection | None = None
        """The connection as long as it is not closed, whether it can be used or not."""
        self.why: RedisError = RedisAway("not tried yet")
        """Why it is not there, if it is not."""

    @property
    def up(self) -> bool:
        """Whether commands can be sent."""
        return self._connection is not None

    def watch(self, came: Callable[[], object], went: Callable[[RedisError], object]) -> None:
        """Have ``came`` called when Redis is there, at once if it is, and ``went`` with the reason when it is gone."""
        self._watchers.append((came, went))
        if self.up:
            came()

    def wait(self, seconds: float) -> Deferred[None]:
        """Fire when Redis is there; fail with why not, after a time, or at once if waiting would not help.

        Raises:
            RedisError: it is not there.
        """
        if self.up:
            return succeed(None)
        if not may_pass(self.why):
            return fail(self.why)
        waiter: Deferred[None] = Deferred()

        def give_up() -> None:
            self._waiters.remove(waiter)
            waiter.errback(self.why)

        def fired(result: object) -> object:
            if timer.active():
                timer.cancel()
            return result

        timer = self._clock.callLater(seconds, give_up)
        waiter.addBoth(fired)
        self._waiters.append(waiter)
        return waiter

    def call(self, *command: Argument, seconds: float = REPLY_SECONDS) -> Deferred[Any]:
        """Send a command; fires with bytes, an int, None, or a list of these.

        Raises:
            RedisAway: Redis is not there, or did not answer in time; then the connection was given up.
            RedisRefused: Redis answered with an error.
        """
        return self.pipeline([command], seconds).addCallback(_only)

    def pipeline(self, commands: Sequence[Sequence[Argument]], seconds: float = REPLY_SECONDS) -> Deferred[list[Any]]:
        """Send commands together; fires with all their replies.

        Raises:
            RedisAway: as for `call`; any of the commands may have been done.
            RedisRefused: Redis refused one of them, the first of these; it did the others.
        """
        connection = self._connection
        if connection is None:
            return fail(RedisAway(str(self.why), self.why.advice))
        if not commands:
            return succeed([])
        if connection.waiting_bytes >= MAX_WAITING:
            return fail(RedisAway(f"it does not keep up: over {MAX_WAITING >> 20} MiB wait for an answer"))
        return connection.ask(commands, seconds)

    def startService(self) -> None:
        super().startService()
        self._delay = FIRST_DELAY_SECONDS
        self._connect()

    def stopService(self) -> Deferred[None]:
        """Close the connection, after what was sent before; fires when it is closed."""
        super().stopService()
        self.why = RedisAway("this server has stopped using it")
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._attempt is not None:
            self._attempt.cancel()
        self._connection = None
        self._fail_waiters()
        connection = self._open
        if connection is None:
            return succeed(None)
        closed = self._closed = Deferred()
        late = self._clock.callLater(CLOSE_SECONDS, connection.end, RedisAway(str(self.why)))
        closed.addCallback(lambda _: late.cancel() if late.active() else None)
        connection.transport.loseConnection()
        return closed

    # Connecting

    def _connect(self) -> None:
        self._retry = None
        attempt = self._attempt = Deferred.fromCoroutine(self._make_connection())
        attempt.addErrback(self._not_connected)
        attempt.addErrback(logged(self.log, "connecting to Redis"))

    async def _make_connection(self) -> None:
        connecting = self._endpoint.connect(self._factory)
        connecting.addTimeout(CONNECT_SECONDS, self._clock, lambda _, seconds: _no_connection(seconds))
        connection = await connecting
        self._open = connection
        try:
            await connection.ask(self._introduction, CONNECT_SECONDS)
        except RedisRefused as error:
            connection.end(RedisAway(str(error)))
            raise
        self._attempt = None
        self._delay = FIRST_DELAY_SECONDS
        self._connection = connection
        waiters, self._waiters = self._waiters, []
        for came, _ in self._watchers:
            came()
        for waiter in waiters:
            waiter.callback(None)

    def _not_connected(self, failure: Failure) -> None:
        self._attempt = None
        if not self.running:
            return
        error = failure.value
        if not isinstance(error, RedisError):
            error = RedisAway(_reason(failure))
            if not failure.check(OSError, ConnectError):
                self.log.debug("connecting to Redis failed: {error}", error=repr(failure.value))
        self.why = error
        self._try_again()
        if not may_pass(error):
            self._fail_waiters()  # last: whoever hears it may stop us

    def _try_again(self) -> None:
        self._retry = self._clock.callLater(self._delay, self._connect)
        self._delay = min(2 * self._delay, MAX_DELAY_SECONDS)

    def _lost(self, connection: RedisConnection, why: RedisAway) -> None:
        self._open = None
        if connection is self._connection:
            self._connection, self.why = None, why
            self._try_again()
            for _, went in self._watchers:
                went(why)
        closed, self._closed = self._closed, None
        if closed is not None:
            closed.callback(None)

    def _fail_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(self.why)


def _only(replies: list[Any]) -> Any:
    return replies[0]


def _no_connection(seconds: float) -> None:
    raise RedisAway(f"no connection within {seconds:g} s")


def _reason(failure: Failure) -> str:
    text = getattr(failure.value, "strerror", None) or failure.getErrorMessage()
    return str(text).rstrip(".")


def _endpoint(reactor: Any, settings: RedisSettings) -> Any:
    try:
        return clientFromString(reactor, settings.endpoint)
    except (ValueError, TypeError, LookupError, OSError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise EndpointError(
            f"redis:{settings.endpoint}: {reason}; allowed: redis:tcp:HOST:PORT, redis:unix:PATH, or "
            "redis:tls:HOST:PORT:trustRoots=FOLDER"
        ) from error


def _introduction(settings: RedisSettings) -> list[tuple[Argument, ...]]:
    """List what is said first on each connection; the last of it shows that Redis is ready."""
    password = settings.password
    if settings.password_file is not None:
        password = _read_password(settings.password_file)
    said: list[tuple[Argument, ...]] = []
    if settings.user is not None:
        said.append(("AUTH", settings.user, password or ""))  # a user may need none
    elif password is not None:
        said.append(("AUTH", password))
    if settings.db:
        said.append(("SELECT", settings.db))
    said.append(("PING",))
    return said


def _read_password(path: Path) -> str:
    """Read a password from a file that nobody else can read; one line end at its end is none of it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise EndpointError(f"redis_password_file {path}: others can read it; chmod 600 it")
            text = file.read(MAX_PASSWORD + 1)
    except OSError as error:
        raise EndpointError(f"redis_password_file {path}: {error.strerror or error}") from error
    password = text.removesuffix(b"\n").removesuffix(b"\r")
    if not password or len(text) > MAX_PASSWORD or b"\n" in password:
        raise EndpointError(f"redis_password_file {path}: it must hold the password, in one line, and nothing else")
    try:
        return password.decode()
    except UnicodeDecodeError as error:
        raise EndpointError(f"redis_password_file {path}: the password must be UTF-8") from error
