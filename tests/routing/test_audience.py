from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.routing.audience import Audience
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.routing.tally import Tally
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.takproto.batch import Batch
from tests.fakes import MemorySink, principal
from tests.samples import NOW, control, event, marker, xml

ANON = ANONYMOUS.groups_in


class Listener(MemorySink):
    """A sink that remembers in which pieces it was told, and may do something when it is."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []
        self.doing: list[Subscription] = []
        """Who is closed when this one is told something."""

    def deliver(self, batch: Batch) -> None:
        super().deliver(batch)
        self.batches.append(batch)
        while self.doing:
            self.doing.pop().close()

    def uids(self) -> list[str]:
        """Take the uids of what was delivered."""
        events, self.events = self.events, []
        self.batches.clear()
        return [each.uid for each in events]


def item(uid: str = "M", size: int = 0) -> Event:
    """Make an item of at least some size."""
    return event(marker(uid, extra=" " * size))


class AudienceCase(SynchronousTestCase):
    """Audiences of a router on a clock of ours."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.router = Router(self.clock, MemoryStore(self.clock), Limits())
        self.audiences = self.router.audiences

    def join(self, proved: Principal = ANONYMOUS, max_bytes: int = 0) -> tuple[Subscription, Listener]:
        """Subscribe somebody."""
        sink = Listener()
        return self.router.subscribe(proved, sink, "peer", max_bytes), sink

    def hears(self, *groups: str) -> Listener:
        """Subscribe somebody who hears some groups and may speak to none."""
        return self.join(principal("x", (), groups))[1]

    def say(self, uid: str, source: Subscription | None = None, groups: Iterable[str] = ANON) -> Event:
        """Say an item to everybody of some groups."""
        said = item(uid)
        self.audiences.broadcast(said, frozenset(groups), source)
        return said

    def turn(self) -> None:
        """End the reactor turn."""
        self.clock.advance(0)


class AudienceTests(AudienceCase):
    def test_nothing_before_the_end_of_the_turn(self) -> None:
        """What is said in one reactor turn comes in one piece at its end, the very same for all who said none of it."""
        (_, one), (_, two), (speaker, three) = self.join(), self.join(), self.join()
        said = [self.say("M"), self.say("N"), self.say("O", speaker)]
        self.assertEqual((one.events, self.clock.getDelayedCalls()[0].getTime()), ([], NOW))
        self.turn()
        self.assertEqual((one.events, len(one.batches)), (said, 1))
        self.assertIs(one.batches[0], two.batches[0])
        self.assertFalse(one.batches[0].directed)
        self.assertEqual(three.events, said[:2], "but for its own")
        self.turn()
        self.assertEqual((len(one.batches), self.clock.getDelayedCalls()), (1, []))

    def test_no_echo(self) -> None:
        """Nobody hears itself, and who alone spoke hears nothing."""
        (a, to_a), (b, to_b), (_, to_c) = self.join(), self.join(), self.join()
        self.say("A1", a), self.say("B1", b), self.say("A2", a)
        self.turn()
        self.assertEqual((to_a.uids(), to_b.uids(), to_c.uids()), (["B1"], ["A1", "A2"], ["A1", "B1", "A2"]))
        self.say("A3", a)
        self.turn()
        self.assertEqual((to_a.batches, to_b.uids()), ([], ["A3"]))

    def test_alone(self) -> None:
        """Who is alone may speak."""
        a, to_a = self.join()
        self.say("A", a)
        self.turn()
        self.assertEqual(to_a.events, [])

    def test_nobody_there(self) -> None:
        """What is said to nobody costs nothing later on."""
        self.say("M")
        self.assertEqual((len(self.audiences), self.clock.getDelayedCalls()), (0, []))

    def test_groups(self) -> None:
        """An event reaches who hears one of its groups, whatever the directions are called elsewhere."""
        listeners = {
            groups: self.hears(*groups) for groups in ((), ("g1",), ("g2",), ("g1", "g2"), ("g3",), ("g1", "g3"))
        }
        for groups in ((), ("g1",), ("g2",), ("g1", "g2"), ("g3",), ("g4",), ("g2", "g3", "g4")):
            self.say("M", groups=groups)
            self.turn()
            for heard, listener in listeners.items():
                self.assertEqual(listener.uids(), ["M"] if set(heard) & set(groups) else [], (groups, heard))

    def test_one_audience_per_groups_and_size(self) -> None:
        """Who hears the same groups in the same sizes shares the work; the last to leave ends it."""
        members = [self.join(principal(name, (), "g"), 100) for name in ("a", "b")]
        other = self.join(principal("c", (), "g"), 200)
        self.assertEqual(len(self.audiences), 2)
        for member, _ in (*members, other):
            member.close()
        self.assertEqual(len(self.audiences), 0)

    def test_newcomers_of_new_groups_are_reached(self) -> None:
        """What was found out about who reaches whom is found out anew when somebody comes or goes."""
        self.say("M", groups="g")
        first, to_first = self.join(principal("a", (), "g"))
        self.say("N", groups="g")
        self.turn()
        self.assertEqual(to_first.uids(), ["N"])
        first.close()
        self.say("O", groups="g")
        to_second = self.hears("g")
        self.say("P", groups="g")
        self.turn()
        self.assertEqual((to_first.uids(), to_second.uids()), ([], ["P"]))

    def test_many_sets_of_groups(self) -> None:
        """However many different sets of groups are spoken to, only so many are remembered, and all are right."""
        listener = self.hears("g7")
        for number in range(1200):
            self.say("M", groups=("g7", f"x{number}"))
            self.say("N", groups=(f"x{number}",))
        self.assertLessEqual(len(self.audiences._reach), 1001)
        self.turn()
        self.assertEqual(listener.uids(), ["M"] * 1200)

    def test_size(self) -> None:
        """Who takes events up to a size gets those, to the byte; others are counted, and reach who takes any."""
        small, large = item("S"), item("L", 1)
        self.assertEqual(len(large.xml), len(small.xml) + 1)
        limited, to_limited = self.join(max_bytes=len(small.xml))
        _, to_any = self.join()
        for said in (small, large):
            self.audiences.broadcast(said, ANON, None)
        self.turn()
        self.assertEqual((to_limited.uids(), to_any.uids(), self.router.offers.oversize), (["S"], ["S", "L"], 1))
        for said in (small, large):
            self.audiences.direct(said, None, limited)
        self.turn()
        self.assertEqual((to_limited.uids(), self.router.offers.oversize), (["S"], 2))

    def test_between(self) -> None:
        """What is for those who hear one group and not the other reaches nobody else, however large it is."""
        red, blue, both = self.hears("red"), self.hears("blue"), self.hears("red", "blue")
        speaker, to_speaker = self.join(principal("s", (), ["red"]))
        small = self.join(principal("t", (), ["red"]), max_bytes=300)[1]
        large = item("LARGE", size=300)
        for said in (item("M"), large):
            self.audiences.broadcast_between(said, frozenset({"red", "green"}), frozenset({"blue"}), speaker)
        self.audiences.broadcast_between(item("N"), frozenset({"green"}), frozenset(), speaker)
        self.audiences.broadcast_between(item("O"), frozenset({"red"}), frozenset({"red"}), speaker)
        self.assertEqual(red.events, [], "not before the end of the turn")
        self.turn()
        self.assertEqual([each.uids() for each in (red, blue, both, to_speaker)], [["M", "LARGE"], [], [], []])
        self.assertNotIn("LARGE", small.uids())

    def test_only_too_large(self) -> None:
        """If all that was said is too large for all, nothing is left to do at the end of the turn."""
        self.join(max_bytes=10)
        self.say("M")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_directed(self) -> None:
        """What is for one comes at the end of the turn in one piece, marked as such."""
        (a, to_a), (b, to_b), (_, to_c) = self.join(), self.join(), self.join()
        said = [item("D1"), item("D2")]
        for each in said:
            self.audiences.direct(each, a, b)
        self.turn()
        self.assertEqual([(batch.events, batch.directed) for batch in to_b.batches], [(said, True)])
        self.assertEqual((to_a.events, to_c.events, self.clock.getDelayedCalls()), ([], [], []))

    def test_directed_to_who_leaves_in_the_same_turn(self) -> None:
        """What was for somebody who leaves before the end of the turn can be taken back."""
        (a, _), (b, to_b) = self.join(), self.join()
        said = item("D")
        self.audiences.direct(said, a, b)
        self.assertEqual((self.audiences.take_directed(b), self.audiences.take_directed(b)), ([said], []))
        self.turn()
        self.assertEqual(to_b.events, [])

    def test_directed_does_not_overtake(self) -> None:
        """What is for one comes behind what its sender said to all before."""
        (a, _), (b, to_b), (_, to_c) = self.join(), self.join(), self.join()
        self.say("A1", a)
        self.audiences.direct(item("D1"), a, b)
        self.audiences.direct(item("D2"), a, b)
        self.say("A2", a)
        self.audiences.direct(item("D3"), a, a)
        self.turn()
        self.assertEqual((to_b.uids(), to_c.uids()), (["A1", "D1", "D2", "A2"], ["A1", "A2"]))

    def test_directed_leaves_the_rest_together(self) -> None:
        """What others said goes on waiting for the end of the turn: one piece is cheaper than two."""
        (a, _), (b, to_b), (c, _) = self.join(), self.join(), self.join()
        self.say("C1", c)
        self.audiences.direct(item("D"), a, b)
        self.say("C2", c)
        self.turn()
        self.assertEqual([[each.uid for each in batch.events] for batch in to_b.batches], [["D"], ["C1", "C2"]])

    def test_directed_to_who_has_left(self) -> None:
        """What is for somebody who left this moment is handed to its sink, which knows what became of it."""
        b, to_b = self.join()
        b.close()
        self.audiences.direct(item("D"), None, b)
        self.turn()
        self.assertEqual(to_b.uids(), ["D"])

    def test_filter(self) -> None:
        """Who has a filter hears what it lets through, still not itself, and everything that is for it."""
        a, to_a = self.join()
        b, _ = self.join()
        request = "<subscription><tests xpath=\"/event[@uid='X']\"/></subscription>"
        a.publish(event(control("t-b", request, uid="wish")))
        self.say("X", a), self.say("X", b), self.say("Y", b)
        self.audiences.direct(item("Z"), b, a)
        self.turn()
        self.assertEqual(to_a.uids(), ["X", "Z"])
        self.say("Y", b)
        self.turn()
        self.assertEqual(to_a.batches, [])
        a.publish(event(control("t-b-c", uid="wish")))
        self.say("Y", b)
        self.turn()
        self.assertEqual(to_a.uids(), ["Y"])

    def test_filter_that_is_cleared_meanwhile(self) -> None:
        """A filter counts for what is said from then on: what was said before is judged by what held before."""
        a, to_a = self.join()
        b, _ = self.join()
        self.say("BEFORE", b)
        a.publish(event(control("t-b", '<subscription><tests xpath="//nothing"/></subscription>', uid="wish")))
        self.say("BETWEEN", b)
        a.publish(event(control("t-b-c", uid="wish")))
        self.say("AFTER", b)
        self.turn()
        self.assertEqual(to_a.uids(), ["BEFORE", "AFTER"])

    def test_filtered_member_without_filter(self) -> None:
        """A member among the filtered whose filter is gone already hears everything."""
        audience = Audience(ANON, 0, Tally())
        member, sink = self.join()
        audience.filtered[member] = None
        said = item()
        audience.say(said, None)
        audience.flush()
        self.assertEqual(sink.events, [said])

    def test_leaving(self) -> None:
        """Who leaves hears nothing more, and the others hear what it said last."""
        (a, to_a), (b, to_b) = self.join(), self.join()
        self.say("A", a), self.say("B", b)
        a.close()
        self.turn()
        self.assertEqual((to_a.events, to_b.uids()), ([], ["A"]))
        self.audiences.leave(a)

    def test_leaving_while_others_are_told(self) -> None:
        """Who leaves because somebody else is told something disturbs nobody."""
        members = [self.join() for _ in range(4)]
        for _, sink in members[:2]:
            sink.doing = [members[0][0], members[2][0], members[3][0]]
        self.say("M")
        self.turn()
        self.assertEqual(members[1][1].uids(), ["M"])
        self.assertEqual(list(self.router.subscriptions), [members[1][0]])
        self.say("N")
        self.turn()
        self.assertEqual([sink.uids()[-1:] for _, sink in members], [["M"], ["N"], ["M"], ["M"]])

    def test_everything_is_heard_at_once(self) -> None:
        """Who hears everything hears it at once, whomever it is for, but not itself; nothing old is shown."""
        self.router.retained.keep(item("OLD"), ANON, NOW)
        sinks = [Listener(), Listener()]
        one, two = (self.router.subscribe(ANONYMOUS, sink, "monitor", wants_everything=True) for sink in sinks)
        self.audiences.tap(item("M"), None)
        self.audiences.tap(item("N"), two)
        self.assertEqual((sinks[0].uids(), sinks[1].uids()), (["M", "N"], ["M"]))
        self.assertEqual(sinks[0].replayed, [])
        self.say("O")
        self.turn()
        self.assertEqual(sinks[0].uids(), [], "and nothing twice")
        sinks[0].doing = [one, two]
        self.audiences.tap(item("P"), None)
        self.audiences.tap(item("Q"), None)
        self.assertEqual(sinks[0].uids(), ["P"])

    def test_flush_by_hand(self) -> None:
        """What is pending can be handed over early, and is not handed over again."""
        _, sink = self.join()
        self.say("M")
        self.audiences.flush()
        self.audiences.flush()
        self.assertEqual((sink.uids(), self.clock.getDelayedCalls()), (["M"], []))

    def test_said_while_it_is_handed_over(self) -> None:
        """What is said because somebody was told something comes in the next piece."""
        _, sink = self.join()
        gone, _ = self.join()
        gone.publish(event(xml("G", "a-f-G", '<contact callsign="G" endpoint=""/>')))
        sink.doing = [gone]
        self.turn()
        gone.close(clean=True)
        self.say("M")
        self.turn()
        self.assertEqual(sink.uids()[0], "G")
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls()[0].getTime(), NOW + 0.5)


class JoiningTests(AudienceCase):
    """Joining is one call: what is shown and what is said from then on neither overlap nor leave anything out."""

    def test_in_the_middle_of_a_turn(self) -> None:
        """A newcomer sees what was said before it came in what it is shown, and hears the rest, each once."""
        speaker, _ = self.join()
        _, witness = self.join()
        speaker.publish(event(marker("BEFORE")))
        speaker.publish(event(xml("CHAT", "b-t-f")))
        _, newcomer = self.join()
        _, first_of_its_kind = self.join(principal("x"), max_bytes=60_000)
        speaker.publish(event(marker("AFTER")))
        self.turn()
        self.assertEqual(witness.uids(), ["BEFORE", "CHAT", "AFTER"])
        for sink in (newcomer, first_of_its_kind):
            self.assertEqual([each.uid for each in sink.replayed], ["BEFORE"])
            self.assertEqual(sink.uids(), ["AFTER"])


NAMES = "abcd"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("broadcast"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("direct"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("join"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("filter"), st.integers(0, 9), st.integers(0, 1)),
        st.tuples(st.just("turn"), st.just(0), st.just(0)),
    ),
    max_size=60,
)
GROUPS = (("g1",), ("g2",), ("g1", "g2"))
PRINCIPALS = [
    principal(f"p{at}", said, heard) for at, (said, heard) in enumerate((a, b) for a in GROUPS for b in GROUPS)
]


class OrderTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(STEPS)
    def test_every_pair_in_order(self, steps: list[tuple[str, int, int]]) -> None:
        """Everybody hears of every sender exactly what it should, in the order in which it was said."""
        clock = Clock()
        router = Router(clock, MemoryStore(clock), Limits())
        listeners: list[tuple[Subscription, Listener]] = []
        owed: dict[Subscription, list[tuple[Subscription, str]]] = {}

        def join(at: int) -> None:
            sink = Listener()
            listeners.append((router.subscribe(PRINCIPALS[at], sink, f"peer {len(listeners)}"), sink))
            owed[listeners[-1][0]] = []

        join(0)
        join(4)
        left: set[Subscription] = set()
        for number, (what, first, second) in enumerate(steps):
            source, other = listeners[first % len(listeners)][0], listeners[second % len(listeners)][0]
            said = event(xml(f"{'EVEN' if number % 2 else 'ODD'}-{number}", "a-h-G"))
            if what == "join":
                join(first)
            elif what == "turn":
                clock.advance(0)
            elif source in left:
                continue
            elif what == "leave":
                source.close()
                left.add(source)
            elif what == "filter":
                wish = "starts-with(/event/@uid, 'EVEN')" if second else "*"
                source.publish(event(control("t-b", f'<subscription><tests xpath="{wish}"/></subscription>')))
            elif what == "direct":
                if other not in left:
                    router.audiences.direct(said, source, other)
                    owed[other].append((source, said.uid))
            else:
                groups = source.principal.groups_in
                router.audiences.broadcast(said, groups, source)
                for listener, _ in listeners:
                    wanted = listener.filter is None or said.uid.startswith("EVEN")
                    reached = listener is not source and groups & listener.principal.groups_out
                    if wanted and reached and listener not in left:
                        owed[listener].append((source, said.uid))
        clock.advance(0)
        for listener, sink in listeners:
            heard = sink.uids()
            for source, _ in listeners:
                expected = [uid for said_by, uid in owed[listener] if said_by is source]
                got = [uid for uid in heard if uid in expected]
                # Who left may miss the end.
                self.assertEqual(got, expected[: len(got)] if listener in left else expected)
            self.assertLessEqual(set(heard), {uid for _, uid in owed[listener]})
            self.assertEqual(len(heard), len(set(heard)))
