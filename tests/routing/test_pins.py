from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.identity.failures import Failures
from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.routing.pins import PIN_SECONDS
from taky_twisted.routing.router import Router
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import LogLines, principal
from tests.routing.router_case import Peer
from tests.samples import NOW, chat, event, marker, sa

ALICE, MALLORY = principal("alice"), principal("mallory")


class PinsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = LogLines(self)
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.failures = Failures(self.clock)
        self.begin(pin_uid=True)
        self.b = self.join("B", principal("bob"))

    def begin(self, pin_uid: bool) -> None:
        self.store = MemoryStore(self.clock)
        self.router = Router(self.clock, self.store, Limits(), failures=self.failures, pin_uid=pin_uid)

    def connect(self, proved: object, peer: str = "10.0.0.9:5 at ssl:8089") -> Peer:
        made = Peer(self, proved)  # type: ignore[arg-type]
        made.subscription.peer = peer
        return made

    def join(self, uid: str, proved: object) -> Peer:
        made = self.connect(proved)
        self.report(made, uid)
        made.heard()
        return made

    def report(self, peer: Peer, uid: str) -> None:
        peer.subscription.sink_heard = self.clock.seconds()
        peer.say(sa(uid, uid, now=self.clock.seconds()))

    def test_refused(self) -> None:
        """Nobody else may say a uid with which somebody with a certificate was heard: it is not passed on, and told."""
        self.join("A", ALICE)
        self.b.heard()
        for proved in (MALLORY, ANONYMOUS):
            mallory = self.connect(proved)
            self.report(mallory, "A")
            self.report(mallory, "A")
            self.assertEqual(self.b.uids(), [])
            self.assertFalse(mallory.subscription.closed)
        self.assertEqual([holder.principal for holder in self.router.contacts.get("A").holders], [ALICE])  # type: ignore[union-attr]
        first, second = self.failures
        self.assertEqual((first.address, first.door, first.subject), ("10.0.0.9", "ssl:8089", "mallory"))
        self.assertEqual(first.reason, "it says that it is A, with which alice was heard in the last 60 seconds")
        self.assertIn("pin_uid", first.advice)
        self.assertEqual((first.count, second.count, second.subject), (2, 2, ""))
        self.assertEqual(len([line for line in self.log() if "it says that it is A" in line]), 2)
        self.assertEqual(self.router.audiences.tally.kinds["position"].refused, 4)

    def test_streams_stay(self) -> None:
        """Both go on: the owner as before, and the other with what else it has to say, also under its own uid."""
        alice, mallory = self.join("A", ALICE), self.connect(MALLORY)
        self.b.heard()
        self.report(mallory, "A")
        self.report(mallory, "M")
        mallory.say(chat("M"))
        self.report(alice, "A")
        self.assertEqual(self.b.uids(), ["M", "GeoChat.M.All Chat Rooms.m-1", "A"])

    def test_other_things_of_that_name(self) -> None:
        """Nor may it move somebody about the map with what is no self-report; items that are nobody's it may move."""
        self.join("A", ALICE)
        mallory = self.connect(MALLORY)
        self.b.heard()
        mallory.say(marker("A"), marker("ITEM"))
        self.assertEqual(self.b.uids(), ["ITEM"])

    def test_a_new_certificate(self) -> None:
        """A device that comes back with another certificate is let in when the old one was not heard for a minute."""
        alice, again = self.join("A", ALICE), self.connect(MALLORY)
        alice.leave()
        self.clock.advance(PIN_SECONDS - 0.1)
        self.report(again, "A")
        self.assertIsNone(again.subscription.primary)
        self.clock.advance(0.1)
        self.report(again, "A")
        self.assertIsNotNone(again.subscription.primary)

    def test_at_rest(self) -> None:
        """Who reports itself rarely, but pings, keeps its uid."""
        alice, mallory = self.join("A", ALICE), self.connect(MALLORY)
        self.clock.advance(PIN_SECONDS * 2)
        alice.subscription.sink_heard = self.clock.seconds() - 1
        self.report(mallory, "A")
        self.assertIsNone(mallory.subscription.primary)

    def test_same_name(self) -> None:
        """The same name may come back at any time, and take its uid along."""
        self.join("A", ALICE)
        again = self.join("A", ALICE)
        self.assertIsNotNone(again.subscription.primary)
        self.assertEqual(list(self.failures), [])

    def test_nobody_in_particular(self) -> None:
        """A uid that was heard without a certificate is anybody's."""
        self.join("A", ANONYMOUS)
        self.assertIsNotNone(self.join("A", ALICE).subscription.primary)

    def test_servers(self) -> None:
        """Other servers and the mesh pass on what others said: they may."""
        self.join("A", ALICE)
        self.b.heard()
        speaker = self.router.speaker(ANONYMOUS, self.b.sink, "udp")
        speaker.publish(event(sa("A", "A", now=self.clock.seconds())))
        self.clock.advance(0)
        self.assertEqual(self.b.uids(), ["A"])

    def test_off(self) -> None:
        """Switched off, the newer one is addressed, as ever."""
        self.begin(pin_uid=False)
        self.join("A", ALICE)
        self.assertIsNotNone(self.join("A", MALLORY).subscription.primary)
