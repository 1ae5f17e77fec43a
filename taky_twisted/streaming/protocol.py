"""One CoT stream: bytes between a transport and its `TAKConnection`, events between that and the router.

It decides nothing about events. What it knows is the transport: when the peer is proved, when it is full, when it is
gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IHandshakeListener, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from taky_twisted.cot.event import Event
from taky_twisted.identity.certificates import principal_of
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.identity.refusals import explain, looks_like_tls
from taky_twisted.identity.transport import refusal_of
from taky_twisted.routing.outbox import Outbox, OutboxOverflow, Replay
from taky_twisted.takproto.batch import Batch
from taky_twisted.takproto.connection import Reply, TAKConnection
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable

from .connections import host_of
from .transport import StreamTransport, bytes_sent

if TYPE_CHECKING:
    from taky_twisted.routing.subscription import Subscription

    from .factory import CoTFactory

BUDGET_SECONDS = 1.0
"""The window over which input is counted."""
CLOSE_SECONDS = 5
"""How long a connection may take to close."""


@implementer(IHandshakeListener, IPushProducer)
class CoTProtocol(Protocol):
    """A client's (or a bot's, or the monitor's) connection; the `Sink` of its subscription."""

    factory: CoTFactory
    transport: StreamTransport  # type: ignore[assignment]  # always there when we are called

    def __init__(self, factory: CoTFactory, address: IAddress) -> None:
        self.factory = factory
        self._address = address
        limits = factory.limits
        self._clock = factory.clock
        self._tak = TAKConnection(
            limits.max_event_bytes, limits.max_unidentified_bytes, factory.connections.shapes.decode
        )
        self._outbox = Outbox(limits.outbox_bytes, limits.thin_seconds)
        self._subscription: Subscription | None = None
        self._handshake: IDelayedCall | None = None
        self._flowing = False  # the transport takes more, and nothing waits
        self._finishing = False
        self._why = ""  # why we close it
        self._counted_unidentified = True
        self._timers: dict[str, IDelayedCall] = {}
        self._last_pong = 0.0
        self._window = 0.0  # when the count of input began
        self._events = self._bytes = 0  # in this window
        self._heard = 0.0  # when a byte came last
        self._full_since: float | None = None  # since when the transport takes no more and lets nothing out
        self._sent: int | None = None  # bytes that had left when we last looked

    @property
    def peer(self) -> str:
        """The address and the door, for people."""
        host, port = getattr(self._address, "host", None), getattr(self._address, "port", None)
        where = "a local process" if host is None else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{where} at {self.factory.door}"

    # The transport

    def connectionMade(self) -> None:
        self._heard = self._clock.seconds()
        self.factory.connections.opened(self, self._address)
        if ISSLTransport.providedBy(self.transport):
            self.factory.connections.handshakes += 1
            self._handshake = self._clock.callLater(self.factory.limits.handshake_seconds, self._handshake_too_slow)
        else:
            self._open(ANONYMOUS)

    def handshakeCompleted(self) -> None:
        # Not connectionMade: there the peer has not shown its certificate yet.
        self._end_handshake()
        principal = principal_of(self.transport)
        refusal = refusal_of(self.transport, principal)
        if refusal is not None:
            self._refused(refusal)
            self.abort("")
            return
        self._open(principal)

    def dataReceived(self, data: bytes) -> None:
        subscription = self._subscription
        if subscription is None:
            return
        now = self._clock.seconds()
        self._heard = subscription.sink_heard = now
        if not self._tak.spoke and looks_like_tls(data) and not self._bytes:
            self._refused("the client speaks TLS; this port is plain TCP")
            self.abort("")
            return
        count = 0
        recorder = self.factory.recorder
        try:
            for said in self._tak.receive(data, now):
                count += 1
                if isinstance(said, Event):
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
            self.abort(str(error))
            return
        if self._counted_unidentified and subscription.primary is not None:
            self._counted_unidentified = False
            self.factory.connections.unidentified -= 1
        self._count(len(data), count, now)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        if self._handshake is not None:
            self._end_handshake()
            self._refused(explain(reason, self.transport))
        self._flowing = False
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            if subscription.primary is not None:
                self.factory.connections.notices.say(
                    "{name} left: {why} ({peer})",
                    name=subscription.name,
                    why=self._why or ("it said goodbye" if reason.check(ConnectionDone) else "the connection broke"),
                    peer=self.peer,
                )
            elif self._why:
                self.factory.connections.notices.say("{peer} closed: {why}", peer=self.peer, why=self._why)
            subscription.close(clean=bool(reason.check(ConnectionDone)) and not self._why)
        self.factory.connections.closed(self, self._address, not self._counted_unidentified)

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
                self._outbox.add(batch, self._clock.seconds())
            except OutboxOverflow as error:
                self.abort(f"it reads too slowly: {error}")

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
        limits = self.factory.limits
        if self._full_since is not None:
            sent = bytes_sent(self.transport)
            if sent != self._sent:
                self._full_since, self._sent = now, sent
            elif now - self._full_since >= limits.stall_seconds:
                self.abort(f"it took nothing for {limits.stall_seconds:g} seconds (stall_seconds)")
                return
        subscription = self._subscription
        if (
            subscription is not None
            and (subscription.primary is not None or self._tak.pinged)
            and now - self._heard > limits.idle_seconds
        ):
            self.abort(f"nothing was heard from it for {limits.idle_seconds:g} seconds (idle_seconds)")

    def check_certificate(self) -> None:
        """Close the connection if its certificate is refused by now: resumed or live, revoked is revoked."""
        if self._subscription is not None:
            refusal = refusal_of(self.transport, self._subscription.principal)
            if refusal is not None:
                self.abort(refusal)

    def _open(self, principal: Principal) -> None:
        self.transport.registerProducer(self, True)
        self._flowing = True
        if self.factory.offers_protobuf(principal):
            self.transport.write(self._tak.offer(self._clock.seconds()))
        self._subscription = self.factory.subscribe(principal, self)
        if self._counted_unidentified and self.factory.monitor:
            self._counted_unidentified = False
            self.factory.connections.unidentified -= 1

    def _drain(self) -> None:
        """Write what waits until it is gone or the transport is full (which makes `_flowing` False)."""
        while self._flowing and (batch := self._outbox.take()) is not None:
            self.transport.write(self._tak.send(batch))
        if self._finishing and not self._outbox:
            self._lose()

    def _lose(self) -> None:
        self._flowing = False
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        # TLS waits for the peer's goodbye, TCP for what the kernel does not take: a dead peer gives neither.
        self._later("lose", CLOSE_SECONDS, self.transport.abortConnection)

    def _reply(self, reply: Reply, now: float) -> None:
        if reply.optional and self._full_since is not None:
            # A full transport still takes one pong a second: the peer must not think us dead, nor fill our memory.
            if now - self._last_pong < 1:
                return
            self._last_pong = now
        self.transport.write(reply.data)

    def _count(self, size: int, events: int, now: float) -> None:
        """Stop reading for a moment when the peer says more than it may in a second."""
        if not 0 <= now - self._window < BUDGET_SECONDS:
            self._window, self._events, self._bytes = now, 0, 0
        self._events += events
        self._bytes += size
        limits = self.factory.limits
        if self._events > limits.input_events_per_second or self._bytes > limits.input_bytes_per_second:
            # Longer for who overdrew more, so that the rate holds also when one read brings a lot.
            overdrawn = max(self._events / limits.input_events_per_second, self._bytes / limits.input_bytes_per_second)
            self.transport.pauseProducing()
            self._later("read", self._window + overdrawn * BUDGET_SECONDS - now, self.transport.resumeProducing)

    def _later(self, what: str, seconds: float, call: Callable[[], None]) -> None:
        """Do something in a while, unless the connection is lost before; once per kind."""
        timer = self._timers.get(what)
        if timer is None or not timer.active():
            self._timers[what] = self._clock.callLater(seconds, call)

    def _name(self) -> str:
        subscription = self._subscription
        primary = subscription.primary if subscription is not None else None
        return primary.uid if primary is not None else host_of(self._address) or self.factory.door

    def _unreadable(self, problem: Unreadable) -> None:
        self.factory.connections.notices.say(
            "an event from {peer} is not passed on: {reason}", peer=self.peer, reason=problem.reason
        )
        if self.factory.recorder is not None:
            self.factory.recorder.failed(self._name(), problem.data, problem.reason)

    def _refused(self, why: str) -> None:
        self.factory.connections.notices.say("{peer} refused: {why}", peer=self.peer, why=why)

    def _end_handshake(self) -> None:
        timer, self._handshake = self._handshake, None
        assert timer is not None, "a TLS connection begins with a handshake"
        if timer.active():
            timer.cancel()
        self.factory.connections.handshakes -= 1

    def _handshake_too_slow(self) -> None:
        self._refused(explain(Failure(TimeoutError()), self.transport))
        self._end_handshake()
        self.abort("")
