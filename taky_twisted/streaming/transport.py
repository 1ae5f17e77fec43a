"""A TCP transport that writes at once when nothing waits.

Twisted's own queues every write, asks the reactor to watch the socket, and writes in the next turn: three times the
work of a ``send`` when each turn has one event for each client. Everything else (order, back-pressure, half-closes,
errors) stays Twisted's: what the kernel does not take goes to the usual queue, and a failed ``send`` is left to the
reactor to report.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IListeningPort, IProtocol, IReactorFDSet
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

KEEPALIVE_IDLE_SECONDS = 60
KEEPALIVE_INTERVAL_SECONDS = 20
KEEPALIVE_PROBES = 3
ACCEPTS_PER_TURN = 4
"""Connections that a door takes in before those that are there get their turn."""


class EagerServer(tcp.Server):
    """The server's end of a TCP connection; counts the bytes that the kernel took."""

    sent = 0
    """Bytes that have left for the kernel, so that one can see whether a slow reader reads at all."""
    _broken = False  # a send has failed

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[object, ...],
        server: tcp.Port,
        sessionno: int,
        reactor: IReactorFDSet,
    ) -> None:
        super().__init__(sock, protocol, client, server, sessionno, reactor)
        # Some systems refuse options on a socket that the peer has reset already: the first read will tell.
        with suppress(OSError):
            keep_alive(sock)

    def write(self, data: bytes) -> None:
        # The first two are Twisted's queue, the first of them private: tests/streaming/test_transport.py pins it.
        if self._tempDataBuffer or self.dataBuffer or not self.connected:
            super().write(data)
            return
        try:
            taken = self.socket.send(data)
        except BlockingIOError:
            super().write(data)
            return
        except OSError:
            self._broken = True
            super().write(data)  # the reactor will find out
            return
        self.sent += taken
        if taken < len(data):
            super().write(data[taken:])

    def writeSomeData(self, data: bytes) -> int | ConnectionLost:
        taken = super().writeSomeData(data)
        if not isinstance(taken, int):
            self._broken = True
        elif taken > 0:
            self.sent += taken
        return taken

    def doRead(self) -> ConnectionLost | ConnectionDone | None:  # type: ignore[override]  # its bases disagree
        why = super().doRead()
        # The system tells of an error once. If `write` was told, a read ends as if the peer had said goodbye.
        return CONNECTION_LOST if self._broken and why is CONNECTION_DONE else why


def keep_alive(connection: socket.socket) -> None:
    """Notice within two minutes that the other end is dead; send small events without delay."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, option):  # not on every platform
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def write_eagerly(port: IListeningPort) -> None:
    """Make a TCP port give its connections an `EagerServer`; any other port is left alone."""
    # Twisted's port of a unix socket is a TCP port too, with connections of its own.
    if isinstance(port, tcp.Port) and port.transport is tcp.Server:
        port.transport = EagerServer


def accept_few(port: IListeningPort) -> None:
    """Let a TCP port take in only a few connections in a turn; the others wait in the kernel for the next ones.

    Twisted's own takes more and more of them while more are waiting, and each newcomer is shown what is on the map: in
    a flood of them nobody else would be served for seconds.
    """
    if isinstance(port, tcp.Port):
        do_read = port.doRead

        def do_read_few() -> None:
            port.numberAccepts = min(port.numberAccepts, ACCEPTS_PER_TURN)
            do_read()

        port.doRead = do_read_few  # type: ignore[method-assign]  # this port's alone, which others made
