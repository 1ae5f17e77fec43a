from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import Event
from taky_twisted.records import Kept
from taky_twisted.routing.records import Groups, Item, Tombstone
from taky_twisted.routing.retained import TOMBSTONE_SECONDS, Retained
from taky_twisted.stores.memory import MemoryStore
from tests.samples import NOW, event, marker

G1, G2, G3 = frozenset({"g1"}), frozenset({"g2"}), frozenset({"g3"})
BOTH = G1 | G2
DAY = 86_400


def item(uid: str = "M", now: float = NOW, stale: float = DAY, **keys: object) -> Event:
    """Make a map item."""
    return event(marker(uid, now=now, stale=stale, **keys))  # type: ignore[arg-type]


class RetainedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.store = MemoryStore(self.clock)
        self.retained = self.make()

    def make(self, items: int = 100, size: int = 1 << 20, ttl: float = -1, tombstones: int = 100) -> Retained:
        """Make an empty map."""
        return Retained(self.store, items, size, ttl, tombstones)

    def kept(self) -> Kept:
        """Read what would survive a restart now."""
        return self.successResultOf(self.store.open())

    def restart(self, **limits: int) -> Retained:
        """Begin anew with what the store has."""
        retained, kept = self.make(**limits), self.kept()
        retained.restore(kept.items, kept.tombstones, self.clock.seconds())
        return retained

    def shown(self, groups: Groups = G1, now: float = NOW, retained: Retained | None = None) -> list[str]:
        """Tell what a newcomer is shown."""
        return [each.uid for each in (retained or self.retained).visible(groups, now)]

    def test_newest_is_shown(self) -> None:
        """A newcomer is shown each item once, as it was said last, and it is in the store so."""
        self.retained.keep(item("M", callsign="OLD"), G1, NOW)
        self.retained.keep(item("N"), G1, NOW)
        newer = item("M", now=NOW + 1, callsign="LONGER NAME")
        self.retained.keep(newer, G1, NOW + 1)
        self.assertEqual(self.shown(), ["M", "N"])
        self.assertIs(self.retained.get("M"), newer)
        self.assertEqual(len(self.retained), 2)
        self.assertEqual(self.retained.bytes, len(newer.xml) + len(item("N").xml))
        records = {record.uid: record for record in self.kept().items}
        self.assertEqual(
            records["M"], Item("M", "a-h-G", newer.xml, G1, NOW + 1, newer.stale, newer.stale), sorted(records)
        )

    def test_nothing_there(self) -> None:
        """An item that nobody said is not there, and taking it off the map is no error."""
        self.assertIsNone(self.retained.get("M"))
        self.retained.remove("M", G1)
        self.retained.prune(NOW)
        self.assertEqual((self.shown(), len(self.retained), self.retained.bytes), ([], 0, 0))

    def test_until_stale(self) -> None:
        """An item is shown until it is stale, and not at that instant; it leaves the memory and the store."""
        self.retained.keep(item(stale=60), G1, NOW)
        self.assertEqual(self.shown(now=NOW + 59.9), ["M"])
        self.assertEqual(self.shown(now=NOW + 60), [])
        self.retained.prune(NOW + 59.9)
        self.assertEqual(len(self.retained), 1)
        self.retained.prune(NOW + 60)
        self.assertEqual((len(self.retained), self.retained.bytes, self.kept().items), (0, 0, []))

    def test_stale_already(self) -> None:
        """What is stale when it comes is not kept, at the instant itself neither."""
        for stale, kept in ((-1, 0), (0, 0), (0.001, 1)):
            self.retained.keep(item(stale=stale), G1, NOW)
            self.assertEqual(len(self.retained), kept, stale)

    def test_stale_update(self) -> None:
        """An item whose newest state is stale is not shown as it was before; an old copy that comes late is no news."""
        self.retained.keep(item("M"), G1, NOW)
        self.retained.keep(item("M", now=NOW - 9000, stale=60), G1, NOW)
        self.assertEqual(self.shown(), ["M"])
        self.retained.keep(item("M", now=NOW + 5, stale=0), G1, NOW + 5)
        self.assertEqual((self.shown(), self.kept().items), ([], []))
        self.retained.keep(item("M", stale=60), G1, NOW)
        self.retained.keep(item("M", stale=-1), G1, NOW)
        self.assertEqual(self.shown(), [])

    def test_update_with_earlier_stale(self) -> None:
        """An update may make an item go stale earlier, or later, than was said before."""
        self.retained.keep(item("M", stale=100), G1, NOW)
        self.retained.keep(item("M", stale=50), G1, NOW)
        self.retained.keep(item("N", stale=50), G1, NOW)
        self.retained.keep(item("N", stale=100), G1, NOW)
        self.retained.prune(NOW + 60)
        self.assertEqual(self.shown(now=NOW + 60), ["N"])
        self.retained.prune(NOW + 100)
        self.assertEqual(len(self.retained), 0)

    def test_max_persist_ttl(self) -> None:
        """max_persist_ttl caps how long an item is kept; 0 keeps nothing; what is stale earlier still goes earlier."""
        retained = self.make(ttl=60)
        retained.keep(item("LONG"), G1, NOW)
        retained.keep(item("SHORT", stale=30), G1, NOW)
        self.assertEqual(self.shown(now=NOW + 29, retained=retained), ["LONG", "SHORT"])
        self.assertEqual(self.shown(now=NOW + 59, retained=retained), ["LONG"])
        self.assertEqual(self.shown(now=NOW + 60, retained=retained), [])
        self.assertEqual({record.uid: record.expires - NOW for record in self.kept().items}, {"LONG": 60, "SHORT": 30})
        nothing = self.make(ttl=0)
        nothing.keep(item(), G1, NOW)
        self.assertEqual(len(nothing), 0)

    def test_number_of_items(self) -> None:
        """At the limit every item is kept; one more, and the one that goes stale first is not."""
        retained = self.make(items=3)
        for number, stale in enumerate((300, 100, 200)):
            retained.keep(item(f"M-{number}", stale=stale), G1, NOW)
        self.assertEqual(len(retained), 3)
        retained.keep(item("M-3", stale=400), G1, NOW)
        self.assertEqual(self.shown(retained=retained), ["M-0", "M-2", "M-3"])
        retained.keep(item("M-4", stale=10), G1, NOW)
        self.assertEqual(self.shown(retained=retained), ["M-0", "M-2", "M-3"])
        self.assertEqual({record.uid for record in self.kept().items}, {"M-0", "M-2", "M-3"})

    def test_the_last_stale_counts(self) -> None:
        """When there are too many, an item counts with the stale of its newest state."""
        retained = self.make(items=2)
        for uid, stale in (("M", 10), ("N", 100), ("M", 200), ("O", 300)):
            retained.keep(item(uid, stale=stale), G1, NOW)
        self.assertEqual(self.shown(retained=retained), ["M", "O"])

    def test_size_of_items(self) -> None:
        """The same for the size of all together, to the byte."""
        one, two = item("M-1", stale=100), item("M-2")
        for slack, left in ((0, ["M-1", "M-2"]), (-1, ["M-2"])):
            retained = self.make(size=len(one.xml) + len(two.xml) + slack)
            retained.keep(one, G1, NOW)
            retained.keep(two, G1, NOW)
            self.assertEqual(self.shown(retained=retained), left)

    def test_an_item_that_grows(self) -> None:
        """An update counts with its new size, and an item larger than all may be is not kept."""
        retained = self.make(size=len(item().xml))
        retained.keep(item(), G1, NOW)
        retained.keep(item(callsign="ANOTHER AND LONGER NAME"), G1, NOW)
        self.assertEqual((len(retained), retained.bytes, self.kept().items), (0, 0, []))

    def test_memory_of_updates(self) -> None:
        """A million updates of one item cost the memory of a few."""
        for number in range(2000):
            self.retained.keep(item("M", now=NOW + number), G1, NOW + number)
        self.assertLess(len(self.retained._expiry), 100)
        self.assertEqual((len(self.retained), len(self.kept().items)), (1, 1))
        self.retained.prune(NOW + 2000 + DAY)
        self.assertEqual((len(self.retained), self.retained._expiry), (0, []))

    def test_expiry_among_many_updates(self) -> None:
        """However often items are updated, each goes when it is stale."""
        for number in range(150):
            for at in range(5):
                self.retained.keep(item(f"M-{at}", now=NOW, stale=1000 - 100 * at + number), G1, NOW)
        for at in range(5):
            self.retained.prune(NOW + 1149 - 100 * (4 - at))
            self.assertEqual(len(self.retained), 4 - at)

    def test_groups(self) -> None:
        """An item is shown to who hears one of the groups that it was said to, and to nobody else."""
        self.retained.keep(item("ONE"), G1, NOW)
        self.retained.keep(item("TWO"), BOTH, NOW)
        self.assertEqual(self.shown(G1), ["ONE", "TWO"])
        self.assertEqual(self.shown(G2), ["TWO"])
        self.assertEqual((self.shown(G3), self.shown(frozenset())), ([], []))

    def test_somebody_elses_item(self) -> None:
        """Who shares no group with an item can neither replace, nor delete, nor outdate, nor remove it."""
        mine = item("M")
        self.retained.keep(mine, G1, NOW)
        self.retained.keep(item("M", now=NOW + 1), G2, NOW)
        self.retained.keep(item("M", now=NOW + 1, stale=-1), G2, NOW + 1)
        self.retained.delete("M", G2, NOW, NOW)
        self.retained.remove("M", G2)
        self.assertIs(self.retained.get("M"), mine)
        self.assertEqual(self.kept().tombstones, [])
        self.retained.remove("M", BOTH)
        self.assertEqual(self.shown(), [])

    def test_delete(self) -> None:
        """What was deleted stays away: copies that are not newer are not kept, newer ones are; after a restart too."""
        self.retained.keep(item(), G1, NOW)
        self.retained.delete("M", G1, NOW + 10, NOW + 10)
        for retained in (self.retained, self.restart()):
            for age, kept in ((0, 0), (10, 0), (10.001, 1)):
                retained.keep(item(now=NOW + age), G1, NOW + 20)
                self.assertEqual(len(retained), kept, age)

    def test_delete_of_what_is_not_there(self) -> None:
        """A delete that overtakes the item deletes it all the same."""
        self.retained.delete("M", G1, NOW, NOW)
        self.retained.keep(item(), G1, NOW)
        self.assertEqual(self.shown(), [])
        self.assertEqual(self.kept().tombstones, [Tombstone("M", G1, NOW, NOW + TOMBSTONE_SECONDS)])

    def test_delete_is_remembered_until_stale(self) -> None:
        """A delete is remembered until the item would have been stale, for a day at most."""
        for stale, seconds in ((60, 60), (DAY * 9, DAY)):
            self.retained.keep(item(stale=stale), G1, NOW)
            self.retained.delete("M", G1, NOW, NOW)
            self.assertEqual([record.expires - NOW for record in self.kept().tombstones], [seconds])
            self.retained.prune(NOW + seconds - 1)
            self.assertEqual(len(self.kept().tombstones), 1)
            self.retained.prune(NOW + seconds)
            self.assertEqual(self.kept().tombstones, [])
        self.retained.keep(item(), G1, NOW)
        self.assertEqual(self.shown(), ["M"])

    def test_delete_of_a_stale_item(self) -> None:
        """A delete of what is stale already, but not yet forgotten, is no error."""
        self.retained.keep(item(stale=1), G1, NOW)
        self.retained.delete("M", G1, NOW + 5, NOW + 5)
        self.assertEqual((len(self.retained), self.kept().items), (0, []))

    def test_delete_with_a_clock_ahead(self) -> None:
        """Who deletes with a clock that is hours ahead does not keep others from putting the item back."""
        self.retained.keep(item(), G1, NOW)
        self.retained.delete("M", G1, NOW + 7200, NOW + 1)
        self.retained.keep(item(now=NOW + 1), G1, NOW + 1)
        self.assertEqual(self.shown(), [])
        self.retained.keep(item(now=NOW + 2), G1, NOW + 2)
        self.assertEqual(self.shown(), ["M"])

    def test_delete_with_a_clock_behind(self) -> None:
        """Who deletes with a clock that is behind, or what was said with one ahead, deletes it for good."""
        self.retained.keep(item(), G1, NOW)
        self.retained.delete("M", G1, NOW - 7200, NOW)
        self.retained.keep(item(), G1, NOW)
        self.assertEqual(self.shown(), [])

    def test_delete_and_groups(self) -> None:
        """A delete counts only for who shares a group with who deleted."""
        self.retained.delete("M", G1, NOW, NOW)
        self.retained.keep(item(), G2, NOW)
        self.assertEqual((self.shown(G2), self.shown(G1)), (["M"], []))

    def test_delete_by_several(self) -> None:
        """A second delete takes nothing back of the first one, whatever its groups and its clock."""
        self.retained.keep(item(stale=DAY * 2), BOTH, NOW)
        self.retained.delete("M", BOTH, NOW + 10, NOW + 10)
        self.retained.delete("M", G1, NOW + 5, NOW + 10)
        self.retained.delete("M", G3, NOW + 10, NOW + 10)
        for groups in (G1, G2, BOTH):
            self.retained.keep(item(now=NOW + 10), groups, NOW + 10)
            self.assertEqual(len(self.retained), 0)
        self.retained.keep(item(now=NOW + 10), G3, NOW + 10)
        self.assertEqual(self.shown(G3, NOW + 10), ["M"], "but what others call so is another item")

    def test_delete_of_an_item_of_others_with_the_same_uid(self) -> None:
        """When two groups use one uid, each deletes its own."""
        self.retained.delete("M", G1, NOW, NOW)
        self.retained.keep(item(), G2, NOW)
        self.retained.delete("M", G2, NOW, NOW)
        self.retained.keep(item(), G2, NOW)
        self.assertEqual(self.shown(G2), [])

    def test_number_of_deletes(self) -> None:
        """At the limit every delete is remembered; one more, and the oldest is forgotten."""
        retained = self.make(tombstones=2)
        for uid in ("A", "B", "A"):
            retained.delete(uid, G1, NOW, NOW)
        retained.delete("C", G1, NOW, NOW)
        self.assertEqual({record.uid for record in self.kept().tombstones}, {"A", "C"})
        for uid in "ABC":
            retained.keep(item(uid), G1, NOW)
        self.assertEqual(self.shown(retained=retained), ["B"])

    def test_restart(self) -> None:
        """After a restart newcomers are shown the same, byte for byte, to the same groups, and until the same time."""
        self.retained.keep(item("M", stale=60), G1, NOW)
        self.retained.keep(item("N", extra="<x>\N{SNOWMAN}&amp;</x>"), G2, NOW)
        restarted = self.restart()
        self.assertEqual((self.shown(G1, retained=restarted), self.shown(G2, retained=restarted)), (["M"], ["N"]))
        after = restarted.get("N")
        assert after is not None
        self.assertEqual(after.xml, item("N", extra="<x>\N{SNOWMAN}&amp;</x>").xml)
        self.assertEqual(restarted.bytes, self.retained.bytes)
        restarted.prune(NOW + 60)
        self.assertEqual(len(restarted), 1)

    def test_restart_much_later(self) -> None:
        """What expired while the server was down is not shown, and old deletes do not count any more."""
        self.retained.keep(item("M", stale=60), G1, NOW)
        self.retained.delete("N", G1, NOW, NOW)
        kept = self.kept()
        restarted = self.make()
        restarted.restore(kept.items, kept.tombstones, NOW + 60)
        self.assertEqual(len(restarted), 0)
        restarted.restore(kept.items, kept.tombstones, NOW + DAY)
        self.assertEqual(len(restarted), 0)
        restarted.keep(item("N", stale=2 * DAY), G1, NOW + DAY)
        self.assertEqual(len(restarted), 1)

    def test_restart_with_smaller_limits(self) -> None:
        """Limits that were made smaller hold from the start."""
        for number in range(5):
            self.retained.keep(item(f"M-{number}", stale=100 + number), G1, NOW)
        restarted = self.restart(items=2)
        self.assertEqual({record.uid for record in self.kept().items}, {"M-3", "M-4"})
        self.assertEqual(len(restarted), 2)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("keep", "keep", "keep", "delete", "remove", "prune")),
        st.sampled_from("ABCDE"),
        st.integers(-2, 20),
    ),
    max_size=80,
)


class RetainedModelTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(STEPS)
    def test_against_a_dictionary(self, steps: list[tuple[str, str, int]]) -> None:
        """Whatever is kept and deleted: what is shown is what is in the store, counted right, and in bounds."""
        clock = Clock()
        clock.rightNow = NOW
        store = MemoryStore(clock)
        retained = Retained(store, 3, 1 << 20, -1, 3)
        model: dict[str, Event] = {}
        for what, uid, seconds in steps:
            clock.advance(1)
            now = clock.seconds()
            if what == "keep":
                said = item(uid, now=now, stale=seconds)
                model.pop(uid, None)
                retained.keep(said, G1, now)
                if said.stale > now:
                    model[uid] = said
                    if len(model) > 3:  # items that are stale by now count until they are pruned
                        del model[min(model, key=lambda each: (model[each].stale, each))]
            elif what == "prune":
                retained.prune(now)
                model = {uid: each for uid, each in model.items() if each.stale > now}
            else:
                if what == "delete":
                    retained.delete(uid, G1, now, now)
                else:
                    retained.remove(uid, G1)
                model.pop(uid, None)
            self.assertEqual({each.uid for each in retained.visible(G1, 0)}, set(model))
            self.assertEqual(retained.bytes, sum(len(each.xml) for each in model.values()))
        stored = {record.uid: record.xml for record in store._records.values() if isinstance(record, Item)}
        self.assertEqual(stored, {uid: each.xml for uid, each in model.items()})
        self.assertLessEqual(len(retained._expiry), 2 * 4 + 65)
