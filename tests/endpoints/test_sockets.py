from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.values import LOOPBACK
from taky_twisted.endpoints import sockets
from taky_twisted.endpoints.shared_port import SharedPortEndpoint
from taky_twisted.endpoints.sockets import inner_endpoint, socket_endpoint, twisted_endpoint
from taky_twisted.identity.errors import EndpointError
from tests.identity.pairs import PeerFactory

SITE = (ip_network("10.1.0.0/16"),)


class SocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def test_inner_port(self) -> None:
        """The port in front may repeat the one inside, and nothing else may stand in both places."""
        for inner in (r"tcp:8089", "haproxy:tcp:8089", "tcp6:port=8089", "tcp:8089:backlog=5"):
            endpoint, _ = inner_endpoint(self.reactor, inner, {"port": "8089"}, None)
            self.successResultOf(endpoint.listen(PeerFactory()))
            self.assertEqual(self.reactor.tcpServers.pop()[0], 8089)
        for outer in ({"port": "8090"}, {"port": "8089", "backlog": "5"}, {"interface": "127.0.0.1"}):
            error = self.assertRaises(EndpointError, inner_endpoint, self.reactor, "tcp:8089", outer, None)
            self.assertIn("and inner= exclude each other", str(error))

    def test_balancers(self) -> None:
        """Who is believed says the string, else the site, else it is this machine; without haproxy: nobody is asked."""
        for kind, words, keys, site, believed in (
            ("haproxy", ["tcp", "8087"], {}, None, LOOPBACK),
            ("haproxy", ["tcp", "8087"], {}, SITE, SITE),
            ("haproxy", ["tcp", "8087"], {"proxy_from": "none"}, SITE, ()),
            ("tcp", ["8087"], {}, SITE, None),
        ):
            self.assertEqual(socket_endpoint(self.reactor, kind, words, dict(keys), site)[1], believed)

    def test_two_balancers(self) -> None:
        """One PROXY header is read, not one inside of another."""
        for words in (["haproxy", "tcp", "8087"], ["hAproxy", "ssl", "2"]):
            error = self.assertRaises(EndpointError, socket_endpoint, self.reactor, "haproxy", words, {}, None)
            self.assertIn("is there twice", str(error))

    def test_files(self) -> None:
        """A file that some other kind of endpoint wants and that is not there is the operator's mistake, not ours."""
        error = self.assertRaises(
            EndpointError, twisted_endpoint, self.reactor, "ssl", ["1"], {"privateKey": "nowhere"}
        )
        self.assertIn("No such file", str(error))

    def test_folder_of_certificates(self) -> None:
        """Twisted's tls: has to have a folder, and one that leads back to itself is told of."""
        for words in ([], ["", ""], ["/nowhere", "tcp", "1"]):
            error = self.assertRaises(EndpointError, twisted_endpoint, self.reactor, "tls", words, {})
            self.assertIn("begins with a folder", str(error))
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "again").symlink_to(folder.absolute())
        error = self.assertRaises(EndpointError, twisted_endpoint, self.reactor, "tls", [str(folder), "tcp", "1"], {})
        self.assertIn("Twisted does not take it", str(error))  # older ones know no tls: at all

    def test_shared_ports(self) -> None:
        """reusePort=yes needs a system that can; reusePort=no is as if it were not there."""
        for kind in ("tcp", "tcp6"):
            shared = twisted_endpoint(self.reactor, kind, ["8087"], {"reusePort": "yes"})
            self.assertIsInstance(shared, SharedPortEndpoint)
            alone = twisted_endpoint(self.reactor, kind, ["8087"], {"reusePort": "no"})
            self.assertNotIsInstance(alone, SharedPortEndpoint)
        self.patch(sockets, "socket", object())
        error = self.assertRaises(EndpointError, twisted_endpoint, self.reactor, "tcp", ["1"], {"reusePort": "yes"})
        self.assertIn("this system cannot let several processes listen on one port", str(error))
