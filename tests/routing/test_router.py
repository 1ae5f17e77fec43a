from __future__ import annotations

from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import ANON_GROUP, ANONYMOUS
from taky_twisted.routing.records import Emergency, Item, KnownContact, MissedChat, Tombstone
from taky_twisted.routing.subscription import Subscription
from tests.fakes import MemorySink, principal
from tests.routing.router_case import Peer, RouterCase
from tests.samples import NOW, cancel, chat, control, delete, emergency, event, marker, sa, to, xml


class DestinationTests(RouterCase):
    """Whom an event reaches."""

    def test_groups_of_directed(self) -> None:
        """What is for somebody reaches it only if it hears one of the sender's groups."""
        a = self.join("A", proved=principal("a", ["g1"], []))
        b = self.join("B", proved=principal("b", [], ["g1", "g3"]))
        c = self.join("C", proved=principal("c", ["g1"], ["g2"]))
        b.heard(), c.heard()
        a.say(marker(marti=to("B", "C") + '<dest uid="C"/>'))
        self.assertEqual((b.uids(), c.uids()), (["MARK-1"], []))

    def test_group_as_destination(self) -> None:
        """A group narrows, several less so; one that the sender may not speak to stops the event, says the log."""
        a = self.join("A", proved=principal("a", ["g1", "g2", "g3"], []))
        listeners = {name: self.connect(principal(name, [], [name])) for name in ("g1", "g2", "g3")}
        for marti, reached in (
            ('<dest group="g1"/>', ["g1"]),
            ('<dest group="g1"/><dest group="g2"/>', ["g1", "g2"]),
            ('<dest group="g4"/>', []),
            ('<dest group="g1"/><dest group="g4"/>', []),
        ):
            a.say(marker(marti=marti), xml("E", "b-x-x", marti=marti))
            heard = {name: peer.uids() for name, peer in listeners.items()}
            self.assertEqual(heard, {name: ["MARK-1", "E"] if name in reached else [] for name in listeners}, marti)
        self.assertEqual(
            next(line for line in self.log() if "may not send" in line),
            "peer may not send to the groups it names: dropped",
        )
        kinds = self.router.audiences.tally.kinds
        self.assertEqual((kinds["marker"].refused, kinds["other"].refused), (2, 2))
        self.assertEqual(self.connect(principal("x", [], ["g3"])).shown(), ["A"], "what newcomers see is narrowed too")

    def test_rejected_report(self) -> None:
        """A report to a group that its sender may not speak to makes it nobody."""
        a = self.connect()
        a.say(sa("A", "A", marti='<dest group="g4"/>'))
        self.assertIsNone(a.subscription.primary)

    def test_the_monitor_sees_all(self) -> None:
        """The monitor is told what is routed, whomever it is for, and what the server says itself; it may speak too."""
        monitor = self.connect(wants_everything=True)
        a, b = self.team("A", "B")
        monitor.heard()
        a.say(marker(), marker("D", marti=to("NOBODY")), chat("A", marti=to("B")), delete("X"), emergency("A", "A"))
        self.assertEqual(monitor.types(), ["a-h-G", "a-h-G", "b-t-f", "t-x-d-d", "b-a-o-tbl"])
        a.leave()
        self.clock.advance(10)
        self.assertEqual(monitor.types(), ["t-x-d-d", "b-a-o-tbl"])
        b.heard()
        monitor.say(marker("INJECTED"), sa("M", "M"))
        self.assertEqual((b.uids(), monitor.uids()), (["INJECTED", "M"], []))
        self.assertIsNone(monitor.subscription.primary)

    def test_server_side_speakers(self) -> None:
        """Who speaks on a UDP port or from another server never becomes a contact, and is told of no failures."""
        b = self.join("B")
        sink = MemorySink()
        speaker = self.router.speaker(ANONYMOUS, sink, "udp")
        link = self.connect(from_server=True)
        self.assertEqual(link.shown(), [])
        for source in (speaker, link.subscription):
            source.publish(event(sa("U", "UDP")))
            source.publish(event(chat("U", marti=to("NOBODY"))))
            self.assertIsNone(source.primary)
        self.assertEqual(b.uids(), ["U", "U"])
        self.assertEqual((sink.events, link.uids()), ([], ["U"]))
        self.assertIn("U", self.connect().shown(), "but newcomers are shown where it was")

    def test_incognito(self) -> None:
        """Who goes incognito looks gone, and is heard only by whom it addresses, unless it calls for help."""
        a, b = self.team("A", "B")
        a.say(control("t-x-c-i-e"), sa("A", "A"), marker(), emergency("A", "A"), chat("A", marti=to("B")))
        self.assertEqual(sorted(b.types()), ["b-a-o-tbl", "b-t-f", "t-x-d-d"], "a call for help is not hidden")
        self.assertEqual(self.connect().shown(), ["A-9-1-1", "B"])
        a.say(control("t-x-c-i-d"), sa("A", "A"))
        self.assertEqual((b.uids(), self.connect().shown()), (["A"], ["A-9-1-1", "A", "B"]))

    def test_filter(self) -> None:
        """A filter counts for broadcasts from the moment it is asked for; a connection that hears nothing has none."""
        a, b = self.team("A", "B")
        a.subscription.publish(event(marker("BEFORE")))
        self.router.rejoin(b.subscription, lambda said: said.uid == "X")
        a.say(marker("X"), marker("Y"), marker("Z", marti=to("B")))
        self.assertEqual(b.uids(), ["BEFORE", "X", "Z"])
        speaker = self.router.speaker(ANONYMOUS, MemorySink(), "udp")
        self.router.rejoin(speaker, lambda said: False)
        self.assertEqual(len(self.router.audiences), 1)


class NewcomerTests(RouterCase):
    """What somebody is shown when it comes."""

    def test_order(self) -> None:
        """Emergencies come first, then who is there or was, then what is on the map."""
        a, b = self.team("A", "B")
        a.say(marker("M1"), emergency("A", "A"), xml("SPOT", "b-m-p-s-m"))
        b.leave()
        self.assertEqual(self.connect().shown(), ["A-9-1-1", "A", "B", "-B", "M1", "SPOT"])

    def test_what_is_never_shown(self) -> None:
        """Chat, file offers, control and what was for some are never shown to newcomers; other archived things are."""
        a, _ = self.team("A", "B")
        archived = "<archive/>"
        a.say(
            chat("A", marti=to("All Streaming")),
            xml("CHAT", "b-t-f", archived),
            xml("OFFER", "b-f-t-r", archived),
            xml("NOTICE", "t-x-m-c", archived),
            xml("EMERGENCY", "b-a-x", archived),
            xml("OTHER", "y-x", ""),
            marker("DIRECTED", marti=to("B")),
            marker("LOST", marti=to("NOBODY")),
            xml("ARCHIVED", "y-x", archived),
            *(
                xml(type_, type_)
                for type_ in ("b-m-p-w", "b-m-r", "b-r-f-h-c", "b-i-v", "u-d-f", "u-rb-a", "u-r-b-c-c")
            ),
        )
        self.assertEqual(
            self.connect().shown(),
            ["A", "B", "ARCHIVED", "b-m-p-w", "b-m-r", "b-r-f-h-c", "b-i-v", "u-d-f", "u-rb-a", "u-r-b-c-c"],
        )

    def test_too_large(self) -> None:
        """A client that takes events up to a size is shown only such, to the byte, and of a contact all or nothing."""
        a, b = self.team("A", "B")
        b.leave()
        size = len(event(sa("A", "A")).xml)
        a.say(marker("LARGE", extra="x" * size), marker("SMALL"))
        self.assertEqual(self.connect(max_bytes=size).shown(), ["A", "B", "-B", "SMALL"])
        self.assertEqual(self.connect(max_bytes=size - 1).shown(), ["SMALL"])
        self.assertEqual(self.connect().shown(), ["A", "B", "-B", "LARGE", "SMALL"])

    def test_item_until_somebody_connects_for_it(self) -> None:
        """A position that came from elsewhere is an item until its own client connects, and is shown once."""
        speaker = self.router.speaker(ANONYMOUS, MemorySink(), "udp")
        speaker.publish(event(sa("A", "A")))
        self.assertEqual(self.connect().shown(), ["A"])
        a = self.join("A")
        speaker.publish(event(sa("A", "A")))
        self.assertEqual((self.connect().shown(), self.kept(Item)), (["A"], []))
        a.leave()
        self.assertEqual(self.connect().shown(), ["A", "-A"])

    def test_nobody_hides_an_item_of_other_groups(self) -> None:
        """Somebody who reports the uid of an item of other groups neither removes it nor keeps it from being shown."""
        a = self.connect(principal("a", ["g1"], []))
        a.say(marker("M"))
        self.join("M", proved=principal("x", ["g2"], []))
        self.assertEqual(self.connect(principal("y", [], ["g1"])).sink.replayed[0].type, "a-h-G")
        a.say(marker("M"))
        self.assertEqual(len(self.router.retained), 1)
        self.join("M2", proved=principal("z", ["g1"], []))
        a.say(marker("M2"))
        self.assertEqual(len(self.router.retained), 1, "while who is of the group is there for it")

    def test_restart(self) -> None:
        """After a restart a newcomer is shown the same, who was there as gone, and nothing that was deleted."""
        a, b = self.team("A", "B")
        a.say(marker("M"), marker("GONE"), emergency("A", "A"))
        b.say(delete("GONE"))
        a.leave()
        b.say(chat("B", marti=to("A")))
        for kind, keys in (
            (Item, ["M"]),
            (Tombstone, ["GONE"]),
            (KnownContact, ["A", "B"]),
            (Emergency, ["A-9-1-1"]),
            (MissedChat, ["1"]),
        ):
            self.assertEqual(self.kept(kind), keys)
        self.begin()
        newcomer = self.connect()
        self.assertEqual(newcomer.shown(), ["A-9-1-1", "A", "-A", "B", "-B", "M"])
        newcomer.say(marker("GONE"))
        self.assertEqual(self.kept(Item), ["M"])
        self.assertEqual(self.join("A").types()[-1], "b-t-f")

    def test_prune(self) -> None:
        """What is stale, deleted or away for long leaves memory and store by and by."""
        a, b = self.team("A", "B")
        a.say(marker("M", stale=60), delete("X"))
        b.leave()
        a.say(chat("A", marti=to("B")))
        self.clock.advance(8 * 86_400)
        self.router.prune()
        self.assertEqual([self.kept(kind) for kind in (Item, Tombstone, KnownContact, MissedChat)], [[], [], ["A"], []])
        self.assertEqual((len(self.router.retained), len(self.router.chats)), (0, 0))

    def test_max_persist_ttl(self) -> None:
        """max_persist_ttl caps how long items are shown."""
        self.begin(max_persist_ttl=10)
        self.connect().say(marker())
        self.clock.advance(9)
        self.assertEqual(self.connect().shown(), ["MARK-1"])
        self.clock.advance(1)
        self.assertEqual(self.connect().shown(), [])


class DeleteTests(RouterCase):
    """What a delete takes off the map."""

    def shown(self, *groups: str) -> list[str]:
        """Tell what a newcomer of some groups, or of none in particular, is shown."""
        return self.connect(principal("n", [], groups) if groups else ANONYMOUS).shown()

    def test_by_anybody_of_the_group(self) -> None:
        """Anybody of the group deletes an item, forced or not, directed or not; the delete reaches whom it is for."""
        a, b, c = self.team("A", "B", "C")
        for keys in ({}, {"forced": False}, {"marti": to("C")}, {"marti": to("NOBODY")}):
            a.say(marker("M", now=self.clock.seconds()))
            b.heard(), c.heard()
            b.say(delete("M", now=self.clock.seconds(), **keys))
            self.assertNotIn("M", self.shown())
            self.assertEqual(c.types(), [] if keys.get("marti") == to("NOBODY") else ["t-x-d-d"])
            self.clock.advance(1)

    def test_by_another_group(self) -> None:
        """Nobody deletes an item of a group that it does not speak to, but the delete is routed."""
        a = self.connect(principal("a", ["g1"], ["g2"]))
        a.say(marker("M"))
        self.connect(principal("b", ["g2"], ["g1"])).say(delete("M"))
        self.assertEqual((a.types(), self.shown("g1")), (["t-x-d-d"], ["M"]))
        self.connect(principal("c", ["g1", "g2"], [])).say(delete("M"))
        self.assertEqual(self.shown("g1"), [])

    def test_who_is_there(self) -> None:
        """Nobody deletes somebody who is connected, nor the report that it sends next."""
        a, b = self.team("A", "B")
        b.say(delete("A"))
        self.assertEqual(self.shown(), ["A", "B"])
        a.say(sa("A", "A"))
        self.assertEqual(self.shown(), ["A", "B"])

    def test_who_was_there(self) -> None:
        """Who has left can be deleted, and comes back only itself."""
        a, b = self.team("A", "B")
        a.leave()
        b.say(delete("A"))
        self.assertEqual(self.shown(), ["B"])
        speaker = self.router.speaker(ANONYMOUS, MemorySink(), "udp")
        speaker.publish(event(sa("A", "A")))
        self.assertEqual(self.shown(), ["B"])
        self.join("A")
        self.assertEqual(sorted(self.shown()), ["A", "B"])

    def test_emergency(self) -> None:
        """Nobody deletes an emergency."""
        a, b = self.team("A", "B")
        a.say(emergency("A", "A"))
        for peer in (a, b):
            peer.say(delete("A-9-1-1"))
        self.assertIn("A-9-1-1", self.shown())

    def test_nothing_in_particular(self) -> None:
        """A delete of nothing is dropped, one of something unknown is passed on."""
        monitor = self.connect(wants_everything=True)
        a, b = self.team("A", "B")
        monitor.heard()
        a.say(xml("takPing", "t-x-d-d"), xml("takPing", "t-x-d-d", "<link/>"), delete("UNKNOWN"))
        self.assertEqual((b.uids(), monitor.uids()), (["delete-UNKNOWN"], ["delete-UNKNOWN"]))

    def test_old_copy(self) -> None:
        """A copy that is not newer than the delete reaches everybody but does not come back for newcomers."""
        a, b = self.team("A", "B")
        a.say(marker("M"), delete("M"), marker("M"))
        self.assertEqual((b.uids(), self.shown()), (["M", "delete-M", "M"], ["A", "B"]))


class AlertTests(RouterCase):
    """Whom the repeats of an emergency reach."""

    def repeat(self) -> None:
        """Let a period pass."""
        self.clock.advance(10)
        self.clock.advance(0)

    def test_not_who_raised_it(self) -> None:
        """The repeats reach everybody but who raised it: its connection, or the one that it has now."""
        a, b = self.team("A", "B")
        a.say(emergency("A", "A"))
        self.repeat()
        self.assertEqual((a.types(), b.types()), ([], ["b-a-o-tbl"] * 2))
        a.leave()
        self.repeat()
        again = self.join("A")
        again.heard(), b.heard()
        self.repeat()
        self.assertEqual((again.types(), b.types()), ([], ["b-a-o-tbl"]))

    def test_raised_by_nobody_known(self) -> None:
        """The repeats of what somebody unknown raised reach everybody."""
        b = self.join("B")
        self.router.speaker(ANONYMOUS, MemorySink(), "udp").publish(event(emergency("A", "A")))
        self.repeat()
        self.assertEqual(b.types(), ["b-a-o-tbl"] * 2)

    def test_by_callsign_or_by_uid(self) -> None:
        """One for somebody stays with that one, in whichever way it is named."""
        a, b, c = self.team("A", "B", "C")
        for marti in (to("B"), '<dest uid="B"/>'):
            a.say(emergency("A", "A", marti=marti))
            self.repeat()
            self.assertEqual((a.types(), len(b.heard()), c.types()), ([], 2, []), marti)
            self.assertNotIn("A-9-1-1", self.connect().shown())

    def test_raised_by_somebody_without_a_name(self) -> None:
        """A connection that never said who it is does not get its own back either."""
        b, somebody = self.join("B"), self.connect()
        somebody.say(xml("E", "b-a-o-tbl", "<emergency/>"))
        self.repeat()
        self.assertEqual((somebody.types(), b.types()), ([], ["b-a-o-tbl"] * 2))

    def test_group(self) -> None:
        """An emergency for one group is repeated to that group, also to its newcomers."""
        a = self.connect(principal("a", ["g1", "g2"], []))
        one, two = (self.connect(principal(name, [], [name])) for name in ("g1", "g2"))
        a.say(emergency("A", "A", marti='<dest group="g1"/>'))
        self.repeat()
        self.assertEqual((one.types(), two.types()), (["b-a-o-tbl"] * 2, []))
        self.assertEqual(self.connect(principal("x", [], ["g1"])).shown(), ["A-9-1-1"])
        self.assertEqual(self.connect(principal("x", [], ["g2"])).shown(), [])

    def test_directed(self) -> None:
        """One for some is repeated to those, to each once, if they may hear it, and shown to no newcomer."""
        a = self.join("A", proved=principal("a", ["g1"], ["g1"]))
        b = self.join("B", proved=principal("b", ["g1"], ["g1"]))
        c = self.join("C", proved=principal("c", ["g1"], ["g2"]))
        for peer in (a, b, c):
            peer.heard()
        a.say(emergency("A", "A", marti=to("A", "B", "C", "X") + '<dest uid="B"/><dest uid="Y"/>'))
        self.assertEqual((a.types(), b.types(), c.types()), (["b-a-o-tbl"], ["b-a-o-tbl"], []))
        self.repeat()
        self.assertEqual((a.types(), b.types(), c.types()), ([], ["b-a-o-tbl"], []))
        self.assertNotIn("A-9-1-1", self.connect(principal("n", [], ["g1"])).shown())

    def test_cancel_is_shown(self) -> None:
        """Who comes just after a cancel is told of it first."""
        a, _ = self.team("A", "B")
        a.say(emergency("A", "A"), cancel("A", "A"))
        newcomer = self.connect()
        self.assertEqual(newcomer.sink.replayed[0].type, "b-a-o-can")


class FindTests(RouterCase):
    """What is known of a uid."""

    def find(self, uid: str, *groups_out: str) -> bytes | None:
        """Find an event as who hears some groups."""
        found = self.router.find(uid, frozenset(groups_out or (ANON_GROUP,)))
        return found.xml if found is not None else None

    def test_contact(self) -> None:
        """Of a contact it is the latest report to everybody, online or not, until a delete takes it off the map."""
        a, b = self.team("A", "B")
        report = sa("A", "A", now=NOW + 5)
        a.say(report, sa("A", "SECRET", now=NOW + 6, marti=to("B")))
        self.assertEqual(self.find("A"), event(report).xml)
        self.assertEqual([self.find("A", "other"), self.find("a")], [None, None])
        a.leave()
        self.assertEqual(self.find("A"), event(report).xml)
        b.say(delete("A"))
        self.assertIsNone(self.find("A"))

    def test_incognito(self) -> None:
        """Nothing is found of who wants not to be seen, until that ends."""
        (a,) = self.team("A")
        a.say(control("t-x-c-i-e"), sa("A", "A", now=NOW + 5))
        self.assertIsNone(self.find("A"))
        a.say(control("t-x-c-i-d"), sa("A", "A", now=NOW + 6))
        self.assertEqual(self.find("A"), event(sa("A", "A", now=NOW + 6)).xml)

    def test_item(self) -> None:
        """An item is found while it is not stale, by who hears one of the groups that it was said to."""
        a = self.connect(principal("a", ["g1", "g2"], []))
        a.say(marker("M", stale=60), marker("DIRECTED", marti=to("B")))
        self.assertEqual(self.find("M", "g2", "g3"), event(marker("M", stale=60)).xml)
        self.assertEqual([self.find("M", "g3"), self.find("M"), self.find("DIRECTED", "g1")], [None] * 3)
        self.clock.advance(60)
        self.assertIsNone(self.find("M", "g2"))

    def test_emergency(self) -> None:
        """An emergency for everybody is found as it was raised, until it is canceled; one for some is not."""
        a, *_ = self.team("A", "B")
        a.say(emergency("A", "A"), emergency("B", "B", marti=to("B")))
        self.clock.advance(30)
        self.assertEqual(self.find("A-9-1-1"), event(emergency("A", "A")).xml)
        self.assertEqual([self.find("A-9-1-1", "other"), self.find("B-9-1-1")], [None, None])
        a.say(cancel("A", "A"))
        self.assertIsNone(self.find("A-9-1-1"))

    def test_newest(self) -> None:
        """If a uid is several things to different groups, who hears both finds the newer."""
        a = self.connect(principal("a", ["g1"], []))
        a.say(marker("M", now=NOW + 1))
        self.join("M", proved=principal("x", ["g2"], []))
        self.assertEqual(self.find("M", "g1", "g2"), event(marker("M", now=NOW + 1)).xml)
        self.assertEqual(self.find("M", "g2"), event(sa("M", "M")).xml)
        self.join("M", proved=principal("x", ["g2"], []), now=NOW + 2)
        self.assertEqual(self.find("M", "g1", "g2"), event(sa("M", "M", now=NOW + 2)).xml)


class StopTests(RouterCase):
    def test_stop(self) -> None:
        """When the server stops what was said is handed over, nobody is announced as gone, and nothing ticks on."""
        a, b = self.team("A", "B")
        self.join("C").leave(clean=False)
        b.heard()
        a.subscription.publish(event(emergency("A", "A")))
        a.subscription.publish(event(marker()))
        self.router.stop()
        self.assertEqual([each.uid for each in b.sink.events], ["A-9-1-1", "MARK-1"])
        b.heard()
        a.leave()
        self.assertEqual(list(self.router.subscriptions), [b.subscription])
        self.router.contacts.save()
        self.assertEqual((b.heard(), self.clock.getDelayedCalls()), ([], []))

    def test_left(self) -> None:
        """Who has left hears nothing more, and nothing is left of it but what is known of the contact."""
        a, b = self.team("A", "B")
        b.leave()
        a.say(marker())
        self.assertEqual(b.heard(), [])
        a.leave()
        self.assertEqual((len(self.router.subscriptions), len(self.router.audiences)), (0, 0))

    def test_joined_is_logged(self) -> None:
        """The log says who joined, as whom, from where, with which software."""
        self.join("A", "FOX", principal("alice"))
        self.connect().say(xml("B", "a-f-G", '<contact callsign="BEAR" endpoint=""/>'))
        self.assertEqual(
            [line for line in self.log() if "joined" in line],
            [
                "FOX (A) joined as alice from peer, ATAK-CIV:4.10.0.5",
                "BEAR (B) joined as anonymous from peer, unknown software",
            ],
        )


class WitnessTests(RouterCase):
    def setUp(self) -> None:
        super().setUp()
        self.told: list[tuple[str, frozenset[str], bool]] = []
        self.router.witness = self

    def heard(self, event: Event, groups: frozenset[str], source: Subscription, now: float) -> None:
        """Be told."""
        destinations = event.detail.destinations
        self.assertEqual(now, self.clock.seconds())
        self.told.append((event.uid, groups, destinations is not None and destinations.explicit))

    def test_told(self) -> None:
        """A witness is told of what clients say, once each, to which groups, and whether it was for somebody."""
        alice = Peer(self, principal("alice", ["red", "blue"]))
        alice.say(
            sa("A", "ALPHA"), marker("M"), marker("N", marti='<dest group="red"/>'), marker("P", marti=to("BRAVO"))
        )
        alice.say(chat("A"), chat("A", number=2, room="ALPHA", id_="A", uids=("A",)), emergency("A", "ALPHA"))
        both = frozenset({"red", "blue"})
        self.assertEqual(
            self.told,
            [
                ("A", both, False),
                ("M", both, False),
                ("N", {"red"}, False),
                ("P", both, True),
                ("GeoChat.A.All Chat Rooms.m-1", both, False),
                ("GeoChat.A.A.m-2", both, True),
                ("A-9-1-1", both, False),
            ],
        )

    def test_not_told(self) -> None:
        """It is not told of what is not passed on, nor of what the server says itself."""
        alice = Peer(self, principal("alice"))
        alice.say(emergency("A", "ALPHA"), sa("A", "ALPHA"))
        self.told.clear()
        alice.say(marker("G", marti='<dest group="secret"/>'), control("t-x-c-i-e"), marker("INCOGNITO"))
        self.clock.advance(60)
        alice.leave()
        self.assertEqual(self.told, [])
