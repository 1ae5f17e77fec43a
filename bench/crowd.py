"""Many clients in one thread, on one epoll and one read buffer."""

from __future__ import annotations

import random
import select
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from . import events
from .channels import Channel, Gone, TLSChannel
from .tally import Tally

BUFFER_BYTES = 1 << 20
MAX_TAIL_BYTES = 256 << 10
"""A client that waits for the end of an event for so long has lost its way."""
AT_ONCE = 32
"""Connections that are being made; a server has a limit for handshakes."""
OPENING, OPEN, CLOSED = "opening", "open", "closed"

Listen = Callable[[list[bytes], int], None]
"""Told of the marks in one read, and when it was (`time.monotonic_ns`)."""

MakeEncoding = Callable[[], events.Encoding]


class Failed(Exception):
    """A run cannot go on; the text says why."""


class Client:
    """One client: a connection, and what it does with what it hears."""

    def __init__(self, crowd: Crowd, index: int, channel: Channel, encoding: events.Encoding) -> None:
        self.crowd, self.index, self.channel, self.encoding = crowd, index, channel, encoding
        self.state = OPENING
        self.listen: Listen | None = None
        self.paused = False
        self.awaits_pong = False
        self.begun = time.monotonic()
        self.closed_at = 0.0
        self._tail = b""
        self._mask = select.EPOLLIN | select.EPOLLOUT
        crowd.poll.register(channel.socket.fileno(), self._mask)

    def say(self, document: bytes) -> None:
        """Send one event."""
        if self.state != OPEN:
            return
        try:
            self.channel.write(self.encoding.spell(document))
        except Gone as gone:
            self.crowd.lost(self, str(gone))
            return
        self.watch()

    def ping(self) -> None:
        """Ask the server for a pong: what was said before it is routed when that is there."""
        self.awaits_pong = True
        self.say(events.ping(self.index))

    def pause(self) -> None:
        """Read nothing from now on."""
        self.paused = True
        self.watch()

    def resume(self) -> None:
        """Read again."""
        self.paused = False
        self.watch()

    def leave(self) -> None:
        """Close the connection."""
        if self.state != CLOSED:
            self.state, self.closed_at = CLOSED, time.monotonic()
            del self.crowd.by_descriptor[self.channel.socket.fileno()]
            self.channel.close()  # which takes it out of the epoll

    def happened(self, mask: int) -> None:
        """React to what epoll says.

        Raises:
            Gone: the connection is broken, or nothing comes any more.
        """
        if self.state == OPENING:
            if self.channel.ready():
                self.state = OPEN
                hello = self.encoding.hello()
                if hello:
                    self.channel.write(hello)
                self.read()  # what came with the end of the handshake
            self.watch()
            return
        if mask & select.EPOLLOUT:
            self.channel.flush()
            self.watch()
        if self.paused:
            if mask & (select.EPOLLERR | select.EPOLLHUP):
                raise Gone("closed while it did not read")
        elif mask & ~select.EPOLLOUT:
            self.read()

    def read(self) -> None:
        """Read once, as much as there is."""
        crowd, tail = self.crowd, self._tail
        kept = len(tail)
        crowd.view[:kept] = tail
        got = self.channel.read_into(crowd.view[kept:])
        if not got:
            return
        now = time.monotonic_ns()
        end = kept + got
        crowd.whole = whole = self.encoding.whole(crowd.buffer, end)
        self._tail = bytes(crowd.view[whole:end])
        if len(self._tail) > MAX_TAIL_BYTES:
            raise Failed(f"client {self.index} hears an event without an end")
        crowd.bytes_heard += got
        if self.awaits_pong and crowd.buffer.find(events.PONG, 0, whole) >= 0:
            self.awaits_pong = False
        if self.listen is not None:
            marks = crowd.find_marks(crowd.buffer, 0, whole)
            if marks:
                self.listen(marks, now)

    def watch(self) -> None:
        """Tell epoll what we wait for."""
        mask = 0 if self.paused else select.EPOLLIN
        if self.channel.waiting:
            mask |= select.EPOLLOUT
        if mask != self._mask and self.state != CLOSED:
            self._mask = mask
            self.crowd.poll.modify(self.channel.socket.fileno(), mask)


class Crowd:
    """All clients of one run."""

    def __init__(
        self, ports: Sequence[int], context: ssl.SSLContext | None, run: str, encoding: MakeEncoding, source: str = ""
    ) -> None:
        """Nobody is there yet.

        Args:
            ports: the server's, on the loopback address, one for each of its nodes; see `node_of`.
            context: for TLS; None for plain TCP.
            run: what marks this run's events.
            encoding: makes those of clients for which nothing else is said.
            source: the loopback address that they connect from, if it matters.
        """
        self._ports, self._context, self._encoding, self._source = ports, context, encoding, source
        self.poll = select.epoll()
        self.buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.whole = 0
        """Where the whole events end in what was read last."""
        self.find_marks = events.mark_finder(run)
        self.clients: list[Client] = []
        self.by_descriptor: dict[int, Client] = {}
        self.tally: Tally | None = None
        self.bytes_heard = 0
        self.disconnected: list[str] = []
        """Why connections ended that should not."""
        self.may_close: set[Client] = set()
        """Those that the server should close."""

    def begin(self, index: int, narrow: bool = False, encoding: MakeEncoding | None = None) -> Client:
        """Let one client begin to connect; for ``narrow`` see `Channel`."""
        port = self._ports[node_of(index, len(self._ports))]
        channel = (
            Channel(port, narrow, self._source)
            if self._context is None
            else TLSChannel(port, self._context, narrow, self._source)
        )
        client = Client(self, index, channel, (encoding or self._encoding)())
        self.by_descriptor[channel.socket.fileno()] = client
        return client

    def connect(
        self, count: int, *, narrow: bool = False, encoding: MakeEncoding | None = None, seconds: float = 180
    ) -> list[Client]:
        """Connect that many more clients, `AT_ONCE` at a time; see `begin`.

        Raises:
            Failed: not all of them could.
        """
        made: list[Client] = []
        opening: set[Client] = set()
        end = time.monotonic() + seconds
        while len(made) < count or opening:
            while len(made) < count and len(opening) < AT_ONCE:
                client = self.begin(len(self.clients), narrow, encoding)
                self.clients.append(client)
                made.append(client)
                opening.add(client)
            self.turn(0.1)
            opening = {client for client in opening if client.state == OPENING}
            if self.disconnected or time.monotonic() > end:
                raise Failed(f"{len(made) - len(opening)} of {count} connected; {self.disconnected[:1] or 'too slow'}")
        return made

    def settle(self, clients: Sequence[Client], seconds: float = 120) -> None:
        """Wait until the server has taken in all that these clients have said, with nothing left to be answered.

        Raises:
            Failed: it did not answer.
        """
        for client in clients:
            client.ping()
        if not self.until(lambda: not any(client.awaits_pong for client in clients), seconds):
            silent = sum(client.awaits_pong for client in clients)
            raise Failed(f"{silent} of {len(clients)} clients got no pong within {seconds:g} s")

    def identify(self, clients: Iterable[Client]) -> None:
        """Let clients say who they are."""
        for client in clients:
            client.say(events.position(client.index))
            self.turn(0)

    def turn(self, seconds: float) -> None:
        """Wait for something to happen, and react to all of it."""
        clients = self.by_descriptor
        for descriptor, mask in self.poll.poll(seconds):
            client = clients.get(descriptor)
            if client is not None:
                try:
                    client.happened(mask)
                except Gone as gone:
                    self.lost(client, str(gone))

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Go on until something is so; whether it came to be in time."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            self.turn(0.05)
        return True

    def go_on(self, seconds: float) -> None:
        """Go on for a while."""
        self.until(lambda: False, seconds)

    def lost(self, client: Client, why: str) -> None:
        """Note that a connection ended from the other side."""
        client.leave()
        if client not in self.may_close:
            self.disconnected.append(f"client {client.index}: {why}")
        if self.tally is not None:
            self.tally.leave(client.index)

    def close(self) -> None:
        """Let everybody leave."""
        for client in list(self.by_descriptor.values()):
            client.leave()
        self.poll.close()


def node_of(index: int, nodes: int) -> int:
    """Say to which node a client connects: evenly, and without a pattern that who talks to whom could share."""
    block, place = divmod(index, nodes)
    return random.Random(block).sample(range(nodes), nodes)[place]


def tell(tally: Tally, client: Client, sampled: bool) -> None:
    """Let a tally know what a client hears; of some also how late it is, and whether it is what was said."""
    if not sampled:
        client.listen = partial(_hear, tally, client.index)
        return

    def hear(marks: list[bytes], now: int) -> None:
        tally.hear(client.index, marks)
        tally.time(marks, now)
        crowd = client.crowd
        tally.compare(marks, lambda document: client.encoding.holds(crowd.buffer, crowd.whole, document))

    client.listen = hear


def _hear(tally: Tally, index: int, marks: list[bytes], now: int) -> None:
    tally.hear(index, marks)
