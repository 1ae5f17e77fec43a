"""Sockets that never block, plain or TLS, made to read much at once."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import cast

HOST = "127.0.0.1"
CIPHERTEXT = bytearray(256 << 10)
"""Where TLS bytes land first; one for all, since there is one thread."""
SEGMENT_BYTES, NARROW_BYTES = 1448, 16 << 10
RECORD_BYTES = 16 << 10
"""The most that one TLS record holds."""


class Gone(Exception):
    """The other end closed or broke the connection."""


class Channel:
    """A TCP connection from our side."""

    def __init__(self, port: int, narrow: bool = False, source: str = "") -> None:
        """Begin to connect.

        Args:
            port: on the loopback address.
            narrow: keep little in the kernels of both ends, as on a network; loopback would hide megabytes.
            source: the loopback address to connect from; empty for the usual one.
        """
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if source:
            self.socket.bind((source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if narrow:
            # The other end sizes its buffer in segments: with those of Ethernet it gets a tenth of that of loopback.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        self.waiting = bytearray()
        """What the kernel has not taken yet."""
        self.socket.connect_ex((HOST, port))

    def widen(self) -> None:
        """Take more at once, to catch up."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, len(CIPHERTEXT))

    def ready(self) -> bool:
        """Go on with the handshake; whether it is done.

        Raises:
            Gone: no connection came of it.
        """
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise Gone(f"connect: error {error}")
        return True

    def read_into(self, room: memoryview) -> int:
        """Read what is there; how many bytes.

        Raises:
            Gone: there will be no more.
        """
        return self._receive(room)

    def write(self, data: bytes) -> None:
        """Send, now or when the kernel takes it."""
        if not self.waiting:
            try:
                taken = self.socket.send(data)
            except BlockingIOError:
                taken = 0
            except OSError as error:
                raise Gone(str(error)) from error
            if taken == len(data):
                return
            data = data[taken:]
        self.waiting += data

    def flush(self) -> None:
        """Send what waits."""
        waiting, self.waiting = bytes(self.waiting), bytearray()
        if waiting:
            Channel.write(self, waiting)

    def close(self) -> None:
        """Leave."""
        self.socket.close()

    def _receive(self, room: memoryview | bytearray) -> int:
        try:
            got = self.socket.recv_into(room)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Gone(str(error)) from error
        if not got:
            raise Gone("closed")
        return got


class TLSChannel(Channel):
    """The same with TLS, in memory, so that one system call brings many records."""

    def __init__(self, port: int, context: ssl.SSLContext, narrow: bool = False, source: str = "") -> None:
        super().__init__(port, narrow, source)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=False)
        self._begun = False

    def ready(self) -> bool:
        if self._begun:
            self._in.write(memoryview(CIPHERTEXT)[: self._receive(CIPHERTEXT)])
        else:
            super().ready()
            self._begun = True
        try:
            self._tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        except ssl.SSLError as error:
            raise Gone(str(error)) from error
        self._push()
        return done

    def read_into(self, room: memoryview) -> int:
        # No more than there is room for: what is left is read in the next turn.
        limit = min(len(CIPHERTEXT), len(room) - RECORD_BYTES)
        self._in.write(memoryview(CIPHERTEXT)[: self._receive(memoryview(CIPHERTEXT)[:limit])])
        got = 0
        try:
            while self._in.pending:
                got += cast(int, self._tls.read(len(room) - got, room[got:]))  # a count, if there is a buffer
        except ssl.SSLWantReadError:
            pass  # the record is not whole yet
        except ssl.SSLError as error:
            raise Gone(str(error)) from error
        return got

    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._push()

    def _push(self) -> None:
        data = self._out.read()
        if data:
            super().write(data)


def client_context(folder: Path) -> ssl.SSLContext:
    """Make the clients' end of mutual TLS from what `certificates.write` left in a folder."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.check_hostname = False  # we connect to an address
    context.load_cert_chain(folder / "client.crt", folder / "client.key")
    return context
