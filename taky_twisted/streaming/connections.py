"""All stream connections of the server: how many there may be, which have fallen silent, and how they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from taky_twisted.background import logged, undeterred
from taky_twisted.config.limits import Limits
from taky_twisted.cot.shapes import Shapes
from taky_twisted.identity.cert_db import ban_key
from taky_twisted.identity.failures import Failures
from taky_twisted.logs import Logger
from taky_twisted.notices import Notices

from .expiry import Expiry
from .newcomers import Newcomers

if TYPE_CHECKING:
    from .protocol import CoTProtocol

SWEEP_SECONDS = 5
"""How often silent and stalled connections are looked for."""
FLUSH_SECONDS = 5
"""How long a stop waits for what is still to be sent."""


class Connections(Service):
    """Count, watch and close the connections of all CoT doors."""

    log = Logger()

    def __init__(
        self, clock: IReactorTime, limits: Limits, failures: Failures | None = None, expiry_message: bool = False
    ) -> None:
        self._clock = clock
        self.limits = limits
        self.failures = failures or Failures(clock)
        """Remembers whom the doors refused."""
        self.notices = Notices(clock)
        self.expiry = Expiry(self.notices, expiry_message)
        self.shapes = Shapes()
        self._all: dict[CoTProtocol, None] = {}
        self._per_address: Counter[str] = Counter()
        self.handshakes = Newcomers()
        """TLS connections whose peer is not known yet."""
        self.handshaken = 0
        """TLS handshakes that came about, in all."""
        self.unidentified = Newcomers()
        """Connections without a uid."""
        self._sweeping = LoopingCall(undeterred(self.log, "looking for silent connections", self._sweep))
        self._sweeping.clock = clock
        self._empty: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[CoTProtocol]:
        return iter(self._all)

    def why_not(self, address: IAddress, tls: bool) -> str | None:
        """Say why one more connection from an address is too many; None if it is not, or if room was made for it."""
        limits, host = self.limits, host_of(address)
        if limits.max_per_address and self._per_address[host] >= limits.max_per_address:
            return f"there are {limits.max_per_address} connections from there (max_per_address)"
        if len(self._all) >= limits.max_connections and not _make_room(self.unidentified, host, "max_connections"):
            return f"there are {limits.max_connections} connections (max_connections)"
        most = limits.max_unidentified
        if most and len(self.unidentified) >= most and not _make_room(self.unidentified, host, "max_unidentified"):
            return f"{most} connections have not said who they are (max_unidentified)"
        most = limits.max_handshakes
        if tls and len(self.handshakes) >= most and not _make_room(self.handshakes, host, "max_handshakes"):
            return f"{most} TLS handshakes are pending (max_handshakes)"
        return None

    def opened(self, connection: CoTProtocol, address: IAddress) -> None:
        """Count a connection."""
        self._all[connection] = None
        self._per_address[host_of(address)] += 1

    def closed(self, connection: CoTProtocol, address: IAddress) -> None:
        """Forget a connection."""
        del self._all[connection]
        host = host_of(address)
        self._per_address[host] -= 1
        if not self._per_address[host]:
            del self._per_address[host]
        if not self._all and self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def startService(self) -> None:
        super().startService()
        self._sweeping.start(SWEEP_SECONDS, now=False).addErrback(logged(self.log, "looking for silent connections"))

    def stopService(self) -> Deferred[None] | None:
        """Close all connections; what is directed to somebody is sent first, for a few seconds at most."""
        super().stopService()
        if self._sweeping.running:
            self._sweeping.stop()
        if not self._all:
            return None
        empty = self._empty = Deferred()
        for connection in list(self._all):
            connection.finish()
        if self._all:
            abort = self._clock.callLater(FLUSH_SECONDS, self._abort_all)
            empty.addBoth(_cancel, abort)
        return empty

    def close_refused(self) -> None:
        """Close the connections of certificates that are refused by now."""
        for connection in list(self._all):
            connection.check_certificate()

    def close_named(self, name: str, reason: str) -> int:
        """Cut off everybody whose certificate or account has a name; return how many those were."""
        key = ban_key(name)
        named = [each for each in self._all if each.is_called(key)]
        for connection in named:
            connection.abort(reason)
        return len(named)

    def _abort_all(self) -> None:
        for connection in list(self._all):
            connection.abort("the server stops")

    def _sweep(self) -> None:
        now = self._clock.seconds()
        for connection in list(self._all):
            connection.look(now)


def _make_room(newcomers: Newcomers, host: str, limit: str) -> bool:
    other = newcomers.too_many(host)
    if other is not None:
        other.give_way(limit)
    return other is not None


def _cancel(result: None, timer: IDelayedCall) -> None:
    if timer.active():
        timer.cancel()


def host_of(address: IAddress) -> str:
    """Name the host of an address; connections without one (unix sockets) share the empty name."""
    return str(getattr(address, "host", ""))
