"""Let machines watch the server: metrics and health, put together from what the parts count themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.interfaces import IListeningPort

from taky_twisted.config import Settings
from taky_twisted.doors import Door, Doors
from taky_twisted.endpoints import TLSDefaults, server_endpoint
from taky_twisted.endpoints.loopback import is_loopback, on_loopback
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.failures import Failures
from taky_twisted.interfaces import Bus, EventStore
from taky_twisted.logs import Logger
from taky_twisted.metrics.health import Health
from taky_twisted.metrics.pulse import Pulse
from taky_twisted.metrics.refusals import Refusals
from taky_twisted.metrics.site import MetricsFactory, MetricsProtocol, Pages
from taky_twisted.metrics.watched import Counts, Watched
from taky_twisted.opening import shown_name
from taky_twisted.routing.router import Router
from taky_twisted.streaming.connections import Connections

if TYPE_CHECKING:
    from taky_twisted.api import Api

WHAT = "metrics"
"""What is spoken at these doors; ``--metrics-endpoint`` has its name of it."""


class Watching(MultiService):
    """Measures what nobody else does, and makes the doors. It is only there if one is configured."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        store: EventStore,
        router: Router,
        connections: Connections,
        failures: Failures,
        api: Api | None,
        bus: Bus | None = None,
    ) -> None:
        super().__init__()
        self._reactor, self._settings = reactor, settings
        self._connections, self._api = connections, api
        self._opened: Doors | None = None
        self._tls: Sequence[tuple[str, Any]] = ()
        self.pulse = Pulse(reactor)
        """Its method ``jumped`` is to be told when the system's clock was set."""
        self.watched = Watched(
            router=router,
            failures=failures,
            refusals=Refusals(failures),
            pulse=self.pulse,
            store=lambda: store.state,
            counts=self._counts,
            shut=lambda: self._opened.shut() if self._opened is not None else [],
            certificates=self._certificates,
            answered=api.connections.answered if api is not None else {},
            history=api.history if api is not None else None,
            bus=bus,
        )
        self._health = Health(self.watched, reactor)
        self._pages = Pages(self.watched, self._health, reactor)
        for service in (self.pulse, self._health):
            service.setServiceParent(self)

    def doors(self, defaults: TLSDefaults) -> Iterator[Door]:
        """Make the doors.

        Raises:
            EndpointError: an endpoint string, or a file that it names, cannot be used.
        """
        worker, connections = self._settings.worker, set[MetricsProtocol]()
        for name in self._settings.metrics_endpoints:
            # Each process counts for itself, so that one port for all of them would tell of any of them.
            try:
                described = on_loopback(name, (worker or 1) - 1)
            except EndpointError as error:
                raise EndpointError(f"endpoint {name.partition(':')[0]}: {error}") from error
            if described == name and (worker or 1) > 1:
                continue  # a unix socket, for example, is the first one's
            endpoint, shown = server_endpoint(self._reactor, described, defaults), shown_name(described)
            if "password" in (getattr(endpoint, "auth", None) or ""):
                raise EndpointError(
                    f"endpoint {shown}: no password is asked for at a door for metrics; leave auth= out"
                )
            factory = MetricsFactory(self._pages, self._reactor, connections)
            yield Door(shown, WHAT, endpoint, factory, partial(self._listening, shown))

    def opened(self, doors: Doors, described: Sequence[Door]) -> None:
        """Learn of all doors of the server, of which those for metrics are some."""
        self._opened = doors
        self.watched.clients.update((door.name, "xml") for door in described if door.what in ("CoT", "monitor"))
        tls = ((f"{door.what} {door.name}", getattr(door.endpoint, "tls", None)) for door in described)
        self._tls = [(name, mutual) for name, mutual in tls if mutual is not None]

    def _listening(self, name: str, port: IListeningPort) -> None:
        host = getattr(port.getHost(), "host", None)
        if host is not None and not is_loopback(host):
            self.log.warn(
                "others than this machine reach {name} at {host}, and can read there how the server is and what it"
                " counts: leave interface= out, or keep that port inside a trusted network",
                name=name,
                host=host,
            )

    def _counts(self) -> Counts:
        streams, http = self._connections, self._api.connections if self._api is not None else None
        return Counts(
            handshakes=len(streams.handshakes),
            handshaken=streams.handshaken + (http.handshaken if http is not None else 0),
            http=len(http) if http is not None else 0,
            left_out=streams.notices.suppressed
            + self.watched.router.notices.suppressed
            + (http.notices.suppressed if http is not None else 0),
        )

    def _certificates(self) -> Mapping[str, datetime]:
        ends: dict[str, datetime] = {}
        for name, tls in self._tls:
            # Two doors on one port, at different addresses, have the same name: what ends first counts.
            end = tls.certificate.not_valid_after_utc
            ends[name] = min(end, ends.get(name, end))
        return ends
