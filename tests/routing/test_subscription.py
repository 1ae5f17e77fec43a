from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.types import CONTROL_TYPES
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import LogLines, MemorySink, principal
from tests.samples import NOW, chat, control, event, marker, ping, sa, to

BOX = '<boundingBox minLatitude="0" minLongitude="0" maxLatitude="1" maxLongitude="1"/>'
HERE = '<point lat="0.5" lon="0.5" hae="0" ce="1" le="1"/>'
TAG = "TAK-Server-abc"


def area(*boxes: str) -> bytes:
    """Ask for an area."""
    inner = f"<subscription><geospatialFilter>{''.join(boxes)}</geospatialFilter></subscription>"
    return control("t-x-c-f", inner)


def wish(expression: str, uid: str = "wish", publish: str = "stcp:x:0") -> bytes:
    """Ask for an XPath."""
    inner = f'<subscription publish="{publish}"><tests xpath={quoteattr(expression)}/></subscription>'
    return control("t-b", inner, uid=uid)


class SubscriptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.log = LogLines(self)
        self.router = Router(self.clock, MemoryStore(self.clock), Limits())
        self.router.flow_tag = TAG
        self.peer, self.sink = self.subscribe()
        self.other, self.other_sink = self.subscribe()
        self.addCleanup(self.router.contacts.save)

    def subscribe(self, proved: Principal = ANONYMOUS, **keys: Any) -> tuple[Subscription, MemorySink]:
        """Subscribe somebody."""
        sink = MemorySink()
        return self.router.subscribe(proved, sink, "10.0.0.1:5 at tcp:8087", **keys), sink

    def say(self, *documents: bytes, source: Subscription | None = None) -> list[str]:
        """Let somebody (the peer) say something; tell what the other one hears of it."""
        for document in documents:
            (source or self.peer).publish(event(document))
        return self.heard(self.other_sink)

    def heard(self, sink: MemorySink) -> list[str]:
        """Take the uids of what was delivered."""
        self.clock.advance(0)
        events, sink.events = sink.events, []
        return [each.uid for each in events]

    def test_control_messages_are_swallowed(self) -> None:
        """What is meant for the server reaches nobody, not the monitor either, however it is spelled."""
        monitor = self.subscribe(wants_everything=True)[1]
        for type_ in CONTROL_TYPES:
            for spelled in (type_, type_.upper(), type_.title(), f"T{type_[1:]}"):
                self.assertEqual(self.say(control(spelled), control(spelled, f"<marti>{to('B')}</marti>")), [], spelled)
                self.say(control("t-x-c-i-d"))
        self.assertEqual((self.heard(monitor), self.heard(self.sink)), ([], []))
        self.assertIsNone(self.peer.primary)

    def test_what_only_looks_like_control(self) -> None:
        """Deletes, mission and channel notices are data, and so is a type that only begins like a control type."""
        for type_ in ("t-x-m-c", "t-x-g-c", "t-x-c-t-x", "t-x-c", "t-b-x", "x-t-b", "t"):
            self.assertEqual(self.say(control(type_)), ["control-1"], type_)

    def test_nothing_after_closing(self) -> None:
        """Who is gone says nothing more, and goes once."""
        self.say(sa("A", "A"))
        self.peer.close(clean=True)
        self.assertEqual(len(self.heard(self.other_sink)), 1)
        self.peer.close(clean=True)
        self.assertEqual(self.say(marker(), control("t-x-c-i-e")), [])
        self.assertFalse(self.peer.incognito)

    def test_name(self) -> None:
        """People are told the callsign, else the certificate's name, else the address."""
        proved, _ = self.subscribe(principal("alice"))
        self.assertEqual((self.peer.name, proved.name), ("10.0.0.1:5 at tcp:8087", "alice"))
        self.say(sa("A", "FOX"), source=proved)
        self.assertEqual(proved.name, "FOX")
        self.assertEqual(repr(proved), "<Subscription FOX 10.0.0.1:5 at tcp:8087>")

    def test_closed_by_the_server(self) -> None:
        """Whose connection the server ends leaves the router first; for five seconds it may be back unnoticed."""
        self.say(sa("A", "A"))
        self.peer.close_peer("because")
        self.assertEqual((self.sink.closed, self.peer.closed), ("because", True))
        self.assertNotIn(self.peer, self.router.subscriptions)
        self.assertEqual(self.heard(self.other_sink), [])
        self.clock.advance(5)
        self.assertEqual(len(self.heard(self.other_sink)), 1)

    def test_incognito(self) -> None:
        """While incognito only what is for somebody gets through, and the client looks gone."""
        self.say(sa("A", "A"))
        self.say(sa("B", "B"), source=self.other)
        self.assertEqual(len(self.say(control("T-X-C-I-E"))), 1, "its departure")
        self.say(control("t-x-c-m"), ping())
        self.assertEqual(
            self.say(sa("A", "A"), marker(), chat("A", number=1), marker("E", marti='<dest group="x"/>')), []
        )
        self.assertEqual(
            self.say(chat("A", number=2, marti=to("B")), marker("D", marti='<dest uid="B"/>')),
            ["GeoChat.A.All Chat Rooms.m-2", "D"],
        )
        self.assertEqual(self.say(control("t-x-c-i-d"), sa("A", "A"), marker()), ["A", "MARK-1"])

    def test_incognito_hears(self) -> None:
        """Who is incognito hears as before."""
        self.say(control("t-x-c-i-e"))
        self.say(marker(), source=self.other)
        self.assertEqual(self.heard(self.sink), ["MARK-1"])

    def test_a_port_is_not_incognito(self) -> None:
        """One sender on a UDP port, or another server, cannot silence all that speak there."""
        for speaker in (
            self.router.speaker(ANONYMOUS, MemorySink(), "udp"),
            self.subscribe(from_server=True)[0],
        ):
            self.assertEqual(self.say(control("t-x-c-i-e"), marker(), source=speaker), ["MARK-1"])

    def test_area(self) -> None:
        """An area holds back broadcasts, not what is for somebody; an empty one clears it."""
        self.say(sa("B", "B"), source=self.other)
        self.other.publish(event(area(BOX)))
        self.assertEqual(self.say(marker(), marker("IN", point=HERE), marker("D", marti=to("B"))), ["IN", "D"])
        self.other.publish(event(area()))
        self.assertEqual(self.say(marker()), ["MARK-1"])
        self.assertIsNone(self.other.filter)

    def test_xpath(self) -> None:
        """An XPath holds back broadcasts until it is canceled under its uid, or another one takes its place."""
        self.other.publish(event(wish("/event[@uid='X']")))
        self.assertEqual(self.say(marker("X"), marker("Y")), ["X"])
        self.other.publish(event(control("t-b-c", uid="another")))
        self.assertEqual(self.say(marker("X"), marker("Y")), ["X"])
        self.other.publish(event(wish("/event[@uid='Y']", uid="second")))
        self.assertEqual(self.say(marker("X"), marker("Y")), ["Y"])
        self.other.publish(event(control("t-b-c", uid="wish")))
        self.assertEqual(self.say(marker("X"), marker("Y")), ["Y"])
        self.other.publish(event(control("T-B-C", uid="second")))
        self.assertEqual(self.say(marker("X"), marker("Y")), ["X", "Y"])

    def test_xpath_for_everything(self) -> None:
        """Asking for everything ends the filter."""
        self.other.publish(event(wish("//nothing")))
        self.other.publish(event(wish("*", uid="second")))
        self.assertEqual(self.say(marker()), ["MARK-1"])

    def test_area_and_xpath(self) -> None:
        """With both, an event has to pass both; ending one leaves the other."""
        self.other.publish(event(area(BOX)))
        self.other.publish(event(wish("/event[starts-with(@uid,'X')]")))
        documents = [marker("X1"), marker("X2", point=HERE), marker("Y", point=HERE)]
        self.assertEqual(self.say(*documents), ["X2"])
        self.other.publish(event(area()))
        self.assertEqual(self.say(*documents), ["X1", "X2"])

    def test_nobody_ends_somebody_elses_filter(self) -> None:
        """A filter is its own client's business."""
        self.other.publish(event(wish("/event[@uid='X']")))
        self.assertEqual(self.say(control("t-b-c", uid="wish"), marker("X"), marker("Y")), ["X"])

    def test_bad_request(self) -> None:
        """A request that is refused changes nothing, and the log says who sent it and what was wrong."""
        self.other.publish(event(wish("/event[@uid='X']")))
        self.other.publish(event(area(BOX)))
        for bad in (wish("//x", publish="udp:10.0.0.1:9999"), wish("///["), area("<boundingBox/>"), control("t-b")):
            self.other.publish(event(bad))
        self.assertEqual(self.say(marker("X"), marker("X", point=HERE), marker("Y", point=HERE)), ["X"])
        lines = [line for line in self.log() if "filter request ignored" in line]
        self.assertEqual(len(lines), 4)
        self.assertEqual(
            lines[0],
            "10.0.0.1:5 at tcp:8087: filter request ignored: this server opens no connections on request",
        )

    def test_filters_where_none_can_be(self) -> None:
        """A request from the monitor port or a UDP port is understood and has no effect."""
        monitor, monitor_sink = self.subscribe(wants_everything=True)
        speaker = self.router.speaker(ANONYMOUS, MemorySink(), "udp")
        for source in (monitor, speaker):
            source.publish(event(wish("//nothing")))
            source.publish(event(control("t-b-c", uid="wish")))
        monitor.publish(event(area(BOX)))
        self.say(marker())
        self.assertEqual(self.heard(monitor_sink), ["MARK-1"])

    def test_our_own_mark(self) -> None:
        """Our mark on a client's event is taken off; the same from another server's side stops the event."""
        tagged = marker(extra=f'<_flow-tags_ TAK-Server-other="x" {TAG}="y"/>')
        monitor, _ = self.subscribe(wants_everything=True)
        for source in (self.peer, monitor):
            source.publish(event(tagged))
            self.clock.advance(0)
            (delivered,) = self.other_sink.events
            self.assertEqual(delivered.detail.flow_tags, ("TAK-Server-other",))
            self.assertNotIn(TAG.encode(), delivered.xml)
            self.other_sink.events.clear()
        speaker = self.router.speaker(ANONYMOUS, MemorySink(), "udp")
        server, _ = self.subscribe(from_server=True)
        foreign = marker(extra='<_flow-tags_ TAK-Server-other="x"/>')
        for source in (speaker, server):
            self.assertEqual(self.say(tagged, source=source), [])
            self.assertEqual(self.say(foreign, source=source), ["MARK-1"])

    def test_who_was_thought_dead_speaks(self) -> None:
        """The first thing that an older connection says, even for the server only, shows that it lives."""
        self.say(sa("A", "A"))
        newer, _ = self.subscribe()
        newer.publish(event(sa("A", "A")))
        self.assertIs(self.peer.rival, newer)
        self.peer.publish(event(ping()))
        self.assertIsNone(self.peer.rival)
        self.assertEqual(len(self.router.contacts.called("A")[0].holders), 2)  # type: ignore[index]
