"""Open all doors before the first client is served, and close them first when the server stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from twisted.application.service import Service
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure

from taky_twisted.logs import Logger
from taky_twisted.streaming.transport import accept_few


class DoorError(Exception):
    """A door cannot be opened; the text tells the operator why and what to do."""


@dataclass(frozen=True, slots=True)
class Door:
    """A stream endpoint and what serves behind it."""

    name: str
    """As the operator wrote it, for the log; no secrets."""
    what: str
    """What is spoken there: ``CoT``, ``monitor``, ``Marti``; the option ``--cot-endpoint`` has its name of it."""
    endpoint: IStreamServerEndpoint
    factory: IProtocolFactory
    adjust: Callable[[IListeningPort], None]
    """Done to the port as soon as it listens."""


class Doors(Service):
    """Listen on every door, or on none.

    Ports are taken in the privileged phase, before ``twistd --uid`` gives up its rights; no connection is accepted
    before the reactor runs, and by then everything else has started, or the doors are held.
    """

    log = Logger()

    def __init__(
        self, doors: list[Door], datagrams: list[Callable[[], IListeningPort]], others_listen: bool = False
    ) -> None:
        """Describe the doors.

        Args:
            doors: for streams.
            datagrams: each opens a UDP port.
            others_listen: whether other processes listen on the same ports: then nobody is to wait for this one while
                it starts, so it listens when everything else has started.
        """
        self._others_listen = others_listen
        self._doors, self._datagrams = doors, datagrams
        self.ports: list[IListeningPort] = []
        """What listens, doors first, in their order."""
        self._held = False

    def privilegedStartService(self) -> None:
        """Listen.

        Raises:
            DoorError: one of the doors cannot be opened; the others were closed again.
        """
        super().privilegedStartService()
        if not self._others_listen:
            self._listen_on_all()

    def _listen_on_all(self) -> None:
        try:
            for door in self._doors:
                self._listen(door)
            for listen in self._datagrams:
                self.ports.append(listen())
        except CannotListenError as error:
            self._close()
            where = f"{error.interface or 'any address'} port {error.port}"
            why = _why(error, "--udp-port or --multicast", self._others_listen)
            raise DoorError(f"cannot open the UDP door on {where}: {why}") from error
        except DoorError:
            self._close()
            raise

    def describe(self) -> list[dict[str, object]]:
        """Say what is open and where, for operators; UDP is not among it."""
        described: list[dict[str, object]] = []
        for door, port in zip(self._doors, self.ports, strict=False):
            host = port.getHost()
            described.append(
                {
                    "what": door.what,
                    "name": door.name,
                    "host": getattr(host, "host", None),
                    "port": getattr(host, "port", None),
                    "tls": getattr(door.endpoint, "tls", None) is not None,
                }
            )
        return described

    def shut(self) -> list[str]:
        """Name the doors that take nobody in although they should."""
        names = [f"{door.what} door {door.name}" for door in self._doors]
        if self._held or not self.ports:
            return names
        names += ["the UDP door"] * len(self._datagrams)
        return [name for name, port in zip(names, self.ports, strict=False) if not getattr(port, "connected", True)]

    def hold(self) -> None:
        """Take nobody in before `startService`; who connects waits for that."""
        self._held = True
        for port in self.ports:
            cast(FileDescriptor, port).stopReading()

    def startService(self) -> None:
        if not self.ports:
            self._listen_on_all()
        super().startService()
        if self._held:
            self._held = False
            for port in self.ports:
                cast(FileDescriptor, port).startReading()

    def stopService(self) -> Deferred[None]:
        """Accept nobody any more."""
        super().stopService()
        return self._close()

    def _listen(self, door: Door) -> None:
        failures: list[Failure] = []
        listening = door.endpoint.listen(door.factory)
        listening.addCallbacks(lambda port: self._opened(door, port), failures.append)
        if failures:
            failure = failures[0]
            if failure.check(CannotListenError):
                why = _why(failure.value, f"--{door.what.lower()}-endpoint", self._others_listen)
                raise DoorError(f"cannot open {door.what} door {door.name}: {why}") from failure.value
            if failure.check(OSError):
                reason = getattr(failure.value, "strerror", None) or failure.value
                raise DoorError(f"cannot open {door.what} door {door.name}: {reason}") from failure.value
            failure.raiseException()

    def _opened(self, door: Door, port: IListeningPort) -> None:
        accept_few(port)
        door.adjust(port)
        self.ports.append(port)
        host = port.getHost()
        address = getattr(host, "host", None)
        where = str(host) if address is None else f"{address} port {getattr(host, 'port', '?')}"
        self.log.info("{what} door {name} is open on {where}", what=door.what, name=door.name, where=where)

    def _close(self) -> Deferred[None]:
        ports, self.ports = self.ports, []
        closing = [port.stopListening() for port in ports]
        done = DeferredList([deferred for deferred in closing if isinstance(deferred, Deferred)])
        return done.addCallback(lambda _: None)


def _why(error: BaseException | None, option: str, late: bool) -> str:
    reason = getattr(error, "socketError", None)
    text = getattr(reason, "strerror", None) or str(reason or error)
    if text == "Address already in use":
        return f"another program listens there already; stop it, or choose another port with {option} or in taky.conf"
    if text == "Permission denied" and late:
        return (
            "not permitted; a worker listens when it is ready, and has given up root's rights before: for a port below"
            " 1024 it needs CAP_NET_BIND_SERVICE, as in the units of takyctl systemd"
        )
    if text == "Permission denied":
        return "not permitted; ports below 1024 are for root, or for systemd to hand over"
    if text == "Cannot assign requested address":
        return "this machine does not have that address"
    if text == "No such device":
        return "no network card of this machine has that address, or a route there; name another interface"
    return text
