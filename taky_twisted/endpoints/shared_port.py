"""A TCP port that several processes of one user listen on; the kernel gives each new connection to one of them.

Source: ``socket(7)``, ``SO_REUSEPORT``: all who bind the port must say so, and on Linux belong to one user.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer


class SharedPort(tcp.Port):
    """Twisted's port of ``tcp:`` with one more option on its socket."""

    def createInternetSocket(self) -> socket.socket:
        made: socket.socket = super().createInternetSocket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return made


@implementer(IStreamServerEndpoint)
class SharedPortEndpoint:
    """What ``tcp:`` describes, with ``reusePort=yes``."""

    def __init__(self, reactor: Any, port: int, backlog: int, interface: str) -> None:
        self._reactor, self._port, self._backlog, self._interface = reactor, port, backlog, interface

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen."""
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        port = SharedPort(self._port, factory, self._backlog, self._interface, self._reactor)
        port.startListening()
        return port
