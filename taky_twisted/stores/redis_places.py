"""Where in Redis what is kept, and the commands that put it there.

=====================================  ====================================================================
``taky:{hostname}:persist:{uid}``      an item's XML, expiring when it leaves the map: taky's own documented keys,
                                       which other programs read and write
``taky:{hostname}:store:items``        a hash, by uid: what the XML does not say, its groups above all, and a
                                       digest of it
``taky:{hostname}:store:{list}``       a hash for each other kind of record, by its key
``taky:{hostname}:store:written:{id}`` the number of the newest batch of one run of a server
=====================================  ====================================================================

Nodes of one server share the items; the rest is each one's own, at ``taky:{hostname}:store:{node}:...``, because what
has a number has another one on each node. The first process of a machine takes over what stands there under the names
that it had when there was another number of them; its name is empty while it is the only one.
"""

from __future__ import annotations

from hashlib import blake2b

from taky_twisted.cot.event import PROLOG
from taky_twisted.cot.times import LATEST
from taky_twisted.record_codec import encode, make, read
from taky_twisted.records import LISTS, Record
from taky_twisted.redis_errors import Argument
from taky_twisted.routing.records import Item

Command = tuple[Argument, ...]

WRITTEN_SECONDS = 86_400
"""How long Redis remembers a run of a server that writes nothing."""

WRITE = """
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) <= last then return -1 end
local at = 3
while at <= #ARGV do
    local words = tonumber(ARGV[at])
    redis.call(unpack(ARGV, at + 1, at + words))
    at = at + words + 1
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return last
"""
"""Do commands, all or none, each with the number of its words in front, and say which batch was the last before.

A batch that was given up because Redis hung may still arrive, after newer ones: its number tells, and it is not done.
"""

READ = """
local found, size = {}, 0
for at, key in ipairs(KEYS) do
    if size >= tonumber(ARGV[2]) then break end
    local value = redis.pcall('GETRANGE', key, 0, ARGV[1])
    if type(value) == 'string' then size = size + #value else value = false end
    found[2 * at - 1] = value
    found[2 * at] = redis.call('PTTL', key)
end
return found
"""
"""Read texts, each cut off at a length, and for how many milliseconds they are there; nothing for what is no text.

When these are so many bytes that it is enough, the rest is left out.
"""


class Places:
    """The keys of one server, which its hostname names."""

    def __init__(self, hostname: str, run: str, node: str = "") -> None:
        """Name them.

        Args:
            hostname: as in taky.
            run: names this run of the server.
            node: names this node of a server that has several.
        """
        self.persist = f"taky:{hostname}:persist:".encode()
        self._items = f"taky:{hostname}:store:{LISTS[Item]}"
        self._store = f"taky:{hostname}:store:{node}:" if node else f"taky:{hostname}:store:"
        self.written = f"{self._store}written:{run}"
        self.own = tuple(kind for kind in LISTS if kind is not Item or not node)
        """The kinds of records that no other node puts there."""

    def hash_of(self, kind: type[Record]) -> str:
        """Name the hash of a kind of record."""
        return self._items if kind is Item else f"{self._store}{LISTS[kind]}"

    def write(self, number: int, commands: list[Command]) -> Command:
        """Spell a batch of commands; it is not done after one with a higher number."""
        words = [word for command in commands for word in (len(command), *command)]
        return ("EVAL", WRITE, 1, self.written, number, WRITTEN_SECONDS, *words)

    def read(self, keys: list[bytes], longest: int, enough: int) -> Command:
        """Spell a reading of texts up to a length, the first of them until it is enough bytes."""
        return ("EVAL", READ, len(keys), *keys, longest, enough)

    def put(self, record: Record, now: float) -> list[Command]:
        """Spell what keeps a record; one that has expired is removed."""
        key = encoded(record.key)
        if not isinstance(record, Item):
            return [("HSET", self.hash_of(type(record)), key, encode(record))]
        milliseconds = int((min(record.expires, LATEST) - now) * 1000)
        if milliseconds <= 0:
            return self.remove(Item, record.key)
        value, index = spell_item(record)
        return [("SET", self.persist + key, value, "PX", milliseconds), ("HSET", self.hash_of(Item), key, index)]

    def remove(self, kind: type[Record], key: str) -> list[Command]:
        """Spell what removes a record."""
        field = encoded(key)
        commands: list[Command] = [("HDEL", self.hash_of(kind), field)]
        if kind is Item:
            commands.append(("DEL", self.persist + field))
        return commands


def encoded(key: str) -> bytes:
    """Spell a key."""
    return key.encode("utf-8", "surrogatepass")


def decoded(key: bytes) -> str:
    """Read a key.

    Raises:
        UnicodeDecodeError: it is none of ours.
    """
    return key.decode("utf-8", "surrogatepass")


def spell_item(item: Item) -> tuple[bytes, bytes]:
    """Spell an item as its XML, without a prolog as taky has it, and what else is to be known of it."""
    has_prolog = item.xml.startswith(PROLOG)
    value = item.xml[len(PROLOG) :] if has_prolog else item.xml
    return value, encode(item, uid=None, xml=None, prolog=has_prolog, digest=_digest(value))


def read_item(uid: str, value: bytes, index: bytes) -> Item | None:
    """Read an item; None if the XML is not the one that was written with the rest.

    Raises:
        UnreadableRecord: the rest is not ours.
    """
    spelled = read(index)
    if spelled.get("digest") != _digest(value):
        return None
    return make(Item, spelled, uid=uid, xml=PROLOG + value if spelled.get("prolog") else value)


def _digest(value: bytes) -> str:
    return blake2b(value, digest_size=8).hexdigest()
