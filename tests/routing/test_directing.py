from __future__ import annotations

from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import ANON_GROUP
from taky_twisted.routing.directing import TEAMS
from taky_twisted.routing.records import MissedChat
from tests.fakes import principal
from tests.routing.router_case import RouterCase
from tests.samples import chat, event, marker, sa, to, xml


class DestinationTests(RouterCase):
    """Whom an event reaches."""

    def test_matrix(self) -> None:
        """By callsign, uid, both, twice, unknown, or for all: each receiver gets one copy, without the list."""
        a, b, c = self.team("A", "B", "C")
        d = self.join("D", "C")
        for peer in (a, b, c, d):
            peer.heard()
        everybody = {"B", "C", "D"}
        for marti, reached in (
            (None, everybody),
            ("", everybody),
            ("<dest/>", everybody),
            ('<dest callsign=""/>', everybody),
            ('<dest other="B"/>', everybody),
            (to("All Streaming"), everybody),
            (to("All Streaming", "B"), everybody),
            (to("B"), {"B"}),
            (to("b"), {"B"}),
            (to("B", "B"), {"B"}),
            (to("C"), {"C", "D"}),
            (to("B", "C"), everybody),
            ('<dest uid="B"/>', {"B"}),
            ('<dest uid="b"/>', set()),
            (to("B") + '<dest uid="B"/>', {"B"}),
            (to("B") + '<dest uid="C"/>', {"B", "C"}),
            ('<dest callsign="B" uid="C"/>', {"B"}),
            (to("A"), {"A"}),
            ('<dest uid="A"/><dest uid="B"/>', {"A", "B"}),
            (to("NOBODY"), set()),
            (to("NOBODY", "B"), {"B"}),
            (to("ffffffff-ffff-ffff-ffff-ffffffffffff"), set()),
            ('<dest publish="B"/>', set()),
            ('<dest publish="x"/>' + to("B"), {"B"}),
            ('<dest mission="M"/>', set()),
            ('<dest mission-guid="G" path="p"/>' + to("B"), {"B"}),
            (to("All Streaming") + '<dest uid="B"/>', {"B"}),
            (f'<dest group="{ANON_GROUP}"/>', everybody),
            (f'<dest group="{ANON_GROUP}"/>' + to("B"), {"B"}),
            ('<dest group="g"/>', set()),
            ('<dest group="g"/>' + to("B"), set()),
        ):
            a.say(marker(marti=marti))
            heard = {name: peer.heard() for name, peer in zip("ABCD", (a, b, c, d), strict=True)}
            self.assertEqual({name for name, events in heard.items() if events}, reached, marti)
            for events in heard.values():
                self.assertLess(len(events), 2, marti)
                self.assertNotIn(b"marti", b"".join(each.xml for each in events))
            self.router.retained.remove("MARK-1", frozenset({ANON_GROUP}))


class ChatTests(RouterCase):
    """Who gets a message."""

    def test_fallback(self) -> None:
        """Without destinations a message goes to whom it names; if that is nobody, back to its sender; never to all."""
        a, b, c = self.team("A", "B", "C")
        red = self.join("R", team="Red", proved=principal("r"))
        for peer in (a, b, c):
            peer.heard()
        for room, uids, reached in (
            ("All Chat Rooms", (), "BCR"),
            ("All Streaming", ("B",), "BCR"),
            ("Streaming", ("B",), "BCR"),
            ("B", ("B",), "B"),
            ("B", (), "B"),
            ("Friends", ("B", "C"), "BC"),
            ("Friends", ("B", "GONE"), "B"),
            ("Friends", ("A", "B"), "B"),
            ("Friends", ("A",), "A"),
            ("GONE", ("GONE",), "A"),
            ("", (), "A"),
            ("Red", (), "R"),
            ("Red", ("B",), "R"),
            ("Cyan", (), "BC"),
            ("Purple", ("B",), "A"),
        ):
            a.say(chat("A", room=room, uids=uids))
            heard = {name: peer.types() for name, peer in zip("ABCR", (a, b, c, red), strict=True)}
            self.assertEqual("".join(name for name, types in heard.items() if types), reached, (room, uids))
            self.assertEqual(heard["A"], ["b-t-f-s"] if reached == "A" else [])
        self.assertEqual(len(TEAMS), 14)

    def test_room_for_all_under_another_name(self) -> None:
        """A room is for everybody if its id or its name says so."""
        a, b = self.team("A", "B")
        a.say(chat("A", room="Streaming", id_="x", number=1), chat("A", room="x", id_="All Chat Rooms", number=2))
        self.assertEqual(len(b.heard()), 2)

    def test_no_fallback(self) -> None:
        """What has destinations, is a receipt or says nothing of a room goes by its destinations alone."""
        a, b, c = self.team("A", "B", "C")
        a.say(
            chat("A", room="C", uids=("C",), marti=to("B")),
            chat("A", room="C", uids=("C",), marti=f'<dest group="{ANON_GROUP}"/>'),
            chat("A", room="C", uids=("C",), type_="b-t-f-r"),
            xml("BARE", "b-t-f"),
        )
        self.assertEqual(
            (b.types(), c.types()), (["b-t-f", "b-t-f", "b-t-f-r", "b-t-f"], ["b-t-f", "b-t-f-r", "b-t-f"])
        )
        a.say(chat("A", room="C", uids=("C",), marti="<dest/>"))
        self.assertEqual((b.types(), c.types()), ([], ["b-t-f"]), "an empty list is none, as iTAK sends")

    def test_without_the_fallback(self) -> None:
        """With the fallback off a message without destinations is for everybody."""
        self.begin(chat_fallback=False)
        a, b, c = self.team("A", "B", "C")
        a.say(chat("A", room="B", uids=("B",)), chat("A", room="GONE", uids=("GONE",)))
        self.assertEqual((len(a.heard()), len(b.heard()), len(c.heard())), (0, 2, 2))

    def test_fallback_and_groups(self) -> None:
        """Whom a sender cannot reach it cannot reach this way either."""
        a = self.join("A", proved=principal("a", ["g1"], []))
        b = self.join("B", proved=principal("b", [], ["g2"]))
        a.say(chat("A", room="B", uids=("B",)))
        a.say(chat("A", room="Cyan", uids=()))
        self.assertEqual((b.heard(), a.types()), ([], ["b-t-f-s", "b-t-f-s"]))

    def test_told_that_it_failed(self) -> None:
        """Only a message to nobody comes back: no receipt, no item, none that reached somebody or is for a mission."""
        a, _ = self.team("A", "B")
        documents = {
            to("NOBODY"): ["b-t-f-s"],
            '<dest uid="GONE"/>': ["b-t-f-s"],
            '<dest publish="x"/>': ["b-t-f-s"],
            to("NOBODY", "B"): [],
            '<dest mission="M"/>': [],
            to("NOBODY") + '<dest mission="M"/>': [],
        }
        for marti, answer in documents.items():
            a.say(chat("A", marti=marti))
            (answers := a.heard())
            self.assertEqual([each.type for each in answers], answer, marti)
            self.assertEqual([each.uid for each in answers], ["GeoChat.A.All Chat Rooms.m-1"] * len(answer))
        for kind in ("b-t-f-d", "b-t-f-r", "b-t-f-p", "b-t-f-s"):
            a.say(chat("A", type_=kind, marti=to("NOBODY")))
        a.say(marker(marti=to("NOBODY")))
        self.assertEqual(a.heard(), [])

    def test_missed(self) -> None:
        """A message for somebody known who is away waits, however it was addressed; other things do not."""
        a, b, _ = self.team("A", "B", "C")
        b.leave(clean=False)
        a.say(
            chat("A", number=1, marti=to("B")),
            chat("A", number=2, marti='<dest uid="B"/>' + to("B")),
            chat("A", number=3, room="B", uids=("B",)),
            chat("A", number=4, type_="b-t-f-r", marti=to("B")),
            marker(marti=to("B")),
        )
        self.assertEqual((a.types(), self.kept(MissedChat)), ([], ["1", "2", "3"]))
        b = self.join("B")
        self.assertEqual([uid[-3:] for uid in b.uids()], ["m-1", "m-2", "m-3"])
        self.assertEqual((self.kept(MissedChat), self.join("B").uids()), ([], []))

    def test_missed_by_a_gateways_client(self) -> None:
        """Messages for a further uid of a gateway reach the gateway when it speaks for that uid."""
        a, b = self.team("A", "B")
        b.leave()
        a.say(chat("A", marti=to("B")))
        gateway = self.join("G")
        gateway.heard()
        gateway.say(sa("B", "B"))
        self.assertEqual(gateway.types(), ["b-t-f"])
        self.assertEqual(len([line for line in self.log() if "joined" in line and "B (B)" in line]), 1)

    def test_missed_while_incognito(self) -> None:
        """Who was incognito before it said who it is gets its messages all the same."""
        a, b = self.team("A", "B")
        b.leave()
        a.say(chat("A", marti=to("B")))
        b = self.connect()
        b.say(xml("x", "t-x-c-i-e"), sa("B", "B"))
        self.assertEqual(b.types(), ["b-t-f"])

    def test_missed_and_groups(self) -> None:
        """A message does not wait for somebody who may not hear its sender, and its sender is told."""
        b = self.join("B", proved=principal("b", [], ["g2"]))
        b.leave()
        a = self.join("A", proved=principal("a", ["g1"], []))
        a.say(chat("A", marti=to("B")))
        self.assertEqual((a.types(), self.kept(MissedChat)), (["b-t-f-s"], []))

    def test_too_many_missed(self) -> None:
        """When no more may wait the sender is told."""
        self.limits = Limits(missed_chats=1)
        self.begin()
        a, b = self.team("A", "B")
        b.leave()
        a.heard()
        a.say(chat("A", number=1, marti=to("B")), chat("A", number=2, marti=to("B")))
        self.assertEqual((a.types(), self.kept(MissedChat)), (["b-t-f-s"], ["1"]))

    def test_unsent(self) -> None:
        """Messages that a connection did not deliver before it broke wait for its return, twice, and over a restart."""
        b = self.join("B")
        waiting = [
            chat("A", number=1, marti=to("B")),
            chat("A", number=2, marti=to("All Streaming")),
            chat("A", number=3),
            xml("OFFER", "b-f-t-r", marti=to("B")),
            marker(),
        ]
        b.sink.waiting = [event(document) for document in waiting]
        b.leave(clean=False)
        self.assertEqual(self.kept(MissedChat), ["1"])
        self.begin()
        b = self.join("B")
        (message,) = b.heard()
        b.sink.waiting = [message]
        b.leave(clean=False)
        self.assertEqual(len(self.kept(MissedChat)), 1)
        self.assertEqual([uid[-3:] for uid in self.join("B").uids()], ["m-1"])

    def test_unsent_when_already_back(self) -> None:
        """Who is back before its old connection is closed gets all that was for it there, at once; nobody else does."""
        old = self.join("B", proved=principal("b", ["g1"], ["g1"]))
        offer = xml("OFFER", "b-f-t-r", marti=to("B"))
        old.sink.waiting = [event(chat("A", marti=to("B"))), event(offer), event(marker())]
        back = self.join("B", proved=principal("b", ["g1"], ["g1"]))
        self.assertEqual((back.uids(), self.kept(MissedChat)), (["GeoChat.A.All Chat Rooms.m-1", "OFFER"], []))
        back.sink.waiting = [event(chat("A", marti=to("B"))), event(offer)]
        other = self.join("B", proved=principal("x", ["g1"], ["g2"]))
        back.leave()
        self.assertEqual((other.uids(), len(self.kept(MissedChat))), ([], 1))

    def test_unsent_of_a_bot(self) -> None:
        """A message that a bot addressed by its room only is no less kept."""
        a, b = self.team("A", "B")
        a.say(chat("A", room="B", uids=("B",)))
        b.sink.waiting = b.heard()
        b.leave()
        self.assertEqual([uid[-3:] for uid in self.join("B").uids()], ["m-1"])

    def test_unsent_of_nobody(self) -> None:
        """What somebody without a name did not read is gone."""
        peer = self.connect()
        peer.sink.waiting = [event(chat("A", marti=to("B")))]
        peer.leave()
        self.assertEqual(self.kept(MissedChat), [])

    def test_unsent_when_the_server_stops(self) -> None:
        """Messages that cannot be delivered any more when the server stops are there after its restart."""
        a, b = self.team("A", "B")
        b.sink.waiting = [event(chat("A", marti=to("B")))]
        self.router.stop()
        b.leave(clean=False)
        self.assertEqual((a.heard(), self.kept(MissedChat)), ([], ["1"]))
