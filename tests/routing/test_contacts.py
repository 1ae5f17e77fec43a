from __future__ import annotations

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import ANON_GROUP, ANONYMOUS, Principal
from taky_twisted.routing.contact import Contact
from taky_twisted.routing.contacts import KNOWN_SECONDS, REPLAY_SECONDS
from taky_twisted.routing.records import Groups, KnownContact
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import LogLines, MemorySink, principal
from tests.samples import NOW, chat, control, delete, event, marker, sa, to, xml

ANON = frozenset({ANON_GROUP})
G1, G2 = frozenset({"g1"}), frozenset({"g2"})
ALICE, MALLORY = principal("alice"), principal("mallory")


class Peer:
    """A connection without a wire."""

    def __init__(self, tests: ContactsCase, proved: Principal, name: str) -> None:
        self._tests = tests
        self.sink = MemorySink()
        self.subscription: Subscription = tests.router.subscribe(proved, self.sink, f"peer {name}")

    def report(self, uid: str, callsign: str | None = None, **keys: object) -> None:
        """Report a uid as present; the bytes count as heard."""
        keys.setdefault("now", self._tests.clock.seconds())
        self.say(sa(uid, callsign or uid, **keys))  # type: ignore[arg-type]

    def say(self, document: bytes) -> None:
        """Say something."""
        self.subscription.sink_heard = self._tests.clock.seconds()
        self.subscription.publish(event(document))
        self._tests.clock.advance(0)

    def leave(self, clean: bool = True) -> None:
        """Be gone."""
        self.subscription.close(clean)
        self._tests.clock.advance(0)

    def heard(self) -> list[Event]:
        """Take what was delivered since the last time."""
        events, self.sink.events = self.sink.events, []
        return events

    def uids(self) -> list[str]:
        """Take what was delivered: uids, and of departures whose they are."""
        return [f"-{each.detail.link_uid}" if each.type == "t-x-d-d" else each.uid for each in self.heard()]


class ContactsCase(SynchronousTestCase):
    """A router on a clock of ours."""

    limits = Limits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.store = MemoryStore(self.clock)
        self.log = LogLines(self)
        self.begin()

    def begin(self) -> None:
        """Start a router on what the store has."""
        self.router = Router(self.clock, self.store, self.limits)
        self.contacts = self.router.contacts
        self.successResultOf(self.store.open().addCallback(self.router.restore))

    def connect(self, proved: Principal = ANONYMOUS, name: str = "") -> Peer:
        """Connect somebody who says nothing yet."""
        return Peer(self, proved, name)

    def join(self, uid: str, proved: Principal = ANONYMOUS, callsign: str | None = None, **keys: object) -> Peer:
        """Connect somebody who reports itself."""
        peer = self.connect(proved, uid)
        peer.report(uid, callsign, **keys)
        return peer

    def contact(self, uid: str) -> Contact:
        """Find a contact that must be there."""
        contact = self.contacts.get(uid)
        assert contact is not None
        return contact

    def holders(self, uid: str) -> list[Subscription]:
        """Tell who gets what is for a uid."""
        return list(self.contact(uid).holders)

    def called(self, callsign: str) -> list[str]:
        """Tell the uids of a callsign."""
        return [contact.uid for contact in self.contacts.called(callsign)]

    def newcomer(self, groups: Groups = ANON) -> Subscription:
        """Make somebody who has not said who it is."""
        return self.router.speaker(principal("newcomer", (), groups), MemorySink(), "10.9.9.9:1 at test")

    def visible(self, groups: Groups = ANON) -> list[tuple[str, list[str]]]:
        """Tell what a newcomer is told about contacts: uids, and types."""
        return [
            (uid, [each.type for each in events])
            for uid, events in self.contacts.visible(self.newcomer(groups), self.clock.seconds())
        ]

    def stored(self) -> dict[str, KnownContact]:
        """Read what would survive a restart now."""
        return {record.uid: record for record in self.successResultOf(self.store.open()).contacts}


class IdentityTests(ContactsCase):
    """Who is who."""

    def test_first_report(self) -> None:
        """The first report of a connection makes it a contact with all that is known of it."""
        peer = self.join("A", ALICE, "FOX", team="Red")
        contact = self.contact("A")
        self.assertEqual(
            (contact.callsign, contact.team, contact.role, contact.takv, contact.principal),
            ("FOX", "Red", "Team Member", "ATAK-CIV:4.10.0.5", "alice"),
        )
        self.assertIs(peer.subscription.primary, contact)
        self.assertEqual(self.holders("A"), [peer.subscription])
        self.assertTrue(contact.present)
        self.assertEqual([each.uid for each in self.contacts], ["A"])

    def test_what_is_no_report(self) -> None:
        """Markers, emergencies and chat with a callsign make nobody a contact."""
        peer = self.connect()
        for document in (
            marker("M", "FOX"),
            xml("E", "b-a-o-tbl", '<contact callsign="FOX-Alert"/><emergency/>'),
            xml("B", "b-t-f", '<contact callsign="FOX" endpoint="*:-1:stcp"/>'),
            xml("N", "a-f-G", '<contact endpoint="*:-1:stcp"/><takv/>'),
        ):
            peer.say(document)
        self.assertEqual((list(self.contacts), peer.subscription.primary), ([], None))

    def test_without_endpoint(self) -> None:
        """A client that names its software but no endpoint is a contact too, and so is one with an endpoint only."""
        self.connect().say(xml("A", "a-f-G", '<contact callsign="FOX"/><takv platform="x" version="1"/>'))
        self.connect().say(xml("B", "a-f-G", '<contact callsign="BEAR" endpoint=""/>'))
        self.assertEqual([(each.uid, each.takv) for each in self.contacts], [("A", "x:1"), ("B", "")])

    def test_callsign_changes(self) -> None:
        """A new callsign is found at once, and the old one is nobody's."""
        peer = self.join("A", callsign="FOX")
        peer.report("A", "Bear")
        self.assertEqual((self.called("FOX"), self.called("fox"), self.called("Bear")), ([], [], ["A"]))
        peer.report("A", "BEAR", team="Red")
        self.assertEqual((self.called("Bear"), self.called("BEAR")), (["A"], ["A"]))
        callsigns = self.contacts._callsigns
        self.assertEqual((len(callsigns._exact), len(callsigns._folded)), (1, 1))
        self.assertEqual(self.contact("A").team, "Red")

    def test_spelling_of_callsigns(self) -> None:
        """A callsign is found as it is spelled, in another case only if nobody spells it so."""
        for uid, callsign in (("A", "Fox"), ("B", "FOX"), ("C", "FOX"), ("D", "STRASSE"), ("E", "straße")):
            self.join(uid, callsign=callsign)
        for asked, found in (
            ("Fox", ["A"]),
            ("FOX", ["B", "C"]),
            ("fOx", ["A", "B", "C"]),
            ("Straße", ["D", "E"]),
            ("straße", ["E"]),
            ("WOLF", []),
            ("", []),
        ):
            self.assertEqual(self.called(asked), found, asked)

    def test_callsign_of_one_of_several(self) -> None:
        """When one of two namesakes changes its callsign, the other one keeps it."""
        first = self.join("A", callsign="FOX")
        self.join("B", callsign="FOX")
        first.report("A", "BEAR")
        self.assertEqual((self.called("FOX"), self.called("BEAR")), (["B"], ["A"]))

    def test_team(self) -> None:
        """A team is who is online in it."""
        self.join("A", team="Red")
        gone = self.join("B", team="Red")
        self.join("C", team="Blue")
        gone.leave()
        self.assertEqual([contact.uid for contact in self.contacts.in_team("Red")], ["A"])

    def test_clock_that_is_off(self) -> None:
        """A client whose clock is off by more than five minutes is named in the log once per connection."""
        for off, warned in ((300, 0), (-300, 0), (301, 1), (-301, 1)):
            before = len(self.log())
            peer = self.join(f"U{off}", callsign="FOX", now=NOW + off)
            peer.report(f"U{off}", "FOX", now=NOW + off + 1)
            lines = [line for line in self.log()[before:] if "clock" in line]
            self.assertEqual(len(lines), warned, off)
        self.assertIn("the clock of FOX at peer U-301 is off by -5 minutes", self.log()[-2])

    def test_report_for_some(self) -> None:
        """A report that was for some makes its sender known to all, but newcomers are shown only what was for all."""
        watcher = self.join("W")
        peer = self.connect()
        peer.report("A", marti=to("W"))
        self.assertEqual((self.called("A"), self.visible()), (["A"], [("W", ["a-f-G-U-C"])]))
        watcher.heard()
        peer.leave()
        self.assertEqual(watcher.uids(), [], "nobody else has seen it")
        peer = self.join("A")
        peer.report("A", marti=to("W"), now=NOW + 9)
        shown = dict(self.contacts.visible(self.newcomer(), NOW))["A"]
        self.assertEqual([each.time for each in shown], [NOW])

    def test_report_for_a_group(self) -> None:
        """A report that was for one group is shown to newcomers of that group only."""
        peer = self.connect(principal("a", ["g1", "g2"], []))
        peer.report("A", marti='<dest group="g1"/>')
        self.assertEqual((len(self.visible(G1)), self.visible(G2)), (1, []))
        peer.report("A", marti='<dest group="g3"/>')
        self.assertEqual((len(self.visible(G1)), self.visible(frozenset({"g3"}))), (1, []))


class SecondaryTests(ContactsCase):
    """Gateways, which speak for several uids."""

    limits = Limits(secondary_uids=2)

    def test_several_uids(self) -> None:
        """A gateway's further uids are addressed at it, up to a number; its first one stays its own."""
        gateway = self.join("G")
        for uid in ("S1", "S2", "S3"):
            gateway.report(uid)
        self.assertEqual([each.uid for each in self.contacts], ["G", "S1", "S2"])
        self.assertEqual(self.holders("S2"), [gateway.subscription])
        self.assertEqual(gateway.subscription.primary, self.contact("G"))
        gateway.report("S1", "NEW")
        self.assertEqual(self.called("NEW"), ["S1"])

    def test_never_somebody_elses(self) -> None:
        """A further uid never takes the place of somebody who is online."""
        client = self.join("A")
        gateway = self.join("G")
        gateway.report("A", "FALSE")
        self.assertEqual((self.holders("A"), self.called("FALSE")), ([client.subscription], []))
        client.leave()
        gateway.report("A")
        self.assertEqual(self.holders("A"), [gateway.subscription])

    def test_client_takes_its_uid_back(self) -> None:
        """Somebody who connects itself is addressed itself, not at the gateway that spoke for it."""
        gateway = self.join("G", ALICE)
        gateway.report("A")
        client = self.join("A", MALLORY)
        self.assertEqual(self.holders("A"), [client.subscription])
        gateway.report("A", "FALSE", now=NOW + 1)
        self.assertEqual((self.holders("A"), self.contact("A").callsign), ([client.subscription], "A"))

    def test_all_leave(self) -> None:
        """When a gateway goes, so do all that it spoke for."""
        watcher = self.join("W")
        gateway = self.join("G")
        gateway.report("S1")
        watcher.heard()
        gateway.leave()
        self.assertEqual(sorted(watcher.uids()), ["-G", "-S1"])

    def test_gateway_reconnects(self) -> None:
        """When a gateway connects anew nobody that it speaks for looks offline, if it says so soon."""
        watcher = self.join("W")
        gateway = self.join("G", ALICE)
        gateway.report("S1")
        again = self.join("G", ALICE)
        self.assertEqual(gateway.sink.closed, "it connected anew")
        self.clock.advance(4)
        again.report("S1")
        self.clock.advance(10)
        self.assertEqual([uid for uid in watcher.uids() if uid.startswith("-")], [])


class ReconnectTests(ContactsCase):
    """Two connections of one uid."""

    def test_same_certificate(self) -> None:
        """With one certificate the newer connection is it: the older one is closed, and nobody notices."""
        watcher = self.join("W")
        older, newer = self.join("A", ALICE), self.join("A", ALICE)
        self.assertEqual((older.sink.closed, newer.sink.closed), ("it connected anew", None))
        self.assertTrue(older.subscription.closed)
        self.assertEqual(self.holders("A"), [newer.subscription])
        self.clock.advance(60)
        self.assertEqual(watcher.uids(), ["A", "A"])

    def test_same_certificate_in_between(self) -> None:
        """Its older connection is closed too if somebody else claimed the uid in between."""
        older, other, newer = self.join("A", ALICE), self.join("A", MALLORY), self.join("A", ALICE)
        self.assertEqual((older.sink.closed, other.sink.closed), ("it connected anew", None))
        self.assertEqual(self.holders("A"), [newer.subscription])
        newer.leave()
        self.assertEqual(self.holders("A"), [other.subscription])

    def test_what_was_not_delivered(self) -> None:
        """What was for the older connection and unread reaches the newer one; positions and chat to all do not."""
        older = self.join("A", ALICE)
        older.sink.waiting = [
            event(document)
            for document in (
                chat("B", number=1, marti=to("A")),
                xml("OFFER", "b-f-t-r", marti='<dest uid="A"/>'),
                chat("B", number=2),
                chat("B", number=3, marti=to("All Streaming")),
                marker(),
            )
        ]
        newer = self.join("A", ALICE)
        self.assertEqual(newer.uids(), ["GeoChat.B.All Chat Rooms.m-1", "OFFER"])

    def test_anonymous_and_silent(self) -> None:
        """Without certificates the older connection is closed if it says nothing for ten seconds; nobody notices."""
        watcher = self.join("W")
        older, newer = self.join("A"), self.join("A")
        self.assertEqual(self.holders("A"), [newer.subscription])
        self.clock.advance(9.9)
        self.assertIsNone(older.sink.closed)
        self.clock.advance(0.1)
        self.assertEqual(older.sink.closed, "it connected anew")
        self.clock.advance(60)
        self.assertEqual(watcher.uids(), ["A", "A"])
        self.assertEqual(self.holders("A"), [newer.subscription])

    def test_anonymous_and_alive(self) -> None:
        """If the older one speaks, both are addressed from then on, with one warning."""
        watcher = self.join("W")
        older, newer = self.join("A", callsign="OLD"), self.join("A", callsign="NEW")
        self.clock.advance(1)
        older.report("A", "OLD")
        self.assertEqual(self.holders("A"), [newer.subscription, older.subscription])
        self.clock.advance(60)
        self.assertIsNone(older.sink.closed)
        older.report("A", "OLD")
        newer.report("A", "NEW")
        self.assertEqual(len([line for line in self.log() if "two anonymous" in line]), 1)
        self.assertEqual([line for line in self.log() if "is said by" in line], [])
        older.leave()
        self.assertNotIn("-A", watcher.uids())
        self.assertEqual((self.holders("A"), self.contact("A").present), ([newer.subscription], True))

    def test_anonymous_and_only_pinging(self) -> None:
        """Any byte shows that the older one is alive, also what is never routed."""
        older, newer = self.join("A"), self.join("A")
        self.clock.advance(3)
        older.subscription.sink_heard = self.clock.seconds()
        self.clock.advance(7)
        self.assertIsNone(older.sink.closed)
        self.assertEqual(self.holders("A"), [newer.subscription, older.subscription])

    def test_no_echo_to_the_older_one(self) -> None:
        """While it may be dead the older connection is not sent what the newer one says, nor what it said itself."""
        older = self.join("A")
        older.heard()
        newer = self.connect()
        older.subscription.publish(event(marker("OWN")))
        newer.subscription.publish(event(sa("A", "A")))
        newer.say(marker("NEW"))
        self.assertEqual((older.uids(), newer.uids()), ([], ["OWN"]))
        third = self.join("A")
        third.say(marker("THIRD"))
        self.assertEqual((older.uids(), newer.uids()), ([], []))
        older.say(marker("ALIVE"))
        self.assertEqual((older.uids(), third.uids()), ([], ["ALIVE"]))
        third.say(marker("M"))
        self.assertEqual(older.uids(), ["M"])

    def test_three_anonymous(self) -> None:
        """A third connection is addressed alone until others show that they live; who is silent is closed in time."""
        first, second = self.join("A"), self.join("A")
        self.clock.advance(5)
        third = self.join("A")
        self.assertEqual(self.holders("A"), [third.subscription])
        self.clock.advance(5)
        self.assertEqual((first.sink.closed, second.sink.closed), ("it connected anew", None))
        second.say(marker())
        self.clock.advance(5)
        self.assertEqual(self.holders("A"), [third.subscription, second.subscription])

    def test_newer_one_leaves_first(self) -> None:
        """If the newer one goes at once the uid is still there; if the older one then proves dead, it goes as usual."""
        watcher = self.join("W")
        older, newer = self.join("A"), self.join("A")
        watcher.heard()
        self.clock.advance(8)
        newer.leave(clean=False)
        self.assertEqual(self.holders("A"), [older.subscription])
        self.clock.advance(2)
        self.assertEqual((older.sink.closed, watcher.uids()), ("it connected anew", []))
        self.clock.advance(4)
        again = self.join("A")
        self.clock.advance(60)
        self.assertEqual((watcher.uids(), self.holders("A")), (["A"], [again.subscription]))

    def test_older_one_is_gone_before_it_is_judged(self) -> None:
        """An older connection that goes by itself takes nothing with it."""
        older, newer = self.join("A"), self.join("A")
        older.leave(clean=False)
        self.clock.advance(60)
        self.assertEqual((older.sink.closed, self.holders("A")), (None, [newer.subscription]))

    def test_different_certificates(self) -> None:
        """Of two that are proved to be different the newer is addressed, nobody is closed, and there is a warning."""
        watcher = self.join("W")
        older, newer = self.join("A", ALICE), self.join("A", MALLORY)
        self.clock.advance(60)
        self.assertEqual((older.sink.closed, newer.sink.closed), (None, None))
        self.assertEqual(self.holders("A"), [newer.subscription])
        self.assertEqual(
            self.log()[-2:-1],
            ["A is said by alice at peer A and now by mallory at peer A: the newer is addressed"],
        )
        older.say(marker())
        self.assertEqual(newer.uids(), ["MARK-1"])
        newer.leave()
        self.assertEqual((self.holders("A"), self.contact("A").present), ([older.subscription], True))
        watcher.heard()
        older.leave()
        self.assertEqual(watcher.uids(), ["-A"])

    def test_anonymous_against_a_certificate(self) -> None:
        """Neither of an anonymous one and one with a certificate is closed."""
        for first, second in ((ANONYMOUS, ALICE), (ALICE, ANONYMOUS)):
            older, newer = self.join("A", first), self.join("A", second)
            self.clock.advance(60)
            self.assertEqual((older.sink.closed, newer.sink.closed), (None, None))
            self.assertEqual(self.holders("A"), [newer.subscription])
            older.leave()
            newer.leave()

    def test_who_is_not_addressed_changes_nothing(self) -> None:
        """Reports of the connection that is not addressed any more do not change what is known of the contact."""
        older = self.join("A", principal("a", ["g1"], ["g1"]))
        self.join("A", principal("b", ["g2"], ["g2"]), "NEW")
        older.report("A", "OLD", team="Red")
        contact = self.contact("A")
        self.assertEqual((contact.callsign, contact.principal, contact.groups_in), ("NEW", "b", G2))

    def test_no_way_back_by_way_of_another_uid(self) -> None:
        """An anonymous connection does not get back a uid that somebody with a certificate took, by any detour."""
        sneak = self.join("OWN")
        sneak.report("A")
        client = self.join("A", ALICE)
        self.join("OWN")
        sneak.say(marker())
        self.assertEqual(self.holders("A"), [client.subscription])
        self.assertIn(sneak.subscription, self.holders("OWN"))

    def test_unsent_goes_only_to_who_may_hear_it(self) -> None:
        """What was for somebody is not handed to another one of that uid who could not have heard it."""
        older = self.join("A", principal("a", ["g1"], ["g1"]))
        newer = self.join("A", principal("b", ["g1", "g2"], ["g2"]))
        newer.heard()
        older.sink.waiting = [event(chat("B", marti=to("A")))]
        older.leave()
        self.assertEqual(newer.uids(), [])


class DepartureTests(ContactsCase):
    """Going."""

    def setUp(self) -> None:
        super().setUp()
        self.watcher = self.join("W")

    def test_goodbye(self) -> None:
        """Who says goodbye is gone at once, once, with the type that it had."""
        peer = self.join("A")
        self.watcher.heard()
        peer.leave()
        (notice,) = self.watcher.heard()
        self.assertEqual((notice.type, notice.detail.link_uid), ("t-x-d-d", "A"))
        self.assertIn(b'type="a-f-G-U-C"/>', notice.xml)
        self.clock.advance(60)
        self.assertEqual(self.watcher.uids(), [])
        self.assertFalse(self.contact("A").present)

    def test_broken_connection(self) -> None:
        """Who breaks off is there for five more seconds, to newcomers as well."""
        peer = self.join("A")
        self.watcher.heard()
        peer.leave(clean=False)
        self.clock.advance(4.9)
        self.assertEqual((self.watcher.uids(), self.contact("A").present), ([], True))
        self.assertIn(("A", ["a-f-G-U-C"]), self.visible())
        self.clock.advance(0.1)
        self.clock.advance(0)
        self.assertEqual((self.watcher.uids(), self.contact("A").present), (["-A"], False))

    def test_back_in_time(self) -> None:
        """Who is back within five seconds never looked offline."""
        for proved in (ANONYMOUS, ALICE):
            self.join("A", proved).leave(clean=False)
            self.clock.advance(4.9)
            back = self.join("A", proved)
            self.clock.advance(60)
            self.assertEqual(self.watcher.uids(), ["A", "A"])
            back.leave()
            self.assertEqual(self.watcher.uids(), ["-A"])

    def test_never_identified(self) -> None:
        """Who never said who it is goes without a word."""
        self.connect().leave()
        self.assertEqual(self.watcher.uids(), [])

    def test_groups(self) -> None:
        """A departure is told to who could hear the contact."""
        hears, deaf = self.join("H", principal("h", [], ["g1"])), self.join("D", principal("d", [], ["g2"]))
        peer = self.join("A", principal("a", ["g1"], []))
        hears.heard()
        peer.leave()
        self.assertEqual((hears.uids(), deaf.uids()), (["-A"], []))

    def test_incognito(self) -> None:
        """Who goes incognito looks gone, once; what it says from then on is never shown, not when it is gone either."""
        peer = self.join("A")
        peer.report("S")
        self.watcher.heard()
        peer.say(control("t-x-c-i-e"))
        peer.say(control("t-x-c-i-e"))
        self.assertEqual(sorted(self.watcher.uids()), ["-A", "-S"])
        self.clock.advance(10)
        peer.report("A")
        self.assertEqual([uid for uid, _ in self.visible()], ["W"])
        self.assertTrue(self.contact("A").present)
        peer.leave()
        self.assertEqual(self.watcher.uids(), [])
        self.assertEqual(self.visible()[1:], [(uid, ["a-f-G-U-C", "t-x-d-d"]) for uid in "AS"])
        self.assertEqual(dict(self.contacts.visible(self.newcomer(), NOW))["A"][0].time, NOW)

    def test_incognito_from_the_start(self) -> None:
        """Who was incognito before its first report is known, but nothing is shown, kept or told of it when it goes."""
        peer = self.connect()
        peer.say(control("t-x-c-i-e"))
        peer.report("A")
        peer.say(control("t-x-c-i-d"))
        peer.say(control("t-x-c-i-e"))
        self.clock.advance(1)
        self.assertEqual((self.called("A"), len(self.visible()), list(self.stored())), (["A"], 1, ["W"]))
        peer.leave()
        self.assertEqual((self.watcher.uids(), len(self.visible())), ([], 1))

    def test_incognito_of_who_is_not_addressed(self) -> None:
        """Somebody from whom a uid was taken cannot make it look gone."""
        sneak = self.join("A", MALLORY)
        self.join("A", ALICE)
        self.watcher.heard()
        sneak.say(control("t-x-c-i-e"))
        self.assertEqual(self.watcher.uids(), [])

    def test_stop(self) -> None:
        """When the server stops nobody is told that anybody left; what is known is kept, and nothing ticks on."""
        stays, breaks = self.join("A"), self.join("B")
        self.join("GONE").leave()
        self.join("D"), self.join("D")
        self.clock.advance(10)
        self.join("C"), self.join("C")
        self.clock.advance(1)
        breaks.leave(clean=False)
        self.watcher.heard()
        self.router.stop()
        stays.leave(clean=False)
        self.clock.advance(0)
        self.contacts.save()
        self.assertEqual((self.watcher.uids(), self.clock.getDelayedCalls()), ([], []))
        self.assertEqual(
            {uid: record.online for uid, record in self.stored().items() if uid in "AB"}, {"A": False, "B": False}
        )


class KeepingTests(ContactsCase):
    """What is known of who is away."""

    limits = Limits(known_contacts=4)

    def test_picture(self) -> None:
        """A newcomer is told who is there; of who left, also that it left, until its last report is stale."""
        self.join("A", stale=100)
        self.join("B", stale=100).leave()
        self.assertEqual(self.visible(), [("A", ["a-f-G-U-C"]), ("B", ["a-f-G-U-C", "t-x-d-d"])])
        self.assertEqual(self.visible(G1), [])
        self.clock.advance(99.9)
        self.assertEqual(len(self.visible()), 2)
        self.clock.advance(0.1)
        self.assertEqual(self.visible(), [("A", ["a-f-G-U-C"])], "who is there is shown even if stale")

    def test_picture_of_who_is_silent(self) -> None:
        """A contact that is there but has reported nothing for a day is not shown."""
        self.join("A")
        self.clock.advance(REPLAY_SECONDS)
        self.assertEqual(len(self.visible()), 1)
        self.clock.advance(1)
        self.assertEqual(self.visible(), [])

    def test_saving(self) -> None:
        """However often a contact reports, it goes to the store twice a second at most, and as it was last."""
        peer = self.join("A", ALICE)
        for number in range(1, 5):
            peer.report("A", f"FOX {number}")
            self.clock.advance(0.125)
            self.assertEqual(list(self.stored()), [] if number < 4 else ["A"])
        record = self.stored()["A"]
        self.assertEqual(
            (record.callsign, record.type, record.team, record.role, record.takv, record.principal, record.online),
            ("FOX 4", "a-f-G-U-C", "Cyan", "Team Member", "ATAK-CIV:4.10.0.5", "alice", True),
        )
        self.assertEqual((record.groups_in, record.groups_out), (ANON, ANON))
        self.assertEqual((record.seen, record.stale), (NOW + 0.375, NOW + 375.375))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        peer.leave()
        self.contacts.save()
        self.assertFalse(self.stored()["A"].online)
        self.contacts.save()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_restart(self) -> None:
        """After a restart everybody is away: shown with its departure until stale, and known by its callsign."""
        self.join("A", principal("a", ["g1"], ["g2"]), "FOX", stale=100)
        self.clock.advance(1)
        before = self.contact("A")
        self.begin()
        after = self.contact("A")
        self.assertEqual(self.visible(G1), [("A", ["a-f-G-U-C", "t-x-d-d"])])
        self.assertEqual((self.visible(G2), self.called("fox"), after.present), ([], ["A"], False))
        assert after.sa is not None and before.sa is not None
        self.assertEqual(after.sa.xml, before.sa.xml)
        self.assertEqual(replace(after.record() or self.stored()["A"], online=True), self.stored()["A"])
        self.clock.advance(99)
        self.assertEqual(self.visible(G1), [])
        back = self.join("A", principal("a", ["g1"], ["g2"]))
        self.assertEqual((self.holders("A"), self.visible(G1)), ([back.subscription], [("A", ["a-f-G-U-C"])]))

    def test_forgotten_after_a_week(self) -> None:
        """Who is away for a week is forgotten, in memory and in the store; who is there never is."""
        self.join("HERE")
        self.join("A").leave()
        self.clock.advance(3600)
        self.join("B").leave()
        self.clock.advance(KNOWN_SECONDS - 3600)
        self.contacts.prune(self.clock.seconds())
        self.assertEqual(sorted(self.stored()), ["A", "B", "HERE"])
        self.assertEqual(self.called(""), [])
        self.contacts.prune(self.clock.seconds() + 1)
        self.assertEqual((sorted(self.stored()), self.called("A"), self.contacts.get("A")), (["B", "HERE"], [], None))
        self.contacts.prune(self.clock.seconds() + KNOWN_SECONDS + 3601)
        self.assertEqual([each.uid for each in self.contacts], ["HERE"])

    def test_a_week_since_it_left(self) -> None:
        """The week begins when somebody leaves, however long before it reported last."""
        peer = self.join("A")
        self.clock.advance(KNOWN_SECONDS)
        peer.leave()
        self.contacts.prune(self.clock.seconds() + KNOWN_SECONDS)
        self.assertEqual(self.called("A"), ["A"])
        self.contacts.prune(self.clock.seconds() + KNOWN_SECONDS + 1)
        self.assertEqual((self.called("A"), self.called("")), ([], []))

    def test_forgotten_after_a_restart(self) -> None:
        """The week goes on counting over a restart, in whatever order the store gives them."""
        for uid in "CAB":
            self.join(uid).leave()
            self.clock.advance(10)
        self.begin()
        self.contacts.prune(NOW + KNOWN_SECONDS + 15)
        self.assertEqual([each.uid for each in self.contacts], ["B"])

    def test_too_many(self) -> None:
        """When too many are known, who is away longest is forgotten for a new one."""
        for uid in "BAC":
            self.join(uid).leave()
            self.clock.advance(1)
        self.join("B").leave()
        self.join("D")
        self.assertEqual(sorted(each.uid for each in self.contacts), ["A", "B", "C", "D"])
        self.join("E")
        self.assertEqual(sorted(each.uid for each in self.contacts), ["B", "C", "D", "E"])
        self.clock.advance(1)
        self.assertEqual(sorted(self.stored()), ["B", "C", "D", "E"])

    def test_too_many_online(self) -> None:
        """Nobody who connects is refused for it, but a gateway gets no further uids."""
        for uid in "ABCD":
            gateway = self.join(uid)
        gateway.report("S")
        self.assertIsNone(self.contacts.get("S"))
        self.join("E")
        self.assertEqual(len(list(self.contacts)), 5)

    def test_forgotten_while_leaving(self) -> None:
        """Who is forgotten in the seconds in which it might have come back is announced as gone then."""
        watcher = self.join("W")
        for uid in "ABC":
            self.join(uid).leave(clean=False)
        watcher.heard()
        self.join("D")
        self.assertEqual(watcher.uids(), ["-A", "D"])
        self.clock.advance(60)
        self.assertEqual((sorted(watcher.uids()), self.contacts.get("A")), (["-B", "-C"], None))
        self.assertNotIn("A", self.stored())

    def test_fewer_are_allowed_after_a_restart(self) -> None:
        """A limit that was made smaller holds as soon as somebody new comes."""
        for uid in "ABCD":
            self.join(uid).leave()
            self.clock.advance(1)
        self.limits = Limits(known_contacts=2)
        self.begin()
        self.join("E")
        self.assertEqual(sorted(each.uid for each in self.contacts), ["D", "E"])

    def test_taken_off_the_map(self) -> None:
        """Who left can be taken off the map by whose groups meet its own, but is still known; nobody online can."""
        self.join("A").leave()
        other = self.join("B")
        self.join("C", principal("c", ["g1"], [])).leave()
        self.join("D").leave(clean=False)
        self.clock.advance(1)
        for uid in ("A", "B", "C", "D", "NOBODY"):
            other.say(delete(uid))
        self.assertEqual([uid for uid, _ in self.visible(ANON | G1)], ["B", "C", "D"])
        self.clock.advance(5)
        self.assertEqual((self.called("A"), sorted(self.stored())), (["A"], ["B", "C", "D"]))
        self.join("A")
        self.assertIn(("A", ["a-f-G-U-C"]), self.visible())

    def test_taken_off_the_map_while_it_waits_for_the_store(self) -> None:
        """What was taken off the map does not come back by way of the store."""
        other = self.join("B")
        self.join("A").leave()
        other.say(delete("A"))
        self.clock.advance(1)
        self.assertEqual(list(self.stored()), ["B"])
