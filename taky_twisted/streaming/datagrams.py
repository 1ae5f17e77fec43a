"""CoT in datagrams: a UDP port that takes single events in, and multicast groups in one or both directions.

Source: TAK Server ``nio/protocol/connections/SingleProtobufOrCotProtocol.java`` (one datagram, one event), ATAK-CIV
``commoncommo/core/impl/datagramsocketmanagement.cpp`` (up to 64 KiB).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.error import CannotListenError, MessageLengthError, MulticastJoinError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from taky_twisted.cot.compose import with_flow_tag
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.logs import Logger
from taky_twisted.notices import Notices
from taky_twisted.routing.outbox import Replay
from taky_twisted.routing.recorder import Recorder
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.takproto.batch import Batch
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable, XMLFraming

MAX_DATAGRAM = 65_507
"""Bytes that fit into one UDP datagram over IPv4."""
TTL = 5
"""Routers that a multicast event of ours may cross (TAK Server's default)."""
SEEN_SECONDS = 30
"""How long an event is remembered, so that it is not taken in twice."""
SEEN_EVENTS = 10_000


class Seen:
    """Events of the last seconds, to break loops of bridges that know no flow tags."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, float, str], float] = {}

    def is_new(self, event: Event, now: float) -> bool:
        """Remember an event; False if it was here a moment ago."""
        key = event.uid, event.time, event.type
        if now - self._events.get(key, -SEEN_SECONDS) < SEEN_SECONDS:
            return False
        self._events.pop(key, None)
        self._events[key] = now
        while len(self._events) > SEEN_EVENTS or now - next(iter(self._events.values())) >= SEEN_SECONDS:
            del self._events[next(iter(self._events))]
        return True


class CoTDatagrams(DatagramProtocol):
    """Take in one event per datagram. Nothing is ever answered, and no sender becomes a contact."""

    log = Logger()

    def __init__(
        self, clock: IReactorTime, router: Router, door: str, notices: Notices, recorder: Recorder | None = None
    ) -> None:
        """Describe a port.

        Args:
            clock: tells the time.
            router: where events go.
            door: its name in the log.
            notices: where unreadable datagrams are told of.
            recorder: writes down what is heard, if that is wanted.
        """
        self._clock, self._router, self._door = clock, router, door
        self._notices, self._recorder, self._tally = notices, recorder, router.audiences.tally
        self._seen = Seen()
        self._subscription: Subscription = router.speaker(ANONYMOUS, self, door)

    def datagramReceived(self, datagram: bytes, addr: tuple[Any, ...]) -> None:
        sender = f"{addr[0]} at {self._door}"
        try:
            event = read_datagram(datagram)
            if event is None:
                return
        except MalformedEvent as error:
            self._tally.unreadable += 1
            self._notices.say("a datagram from {sender} is not passed on: {reason}", sender=sender, reason=str(error))
            if self._recorder is not None:
                self._recorder.failed(sender, datagram, str(error))
            return
        if self._recorder is not None:
            self._recorder.record(sender, event.xml)
        if self._seen.is_new(event, self._clock.seconds()):
            self._tally.of(event).heard += 1
            self._subscription.publish(event)

    # Sink: there is nobody to tell.

    def deliver(self, batch: Batch) -> None:
        """Say nothing."""

    def replay(self, entries: Iterable[Replay]) -> None:
        """Say nothing."""

    def close(self, reason: str) -> None:
        """Stay open: a datagram port is nobody's."""

    def unsent(self) -> list[Event]:
        return []


class CoTMulticast(CoTDatagrams):
    """Join a multicast group: take in what is said there, say there what is said to everybody, or both."""

    def __init__(
        self,
        clock: IReactorTime,
        router: Router,
        door: str,
        notices: Notices,
        group: str,
        port: int,
        interface: str | None = None,
        hears: bool = True,
        speaks: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        """Describe a group; further arguments are those of `CoTDatagrams`.

        Args:
            clock: tells the time.
            router: where events go to and come from.
            door: its name in the log.
            notices: where unreadable datagrams are told of.
            group: IPv4 address of the group.
            port: UDP port.
            interface: IPv4 address of the interface; None lets the system choose.
            hears: whether what is said in the group is taken in.
            speaks: whether what is said to everybody is said there too.
            recorder: writes down what is heard, if that is wanted.
        """
        super().__init__(clock, router, door, notices, recorder)
        self._group, self._port, self._interface = group, port, interface
        self._hears = hears
        self.too_large = 0
        """Events that did not fit into a datagram."""
        self.unsent_events = 0
        """Events that the system did not send: no network, for example."""
        if speaks:
            self._subscription = router.subscribe(ANONYMOUS, self, door, from_server=True)

    def startProtocol(self) -> None:
        transport: Any = self.transport
        transport.setLoopbackMode(False)
        transport.setTTL(TTL)
        # With an address both know at once.
        failures: list[Failure] = []
        if self._interface is not None:
            transport.setOutgoingInterface(self._interface).addErrback(failures.append)
        if self._hears:
            transport.joinGroup(self._group, self._interface or "").addErrback(failures.append)
        for failure in failures:
            error = failure.value
            reason = OSError(*error.args[2:]) if isinstance(error, MulticastJoinError) else error
            raise CannotListenError(self._interface or self._group, self._port, reason)

    def datagramReceived(self, datagram: bytes, addr: tuple[Any, ...]) -> None:
        if self._hears:
            super().datagramReceived(datagram, addr)

    def deliver(self, batch: Batch) -> None:
        if batch.directed or self.transport is None:
            return
        now = self._clock.seconds()
        for event in batch.events:
            datagram = with_flow_tag(event, self._router.flow_tag, now)
            # Others may bridge the group too: what we said here is not taken in when they say it again.
            self._seen.is_new(event, now)
            if len(datagram) > MAX_DATAGRAM:
                self.too_large += 1
                self._notices.say("{uid} is too large for {door}", uid=event.uid, door=self._door)
                continue
            try:
                self.transport.write(datagram, (self._group, self._port))
            except (OSError, MessageLengthError) as error:
                # Others wait for the same events behind us, and a network card may come back.
                self.unsent_events += 1
                self._notices.say("{door} did not take {uid}: {reason}", door=self._door, uid=event.uid, reason=error)


def read_datagram(datagram: bytes) -> Event | None:
    """Read the one event in a datagram, XML or protobuf with a mesh header.

    Returns:
        The event, or None for a message between the members of a mesh, which is not for us.

    Raises:
        MalformedEvent: there is no event in it.
    """
    if datagram.startswith(b"\xbf"):
        from taky_twisted.takproto.protobuf import decode as decode_protobuf
        from taky_twisted.takproto.protobuf_framing import read_mesh

        return decode_protobuf(read_mesh(datagram))
    buffer = bytearray(datagram)
    try:
        frame = XMLFraming(MAX_DATAGRAM, MAX_DATAGRAM).next_frame(buffer)
    except RemoteProtocolError as error:
        raise MalformedEvent(str(error)) from error
    if isinstance(frame, Unreadable):
        raise MalformedEvent(frame.reason)
    if frame is None or buffer.strip():
        raise MalformedEvent("a datagram holds one whole event and nothing else")
    return decode(frame)
