from __future__ import annotations

from twisted.logger import LogLevel

from taky_twisted.identity.principal import Principal
from tests.fakes import principal
from tests.routing.node_hub import Client, NodesCase, ping_pong
from tests.samples import emergency, event, marker, sa


class PresenceTests(NodesCase):
    """Who is there."""

    def names(self, client: Client) -> list[str]:
        return sorted(contact.uid for contact in client.node.router.contacts if contact.present)

    def test_newcomer(self) -> None:
        """A newcomer is shown everybody, whichever node they are on; a node that joins knows them too."""
        self.join(self.a, "A")
        self.join(self.b, "B")
        self.assertEqual(sorted(self.connect(self.c).shown()), ["A", "B"])
        late = self.start("d")
        self.turn()
        self.assertEqual(sorted(self.connect(late).shown()), ["A", "B"])

    def test_goodbye(self) -> None:
        """Who says goodbye is gone for everybody at once; everybody is told once."""
        a, b, c = self.join(self.a, "A"), self.join(self.b, "B"), self.join(self.c, "C")
        for client in (a, b, c):
            client.heard()
        a.leave()
        self.assertEqual([b.uids(), c.uids()], [["-A"], ["-A"]])
        self.assertEqual(self.names(c), ["B", "C"])

    def test_broken(self) -> None:
        """Who was cut off is gone for everybody after a few seconds, once."""
        a, b, c = self.join(self.a, "A"), self.join(self.b, "B"), self.join(self.c, "C")
        for client in (a, b, c):
            client.heard()
        a.leave(clean=False)
        self.assertEqual([b.uids(), c.uids()], [[], []])
        self.clock.advance(5)
        self.assertEqual([b.uids(), c.uids()], [["-A"], ["-A"]])

    def test_moves(self) -> None:
        """Who was cut off and connects to another node is not reported gone; what waited is delivered there, once."""
        for number, proved in enumerate((principal("alpha"), Principal())):
            a, b, c = self.join(self.a, "A", proved), self.join(self.b, "B"), self.join(self.c, "C")
            a.leave(clean=False)
            for client in (b, c):
                client.heard()
            b.say(ping_pong("B", "A", number=number))
            again = self.join(self.c, "A", proved)
            self.clock.advance(20)
            self.assertEqual([uid for uid in b.uids() if uid.startswith("-")], [])
            self.assertEqual(len([each for each in again.heard() if each.type == "b-t-f"]), 1)
            b.say(ping_pong("B", "A", number=number + 2))
            self.assertEqual(len([each for each in again.heard() if each.type == "b-t-f"]), 1)
            for client in (again, b, c):
                client.leave()

    def test_moves_before_it_is_missed(self) -> None:
        """Who comes to another node first is moved: the old connection is closed by its node, and nobody is told."""
        proved = principal("alpha")
        old, b = self.join(self.a, "A", proved), self.join(self.b, "B")
        b.heard()
        new = self.join(self.b, "A", proved)
        self.assertEqual(old.sink.closed, "it connected anew")
        self.assertIsNone(new.sink.closed)
        self.clock.advance(20)
        self.assertEqual(b.uids(), ["A"])
        for node in (self.a, self.b, self.c):
            contact = node.router.contacts.get("A")
            assert contact is not None
            self.assertEqual([holder.node or node.name for holder in contact.holders], ["b"], node.name)

    def test_both_at_once(self) -> None:
        """Two connections that say the same uid at once on two nodes: the later one stays, and only one is closed."""
        proved = principal("alpha")
        first, second = self.connect(self.a, proved), self.connect(self.b, proved)
        first.subscription.publish(event(sa("A", "A")))
        self.clock.advance(0.001)
        second.subscription.publish(event(sa("A", "A")))
        self.turn()
        self.assertEqual((first.sink.closed, second.sink.closed), ("it connected anew", None))
        contact = self.c.router.contacts.get("A")
        assert contact is not None
        self.assertEqual([holder.node for holder in contact.holders], ["b"])

    def test_late_word_of_the_old_connection(self) -> None:
        """What the old connection still says does not take the uid back."""
        proved = principal("alpha")
        old = self.join(self.a, "A", proved)
        new = self.connect(self.b, proved)
        new.subscription.publish(event(sa("A", "A")))
        old.subscription.publish(event(sa("A", "A")))
        self.turn()
        self.assertIsNone(new.sink.closed)
        self.assertIsNotNone(old.sink.closed)
        self.clock.advance(10)
        self.turn()
        for node in (self.a, self.b, self.c):
            self.assertTrue(node.router.contacts.is_present("A", frozenset({"__ANON__"})), node.name)

    def test_clocks_differ(self) -> None:
        """Who moves to a node whose clock is behind is moved all the same."""
        proved = principal("alpha")
        old = self.join(self.a, "A", proved)
        old.subscription.since += 300  # as if the first node's clock were ahead
        old.say(sa("A", "A"))
        new = self.join(self.b, "A", proved)
        self.assertIsNotNone(old.sink.closed)
        self.assertIsNone(new.sink.closed)

    def test_two_anonymous(self) -> None:
        """Two phones with one uid on two nodes both get its messages, if both are alive."""
        one, two = self.join(self.a, "A"), self.join(self.b, "A")
        b = self.join(self.c, "B")
        for _ in range(3):
            self.clock.advance(4)
            one.subscription.sink_heard = self.clock.seconds()
            one.say(sa("A", "A", now=self.clock.seconds()))
            two.say(sa("A", "A", now=self.clock.seconds()))
        for client in (one, two):
            client.heard()
        b.say(ping_pong("B", "A"))
        self.assertEqual(([one.sink.closed, two.sink.closed]), [None, None])
        self.assertEqual([one.types(), two.types()], [["b-t-f"], ["b-t-f"]])

    def test_dead_node(self) -> None:
        """A node that dies takes its clients off everybody's list, once; nobody else is affected."""
        self.join(self.a, "A")
        b, c = self.join(self.b, "B"), self.join(self.c, "C")
        for client in (b, c):
            client.heard()
        self.stop(self.a)
        self.assertEqual([b.uids(), c.uids()], [["-A"], ["-A"]])
        b.say(marker("M1"))
        self.assertEqual(c.uids(), ["M1"])
        self.assertIn("node A is not heard any more: its 1 clients", self.log(LogLevel.warn)[-1])

    def test_stopped_node(self) -> None:
        """Clients of a node that is stopped have a few seconds to connect elsewhere before they are reported gone."""
        self.join(self.a, "A", principal("a"))
        self.join(self.a, "A2", principal("a2"))
        b = self.join(self.b, "B")
        b.heard()
        self.stop(self.a, clean=True)
        self.assertEqual(b.uids(), [])
        self.join(self.c, "A", principal("a"))
        self.clock.advance(6)
        self.assertEqual(b.uids(), ["A", "-A2"])

    def test_emergency_of_a_dead_node(self) -> None:
        """An emergency goes on when the node dies that heard it."""
        a, b = self.join(self.a, "A"), self.join(self.b, "B")
        a.say(emergency("A", "A"))
        b.heard()
        self.stop(self.a)
        b.heard()
        self.clock.advance(self.b.router.emergencies._period)
        self.assertEqual(b.uids(), ["A-9-1-1"])

    def test_groups_are_switched(self) -> None:
        """Who switches groups leaves the map of some and comes on that of others, on every node."""
        from taky_twisted.routing.switching import switch

        both = frozenset({"red", "blue"})
        one = principal("one", both, both)
        a = self.join(self.a, "A", one)
        red = self.join(self.b, "RED", principal("r", ["red"], ["red"]))
        blue = self.join(self.c, "BLUE", principal("b", ["blue"], ["blue"]))
        for client in (red, blue):
            client.heard()
        switch(self.a.router, one, "", frozenset({"red"}), frozenset({"red"}), self.clock.seconds())
        self.turn()
        self.assertEqual((red.uids(), blue.uids()), ([], ["-A"]))
        switch(self.a.router, one, "", frozenset({"blue"}), frozenset({"blue"}), self.clock.seconds())
        self.turn()
        self.assertEqual((red.uids(), blue.uids()), (["-A"], ["A"]))
        a.say(marker("M1"))
        self.assertEqual((red.uids(), blue.uids()), ([], ["M1"]))

    def test_resync(self) -> None:
        """After words were lost a node asks, and knows who is there and who is not."""
        a = self.join(self.a, "A")
        self.join(self.a, "A2")
        self.b.bus.heard.clear()
        self.b.bus.up = False
        a.leave()
        self.join(self.a, "A3")
        self.b.bus.up = True
        c = self.connect(self.b)
        self.b.nodes.missed("a")
        self.turn()
        self.clock.advance(5)
        self.assertEqual(c.uids(), ["A3", "-A"])

    def test_resync_says_nothing_twice(self) -> None:
        """Being told again what is known already reaches no client."""
        for uid in "ABC":
            self.join(self.a, uid)
        b = self.join(self.b, "D")
        b.say(marker("M1"))
        b.heard()
        self.a.nodes.back()
        self.b.nodes.missed("a")
        self.assertEqual(b.uids(), [])
