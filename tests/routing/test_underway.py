from __future__ import annotations

from taky_twisted.cot.event import Event
from taky_twisted.routing.underway import LATE_SECONDS, Underway
from taky_twisted.routing.words import Handed
from tests.fakes import principal
from tests.limits.edges import Edges
from tests.routing.node_hub import NodesCase, ping_pong
from tests.samples import NOW, event, sa

EVERYBODY = frozenset({"__ANON__"})


def handed(said: Event) -> Handed:
    return Handed("", 0, "A", said, EVERYBODY)


class UnderwayTests(Edges, NodesCase):
    def test_dead_node(self) -> None:
        """Chat that a node took with it when it died waits, and its receiver has it once wherever it comes."""
        for name in ("P", "Q"):
            self.join(self.a, name, principal(name))
        b = self.join(self.b, "B")
        self.a.bus.up = False
        b.say(ping_pong("B", "P"), ping_pong("B", "Q", number=2))
        self.clock.advance(3)
        early = self.join(self.c, "P", principal("P"))
        self.clock.advance(2)
        early.heard()
        self.stop(self.a)
        self.assertEqual(early.types().count("b-t-f"), 1)
        self.assertEqual(self.join(self.b, "Q", principal("Q")).types().count("b-t-f"), 1)
        self.assertEqual([len(node.router.chats) for node in (self.b, self.c)], [0, 0])

    def test_handed_to_a_dead_node(self) -> None:
        """Chat that waited, and was handed to a node that died before it had it, waits again."""
        self.join(self.a, "P", principal("P")).leave()
        b = self.join(self.b, "B")
        b.say(ping_pong("B", "P"))
        again = self.connect(self.a, principal("P"))
        again.sink.deliver = lambda batch: None  # type: ignore[method-assign]
        again.say(sa("P", "P"))
        self.assertEqual(len(self.b.router.chats), 0)
        self.stop(self.a)
        self.assertEqual(self.join(self.c, "P", principal("P")).types().count("b-t-f"), 1)

    def test_stopped_node(self) -> None:
        """A node that stops has delivered what it was given."""
        self.join(self.a, "P", principal("P"))
        self.join(self.b, "B").say(ping_pong("B", "P"))
        self.stop(self.a, clean=True)
        self.assertEqual(len(self.b.router.chats), 0)

    def test_seconds(self) -> None:
        """What is older was delivered; nothing else than a dead node's own is given back."""
        chat = handed(event(ping_pong("B", "A")))

        def is_lost(seconds: float) -> bool:
            underway = Underway()
            underway.put("a", chat, NOW)
            return underway.lost_with("a", NOW + seconds) == [chat]

        self.assert_edge("routing.underway.LATE_SECONDS", is_lost)
        underway = Underway()
        underway.put("a", chat, NOW)
        self.assertEqual(underway.lost_with("b", NOW), [])
        underway.put("a", chat, NOW + LATE_SECONDS + 1)
        self.assertEqual(len(underway), 1)

    def test_number(self) -> None:
        """So many chats are remembered."""
        chat = handed(event(ping_pong("B", "A")))

        def all_of(count: int) -> bool:
            underway = Underway()
            for _ in range(count):
                underway.put("a", chat, NOW)
            return len(underway) == count

        self.assert_edge("routing.underway.MAX_CHATS", all_of, small=5)

    def test_bytes(self) -> None:
        """And so many bytes; one chat that is larger alone is not remembered."""
        said = event(ping_pong("B", "A"))

        def fits(size: int) -> bool:
            underway = Underway()
            said.xml = said.xml[:10].ljust(size)
            underway.put("a", handed(said), NOW)
            return len(underway) == 1

        self.assert_edge("routing.underway.MAX_BYTES", fits)
