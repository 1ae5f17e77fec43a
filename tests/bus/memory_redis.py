"""Redis as `SharedLog` sees it, in memory: each call waits until the test lets it happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, succeed

from taky_twisted.bus.shared_redis import Change, Found, Head, Place, Written
from taky_twisted.redis_client import RedisAway


@dataclass
class MemoryRedis:
    """What Redis holds."""

    entries: dict[Place, Found] = field(default_factory=dict)
    log: list[Written] = field(default_factory=list)
    epoch: str = "1"
    numbers: int = 0

    def lose_everything(self) -> None:
        """Be as after a restart without a file."""
        self.entries, self.log, self.epoch = {}, [], f"{int(self.epoch) + 1}"


class MemorySharedRedis:
    """One node's way to it, in place of a `SharedRedis`."""

    where = "redis:memory"

    def __init__(self, redis: MemoryRedis) -> None:
        self.redis = redis
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        """What was asked for and is not done."""
        self.listening: list[tuple[Deferred[Any], int]] = []
        self.away = False
        self.asked: list[str] = []

    def startService(self) -> None:
        """Nothing to do."""

    def stopService(self) -> Deferred[None]:
        """Fail what was asked for."""
        self.break_off()
        return succeed(None)

    def step(self, at: int = 0, answered: bool = True) -> None:
        """Do what was asked for; perhaps the answer does not arrive."""
        waiting, call = self.waiting.pop(at)
        result = call()
        if answered:
            waiting.callback(result)
        else:
            waiting.errback(RedisAway("no answer"))

    def hear(self) -> bool:
        """Tell who listens what there is; say whether there was anything."""
        for at, (waiting, last) in enumerate(self.listening):
            if len(self.redis.log) > last:
                del self.listening[at]
                waiting.callback(self.redis.log[last:])
                return True
        return False

    def quiet(self) -> None:
        """Tell who listens that there was nothing for a while."""
        listening, self.listening = self.listening, []
        for waiting, _ in listening:
            waiting.callback([])

    def break_off(self) -> None:
        """Lose the connection; what was asked for is not done."""
        for waiting in [each for each, _ in self.waiting] + [each for each, _ in self.listening]:
            self.waiting, self.listening = [], []
            waiting.errback(RedisAway("it is gone"))

    # As SharedRedis

    def ready(self, seconds: float) -> Deferred[None]:
        return self._ask("ready", lambda: None)

    def head(self) -> Deferred[Head]:
        return self._ask("head", lambda: Head(self.redis.epoch, len(self.redis.log), str(len(self.redis.log))))

    def versions(self) -> Deferred[dict[Place, tuple[str, bool]]]:
        return self._ask(
            "versions",
            lambda: {place: (found.version, found.payload is None) for place, found in self.redis.entries.items()},
        )

    def fetch(self, places: Sequence[Place]) -> Deferred[dict[Place, Found]]:
        return self._ask(
            "fetch", lambda: {place: self.redis.entries[place] for place in places if place in self.redis.entries}
        )

    def write(self, changes: Sequence[Change]) -> Deferred[list[str | None]]:
        return self._ask("write", lambda: [self._write(change) for change in changes])

    def changes(self, last: str) -> Deferred[list[Written]]:
        heard: Deferred[list[Written]] = Deferred()
        self.listening.append((heard, int(last)))
        return heard

    def forget(self, removed: Iterable[tuple[Place, str]]) -> Deferred[None]:
        for place, version in removed:
            if self.redis.entries.get(place) == Found(version, None):
                del self.redis.entries[place]
        return self._ask("forget", lambda: None)

    def numbers(self, floor: int, count: int) -> Deferred[int]:
        def take() -> int:
            first = max(floor, self.redis.numbers)
            self.redis.numbers = first + count
            return first

        return self._ask("numbers", take)

    def _ask(self, name: str, call: Callable[[], Any]) -> Deferred[Any]:
        self.asked.append(name)
        waiting: Deferred[Any] = Deferred()
        if self.away:
            waiting.errback(RedisAway("it is gone"))
        else:
            self.waiting.append((waiting, call))
        return waiting

    def _write(self, change: Change) -> str | None:
        there = self.redis.entries.get(change.place)
        new = change.new and change.payload is not None
        ended = change.final and change.payload is not None and there is not None and there.payload is None
        if there is not None and there.version != change.version and (new or ended or there.version > change.version):
            return there.version
        if there is None or there.version != change.version:
            self.redis.entries[change.place] = Found(change.version, change.payload)
            count = len(self.redis.log) + 1
            self.redis.log.append(Written(str(count), count, change.place, change.version))
        return None
