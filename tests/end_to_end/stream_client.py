"""A client on a real socket that reads as strictly as ATAK does; nothing of ours is in it."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from twisted.trial.unittest import SynchronousTestCase

from tests.pki import PKI, Credentials
from tests.samples import ping

SECONDS = 10.0
"""How long something may take that should happen at once, on a busy machine."""
PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'
END = b"</event>"


class Closed(Exception):
    """The server has closed the connection."""


class StreamClient:
    """A TAK client: it says bytes, and hears events."""

    def __init__(
        self,
        test: SynchronousTestCase,
        port: int,
        context: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        first: bytes = b"",
    ) -> None:
        """Connect.

        Args:
            test: closes the connection at its end.
            port: on loopback.
            context: for TLS.
            receive_buffer: bytes that the kernel keeps for us, if not as many as usual.
            first: said before anything else, as a load balancer does.
        """
        self.socket = socket.socket()
        test.addCleanup(self.close)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(first)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._buffer = b""

    def say(self, *documents: bytes) -> None:
        """Send documents in one piece."""
        self.socket.sendall(b"".join(documents))

    def hear(self, seconds: float = SECONDS) -> Element:
        """Wait for the next event; offers of other protocols are passed over.

        Raises:
            Closed: There is none any more.
        """
        end = time.monotonic() + seconds
        while True:
            while END not in self._buffer:
                self.socket.settimeout(max(0.001, end - time.monotonic()))
                try:
                    data = self.socket.recv(1 << 16)
                except TimeoutError:
                    raise AssertionError(f"nothing was heard within {seconds} s; so far {self._buffer!r}") from None
                except OSError as error:
                    raise Closed(str(error)) from error
                if not data:
                    raise Closed(f"after {self._buffer!r}" if self._buffer else "")
                self._buffer += data
            document, _, self._buffer = self._buffer.partition(END)
            if not document.startswith(PROLOG):
                raise AssertionError(f"no strict client reads this: {document!r}")
            event = ElementTree.fromstring(document + END)
            if event.get("type") != "t-x-takp-v":
                return event

    def wait_for(self, wanted: Callable[[Element], bool], seconds: float = SECONDS) -> Element:
        """Wait for an event; what comes before it is lost."""
        end = time.monotonic() + seconds
        while not wanted(event := self.hear(end - time.monotonic())):
            pass
        return event

    def wait_for_uid(self, uid: str, seconds: float = SECONDS) -> Element:
        """Wait for an event of an item."""
        return self.wait_for(lambda event: event.get("uid") == uid, seconds)

    def wait_for_type(self, type_: str, seconds: float = SECONDS) -> Element:
        """Wait for an event of a type."""
        return self.wait_for(lambda event: event.get("type") == type_, seconds)

    def so_far(self) -> list[Element]:
        """Read everything that the server had to say up to now: it is pinged and its pong waited for, twice.

        The first pong overtakes what is collected for all in the turn of the reactor in which the ping is read.
        """
        events = []
        for _ in range(2):
            self.say(ping())
            while (event := self.hear()).get("uid") != "takPong":
                events.append(event)
        return events

    def uids(self) -> list[str | None]:
        """Read the uids of everything up to now."""
        return [event.get("uid") for event in self.so_far()]

    def until_closed(self, seconds: float = SECONDS) -> list[Element]:
        """Read until the server closes the connection."""
        events, end = [], time.monotonic() + seconds
        try:
            while True:
                events.append(self.hear(end - time.monotonic()))
        except Closed:
            return events

    def reset(self) -> None:
        """Break the connection off (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Say goodbye (FIN)."""
        self.socket.close()


def link_uid(event: Element) -> str | None:
    """Tell whom a notice is about."""
    link = event.find("detail/link")
    return link.get("uid") if link is not None else None


def tls_context(
    pki: PKI, credentials: Credentials | None, version: ssl.TLSVersion | None = None, ciphers: str | None = None
) -> ssl.SSLContext:
    """Make a client's TLS, which believes the site's authority.

    Args:
        pki: the site's.
        credentials: what the client shows; None for nothing.
        version: the only one that it speaks, if not all.
        ciphers: which it takes, if not the usual.
    """
    context = ssl.create_default_context(cafile=pki.ca_path)
    if ciphers is not None:
        context.set_ciphers(ciphers)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if credentials is not None:
        serial = credentials.certificate.serial_number
        path = pki.write(f"{serial}.pem", credentials.pem + credentials.key_pem())
        context.load_cert_chain(path)
    return context
