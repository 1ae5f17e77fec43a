from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.members import MAX_NODES, MAX_SEEN, SILENT_SECONDS, Members
from taky_twisted.bus.tally import Tally
from taky_twisted.interfaces import Node
from tests.bus.ear import Ear


class MembersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ear, self.tally = Ear(), Tally()
        self.members = Members(self.ear, self.tally)

    def arrive(self, number: int, instance: str = "i", **counts: int) -> list[object]:
        """Let a batch arrive; say what the listener was told, or None if it was heard before."""
        calls = self.members.arrived(Node(instance, instance.upper(), counts=counts), number)
        if calls is None:
            return [None]
        return self.made(calls)

    def made(self, calls: list[tuple[object, ...]]) -> list[object]:
        """Make calls, and say what the listener was told."""
        for call in calls:
            call[0](*call[1:])  # type: ignore[operator]
        return list(self.ear.take())

    def test_first(self) -> None:
        """Whatever number is heard first: a node has joined, and nothing was missed."""
        self.assertEqual(self.arrive(17), [("joined", "I")])
        self.assertEqual(self.arrive(18), [])
        self.assertEqual(self.arrive(1, "k"), [("joined", "K")])
        self.assertEqual([node.name for node in self.members.nodes], ["I", "K"])

    def test_gap(self) -> None:
        """A number that is left out means that words are missing."""
        self.arrive(1)
        self.assertEqual(self.arrive(3), [("missed", "i")])
        self.assertEqual(self.arrive(4), [])
        self.assertEqual(self.tally.gaps, 1)

    def test_twice(self) -> None:
        """A number counts once, whenever it comes again."""
        self.arrive(1)
        self.arrive(2)
        self.assertEqual([self.arrive(2), self.arrive(1)], [[None], [None]])
        self.assertEqual(self.arrive(3), [])
        self.assertEqual(self.tally.doubled, 2)

    def test_silent(self) -> None:
        """A node is gone when it was listened to in vain for five seconds, and no earlier."""
        self.arrive(1)
        self.assertEqual(self.members.listened(1.5), [], "the time before it was heard does not count")
        self.assertEqual(self.members.listened(SILENT_SECONDS - 0.1), [])
        self.assertEqual(self.made(self.members.listened(0.1)), [("gone", "I", False)])
        self.assertEqual(self.members.nodes, [])
        self.assertEqual(self.arrive(1), [None], "an old batch is no sign of life")
        self.assertEqual(self.arrive(2), [("joined", "I"), ("missed", "i")])

    def test_heard_in_between(self) -> None:
        """Whoever is heard has five seconds again; so has everybody after an outage of our own."""
        self.arrive(1)
        for number in range(2, 5):
            self.assertEqual(self.members.listened(SILENT_SECONDS - 0.1), [])
            self.assertEqual(self.arrive(number), [])
        self.members.listened(0)
        self.members.listened(SILENT_SECONDS - 0.1)
        self.members.afresh()
        self.assertEqual(self.members.listened(SILENT_SECONDS), [])
        self.assertEqual(len(self.members.listened(SILENT_SECONDS)), 1)

    def test_counts(self) -> None:
        """What a node counts of itself is what it said last; it need not say it each time."""
        self.arrive(1, clients=1)
        self.arrive(2, clients=2)
        self.arrive(3)
        self.assertEqual(self.members.nodes[0].counts, {"clients": 2})

    def test_left(self) -> None:
        """Who says goodbye is gone at once; and what it said cannot bring it back."""
        self.arrive(1)
        self.assertEqual(self.made(self.members.left("i")), [("gone", "I", True)])
        self.assertEqual(self.members.nodes, [])
        self.assertEqual(self.arrive(1), [None])

    def test_unreadable(self) -> None:
        """What is not understood is missed, once."""
        self.assertEqual(self.members.unreadable("i", 1), [])
        self.arrive(1)
        self.assertEqual(self.made(self.members.unreadable("i", 2)), [("missed", "i")])
        self.assertEqual(self.members.unreadable("i", 2), [])
        self.assertEqual(self.arrive(3), [])

    def test_bounded(self) -> None:
        """However many come and go, little is remembered of them."""
        for number in range(MAX_SEEN + 10):
            self.assertFalse(self.members.is_full(f"i-{number}"))
            self.arrive(1, f"i-{number}")
            self.members.left(f"i-{number}")
        self.assertEqual(self.arrive(1, "i-0"), [("joined", "I-0")])
        self.assertEqual(self.arrive(1, f"i-{MAX_SEEN}"), [None])
        for number in range(1, MAX_NODES):
            self.arrive(1, f"k-{number}")
        self.assertTrue(self.members.is_full("one more"))
        self.assertFalse(self.members.is_full("i-0"))
