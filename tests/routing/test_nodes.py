from __future__ import annotations

from taky_twisted.cot.types import CHAT_FAILED
from taky_twisted.identity.principal import Principal
from taky_twisted.routing.words import AllPresent, Ask, Digest, Handed, Kick, Present, Said, Wanted
from tests.fakes import principal
from tests.routing.node_hub import Client, NodesCase, ping_pong
from tests.samples import cancel, chat, control, delete, emergency, event, marker, sa, to, xml


class DeliveryTests(NodesCase):
    """Who hears what, wherever they are connected."""

    def setUp(self) -> None:
        super().setUp()
        self.alpha, self.bravo, self.charlie = self.join(self.a, "A"), self.join(self.b, "B"), self.join(self.c, "C")
        self.anna = self.join(self.a, "ANNA")
        self.everybody = [self.alpha, self.bravo, self.charlie, self.anna]
        for client in self.everybody:
            client.heard()

    def uids(self) -> list[list[str]]:
        return [client.uids() for client in self.everybody]

    def test_broadcast(self) -> None:
        """What is said to all reaches everybody on every node once, and not who said it."""
        self.alpha.say(marker("M1"))
        self.bravo.say(marker("M2"))
        self.assertEqual(self.uids(), [["M2"], ["M1"], ["M1", "M2"], ["M1", "M2"]])

    def test_order(self) -> None:
        """Everybody hears a sender in the order in which it spoke, whether it is to all or to one."""
        self.alpha.say(*(xml(f"X{n}", marti=to("B") if n % 3 == 0 else None) for n in range(10)))
        self.assertEqual(self.bravo.uids(), [f"X{n}" for n in range(10)])
        self.assertEqual(self.charlie.uids(), [f"X{n}" for n in range(10) if n % 3])

    def test_directed(self) -> None:
        """By callsign or uid, to one or several, here or there: each is reached once, and nobody else."""
        for marti, reached in (
            (to("B"), "B"),
            ('<dest uid="C"/>', "C"),
            (to("B") + '<dest uid="B"/>', "B"),
            (to("B", "C", "ANNA"), "BCANNA"),
            (to("ANNA"), "ANNA"),
        ):
            self.alpha.say(xml("X", marti=marti))
            heard = [uid for uid, client in (("B", self.bravo), ("C", self.charlie), ("ANNA", self.anna))]
            found = [uid for uid, said in zip(["A", "B", "C", "ANNA"], self.uids(), strict=True) if said == ["X"]]
            self.assertEqual("".join(found), reached, heard)

    def test_directed_here(self) -> None:
        """What is for connections of this node alone does not travel."""
        self.a.bus.told.clear()
        self.alpha.say(xml("X", marti=to("ANNA")))
        self.assertEqual(self.a.bus.told, [])
        self.assertEqual(self.anna.uids(), ["X"])

    def test_chat(self) -> None:
        """Chat to all, to one elsewhere, and without destinations to those whom it names."""
        self.alpha.say(chat("A"))
        self.assertEqual([len(heard) for heard in self.uids()], [0, 1, 1, 1])
        self.alpha.say(ping_pong("A", "B"))
        self.assertEqual([len(heard) for heard in self.uids()], [0, 1, 0, 0])
        self.alpha.say(chat("A", room="B", uids=("B",)))
        self.assertEqual([len(heard) for heard in self.uids()], [0, 1, 0, 0])

    def test_nobody(self) -> None:
        """Who writes to somebody whom no node knows is told so once."""
        self.alpha.say(ping_pong("A", "NOBODY"))
        self.assertEqual(self.alpha.types(), [CHAT_FAILED])
        self.assertEqual(self.bravo.types(), [])

    def test_groups(self) -> None:
        """Groups hold on every node: those of who says it, and those of who would hear it."""
        red = self.join(self.a, "RED", principal("red", ["red"], ["red"]))
        also = self.join(self.b, "RED2", principal("red2", ["red"], ["red"]))
        for client in (red, also, *self.everybody):
            client.heard()
        red.say(marker("M1"), xml("X", marti=to("B")), xml("Y", marti='<dest group="red"/>'))
        self.assertEqual(also.uids(), ["M1", "Y"])
        self.assertEqual(self.uids(), [[], [], [], []])
        self.assertEqual(self.connect(self.c).shown().count("M1"), 0)
        self.assertIn("M1", self.connect(self.c, principal("x", ["red"], ["red"])).shown())

    def test_filter(self) -> None:
        """Who asked for an area hears only that, also from other nodes."""
        self.bravo.subscription.publish(
            event(control("t-b", '<subscription><xpath>/event[@uid="M2"]</xpath></subscription>'))
        )
        wanted = self.b.router.subscriptions
        self.assertIn(self.bravo.subscription, wanted)
        self.bravo.subscription.filter = None
        self.b.router.rejoin(self.bravo.subscription, lambda each: each.uid == "M2")
        self.alpha.say(marker("M1"), marker("M2"))
        self.assertEqual(self.bravo.uids(), ["M2"])

    def test_delete(self) -> None:
        """A delete reaches every node: nobody is shown the item afterwards, wherever he comes."""
        self.alpha.say(marker("M1"))
        for node in (self.a, self.b, self.c):
            self.assertIn("M1", self.connect(node).shown())
        self.bravo.say(delete("M1"))
        for node in (self.a, self.b, self.c):
            self.assertNotIn("M1", self.connect(node).shown())
        self.alpha.say(marker("M1"))  # an older copy
        for node in (self.a, self.b, self.c):
            self.assertNotIn("M1", self.connect(node).shown())

    def test_delete_for_some(self) -> None:
        """One that is directed to somebody on the same node changes what the others show as well."""
        self.alpha.say(marker("M1"))
        self.alpha.say(delete("M1", marti=to("ANNA")))
        self.assertNotIn("M1", self.connect(self.c).shown())
        self.assertNotIn("delete-M1", self.charlie.uids())

    def test_emergency(self) -> None:
        """An emergency is repeated to everybody once each time, and ends everywhere when it is canceled."""
        self.alpha.say(emergency("A", "A"))
        self.assertEqual([len(heard) for heard in self.uids()], [0, 1, 1, 1])
        for _ in range(3):
            self.clock.advance(self.a.router.emergencies._period)
            self.assertEqual([len(heard) for heard in self.uids()], [0, 1, 1, 1])
        self.assertIn("A-9-1-1", self.connect(self.c).shown())
        self.alpha.say(cancel("A", "A"))
        for node in (self.a, self.b, self.c):
            self.assertEqual(len(node.router.emergencies), 0)

    def test_emergency_of_others(self) -> None:
        """Somebody on another node cannot cancel what he did not raise."""
        alpha = self.join(self.a, "P", principal("p"))
        stranger = self.join(self.b, "Q", principal("q"))
        alpha.say(emergency("P", "P"))
        stranger.say(cancel("P", "P"))
        for node in (self.a, self.b, self.c):
            self.assertEqual(len(node.router.emergencies), 1, node.name)
        alpha.say(cancel("P", "P"))
        for node in (self.a, self.b, self.c):
            self.assertEqual(len(node.router.emergencies), 0, node.name)

    def test_emergency_for_some(self) -> None:
        """One for named people is repeated to them alone, once."""
        self.alpha.say(emergency("A", "A", marti=to("B")))
        self.assertEqual([len(heard) for heard in self.uids()], [0, 1, 0, 0])
        self.clock.advance(self.a.router.emergencies._period)
        self.assertEqual([len(heard) for heard in self.uids()], [0, 1, 0, 0])

    def test_senders_without_connection(self) -> None:
        """What comes by UDP or HTTP to one node reaches all; an emergency raised so is canceled from there as well."""
        place = self.a.router.speaker(Principal(), self.alpha.sink, "udp")
        place.publish(event(marker("M1")))
        self.assertEqual(self.uids(), [["M1"], ["M1"], ["M1"], ["M1"]])
        place.publish(event(emergency("U", "U")))
        self.turn()
        self.assertEqual(len(self.c.router.emergencies), 1)
        place.publish(event(cancel("U", "U")))
        self.turn()
        self.assertEqual(len(self.c.router.emergencies), 0)

    def test_http_is_no_contact(self) -> None:
        """Who reports somebody through HTTP is nobody's contact on any node: nothing can be sent there."""
        place = self.a.router.speaker(principal("bot"), self.alpha.sink, "https")
        place.from_server = False
        place.publish(event(sa("BOT", "BOT")))
        self.assertEqual(self.uids(), [["BOT"]] * 4)
        for node in (self.a, self.b, self.c):
            self.assertIsNone(node.router.contacts.get("BOT"), node.name)

    def test_incognito(self) -> None:
        """Who goes incognito is gone for everybody, and still hears what is directed to it."""
        self.alpha.say(control("t-x-c-i-e"))
        self.assertEqual(self.uids(), [["-A"], ["-A"], ["-A"], ["-A"]])
        self.alpha.say(sa("A", "A"))
        self.assertEqual(self.uids(), [[], [], [], []])
        self.assertNotIn("A", self.connect(self.b).shown())
        self.bravo.say(ping_pong("B", "A"))
        self.assertEqual(len(self.alpha.heard()), 1)
        self.alpha.say(control("t-x-c-i-d"), sa("A", "A"))
        self.assertEqual(self.uids(), [[], ["A"], ["A"], ["A"]])

    def test_monitor(self) -> None:
        """Who hears everything hears what other nodes heard, without a second copy."""
        monitor = self.connect(self.c)
        heard = self.c.router.subscribe(Principal(), monitor.sink, "monitor", wants_everything=True)
        monitor.subscription.close()
        self.alpha.say(marker("M1"))
        self.assertEqual(monitor.uids(), ["M1"])
        heard.close()


class WaitingTests(NodesCase):
    """What waits for somebody who is on his way."""

    def chats(self, client: Client) -> list[str]:
        return [each.uid for each in client.heard() if each.type == "b-t-f"]

    def test_missed_on_every_node(self) -> None:
        """Chat for somebody who is away is delivered where he comes back, once, in order, and nowhere afterwards."""
        for node in (self.a, self.b, self.c):
            proved = principal("alpha")
            self.join(self.a, "A", proved).leave()
            b = self.join(self.b, "B")
            b.say(*(ping_pong("B", "A", number=number) for number in range(3)))
            self.assertEqual(b.types(), [])
            back = self.join(node, "A", proved)
            self.assertEqual([uid[-1] for uid in self.chats(back)], ["0", "1", "2"])
            self.assertEqual([len(each.router.chats) for each in (self.a, self.b, self.c)], [0, 0, 0])
            back.leave()
            self.assertEqual(self.chats(self.join(self.c, "A", proved)), [])
            b.leave()
            # Another round begins with nothing that is remembered of this one.
            for each in (self.a, self.b, self.c):
                each.nodes._delivered.clear()

    def test_only_one_node_had_it(self) -> None:
        """Chat that only one node kept is handed to the one that its receiver comes to."""
        proved = principal("alpha")
        self.join(self.a, "A", proved).leave()
        b = self.join(self.b, "B")
        self.a.bus.up = self.c.bus.up = False
        b.say(ping_pong("B", "A"))
        self.a.bus.up = self.c.bus.up = True
        self.assertEqual(len(self.chats(self.join(self.c, "A", proved))), 1)

    def test_undelivered_when_broken(self) -> None:
        """What was on its way to a broken connection is delivered by the node that its owner comes to."""
        proved = principal("alpha")
        old, b = self.join(self.a, "A", proved), self.join(self.b, "B")
        b.say(ping_pong("B", "A"))
        (sent,) = [each for each in old.heard() if each.type == "b-t-f"]
        old.sink.waiting = [sent]  # it never left
        new = self.join(self.c, "A", proved)
        self.a.nodes._delivered.clear()
        self.assertEqual(len(self.chats(new)), 1)

    def test_handed_twice(self) -> None:
        """What two nodes hand over is delivered once."""
        a = self.join(self.a, "A")
        said = event(ping_pong("B", "A"))
        speaker = a.subscription.speaker
        assert speaker is not None
        word = Handed("a", speaker.connection, "A", said, frozenset({"__ANON__"}))
        self.a.nodes.heard("b", word)
        self.a.nodes.heard("c", word)
        self.assertEqual(len(self.chats(a)), 1)

    def test_handed_too_late(self) -> None:
        """What is handed over for somebody who has left waits for him; for nobody at all it is nothing."""
        a = self.join(self.a, "A")
        a.leave()
        word = Handed("a", 99, "A", event(ping_pong("B", "A")), frozenset({"__ANON__"}))
        self.a.nodes.heard("b", word)
        self.a.nodes.heard("b", Handed("a", 99, "NOBODY", event(ping_pong("B", "A")), frozenset({"__ANON__"})))
        self.a.nodes.heard("b", Handed("b", 99, "A", event(ping_pong("B", "A", number=2)), frozenset({"__ANON__"})))
        self.assertEqual(len(self.a.router.chats), 1)

    def test_undelivered_chat(self) -> None:
        """Who writes to somebody on a node that cannot be reached is told that it failed."""
        a = self.join(self.a, "A")
        self.join(self.b, "B")
        a.heard()
        self.a.bus.told.clear()
        a.say(ping_pong("A", "B"))
        (word,) = self.a.bus.told
        self.a.nodes.undelivered(word)
        self.assertEqual(a.types(), [CHAT_FAILED])

    def test_undelivered_others(self) -> None:
        """Only chat to somebody has a sender who waits for an answer."""
        a = self.join(self.a, "A")
        self.a.bus.told.clear()
        a.say(chat("A"), emergency("A", "A"))
        for word in self.a.bus.told:
            self.a.nodes.undelivered(word)
        self.a.nodes.undelivered(Kick("x", "y"))
        gone = self.join(self.a, "GONE")
        self.join(self.b, "B")
        self.a.bus.told.clear()
        gone.say(ping_pong("GONE", "B"))
        (word,) = [each for each in self.a.bus.told if isinstance(each, Said)]
        gone.leave()
        self.a.nodes.undelivered(word)
        self.assertEqual(a.types().count(CHAT_FAILED), 0)

    def test_undelivered_handed(self) -> None:
        """Chat that could not be handed over waits again."""
        self.join(self.a, "A").leave()
        self.a.nodes.undelivered(Handed("b", 1, "A", event(ping_pong("B", "A")), frozenset({"__ANON__"})))
        self.assertEqual(len(self.a.router.chats), 1)

    def test_broken_and_back(self) -> None:
        """Chat that a broken connection did not take is delivered where its owner comes back, also to the same node."""
        proved = principal("alpha")
        b = self.join(self.b, "B")
        for number, nodes in enumerate(((self.a, self.a), (self.a, self.c, self.a), (self.a, self.b, self.c, self.b))):
            client = self.join(nodes[0], "A", proved)
            b.say(ping_pong("B", "A", number=number))
            for node in nodes[1:]:
                (sent,) = [each for each in client.heard() if each.type == "b-t-f"]
                client.sink.waiting = [sent]  # it never left
                client.leave(clean=False)
                client = self.join(node, "A", proved)
            self.assertEqual(len(self.chats(client)), 1, number)
            client.leave()
            self.assertEqual(self.chats(self.join(self.c, "A", proved)), [])

    def test_broken_survives(self) -> None:
        """Chat that a broken connection did not take is kept by all nodes, and outlives the one that had it."""
        proved = principal("alpha")
        client, b = self.join(self.a, "A", proved), self.join(self.b, "B")
        b.say(ping_pong("B", "A"))
        client.sink.waiting = [each for each in client.heard() if each.type == "b-t-f"]
        client.leave(clean=False)
        self.clock.advance(10)
        self.stop(self.a)
        self.assertEqual(len(self.chats(self.join(self.c, "A", proved))), 1)

    def test_left_before_it_was_handed(self) -> None:
        """Who has his chat and leaves before the other nodes have handed over their copies does not get it again."""
        proved = principal("alpha")
        self.join(self.a, "A", proved).leave()
        self.join(self.b, "B").say(ping_pong("B", "A"))
        client = self.connect(self.c, proved)
        client.subscription.publish(event(sa("A", "A")))
        self.clock.advance(0)
        self.assertEqual([each.type for each in client.sink.events], ["b-t-f"])
        client.leave()
        for node in (self.a, self.b, self.c):
            self.assertEqual(len(node.router.chats), 0, node.name)

    def test_handed_and_moved_on(self) -> None:
        """What is handed over for somebody who has moved on to a third node is handed on."""
        client = self.join(self.a, "A")
        self.c.nodes.heard("b", Handed("c", 99, "A", event(ping_pong("B", "A")), frozenset({"__ANON__"})))
        self.assertEqual(len(self.chats(client)), 1)

    def test_handed_to_others(self) -> None:
        """What is handed over for one certificate is not delivered to another one that says the same uid by now."""
        other = self.join(self.c, "A", principal("mallory"))
        word = Handed("c", 99, "A", event(ping_pong("B", "A")), frozenset({"__ANON__"}), "alpha")
        self.c.nodes.heard("b", word)
        self.assertEqual(self.chats(other), [])
        self.assertEqual(len(self.chats(self.join(self.a, "A", principal("alpha")))), 1)

    def test_undelivered_handed_later(self) -> None:
        """Chat that could not be handed over is so once the bus is back, or delivered if its receiver came here."""
        everybody = frozenset({"__ANON__"})
        there, here = self.join(self.a, "A"), self.join(self.b, "A2")
        for uid in ("A", "A2"):
            self.b.nodes.undelivered(Handed("a", 7, uid, event(ping_pong("B", uid)), everybody))
        self.assertEqual(len(self.chats(here)), 1)
        self.b.nodes.back()
        self.assertEqual(len(self.chats(there)), 1)


class OtherWordTests(NodesCase):
    def test_missed_again_and_again(self) -> None:
        """However often words are lost, the others are asked for everything every few seconds at most."""
        for _ in range(5):
            self.b.nodes.missed("a")
        self.b.nodes.missed("c")
        asked = [word for word in self.b.bus.told if isinstance(word, Ask) and word.node]
        self.assertEqual(asked, [Ask("a")])
        self.stop(self.c)
        self.clock.advance(5)
        asked = [word for word in self.b.bus.told if isinstance(word, Ask) and word.node]
        self.assertEqual(asked, [Ask("a"), Ask("a")])
        self.clock.advance(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.b.nodes.missed("a")
        self.b.nodes.stop()
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_haste(self) -> None:
        """A long answer waits for words of more haste to get out."""
        for number in range(3):
            self.join(self.a, f"A{number}")
        self.a.bus.told.clear()
        self.a.bus.crowded = True
        self.a.nodes.back()
        self.turn()
        self.clock.advance(1)
        self.assertEqual([type(word) for word in self.a.bus.told], [Ask, Present])
        self.a.bus.crowded = False
        self.clock.advance(1)
        self.turn()
        self.assertEqual([type(word) for word in self.a.bus.told][-4:], [Present, Present, AllPresent, Digest])

    def test_kick(self) -> None:
        """Whoever is kicked on one node is kicked on all others."""
        self.a.nodes.kick("Jörg", "banned")
        self.turn()
        self.assertEqual([self.b.kicked, self.c.kicked, self.a.kicked], [[("Jörg", "banned")]] * 2 + [[]])

    def test_wanted(self) -> None:
        """Who needs a file is answered by whoever looks after files."""
        wanted: list[Wanted] = []
        word = Wanted("b", "r", "ab" * 32, 0, 1)
        self.a.nodes.heard("b", word)
        self.a.nodes.wanted = wanted.append
        self.a.nodes.heard("b", word)
        self.assertEqual(wanted, [word])

    def test_unknown_connections(self) -> None:
        """What is said of connections and nodes that nobody knows is nothing."""
        from taky_twisted.interfaces import Node
        from taky_twisted.routing.words import AllPresent, Ask, Left

        self.a.nodes.heard("x", Left(7, True))
        self.a.nodes.heard("x", AllPresent((1, 2)))
        self.a.nodes.heard("x", Ask("somebody"))
        self.a.nodes.gone(Node("nobody", "NOBODY"), True)
        self.assertEqual(list(self.a.router.contacts), [])
