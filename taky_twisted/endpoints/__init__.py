r"""Endpoint strings for doors: Twisted's own, and ``ssl:`` with client certificates.

::

    server_endpoint(reactor, "ssl:8089", defaults)  ->  DoorEndpoint: socket, who is admitted, PROXY header, TLS
    server_endpoint(reactor, "tcp:8087")            ->  what twisted.internet.endpoints makes of it
    serverFromString(reactor, "taktls:8089:...")    ->  the first again, for any Twisted program

    doors --> strings     words and keys, checked
      `-----> identity    certificates, TLS, whom it refuses (imported when a TLS door is made)

``doc/reference/endpoints.rst`` has every key. twistd imports this package for its list of plugins, so nothing heavy is
imported at the top of a module.
"""

from __future__ import annotations

from taky_twisted.endpoints.doors import DoorEndpoint, TakTLSParser, TLSDefaults, server_endpoint
from taky_twisted.identity.errors import EndpointError

__all__ = ["DoorEndpoint", "EndpointError", "TLSDefaults", "TakTLSParser", "server_endpoint"]
