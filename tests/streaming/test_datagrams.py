from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, MessageLengthError, MulticastJoinError
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.streaming.datagrams import (
    MAX_DATAGRAM,
    SEEN_EVENTS,
    SEEN_SECONDS,
    TTL,
    CoTDatagrams,
    CoTMulticast,
    Seen,
    read_datagram,
)
from taky_twisted.takproto.batch import Batch
from tests.fakes import SERVER_ID, LogLines, MemoryRecorder, Site
from tests.samples import NOW, chat, event, marker, ping, sa, to, xml

OUR_TAG = f"TAK-Server-{SERVER_ID}"
TAGGED = f'<_flow-tags_ {OUR_TAG}="2026-03-01T10:00:00Z"/>'
SENDER = ("10.0.0.7", 40_000)


class GroupTransport:
    """A UDP port that notes what it is asked for; `failing` is what sending raises."""

    def __init__(self) -> None:
        self.written: list[tuple[bytes, tuple[str, int]]] = []
        self.settings: dict[str, object] = {}
        self.failing: Exception | None = None
        self.joining: Deferred[Any] = succeed(None)
        self.choosing: Deferred[Any] = succeed(1)

    def setLoopbackMode(self, mode: bool) -> None:
        self.settings["loopback"] = mode

    def setTTL(self, ttl: int) -> None:
        self.settings["ttl"] = ttl

    def setOutgoingInterface(self, address: str) -> Deferred[int]:
        self.settings["outgoing"] = address
        return self.choosing

    def joinGroup(self, group: str, interface: str) -> Deferred[None]:
        self.settings["joined"] = group, interface
        return self.joining

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        if self.failing is not None:
            raise self.failing
        self.written.append((datagram, address))


class DatagramTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.log = LogLines(self)
        self.recorder = MemoryRecorder()
        self.b = self.site.join("B")
        self.b.heard()


class CoTDatagramsTests(DatagramTestCase):
    """A UDP port: single events come in, nothing goes out."""

    def setUp(self) -> None:
        super().setUp()
        self.udp = CoTDatagrams(
            self.site.clock, self.site.router, "udp:8087", self.site.connections.notices, self.recorder
        )

    def receive(self, datagram: bytes) -> list[str]:
        """Let a datagram arrive; read what B hears."""
        self.udp.datagramReceived(datagram, SENDER)
        self.site.turn()
        return self.b.uids()

    def test_T80_event(self) -> None:
        """An event in a datagram reaches everybody; a prolog, a byte order mark and blanks around it do not matter."""
        forms = [b"%s", PROLOG + b"%s", b"\xef\xbb\xbf%s", b"\r\n %s\n", b"<!-- sensor -->%s"]
        for number, form in enumerate(forms):
            self.assertEqual(self.receive(form.replace(b"%s", marker(f"M-{number}"))), [f"M-{number}"])

    def test_T80_other_version(self) -> None:
        """A protobuf datagram of a version that nobody knows is dropped."""
        self.assertEqual(self.receive(b"\xbf\x02\xbf\x00\x00"), [])

    def test_T80_mesh_control(self) -> None:
        """What the members of a mesh tell each other about protocol versions is no event and no trouble."""
        self.assertEqual(self.receive(b"\xbf\x01\xbf\x0a\x04\x08\x01\x10\x01"), [])
        self.assertEqual((self.log()[1:], self.recorder.failures), ([], []), "one line was there, of who joined")

    def test_T80_directed(self) -> None:
        """An event with destinations reaches those alone."""
        c = self.site.join("C")
        self.b.heard()
        self.assertEqual(self.receive(chat("SENSOR", marti=to("C"))), [])
        self.assertEqual(c.types(), ["b-t-f"])

    def test_nobody_joins(self) -> None:
        """A self-report by UDP is passed on, but makes no contact: there is no way back to its sender."""
        self.assertEqual(self.receive(sa("S", "SENSOR")), ["S"])
        self.assertIsNone(self.site.router.contacts.get("S"))
        self.assertEqual(self.receive(ping()), [])

    def test_unreadable(self) -> None:
        """What is not exactly one event is dropped with a line that says from where and why; the next one counts."""
        for datagram, reason in (
            (b"", "one whole event"),
            (b"hello", "one whole event"),
            (marker()[:-1], "one whole event"),
            (marker() + marker(), "one whole event"),
            (marker() + b"hello", "one whole event"),
            (b"<auth><cot/></auth>", "<auth>"),
            (b"<!DOCTYPE event>" + marker(), "document type"),
            (b'<event uid="x"><point></event>', "not well-formed"),
        ):
            before = len(self.log())
            self.assertEqual(self.receive(datagram), [], datagram)
            (line,) = self.log()[before:]
            self.assertTrue(line.startswith("a datagram from 10.0.0.7 at udp:8087 is not passed on: "), line)
            self.assertIn(reason, line)
            sender, data, why = self.recorder.failures[-1]
            self.assertEqual((sender, data), ("10.0.0.7 at udp:8087", datagram))
            self.assertIn(why, line)
        self.assertEqual(self.receive(marker()), ["MARK-1"])

    def test_without_recorder(self) -> None:
        """Nobody has to write anything down."""
        self.udp = CoTDatagrams(self.site.clock, self.site.router, "udp:8087", self.site.connections.notices)
        self.assertEqual(self.receive(b"hello"), [])
        self.assertEqual(self.receive(marker()), ["MARK-1"])

    def test_recorded(self) -> None:
        """What is heard is written down under the sender's address."""
        self.receive(marker())
        ((sender, xml_),) = self.recorder.recorded
        self.assertEqual(sender, "10.0.0.7 at udp:8087")
        self.assertIn(b'uid="MARK-1"', xml_)

    def test_T59_own_tag(self) -> None:
        """An event that has been here before, as our flow tag says, is not taken in again; others' tags stay."""
        self.assertEqual(self.receive(marker("M-1", extra=TAGGED)), [])
        self.udp.datagramReceived(marker("M-2", extra='<_flow-tags_ TAK-Server-other="x"/>'), SENDER)
        self.site.turn()
        (heard,) = self.b.heard()
        self.assertEqual(heard.detail.flow_tags, ("TAK-Server-other",))

    def test_twice(self) -> None:
        """The same event again within half a minute comes from a loop; a newer one of the same item does not."""
        self.assertEqual(self.receive(marker()), ["MARK-1"])
        self.assertEqual(self.receive(marker()), [])
        self.assertEqual(self.receive(marker(now=NOW + 1)), ["MARK-1"])
        self.site.clock.advance(SEEN_SECONDS)
        self.assertEqual(self.receive(marker()), ["MARK-1"])

    def test_a_sink_for_nobody(self) -> None:
        """Nothing is ever sent back by a port for datagrams."""
        self.udp.deliver(Batch((event(marker()),)))
        self.udp.replay([])
        self.udp.close("no reason")
        self.assertEqual(self.udp.unsent(), [])


class CoTMulticastTests(DatagramTestCase):
    """A multicast group, heard or spoken to or both."""

    def join(self, hears: bool = True, speaks: bool = True, interface: str | None = None) -> GroupTransport:
        """Join a group whose port is up."""
        self.group = CoTMulticast(
            self.site.clock,
            self.site.router,
            "multicast 239.2.3.1:6969",
            self.site.connections.notices,
            "239.2.3.1",
            6969,
            interface,
            hears,
            speaks,
        )
        transport = GroupTransport()
        self.group.transport = transport  # type: ignore[assignment]
        return transport

    def receive(self, datagram: bytes) -> list[str]:
        """Let a datagram arrive from the group; read what B hears."""
        self.group.datagramReceived(datagram, SENDER)
        self.site.turn()
        return self.b.uids()

    def said(self, transport: GroupTransport) -> list[Event]:
        """Read what was sent to the group since the last time, as a strict client does."""
        written, transport.written = transport.written, []
        self.assertEqual({address for _, address in written} - {("239.2.3.1", 6969)}, set())
        events = []
        for datagram, _ in written:
            self.assertTrue(datagram.startswith(PROLOG))
            events.append(decode(datagram[len(PROLOG) :]))
        return events

    def test_in(self) -> None:
        """Only in: what is said there is heard here, nothing is said there."""
        transport = self.join(speaks=False)
        self.assertEqual(self.receive(marker()), ["MARK-1"])
        self.b.say(marker("M-2"))
        self.assertEqual(self.said(transport), [])

    def test_out(self) -> None:
        """Only out: what is said to everybody here is said there, nothing is taken in."""
        transport = self.join(hears=False)
        self.assertEqual(self.receive(marker()), [])
        self.b.say(marker("M-2"))
        self.assertEqual([event.uid for event in self.said(transport)], ["M-2"])

    def test_T59_one_own_tag(self) -> None:
        """What leaves carries our flow tag exactly once, beside the tags of others."""
        transport = self.join()
        self.b.say(
            marker("M-1"),
            marker("M-2", extra=TAGGED),
            marker("M-3", extra='<_flow-tags_ TAK-Server-other="x"/>'),
            xml("M-4").replace(b"<detail></detail>", b""),
            xml("M-5").replace(b"<detail></detail>", b"<detail/>"),
        )
        tags = {event.uid: sorted(event.detail.flow_tags) for event in self.said(transport)}
        self.assertEqual(
            tags,
            {
                "M-1": [OUR_TAG],
                "M-2": [OUR_TAG],
                "M-3": [OUR_TAG, "TAK-Server-other"],
                "M-4": [OUR_TAG],
                "M-5": [OUR_TAG],
            },
        )

    def test_directed(self) -> None:
        """What is for somebody in particular never goes to the group."""
        transport = self.join()
        self.site.join("C")
        self.said(transport)
        self.b.say(chat("B", marti=to("C")))
        self.assertEqual(self.said(transport), [])

    def test_no_replay(self) -> None:
        """What is on the map is not said to the group when the server joins it."""
        self.b.say(marker())
        self.assertEqual(self.said(self.join()), [])

    def test_no_loop(self) -> None:
        """What came from the group is not said there again, nor taken in when it comes back with or without our tag."""
        transport = self.join()
        self.assertEqual(self.receive(marker("M-1")), ["M-1"])
        self.assertEqual(self.said(transport), [])
        other = self.site.join("C")
        self.b.heard()
        self.said(transport)
        other.say(marker("M-2"))
        self.assertEqual(self.b.uids(), ["M-2"])
        (datagram, _), *_ = transport.written
        self.assertEqual(self.receive(datagram), [])
        self.assertEqual(self.receive(marker("M-2")), [])

    def test_size(self) -> None:
        """The largest event that fits into a datagram is sent; a larger one is told of and counted."""
        transport = self.join()
        self.b.say(marker("M-1"))
        (datagram, _), *_ = transport.written
        transport.written = []
        room = MAX_DATAGRAM - len(datagram)
        self.b.say(*(marker("M-1", extra=" " * (room + more), now=NOW + more) for more in (0, 1)), marker("M-2"))
        self.assertEqual(len(transport.written[0][0]), MAX_DATAGRAM)
        self.assertEqual([event.uid for event in self.said(transport)], ["M-1", "M-2"])
        self.assertEqual(self.group.too_large, 1)
        self.assertIn("M-1 is too large for multicast 239.2.3.1:6969", self.log())

    def test_no_network(self) -> None:
        """When the system does not send, everybody else hears all the same, and sending goes on when it can."""
        transport = self.join()
        c = self.site.join("C")
        self.said(transport)
        for failing in (OSError(errno.ENETUNREACH, "Network is unreachable"), MessageLengthError("too long")):
            transport.failing = failing
            self.b.say(marker())
            self.assertEqual(c.uids(), ["MARK-1"])
            self.assertIn("multicast 239.2.3.1:6969 did not take MARK-1: ", self.log()[-1])
        self.assertEqual(self.group.unsent_events, 2)
        transport.failing = None
        self.b.say(marker("M-2"))
        self.assertEqual([event.uid for event in self.said(transport)], ["M-2"])

    def test_closed(self) -> None:
        """Before the port is open and after it was closed nothing is sent."""
        self.join()
        self.group.transport = None
        self.b.say(marker())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_joining(self) -> None:
        """It joins on the interface that is named, crosses a few routers, and does not hear itself."""
        transport = self.join(interface="10.0.0.1")
        self.group.startProtocol()
        self.assertEqual(
            transport.settings,
            {"loopback": False, "ttl": TTL, "outgoing": "10.0.0.1", "joined": ("239.2.3.1", "10.0.0.1")},
        )

    def test_not_joining(self) -> None:
        """Without a named interface the system chooses; who only speaks joins nothing."""
        transport = self.join()
        self.group.startProtocol()
        self.assertEqual(transport.settings, {"loopback": False, "ttl": TTL, "joined": ("239.2.3.1", "")})
        transport = self.join(hears=False)
        self.group.startProtocol()
        self.assertEqual(transport.settings, {"loopback": False, "ttl": TTL})

    def test_no_such_interface(self) -> None:
        """An interface that this machine does not have stops the start."""
        transport = self.join(interface="203.0.113.9")
        transport.choosing = fail(OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))
        with self.assertRaises(CannotListenError) as caught:
            self.group.startProtocol()
        self.assertEqual((caught.exception.interface, caught.exception.port), ("203.0.113.9", 6969))
        self.assertEqual(caught.exception.socketError.strerror, "Cannot assign requested address")

    def test_cannot_join(self) -> None:
        """A group that cannot be joined stops the start."""
        transport = self.join()
        transport.joining = fail(MulticastJoinError("239.2.3.1", "0.0.0.0", errno.ENODEV, "No such device"))
        with self.assertRaises(CannotListenError) as caught:
            self.group.startProtocol()
        self.assertEqual(caught.exception.socketError.strerror, "No such device")


class SeenTests(SynchronousTestCase):
    def test_forgets(self) -> None:
        """Events are remembered for half a minute, and no longer take memory afterwards."""
        seen, first = Seen(), event(marker("M-1"))
        self.assertTrue(seen.is_new(first, 0))
        self.assertFalse(seen.is_new(first, SEEN_SECONDS - 0.1))
        self.assertTrue(seen.is_new(event(marker("M-2")), SEEN_SECONDS))
        self.assertEqual(len(seen._events), 1)
        self.assertTrue(seen.is_new(first, SEEN_SECONDS))

    def test_bounded(self) -> None:
        """At most so many are remembered: the oldest is forgotten first."""
        seen = Seen()
        events = [event(marker(f"M-{number}")) for number in range(SEEN_EVENTS + 1)]
        for each in events:
            self.assertTrue(seen.is_new(each, 0))
        self.assertEqual(len(seen._events), SEEN_EVENTS)
        self.assertFalse(seen.is_new(events[1], 0))
        self.assertTrue(seen.is_new(events[0], 0))


class ReadDatagramTests(SynchronousTestCase):
    def test_large(self) -> None:
        """An event as large as a datagram can be is read; there is no larger one."""
        room = MAX_DATAGRAM - len(marker())
        read = read_datagram(marker(extra=" " * room))
        assert read is not None
        self.assertEqual(read.uid, "MARK-1")
        with self.assertRaises(MalformedEvent):
            read_datagram(marker(extra=" " * (room + 1)))
