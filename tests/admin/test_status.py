from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.admin.status import connected, nodes, ours, takys
from tests.fakes import Site, principal
from tests.routing.node_hub import NodesCase
from tests.samples import NOW, control, sa, xml


class StatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()

    def clients(self) -> list[dict[str, Any]]:
        """Say who is connected, with all that we say."""
        clients: list[dict[str, Any]] = ours(connected(self.site.router), 1.0)["clients"]
        return clients

    def test_takys(self) -> None:
        """A program of taky's finds the members that it knows, with the values that it knows."""
        client = self.site.connect()
        self.site.clock.advance(5)
        client.say(sa("A", "FOX1", team="Dark Blue"))
        self.site.connect()
        self.assertEqual(
            takys(connected(self.site.router), 7.5),
            {
                "uptime": 7.5,
                "num_clients": 2,
                "clients": [
                    {
                        "last_rx": NOW + 5,
                        "num_rx": 1,
                        "connected": NOW,
                        "ip": "10.0.0.1",
                        "uid": "A",
                        "callsign": "FOX1",
                        "group": "Teams.DARK_BLUE",
                        "battery": "87",
                        "device": "GOOGLE PIXEL 6",
                        "os": "33",
                        "version": "4.10.0.5",
                        "platform": "ATAK-CIV",
                    },
                    {"last_rx": 0.0, "num_rx": 0, "connected": NOW + 5, "anonymous": True},
                ],
            },
        )

    def test_ours(self) -> None:
        """Beside those there is what helps to find out why somebody does not hear somebody."""
        client = self.site.connect(principal("alice", ["b", "a"], ["c"]))
        client.say(sa("A", "FOX1"))
        (told,) = self.clients()
        self.assertEqual((told["door"], told["protocol"], told["name"]), ("test", "xml", "alice"))
        self.assertEqual(told["certificate"], {"name": "alice", "issuer": "CN=Test CA", "serial": "1"})
        self.assertEqual(told["groups"], {"in": ["a", "b"], "out": ["c"]})
        self.assertEqual(told["active"], {"in": ["a", "b"], "out": ["c"]})
        self.assertEqual((told["team"], told["role"], told["incognito"]), ("Cyan", "Team Member", False))
        self.assertEqual((told["backlog"], told["dropped"], told["full"]), (0, 0, False))
        self.assertEqual((told["callsign"], told["battery"]), ("FOX1", "87"))

    def test_nobody_in_particular(self) -> None:
        """Of who has not said who it is there is at least the address and the door."""
        self.site.connect()
        (told,) = self.clients()
        self.assertEqual(
            (told["anonymous"], told["ip"], told["certificate"], told["name"]), (True, "10.0.0.1", None, None)
        )

    def test_slow(self) -> None:
        """How much waits for a slow reader is told."""
        a, b = self.site.join("A"), self.site.join("B")
        b.full()
        a.say(sa("A", "A"))
        told = {client["uid"]: client for client in self.clients()}
        self.assertEqual((told["A"]["backlog"], told["A"]["full"]), (0, False))
        self.assertTrue(told["B"]["full"])
        self.assertGreater(told["B"]["backlog"], 100)

    def test_incognito(self) -> None:
        """Who was never seen by anybody is still seen by its operators."""
        client = self.site.connect()
        client.say(control("t-x-c-i-e"), sa("A", "FOX1"))
        (told,) = self.clients()
        self.assertEqual(
            (told["callsign"], told["incognito"], told["battery"], told["device"]), ("FOX1", True, None, None)
        )

    def test_little_is_known(self) -> None:
        """A program that says little of itself is listed all the same."""
        self.site.connect().say(xml("A", "a-f-G", '<contact callsign="BOT" endpoint="*:-1:stcp"/>'))
        self.site.connect().say(xml("B", "a-f-G", '<contact callsign="X" endpoint=""/><__group name="Pink" role=""/>'))
        first, second = self.clients()
        self.assertEqual((first["group"], first["battery"], first["os"]), ("None", None, None))
        self.assertEqual((second["group"], second["team"]), ("Teams.CYAN", "Pink"))

    def test_no_clients(self) -> None:
        """Monitors are no clients, nor is what has no connection."""
        self.site.connect(monitor=True)
        self.site.subscribe(principal("x"))
        self.assertEqual(self.clients(), [])


class NodesTests(NodesCase):
    """A server of several nodes tells of all of them, whichever is asked."""

    def test_clients(self) -> None:
        """Clients of other nodes are listed with their node, their address and their groups."""
        self.join(self.b, "B", principal("bravo", ["red"], ["red"]))
        self.connect(self.c)  # has not said who it is: only its own node knows of it
        (told,) = ours(connected(self.a.router), 1.0)["clients"]
        self.assertEqual((told["uid"], told["callsign"], told["node"], told["name"]), ("B", "B", "B", "bravo"))
        self.assertEqual(told["groups"], {"in": ["red"], "out": ["red"]})
        (told,) = takys(connected(self.c.router), 1.0)["clients"]
        self.assertEqual((told["uid"], told["group"], told["battery"]), ("B", "Teams.CYAN", "87"))

    def test_moved(self) -> None:
        """Who moves is listed once, where it is."""
        proved = principal("alpha")
        self.join(self.a, "A", proved)
        self.join(self.b, "A", proved)
        self.assertEqual([each.node for each in connected(self.c.router)], ["B"])

    def test_nodes(self) -> None:
        """The others are listed by name; a server that is alone by its settings lists none."""
        others = nodes(self.a.router)
        assert others is not None
        self.assertEqual([node["name"] for node in others], ["B", "C"])
        self.assertIsNone(nodes(Site().router))
