from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.bus.ear import Ear, kick, left
from tests.bus.hub import BusHub, HubBus


class HubTests(SynchronousTestCase):
    def start(self, hub: BusHub, name: str) -> tuple[HubBus, Ear]:
        """Start a node."""
        bus, ear = hub.bus(name), Ear()
        bus.start(ear)
        return bus, ear

    def test_words(self) -> None:
        """Words arrive at all others, at once and in order; what is told in answer comes after that."""
        hub = BusHub()
        (a, in_a), (b, in_b), (_, in_c) = (self.start(hub, name) for name in "abc")
        in_b.on_word = lambda word: b.tell(left(2)) if word == left(1) else None
        a.tell(left(1))
        self.assertEqual(in_a.words, [left(2)])
        self.assertEqual(in_c.words, [left(1), left(2)])
        self.assertEqual(in_c.told[:3], [("joined", "a"), ("joined", "b"), ("back",)])
        self.assertEqual([node.name for node in a.nodes], ["b", "c"])

    def test_clock(self) -> None:
        """With a clock nothing arrives before its next turn."""
        clock = Clock()
        hub = BusHub(clock)
        (a, _), (_, in_b) = (self.start(hub, name) for name in "ab")
        a.tell(left(1))
        self.assertEqual(in_b.told, [])
        clock.advance(0)
        self.assertEqual(in_b.words, [left(1)])

    def test_trouble(self) -> None:
        """Outages, losses and departures look as they do with Redis."""
        hub = BusHub()
        (a, in_a), (_, in_b) = (self.start(hub, name) for name in "ab")
        a.cut()
        a.tell(left(1))
        a.tell(kick(2))
        in_a.take(), in_b.take()
        a.mend()
        self.assertEqual((in_a.take(), in_b.take()), ([("back",)], [("heard", a.instance, kick(2))]))
        self.assertEqual(a.dropped, [left(1)])
        a.lose()
        a.tell(left(3))
        a.tell(left(4))
        self.assertEqual(in_b.take(), [("missed", a.instance), ("heard", a.instance, left(4))])
        a.mute()
        a.tell(left(5))
        self.assertEqual([call[0] for call in in_b.take()], ["gone", "joined", "missed", "heard"])
        a.cut()
        a.tell(kick(6))
        a.give_up()
        self.assertEqual(in_a.take(), [("undelivered", kick(6))])
        a.stop()
        self.assertEqual(in_b.take(), [("gone", "a", True)])
