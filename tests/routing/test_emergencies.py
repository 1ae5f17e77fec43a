from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.routing.emergencies import MAX_ALERT_BYTES, Alert, Emergencies
from taky_twisted.routing.records import Emergency, Groups
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import LogLines, MemorySink, Site, principal
from tests.samples import NOW, POINT, cancel, emergency, event, sa, to, xml

G1, G2 = frozenset({"g1"}), frozenset({"g2"})
DAY = 86_400


class EmergenciesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.store = MemoryStore(self.clock)
        self.router = Router(self.clock, MemoryStore(self.clock), Limits())
        self.log = LogLines(self)
        self.said: list[tuple[Alert, Event]] = []
        self.emergencies = self.make()

    def make(self, period: float = 10, most: int = 1000, seconds: float = DAY) -> Emergencies:
        """Make a keeper of emergencies that writes down what it says."""
        emergencies = Emergencies(
            self.clock, self.store, period, most, seconds, lambda *saying: self.said.append(saying)
        )
        self.addCleanup(emergencies.stop)
        return emergencies

    def client(self, uid: str = "", proved: Principal = ANONYMOUS) -> Subscription:
        """Make a connection, which has reported itself if a uid is given."""
        client = self.router.subscribe(proved, MemorySink(), f"peer of {uid}")
        if uid:
            client.publish(event(sa(uid, uid)))
        return client

    def hear(self, document: bytes, source: Subscription, groups: Groups = G1) -> Event:
        """Let a client say something."""
        said = event(document)
        self.emergencies.heard(said, source, groups, self.clock.seconds())
        return said

    def pass_time(self, seconds: float) -> list[tuple[str, float]]:
        """Let time pass; tell what was said and when (seconds since the beginning)."""
        self.said.clear()
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
        return [(each.type, each.time - NOW) for _, each in self.said]

    def current(self, groups: Groups = G1) -> list[str]:
        """Tell the types of what a newcomer is told."""
        return [each.type for _, each in self.emergencies.current(groups, self.clock.seconds())]

    def stored(self) -> list[Emergency]:
        """Read what would survive a restart now."""
        return self.successResultOf(self.store.open()).emergencies

    def test_repeats(self) -> None:
        """An emergency is said again each period, with fresh times and the start of the first time."""
        raised = self.hear(emergency("A", "A"), self.client("A"))
        self.assertEqual(self.said, [], "the first time is routed like everything")
        self.hear(emergency("A", "A"), self.client("A"))
        self.assertEqual(len([line for line in self.log() if line == "emergency A-9-1-1 raised by A"]), 1)
        self.assertEqual(self.pass_time(9.5), [])
        self.assertEqual(self.pass_time(11), [("b-a-o-tbl", 10), ("b-a-o-tbl", 20)])
        alert, again = self.said[1]
        self.assertEqual((again.uid, again.start, again.stale), (raised.uid, NOW, NOW + 35))
        self.assertEqual(alert.record.raiser, "A")
        before, after = raised.xml, again.xml
        for name, value in (("time", "10:00:00"), ("stale", "10:00:10")):
            before = before.replace(f' {name}="2026-03-01T{value}'.encode(), f' {name}="'.encode(), 1)
        for name, value in (("time", "10:00:20"), ("stale", "10:00:35")):
            after = after.replace(f' {name}="2026-03-01T{value}'.encode(), f' {name}="'.encode(), 1)
        self.assertEqual(after, before, "nothing else differs")

    def test_stale_is_longer_than_the_period(self) -> None:
        """However long the period, no client sees an emergency go stale between two repeats."""
        self.emergencies = self.make(period=60)
        self.hear(emergency("A", "A"), self.client("A"))
        self.assertEqual(self.pass_time(60), [("b-a-o-tbl", 60)])
        self.assertEqual(self.said[0][1].stale - NOW, 60 + 90)

    def test_types(self) -> None:
        """What ATAK can raise is repeated; anything else, or without what makes it an emergency, is not."""
        client = self.client("A")
        kinds = ("b-a-o-tbl", "b-a-o-pan", "b-a-o-opn", "b-a-o-c", "b-a-g")
        for kind in kinds:
            self.hear(xml(kind, kind, '<emergency type="x">A</emergency>'), client)
        self.assertEqual(len(self.emergencies), 5)
        self.hear(xml("X", "b-a-x", '<emergency type="x">A</emergency>'), client)
        self.hear(xml("Y", "b-a-o-tbl"), client)
        self.hear(cancel("Z", "Z"), client)
        self.assertEqual([uid in self.emergencies for uid in (*kinds, "X", "Y", "Z")], [True] * 5 + [False] * 3)
        self.assertEqual([kind for kind, _ in self.pass_time(10)], list(kinds))

    def test_moves(self) -> None:
        """A second raise moves the emergency; the time since it was first raised goes on counting."""
        client = self.client("A")
        self.hear(emergency("A", "A"), client)
        self.pass_time(5)
        place = POINT.replace("52.1", "1.5")
        self.hear(emergency("A", "A", now=NOW + 5, point=place), client)
        self.assertEqual(self.pass_time(5), [("b-a-o-tbl", 10)])
        self.assertEqual((self.said[0][1].lat, self.said[0][1].start), (1.5, NOW + 5))
        self.assertEqual([record.raised for record in self.stored()], [NOW])
        self.assertEqual(len(self.emergencies), 1)

    def test_nobody_else_moves_it(self) -> None:
        """Who did not raise an emergency cannot make it its own, to cancel it or to keep its raiser from doing so."""
        raiser = self.client("A", principal("alice"))
        self.hear(emergency("A", "A"), raiser)
        stranger = self.client("M", principal("mallory"))
        self.hear(emergency("A", "A", point=POINT.replace("52.1", "1.5")), stranger)
        self.hear(cancel("A", "A"), stranger)
        self.pass_time(10)
        self.assertEqual([each.lat for _, each in self.said], [52.1])
        self.hear(cancel("A", "A"), raiser)
        self.assertEqual(len(self.emergencies), 0)

    def test_own_comes_before_what_others_say(self) -> None:
        """Who says somebody's emergency first keeps it neither from being repeated nor from being canceled."""
        stranger = self.client("A-9", principal("mallory"))
        self.hear(emergency("A", "A", point=POINT.replace("52.1", "1.5")), stranger)
        own = self.client("A", principal("alice"))
        self.hear(emergency("A", "A"), own)
        self.hear(emergency("A", "A", point=POINT.replace("52.1", "2.5")), stranger)
        self.pass_time(10)
        self.assertEqual([each.lat for _, each in self.said], [52.1])
        self.hear(cancel("A", "A"), stranger)
        self.assertEqual(len(self.emergencies), 1)
        self.hear(cancel("A", "A"), own)
        self.assertEqual((len(self.emergencies), self.stored()), (0, []))

    def test_own_takes_no_room_of_others(self) -> None:
        """Where there is no more room, taking somebody's place costs nobody else's."""
        self.emergencies = self.make(most=2)
        stranger = self.client("M", principal("mallory"))
        self.hear(xml("Z", "b-a-o-tbl", "<emergency/>"), stranger)
        self.hear(emergency("A", "A"), stranger)
        self.hear(emergency("A", "A"), self.client("A", principal("alice")))
        self.assertEqual(
            [(each.uid, each.principal) for each in self.emergencies.records()],
            [("Z", "mallory"), ("A-9-1-1", "alice")],
        )

    def test_canceled_by_its_connection(self) -> None:
        """Somebody who never said who it is ends its own emergency."""
        client = self.client()
        self.hear(xml("E", "b-a-o-tbl", "<emergency/>"), client)
        self.assertIn("emergency E raised by peer of ", self.log())
        self.hear(xml("E", "b-a-o-can", '<emergency cancel="true"/>'), client)
        self.assertEqual((len(self.emergencies), self.stored()), (0, []))
        self.clock.advance(15)
        self.assertEqual(self.clock.getDelayedCalls(), [], "and nothing ticks on")

    def test_canceled_by_its_uid(self) -> None:
        """After a reconnect the client that raised it ends it, known by the uid in its link or by its own."""
        self.hear(emergency("A", "A"), self.client())
        self.hear(cancel("A", "A"), self.client("A"))
        self.assertNotIn("A-9-1-1", self.emergencies)
        self.hear(xml("E", "b-a-o-tbl", "<emergency/>"), self.client("B"))
        self.hear(xml("E", "b-a-o-can"), self.client("B"))
        self.assertNotIn("E", self.emergencies)

    def test_canceled_by_its_principal(self) -> None:
        """Another device of the same person ends it."""
        self.hear(emergency("A", "A"), self.client("A", principal("alice")))
        self.hear(cancel("A", "A"), self.client("A2", principal("alice")))
        self.assertEqual(len(self.emergencies), 0)

    def test_canceled_by_any_emergency_event(self) -> None:
        """``cancel="true"`` ends it whatever the type, and so does the type."""
        client = self.client("A")
        for end in (xml("A-9-1-1", "b-a-o-tbl", '<emergency cancel="TRUE"/>'), xml("A-9-1-1", "b-a-o-can")):
            self.hear(emergency("A", "A"), client)
            self.hear(end, client)
            self.assertEqual(len(self.emergencies), 0)

    def test_not_canceled_by_others(self) -> None:
        """Somebody else's cancel ends nothing, and the log says whose it was; two anonymous ones are not the same."""
        raiser = self.client()
        self.hear(xml("E", "b-a-o-tbl", "<emergency/>"), raiser)
        with capturedLogs() as logs:
            for other in (self.client(), self.client("M"), self.client("N", principal("mallory"))):
                self.hear(xml("E", "b-a-o-can"), other)
        self.assertIn("E", self.emergencies)
        self.assertEqual(self.pass_time(10), [("b-a-o-tbl", 10)])
        self.assertIn("emergency E goes on: peer of M did not raise it", [formatEvent(each) for each in logs])

    def test_cancel_is_repeated(self) -> None:
        """A cancel is said twice more, and newcomers are told of it for 15 seconds; then it is forgotten."""
        client = self.client("A")
        self.hear(emergency("A", "A"), client)
        self.pass_time(3)
        self.hear(cancel("A", "A", now=NOW + 3), client)
        self.assertEqual(self.current(), ["b-a-o-can"])
        self.assertEqual(self.pass_time(14.5), [("b-a-o-can", 8), ("b-a-o-can", 13)])
        self.assertEqual((self.current(), self.current(G2)), (["b-a-o-can"], []))
        self.assertEqual(self.said[0][1].stale - NOW, 8 + 15)
        self.assertEqual(self.pass_time(0.5), [])
        self.assertEqual(self.current(), [])
        self.assertEqual(self.pass_time(60), [])

    def test_raised_again_after_a_cancel(self) -> None:
        """Raised again at once it is not silenced by the cancel before, and a second cancel has its full time."""
        client = self.client("A")
        self.hear(emergency("A", "A"), client)
        self.hear(cancel("A", "A"), client)
        self.pass_time(2)
        self.hear(emergency("A", "A"), client)
        self.assertEqual(self.current(), ["b-a-o-tbl"])
        self.assertEqual(self.pass_time(8), [("b-a-o-tbl", 10)])
        self.hear(cancel("A", "A"), client)
        self.assertEqual(self.pass_time(6), [("b-a-o-can", 15)])
        self.assertEqual(self.current(), ["b-a-o-can"])
        self.pass_time(9)
        self.assertEqual(self.current(), [])

    def test_newcomers(self) -> None:
        """A newcomer is told of every emergency of its groups at once, with fresh times."""
        self.hear(emergency("A", "A"), self.client("A"), G1)
        self.hear(emergency("B", "B"), self.client("B"), G2)
        self.pass_time(4)
        told = [each for _, each in self.emergencies.current(G1, NOW + 4)]
        self.assertEqual([(each.uid, each.time, each.stale) for each in told], [("A-9-1-1", NOW + 4, NOW + 19)])
        self.assertEqual(len(self.current(G1 | G2)), 2)
        self.assertEqual(self.current(frozenset()), [])

    def test_number(self) -> None:
        """Over the limit the oldest of whoever raised most goes: by who it is proved to be, not by what it says."""
        self.emergencies = self.make(most=4)
        self.hear(emergency("V", "V"), self.client("V"))
        flooder = self.client("M", principal("mallory"))
        for number in range(3):
            self.hear(emergency(f"M{number}", "M"), flooder)
        self.assertEqual(len(self.emergencies), 4)
        other = self.client("M'", principal("mallory"))
        with capturedLogs() as logs:
            self.hear(emergency("M3", "M"), other)
        self.assertEqual((len(self.emergencies), len(self.stored())), (4, 4))
        self.assertIn("V-9-1-1", self.emergencies)
        self.assertNotIn("M0-9-1-1", self.emergencies)
        self.assertIn("over 4 emergencies", formatEvent(logs[0]) or "")
        self.hear(emergency("M1", "M"), flooder)
        self.assertEqual(len(self.emergencies), 4, "raising one again costs nobody anything")

    def test_number_of_one_connection(self) -> None:
        """An anonymous connection that floods pushes out its own only."""
        self.emergencies = self.make(most=3)
        self.hear(emergency("V", "V"), self.client("V"))
        flooder = self.client()
        for number in range(10):
            self.hear(emergency(f"M{number}", "M"), flooder)
        self.assertEqual([uid for uid in ("V", "M8", "M9") if f"{uid}-9-1-1" in self.emergencies], ["V", "M8", "M9"])

    def test_number_of_many_connections(self) -> None:
        """Where everybody raised one, a further one is not repeated; of one address with many the newest goes."""
        self.emergencies = self.make(most=3)
        for uid in ("V", "W", "X"):
            self.hear(emergency(uid, uid), self.client(uid, principal(uid)))
        self.hear(emergency("Y", "Y"), self.client("Y", principal("Y")))
        self.assertNotIn("Y-9-1-1", self.emergencies)
        self.emergencies = self.make(most=3)
        for uid in ("V", "W", "X"):
            source = self.client(uid)
            source.peer = "10.0.0.7:1 at test"
            self.hear(emergency(uid, uid), source)
        self.hear(emergency("Y", "Y"), self.client("Y", principal("Y")))
        self.assertEqual([uid for uid in "VWXY" if f"{uid}-9-1-1" in self.emergencies], ["V", "W", "Y"])

    def test_after_a_restart_each_stands_for_itself(self) -> None:
        """What was kept over a restart is not pushed out because nobody knows any more whose it was."""
        self.emergencies = self.make(most=2)
        for uid in ("V", "W"):
            self.hear(emergency(uid, uid), self.client(uid))
        kept = self.stored()
        self.emergencies = self.make(most=2)
        self.emergencies.restore(kept)
        self.hear(emergency("Y", "Y"), self.client("Y"))
        self.assertEqual([uid for uid in "VWY" if f"{uid}-9-1-1" in self.emergencies], ["V", "W"])

    def test_number_of_cancels(self) -> None:
        """Who raises and cancels in turns makes the server remember only so many cancels."""
        self.emergencies = self.make(most=3)
        source = self.client("M")
        for number in range(10):
            self.hear(emergency(f"M{number}", "M"), source)
            self.hear(cancel(f"M{number}", "M"), source)
        self.assertEqual(len(list(self.emergencies.current(G1, self.clock.seconds()))), 3)
        self.clock.advance(60)
        self.assertEqual(list(self.emergencies.current(G1, self.clock.seconds())), [])

    def test_size(self) -> None:
        """An emergency up to a size is repeated, to the byte; a larger one is passed on once."""
        size = len(event(emergency("A", "A", how="x")).xml)
        for more, repeated in ((-1, True), (0, True), (1, False)):
            self.emergencies = self.make()
            self.hear(emergency("A", "A", how="x" * (MAX_ALERT_BYTES - size + 1 + more)), self.client("A"))
            self.assertEqual("A-9-1-1" in self.emergencies, repeated, more)

    def test_a_day(self) -> None:
        """What nobody cancels is said for a day and then given up, with a warning."""
        self.emergencies = self.make(period=3600)
        self.hear(emergency("A", "A"), self.client("A"))
        for _ in range(24):
            self.clock.advance(3600)
        self.assertEqual(len(self.said), 24)
        with capturedLogs() as logs:
            self.clock.advance(3600)
        self.assertEqual((len(self.said), len(self.emergencies), self.stored()), (24, 0, []))
        self.assertIn("never canceled", formatEvent(logs[0]) or "")
        self.clock.advance(7200)
        self.assertEqual(len(self.said), 24)

    def test_restart(self) -> None:
        """After a restart it is said at once, then each period; the raiser, back under its uid or name, ends it."""
        self.hear(emergency("A", "A", point=POINT.replace("52.1", "1.5")), self.client("A"))
        self.hear(emergency("B", "B"), self.client("B", principal("bob")), G2)
        self.emergencies.stop()
        self.pass_time(100)
        self.emergencies = self.make()
        self.emergencies.restore(self.stored())
        self.assertEqual((len(self.emergencies), len(self.current(G2))), (2, 1))
        self.said.clear()
        self.clock.advance(0)
        self.assertEqual(next((each.uid, each.lat, each.time) for _, each in self.said), ("A-9-1-1", 1.5, NOW + 100))
        self.assertEqual(len(self.pass_time(10)), 2)
        self.hear(cancel("A", "A"), self.client("M"))
        self.assertEqual(len(self.emergencies), 2)
        self.hear(cancel("A", "A"), self.client("A"))
        self.hear(cancel("B", "B"), self.client("B2", principal("bob")))
        self.assertEqual((len(self.emergencies), self.stored()), (0, []))

    def test_restart_without_any(self) -> None:
        """Without emergencies nothing ticks."""
        self.emergencies.restore([])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """When the server stops nothing more is said, but what is active stays in the store."""
        client = self.client("A")
        self.hear(emergency("A", "A"), client)
        self.hear(emergency("B", "B"), client)
        self.hear(cancel("B", "B"), client)
        self.emergencies.stop()
        self.assertEqual(self.pass_time(60), [])
        self.assertEqual([record.uid for record in self.stored()], ["A-9-1-1"])
        self.emergencies.stop()

    def test_for_some(self) -> None:
        """Whom an emergency was for is remembered, also over a restart; one for nobody we know of is not kept."""
        client = self.client("A")
        self.hear(emergency("A", "A", marti=to("B") + '<dest uid="C"/>'), client)
        (record,) = self.stored()
        self.assertEqual((record.callsigns, record.uids), (("B",), ("C",)))
        self.hear(emergency("X", "X", marti='<dest mission="M"/>'), client)
        self.hear(emergency("Y", "Y", marti='<dest publish="x"/>'), client)
        self.assertEqual(len(self.emergencies), 1)
        self.hear(emergency("Z", "Z", marti='<dest group="g1"/>'), client)
        self.assertEqual(len(self.emergencies), 2)


class DirectedEmergenciesTests(SynchronousTestCase):
    """What the router makes of emergencies that are not for everybody."""

    def test_repeats_reach_whom_it_was_for(self) -> None:
        """The repeats and the cancel of a directed emergency reach those it was for, and no newcomer."""
        site = Site()
        a, b, c = (site.join(uid) for uid in "ABC")
        for client in (a, b, c):
            client.heard()
        a.say(emergency("A", "A", marti=to("B", "A") + '<dest uid="B"/><dest uid="NOBODY"/>'))
        self.assertEqual((b.types(), c.types(), a.types()), (["b-a-o-tbl"], [], ["b-a-o-tbl"]))
        self.assertNotIn("b-a-o-tbl", site.connect().types())
        site.pass_time(10)
        self.assertEqual((b.types(), c.types(), a.types()), (["b-a-o-tbl"], [], []))
        a.say(cancel("A", "A", marti=to("B")))
        b.heard()
        site.pass_time(5)
        self.assertEqual((b.types(), c.types()), (["b-a-o-can"], []))

    def test_for_a_mission(self) -> None:
        """An emergency for a mission only is not said to everybody, then or later."""
        site = Site()
        a, b = site.join("A"), site.join("B")
        a.say(emergency("A", "A", marti='<dest mission="M"/>'))
        site.pass_time(30)
        self.assertEqual((b.heard(), site.connect().uids()), ([], ["A", "B"]))

    def test_groups(self) -> None:
        """Somebody it was for but who may not hear its raiser does not get the repeats either."""
        site = Site()
        a = site.join("A", proved=principal("a", ["g1"], []))
        b = site.join("B", proved=principal("b", [], ["g2"]))
        a.say(emergency("A", "A", marti=to("B")))
        site.pass_time(20)
        self.assertEqual(b.heard(), [])
