from __future__ import annotations

from dataclasses import replace

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.streaming.connections import FLUSH_SECONDS, SWEEP_SECONDS, host_of
from tests.fakes import Client, Site, principal
from tests.samples import chat, marker, sa, to

HERE = IPv4Address("TCP", "10.0.0.1", 1)
THERE = IPv4Address("TCP", "10.0.0.2", 1)


class NamedTests(SynchronousTestCase):
    def test_close_named(self) -> None:
        """Everybody with a name is cut off, however it is spelled; nobody else is, and nobody who has none."""
        site = Site()
        alice, again, bob, nobody = (
            site.connect(proved) for proved in (principal("alice"), principal("alice"), principal("bob"), None)
        )
        self.assertEqual(site.connections.close_named("Alice ", "banned"), 2)
        self.assertEqual([each.transport.lost for each in (alice, again, bob, nobody)], ["abort", "abort", None, None])
        self.assertEqual(site.connections.close_named("anonymous", "banned"), 0)


class LimitTests(SynchronousTestCase):
    """At n-1 there is room for one more, at n there is none, and after one has gone there is again."""

    def site(self, **limits: int) -> Site:
        return Site(limits=replace(Limits(), **limits))

    def why_not(self, site: Site, address: IPv4Address = HERE, tls: bool = False) -> str | None:
        return site.connections.why_not(address, tls)

    def test_max_connections(self) -> None:
        """All connections together, wherever they are from and whoever they are."""
        site = self.site(max_connections=2)
        client = site.join("A")
        self.assertIsNone(self.why_not(site))
        site.connect(host="10.0.0.2")
        self.assertEqual(self.why_not(site), "there are 2 connections (max_connections)")
        client.leave()
        self.assertIsNone(self.why_not(site))

    def test_max_per_address(self) -> None:
        """The connections of one address; another address is not affected."""
        site = self.site(max_per_address=2)
        client = site.connect()
        self.assertIsNone(self.why_not(site))
        site.connect()
        self.assertEqual(self.why_not(site), "there are 2 connections from there (max_per_address)")
        self.assertIsNone(self.why_not(site, THERE))
        client.leave()
        self.assertIsNone(self.why_not(site))

    def test_max_unidentified(self) -> None:
        """Those who have not said who they are; who has is not counted."""
        site = self.site(max_unidentified=2)
        site.join("A")
        client = site.connect()
        self.assertIsNone(self.why_not(site))
        site.connect(host="10.0.0.2")
        self.assertEqual(self.why_not(site), "2 connections have not said who they are (max_unidentified)")
        client.say(sa("B", "B"))
        self.assertIsNone(self.why_not(site))

    def test_max_handshakes(self) -> None:
        """Handshakes count at TLS doors alone."""
        site = self.site(max_handshakes=2)
        site.connections.handshakes.add(site.connect().protocol, "10.0.0.1")
        self.assertIsNone(self.why_not(site, tls=True))
        site.connections.handshakes.add(site.connect().protocol, "10.0.0.2")
        self.assertEqual(self.why_not(site, tls=True), "2 TLS handshakes are pending (max_handshakes)")
        self.assertIsNone(self.why_not(site))

    def test_off(self) -> None:
        """By default only the first and the last limit are on."""
        site = self.site()
        for _ in range(100):
            site.connect()
        self.assertIsNone(self.why_not(site))

    def test_forgotten(self) -> None:
        """An address without connections is not remembered."""
        site = self.site()
        site.connect(host="10.0.0.1").leave()
        client = site.connect(host="10.0.0.2")
        self.assertEqual(dict(site.connections._per_address), {"10.0.0.2": 1})
        self.assertEqual(list(site.connections), [client.protocol])

    def test_host(self) -> None:
        """Local processes on a unix socket share one name."""
        self.assertEqual((host_of(HERE), host_of(UNIXAddress("/run/taky.sock"))), ("10.0.0.1", ""))


class WatchingTests(SynchronousTestCase):
    """Silent and stalled connections are looked for while the service runs."""

    def test_sweep(self) -> None:
        """A silent client is closed within the interval of the sweep."""
        site = Site()
        site.connections.startService()
        client = site.join("A")
        site.pass_time(site.limits.idle_seconds)
        self.assertIsNone(client.transport.lost)
        site.pass_time(SWEEP_SECONDS)
        self.assertEqual(client.transport.lost, "abort")
        client.vanish()
        self.assertIsNone(site.connections.stopService())

    def test_stopped(self) -> None:
        """Afterwards nobody looks any more."""
        site = Site()
        site.connections.startService()
        site.connections.stopService()
        site.router.contacts.save()
        self.assertEqual(site.clock.getDelayedCalls(), [])


class StopTests(SynchronousTestCase):
    """Stopping sends what is directed to somebody, and then there is nobody left."""

    def setUp(self) -> None:
        self.site = Site()
        self.site.connections.startService()

    def stop(self) -> list[None]:
        """Stop; the list has one entry once everything is closed."""
        self.site.router.stop()
        stopped = self.site.connections.stopService()
        assert stopped is not None
        done: list[None] = []
        stopped.addCallback(done.append)
        return done

    def end(self, *clients: Client) -> None:
        """Let the transports be gone."""
        for client in clients:
            client.leave()

    def test_nobody(self) -> None:
        """With nobody there it is over at once, also if it was never started."""
        self.assertIsNone(self.site.connections.stopService())
        self.assertIsNone(Site().connections.stopService())

    def test_all_are_closed(self) -> None:
        """It waits until the last transport is gone, and leaves no timer behind."""
        first, second = self.site.join("A"), self.site.connect()
        done = self.stop()
        self.assertEqual((first.transport.lost, second.transport.lost), ("lose", "lose"))
        self.end(first)
        self.assertEqual(done, [])
        self.end(second)
        self.assertEqual(done, [None])
        self.site.router.contacts.save()
        self.assertEqual(self.site.clock.getDelayedCalls(), [])

    def test_T86_flush(self) -> None:
        """What is for somebody in particular is sent before the goodbye, what is for everybody is not waited for."""
        a, b = self.site.join("A"), self.site.join("B")
        b.heard()
        b.full()
        a.say(marker(), chat("A", marti=to("B")))
        done = self.stop()
        self.end(a)
        self.assertIsNone(b.transport.lost)
        b.reads_on()
        self.assertEqual(b.types(), ["b-t-f"])
        self.end(b)
        self.assertEqual(done, [None])

    def test_T86_no_storm(self) -> None:
        """Nobody is told that the others leave."""
        clients = [self.site.join(uid) for uid in "ABC"]
        for client in clients:
            client.heard()
        self.stop()
        for client in clients:
            client.vanish()
            self.assertEqual(client.heard(), [])
        self.site.pass_time(10)
        self.assertEqual([client.heard() for client in clients], [[], [], []])

    def test_T86_five_seconds(self) -> None:
        """A client that does not read is cut off after five seconds."""
        a, b = self.site.join("A"), self.site.join("B")
        b.full()
        a.say(chat("A", marti=to("B")))
        done = self.stop()
        self.end(a)
        self.site.clock.advance(FLUSH_SECONDS - 0.1)
        self.assertIsNone(b.transport.lost)
        self.site.clock.advance(0.1)
        self.assertEqual((b.transport.lost, done), ("abort", []))
        self.end(b)
        self.assertEqual(done, [None])

    def test_gone_at_once(self) -> None:
        """Where every transport is gone as soon as it is told to, there is nothing to wait for."""
        client = self.site.join("A")
        self.site.router.stop()
        client.transport.loseConnection = client.leave  # type: ignore[method-assign]
        stopped = self.site.connections.stopService()
        assert stopped is not None
        self.assertTrue(stopped.called)


class CertificateTests(SynchronousTestCase):
    def test_without_certificates(self) -> None:
        """New revocations do not touch connections without certificates; those with are in `test_protocol`."""
        site = Site()
        client = site.join("A")
        site.connections.close_refused()
        self.assertIsNone(client.transport.lost)
