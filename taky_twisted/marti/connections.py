"""All HTTP connections of the server: how many there may be, whose uploads are running, and how they end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime

from taky_twisted.config.limits import Limits
from taky_twisted.identity.accounts import account_key
from taky_twisted.identity.cert_db import ban_key
from taky_twisted.identity.failures import Failures
from taky_twisted.marti.errors import MartiError, TooMany
from taky_twisted.marti.timer import Timer
from taky_twisted.notices import Notices

if TYPE_CHECKING:
    from taky_twisted.marti.channel import MartiChannel

MAX_UNREAD_BYTES = 256 << 20
"""What long bodies and answers hold in memory, over all connections: until the client has read the answer."""
FINISH_SECONDS = 5.0
"""How long a stop waits for answers that are under way."""


class HttpConnections(Service):
    """Count and close the connections of all doors of the Marti API."""

    def __init__(self, clock: IReactorTime, limits: Limits, failures: Failures | None = None) -> None:
        self.clock, self.limits = clock, limits
        self.failures = failures or Failures(clock)
        """Remembers who was refused."""
        self.notices = Notices(clock)
        self.handshaken = 0
        """TLS handshakes that came about, in all."""
        self.answered: Counter[tuple[str, int]] = Counter()
        """Requests that were answered, by the pattern of their route (empty: there is none) and the status."""
        self._all: dict[MartiChannel, None] = {}
        self._per_address: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self._unread = 0
        self._empty: Deferred[None] | None = None
        self._abort = Timer(clock)

    def __len__(self) -> int:
        return len(self._all)

    def why_not(self, address: IAddress | None) -> str | None:
        """Say why one more connection from an address is too many; None if it is not."""
        limits = self.limits
        if len(self._all) >= limits.max_http_connections and not self._make_room(host_of(address)):
            return f"there are {limits.max_http_connections} HTTP connections (max_http_connections)"
        if limits.max_http_per_address and self._per_address[host_of(address)] >= limits.max_http_per_address:
            return f"there are {limits.max_http_per_address} HTTP connections from there (max_http_per_address)"
        return None

    def _make_room(self, host: str) -> bool:
        """Close a connection without a request for one of an address that has fewer.

        It is the oldest one of the address that has most. None gives way to one that would have as many then.
        """
        enough = self._per_address[host] + 1
        if self._per_address.most_common(1)[0][1] <= enough:
            return False  # who fills all this up himself does not make us look through all

        def number(channel: MartiChannel) -> int:
            return self._per_address[host_of(channel.address)]

        unused = [each for each in self._all if each.is_unused and number(each) > enough]
        if unused:
            max(unused, key=number).abort("others need its place, and there are many from there")
        return bool(unused)

    def opened(self, channel: MartiChannel) -> None:
        """Count a connection."""
        self._all[channel] = None
        self._per_address[host_of(channel.address)] += 1

    def closed(self, channel: MartiChannel) -> None:
        """Forget a connection."""
        del self._all[channel]
        _one_less(self._per_address, host_of(channel.address))
        if not self._all and self._empty is not None:
            empty, self._empty = self._empty, None
            self._abort.stop()
            empty.callback(None)

    def begin_upload(self, who: str) -> None:
        """Count an upload of somebody.

        Raises:
            TooMany: so many are running already.
        """
        if self._uploads[who] >= self.limits.uploads_per_principal:
            raise TooMany(f"{self._uploads[who]} of your uploads are running already; wait for one to end")
        self._uploads[who] += 1

    def end_upload(self, who: str) -> None:
        """Count an upload no more."""
        _one_less(self._uploads, who)

    def hold(self, size: int) -> None:
        """Count bytes of a body or an answer.

        Raises:
            MartiError: all of them together would be too much.
        """
        if self._unread + size > MAX_UNREAD_BYTES:
            raise MartiError(503, "the server holds too much for slow clients already; try again in a moment")
        self._unread += size

    def release(self, size: int) -> None:
        """Count them no more."""
        self._unread -= size

    def close_refused(self) -> None:
        """Cut off whoever's certificate is refused by now, also in the middle of a request."""
        for channel in list(self._all):
            channel.check_certificate()

    def close_named(self, name: str, reason: str) -> int:
        """Cut off everybody whose certificate or account has a name; return how many those were."""
        key = ban_key(name)
        named = [
            each
            for each in self._all
            if any(who is not None and ban_key(who) == key for who in (each.principal.name, each.account))
        ]
        for channel in named:
            channel.abort(reason)
        return len(named)

    def close_account(self, key: str, reason: str) -> None:
        """Cut off everybody who has shown the password of an account."""
        for channel in list(self._all):
            if channel.account is not None and account_key(channel.account) == key:
                channel.abort(reason)

    def stopService(self) -> Deferred[None] | None:
        """Close all connections; answers that are under way have a few seconds to end."""
        super().stopService()
        if not self._all:
            return None
        empty = self._empty = Deferred()
        self._abort.start(FINISH_SECONDS, self._abort_all)
        for channel in list(self._all):
            channel.close_when_done()
        return empty

    def _abort_all(self) -> None:
        for channel in list(self._all):
            channel.abort("the server stops")


def _one_less(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def host_of(address: IAddress | None) -> str:
    """Name the host of an address; connections without one (unix sockets) share the empty name."""
    return str(getattr(address, "host", ""))
