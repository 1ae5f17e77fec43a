"""A CoT door: makes a `CoTProtocol` per connection, if it may have one more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory

from taky_twisted.config.limits import Limits
from taky_twisted.config.values import TakProtocol
from taky_twisted.identity.principal import Principal
from taky_twisted.identity.proofs import Auth
from taky_twisted.routing.offers import Reached
from taky_twisted.routing.recorder import Recorder

from .connections import Connections, host_of
from .protocol import CoTProtocol

if TYPE_CHECKING:
    from taky_twisted.identity.accounts import Accounts
    from taky_twisted.routing.router import Router
    from taky_twisted.routing.subscription import Subscription


class CoTFactory(Factory):
    """One door for streams. With ``monitor`` its connections hear all that is routed and are nobody's contact."""

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        router: Router,
        connections: Connections,
        door: str,
        tls: bool = False,
        monitor: bool = False,
        recorder: Recorder | None = None,
        tak_protocol: TakProtocol = "auto",
        tak_protocol_of: Mapping[str, TakProtocol] | None = None,
        auth: Auth = "none",
        accounts: Accounts | None = None,
    ) -> None:
        """Describe a door.

        Args:
            clock: tells the time.
            router: where its connections speak and hear.
            connections: counts those of all doors.
            door: its name in the log.
            tls: whether its connections begin with a TLS handshake.
            monitor: whether its connections hear everything.
            recorder: writes down what is heard, if that is wanted.
            tak_protocol: whether clients are offered protobuf (``auto``).
            tak_protocol_of: the same for single clients, by certificate name in lower case.
            auth: how clients prove who they are.
            accounts: knows passwords, and the groups of names; there are none by default.
        """
        self.clock, self.connections, self.door, self.monitor = clock, connections, door, monitor
        self.limits: Limits = connections.limits
        self.recorder, self.accounts, self.tally = recorder, accounts, router.audiences.tally
        self._auth = auth
        self._router = router
        self._tls = tls
        self._tak_protocol = "xml" if monitor else tak_protocol
        self._tak_protocol_of = {} if monitor else dict(tak_protocol_of or {})

    def admits(self, address: IAddress) -> bool:
        """Whether one more connection from there may be made; asked before TLS."""
        reason = self.connections.why_not(address, self._tls)
        if reason is not None:
            self.refused(address, reason)
        return reason is None

    def refused(self, address: IAddress, reason: str) -> None:
        """Say that somebody is refused before there is a connection for it."""
        host = host_of(address)
        self.connections.notices.say("{host} refused at {door}: {reason}", host=host, door=self.door, reason=reason)
        self.connections.failures.tell(host, self.door, reason)

    def buildProtocol(self, addr: IAddress | None) -> CoTProtocol | None:  # type: ignore[override]  # the base's is private
        assert addr is not None
        if not self._tls and not self.admits(addr):
            return None
        return CoTProtocol(self, addr)

    def wants_password(self, principal: Principal) -> bool:
        """Whether a client that has shown this certificate, or none, must say a password before anything else."""
        if self.accounts is None or self._auth in ("none", "cert"):
            return False
        if self._auth == "cert+password":
            return True
        # As long as nobody has a password, a door that wants none in particular is open to everybody.
        return principal.anonymous and (self._auth == "password" or self.accounts.any_password)

    def offers_protobuf(self, principal: Principal) -> bool:
        """Whether a client is offered protobuf."""
        name = (principal.name or "").lower()
        return self._tak_protocol_of.get(name, self._tak_protocol) == "auto"

    def subscribe(self, principal: Principal, connection: CoTProtocol) -> Subscription:
        """Give a connection its place in the router."""
        if self.monitor:
            return self._router.subscribe(principal, connection, connection.peer, wants_everything=True)
        host = getattr(connection.transport.getHost(), "host", None)
        reached = Reached(host, self._tls) if host is not None else None
        limit = self.limits.max_event_to_client
        return self._router.subscribe(principal, connection, connection.peer, limit, reached=reached)
