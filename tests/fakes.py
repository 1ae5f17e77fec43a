"""Small real stand-ins: a site without sockets, and clients that speak bytes to it."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.identity.principal import ANON_GROUP, Certificate, Principal
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import LEVELS
from taky_twisted.routing.outbox import Replay
from taky_twisted.routing.recorder import Recorder
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.streaming.connections import Connections
from taky_twisted.streaming.factory import CoTFactory
from taky_twisted.streaming.protocol import CoTProtocol
from taky_twisted.takproto.batch import Batch

from .samples import NOW, sa

SERVER_ID = "0123456789abcdef0123456789abcdef"


def principal(
    name: str, groups_in: Iterable[str] = (ANON_GROUP,), groups_out: Iterable[str] = (ANON_GROUP,)
) -> Principal:
    """Make somebody who showed a certificate."""
    return Principal(name, frozenset(groups_in), frozenset(groups_out), Certificate(name, "CN=Test CA", 1))


class MemorySink:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.replayed: list[Event] = []
        self.closed: str | None = None
        self.waiting: list[Event] = []
        """What `unsent` gives back."""

    def deliver(self, batch: Batch) -> None:
        self.events += batch.events

    def replay(self, entries: Iterable[Replay]) -> None:
        for _, events in entries:
            self.replayed += events

    def close(self, reason: str) -> None:
        self.closed = reason

    def unsent(self) -> list[Event]:
        waiting, self.waiting = self.waiting, []
        return waiting


class WireTransport:
    """The server's end of a connection that can be full; what is written is kept."""

    def __init__(self, address: IPv4Address) -> None:
        self._address = address
        self.written = bytearray()
        self.producer: IPushProducer | None = None
        self.reading = True
        self.lost: str | None = None
        """How the server closed it: ``lose`` or ``abort``."""
        self.sent: int | None = 0
        """What the kernel took, as `taky_twisted.streaming.transport.EagerServer` counts it."""
        self.room: int | None = None
        """Bytes that it takes before it says that it is full; None for any number."""
        self.address: IPv4Address | UNIXAddress = IPv4Address("TCP", "192.0.2.10", 8087)
        """The server's own end."""

    def getPeer(self) -> IPv4Address:
        return self._address

    def getHost(self) -> IPv4Address | UNIXAddress:
        return self.address

    def write(self, data: bytes) -> None:
        self.written += data
        if self.room is not None and self.producer is not None:
            self.room -= len(data)
            if self.room < 0:
                self.producer.pauseProducing()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.lost = self.lost or "lose"

    def abortConnection(self) -> None:
        self.lost = "abort"

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True


class LogLines:
    """What is logged during a test, as an operator reads it."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self._observer = EventLoggingObserver.createWithCleanup(test, globalLogPublisher)  # type: ignore[arg-type]

    def __call__(self, *levels: LogLevel) -> list[str]:
        """Read our lines so far, of some levels or of all."""
        return [
            formatEvent(event)
            for event in self._observer
            if event["log_namespace"].startswith("taky_twisted") and event["log_level"] in (levels or LEVELS.values())
        ]


class MemoryRecorder(Recorder):
    """A recorder without files."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, bytes]] = []
        self.failures: list[tuple[str, bytes, str]] = []

    def record(self, sender: str, xml: bytes) -> None:
        self.recorded.append((sender, xml))

    def failed(self, sender: str, data: bytes, reason: str) -> None:
        self.failures.append((sender, data, reason))


class Client:
    """A client on the other end of a `CoTProtocol`, in memory; it says bytes and reads events."""

    def __init__(self, site: Site, host: str, port: int, factory: CoTFactory) -> None:
        self._site = site
        self.transport = WireTransport(IPv4Address("TCP", host, port))
        protocol = factory.buildProtocol(self.transport.getPeer())
        assert protocol is not None, "refused"
        self.protocol: CoTProtocol = protocol
        self.protocol.makeConnection(self.transport)
        self.gone = False

    def say(self, *documents: bytes) -> None:
        """Send documents in one segment; the reactor turn ends after it."""
        self.protocol.dataReceived(b"".join(documents))
        self._site.turn()

    def heard(self) -> list[Event]:
        """Read what came since the last time, as a strict XML client does; it knows no other offer."""
        wire, self.transport.written = bytes(self.transport.written), bytearray()
        documents = wire.split(PROLOG)
        assert documents[0] == b"", documents[0]
        events = [decode(document) for document in documents[1:]]
        return [event for event in events if event.type != "t-x-takp-v"]

    def uids(self) -> list[str]:
        """Read the uids of what came since the last time."""
        return [event.uid for event in self.heard()]

    def types(self) -> list[str]:
        """Read the types of what came since the last time."""
        return [event.type for event in self.heard()]

    def full(self) -> None:
        """Stop reading: the transport tells the protocol that it is full."""
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()

    def reads_on(self) -> None:
        """Read again."""
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()

    def leave(self) -> None:
        """Say goodbye (FIN)."""
        self._end(ConnectionDone())

    def vanish(self) -> None:
        """Break off (RST)."""
        self._end(ConnectionLost())

    def _end(self, reason: Exception) -> None:
        self.gone = True
        self.protocol.connectionLost(Failure(reason))
        self._site.turn()


class _ProvingFactory(CoTFactory):
    """A door behind which everybody has proved to be somebody, as after a TLS handshake."""

    proved: Principal

    def subscribe(self, principal: Principal, connection: CoTProtocol) -> Subscription:
        return super().subscribe(self.proved, connection)


class Site:
    """A server without sockets, disk and passing time."""

    def __init__(
        self,
        store: EventStore | None = None,
        limits: Limits | None = None,
        max_persist_ttl: float = -1,
        chat_fallback: bool = True,
    ) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.limits = limits or Limits()
        self.store = store if store is not None else MemoryStore(self.clock)
        self.router = Router(self.clock, self.store, self.limits, max_persist_ttl, chat_fallback)
        self.router.flow_tag += SERVER_ID
        self.store.open().addCallback(self.router.restore)
        self.connections = Connections(self.clock, self.limits)
        self.factory = CoTFactory(self.clock, self.router, self.connections, "test")
        self._ports = iter(range(40_000, 65_000))

    def turn(self) -> None:
        """End the reactor turn."""
        self.clock.advance(0)

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, with the server's own periodic work."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(step, end - self.clock.seconds()))
        self.router.prune()
        self.turn()

    def connect(self, proved: Principal | None = None, *, host: str = "10.0.0.1", monitor: bool = False) -> Client:
        """Connect a client that says nothing yet; without a principal on a plain TCP port."""
        factory: CoTFactory = self.factory
        if proved is not None:
            factory = _ProvingFactory(self.clock, self.router, self.connections, "test")
            factory.proved = proved
        elif monitor:
            factory = CoTFactory(self.clock, self.router, self.connections, "monitor", monitor=True)
        client = Client(self, host, next(self._ports), factory)
        self.turn()
        return client

    def join(self, uid: str, callsign: str | None = None, proved: Principal | None = None, **keys: object) -> Client:
        """Connect a client that reports itself and has read what it was shown."""
        client = self.connect(proved)
        client.say(sa(uid, callsign or uid, now=self.clock.seconds(), **keys))  # type: ignore[arg-type]
        client.heard()
        return client

    def subscribe(self, proved: Principal, sink: MemorySink | None = None) -> tuple[Subscription, MemorySink]:
        """Subscribe a bare sink."""
        sink = sink or MemorySink()
        return self.router.subscribe(proved, sink, "test"), sink

    def restart(self) -> Site:
        """Start anew on the same store, as after ``kill -9``."""
        site = Site(self.store, self.limits)
        site.clock.rightNow = self.clock.seconds()
        return site
