from __future__ import annotations

from taky_twisted.routing.records import Item
from taky_twisted.routing.words import AllPresent, Ask, Digest, Known
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import principal
from tests.routing.node_hub import NodesCase, OneNode, ping_pong
from tests.samples import NOW, cancel, chat, delete, emergency, event, marker, sa


class ExchangeTests(NodesCase):
    """What is on the map becomes the same everywhere again."""

    def picture(self, node: OneNode) -> list[str]:
        return sorted(item.uid for item in node.router.retained.records(self.clock.seconds()) if isinstance(item, Item))

    def apart(self, *nodes: OneNode) -> None:
        """Cut nodes off."""
        for node in nodes:
            node.bus.up = False

    def together(self, *nodes: OneNode) -> None:
        """Let cut off nodes hear and be heard again."""
        for node in nodes:
            node.bus.up = True
            node.nodes.back()
        self.turn()

    def test_newcomer(self) -> None:
        """A node that joins has the whole picture, and shows it to its clients."""
        a = self.join(self.a, "A")
        for number in range(300):
            a.say(marker(f"M{number}"))
        a.say(emergency("A", "A"), delete("M7"))
        self.join(self.b, "GONE", principal("gone")).leave()
        a.say(ping_pong("A", "GONE"))
        late = self.start("d")
        self.turn()
        self.assertTrue(late.nodes.exchange.agreed.called)
        self.assertEqual(self.picture(late), self.picture(self.a))
        self.assertEqual(len(self.picture(late)), 299)
        shown = self.connect(late).shown()
        self.assertIn("M8", shown)
        self.assertNotIn("M7", shown)
        self.assertIn("A-9-1-1", shown)
        self.assertIn("-GONE", shown)
        gone = self.join(late, "GONE", principal("gone"))
        self.assertEqual(gone.types().count("b-t-f"), 1)
        # The older copy stays deleted there as well.
        a.say(marker("M7"))
        self.assertNotIn("M7", self.picture(late))

    def test_equal(self) -> None:
        """Nodes that know the same tell no records."""
        a = self.join(self.a, "A")
        a.say(*(marker(f"M{number}") for number in range(20)), emergency("A", "A"), delete("M3"))
        for node in self.hub.nodes.values():
            node.bus.told.clear()
            node.nodes.back()
        self.turn()
        told = [word for node in self.hub.nodes.values() for word in node.bus.told if isinstance(word, Known)]
        self.assertEqual(told, [])

    def test_both_ways(self) -> None:
        """After two nodes were apart each has what the other heard, its clients too; the newer version counts."""
        a, b = self.join(self.a, "A"), self.join(self.b, "B")
        a.say(marker("BOTH"), marker("DELETED"))
        self.apart(self.b)
        a.say(marker("MA"), marker("BOTH", "older", now=NOW + 1))
        b.say(marker("MB"), marker("BOTH", "newer", now=NOW + 2), delete("DELETED", now=NOW + 2))
        for client in (a, b):
            client.heard()
        self.together(self.b)
        for node in (self.a, self.b, self.c):
            self.assertEqual(self.picture(node), ["BOTH", "MA", "MB"], node.name)
            newest = node.router.retained.get("BOTH")
            assert newest is not None
            self.assertIn(b"newer", newest.xml)
        self.assertEqual(sorted(a.uids()), ["-DELETED", "BOTH", "MB"])
        self.assertEqual(b.uids(), ["MA"])

    def test_emergency(self) -> None:
        """An emergency raised while nodes were apart goes on everywhere; one that was canceled is over everywhere."""
        a, b = self.join(self.a, "A"), self.join(self.b, "B")
        a.say(emergency("A", "A"))
        self.apart(self.b)
        a.say(cancel("A", "A", now=NOW + 1))
        b.say(emergency("B", "B"))
        a.heard()
        self.together(self.b)
        for node in (self.a, self.b, self.c):
            self.assertEqual([record.uid for record in node.router.emergencies.records()], ["B-9-1-1"], node.name)
        self.assertEqual(a.uids(), ["B-9-1-1"])
        self.clock.advance(self.a.router.emergencies._period)
        self.assertIn("B-9-1-1", a.uids())

    def test_restart(self) -> None:
        """What was deleted, canceled or delivered while a node was down does not come back with it."""
        a, store = self.join(self.a, "A"), MemoryStore(self.clock)
        proved = principal("gone")
        node = self.start("d", store)
        self.turn()
        self.join(self.b, "GONE", proved).leave()
        a.say(marker("KEPT"), marker("DELETED"), emergency("A", "A"), ping_pong("A", "GONE"))
        self.stop(node)
        a.say(delete("DELETED", now=NOW + 1), cancel("A", "A", now=NOW + 1))
        back = self.join(self.c, "GONE", proved)
        self.assertEqual(back.types().count("b-t-f"), 1)
        back.leave()
        self.clock.advance(3 * 3600)
        for other in (self.a, self.b, self.c):  # nobody remembers the delete any more, nor that it was delivered
            for tombstone in [*other.router.retained._tombstones]:
                del other.router.retained._tombstones[tombstone]
            other.nodes._delivered.clear()
        again = self.start("d", store, left_off=NOW + 0.5)
        self.turn()
        self.assertEqual(self.picture(again), ["KEPT"])
        self.assertEqual((len(again.router.emergencies), len(again.router.chats)), (0, 0))
        self.assertEqual(self.picture(self.a), ["KEPT"])
        self.assertIn("3 things that this node remembered", "".join(self.log()))

    def restart(self, left_off: float = NOW + 0.5) -> OneNode:
        """Start a node with an old store; what it has was deleted meanwhile, and nobody remembers that."""
        a, store = self.join(self.a, "A"), MemoryStore(self.clock)
        node = self.start("d", store)
        self.turn()
        a.say(marker("KEPT"), marker("DELETED"))
        self.stop(node)
        a.say(delete("DELETED", now=NOW + 1))
        self.clock.advance(3 * 3600)
        for other in (self.a, self.b, self.c):
            other.router.retained._tombstones.clear()
        return self.start("d", store, left_off)

    def test_restart_hears_others_first(self) -> None:
        """What another node tells a third one, or one that is young itself, is not all there is to know."""
        for word in (
            Known((), (1,), NOW),
            Known((), tuple(range(256)), NOW + 3 * 3600),
            Digest(tuple(range(256)), NOW + 3 * 3600),
        ):
            node = self.restart()
            node.nodes.heard("a", word)
            self.turn()
            self.clock.advance(1)
            self.turn()
            self.assertEqual((self.picture(node), self.picture(self.a)), (["KEPT"], ["KEPT"]))
            self.stop(node)

    def test_restart_answers_first(self) -> None:
        """A node does not tell those what it remembers who have heard everything since, and would have it."""
        node = self.restart()
        self.turn_but(node)
        while node.bus.heard:
            node.nodes.heard(*node.bus.heard.pop(0))
            for _ in range(3):
                self.clock.advance(0)
        self.turn()
        self.assertEqual((self.picture(node), self.picture(self.a)), (["KEPT"], ["KEPT"]))

    def turn_but(self, node: OneNode) -> None:
        """Let everything arrive everywhere but at one node."""
        for _ in range(10):
            self.clock.advance(0)
            for other in self.hub.nodes.values():
                if other is not node:
                    other.deliver()

    def test_after_an_outage(self) -> None:
        """Who was cut off does not claim to have heard everything."""
        late = self.start("d", left_off=NOW)
        self.turn()
        self.assertEqual(late.nodes.exchange.since, NOW)
        self.clock.advance(100)
        for node in self.hub.nodes.values():
            node.nodes.back()
        self.turn()
        self.assertEqual({node.nodes.exchange.since for node in self.hub.nodes.values()}, {NOW + 100})

    def test_restart_of_all(self) -> None:
        """After all nodes were down the picture is what any of them had."""
        one, two = MemoryStore(self.clock), MemoryStore(self.clock)
        for node in (self.a, self.b, self.c):
            self.stop(node)
        first, second = self.start("x", one), self.start("y", two)
        x = self.join(first, "X")
        x.say(marker("M1"))
        self.stop(first)
        y = self.join(second, "Y")
        y.say(marker("M2"))
        self.stop(second)
        self.clock.advance(60)
        first = self.start("x", one, left_off=NOW + 1)
        second = self.start("y", two, left_off=NOW + 2)
        self.turn()
        self.assertEqual((self.picture(first), self.picture(second)), (["M1", "M2"],) * 2)

    def test_heard_alone(self) -> None:
        """What a node heard while it was cut off, before it was restarted, is not dropped but told to the others."""
        store = MemoryStore(self.clock)
        node = self.start("d", store)
        self.turn()
        self.apart(node)
        self.clock.advance(10)
        self.join(node, "D").say(marker("ALONE", now=NOW + 10))
        self.stop(node)
        again = self.start("d", store, left_off=NOW + 1)
        self.turn()
        for each in (again, self.a, self.b):
            self.assertEqual(self.picture(each), ["ALONE"], each.name)

    def test_who_is_there_is_no_item(self) -> None:
        """What another node remembers as an item is not put on the map if somebody is connected for it by now."""
        b = self.join(self.b, "B")
        self.apart(self.a)
        a = self.join(self.a, "A")
        a.say(
            sa("LATE", "x").replace(b"a-f-G-U-C", b"a-f-G-U-X").replace(b"<takv", b"<xakv").replace(b"endpoint", b"e")
        )
        self.join(self.b, "LATE")
        b.heard()
        self.together(self.a)
        self.assertNotIn("LATE", self.picture(self.b))

    def test_chat_waits_once(self) -> None:
        """Chat that was delivered here is not kept again because another node still has it."""
        proved = principal("gone")
        self.join(self.a, "GONE", proved).leave()
        b = self.join(self.b, "B")
        b.say(ping_pong("B", "GONE"))
        self.apart(self.c)
        back = self.join(self.a, "GONE", proved)
        self.assertEqual(back.types().count("b-t-f"), 1)
        back.leave()
        self.together(self.c)
        self.assertEqual(len(self.a.router.chats), 0)

    def test_chat_said_apart(self) -> None:
        """Chat for somebody who is away, said while nodes were apart, waits on all of them."""
        self.join(self.a, "GONE", principal("gone")).leave()
        self.apart(self.c)
        self.join(self.c, "C").say(ping_pong("C", "GONE"))
        self.together(self.c)
        self.assertEqual(len(self.a.router.chats), 1)

    def test_chat_delivered_meanwhile(self) -> None:
        """Chat that a node kept while it was cut off is forgotten when it was delivered in the meantime."""
        proved = principal("gone")
        self.join(self.a, "GONE", proved).leave()
        self.join(self.b, "B").say(ping_pong("B", "GONE"))
        self.apart(self.c)
        self.join(self.a, "GONE", proved).leave()
        self.together(self.c)
        for node in (self.a, self.b, self.c):
            self.assertEqual(len(node.router.chats), 0, node.name)
        self.assertEqual(self.join(self.b, "GONE", proved).types().count("b-t-f"), 0)

    def test_chat_is_kept_again(self) -> None:
        """Chat that came from another node can be kept again when it was not taken; and waits no longer than there."""
        proved = principal("gone")
        self.join(self.a, "GONE", proved).leave()
        self.join(self.b, "B").say(ping_pong("B", "GONE"))
        self.clock.advance(3 * 86400)
        late = self.start("d")
        self.turn()
        expires = {chat.expires for node in (self.a, late) for chat in node.router.chats.records(self.clock.seconds())}
        self.assertEqual(len(expires), 1)
        for node in (self.a, self.b, self.c):
            self.stop(node)
        back = self.join(late, "GONE", proved)
        back.sink.waiting = [each for each in back.heard() if each.type == "b-t-f"]
        back.leave(clean=False)
        self.assertEqual(len(late.router.chats), 1)

    def test_canceled_apart(self) -> None:
        """An emergency that was canceled while nodes were apart is over, whatever its raiser's clock says."""
        for ahead in (0, 300, -300):
            a = self.join(self.a, "A")
            a.say(emergency("A", "A", now=NOW + ahead))
            self.apart(self.b)
            a.say(cancel("A", "A", now=NOW + ahead + 1))
            self.clock.advance(2)
            self.together(self.b)
            for node in (self.a, self.b, self.c):
                self.assertEqual(len(node.router.emergencies), 0, (node.name, ahead))
                node.router.retained._tombstones.clear()

    def test_raised_anew_apart(self) -> None:
        """Of an emergency that was raised again, elsewhere on the map, the newer version counts."""
        a = self.join(self.a, "A")
        a.say(emergency("A", "A"))
        self.apart(self.b)
        a.say(emergency("A", "A", now=NOW + 5))
        self.together(self.b)
        raised = {record.xml for node in self.hub.nodes.values() for record in node.router.emergencies.records()}
        self.assertEqual(len(raised), 1)

    def test_contact_deleted_apart(self) -> None:
        """Somebody who is away and was taken off the map while nodes were apart is off it everywhere."""
        for ahead in (0, 300):
            self.join(self.a, "A", now=NOW + ahead).leave()
            self.apart(self.c)
            self.join(self.b, "B").say(delete("A", now=NOW + 1))
            self.clock.advance(2)
            self.together(self.c)
            late = self.start(f"d{ahead}")
            self.turn()
            for node in self.hub.nodes.values():
                self.assertNotIn("-A", self.connect(node).shown(), (node.name, ahead))
            self.stop(late)

    def test_unreadable(self) -> None:
        """A record that cannot be read is left out; the others are taken."""
        everybody = frozenset({"__ANON__"})
        bad = Item("X", "a-h-G", b"<nonsense", everybody, NOW, NOW + 60, NOW + 60)
        self.a.nodes.heard("b", Known((bad,), (1, 2), NOW))
        self.assertEqual(self.picture(self.a), [])

    def test_many(self) -> None:
        """A large picture is told in words of bounded size."""
        self.apart(self.b)
        a = self.join(self.a, "A")
        for number in range(200):
            a.say(marker(f"M{number}", extra=f"<remarks>{'x' * 2000}</remarks>"))
        self.a.bus.told.clear()
        self.together(self.b)
        told = [word for word in self.a.bus.told if isinstance(word, Known)]
        self.assertGreater(len(told), 2)
        for word in told:
            self.assertLess(sum(len(each.xml) for each in word.records if isinstance(each, Item)), 1 << 18)
        self.assertEqual(len(self.picture(self.b)), 200)

    def test_stop(self) -> None:
        """A node that stops compares nothing more."""
        self.join(self.a, "A").say(chat("A"))
        self.a.nodes.back()
        self.a.nodes.stop()
        self.turn()
        self.a.bus.told.clear()
        self.a.nodes.back()
        self.a.nodes.stop()
        self.turn()
        self.assertEqual([type(word) for word in self.a.bus.told], [Ask])

    def test_half_told(self) -> None:
        """What a node had told when it died is kept, though it had not told all; nothing is left of it otherwise."""
        everybody = frozenset({"__ANON__"})
        half = event(marker("HALF"))
        self.a.nodes.heard("b", Known((Item("HALF", half.type, half.xml, everybody, NOW, half.stale, half.stale),)))
        self.stop(self.b)
        self.assertEqual(self.picture(self.a), ["HALF"])
        self.assertEqual(self.a.nodes.exchange._listed, {})

    def test_one_answer(self) -> None:
        """Who is asked by several at once answers once."""
        self.join(self.a, "A")
        self.a.bus.told.clear()
        for node in ("b", "c"):
            self.a.nodes.heard(node, Ask(""))
        self.turn()
        self.assertEqual(sum(isinstance(word, AllPresent) for word in self.a.bus.told), 1)
