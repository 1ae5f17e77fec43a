from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.routing.router import Router
from taky_twisted.routing.tracing import MAX_OUTCOMES, Outcome, Traced, Tracing
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import Site, principal
from tests.routing.router_case import Peer
from tests.samples import NOW, chat, control, delete, emergency, marker, sa, to, xml

ALICE, BOB = principal("alice"), principal("bob")
AREA = (
    '<subscription><geospatialFilter><boundingBox minLatitude="0" minLongitude="0" maxLatitude="1" maxLongitude="1"/>'
    "</geospatialFilter></subscription>"
)


class TracingTestCase(SynchronousTestCase):
    """Alice speaks, and is traced."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.router = Router(self.clock, MemoryStore(self.clock), Limits(), pin_uid=True)
        self.tracing = Tracing(self.router, self.clock)
        self.a = self.join("A", ALICE)
        self.b = self.join("B", BOB)
        self.a.heard()
        self.traced: list[Traced] = []
        self.forget = self.tracing.watch("a", self.traced.append)

    def join(self, uid: str, proved: Principal = ANONYMOUS, **keys: object) -> Peer:
        peer = Peer(self, proved, **keys)  # type: ignore[arg-type]
        peer.say(sa(uid, uid))
        peer.heard()
        return peer

    def outcomes(self, *documents: bytes) -> dict[str, tuple[str, bool]]:
        """Let Alice say something: rule by receiver, and whether it got it."""
        self.traced.clear()
        self.a.say(*documents)
        (traced,) = self.traced
        return {outcome.name: (outcome.rule, outcome.got) for outcome in traced.outcomes}

    def why(self, name: str) -> str:
        """Say why somebody got what was said last, or did not."""
        (found,) = [outcome.why for outcome in self.traced[-1].outcomes if outcome.name == name]
        return found


class RuleTests(TracingTestCase):
    def test_everybody(self) -> None:
        """What is for everybody reaches everybody but its sender, and the traced event reaches them as ever, once."""
        self.assertEqual(self.outcomes(marker()), {"A": ("echo", False), "B": ("delivered", True)})
        self.assertEqual(self.b.uids(), ["MARK-1"])
        self.assertEqual(self.a.uids(), [])

    def test_order(self) -> None:
        """What was said in the same turn comes in the order in which it was said."""
        self.a.say(chat("A", number=1), marker("M1"), chat("A", number=2, room="B", uids=("B",)), marker("M2"))
        heard = self.b.uids()
        self.assertEqual(heard, ["GeoChat.A.All Chat Rooms.m-1", "M1", "GeoChat.A.B.m-2", "M2"])
        self.assertEqual([traced.uid for traced in self.traced], heard)

    def test_destination(self) -> None:
        """What is for somebody reaches him alone; who is away, or not known at all, is named."""
        self.join("C")
        self.join("D", principal("dora")).leave()
        said = chat("A", room="B", uids=("B",), marti=to("B", "D", "E") + '<dest uid="F"/><dest uid="B"/>')
        self.assertEqual(
            self.outcomes(said),
            {
                "A": ("echo", False),
                "B": ("delivered", True),
                "C": ("destination", False),
                "D": ("away", False),
                "E": ("unknown", False),
                "F": ("unknown", False),
            },
        )
        self.assertIn("chat waits", self.why("D"))
        self.assertEqual(self.traced[-1].destinations, ["callsign B", "callsign D", "callsign E", "uid F", "uid B"])
        self.assertEqual(self.outcomes(marker(extra=f"<marti>{to('D')}</marti>"))["D"], ("away", False))

    def test_chat_without_destinations(self) -> None:
        """A chat whose program names no destinations goes to whom it lists."""
        self.join("C")
        for chat_ in (
            chat("A", room="B", uids=("B",)),
            chat("A", room="Cyan", id_="Cyan", uids=("B",)),
        ):
            with self.subTest(chat_):
                self.assertEqual(self.outcomes(chat_)["B"], ("delivered", True))
        self.assertEqual(self.outcomes(chat("A", room="B", uids=("B",)))["C"], ("destination", False))
        self.assertEqual(self.outcomes(chat("A"))["C"], ("delivered", True))

    def test_groups(self) -> None:
        """Who hears other groups is told apart, with which."""
        c = self.join("C", principal("carl", ["blue"], ["blue", "red"]))
        self.assertEqual(self.outcomes(marker())["C"], ("groups", False))
        self.assertEqual(self.why("C"), "it hears blue, red; this was said to __ANON__")
        self.assertEqual(self.outcomes(marker(marti=to("C")))["C"], ("groups", False))
        self.assertEqual(c.uids(), [])

    def test_groups_that_are_named(self) -> None:
        """An event may be restricted to some of its sender's groups."""
        self.a = self.join("A2", principal("anna", ["red", "blue"], ["red"]))
        self.tracing.watch("A2", self.traced.append)
        self.join("C", principal("carl", ["blue"], ["blue"]))
        self.join("D", principal("dora", ["red"], ["red"]))
        outcomes = self.outcomes(marker(marti='<dest group="red"/>'))
        self.assertEqual((outcomes["C"], outcomes["D"]), (("groups", False), ("delivered", True)))
        self.assertEqual(self.traced[-1].groups, ["red"])
        self.assertEqual(set(self.outcomes(marker(marti='<dest group="green"/>')).values()), {("groups", False)})
        self.assertIn("may not send", self.why("D"))

    def test_filter(self) -> None:
        """Who asked for an area hears nothing from elsewhere."""
        self.b.say(control("t-x-c-f", AREA))
        self.assertEqual(self.outcomes(marker())["B"], ("filter", False))

    def test_size(self) -> None:
        """What is too large is not sent, or offered as a file where that can be fetched."""
        self.join("C", max_bytes=2000)
        self.assertEqual(self.outcomes(marker(extra=f"<x>{'y' * 2000}</x>"))["C"], ("size", False))
        self.assertIn("max_event_to_client", self.why("C"))
        self.router.offers.base_url = lambda _: "https://tak.example:8443"
        self.assertEqual(self.outcomes(marker(extra=f"<x>{'y' * 2000}</x>"))["C"], ("offered", True))

    def test_incognito(self) -> None:
        """Who is incognito is heard by nobody, but by whom it addresses, and if it calls for help."""
        self.a.say(control("t-x-c-i-e"))
        self.assertEqual(self.outcomes(marker())["B"], ("incognito", False))
        self.assertEqual(self.outcomes(marker(marti=to("B")))["B"], ("delivered", True))
        self.assertEqual(self.outcomes(emergency("A", "A"))["B"], ("delivered", True))

    def test_delete(self) -> None:
        """A delete of nothing goes nowhere."""
        self.assertEqual(self.outcomes(xml("x", "t-x-d-d"))["B"], ("destination", False))
        self.assertEqual(self.outcomes(delete("MARK-1"))["B"], ("delivered", True))

    def test_pinned(self) -> None:
        """What is said with somebody else's uid is refused."""
        mallory = self.join("M", principal("mallory"))
        self.traced.clear()
        mallory.say(sa("A", "A"))
        (traced,) = self.traced
        self.assertEqual({outcome.rule for outcome in traced.outcomes}, {"uid"})
        self.assertEqual((traced.sender, traced.principal), ("M", "mallory"))
        self.assertEqual(self.b.uids(), ["M"])

    def test_monitor(self) -> None:
        """A monitor hears everything."""
        Peer(self, ANONYMOUS, wants_everything=True)  # type: ignore[arg-type]
        self.assertEqual(self.outcomes(marker(marti=to("B")))["peer"], ("delivered", True))

    def test_full(self) -> None:
        """What waits for a slow reader is told apart from what was sent."""
        site = Site()
        tracing, traced = Tracing(site.router, site.clock), list[Traced]()
        tracing.watch("A", traced.append)
        a, b = site.join("A"), site.join("B")
        b.full()
        a.say(marker())
        self.assertEqual({outcome.name: outcome.rule for outcome in traced[-1].outcomes}["B"], "waits")
        b.reads_on()
        self.assertEqual(b.uids(), ["MARK-1"])


class WatchingTests(TracingTestCase):
    def test_whom(self) -> None:
        """One names a uid or a callsign, in any case; what others say is not traced."""
        self.b.say(marker(), sa("B", "B"))
        self.assertEqual(self.traced, [])
        self.tracing.watch("fox1", self.traced.append)
        self.b.say(sa("B", "FOX1"), marker("M"))
        self.assertEqual([traced.uid for traced in self.traced], ["B", "M"])
        self.assertEqual((self.traced[0].sender, self.traced[0].peer), ("FOX1", "peer"))

    def test_forgotten(self) -> None:
        """When nobody wants to know any more, the router does not look."""
        again = self.tracing.watch("A", self.traced.append)
        self.forget()
        self.assertIs(self.router.tracing, self.tracing)
        again()
        self.assertIsNone(self.router.tracing)
        self.a.say(marker())
        self.assertEqual((self.traced, self.b.uids()), ([], ["MARK-1"]))

    def test_many(self) -> None:
        """Of very many receivers only some are listed; all are counted."""
        for number in range(MAX_OUTCOMES):
            self.join(f"X{number}")
        self.a.say(marker())
        traced = self.traced[-1]
        self.assertEqual(len(traced.outcomes), MAX_OUTCOMES)
        self.assertEqual(traced.rules, {"echo": 1, "delivered": MAX_OUTCOMES + 1})

    def test_who_leaves_on_it(self) -> None:
        """Who is closed by what is routed is closed, and what it still had is handed on."""
        old = self.join("A", ALICE)
        self.a = Peer(self, ALICE)  # type: ignore[arg-type]
        self.a.say(sa("A", "A"))
        self.assertEqual(old.sink.closed, "it connected anew")
        rules = [outcome.rule for outcome in self.traced[-1].outcomes]
        self.assertIn("away", rules)
        self.assertTrue(all(type(member.sink).__name__ == "MemorySink" for member in self.router.subscriptions))

    def test_unexplained(self) -> None:
        """Should no rule explain why somebody got nothing, that is said."""
        self.b.subscription.audience = None
        del self.router.audiences._audiences[next(iter(self.router.audiences._audiences))].members[self.b.subscription]
        self.a.say(marker())
        self.assertIn(
            Outcome("B", "peer", False, "unexplained", "no rule explains this; please report it"),
            self.traced[-1].outcomes,
        )
