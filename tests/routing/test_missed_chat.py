from __future__ import annotations

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import Event
from taky_twisted.routing import missed_chat
from taky_twisted.routing.missed_chat import MissedChats
from taky_twisted.routing.records import MissedChat
from taky_twisted.stores.memory import MemoryStore
from tests.samples import NOW, chat, event, to

G1, G2 = frozenset({"g1"}), frozenset({"g2"})
WEEK = 7 * 86_400


def message(number: int, text: str = "hello") -> Event:
    """Make a direct message to B."""
    return event(chat("A", text, number=number, room="B", id_="B", uids=("B",), marti=to("B")))


class MissedChatsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.store = MemoryStore(self.clock)
        self.chats = MissedChats(self.store, 100, WEEK)

    def stored(self) -> list[MissedChat]:
        """Read what would survive a restart now."""
        return self.successResultOf(self.store.open()).chats

    def keep(self, recipient: str, *numbers: int) -> list[bool]:
        """Keep messages."""
        return [self.chats.keep(recipient, None, message(number), G1, NOW) for number in numbers]

    def take(self, recipient: str, now: float = NOW) -> list[str]:
        """Take messages and tell their uids."""
        return [each.uid for each in self.chats.take(recipient, None, G1, now)]

    def test_once_and_in_order(self) -> None:
        """Messages come in the order in which they were said, once, each to whom it was for."""
        self.assertEqual(self.keep("B", 3, 1, 2), [True, True, True])
        self.keep("C", 1)
        self.assertEqual((len(self.chats), len(self.stored())), (4, 4))
        self.assertEqual(self.take("B"), [f"GeoChat.A.B.m-{number}" for number in (3, 1, 2)])
        self.assertEqual(self.take("B"), [])
        self.assertEqual([record.recipient for record in self.stored()], ["C"])
        self.assertEqual((self.take("C"), self.take("X"), len(self.chats)), (["GeoChat.A.B.m-1"], [], 0))
        self.assertEqual(self.stored(), [])

    def test_settled(self) -> None:
        """A message that another node delivered waits no more; the others do, in order."""
        self.keep("B", 1, 2, 3)
        (first, second, _) = self.stored()
        self.chats.settle("B", "GeoChat.A.B.m-2")
        self.chats.settle("B", "GeoChat.A.B.m-2")
        self.chats.forget(second)
        self.chats.settle("NOBODY", "GeoChat.A.B.m-1")
        self.assertEqual(len(self.stored()), 2)
        self.assertEqual(self.take("B"), ["GeoChat.A.B.m-1", "GeoChat.A.B.m-3"])
        self.chats.forget(first)

    def test_said_twice(self) -> None:
        """A message that is said again, as clients do that see no receipt, is delivered once."""
        self.assertEqual(self.keep("B", 1, 2, 1), [True, True, True])
        self.assertEqual(self.take("B"), ["GeoChat.A.B.m-1", "GeoChat.A.B.m-2"])

    def test_number_for_one_contact(self) -> None:
        """At the limit a further message is refused, so that its sender is told, and for others there is room."""
        self.chats = MissedChats(self.store, 2, WEEK)
        self.assertEqual(self.keep("B", 1, 2, 3, 2), [True, True, False, True])
        self.assertEqual(self.keep("C", 1), [True])
        self.assertEqual(len(self.take("B")), 2)
        self.assertEqual(self.keep("B", 4), [True])

    def test_none_wanted(self) -> None:
        """A limit of 0 keeps nothing."""
        self.chats = MissedChats(self.store, 0, WEEK)
        self.assertEqual((self.keep("B", 1), self.stored()), ([False], []))

    def test_size_of_all(self) -> None:
        """All together have a size, to the byte; what is delivered or expires makes room."""
        self.patch(missed_chat, "MAX_BYTES", 2 * len(message(1).xml))
        self.assertEqual(self.keep("B", 1) + self.keep("C", 2), [True, True])
        self.assertFalse(self.chats.keep("D", None, message(3, ""), G1, NOW))
        self.take("B")
        self.assertFalse(self.chats.keep("D", None, message(3, "hello!"), G1, NOW))
        self.assertEqual(self.keep("D", 3), [True])
        self.chats.prune(NOW + WEEK)
        self.assertEqual(self.keep("E", 1, 2), [True, True])

    def test_expiry(self) -> None:
        """What waited for a week is dropped, and not delivered even if nobody looked."""
        self.keep("B", 1)
        self.chats.keep("B", None, message(2), G1, NOW + 1)
        self.keep("C", 1)
        self.chats.prune(NOW + WEEK - 1)
        self.assertEqual(len(self.chats), 3)
        self.chats.prune(NOW + WEEK)
        self.assertEqual([(record.recipient, record.number) for record in self.stored()], [("B", 2)])
        self.assertEqual((self.take("B", NOW + WEEK + 1), self.stored()), ([], []))
        self.assertEqual(self.chats._waiting, {}, "nothing is left of anybody")

    def test_size_for_one_contact(self) -> None:
        """For one contact there is so much room, to the byte, and others have theirs."""
        self.patch(missed_chat, "MAX_CONTACT_BYTES", 2 * len(message(1).xml))
        self.assertEqual(self.keep("B", 1, 2, 3), [True, True, False])
        self.assertEqual(self.keep("C", 1), [True])

    def test_somebody_else_of_the_same_uid(self) -> None:
        """What is for a certificate or an account waits for it, whoever else says the uid."""
        self.chats.keep("B", "bravo", message(1), G1, NOW)
        self.keep("B", 2)
        self.assertEqual([each.uid for each in self.chats.take("B", "mallory", G1, NOW)], ["GeoChat.A.B.m-2"])
        self.assertEqual(self.take("B"), [])
        self.assertEqual([each.uid for each in self.chats.take("B", "bravo", G1, NOW)], ["GeoChat.A.B.m-1"])

    def test_unreadable(self) -> None:
        """What cannot be read after a restart is left out, and the rest is there."""
        self.keep("B", 1, 2)
        first, second = self.stored()
        restarted = MissedChats(self.store, 100, WEEK)
        restarted.restore([replace(first, xml=b"garbage"), second])
        self.assertEqual([each.uid for each in restarted.take("B", None, G1, NOW)], ["GeoChat.A.B.m-2"])

    def test_groups(self) -> None:
        """Who may not hear the sender any more does not get its messages, then or later."""
        self.keep("B", 1)
        self.chats.keep("B", None, message(2), G1 | G2, NOW)
        self.assertEqual([each.uid for each in self.chats.take("B", None, G2, NOW)], ["GeoChat.A.B.m-2"])
        self.assertEqual((self.take("B"), self.stored()), ([], []))

    def test_groups_switched_off(self) -> None:
        """What was said in a group that its receiver has switched off waits until it is on again, or for a week."""
        for number, groups in enumerate((G1, G2, G1 | G2, G1)):
            self.chats.keep("B", None, message(number), groups, NOW + number)
        self.assertEqual([each.uid[-3:] for each in self.chats.take("B", None, G2, NOW, G1 | G2)], ["m-1", "m-2"])
        self.assertEqual(len(self.stored()), 2)
        self.chats.prune(NOW + WEEK)
        self.assertEqual([each.uid[-3:] for each in self.chats.take("B", None, G1, NOW, G1 | G2)], ["m-3"])
        self.assertEqual((self.stored(), len(self.chats)), ([], 0))

    def test_restart(self) -> None:
        """Messages survive a restart as they were, and later ones come after them."""
        self.keep("B", 5, 4)
        restarted = MissedChats(self.store, 100, WEEK)
        restarted.restore(self.stored())
        self.assertTrue(restarted.keep("B", None, message(3), G1, NOW))
        self.assertEqual([record.number for record in self.stored()], [1, 2, 3])
        again = MissedChats(self.store, 100, WEEK)
        again.restore(self.stored())
        events = again.take("B", None, G1, NOW)
        self.assertEqual([each.uid for each in events], [f"GeoChat.A.B.m-{number}" for number in (5, 4, 3)])
        self.assertEqual(events[0].xml, message(5).xml)
        self.assertNotIn(b"marti", events[0].xml)

    def test_restored_messages_are_still_directed(self) -> None:
        """A restored message is known as a direct one, so that it is kept again if it cannot be delivered."""
        self.keep("B", 1)
        restarted = MissedChats(self.store, 100, WEEK)
        restarted.restore(self.stored())
        destinations = restarted.take("B", None, G1, NOW)[0].detail.destinations
        assert destinations is not None
        self.assertEqual((destinations.uids, destinations.explicit), (("B",), True))
