"""A connection on which events are said and heard: what is the same whatever carries them.

It decides nothing about events. What it knows is the transport: when it is full, when nothing leaves it, when the peer
says too much or nothing at all.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import Event
from taky_twisted.notices import Notices
from taky_twisted.takproto.batch import Batch
from taky_twisted.takproto.connection import Reply, Said
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable

from .outbox import Outbox, OutboxOverflow, Replay

if TYPE_CHECKING:
    from .recorder import Recorder
    from .subscription import Subscription
    from .tally import Tally

BUDGET_SECONDS = 1.0
"""The window over which input is counted."""
MAX_GAP_SECONDS = 30
"""Connections are seen to every few seconds; after a longer gap, or a negative one, it was not they who were silent."""
CLOSE_SECONDS = 5
"""How long a connection may take to close."""


class StreamTransport(typing.Protocol):
    """What we ask of a stream's transport, TCP, unix or TLS."""

    def getHost(self) -> IAddress: ...
    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...


class Tak(typing.Protocol):
    """What is spoken on a connection: `TAKConnection`, or the same in a WebSocket."""

    send: Callable[[Batch], bytes]
    """Spells a batch for the peer; may change between two events."""

    @property
    def pinged(self) -> bool: ...
    @property
    def protocol(self) -> str: ...
    def receive(self, data: bytes, now: float) -> Iterator[Said]: ...


@dataclass(frozen=True, slots=True)
class StreamState:
    """How a connection is doing, for operators."""

    address: str | None
    """The peer's, without a port; None for a local process."""
    door: str
    protocol: str
    """How the peer is written to: ``xml``, ``protobuf`` or ``protobuf in WebSocket``."""
    began: float
    """When the peer was known, seconds since the epoch."""
    heard: float
    """When a byte came last; 0 if none ever did."""
    events: int
    """What it said, what could not be read included."""
    backlog: int
    """Bytes that wait for it, beyond what its transport holds."""
    dropped: int
    """Events that were overtaken by newer ones or dropped, because it reads too slowly."""
    full: bool
    """Whether its transport takes no more at the moment."""


@implementer(IPushProducer)
class TAKStream(Protocol):
    """A client's connection; the `Sink` of its subscription, which a subclass makes once the peer is known."""

    # Up to 30 attributes Python keeps without a dict for each object: with slots here, subclasses have those for
    # themselves. Else a connection takes 1.3 KB more, and every delivery longer.
    __slots__ = (
        "_address",
        "_began",
        "_bytes",
        "_clock",
        "_door",
        "_events",
        "_finishing",
        "_flowing",
        "_full_since",
        "_heard",
        "_last_optional",
        "_limits",
        "_looked",
        "_notices",
        "_outbox",
        "_recorder",
        "_said",
        "_sent",
        "_subscription",
        "_tak",
        "_tally",
        "_timers",
        "_why",
        "_window",
        "peer",
    )

    transport: StreamTransport  # type: ignore[assignment]  # always there when we are called

    def __init__(
        self,
        clock: IReactorTime,
        limits: Limits,
        tak: Tak,
        address: IAddress,
        door: str,
        notices: Notices,
        recorder: Recorder | None,
        tally: Tally,
    ) -> None:
        """Describe a connection.

        Args:
            clock: tells the time.
            limits: how much it may have.
            tak: what is spoken on it.
            address: the peer's.
            door: where it came in, for the log.
            notices: tells operators of it.
            recorder: writes down what is said, if that is wanted.
            tally: counts what is said, and what a slow reader does not get.
        """
        self._clock, self._limits, self._notices, self._recorder = clock, limits, notices, recorder
        self._tak, self._tally = tak, tally
        host, port = getattr(address, "host", None), getattr(address, "port", None)
        where = "a local process" if host is None else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.peer = f"{where} at {door}"
        """The address and the door, for people."""
        self._address, self._door = address, door
        self._outbox = Outbox(limits.outbox_bytes, limits.thin_seconds)
        self._subscription: Subscription | None = None
        self._flowing = False  # the transport takes more, and nothing waits
        self._finishing = False
        self._why = ""  # why we close it
        self._timers: dict[str, IDelayedCall] = {}
        self._last_optional = 0.0  # when a reply went to a full transport
        self._window = 0.0  # when the count of input began
        self._events = self._bytes = 0  # in this window
        self._began = 0.0  # when the peer was known
        self._said = 0  # events and whatever else came, in all
        self._heard = 0.0  # when a byte came last
        self._looked = 0.0  # when it was last seen to
        self._full_since: float | None = None  # since when the transport takes no more and lets nothing out
        self._sent: int | None = None  # bytes that had left when we last looked

    # The transport

    def dataReceived(self, data: bytes) -> None:
        subscription = self._subscription
        if subscription is None:
            return
        now = self._clock.seconds()
        self._heard = subscription.sink_heard = now
        count = 0
        recorder, positions, types = self._recorder, self._tally.positions, self._tally.types
        try:
            for said in self._tak.receive(data, now):
                count += 1
                if isinstance(said, Event):
                    (positions if said.detail.takv is not None else types[said.type]).heard += 1
                    subscription.publish(said)
                    if recorder is not None:
                        recorder.record(self._name(), said.xml)
                elif isinstance(said, Reply):
                    self._reply(said, now)
                else:
                    self._unreadable(said)
                if subscription.closed:
                    return
        except RemoteProtocolError as error:
            self._broke_rules(error)
            return
        self._said += count
        self._count(len(data), count, now)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._flowing = False
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        if subscription.primary is not None:
            self._notices.say(
                "{name} left: {why} ({peer})",
                name=subscription.name,
                why=self._why or ("it said goodbye" if reason.check(ConnectionDone) else "the connection broke"),
                peer=self.peer,
            )
        elif self._why:
            self._notices.say("{peer} closed: {why}", peer=self.peer, why=self._why)
        subscription.close(clean=bool(reason.check(ConnectionDone)) and not self._why)

    # IPushProducer: the transport says when it is full

    def pauseProducing(self) -> None:
        self._flowing = False
        if self._full_since is None:
            self._full_since = self._clock.seconds()
            self._sent = bytes_sent(self.transport)

    def resumeProducing(self) -> None:
        self._full_since = None
        if self._subscription is None:
            return
        self._flowing = True
        self._drain()

    def stopProducing(self) -> None:
        self._flowing = False

    # Sink

    def deliver(self, batch: Batch) -> None:
        if self._flowing:
            self.transport.write(self._tak.send(batch))
        elif self._subscription is not None and not self._subscription.closed:
            try:
                self._tally.thinned += self._outbox.add(batch, self._clock.seconds())
            except OutboxOverflow as error:
                self._give_up("overflow", f"it reads too slowly: {error}")

    def replay(self, entries: Iterable[Replay]) -> None:
        self._outbox.replay(entries)
        if self._flowing:
            self._drain()

    def close(self, reason: str) -> None:
        self._why = self._why or reason
        self.finish()

    def unsent(self) -> list[Event]:
        return self._outbox.unsent()

    # The server

    def finish(self) -> None:
        """Close after what is directed to this peer was sent."""
        self._finishing = True
        self._why = self._why or "the server stops"
        if self._subscription is None:
            self.transport.abortConnection()
            return
        self._outbox.keep_directed()
        if not self._outbox:
            self._lose()

    def abort(self, reason: str) -> None:
        """Close at once."""
        self._why = self._why or reason
        self._flowing = False
        self.transport.abortConnection()

    def look(self, now: float) -> None:
        """Close the connection if it is stalled or has fallen silent; called every few seconds."""
        limits = self._limits
        gap, self._looked = now - self._looked, now
        if not 0 <= gap < MAX_GAP_SECONDS:
            # The clock was set, or this process stood still: nobody was silent for so long.
            self._heard, self._began = now, self._began + gap
            if self._full_since is not None:
                self._full_since = now
        if self._full_since is not None:
            sent = bytes_sent(self.transport)
            if sent != self._sent:
                self._full_since, self._sent = now, sent
            elif now - self._full_since >= limits.stall_seconds:
                self._give_up("stalled", f"it took nothing for {limits.stall_seconds:g} seconds (stall_seconds)")
                return
        if self._subscription is not None and self._owes_a_sign() and now - self._heard > limits.idle_seconds:
            self._give_up("idle", f"nothing was heard from it for {limits.idle_seconds:g} seconds (idle_seconds)")

    @property
    def state(self) -> StreamState:
        """How the connection is doing."""
        return StreamState(
            address=self._host(),
            door=self._door,
            protocol=self._tak.protocol,
            began=self._began,
            heard=self._heard if self._said else 0.0,
            events=self._said,
            backlog=self._outbox.backlog,
            dropped=self._outbox.dropped,
            full=self._full_since is not None,
        )

    # For subclasses

    def _start(self) -> None:
        """Begin to write: the peer is known."""
        self._heard = self._began = self._looked = self._clock.seconds()
        self.transport.registerProducer(self, True)
        self._flowing = True

    def _owes_a_sign(self) -> bool:
        """Whether the peer is dead if nothing is heard from it; who only listens need not say anything."""
        subscription = self._subscription
        return self._tak.pinged or (subscription is not None and subscription.primary is not None)

    def _broke_rules(self, error: RemoteProtocolError) -> None:
        self.abort(str(error))

    def _give_up(self, reason: str, why: str) -> None:
        """Close at once, and count that; who is closed already is not counted again."""
        if not self._why:
            self._tally.was_closed(reason, self._outbox.waiting)
        self.abort(why)

    def _lose(self) -> None:
        """Close: everything is written that shall be."""
        self._flowing = False
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        # TLS waits for the peer's goodbye, TCP for what the kernel does not take: a dead peer gives neither.
        self._later("lose", CLOSE_SECONDS, self.transport.abortConnection)

    def _later(self, what: str, seconds: float, call: Callable[[], None]) -> None:
        """Do something in a while, unless the connection is lost before; once per kind."""
        timer = self._timers.get(what)
        if timer is None or not timer.active():
            self._timers[what] = self._clock.callLater(seconds, call)

    def _count(self, size: int, events: int, now: float) -> None:
        """Stop reading for a moment when the peer says more than it may in a second."""
        if not 0 <= now - self._window < BUDGET_SECONDS:
            self._window, self._events, self._bytes = now, 0, 0
        self._events += events
        self._bytes += size
        limits = self._limits
        if self._events > limits.input_events_per_second or self._bytes > limits.input_bytes_per_second:
            # Longer for who overdrew more, so that the rate holds also when one read brings a lot.
            overdrawn = max(self._events / limits.input_events_per_second, self._bytes / limits.input_bytes_per_second)
            self.transport.pauseProducing()
            self._later("read", self._window + overdrawn * BUDGET_SECONDS - now, self.transport.resumeProducing)

    def _drain(self) -> None:
        """Write what waits until it is gone or the transport is full (which makes `_flowing` False)."""
        while self._flowing and (batch := self._outbox.take()) is not None:
            self.transport.write(self._tak.send(batch))
        if self._finishing and not self._outbox:
            self._lose()

    def _reply(self, reply: Reply, now: float) -> None:
        if reply.optional and self._full_since is not None:
            # A full transport still takes one pong a second: the peer must not think us dead, nor fill our memory.
            if now - self._last_optional < 1:
                return
            self._last_optional = now
        self.transport.write(reply.data)

    def _host(self) -> str | None:
        return getattr(self._address, "host", None)

    def _name(self) -> str:
        subscription = self._subscription
        primary = subscription.primary if subscription is not None else None
        return primary.uid if primary is not None else self._host() or self._door

    def _unreadable(self, problem: Unreadable) -> None:
        self._tally.unreadable += 1
        self._notices.say("an event from {peer} is not passed on: {reason}", peer=self.peer, reason=problem.reason)
        if self._recorder is not None:
            self._recorder.failed(self._name(), problem.data, problem.reason)


def bytes_sent(transport: object) -> int | None:
    """How many bytes have left through a transport, TLS or not; None where that is not counted."""
    inner = getattr(transport, "transport", transport)
    sent = getattr(inner, "sent", None)
    return sent if isinstance(sent, int) else None
