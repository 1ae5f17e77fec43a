from __future__ import annotations

from collections.abc import Iterable, Iterator

from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import Principal
from taky_twisted.routing.groups import NoGroupLeft
from taky_twisted.routing.outbox import Outbox, Replay
from taky_twisted.routing.records import MissedChat
from taky_twisted.routing.switching import show, switch
from taky_twisted.takproto.batch import Batch
from tests.fakes import MemorySink, principal
from tests.routing.router_case import RouterCase
from tests.samples import chat, control, emergency, event, marker, sa, to

BLUE, RED, BOTH = frozenset({"Blue"}), frozenset({"Red"}), frozenset({"Blue", "Red"})


def alice(name: str = "alice") -> Principal:
    """Make somebody with two groups both ways."""
    return principal(name, BOTH, BOTH)


def what(events: list[Event]) -> list[str]:
    """Tell uids; of departures whose they are, of notices the type."""
    return [
        f"-{each.detail.link_uid}" if each.type == "t-x-d-d" else each.type if each.type == "t-x-g-c" else each.uid
        for each in events
    ]


class SwitchingCase(RouterCase):
    """Alice has two groups; Blue and red hear and speak in one each."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("A", proved=alice())
        self.blue = self.join("B", proved=principal("blue", BLUE, BLUE))
        self.red = self.join("R", proved=principal("red", RED, RED))
        self.quiet()

    def quiet(self) -> None:
        """Forget what was said so far."""
        for peer in (self.alice, self.blue, self.red):
            peer.heard()
            peer.sink.replayed.clear()

    def switch(self, on: frozenset[str], uid: str = "", out: frozenset[str] | None = None) -> None:
        """Let alice switch on these groups and no others."""
        switch(self.router, alice(), uid, on, on if out is None else out, self.clock.seconds())


class SwitchTests(SwitchingCase):
    def test_off_is_deaf_and_dumb(self) -> None:
        """Where somebody has switched off a group it neither hears nor speaks; in the others nothing changes."""
        self.switch(BLUE)
        self.quiet()
        self.alice.say(marker("M"), sa("A", "A"))
        self.assertEqual((self.blue.uids(), self.red.uids()), (["M", "A"], []))
        self.red.say(marker("N"), sa("R", "R"), marker("O", marti=to("A")), marker("P", marti='<dest uid="A"/>'))
        self.blue.say(marker("Q"))
        self.assertEqual(self.alice.uids(), ["Q"])

    def test_naming_a_group_that_is_off(self) -> None:
        """A group that is switched off cannot be spoken to by its name either."""
        self.switch(BLUE)
        self.quiet()
        self.alice.say(marker("M", marti='<dest group="Red"/>'))
        self.assertEqual((self.blue.uids(), self.red.uids()), ([], []))

    def test_on_again(self) -> None:
        """What is switched on again is heard and spoken to as before."""
        self.switch(BLUE)
        self.switch(BOTH)
        self.quiet()
        self.alice.say(marker("M"))
        self.red.say(marker("N"))
        self.assertEqual((self.blue.uids(), self.red.uids(), self.alice.uids()), (["M"], ["M"], ["N"]))
        self.assertEqual(self.alice.subscription.principal, alice())

    def test_one_direction(self) -> None:
        """One may go on hearing a group that one does not speak to, and the other way round."""
        self.switch(BLUE, out=BOTH)
        self.quiet()
        self.alice.say(marker("M"))
        self.red.say(marker("N"))
        self.assertEqual((self.red.uids(), self.alice.uids()), ([], ["N"]))
        self.switch(BOTH, out=BLUE)
        self.quiet()
        self.alice.say(marker("O"))
        self.red.say(marker("P"))
        self.assertEqual((self.red.uids(), self.alice.uids()), (["O"], []))

    def test_nobody_in_particular_left(self) -> None:
        """With no group at all nothing is switched and nobody is told."""
        with self.assertRaises(NoGroupLeft):
            self.switch(frozenset())
        self.assertEqual(self.alice.heard(), [])

    def test_notice(self) -> None:
        """A client is told once per change that its groups changed, by an event as TAK Server spells it."""
        self.switch(BLUE)
        (notice,) = self.alice.heard()
        self.assertEqual((notice.type, notice.how), ("t-x-g-c", "h-g-i-g-o"))
        self.assertIn(b'<detail><link relation="p-p"/></detail>', notice.xml)
        self.switch(BLUE)
        self.assertEqual(self.alice.heard(), [], "nothing changed")
        self.assertNotIn("t-x-g-c", [*self.blue.types(), *self.red.types()])

    def test_nothing_pending_is_lost_or_doubled(self) -> None:
        """What was said in the turn before the switch is heard once by whom it was for then; the rest is not."""
        self.red.subscription.publish(event(marker("R1")))
        self.blue.subscription.publish(event(marker("B1")))
        self.alice.subscription.publish(event(marker("A1")))
        self.red.subscription.publish(event(chat("R", marti=to("A"))))
        self.switch(BLUE)
        self.red.subscription.publish(event(marker("R2")))
        self.blue.subscription.publish(event(marker("B2")))
        self.alice.subscription.publish(event(marker("A2")))
        heard = what(self.alice.heard())
        self.assertEqual(sorted(heard[:3]), sorted(["GeoChat.R.All Chat Rooms.m-1", "R1", "B1"]))
        self.assertEqual(heard[3:], ["t-x-g-c", "B2"])
        self.assertEqual(what(self.blue.heard()), ["A1", "A2"])
        self.assertEqual(what(self.red.heard()), ["A1", "-A"])

    def test_who_no_longer_hears_is_told(self) -> None:
        """Who cannot hear a contact any more sees it leave; who still can does not, and nobody else hears of it."""
        both = self.join("C", proved=alice("carol"))
        self.quiet()
        both.heard()
        self.switch(BLUE)
        self.assertEqual([what(peer.heard()) for peer in (self.blue, self.red, both)], [[], ["-A"], []])
        self.assertEqual(what(self.alice.heard()), ["t-x-g-c"], "it does not hear of its own departure")
        self.switch(BOTH)
        self.assertEqual([what(peer.heard()) for peer in (self.blue, self.red, both)], [[], ["A"], []])

    def test_incognito(self) -> None:
        """Who is not to be seen neither leaves nor comes by switching."""
        self.alice.say(control("t-x-c-i-e"))
        self.quiet()
        self.switch(BLUE)
        self.switch(BOTH)
        self.assertEqual(self.red.heard(), [])

    def test_nothing_reported(self) -> None:
        """Who has told only some about itself is not shown to others by switching."""
        peer = self.connect(alice())
        peer.say(sa("S", "S", marti=to("B")))
        self.quiet()
        self.switch(BLUE, "S")
        self.switch(BOTH, "S")
        self.assertEqual(self.red.heard(), [])

    def test_too_large_to_be_shown(self) -> None:
        """Who reads only so much is not sent more by somebody's switching."""
        small = self.connect(principal("small", RED, RED), max_bytes=300)
        self.switch(BLUE)
        self.assertEqual(len(small.heard()), 0, "a departure has more than 300 bytes as well")
        self.switch(BOTH)
        self.assertEqual(small.heard(), [])

    def test_newcomers(self) -> None:
        """Newcomers are shown somebody only where it has its groups switched on."""
        self.switch(BLUE)
        self.assertNotIn("A", self.connect(principal("x", RED, RED)).shown())
        self.assertIn("A", self.connect(principal("y", BLUE, BLUE)).shown())
        self.switch(BOTH)
        self.assertIn("A", self.connect(principal("x", RED, RED)).shown())

    def test_kept(self) -> None:
        """After a restart too newcomers are shown somebody only where it had its groups switched on."""
        self.clock.advance(10)
        self.switch(BLUE)
        self.clock.advance(10)
        self.begin()
        self.assertNotIn("A", self.connect(principal("x", RED, RED)).shown())
        self.assertIn("A", self.connect(principal("y", BLUE, BLUE)).shown())

    def test_direct_messages(self) -> None:
        """Who writes to somebody in a group that it has switched off is told that it was not heard."""
        self.switch(BLUE)
        self.quiet()
        self.red.say(chat("R", marti=to("A")))
        self.assertEqual(self.red.types(), ["b-t-f-s"])
        self.blue.say(chat("B", marti=to("A")))
        self.assertEqual((self.alice.types(), self.blue.types()), (["b-t-f"], []))
        self.alice.leave()
        self.red.say(chat("R", number=2, marti=to("A")))
        self.assertEqual(self.red.types()[-1], "b-t-f-s", "nor does it wait")

    def test_shown_what_is_on_the_map(self) -> None:
        """Who switches on a group is shown what is on the map there, and nothing that it has already, nor itself."""
        self.switch(BLUE)
        self.red.say(marker("RM"), emergency("R", "R"))
        self.blue.say(marker("BM"))
        self.quiet()
        self.switch(BOTH)
        self.assertEqual(self.alice.shown(), ["R-9-1-1", "R", "RM"])

    def test_an_area_of_its_own(self) -> None:
        """What a client's own filter holds back is not shown to it either."""
        self.switch(BLUE)
        self.red.say(marker("RM"))
        self.quiet()
        self.alice.subscription.filter = lambda event: event.uid == "R"
        self.switch(BOTH)
        self.assertEqual(self.alice.shown(), ["R"])

    def test_filter_stays(self) -> None:
        """A client's filter is not lost by switching."""
        self.router.rejoin(self.alice.subscription, lambda event: event.uid == "M1")
        self.switch(BLUE)
        self.quiet()
        self.blue.say(marker("M1"), marker("M2"))
        self.assertEqual(self.alice.uids(), ["M1"])

    def test_report_to_some(self) -> None:
        """A report that was for one group only does not get around by switching on another."""
        self.alice.say(sa("A", "A", marti='<dest group="Blue"/>'))
        self.switch(BLUE)
        self.switch(BOTH)
        self.assertNotIn("A", self.connect(principal("x", RED, RED)).shown())
        self.assertIn("A", self.connect(principal("y", BLUE, BLUE)).shown())
        self.switch(RED)
        self.assertNotIn("A", self.connect(principal("x", RED, RED)).shown())

    def test_all_streams_or_one(self) -> None:
        """Without a device all streams of somebody switch, also one that has said nothing; with one only that."""
        second, silent = self.join("A2", proved=alice()), self.connect(alice())
        other = self.join("A3", proved=alice("bob"))
        peers = (self.alice, second, silent, other)
        for peer in peers:
            peer.heard()
        self.switch(BLUE, "A2")
        self.assertEqual([peer.subscription.principal.groups_out for peer in peers], [BOTH, BLUE, BOTH, BOTH])
        self.assertEqual(["t-x-g-c" in peer.types() for peer in peers], [False, True, False, False])
        self.switch(RED)
        self.assertEqual([peer.subscription.principal.groups_out for peer in peers], [RED, RED, RED, BOTH])
        self.assertEqual(["t-x-g-c" in peer.types() for peer in peers], [True, True, True, False])

    def test_further_uids(self) -> None:
        """All uids that somebody speaks for go where it goes; one that somebody else speaks for now does not."""
        self.alice.say(sa("A2", "A2"), sa("A3", "A3"))
        self.connect(principal("x", RED, RED)).say(sa("A3", "A3"))
        self.quiet()
        self.switch(BLUE)
        self.assertEqual(what(self.red.heard()), ["-A", "-A2"])
        self.assertIn("A3", self.connect(principal("y", RED, RED)).shown())

    def test_a_gateway(self) -> None:
        """The first uid of a stream is its device; a further one is not."""
        self.alice.say(sa("A2", "A2"))
        self.switch(BLUE, "A2")
        self.assertEqual(self.alice.subscription.principal.groups_out, BOTH)

    def test_monitor(self) -> None:
        """A monitor hears everything whatever is switched off; it speaks only where its owner does."""
        monitor = self.connect(alice(), wants_everything=True)
        self.switch(BLUE)
        self.quiet()
        monitor.heard()
        self.red.say(marker("N"))
        monitor.say(marker("M"))
        self.assertEqual((monitor.uids(), self.blue.uids(), self.red.uids()), (["N"], ["M"], []))

    def test_links(self) -> None:
        """Another server is not bothered with notices."""
        link = self.connect(alice(), from_server=True)
        self.switch(BLUE)
        self.assertEqual(link.heard(), [])
        self.assertEqual(link.subscription.principal.groups_out, BLUE)

    def test_closed_by_what_was_pending(self) -> None:
        """Who is closed because it reads too slowly, while it is being switched, is not put back among the living."""

        class Slow(MemorySink):
            def deliver(self, batch: Batch) -> None:
                peer.close()

        self.switch(BLUE, "A2")
        self.switch(BOTH, "A")
        peer = self.router.subscribe(alice(), Slow(), "slow")
        self.blue.subscription.publish(event(marker("M")))
        peer.publish(event(sa("A2", "A2")))
        self.assertTrue(peer.closed)
        self.assertIsNone(peer.audience)
        peer = self.router.subscribe(alice(), Slow(), "slow")
        self.blue.subscription.publish(event(marker("M")))
        self.switch(BLUE)
        self.assertTrue(peer.closed)
        self.assertIsNone(peer.audience)
        self.red.say(marker("N"))

    def test_unsent(self) -> None:
        """What was directed to somebody in a group and has not left goes to nobody who does not hear that group."""
        other = self.join("A", proved=principal("other", BLUE, BLUE))
        held = event(chat("R", marti=to("A")))
        self.alice.sink.waiting = [held]
        self.switch(BLUE)
        other.heard()
        self.alice.leave()
        self.assertNotIn("b-t-f", other.types())

    def test_unsent_to_who_comes_back(self) -> None:
        """What was directed to a device and has not left is not lost because it has switched off a group.

        It was said to the device when it heard that; a receipt or the offer of a file is said only once.
        """
        self.switch(BLUE)
        self.alice.sink.waiting = [event(chat("B", number=1, marti=to("A"))), event(marker("OFFER", marti=to("A")))]
        again = self.join("A", proved=alice())
        self.assertEqual(again.subscription.principal.groups_out, BLUE)
        self.assertEqual([each.type for each in again.heard()], ["b-t-f", "a-h-G"])
        self.assertEqual(self.kept(MissedChat), [])

    def test_missed_chat(self) -> None:
        """Chat that waits for somebody who is away waits on as long as its group is switched off, and is not lost."""
        self.alice.leave()
        self.red.say(chat("R", number=1, marti=to("A")))
        self.blue.say(chat("B", number=2, marti=to("A")))
        self.switch(BLUE)
        alice = self.join("A", proved=self.alice.subscription.granted)
        self.assertEqual([each.uid[-3:] for each in alice.heard() if each.type == "b-t-f"], ["m-2"])
        self.assertEqual(len(self.kept(MissedChat)), 1)
        self.switch(BOTH)
        self.assertEqual([each.uid[-3:] for each in alice.heard() if each.type == "b-t-f"], ["m-1"])
        self.assertEqual(self.kept(MissedChat), [])


class IdentifiedTests(SwitchingCase):
    def test_device(self) -> None:
        """A device has its own groups from its first report on: that goes to no other, and no message gets lost."""
        self.switch(BLUE, "A2")
        self.switch(BOTH, "A")
        self.quiet()
        second = self.join("A2", proved=alice())
        self.assertEqual(second.subscription.principal.groups_out, BLUE)
        self.assertEqual((self.blue.uids(), self.red.uids()), (["A2"], []))
        self.assertNotIn("A2", self.connect(principal("x", RED, RED)).shown())
        self.red.say(marker("N"))
        self.assertEqual(second.uids(), [])

    def test_device_with_more(self) -> None:
        """Where a device has more groups than was thought before it said who it is, it is shown what is there."""
        self.switch(RED, "A2")
        self.switch(BLUE, "A")
        self.red.say(marker("RM"))
        self.quiet()
        self.alice.leave()
        self.quiet()
        second = self.connect(alice())
        self.assertEqual(second.subscription.principal.groups_out, BLUE, "what was chosen last")
        self.assertNotIn("RM", second.shown())
        second.sink.replayed.clear()
        second.say(sa("A2", "A2"))
        self.assertEqual(second.shown(), ["R", "RM"])
        self.assertEqual(what(second.heard()), [])
        self.assertEqual((self.red.uids(), self.blue.uids()), (["A2"], []))

    def test_report_to_one_group(self) -> None:
        """A first report to one group only goes to no other that the device turns out to have switched on."""
        self.switch(BOTH, "A2")
        self.switch(BLUE)
        self.switch(BOTH, "A2")
        self.alice.leave()
        self.quiet()
        self.switch(BLUE, "A")
        second = self.connect(alice())
        self.assertEqual(second.subscription.principal.groups_in, BLUE)
        second.say(sa("A2", "A2", marti='<dest group="Blue"/>'))
        self.assertEqual(second.subscription.principal.groups_in, BOTH)
        self.assertEqual((self.blue.uids(), self.red.uids()), (["A2"], []))
        self.assertNotIn("A2", self.connect(principal("x", RED, RED)).shown())

    def test_report_to_a_group_that_is_off(self) -> None:
        """A first report to a group that the device has switched off reaches nobody."""
        self.switch(BLUE, "A2")
        self.switch(BOTH, "A")
        self.quiet()
        self.connect(alice()).say(sa("A2", "A2", marti='<dest group="Red"/>'))
        self.assertEqual((self.blue.uids(), self.red.uids()), ([], []))

    def test_restart(self) -> None:
        """After a restart everybody has switched on what it had before."""
        self.switch(BLUE, "A2")
        self.switch(RED, "A")
        self.begin()
        for uid, groups in (("A", RED), ("A2", BLUE), ("A3", BOTH)):
            self.assertEqual(self.join(uid, proved=alice()).subscription.principal.groups_in, groups, uid)


class ShowTests(SwitchingCase):
    def test_whole_map(self) -> None:
        """Who asks is shown again what is on the map of its groups, but neither itself nor what it switched off."""
        self.switch(BLUE)
        self.red.say(marker("RM"))
        self.blue.say(marker("BM"))
        self.quiet()
        show(self.router, self.alice.subscription, BOTH)
        self.assertEqual(self.alice.shown(), ["B", "BM"])

    def test_slow_reader(self) -> None:
        """However often a slow reader asks, one showing waits for it besides the one that is under way."""
        replays: list[Iterator[Replay]] = []
        self.alice.sink.replay = replays.append  # type: ignore[assignment,method-assign]
        self.switch(BLUE)
        self.red.say(marker("RM"))
        self.blue.say(marker("BM"))
        for _ in range(1000):
            show(self.router, self.alice.subscription, BLUE)
        under_way = replays[0]
        self.assertEqual({id(each) for each in replays}, {id(under_way)})
        first = next(under_way)
        self.switch(BOTH)
        for _ in range(1000):
            show(self.router, self.alice.subscription, BOTH)
        waiting = replays[-1]
        self.assertEqual({id(each) for each in replays}, {id(under_way), id(waiting)})
        self.assertEqual([first[0], *(uid for uid, _ in under_way)], ["B", "BM"])
        self.assertEqual([uid for uid, _ in waiting], ["B", "R", "RM", "BM"])
        show(self.router, self.alice.subscription, BLUE)
        self.assertIsNot(replays[-1], waiting)

    def test_forgotten_in_between(self) -> None:
        """A client that forgets its map when its groups change is shown all of it, however slowly it reads."""
        outbox = Outbox(1 << 20, 1.0)
        self.blue.say(marker("M"), marker("N"))
        self.alice.sink.replay = outbox.replay  # type: ignore[method-assign]
        self.alice.sink.deliver = lambda batch: outbox.add(batch, self.clock.seconds())  # type: ignore[method-assign,assignment]
        show(self.router, self.alice.subscription, BLUE)
        self.blue.say(marker("M"))
        self.switch(BOTH, out=RED)
        self.switch(BOTH)
        show(self.router, self.alice.subscription, BOTH)
        told = [each for batch in iter(outbox.take, None) for each in what(list(batch.events))]
        self.assertEqual(told.count("t-x-g-c"), 2)
        forgotten = len(told) - told[::-1].index("t-x-g-c")
        self.assertLessEqual({"M", "N", "B", "R"}, set(told[forgotten:]))

    def test_switched_off_while_it_waits(self) -> None:
        """What is switched off before a slow reader got to it is not shown any more."""
        replays: list[Iterator[Replay]] = []
        self.switch(BLUE)
        self.red.say(marker("RM"))
        self.blue.say(marker("BM"))
        self.alice.sink.replay = replays.append  # type: ignore[assignment,method-assign]
        show(self.router, self.alice.subscription, BLUE)
        self.switch(BOTH)
        self.switch(BLUE)
        self.assertEqual([uid for waiting in dict.fromkeys(replays) for uid, _ in waiting], ["B", "BM"])

    def test_newcomer_who_switches(self) -> None:
        """Nor is a newcomer who reads slowly."""
        self.red.say(marker("RM"))
        self.blue.say(marker("BM"))
        replays: list[Iterator[Replay]] = []

        class Slow(MemorySink):
            def replay(self, entries: Iterable[Replay]) -> None:
                replays.append(iter(entries))

        self.router.subscribe(alice(), Slow(), "slow")
        self.switch(BLUE)
        self.assertEqual([uid for waiting in replays[:1] for uid, _ in waiting if uid != "A"], ["B", "BM"])

    def test_nothing(self) -> None:
        """Nothing is shown to monitors and other servers, nor where nothing is wanted."""
        for keys in ({"wants_everything": True}, {"from_server": True}, {}):
            peer = self.connect(alice(), **keys)
            peer.sink.replayed.clear()
            show(self.router, peer.subscription, frozenset() if not keys else BOTH)
            self.assertEqual(peer.shown(), [], keys)
