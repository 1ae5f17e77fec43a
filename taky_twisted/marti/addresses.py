"""How the clients of a stream reach the Marti API: at the address where they reached the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IListeningPort

if TYPE_CHECKING:
    from taky_twisted.routing.subscription import Subscription

ANY_ADDRESS = ("0.0.0.0", "::")


class Addresses:
    """The addresses of the API's doors."""

    def __init__(self, public_url: str | None = None) -> None:
        """Start with no door.

        Args:
            public_url: ``https://host:port`` that clients reach us by, where that is not the address that they used.
        """
        self._public_url = public_url
        self._doors: list[tuple[bool, str, int]] = []

    def opened(self, tls: bool, port: IListeningPort) -> None:
        """Note a door that lets stream clients in: over TLS by their certificates, else without."""
        address = port.getHost()
        host, number = getattr(address, "host", None), getattr(address, "port", None)
        if host is not None and number is not None:
            self._doors.append((tls, host, number))

    def base_url(self, subscription: Subscription) -> str | None:
        """Spell the API's address for a stream client, ``https://192.0.2.10:8443``; None if there is none for it."""
        reached = subscription.reached
        if reached is None:
            return None
        if self._public_url is not None:
            return self._public_url
        if reached.tls and subscription.principal.anonymous:
            return None  # it would be asked for a certificate
        host = _plain(reached.host)
        for tls, bound, number in self._doors:
            if tls is reached.tls and (bound in ANY_ADDRESS or _plain(bound) == host):
                return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{number}"
        return None


def _plain(host: str) -> str:
    """Spell an address as others can use it: IPv4 as such, and without the name of our network card."""
    host = host.partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host
