from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted import opening
from taky_twisted.admitting import auth_of_streams
from taky_twisted.identity.proofs import Auth
from tests.fakes import LogLines
from tests.pki import PKI
from tests.test_doors import OpenPort


class WarningTests(SynchronousTestCase):
    """Who may come in without a certificate is said where that is everybody."""

    def setUp(self) -> None:
        self.log = LogLines(self)
        self.pki = PKI(self.mktemp())

    def warnings(self, address: IAddress, client_cert: str = "", **keys: str) -> list[str]:
        """Open a door; read the warnings."""
        auth: Auth = "none"
        if client_cert or keys:
            from taky_twisted.endpoints import server_endpoint

            auth = auth_of_streams(server_endpoint(reactor, self.pki.endpoint(clientCert=client_cert, **keys)))
        before = len(self.log(LogLevel.warn))
        opening._listening("tcp:8087", auth, OpenPort(address))
        return self.log(LogLevel.warn)[before:]

    def test_open_to_all(self) -> None:
        """A door without client certificates beyond loopback is warned of, with its address."""
        for address, shown in (
            (IPv4Address("TCP", "0.0.0.0", 8087), "this machine"),
            (IPv6Address("TCP", "::", 8087), "this machine"),
            (IPv4Address("TCP", "192.0.2.1", 8087), "192.0.2.1"),
            (IPv6Address("TCP", "fe80::1%eth0", 8087), "fe80::1%eth0"),
        ):
            for client_cert in ("", "optional", "none"):
                (line,) = self.warnings(address, client_cert)
                self.assertTrue(
                    line.startswith(f"anybody who reaches {shown} can connect to tcp:8087 without a certificate"), line
                )

    def test_no_warning(self) -> None:
        """Not with client certificates or passwords, nor on loopback, nor on a unix socket."""
        self.assertEqual(self.warnings(IPv4Address("TCP", "0.0.0.0", 8087), "required"), [])
        self.assertEqual(self.warnings(IPv4Address("TCP", "0.0.0.0", 8087), auth="password"), [])
        for address in (
            IPv4Address("TCP", "127.0.0.1", 8087),
            IPv6Address("TCP", "::1", 8087),
            UNIXAddress("/run/taky.sock"),
        ):
            self.assertEqual(self.warnings(address), [])


class NameTests(SynchronousTestCase):
    def test_shown(self) -> None:
        """A door is called by its kind and port in the log, wherever in its string those are; nothing else is shown."""
        for endpoint, name in (
            ("tcp:8087:interface=127.0.0.1", "tcp:8087"),
            ("ssl:8089:keyPassword=secret", "ssl:8089"),
            (r"ssl:8089:inner=haproxy\:tcp\:8089:keyPassword=secret", "ssl:8089"),
            (r"ssl:inner=haproxy\:tcp\:8089\:interface=\\\:\\\:1:keyPassword=secret", "ssl:haproxy:tcp:8089"),
            (r"ssl:keyPassword=secret:inner=tcp\:8089", "ssl:tcp:8089"),
            ("haproxy:tcp:8087:127.0.0.1", "haproxy:tcp:8087"),
            ("haproxy:tcp:port=8087", "haproxy:tcp"),
            ("unix:/run/taky.sock:mode=600", "unix:/run/taky.sock"),
        ):
            self.assertEqual(opening.shown_name(endpoint), name)
