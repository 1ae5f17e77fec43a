"""A Redis in memory, as far as the bus needs one: one stream, several connections, and everything that can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from taky_twisted.bus.trimming import parse_id
from taky_twisted.redis_client import RedisAway, RedisError, RedisRefused

LATENCY_SECONDS = 0.0005


class FakeServer:
    """The server; connections to it are made by `connect`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.entries: list[tuple[tuple[int, int], list[bytes]]] = []
        self.commands: list[tuple[Any, ...]] = []
        """Everything that it was asked to do."""
        self.ahead = 0.0
        """How far its clock is ahead of ours, in seconds."""
        self.running = True
        self.latency = LATENCY_SECONDS
        self.hangs = False
        """Whether it takes commands and does not answer."""
        self.loses_replies = False
        """Whether it does what it is asked to, and the connection ends before the reply."""
        self.refusals: dict[str, str] = {}
        """Commands that it refuses, and what it says."""
        self.connections: list[FakeRedis] = []

    def connect(self, _reactor: object = None, _settings: object = None) -> Any:
        """Make a connection."""
        self.connections.append(FakeRedis(self))
        return self.connections[-1]

    def stop(self) -> None:
        """Be gone; what it holds stays."""
        self.running = False
        for connection in self.connections:
            connection.lose("the connection was lost")

    def start(self) -> None:
        """Be there again."""
        self.running = True
        for connection in self.connections:
            connection.come()

    def add(self, data: bytes, field: bytes = b"batch") -> bytes:
        """Put something into the stream."""
        last = self.entries[-1][0] if self.entries else (0, 0)
        now = round((self.clock.seconds() + self.ahead) * 1000), 0
        new = now if now > last else (last[0], last[1] + 1)
        self.entries.append((new, [field, data]))
        for connection in self.connections:
            connection.look()
        return b"%d-%d" % new

    def do(self, command: tuple[Any, ...]) -> Any:
        """Carry out a command other than XREAD."""
        name = command[0]
        if name in self.refusals:
            raise RedisRefused(self.refusals[name])
        if name == "XADD":
            new = self.add(command[-1], command[-2])
            if command[2] == "MINID":
                oldest = parse_id(command[4].encode())
                self.entries = [entry for entry in self.entries if entry[0] >= oldest]
            return new
        assert name == "EXPIRE", command
        return 1


class FakeRedis:
    """One connection, as `taky_twisted.redis_client.Redis`."""

    def __init__(self, server: FakeServer) -> None:
        self.server, self._clock = server, server.clock
        self.up = self._started = False
        self.mute = False
        """Whether what is added here is lost, and nobody notices."""
        self.commands: list[tuple[Any, ...]] = []
        self._watchers: list[tuple[Callable[[], object], Callable[[RedisError], object]]] = []
        self._asked: list[tuple[Deferred[Any], IDelayedCall]] = []
        self._blocked: tuple[Deferred[Any], tuple[int, int]] | None = None

    def startService(self) -> None:
        self._started = True
        self.come()

    def stopService(self) -> Deferred[None]:
        self.lose("stopped")
        self._started = False
        return succeed(None)

    def watch(self, came: Callable[[], object], went: Callable[[RedisError], object]) -> None:
        self._watchers.append((came, went))

    def wait(self, seconds: float) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()

        def look(left: float) -> None:
            if self.up:
                waiting.callback(None)
            elif left <= 0 or not self._started:
                waiting.errback(RedisAway("nobody is there"))
            else:
                self._clock.callLater(0.1, look, left - 0.1)

        look(seconds)
        return waiting

    def come(self) -> None:
        """Be connected, if that is possible."""
        if self._started and self.server.running and not self.server.hangs and not self.up:
            self.up = True
            for came, _ in self._watchers:
                came()

    def lose(self, why: str) -> None:
        """End; whoever waits for a reply hears it."""
        if not self.up:
            return
        self.up = False
        asked, self._asked, self._blocked = self._asked, [], None
        for _, went in self._watchers:
            went(RedisAway(why))
        for answered, timer in asked:
            if timer.active():
                timer.cancel()
            answered.errback(RedisAway(why))
        if self.server.running and self._started:
            self._clock.callLater(0.1, self.come)

    def call(self, *command: Any, seconds: float = 2.0) -> Deferred[Any]:
        if not self.up:
            return fail(RedisAway("not there"))
        self.server.commands.append(command)
        self.commands.append(command)
        answered: Deferred[Any] = Deferred()
        self._asked.append((answered, self._clock.callLater(seconds, self.lose, f"no answer within {seconds:g} s")))
        if not self.server.hangs:
            self._clock.callLater(self.server.latency, self._do, answered, command)
        return answered

    def look(self) -> None:
        """See whether there is something for who waits for it."""
        if self._blocked is not None and (found := self._after(self._blocked[1])):
            answered, self._blocked = self._blocked[0], None
            self._clock.callLater(LATENCY_SECONDS, self._answer, answered, found)

    def _do(self, answered: Deferred[Any], command: tuple[Any, ...]) -> None:
        if not self.up:
            return
        try:
            if command[0] != "XREAD":
                reply = b"%d-0" % self._clock.seconds() if self.mute else self.server.do(command)
                if self.server.loses_replies:
                    self.lose("the connection was lost")
                    return
            elif "XREAD" in self.server.refusals:
                raise RedisRefused(self.server.refusals["XREAD"])
            else:
                position = parse_id(command[-1])
                reply = self._after(position, command[command.index("COUNT") + 1])
                if reply is None and "BLOCK" in command:
                    self._blocked = answered, position
                    self._clock.callLater(command[command.index("BLOCK") + 1] / 1000, self._unblock, answered)
                    return
            self._answer(answered, reply)
        except RedisRefused as error:
            self._answer(answered, error)

    def _after(self, position: tuple[int, int], count: int = 100) -> Any:
        found = [entry for entry in self.server.entries if entry[0] > position][:count]
        return [[b"key", [[b"%d-%d" % new, fields] for new, fields in found]]] if found else None

    def _unblock(self, answered: Deferred[Any]) -> None:
        if self._blocked is not None and self._blocked[0] is answered:
            self._blocked = None
            self._answer(answered, None)

    def _answer(self, answered: Deferred[Any], reply: Any) -> None:
        if self.server.hangs:
            return
        for asked in self._asked:
            if asked[0] is answered:
                self._asked.remove(asked)
                asked[1].cancel()
                (answered.errback if isinstance(reply, Exception) else answered.callback)(reply)
                return
