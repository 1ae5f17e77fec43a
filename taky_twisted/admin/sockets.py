"""The unix sockets on which operators ask: theirs alone, and free again after a server that was killed."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from taky_twisted.admin.requests import RequestProtocol
from taky_twisted.data_folder import SocketError, checked_socket
from taky_twisted.endpoints.strings import COLON_HINT, split
from taky_twisted.identity.errors import EndpointError
from taky_twisted.logs import Logger

MODE = 0o600
MAX_CONNECTIONS = 50
"""Operators at once, on one socket."""
ANSWER_SECONDS = 1.0
"""How long the owner of a socket that is there already has to take a connection."""
_MODES = ("600", "0600")


@dataclass(frozen=True, slots=True)
class AdminSocket:
    """Where operators ask."""

    path: Path
    make: Callable[[], RequestProtocol]
    wanted: bool
    """Whether the operator asked for this one: then the server does not start without it."""


class AdminSockets(Service):
    """Listen while the server runs.

    That begins only when the data folder is locked: what is found there then was left by a server that is dead, and
    what is made belongs to the user that the server runs as.
    """

    log = Logger()

    def __init__(self, reactor: Any, sockets: Sequence[AdminSocket]) -> None:
        self._reactor, self._sockets = reactor, sockets
        self._ports: list[IListeningPort] = []
        self._factories: list[AdminFactory] = []

    def startService(self) -> None:
        """Listen.

        Raises:
            SocketError: a socket that the operator asked for cannot be had; the others were closed again.
        """
        super().startService()
        for each in self._sockets:
            try:
                self._listen(each)
            except SocketError as error:
                if each.wanted:
                    self._close()
                    raise
                self.log.warn("{problem} Until then takyctl cannot reach the server.", problem=str(error))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self._close()

    def _listen(self, wanted: AdminSocket) -> None:
        path = checked_socket(wanted.path)
        _make_room(path)
        factory = AdminFactory(wanted.make)
        mask = os.umask(0o777 & ~MODE)  # never open to others, not for a moment
        try:
            port = self._reactor.listenUNIX(str(path), factory, mode=MODE, wantPID=False)
        except (CannotListenError, OSError) as error:
            reason = getattr(error, "socketError", error)
            raise SocketError(
                f"cannot open the socket {path}: {getattr(reason, 'strerror', None) or reason}."
            ) from error
        finally:
            os.umask(mask)
        self._ports.append(port)
        self._factories.append(factory)
        self.log.info("admin door unix:{path} is open on {path}", path=str(path))

    def _close(self) -> Deferred[None]:
        ports, self._ports = self._ports, []
        for factory in self._factories:
            factory.close()
        return DeferredList([_closed(port) for port in ports]).addCallback(lambda _: None)


class AdminFactory(Factory):
    """Serve so many operators at once, and all of them until the server stops."""

    noisy = False

    def __init__(self, make: Callable[[], RequestProtocol]) -> None:
        self._make = make
        self._all: list[RequestProtocol] = []

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # the base's is private
        self._all = [protocol for protocol in self._all if not protocol.over]
        if len(self._all) >= MAX_CONNECTIONS:
            return None
        protocol = self._make()
        self._all.append(protocol)
        return protocol

    def close(self) -> None:
        """Cut off whoever is connected."""
        for protocol in self._all:
            if not protocol.over:
                protocol.transport.abortConnection()


def _closed(port: IListeningPort) -> Deferred[Any]:
    # Twisted removes the file, and stumbles if somebody has done so already.
    return maybeDeferred(port.stopListening).addErrback(_removed)


def _removed(failure: Failure) -> None:
    failure.trap(FileNotFoundError)


def admin_path(description: str) -> Path:
    """Read an ``--admin-endpoint``.

    Raises:
        EndpointError: it is no unix socket, or somebody else could use it.
    """
    words, keys = split(description)
    kind = words.pop(0).lower() if words else ""
    if kind != "unix":
        raise EndpointError(
            f"endpoint {description}: operators are served on a unix socket only; write unix:/run/taky/admin.sock"
        )
    address = keys.pop("address", None) or (words.pop(0) if words else "")
    mode = keys.pop("mode", _MODES[0])
    if not address or words or keys:
        raise EndpointError(f"endpoint {description}: write unix:PATH; {COLON_HINT}")
    if mode not in _MODES:
        raise EndpointError(f"endpoint {description}: the socket is for its owner alone; leave mode= out")
    return Path(os.path.abspath(address))


def _make_room(path: Path) -> None:
    """Remove the socket of a server that is dead."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SocketError(f"cannot open the socket {path}: {error.strerror}.") from error
    if not stat.S_ISSOCK(there.st_mode):
        raise SocketError(f"cannot open the socket {path}: something else is there; move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(ANSWER_SECONDS)
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            reason = error.strerror or error
            raise SocketError(f"cannot open the socket {path}: another program has it ({reason}).") from error
    raise SocketError(f"cannot open the socket {path}: another server answers there; stop it first.")
