"""Limits of what nodes tell each other, and of Redis, that have no test at their edge beside their module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted import redis_client, sharing
from taky_twisted.bus import shared_redis
from taky_twisted.bus.envelope import Outgoing, open_batch, sender_of
from taky_twisted.bus.errors import EnvelopeError
from taky_twisted.bus.fields import MAX_INTEGER, codec
from taky_twisted.config.values import parse_worker, parse_workers
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.principal import Principal
from taky_twisted.interfaces import Node
from taky_twisted.redis_client import Redis, RedisSettings, _read_password
from taky_twisted.redis_errors import RedisAway
from taky_twisted.routing.words import Said, Speaker
from taky_twisted.stores.redis_places import Places
from taky_twisted.stores.redis_reading import Reading
from tests.bus.test_fields import Tables
from tests.limits.edges import Edges
from tests.routing.node_hub import NodesCase, ping_pong
from tests.samples import NOW, event, marker, sa
from tests.test_redis_client import PONG, Wire


def is_read(data: bytes) -> bool:
    """Whether a batch is taken."""
    try:
        open_batch(data)
    except EnvelopeError:
        return False
    return True


class BatchTests(Edges, SynchronousTestCase):
    def test_first_line(self) -> None:
        """The first line has so many bytes until its end is looked for no more."""

        def looked_at(size: int) -> bool:
            try:
                sender_of(b"x" * size + b"\n")
            except EnvelopeError as error:
                return "no end of the line" not in str(error)
            return True

        self.assert_edge("bus.envelope.MAX_LINE", looked_at)

    def test_size(self) -> None:
        """A batch has so many bytes."""
        start = b'taky-bus 1 a 1\n{"node":{}}\n'
        self.assert_edge("bus.envelope.MAX_BATCH", lambda size: is_read(start.ljust(size)))

    def test_header(self) -> None:
        """The JSON in it has so many bytes."""
        self.assert_edge(
            "bus.envelope.MAX_HEADER", lambda size: is_read(b"taky-bus 1 a 1\n" + b'{"node":{}}'.ljust(size) + b"\n")
        )

    def test_counts(self) -> None:
        """A node tells so many numbers of itself, and never writes more."""

        def fits(count: int) -> bool:
            counts = b",".join(b'"%d":1' % number for number in range(count))
            return is_read(b'taky-bus 1 a 1\n{"node":{},"counts":{' + counts + b"}}\n")

        self.assert_edge("bus.envelope.MAX_COUNTS", fits)
        written = Outgoing(Node("a", "A"), 1).finish(counts={str(number): 1 for number in range(1000)})
        self.assertTrue(is_read(written))

    def test_name(self) -> None:
        """A node has a name of so many characters; a longer one is cut, by whoever writes it and whoever reads it."""

        def whole(size: int) -> bool:
            read = open_batch(Outgoing(Node("a", "x" * size), 1).finish()).node
            told = open_batch(b'taky-bus 1 a 1\n{"node":{"name":"' + b"x" * size + b'"}}\n').node
            self.assertEqual(read.name, told.name)
            return len(read.name) == size

        self.assert_edge("bus.envelope.MAX_NAME", whole)


class FieldTests(Edges, SynchronousTestCase):
    def reads(self, kind: Any, value: object) -> bool:
        """Whether a value of a kind is taken."""
        try:
            codec(kind)[1](value, Tables())
        except EnvelopeError:
            return False
        return True

    def test_values(self) -> None:
        """Texts and lists have their sizes."""
        self.assert_edge("bus.fields.MAX_TEXT", lambda size: self.reads(str, "x" * size))
        self.assert_edge("bus.fields.MAX_COUNT", lambda count: self.reads(tuple[int, ...], [1] * count))

    def test_numbers(self) -> None:
        """Numbers are smaller than that, on either side of zero."""
        for sign in (1, -1):
            numbers = [sign * (MAX_INTEGER + more) for more in (-1, 0, 1)]
            self.assertEqual([self.reads(int, number) for number in numbers], [True, False, False])


class EntryTests(Edges, SynchronousTestCase):
    def test_fits(self) -> None:
        """An entry of the shared log has a kind, a key and a content of such sizes."""
        fits = shared_redis.fits
        self.assert_edge("bus.shared_redis.MAX_KEY", lambda size: fits(("kind", "x" * size), b"x"))
        self.assert_edge("bus.shared_redis.MAX_KIND", lambda size: fits(("x" * size, "key"), b"x"))
        self.assert_edge("bus.shared_redis.MAX_PAYLOAD", lambda size: fits(("kind", "key"), b"x" * size))
        self.assert_edge("bus.shared_redis.MAX_KEY", lambda size: _place_is_read(b"kind\0" + b"x" * size))
        self.assert_edge("bus.shared_redis.MAX_KIND", lambda size: _place_is_read(b"x" * size + b"\0key"))

    def test_entries(self) -> None:
        """The shared log has so many entries until it is not read any more."""

        def is_read(count: int) -> bool:
            shared = shared_redis.SharedRedis(MemoryReactorClock(), RedisSettings("unix:/redis.sock"), "T")
            pairs = [word for number in range(count) for word in (b"kind\0%d" % number, b"1" * 27 + b"+")]

            class Scanned:
                def call(self, *words: object, seconds: float) -> Deferred[Any]:
                    return succeed([b"0", pairs])

            shared._redis = Scanned()  # type: ignore[assignment]
            found: list[Any] = []
            Deferred.fromCoroutine(shared.versions()).addBoth(found.append)
            if isinstance(found[0], Failure):
                self.assertIn("entries in taky:T:shared", str(found[0].trap(RedisAway) and found[0].value))
                return False
            return len(found[0]) == count

        self.assert_edge("bus.shared_redis.MAX_ENTRIES", is_read, small=5)

    def test_foreign(self) -> None:
        """An item that another program has put into Redis has so many bytes."""
        self.assert_edge("stores.redis_reading.MAX_XML", lambda size: _is_taken_in(_reading(), size))

    def test_all_foreign(self) -> None:
        """All these together have so many bytes."""

        def fits(size: int) -> bool:
            reading = _reading()
            return _is_taken_in(reading, 1000) and _is_taken_in(reading, size - 1000)

        self.assert_edge("stores.redis_reading.MAX_FOREIGN_BYTES", fits, small=5000)

    def test_waiting(self) -> None:
        """Commands are taken as long as less than that waits for an answer of Redis."""
        for more, taken in ((-1, True), (0, False), (1, False)):
            reactor = MemoryReactorClock()
            redis = Redis(reactor, RedisSettings("unix:/redis.sock"))
            redis.startService()
            wire = Wire(redis, reactor, -1)
            wire.answer(PONG)
            first = redis.call("GET", "a")
            assert redis._connection is not None
            self.patch(redis_client, "MAX_WAITING", redis._connection.waiting_bytes - more)
            second = redis.call("GET", "b")
            if taken:
                self.assertNoResult(second)
            else:
                self.assertIn("does not keep up", str(self.failureResultOf(second, RedisAway).value))
            wire.lose()
            for waiting in (first, *([second] if taken else [])):
                self.failureResultOf(waiting, RedisAway)
            redis.stopService()
            self.assertEqual([call for call in reactor.getDelayedCalls() if call.active()], [])

    def test_password(self) -> None:
        """The file with Redis' password has so many bytes."""

        def fits(size: int) -> bool:
            path = Path(self.mktemp())
            path.touch(0o600)
            path.write_bytes(b"x" * size)
            try:
                return _read_password(path) == "x" * size
            except EndpointError:
                return False

        self.assert_edge("redis_client.MAX_PASSWORD", fits)

    def test_key(self) -> None:
        """The key for access tokens that another node hands on has so many bytes."""
        key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.assert_edge("sharing.MAX_KEY_FILE", lambda size: sharing._is_key(key.ljust(size, b"\n")))

    def test_workers(self) -> None:
        """There may be so many workers."""

        def fits(count: int) -> bool:
            try:
                return parse_workers(str(count)) == parse_worker(str(count)) == count
            except ValueError:
                return False

        self.assert_edge("config.values.MAX_WORKERS", fits)


class RoutingTests(Edges, NodesCase):
    def test_delivered(self) -> None:
        """Of so many chats it is remembered that they were delivered here; the first is forgotten first."""

        def remembered(count: int) -> bool:
            nodes = self.start(f"n{count}").nodes
            for number in range(count):
                self.assertFalse(nodes.delivered("A", event(ping_pong("X", "A", number=number))))
            return nodes.delivered("A", event(ping_pong("X", "A", number=0)))

        self.assert_edge("routing.nodes.MAX_DELIVERED", remembered, small=5)

    def test_speakers(self) -> None:
        """Of one node so many senders without a connection are told apart."""

        def all_of(count: int) -> bool:
            node = f"node{count}"
            self.a.nodes.joined(Node(node, node))
            for number in range(count):
                speaker = Speaker(number, Principal(), Principal(), f"10.0.0.{number}", NOW, from_server=True)
                self.a.nodes.heard(node, Said(speaker, event(sa(f"{node}-{number}", "X"))))
            return len(self.a.nodes._remotes._tables[node].servers) == count

        self.assert_edge("routing.remote.MAX_SERVER_SPEAKERS", all_of, small=5)


def _reading() -> Reading:
    redis = Redis(MemoryReactorClock(), RedisSettings("unix:/redis.sock"))
    return Reading(redis, Places("tak.example", "run"), None)


def _is_taken_in(reading: Reading, size: int) -> bool:
    document = marker("M")
    try:
        return reading._read_event("M", document + b" " * (size - len(document))).uid == "M"
    except MalformedEvent:
        return False


def _place_is_read(field: bytes) -> bool:
    return shared_redis._place(field) is not None
