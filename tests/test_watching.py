from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config import Settings
from taky_twisted.doors import Door, Doors
from taky_twisted.endpoints import TLSDefaults
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.failures import Failures
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.watching import Watching
from tests.fakes import LogLines, Site
from tests.pki import PKI
from tests.test_doors import OpenPort


def watching(*endpoints: str, worker: int | None = None, api: Any = None, clock: Any = reactor) -> Watching:
    """Put together what watches a site."""
    site = Site()
    settings = Settings(metrics_endpoints=endpoints, worker=worker)
    return Watching(clock, settings, MemoryStore(site.clock), site.router, site.connections, Failures(clock), api)


class DoorsTests(SynchronousTestCase):
    def names(self, *endpoints: str, worker: int | None = None) -> list[str]:
        """Name the doors that are made."""
        return [door.name for door in watching(*endpoints, worker=worker).doors(TLSDefaults())]

    def test_doors(self) -> None:
        """There are as many doors as are named, on this machine, if nothing else is said."""
        doors = list(watching("tcp:0", "unix:/m").doors(TLSDefaults()))
        self.assertEqual([(door.what, door.name) for door in doors], [("metrics", "tcp:0"), ("metrics", "unix:/m")])
        self.assertEqual(doors[0].endpoint._interface, "127.0.0.1")  # type: ignore[attr-defined]  # Twisted's
        self.assertIs(doors[0].factory.connections, doors[1].factory.connections)  # type: ignore[attr-defined]

    def test_workers(self) -> None:
        """Each of several processes has a port of its own, and the first one what cannot be had twice."""
        self.assertEqual(self.names("tcp:9100", "unix:/m", worker=1), ["tcp:9100", "unix:/m"])
        self.assertEqual(self.names("tcp:9100", "unix:/m", worker=3), ["tcp:9102"])

    def test_refused(self) -> None:
        """What is no endpoint, and a password that nobody would be asked for, stop the start."""
        pki = PKI(self.mktemp())
        for endpoint, words in (
            ("tcp:1:interface=a:interface=b", "endpoint tcp: interface= is there twice"),
            ("tcp:none", "port=none"),
            (pki.endpoint(auth="password", clientCert=""), "leave auth= out"),
        ):
            error = self.assertRaises(EndpointError, self.names, endpoint)
            self.assertIn(words, str(error))

    def warnings(self, addresses: Iterable[IAddress]) -> list[str]:
        """Open a door at addresses; read the warnings."""
        log = LogLines(self)
        (door,) = watching("tcp:9100").doors(TLSDefaults())
        for address in addresses:
            door.adjust(OpenPort(address))
        return log(LogLevel.warn)

    def test_warning(self) -> None:
        """A door that others reach is warned of."""
        wide = (IPv4Address("TCP", "0.0.0.0", 9100), IPv6Address("TCP", "::", 9100), IPv4Address("TCP", "10.0.0.1", 1))
        warnings = self.warnings(wide)
        self.assertEqual(len(warnings), 3)
        self.assertTrue(warnings[0].startswith("others than this machine reach tcp:9100 at 0.0.0.0"), warnings[0])

    def test_no_warning(self) -> None:
        """One that they do not reach is not."""
        near = (IPv4Address("TCP", "127.0.0.1", 9100), IPv6Address("TCP", "::1", 9100), UNIXAddress("/m"))
        self.assertEqual(self.warnings(near), [])


class PartsTests(SynchronousTestCase):
    def test_without_api(self) -> None:
        """A server without HTTP has neither requests nor history."""
        watched = watching().watched
        self.assertEqual((watched.counts().http, watched.history, dict(watched.answered)), (0, None, {}))
        self.assertEqual((list(watched.shut()), dict(watched.certificates())), ([], {}))
        self.assertTrue(watched.store().writable)

    def test_with_api(self) -> None:
        """What the doors for HTTP count is added to what those for streams do."""

        class Http:
            handshaken = 2
            answered = {("/x", 200): 1}
            notices = Site().router.notices

            def __len__(self) -> int:
                return 7

        class Api:
            connections = Http()
            history = "history"

        it = watching(api=Api())
        it._connections.handshaken += 1
        for number in range(4):
            it._connections.handshakes.add(number, "10.0.0.1")  # type: ignore[arg-type]
        it._connections.notices.suppressed += 1
        Http.notices.suppressed += 2
        counts = it.watched.counts()
        self.assertEqual((counts.http, counts.handshaken, counts.handshakes, counts.left_out), (7, 3, 4, 3))
        self.assertEqual((it.watched.history, it.watched.answered), ("history", {("/x", 200): 1}))

    def test_doors_of_the_server(self) -> None:
        """It is known which doors take nobody in, and when certificates end."""
        pki = PKI(self.mktemp())
        it = watching(pki.endpoint())
        doors: list[Door] = list(it.doors(TLSDefaults()))
        opened = Doors(doors, [])
        it.opened(opened, doors)
        name = f"metrics door {doors[0].name}"
        self.assertEqual(list(it.watched.shut()), [name])
        ((door, end),) = it.watched.certificates().items()
        self.assertEqual((door, end), (f"metrics {doors[0].name}", pki.server.certificate.not_valid_after_utc))

    def test_doors_with_one_name(self) -> None:
        """Of two doors on one port, at different addresses, the certificate that ends first is told."""
        soon, late = datetime(2026, 4, 1, tzinfo=timezone.utc), datetime(2027, 4, 1, tzinfo=timezone.utc)
        for ends in ((soon, late), (late, soon)):
            it = watching()
            doors = [SimpleNamespace(what="CoT", name="ssl:8089", endpoint=shows(end)) for end in ends]
            it.opened(Doors([], []), doors)  # type: ignore[arg-type]  # as far as is looked at
            self.assertEqual(dict(it.watched.certificates()), {"CoT ssl:8089": soon})

    def test_clients(self) -> None:
        """Each door for streams has a number of clients from the start, 0."""
        it = watching()
        doors = [SimpleNamespace(what=what, name=f"{what}:1", endpoint=None) for what in ("CoT", "monitor", "Marti")]
        it.opened(Doors([], []), doors)  # type: ignore[arg-type]  # as far as is looked at
        self.assertEqual(it.watched.clients, {("CoT:1", "xml"), ("monitor:1", "xml")})


def shows(end: datetime) -> SimpleNamespace:
    """Stand for an endpoint that shows a certificate."""
    return SimpleNamespace(tls=SimpleNamespace(certificate=SimpleNamespace(not_valid_after_utc=end)))
