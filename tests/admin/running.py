"""A running server without sockets, as operators see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from taky_twisted.admin.commands import Admin, Running
from taky_twisted.admin.requests import RequestProtocol
from taky_twisted.identity.failures import Failures
from taky_twisted.routing.router import Router
from tests.fakes import Site


class Pool:
    """Threads that are none: what they shall do is done at once, or when it is let."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] | None = None
        """What is still to be done; None: everything is done at once."""

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], object], call: Callable[..., Any], *arguments: Any, **more: Any
    ) -> None:
        def run() -> None:
            try:
                result = call(*arguments, **more)
            except BaseException:  # noqa: BLE001 - as a pool of threads does
                done(False, Failure())
            else:
                done(True, result)

        if self.held is None:
            run()
        else:
            self.held.append(run)


class Reactor(Clock):
    """A clock with threads that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool()

    def getThreadPool(self) -> Pool:
        return self.pool

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)


class Server:
    """A site and its operators' side; notes what is asked of it."""

    def __init__(self) -> None:
        self.site = Site()
        self.reactor = Reactor()
        self.reactor.rightNow = self.site.clock.seconds()
        self.failures = Failures(self.reactor)
        self.site.router = Router(self.reactor, self.site.store, self.site.limits, failures=self.failures)
        self.steady: float | None = None
        """The clock that nobody sets, where it is not the other one."""
        self.steps: list[str] = []
        self.revoked: list[int] = []
        self.problem: Exception | None = None
        """Why the register cannot be written."""
        self.admin = Admin(
            Running(
                reactor=self.reactor,
                router=self.router,
                failures=self.failures,
                reload=self._reload,
                kick=self._kick,
                ban=self._ban,
                counts=lambda: {"streams": 7},
                doors=lambda: [{"what": "CoT", "name": "tcp:0"}],
                steady=lambda: self.steady if self.steady is not None else self.reactor.seconds(),
            )
        )

    @property
    def router(self) -> Router:
        return self.site.router

    def _reload(self) -> Deferred[None]:
        self.steps.append("reload")
        return succeed(None)

    def _kick(self, name: str, reason: str) -> int:
        self.steps.append(f"kick {name}")
        return 1

    def _ban(self, name: str) -> list[int]:
        self.steps.append(f"ban {name}")
        if self.problem is not None:
            raise self.problem
        return self.revoked


class Wire:
    """The operator's end of a socket."""

    def __init__(self, protocol: RequestProtocol) -> None:
        self.protocol = protocol
        self.written = b""
        self.lost: str | None = None
        self.producer: IPushProducer | None = None
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        self.lost = "lose"

    def abortConnection(self) -> None:
        self.lost = "abort"

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self.producer = producer

    def ask(self, *requests: object, end: bytes = b"\n") -> list[Any]:
        """Say requests in one piece and read what came back."""
        said = b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + end for each in requests)
        self.protocol.dataReceived(said)
        return self.heard(end)

    def heard(self, end: bytes = b"\n") -> list[Any]:
        """Read what came since the last time."""
        written, self.written = self.written, b""
        *answers, rest = written.split(end)
        assert rest == b"", rest
        return [json.loads(answer) for answer in answers]

    def hang_up(self) -> None:
        self.protocol.connectionLost()
