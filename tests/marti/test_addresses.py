from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.marti.addresses import Addresses
from taky_twisted.routing.offers import Reached
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import MemorySink, principal


class Port:
    """A port that listens."""

    def __init__(self, host: str, number: int = 0) -> None:
        kind = IPv6Address if ":" in host else IPv4Address
        self._address: Any = kind("TCP", host, number) if number else UNIXAddress(host)

    def getHost(self) -> Any:
        return self._address


class AddressesTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        self.router = Router(clock, MemoryStore(clock), Limits())

    def client(self, reached: Reached | None, proved: Principal = ANONYMOUS) -> Subscription:
        """Connect a client of a stream."""
        return self.router.subscribe(proved, MemorySink(), "peer", reached=reached)

    def base_url(
        self, host: str, tls: bool, *doors: tuple[bool, str, int], proved: Principal | None = None
    ) -> str | None:
        """Ask where the API is for somebody who reached us at some address."""
        addresses = Addresses()
        for kind, bound, number in doors:
            addresses.opened(kind, Port(bound, number))  # type: ignore[arg-type]
        proved = proved or (principal("alice") if tls else ANONYMOUS)
        return addresses.base_url(self.client(Reached(host, tls), proved))

    def test_kind(self) -> None:
        """A TLS client is sent to the TLS door, another to the plain one, at the address that it used."""
        doors = [(True, "0.0.0.0", 8443), (False, "0.0.0.0", 8080)]
        self.assertEqual(self.base_url("192.0.2.1", True, *doors), "https://192.0.2.1:8443")
        self.assertEqual(self.base_url("192.0.2.1", False, *doors), "http://192.0.2.1:8080")
        self.assertIsNone(self.base_url("192.0.2.1", True, doors[1]))
        self.assertIsNone(self.base_url("192.0.2.1", False, doors[0]))
        self.assertIsNone(self.base_url("192.0.2.1", False))

    def test_first_of_a_kind(self) -> None:
        """Of several doors it is the first that is open at that address."""
        doors = [(False, "127.0.0.1", 1), (False, "192.0.2.1", 2), (False, "0.0.0.0", 3)]
        self.assertEqual(self.base_url("192.0.2.1", False, *doors), "http://192.0.2.1:2")
        self.assertEqual(self.base_url("192.0.2.9", False, *doors), "http://192.0.2.9:3")
        self.assertIsNone(self.base_url("192.0.2.9", False, doors[0]))

    def test_ipv6(self) -> None:
        """An IPv6 address stands in brackets and without our network card; an IPv4 address is spelled as such."""
        door = (False, "::", 8080)
        self.assertEqual(self.base_url("2001:db8::1", False, door), "http://[2001:db8::1]:8080")
        self.assertEqual(self.base_url("fe80::1%eth0", False, door), "http://[fe80::1]:8080")
        self.assertEqual(self.base_url("::ffff:192.0.2.1", False, door), "http://192.0.2.1:8080")
        self.assertEqual(self.base_url("::ffff:192.0.2.1", False, (False, "192.0.2.1", 8080)), "http://192.0.2.1:8080")

    def test_unix(self) -> None:
        """A door that is no address sends nobody anywhere, and who came through a file is sent nowhere."""
        addresses = Addresses()
        addresses.opened(False, Port("/run/marti"))  # type: ignore[arg-type]
        self.assertIsNone(addresses.base_url(self.client(Reached("192.0.2.1", False))))
        addresses.opened(False, Port("0.0.0.0", 8080))  # type: ignore[arg-type]
        self.assertIsNone(addresses.base_url(self.client(None)))

    def test_without_a_certificate(self) -> None:
        """Who came over TLS without a certificate is not sent to a door that asks for one."""
        self.assertIsNone(self.base_url("192.0.2.1", True, (True, "0.0.0.0", 8443), proved=ANONYMOUS))

    def test_public_url(self) -> None:
        """What the operator says that clients reach us by is believed."""
        addresses = Addresses("https://tak.example:443")
        for tls in (True, False):
            self.assertEqual(addresses.base_url(self.client(Reached("10.0.0.1", tls))), "https://tak.example:443")
