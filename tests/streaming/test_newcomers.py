from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.streaming.newcomers import Newcomers
from tests.fakes import Client, Site
from tests.samples import sa

THERE = IPv4Address("TCP", "10.0.0.2", 1)


class NewcomersTests(SynchronousTestCase):
    def test_shares(self) -> None:
        """One address cannot have more than its share while others want some, and its oldest gives way."""
        newcomers = Newcomers()
        for number in range(4):
            newcomers.add(f"a{number}", "a")  # type: ignore[arg-type]
        gone: list[Any] = []
        while (other := newcomers.too_many("b")) is not None:
            newcomers.remove(other, "a")
            gone.append(other)
            newcomers.add(f"b{len(gone)}", "b")  # type: ignore[arg-type]
        self.assertEqual((gone, len(newcomers)), (["a0", "a1"], 4))
        self.assertIsNone(newcomers.too_many("a"))
        self.assertEqual(newcomers.too_many("c"), "a2")

    def test_nobody(self) -> None:
        """Where everybody has one, nobody gives way; nor does anybody where there is nobody."""
        newcomers = Newcomers()
        self.assertIsNone(newcomers.too_many("a"))
        for host in "abc":
            newcomers.add(host, host)  # type: ignore[arg-type]
        self.assertIsNone(newcomers.too_many("d"))


class RoomTests(SynchronousTestCase):
    """Where there is no room, it is made at the cost of those who say nothing and are many."""

    def site(self, **limits: int) -> Site:
        return Site(limits=replace(Limits(), **limits))

    def lost(self, *clients: Client) -> list[str | None]:
        return [client.transport.lost for client in clients]

    def test_max_connections(self) -> None:
        """The oldest that has not said who it is gives way, whatever came before it."""
        site = self.site(max_connections=4)
        a = site.join("A")
        silent = [site.connect() for _ in range(3)]
        self.assertIsNone(site.connections.why_not(THERE, tls=False))
        self.assertEqual(self.lost(a, *silent), [None, "abort", None, None])
        silent[0].leave()
        site.connect(host="10.0.0.2")
        self.assertEqual(
            site.connections.why_not(THERE, tls=False), "there are 4 connections (max_connections)", "a fair share"
        )
        self.assertEqual(self.lost(a, *silent), [None, "abort", None, None])

    def test_max_unidentified(self) -> None:
        """The same where the silent ones have a limit of their own; whom it hit is told to the operator."""
        site = self.site(max_unidentified=3)
        silent = [site.connect() for _ in range(3)]
        self.assertIsNone(site.connections.why_not(THERE, tls=False))
        self.assertEqual(self.lost(*silent), ["abort", None, None])
        (attempt,) = site.connections.failures
        self.assertEqual((attempt.address, attempt.door), ("10.0.0.1", "test"))
        self.assertIn("others need its place", attempt.reason)
        silent[0].leave()
        self.assertEqual((len(site.connections.unidentified), len(site.connections)), (2, 2))

    def test_one_address_too_many(self) -> None:
        """Who may not have one more himself costs nobody else's."""
        site = self.site(max_connections=4, max_per_address=2)
        silent = [site.connect() for _ in range(2)]
        for uid in "AB":
            site.connect(host="10.0.0.2").say(sa(uid, uid))
        self.assertIn("from there", str(site.connections.why_not(THERE, tls=False)))
        self.assertEqual(self.lost(*silent), [None, None])

    def test_who_is_known_stays(self) -> None:
        """Who has said who he is, and a monitor, never give way, however many are from there."""
        site = self.site(max_connections=3)
        clients = [site.join("A"), site.join("B"), site.connect(monitor=True)]
        self.assertEqual(site.connections.why_not(THERE, tls=False), "there are 3 connections (max_connections)")
        self.assertEqual(self.lost(*clients), [None, None, None])
