from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.marti.errors import MartiError
from taky_twisted.marti.subscriptions import SubscriptionsArea
from taky_twisted.routing.subscription import Subscription
from tests.fakes import MemorySink, Site, principal
from tests.marti.asking import Asking
from tests.samples import control, event, sa

BLUE, RED, BOTH = frozenset({"Blue"}), frozenset({"Red"}), frozenset({"Blue", "Red"})


class SubscriptionsAreaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        info = Asking().info
        self.area = SubscriptionsArea(self.site.clock, self.site.router, info)
        self.ask = Asking(self.area, clock=self.site.clock)

    def connect(
        self, uid: str = "", callsign: str = "", who: Principal = ANONYMOUS, peer: str = "10.0.0.1:4711 at tcp:8087"
    ) -> Subscription:
        """Connect somebody, who reports itself if it has a uid."""
        subscription = self.site.router.subscribe(who, MemorySink(), peer)
        subscription.sink_heard = self.site.clock.seconds()
        if uid:
            subscription.publish(event(sa(uid, callsign or uid)))
        return subscription

    def all(self, query: str = "", who: Principal | None = None) -> list[dict[str, Any]]:
        """List the subscriptions."""
        answer = self.ask("GET", f"/Marti/api/subscriptions/all{query}", who=who)
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual((answer.json["type"], answer.json["version"]), ("SubscriptionInfo", "3"))
        data: list[dict[str, Any]] = answer.json["data"]
        return data

    def test_members(self) -> None:
        """Every member is there with its type, for CloudTAK checks that; numbers are numbers, the rest are strings."""
        self.assertEqual(self.all(), [])
        self.connect("A", "ALPHA", principal("alice"), "10.0.0.1:4711 at ssl:8089")
        self.site.clock.advance(1.5)
        (found,) = self.all()
        anon = {"name": "__ANON__", "created": "2026-03-01", "type": "SYSTEM", "bitpos": 2, "active": True}
        strings = (
            "appFramerate battery batteryStatus batteryTemp deviceDataRx deviceDataTx heapCurrentSize heapFreeSize"
            " heapMaxSize deviceIPAddress storageAvailable storageTotal xpath handlerType"
        )
        self.assertEqual(
            found,
            {
                "dn": "CN=alice",
                "callsign": "ALPHA",
                "clientUid": "A",
                "lastReportMilliseconds": 1772359200000,
                "lastReportDiffMilliseconds": 1500,
                "takClient": "ATAK-CIV",
                "takVersion": "4.10.0.5",
                "username": "alice",
                "groups": [anon | {"direction": "IN"}, anon | {"direction": "OUT"}],
                "role": "Team Member",
                "team": "Cyan",
                "ipAddress": "10.0.0.1",
                "port": "4711",
                "pendingWrites": 0,
                "numProcessed": 0,
                "protocol": "tls",
                "subscriptionUid": "tls:10.0.0.1:4711",
                "incognito": False,
                **dict.fromkeys(strings.split(), ""),
            },
        )

    def test_who_has_said_nothing(self) -> None:
        """Somebody who has not reported itself is listed by its address."""
        subscription = self.connect()
        subscription.sink_heard = 0.0
        (found,) = self.all()
        self.assertEqual((found["callsign"], found["clientUid"]), ("tcp:10.0.0.1:4711", ""))
        self.assertEqual(
            (found["dn"], found["username"], found["takClient"], found["takVersion"]), ("", "anonymous", "", "")
        )
        self.assertEqual((found["lastReportMilliseconds"], found["lastReportDiffMilliseconds"]), (0, 0))

    def test_places(self) -> None:
        """Addresses are taken apart, whatever door they came by."""
        for peer, place in (
            ("10.0.0.1:4711 at tcp:8087", ("10.0.0.1", "4711", "tcp", "tcp:10.0.0.1:4711")),
            ("[2001:db8::1]:4711 at taktls:8089", ("2001:db8::1", "4711", "tls", "tls:2001:db8::1:4711")),
            ("10.0.0.1:1 at WebSocket port 8443", ("10.0.0.1", "1", "WebSockets", "WebSockets:10.0.0.1:1")),
            ("a local process at unix:/run/x", ("", "", "unix", "a local process at unix:/run/x")),
        ):
            subscription = self.connect(peer=peer)
            (found,) = self.all()
            self.assertEqual(
                (found["ipAddress"], found["port"], found["protocol"], found["subscriptionUid"]), place, peer
            )
            subscription.close()

    def test_order(self) -> None:
        """The list is sorted as one wishes; pages are not cut, as TAK Server does not for who is no administrator."""
        self.connect("1", "B"), self.connect("2", "A")
        for query, wanted in (
            ("", "21"),
            ("?sortBy=CALLSIGN&direction=DESCENDING", "12"),
            ("?sortBy=UID&page=-1&limit=-1", "12"),
            ("?sortBy=UID&direction=DESCENDING&page=0&limit=1", "21"),
        ):
            self.assertEqual("".join(found["clientUid"] for found in self.all(query)), wanted, query)

    def test_groups(self) -> None:
        """A caller sees whom it could hear, and of their groups those that it has itself, as they are switched."""
        self.connect("A", who=principal("a", BOTH, BOTH))
        self.connect("B", who=principal("b", RED, RED))
        (found,) = self.all(who=principal("x", [], BLUE))
        self.assertEqual(found["clientUid"], "A")
        self.assertEqual(
            [(each["name"], each["direction"]) for each in found["groups"]], [("Blue", "IN"), ("Blue", "OUT")]
        )
        self.assertEqual(self.all(), [])
        self.assertEqual(len(self.all(who=principal("y", [], BOTH))), 2)

    def test_who_is_not_a_client(self) -> None:
        """Monitors and other servers are not listed, nor is who wants not to be seen, but to itself."""
        self.site.router.subscribe(ANONYMOUS, MemorySink(), "m", wants_everything=True)
        self.site.router.subscribe(ANONYMOUS, MemorySink(), "l", from_server=True)
        self.connect("A", who=principal("alice")).publish(event(control("t-x-c-i-e")))
        self.assertEqual((self.all(), self.all(who=principal("bob"))), ([], []))
        self.assertIs(self.all(who=principal("alice"))[0]["incognito"], True)

    def test_one(self) -> None:
        """One is found by its client's uid or its own, if the caller may see it."""
        self.connect("A/1", who=principal("a", BLUE, BLUE))
        blue = principal("x", [], BLUE)
        for uid in ("A/1", "A%2F1", "tcp:10.0.0.1:4711"):
            answer = self.ask("GET", f"/Marti/api/subscription/{uid}", who=blue)
            self.assertEqual((answer.status, answer.json["type"]), (200, "SubscriptionInfo"), uid)
            self.assertEqual(answer.json["data"]["clientUid"], "A/1")
        self.assertEqual(self.ask("GET", "/Marti/api/subscription/B", who=blue).status, 404)
        self.assertEqual(self.ask("GET", "/Marti/api/subscription/A/1").status, 404)

    def test_administrators(self) -> None:
        """Others' connections are nobody's business."""
        for method, path in (
            ("POST", "add"),
            ("DELETE", "delete/A"),
            ("POST", "incognito/A"),
            ("PUT", "A/filter"),
            ("DELETE", "A/filter"),
        ):
            self.assertEqual(self.ask(method, f"/Marti/api/subscriptions/{path}", who=principal("x")).status, 403, path)
        with self.assertRaises(MartiError) as raised:
            self.area.administer(None, uid="A")  # type: ignore[arg-type]
        self.assertEqual(raised.exception.status, 501)
