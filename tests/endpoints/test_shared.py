from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.endpoints.shared import worker_door, worker_doors
from taky_twisted.identity.errors import EndpointError


class WorkerDoorTests(SynchronousTestCase):
    def test_shared(self) -> None:
        """TCP ports are shared, under TLS and behind a load balancer as well; the rest of a string stays."""
        for description, shared in (
            ("tcp:8087", "tcp:8087:reusePort=yes"),
            (r"tcp6:8087:interface=\:\:1", r"tcp6:8087:interface=\:\:1:reusePort=yes"),
            (r"ssl:8089:certKey=C\:\\x", r"ssl:8089:certKey=C\:\\x:reusePort=yes"),
            ("SSL:port=8089:reusePort=no", "SSL:port=8089:reusePort=yes"),
            ("haproxy:tcp:8087:proxy_from=10.0.0.1", "haproxy:tcp:8087:proxy_from=10.0.0.1:reusePort=yes"),
            (
                r"ssl:8089:inner=haproxy\:tcp\:8089:auth=cert",
                r"ssl:8089:inner=haproxy\:tcp\:8089\:reusePort\=yes:auth=cert",
            ),
        ):
            for worker in (1, 2):
                self.assertEqual(worker_door(description, worker), shared)

    def test_once(self) -> None:
        """A unix socket is the first worker's."""
        for description in ("unix:/run/taky/cot.sock", "haproxy:unix:/run/taky/cot.sock"):
            self.assertEqual(worker_doors((description, "tcp:1"), 1), (description, "tcp:1:reusePort=yes"))
            self.assertEqual(worker_doors((description, "tcp:1"), 2), ("tcp:1:reusePort=yes",))

    def test_alone(self) -> None:
        """For a server of one process nothing changes."""
        doors = ("tcp:0", "systemd:domain=INET:index=0")
        self.assertEqual(worker_doors(doors, None), doors)

    def test_impossible(self) -> None:
        """What cannot be shared is refused, with what to do."""
        for description, why in (
            ("systemd:domain=INET:index=0", "endpoint systemd: several processes cannot share such a door"),
            (r"ssl:inner=systemd\:domain=INET\:index=0", "endpoint systemd: several processes cannot share"),
            ("tls:/etc/certs:port=443", "endpoint tls: several processes cannot share such a door"),
            ("haproxy", "endpoint haproxy: several processes cannot share such a door"),
            ("", "several processes cannot share such a door"),
            ("tcp:0", "endpoint tcp: with port 0 each process would have another port"),
            ("ssl:port=0", "endpoint ssl: with port 0"),
            (r"ssl:8089:inner=haproxy\:tcp\:0", "endpoint haproxy: with port 0"),
        ):
            self.assertIn(why, str(self.assertRaises(EndpointError, worker_door, description, 2)))
