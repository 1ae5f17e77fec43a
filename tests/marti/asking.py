"""Ask a `MartiSite` in memory: real requests as bytes, real answers parsed, no sockets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.marti.connections import HttpConnections
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.site import Marti, MartiSite, ServerInfo

NODE_ID = "0123456789abcdef0123456789abcdef"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def type(self) -> str | None:
        """The body's content type, to the letter."""
        return self.headers.get("content-type")


class Door(MartiSite):
    """A door whose callers are whoever the test says; None is anonymous on plain TCP."""

    who: Principal | None = None
    tls = False

    def caller(self, request: MartiRequest) -> Principal:
        return self.who if self.who is not None else ANONYMOUS

    def is_tls(self, request: MartiRequest) -> bool:  # type: ignore[override]
        return self.tls or self.who is not None


class _Socket(BytesIO):
    def makefile(self, mode: str) -> BytesIO:
        return self


class Connection:
    """One client's connection to a door."""

    def __init__(self, site: MartiSite, host: str = "198.51.100.7") -> None:
        self.transport = StringTransport(IPv4Address("TCP", "192.0.2.10", 8080), IPv4Address("TCP", host, 40000))
        channel = site.buildProtocol(self.transport.getPeer())
        assert channel is not None, "refused"
        self.channel = channel
        self.channel.makeConnection(self.transport)

    @property
    def closed(self) -> str | None:
        """How the server has closed the connection: ``aborted``, ``closed``, or None if it has not."""
        return "aborted" if self.transport.disconnected else "closed" if self.transport.disconnecting else None

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.channel.dataReceived(data)

    def lose(self) -> None:
        """Break the connection."""
        self.channel.connectionLost(Failure(ConnectionDone()))

    def answer(self, method: str = "GET") -> Answer:
        """Take the answer that has come."""
        raw = self.transport.value()
        self.transport.clear()
        return parsed(raw, method)


def parsed(raw: bytes, method: str = "GET") -> Answer:
    """Read an answer as a strict client does."""
    if not raw:
        raise AssertionError("there is no answer yet")
    response = HTTPResponse(_Socket(raw), method=method)  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def spell(method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """Spell a request as bytes."""
    lines = {"Host": "tak.example:8080"} | (headers or {})
    if body or method in ("POST", "PUT"):
        lines.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body


class Asking:
    """A server's API with the given areas, and one door to it."""

    def __init__(
        self, *areas: object, clock: Clock | None = None, anonymous: bool = True, limits: Limits | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.info = ServerInfo(hostname="tak.example", node_id=NODE_ID)
        self.marti = Marti.of(areas, self.info)
        self.connections = HttpConnections(self.clock, limits or Limits())
        self.door = Door(self.marti, self.clock, anonymous, self.connections)

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        who: Principal | None = None,
    ) -> Answer:
        """Ask, and take the answer, which must be there at once."""
        self.door.who = who
        connection = Connection(self.door)
        connection.send(spell(method, target, body, headers))
        answer = connection.answer(method)
        connection.lose()
        return answer
