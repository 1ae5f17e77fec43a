from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.endpoints.loopback import is_loopback, is_wide, on_loopback
from taky_twisted.identity.errors import EndpointError


class LoopbackTests(SynchronousTestCase):
    def test_default(self) -> None:
        """Who names no interface gets one of this machine; who names one gets that."""
        for given, made in {
            "tcp:9100": "tcp:9100:interface=127.0.0.1",
            "TCP:port=9100": "TCP:port=9100:interface=127.0.0.1",
            "tcp6:9100": r"tcp6:9100:interface=\:\:1",
            "ssl:9100:clientCert=required": "ssl:9100:clientCert=required:interface=127.0.0.1",
            "taktls:9100": "taktls:9100:interface=127.0.0.1",
            "haproxy:tcp:9100": "haproxy:tcp:9100:interface=127.0.0.1",
            r"ssl:inner=tcp\:9100": r"ssl:inner=tcp\:9100\:interface\=127.0.0.1",
            "tcp:9100:interface=0.0.0.0": "tcp:9100:interface=0.0.0.0",
            "tcp:9100:10.0.0.1": "tcp:9100:10.0.0.1",
            r"tcp6:9100:50:\:\:": r"tcp6:9100:50:\:\:",
            "unix:/run/m.sock": "unix:/run/m.sock",
            "systemd:domain=INET:index=0": "systemd:domain=INET:index=0",
        }.items():
            self.assertEqual(on_loopback(given), made)
            self.assertEqual(on_loopback(made), made, "said twice it is the same")

    def test_further(self) -> None:
        """One of several processes has a port of its own, unless any port is as good."""
        self.assertEqual(on_loopback("tcp:9100", 2), "tcp:9102:interface=127.0.0.1")
        self.assertEqual(on_loopback("tcp:port=9100", 1), "tcp:port=9101:interface=127.0.0.1")
        self.assertEqual(on_loopback("tcp:0", 1), "tcp:0:interface=127.0.0.1")
        self.assertEqual(on_loopback("tcp", 1), "tcp:interface=127.0.0.1")
        self.assertEqual(on_loopback(r"ssl:inner=haproxy\:tcp\:9100", 1), on_loopback(r"ssl:inner=haproxy\:tcp\:9101"))
        self.assertEqual(on_loopback("unix:/m", 1), "unix:/m")

    def test_wide(self) -> None:
        """What others may reach is known before it is open; of what is handed over nobody knows."""
        for door in (
            "tcp:1",
            "tcp6:1",
            "ssl:1",
            "tcp:1:localhost",
            "tcp:1:interface=127.0.0.2",
            "unix:/m",
            "haproxy:tcp:1",
        ):
            self.assertFalse(is_wide(door), door)
        self.assertFalse(is_wide(r"ssl:inner=tcp\:1"))
        for door in ("tcp:1:interface=0.0.0.0", "tcp:1:10.0.0.1", r"tcp6:1:interface=\:\:", "systemd:domain=INET"):
            self.assertTrue(is_wide(door), door)
        self.assertTrue(is_wide(r"ssl:inner=tcp\:1\:interface\=10.0.0.1"))
        self.assertTrue(is_wide("haproxy:tcp:1:interface=10.0.0.1"))

    def test_nonsense(self) -> None:
        """What is no endpoint is told by whoever makes one."""
        self.assertRaises(EndpointError, on_loopback, "tcp:1:interface=a:interface=b")
        self.assertFalse(is_wide("tcp:1:interface=a:interface=b"))

    def test_addresses(self) -> None:
        """Addresses of this machine alone are known, those of networks and names are none of them."""
        for address in ("127.0.0.1", "127.1.2.3", "::1", "::1%lo"):
            self.assertTrue(is_loopback(address), address)
        for address in ("0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0", "name", ""):
            self.assertFalse(is_loopback(address), address)
