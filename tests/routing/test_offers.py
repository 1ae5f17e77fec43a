from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from urllib.parse import unquote, urlsplit

from taky_twisted.config.limits import Limits
from taky_twisted.cot import compose
from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import ANON_GROUP, ANONYMOUS, Principal
from taky_twisted.routing import offers as offers_module
from taky_twisted.routing.offers import Reached
from taky_twisted.routing.subscription import Subscription
from tests.fakes import principal
from tests.samples import NOW, cancel, chat, control, delete, emergency, event, marker, sa, to, xml

from .router_case import Peer, RouterCase

LIMIT = 2000
"""Bytes of an event that the clients here take."""
BASE = "http://192.0.2.10:8080"
TLS_BASE = "https://192.0.2.10:8443"
BULK = "x" * LIMIT


def base_url(subscription: Subscription) -> str | None:
    """Spell where the API is."""
    reached = subscription.reached
    return None if reached is None else TLS_BASE if reached.tls else BASE


def large(uid: str = "LARGE", **keys: object) -> bytes:
    """Spell an item that the clients here do not take."""
    return marker(uid, extra=BULK, **keys)  # type: ignore[arg-type]


def raised(size: int) -> bytes:
    """Spell an emergency of at least some size."""
    return emergency("A", "A").replace(b"</detail>", f"<x>{'y' * size}</x></detail>".encode())


class OfferCase(RouterCase):
    """A server whose Marti API is served, and clients that take small events."""

    limits = replace(Limits(), max_event_to_client=LIMIT)
    served = True

    def begin(self, **keys: object) -> None:
        super().begin(**keys)
        if self.served:
            self.router.offers.base_url = base_url

    def connect(self, proved: Principal = ANONYMOUS, **keys: object) -> Peer:
        keys = {"max_bytes": LIMIT, "reached": Reached("192.0.2.10", tls=not proved.anonymous)} | keys
        return super().connect(proved, **keys)

    def fetched(self, offer: Event, *groups_out: str) -> bytes | None:
        """Fetch what is offered, as the API does; check that it is what was promised."""
        (share,) = compose.document(offer).iterfind("detail/fileshare")
        self.assertEqual(offer.type, "b-f-t-r")
        prefix, _, name = urlsplit(share.attrib["senderUrl"]).path.rpartition("/")
        self.assertEqual(prefix, "/Marti/api/cot/xml")
        found = self.router.find(unquote(name), frozenset(groups_out or (ANON_GROUP,)))
        if found is None:
            return None
        self.assertEqual(share.get("sizeInBytes"), str(len(found.xml)))
        self.assertEqual(share.get("sha256"), sha256(found.xml).hexdigest())
        return found.xml

    def url(self, offer: Event) -> str:
        """Read where an offer sends its reader."""
        (share,) = compose.document(offer).iterfind("detail/fileshare")
        return share.attrib["senderUrl"]

    def warnings(self) -> list[str]:
        """List what was told of sizes."""
        return [line for line in self.log() if "max_event_to_client" in line]


class BroadcastTests(OfferCase):
    """What everybody gets in place of a too large event that was said to everybody."""

    def test_item(self) -> None:
        """Each client that cannot get an item is offered it as a file, at its address, by who said it."""
        a, b = self.team("A", "B")
        c = self.join("C", proved=principal("carol"))
        monitor = self.connect(wants_everything=True, max_bytes=0)
        for peer in (a, b):
            peer.heard()
        a.say(large())
        self.assertEqual((a.heard(), monitor.uids()), ([], ["LARGE"]))
        for peer, base in ((b, BASE), (c, TLS_BASE)):
            (offer,) = peer.heard()
            self.assertEqual(self.url(offer), f"{base}/Marti/api/cot/xml/LARGE")
            self.assertEqual(self.fetched(offer), event(large()).xml)
            self.assertIn(b' senderCallsign="A"', offer.xml)
        self.assertEqual((len(self.router.retained), self.router.offers._held), (1, {}), "it is held once")

    def test_warned_of_once(self) -> None:
        """That clients get an offer is told once per uid, and is no reason to worry."""
        a, _ = self.team("A", "B")
        a.say(large(), large(), large("LARGE-2"))
        size = len(event(large()).xml)
        self.assertEqual(
            self.warnings()[0],
            f"LARGE (a-h-G) has {size} bytes and is offered to clients as a file: ATAK reads at most {LIMIT}"
            " (max_event_to_client)",
        )
        self.assertEqual((len(self.warnings()), self.router.offers.oversize), (2, 3))

    def test_to_the_byte(self) -> None:
        """The largest event that a client takes it gets as it is."""
        a, b = self.team("A", "B")
        room = LIMIT - len(event(marker()).xml)
        a.say(*(marker(extra=" " * (room + more)) for more in (-1, 0, 1)))
        self.assertEqual(b.types(), ["a-h-G", "a-h-G", "b-f-t-r"])

    def test_order(self) -> None:
        """An offer comes in the place of its event, whatever else is said in the same turn."""
        a, b = self.team("A", "B")
        a.say(marker("1"), large(), marker("2"), large(marti=to("B")), marker("3"))
        self.assertEqual(b.types(), ["a-h-G", "b-f-t-r", "a-h-G", "b-f-t-r", "a-h-G"])

    def test_what_is_not_retained(self) -> None:
        """Any other large event can be fetched too, the newest of its uid, by who hears a group it was said to."""
        a = self.connect(principal("a", ["g1"], []))
        b = self.connect(principal("b", [], ["g1"]))
        c = self.connect(principal("c", [], ["g2"]))
        for number in (1, 2):
            document = xml("X", "b-x", f"<y>{number}{BULK}</y>")
            a.say(document)
            (offer,) = b.heard()
            self.assertEqual(self.fetched(offer, "g1"), event(document).xml)
            self.assertIsNone(self.fetched(offer, "g2"))
        self.assertEqual((c.heard(), len(self.router.offers._held)), ([], 1))
        self.assertIn(b' senderCallsign="a"', offer.xml)

    def test_self_report(self) -> None:
        """A report that is too large even for newcomers can be fetched, until a newer one takes its place."""
        a, b = self.team("A", "B")
        report = sa("A", "A", extra=f"<x>{'y' * 20_000}</x>", now=NOW + 1)
        a.say(report)
        (offer,) = b.heard()
        self.assertEqual(self.fetched(offer), event(report).xml)
        a.say(sa("A", "A", now=NOW + 2))
        found = self.router.find("A", ANONYMOUS.groups_out)
        assert found is not None
        self.assertEqual(found.xml, event(sa("A", "A", now=NOW + 2)).xml)

    def test_filter(self) -> None:
        """Who filters is offered what it would have heard."""
        a, b = self.team("A", "B")
        b.subscription.publish(event(control("t-b", "<subscription><xpath>//event[@uid='YES']</xpath></subscription>")))
        b.subscription.filter = lambda said: said.uid == "YES"
        self.router.rejoin(b.subscription, b.subscription.filter)
        a.say(large("NO"), large("YES"))
        self.assertEqual([self.url(offer) for offer in b.heard()], [f"{BASE}/Marti/api/cot/xml/YES"])

    def test_older_than_what_is_known(self) -> None:
        """Where something newer is known of the uid, that is offered: it is what can be fetched."""
        a, b = self.team("A", "B")
        a.say(large("X", now=NOW + 10))
        self.router.retained.remove("X", ANONYMOUS.groups_in)
        self.router.retained.keep(event(marker("X", now=NOW + 10)), ANONYMOUS.groups_in, NOW)
        b.heard()
        a.say(xml("X", "b-x", f"<y>{BULK}</y>"))
        (offer,) = b.heard()
        self.assertEqual(self.fetched(offer), event(marker("X", now=NOW + 10)).xml)

    def test_strange_uids(self) -> None:
        """Whatever a uid is made of, what is fetched by it is what was offered, and the file is named harmlessly."""
        a, b = self.team("A", "B")
        for uid, name in (
            ("a/../b", "a_.._b.cot"),
            ("../../etc/passwd", "_.._etc_passwd.cot"),
            (".hidden", "hidden.cot"),
            ("..", "event.cot"),
            ("ä &amp; ü?x=1#y%41", "ä___ü_x_1_y_41.cot"),
            ("x" * 1000, "x" * 100 + ".cot"),
        ):
            a.say(xml(uid, "b-x", f"<y>{BULK}{BULK}</y>"))
            (offer,) = b.heard()
            self.assertEqual(self.fetched(offer), event(xml(uid, "b-x", f"<y>{BULK}{BULK}</y>")).xml)
            (share,) = compose.document(offer).iterfind("detail/fileshare")
            self.assertEqual((share.get("filename"), share.get("name")), (name, name))
            self.assertEqual(urlsplit(self.url(offer)).path.count("/"), 5)

    def test_an_offer_that_is_too_large_itself(self) -> None:
        """An offer never makes it worse: a client that could not read it either gets nothing, which is warned of."""
        a, b = self.team("A", "B")
        limited = self.connect(max_bytes=300)
        a.say(large())
        self.assertEqual((len(b.heard()), limited.heard()), (1, []))
        told = ["is offered" in line for line in self.warnings()]
        self.assertEqual(told, [True, False])

    def test_nobody_in_particular(self) -> None:
        """What the server does not know the sender of comes from the server."""
        a, b = self.team("A", "B")
        self.router.audiences.broadcast(event(large()), ANONYMOUS.groups_in, None)
        for peer in (a, b):
            (offer,) = peer.heard()
            self.assertIn(b' senderCallsign="takserver"', offer.xml)
        self.connect().say(large())
        self.assertIn(b' senderCallsign="takserver"', b.heard()[0].xml)

    def test_chat(self) -> None:
        """A chat is never a file: what is too long for all is warned of, as ever."""
        a, b = self.team("A", "B")
        a.say(chat("A", BULK))
        self.assertEqual((a.heard(), b.heard()), ([], []))
        self.assertIn("is not sent to clients", self.warnings()[0])


class DirectTests(OfferCase):
    """What somebody in particular gets."""

    def test_marker(self) -> None:
        """A large item for some is offered to them alone, under a name that nobody can guess."""
        a, b, c = self.team("A", "B", "C")
        document = large(marti=to("B"))
        a.say(document)
        (offer,) = b.heard()
        xml_ = event(document).xml
        self.assertEqual(c.heard(), [])
        self.assertEqual(self.url(offer), f"{BASE}/Marti/api/cot/xml/LARGE.{sha256(xml_).hexdigest()}")
        self.assertEqual(self.fetched(offer), xml_)
        self.assertEqual([self.fetched(offer, "other"), self.router.find("LARGE", ANONYMOUS.groups_out)], [None, None])
        self.assertIn("is offered", self.warnings()[0])

    def test_does_not_hide_what_everybody_sees(self) -> None:
        """A private version of an item takes the place of the public one for nobody."""
        a, *_ = self.team("A", "B", "C")
        a.say(marker("LARGE"), large(now=NOW + 1, marti=to("B")))
        found = self.router.find("LARGE", ANONYMOUS.groups_out)
        assert found is not None
        self.assertEqual(found.xml, event(marker("LARGE")).xml)

    def test_when_the_connection_breaks(self) -> None:
        """An offer that never left goes to the newer connection of the same client."""
        a, _ = self.team("A", "B")
        again = self.join("B")
        again.heard()
        a.say(large(marti=to("B")))
        (offer,) = again.heard()
        again.sink.waiting = [offer]
        newest = self.join("B")
        newest.heard()
        again.leave(clean=False)
        self.assertEqual([self.url(each) for each in newest.heard()], [self.url(offer)])

    def test_chat(self) -> None:
        """A chat that is too long reaches nobody and is no offer: its sender is told."""
        a, b = self.team("A", "B")
        a.say(chat("A", BULK, id_="B", room="B", uids=("B",), marti=to("B")))
        self.assertEqual((a.types(), b.heard()), (["b-t-f-s"], []))

    def test_where_nothing_can_be_offered(self) -> None:
        """Who cannot reach the API, or could not read the offer, gets nothing, and that is warned of."""
        a, _ = self.team("A", "B")
        far = self.join("FAR", reached=None)
        small = self.join("SMALL", max_bytes=300)
        for peer, name in ((far, "FAR"), (small, "SMALL")):
            peer.heard()
            a.say(large(name + "-1", marti=to(name)))
            self.assertEqual(peer.heard(), [])
        self.assertEqual(["is not sent to clients" in line for line in self.warnings()], [True, True])

    def join(self, uid: str, callsign: str | None = None, proved: Principal = ANONYMOUS, **keys: object) -> Peer:
        peer = self.connect(proved, **keys)
        peer.say(sa(uid, callsign or uid))
        return peer


class ReplayTests(OfferCase):
    """What a newcomer is told."""

    def test_items(self) -> None:
        """A newcomer is offered the large items that it would have been shown, in their places."""
        a = self.connect(max_bytes=0)
        a.say(marker("1"), large(), marker("2"))
        newcomer = self.connect()
        one, offer, two = newcomer.sink.replayed
        self.assertEqual((one.uid, two.uid), ("1", "2"))
        self.assertEqual(self.fetched(offer), event(large()).xml)
        self.assertIn(b' senderCallsign="takserver"', offer.xml)
        self.assertEqual(self.connect(max_bytes=0).shown(), ["1", "LARGE", "2"])
        self.assertEqual(self.connect(reached=None).shown(), ["1", "2"])
        self.assertEqual(self.connect(max_bytes=300).shown(), [])

    def test_contact(self) -> None:
        """Of a contact that left, a newcomer gets the offer of its report and its departure."""
        room = LIMIT - len(event(sa("A", "A")).xml)
        a = self.join("A", extra="<x/>" + " " * room)
        self.assertEqual([each.type for each in self.connect().sink.replayed], ["b-f-t-r"])
        a.leave()
        offer, departure = self.connect().sink.replayed
        self.assertEqual((offer.type, departure.type), ("b-f-t-r", "t-x-d-d"))
        self.assertIsNotNone(self.fetched(offer))

    def test_gone_meanwhile(self) -> None:
        """What is deleted before a newcomer was told of it is not offered any more."""
        a = self.connect(max_bytes=0)
        a.say(large(), marker("2"))
        newcomer = self.connect()
        entries = self.router.offers.replay([("LARGE", (event(large()),))], newcomer.subscription)
        a.say(delete("LARGE"))
        self.assertEqual(list(entries), [])

    def test_many_newcomers(self) -> None:
        """A crowd of newcomers does not make the server read large events over and over."""
        a = self.connect(max_bytes=0)
        a.say(large())
        self.connect()
        digests: list[bytes] = []
        self.patch(offers_module, "sha256", digests.append)
        self.assertEqual(self.connect().shown(), self.connect().shown())
        self.assertEqual(digests, [])


class EmergencyTests(OfferCase):
    """Emergencies that are too large for clients."""

    def test_said_again(self) -> None:
        """It is offered each time it is said, and what is fetched is as it was raised: a client fetches it once."""
        a, b = self.team("A", "B")
        document = raised(LIMIT)
        a.say(document)
        offers = b.heard()
        for _ in range(2):
            self.clock.advance(10)
            offers += b.heard()
        self.assertEqual(len(offers), 3)
        self.assertEqual(len({each.uid for each in offers}), 1)
        self.assertEqual(self.fetched(offers[-1]), event(document).xml)
        self.assertEqual(self.fetched(self.connect().sink.replayed[0]), event(document).xml)
        self.assertEqual(self.router.offers._held, {})

    def test_canceled(self) -> None:
        """One that was too large to be repeated cannot be fetched any more once it is canceled."""
        a, b = self.team("A", "B")
        document = raised(1 << 16)
        a.say(document)
        (offer,) = b.heard()
        self.assertEqual(self.fetched(offer), event(document).xml)
        a.say(cancel("A", "A"))
        self.assertIsNone(self.fetched(offer))


class HoldingTests(OfferCase):
    """Large events that are held only to be fetched."""

    def say(self, *uids: str, by: Iterable[str] = (ANON_GROUP,), size: int = LIMIT) -> None:
        """Say large events that are not retained."""
        speaker = self.connect(principal("s", by, []))
        speaker.say(*(xml(uid, "b-x", f"<y>{'z' * size}</y>") for uid in uids))

    def held(self, *uids: str) -> list[str]:
        """Tell which of these can be fetched."""
        return [uid for uid in uids if self.router.find(uid, ANONYMOUS.groups_out) is not None]

    def test_number(self) -> None:
        """Only so many are held; the newest stay."""
        self.patch(offers_module, "HELD_EVENTS", 2)
        self.connect()
        self.say("1", "2")
        self.assertEqual(self.held("1", "2"), ["1", "2"])
        self.say("1", "3")
        self.assertEqual(self.held("1", "2", "3"), ["1", "3"])

    def test_size(self) -> None:
        """Only so much is held; one event that is more than that is not offered."""
        size = len(event(xml("1", "b-x", f"<y>{'z' * LIMIT}</y>")).xml)
        self.patch(offers_module, "HELD_BYTES", 2 * size)
        listener = self.connect()
        self.say("1", "2")
        self.assertEqual((self.held("1", "2"), self.router.offers._bytes), (["1", "2"], 2 * size))
        self.say("3")
        self.assertEqual((self.held("1", "2", "3"), self.router.offers._bytes), (["2", "3"], 2 * size))
        self.assertEqual(len(listener.heard()), 3)
        self.say("4", size=2 * size)
        self.assertEqual((self.held("2", "3", "4"), listener.heard()), (["2", "3"], []))
        target = self.join("B")
        self.connect().say(xml("5", "b-x", f"<y>{'z' * 2 * size}</y>", marti=to("B")))
        self.assertEqual(target.heard(), [])

    def test_groups(self) -> None:
        """One of the same uid for other groups takes nobody's place."""
        self.connect(principal("x", [], ["g1", "g2"]))
        self.say("1", by=["g1"])
        self.say("1", by=["g2"], size=LIMIT + 1)
        sizes = [len(found.xml) for group in ("g1", "g2") if (found := self.router.find("1", frozenset({group})))]
        self.assertEqual(sizes[0] + 1, sizes[1])

    def test_deleted(self) -> None:
        """A delete lets go of it, if whoever says it may."""
        self.connect()
        self.say("1")
        self.connect(principal("x", ["other"], [])).say(delete("1"))
        self.assertEqual(self.held("1"), ["1"])
        self.connect().say(delete("1"))
        self.assertEqual((self.held("1"), self.router.offers._bytes), ([], 0))

    def test_incognito(self) -> None:
        """Nor is anything held of who goes incognito."""
        a, _ = self.team("A", "B")
        a.say(sa("A", "A", extra=f"<x>{'y' * 20_000}</x>", now=NOW + 1))
        a.say(control("t-x-c-i-e"))
        self.assertEqual((self.held("A"), self.router.offers._held), ([], {}))

    def test_memory(self) -> None:
        """Only so many digests and uids are remembered."""
        self.patch(offers_module, "MAX_DIGESTS", 2)
        self.patch(offers_module, "MAX_WARNINGS", 2)
        self.connect()
        self.say("1", "2", "1", "3", "2", "1")
        self.assertEqual(len(self.router.offers._digests), 2)
        self.assertEqual([line.split()[0] for line in self.warnings()], ["1", "2", "3", "1"])


class NotServedTests(OfferCase):
    """A server without the Marti API."""

    served = False

    def test_warned_of_once(self) -> None:
        """Each too large event is counted, and each uid warned of once; a client that reads all of it gets it."""
        listener = self.connect()
        a, b = self.team("A", "B", max_bytes=0)
        for _ in range(3):
            a.say(large())
        a.say(large("LARGE-2"))
        self.assertEqual((self.router.offers.oversize, len(b.heard()), listener.uids()), (4, 4, ["A", "B"]))
        size = len(event(large()).xml)
        self.assertEqual(len(self.warnings()), 2)
        self.assertIn(
            f"LARGE (a-h-G) has {size} bytes and is not sent to clients: ATAK reads at most {LIMIT}", self.warnings()[0]
        )

    def test_nothing_is_held(self) -> None:
        """Where nothing can be fetched nothing is held for it."""
        a, _ = self.team("A", "B")
        a.say(xml("1", "b-x", f"<y>{BULK}</y>"), large(marti=to("B")))
        self.assertEqual((self.router.offers._held, self.router.offers._digests), ({}, {}))
        self.assertEqual(self.connect().shown(), ["A", "B"])

    def team(self, *uids: str, **keys: object) -> list[Peer]:
        peers = [self.connect(ANONYMOUS, **keys) for _ in uids]
        for peer, uid in zip(peers, uids, strict=True):
            peer.say(sa(uid, uid))
        for peer in peers:
            peer.heard()
        return peers
