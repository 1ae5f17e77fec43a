"""What nodes share, in Redis: the keys, the scripts, and what their answers mean.

=================================  =====================================================================
``taky:{node_id}:shared:versions``  a hash: each entry's version, and ``+``, or ``-`` for a removed one
``taky:{node_id}:shared:payloads``  a hash: what the entries are
``taky:{node_id}:shared:log``       a stream: which entry was written when; the latest ten thousand
``taky:{node_id}:shared:count``     how many were written ever
``taky:{node_id}:shared:epoch``     another one after Redis has lost everything
``taky:{node_id}:shared:number``    the last number that a node was given
``taky:{node_id}:shared:turn:...``  who has the turn where only one node at a time may work; it expires
=================================  =====================================================================

The field of an entry is its kind, a zero byte, and its key.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.application.service import MultiService

from taky_twisted.bus.versions import is_version
from taky_twisted.logs import Logger
from taky_twisted.redis_client import Redis, RedisAway, RedisRefused, RedisSettings

MAX_PAYLOAD = 1 << 18
"""Bytes of one entry; the largest, a video connection of 64 KiB, may have three times as many as JSON."""
MAX_KEY = 4096
"""Bytes of a key."""
MAX_KIND = 64
MAX_ENTRIES = 500_000
"""Entries that a node copies, removed ones counted."""
LOG_ENTRIES = 10_000
"""Changes that whoever follows may be behind; after more it compares everything."""
BATCH = 100
"""Entries that are read or written at once."""
BATCH_BYTES = 1 << 20
"""Size of what is written at once."""
BLOCK_SECONDS = 2
"""How long Redis is asked to wait for a change."""
READ_SECONDS = 5.0
"""How long reading may take; Redis is otherwise asked for little at once."""

Place = tuple[str, str]
"""A kind and a key."""

_HEAD = """
local function is_there(key)
    local page = redis.call('HSCAN', key, '0', 'COUNT', 1)
    return (page[1] ~= '0' or #page[2] > 0) and 1 or 0
end
if (redis.call('GET', KEYS[1]) or '') == '' then
    redis.call('SET', KEYS[1], ARGV[1])
end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
local count = redis.call('GET', KEYS[2]) or '0'
return {redis.call('GET', KEYS[1]), count, last and last[1] or '0-0', is_there(KEYS[4]), is_there(KEYS[5])}
"""
_FETCH = """
local found = {}
for at, field in ipairs(ARGV) do
    if at > 1 then
        local payload = false
        if redis.call('HSTRLEN', KEYS[2], field) <= tonumber(ARGV[1]) then
            payload = redis.call('HGET', KEYS[2], field)
        end
        found[2 * at - 3] = redis.call('HGET', KEYS[1], field)
        found[2 * at - 2] = payload
    end
end
return found
"""
_WRITE = """
local answers = {}
for at = 2, #ARGV, 4 do
    local field, version, how, payload = unpack(ARGV, at, at + 3)
    local found = redis.call('HGET', KEYS[1], field)
    local old = found and string.sub(found, 1, -2)
    answers[#answers + 1] = false
    local good = old and string.match(old, '^[0-8]%d+$') and #old == #version
    local ended = how == 'final' and good and string.sub(found, -1) == '-'
    if old and old ~= version and (how == 'new' or ended or (good and old > version)) then
        answers[#answers] = found
    elseif old ~= version or (how ~= 'removed' and redis.call('HSTRLEN', KEYS[2], field) == 0) then
        if how == 'removed' then
            redis.call('HDEL', KEYS[2], field)
        else
            redis.call('HSET', KEYS[2], field, payload)
        end
        redis.call('HSET', KEYS[1], field, version .. (how == 'removed' and '-' or '+'))
        local count = redis.call('INCR', KEYS[4])
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], '*', 'n', count, 'f', field, 'v', version)
    end
end
return answers
"""
_FORGET = """
for at = 1, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1] then redis.call('HDEL', KEYS[1], ARGV[at]) end
end
return 1
"""
_NUMBERS = """
local top = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') or 0, tonumber(ARGV[1]))
redis.call('SET', KEYS[1], string.format('%.0f', top + tonumber(ARGV[2])))
return top
"""
_END_TURN = """
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
"""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends."""

    epoch: str
    count: int
    """How many entries were written up to there."""
    last: str
    """The id of the last one."""
    versions: bool = True
    payloads: bool = True
    """Whether there are any; a Redis that is full may have thrown them away."""


@dataclass(frozen=True, slots=True)
class Found:
    """What Redis has of an entry."""

    version: str
    payload: bytes | None
    """None: it was removed."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written of an entry."""

    place: Place
    version: str
    payload: bytes | None
    new: bool
    """Whether it only counts if there is no such entry."""
    final: bool = False
    """Whether it does not count if the entry was removed."""


@dataclass(frozen=True, slots=True)
class Written:
    """One line of the log."""

    id: str
    count: int
    place: Place | None
    """None: it cannot be read."""
    version: str


class SharedRedis(MultiService):
    """The shared log of one server in Redis. All calls fail with `RedisError`."""

    log = Logger()

    def __init__(self, reactor: Any, settings: RedisSettings, node_id: str) -> None:
        """Connect to nothing yet.

        Raises:
            EndpointError: the settings cannot be used.
        """
        super().__init__()
        self.where = f"redis:{settings.endpoint}"
        self._redis = Redis(reactor, settings)
        self._following = Redis(reactor, settings)  # whose commands block
        for service in (self._redis, self._following):
            service.setServiceParent(self)
        names = ("versions", "payloads", "log", "count", "epoch", "number")
        self._prefix = f"taky:{node_id}:shared:"
        self._keys = {name: self._prefix + name for name in names}
        self._warned: set[bytes] = set()
        self._asked = False
        """Whether Redis was asked what it does when it is full."""

    async def ready(self, seconds: float) -> None:
        """Wait until Redis is there."""
        await self._redis.wait(seconds)
        await self._following.wait(seconds)
        if not self._asked:
            self._asked = True
            with suppress(RedisRefused):  # not every user may ask
                self._warn_of_eviction(await self._redis.call("INFO", "memory"))

    async def head(self) -> Head:
        """Say where the log ends."""
        keys = ("epoch", "count", "log", "versions", "payloads")
        epoch, count, last, versions, payloads = await self._eval(_HEAD, keys, secrets.token_hex(8))
        epoch = epoch.decode("ascii", "replace")
        return Head(epoch, _number(count), last.decode("ascii"), versions == 1, payloads == 1)

    async def versions(self) -> dict[Place, tuple[str, bool]]:
        """Read the versions of all entries, and which are removed."""
        found: dict[Place, tuple[str, bool]] = {}
        cursor = b"0"
        while True:
            cursor, pairs = await self._redis.call(
                "HSCAN", self._keys["versions"], cursor, "COUNT", 10 * BATCH, seconds=READ_SECONDS
            )
            for field, value in zip(pairs[::2], pairs[1::2], strict=True):
                place, version = _place(field), _version(value)
                if place is None or version is None:
                    self._warn(field, "it cannot be read")
                else:
                    found[place] = version
            if len(found) > MAX_ENTRIES:
                raise RedisAway(
                    f"there are over {MAX_ENTRIES} entries in {self._keys['versions']}",
                    "Another program must have written there: give the server a Redis database of its own.",
                )
            if cursor == b"0":
                return found

    async def fetch(self, places: Sequence[Place]) -> dict[Place, Found]:
        """Read entries; what is not there or cannot be read is left out."""
        fields = [_field(place) for place in places]
        answers = await self._eval(_FETCH, ("versions", "payloads"), MAX_PAYLOAD, *fields, seconds=READ_SECONDS)
        found: dict[Place, Found] = {}
        for place, field, value, payload in zip(places, fields, answers[::2], answers[1::2], strict=True):
            version = _version(value) if value is not None else None
            if value is not None and version is None:
                self._warn(field, "its version cannot be read")
            elif version is not None and not version[1] and payload is None:
                self._warn(field, "it is not there, or too large")
            elif version is not None:
                found[place] = Found(version[0], None if version[1] else payload)
        return found

    async def write(self, changes: Sequence[Change]) -> list[str | None]:
        """Write entries, each unless there is a newer one.

        Returns:
            For each the version that is there and counts, or None if it was written.
        """
        words: list[bytes | str] = []
        for change in changes:
            how = "new" if change.new else "final" if change.final else "put"
            how = "removed" if change.payload is None else how
            words += (_field(change.place), change.version, how, change.payload or b"")
        answers = await self._eval(_WRITE, ("versions", "payloads", "log", "count"), LOG_ENTRIES, *words)
        return [None if answer is None else _older(answer) for answer in answers]

    async def changes(self, last: str) -> list[Written]:
        """Wait for what is written after a line of the log; nothing if nobody writes for a while."""
        reply = await self._following.call(
            *("XREAD", "COUNT", 10 * BATCH, "BLOCK", 1000 * BLOCK_SECONDS, "STREAMS", self._keys["log"], last),
            seconds=BLOCK_SECONDS + 2,
        )
        return [_line(id_, words) for id_, words in (reply[0][1] if reply else [])]

    async def forget(self, removed: Iterable[tuple[Place, str]]) -> None:
        """Forget that entries were removed, those that still have a version."""
        words = [word for place, version in removed for word in (_field(place), f"{version}-")]
        if words:
            await self._eval(_FORGET, ("versions",), *words)

    async def numbers(self, floor: int, count: int) -> int:
        """Take numbers that no other node gets; those that follow the one that is returned.

        Args:
            floor: the highest one that is known to be used.
            count: how many.
        """
        first: int = await self._eval(_NUMBERS, ("number",), floor, count)
        return first

    async def begin_turn(self, place: Place, holder: str, seconds: float) -> bool:
        """Take the turn of an entry, unless somebody has it; it ends after a time at the latest."""
        key = self._turn(place)
        return await self._redis.call("SET", key, holder, "NX", "PX", int(1000 * seconds)) is not None

    async def end_turn(self, place: Place, holder: str) -> None:
        """Give a turn back, if it is still the holder's."""
        await self._redis.call("EVAL", _END_TURN, 1, self._turn(place), holder)

    def _turn(self, place: Place) -> bytes:
        return self._prefix.encode() + b"turn:" + _field(place)

    async def _eval(self, script: str, keys: Sequence[str], *words: bytes | str | int, seconds: float = 2.0) -> Any:
        names = [self._keys[key] for key in keys]
        return await self._redis.call("EVAL", script, len(names), *names, *words, seconds=seconds)

    def _warn_of_eviction(self, info: bytes) -> None:
        told = dict(line.partition(":")[::2] for line in info.decode("ascii", "replace").split("\r\n"))
        policy = told.get("maxmemory_policy", "")
        if policy.startswith("allkeys") and told.get("maxmemory") != "0":
            self.log.warn(
                "{where} has maxmemory-policy {policy}: when it is full it throws away what the nodes share, bans and "
                "accounts too. Set it to noeviction.",
                where=self.where,
                policy=policy,
            )

    def _warn(self, field: bytes, why: str) -> None:
        if field not in self._warned and len(self._warned) < 1000:
            self._warned.add(field)
            self.log.warn(
                "{where}: the entry {field} in {key} is skipped: {why}",
                where=self.where,
                field=repr(field[:100]),
                key=self._keys["versions"],
                why=why,
            )


def fits(place: Place, payload: bytes | None) -> bool:
    """Whether an entry is small enough to be shared."""
    return 0 < len(place[0]) <= MAX_KIND and len(_key(place[1])) <= MAX_KEY and len(payload or b"") <= MAX_PAYLOAD


def _key(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _field(place: Place) -> bytes:
    return place[0].encode() + b"\0" + _key(place[1])


def _place(field: bytes) -> Place | None:
    kind, zero, key = field.partition(b"\0")
    if not zero or not 0 < len(kind) <= MAX_KIND or len(key) > MAX_KEY:
        return None
    try:
        return kind.decode(), key.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _version(value: bytes) -> tuple[str, bool] | None:
    text = value.decode("ascii", "replace")
    return (text[:-1], text[-1] == "-") if text[-1:] in ("+", "-") and is_version(text[:-1]) else None


def _older(answer: bytes) -> str:
    version = _version(answer)
    return version[0] if version is not None else ""


def _line(id_: bytes, spelled: list[bytes]) -> Written:
    words = dict(zip(spelled[::2], spelled[1::2], strict=True))
    version = words.get(b"v", b"").decode("ascii", "replace")
    return Written(id_.decode("ascii"), _number(words.get(b"n", b"")), _place(words.get(b"f", b"")), version)


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 19 else -1
