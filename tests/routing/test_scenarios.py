"""The promises about who hears what, each under its number; ``doc/reference/scenarios.rst`` lists them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import Event
from tests.fakes import SERVER_ID, Client, Site, principal
from tests.samples import (
    NOW,
    cancel,
    chat,
    control,
    delete,
    emergency,
    marker,
    ping,
    sa,
    to,
    xml,
)

OUR_TAG = f"TAK-Server-{SERVER_ID}"


class ScenarioTests(SynchronousTestCase):
    """What clients see, without sockets."""

    def setUp(self) -> None:
        self.site = Site()

    def three(self) -> tuple[Client, Client, Client]:
        """Connect A, B and C, who have seen each other."""
        clients = tuple(self.site.join(uid) for uid in "ABC")
        for client in clients:
            client.heard()
        return clients  # type: ignore[return-value]

    def one(self, client: Client) -> Event:
        """Read the one event that a client got."""
        events = client.heard()
        self.assertEqual(len(events), 1, [event.uid for event in events])
        return events[0]


class LifecycleTests(ScenarioTests):
    """Coming, being there and going."""

    def test_T31_ping_before_anything_else(self) -> None:
        """A ping is answered at once, even to somebody who has not said who it is, and nobody else sees either."""
        other = self.site.join("B")
        client = self.site.connect()
        client.heard()
        client.say(ping())
        pong = self.one(client)
        self.assertEqual((pong.uid, pong.type), ("takPong", "t-x-c-t-r"))
        self.assertEqual(other.uids(), [])

    def test_T32_pings_while_everybody_talks(self) -> None:
        """Every ping is answered while others flood, also to a client that hears all of it."""
        quiet, loud = self.site.join("A"), self.site.join("B")
        for number in range(27):
            for position in range(20):
                loud.say(marker(f"M-{position}", now=NOW + number))
            quiet.heard()
            quiet.say(ping())
            self.assertEqual(quiet.types(), ["t-x-c-t-r"])
            self.site.pass_time(4.5)

    def test_T33_no_echo(self) -> None:
        """A report reaches the others once and never comes back."""
        a, b, _ = self.three()
        a.say(sa("A", "A"))
        self.assertEqual((a.uids(), b.uids()), ([], ["A"]))

    def test_T34_newcomer_sees_who_is_there(self) -> None:
        """A newcomer that says nothing gets everybody's latest report at once."""
        self.site.join("A")
        self.assertEqual(self.site.connect().uids(), ["A"])

    def test_T35_departure_is_announced(self) -> None:
        """A broken connection is announced within six seconds in the form that ATAK acts on, to who could hear it."""
        a = self.site.join("A", proved=principal("a", ["g1"], ["g1"]))
        b = self.site.join("B", proved=principal("b", ["g1"], ["g1"]))
        stranger = self.site.join("S", proved=principal("s", ["g2"], ["g2"]))
        b.heard()
        a.vanish()
        self.site.pass_time(4)
        self.assertEqual(b.heard(), [])
        self.site.pass_time(2)
        notice = self.one(b)
        self.assertEqual((notice.type, notice.detail.link_uid), ("t-x-d-d", "A"))
        self.assertIn(b'relation="p-p"', notice.xml)
        self.assertIn(b'type="a-f-G-U-C"/>', notice.xml)
        self.assertEqual(stranger.heard(), [])

    def test_T35_goodbye_is_announced_at_once(self) -> None:
        """Who says goodbye is gone for the others at once."""
        a, b, _ = self.three()
        a.leave()
        self.assertEqual(b.types(), ["t-x-d-d"])

    def test_T36_reconnect_with_the_same_certificate(self) -> None:
        """A client that reconnects never looks offline, and what is for it reaches the new connection only."""
        old = self.site.join("A", proved=principal("a"))
        b = self.site.join("B")
        new = self.site.join("A", proved=principal("a"))
        self.assertEqual(old.transport.lost, "lose")
        old.vanish()
        old.heard()
        self.site.pass_time(15)
        self.assertNotIn("t-x-d-d", b.types())
        b.say(chat("B", marti=to("A")))
        self.assertEqual((new.types(), old.heard()), (["b-t-f"], []))

    def test_T36_reconnect_without_certificates(self) -> None:
        """Without certificates a silent older connection is closed after ten seconds, without a word to the others."""
        old, b = self.site.join("A"), self.site.join("B")
        new = self.site.join("A")
        b.heard()
        old.heard()
        new.say(marker())
        self.assertEqual(old.heard(), [], "what its newer self says is not sent to it")
        b.heard()
        self.site.pass_time(11)
        self.assertEqual(old.transport.lost, "lose")
        old.vanish()
        self.site.pass_time(10)
        self.assertEqual(b.heard(), [])

    def test_T36_nobody_is_closed_by_naming_its_uid(self) -> None:
        """An older anonymous connection that still speaks stays, and both get what is for the uid."""
        first, b = self.site.join("A"), self.site.join("B")
        second = self.site.join("A")
        self.site.pass_time(1)
        first.say(ping())
        self.site.pass_time(11)
        self.assertIsNone(first.transport.lost)
        for client in (first, second):
            client.heard()
        b.say(chat("B", marti=to("A")))
        self.assertEqual((first.types(), second.types()), (["b-t-f"], ["b-t-f"]))

    def test_T36_another_certificate_takes_no_connection(self) -> None:
        """Somebody else who claims a uid is addressed from then on, but the first one stays connected and online."""
        first = self.site.join("A", proved=principal("alice"))
        b = self.site.join("B")
        second = self.site.join("A", proved=principal("mallory"))
        self.assertIsNone(first.transport.lost)
        second.leave()
        self.assertNotIn("t-x-d-d", b.types())

    def test_T36_nobody_is_told_that_itself_is_gone(self) -> None:
        """Who comes back with its certificate is not shown its own departure, and is shown those of others."""
        site, proved = Site(), principal("a")
        site.join("A", proved=proved).leave()
        site.join("B", proved=proved).leave()
        site.join("C", proved=principal("c")).leave()
        back = site.connect(proved)
        self.assertEqual([event.detail.link_uid or event.uid for event in back.heard()], ["C", "C"])
        back.say(sa("A", "A"))
        self.assertEqual([event.detail.link_uid or event.uid for event in back.heard()], ["B", "B"])

    def test_T37_anonymous_leaves_silently(self) -> None:
        """Who never said who it is leaves without a notice."""
        b = self.site.join("B")
        client = self.site.connect()
        client.say(marker())
        b.heard()
        client.leave()
        self.site.pass_time(10)
        self.assertEqual(b.heard(), [])

    def test_T38_callsign_changes(self) -> None:
        """After a change of callsign the new one is reached, the old one is nobody's."""
        a = self.site.join("A", "X")
        b = self.site.join("B")
        a.say(sa("A", "Y"))
        a.heard(), b.heard()
        b.say(chat("B", number=1, marti=to("Y")))
        self.assertEqual(a.types(), ["b-t-f"])
        b.say(chat("B", number=2, marti=to("X")))
        self.assertEqual((a.types(), b.types()), ([], ["b-t-f-s"]))

    def test_T39_marker_is_no_identity(self) -> None:
        """A marker with a callsign does not make its sender that."""
        client, b = self.site.connect(), self.site.join("B")
        client.heard()
        client.say(marker("M", "TGT"))
        b.heard()
        b.say(chat("B", marti=to("TGT")))
        self.assertEqual(client.heard(), [])

    def test_T40_control_messages_stay_here(self) -> None:
        """What is between a client and its server reaches nobody else, however it is spelled."""
        a, b, _ = self.three()
        for type_ in ("t-x-c-m", "t-b", "t-b-a", "t-b-c", "t-b-q", "t-x-c-f", "t-x-c-i-d", "t-x-takp-r", "t-x-takp-v"):
            a.say(control(type_), control(type_.upper()))
        self.assertEqual((a.types(), b.types()), ([], []))
        a.say(control("t-x-takp-q"))
        self.assertEqual((a.types(), b.types()), (["t-x-takp-r"], []), "refused: it asks for no version")

    def test_T41_incognito(self) -> None:
        """Who is incognito looks gone, is not shown to newcomers, can still write, and can come back."""
        a, b, _ = self.three()
        a.say(control("t-x-c-i-e"))
        self.assertEqual(b.types(), ["t-x-d-d"])
        a.say(sa("A", "A"), marker())
        self.assertEqual(b.heard(), [])
        a.say(chat("A", marti=to("B")))
        self.assertEqual(b.types(), ["b-t-f"])
        self.assertNotIn("A", self.site.connect().uids())
        a.say(control("t-x-c-i-d"), sa("A", "A"))
        self.assertEqual(b.uids(), ["A"])

    def test_T41_incognito_does_not_hide_an_emergency(self) -> None:
        """Who calls for help is heard, incognito or not, and may cancel it."""
        a, b, _ = self.three()
        a.say(control("t-x-c-i-e"), emergency("A", "A"))
        self.assertEqual(b.types(), ["t-x-d-d", "b-a-o-tbl"])
        self.site.pass_time(10)
        self.assertEqual(b.types(), ["b-a-o-tbl"])
        a.say(cancel("A", "A"))
        self.assertEqual(b.types(), ["b-a-o-can"])

    def test_T42_area(self) -> None:
        """An area holds back markers outside, but never chat or an emergency."""
        a, b, c = self.three()
        box = '<boundingBox minLongitude="0" minLatitude="0" maxLongitude="1" maxLatitude="1"/>'
        b.say(control("t-x-c-f", f"<subscription><geospatialFilter>{box}</geospatialFilter></subscription>"))
        a.say(marker())
        self.assertEqual((b.uids(), c.uids()), ([], ["MARK-1"]))
        a.say(chat("A"), emergency("A", "A"), sa("A", "A"))
        self.assertEqual(b.types(), ["b-t-f", "b-a-o-tbl", "a-f-G-U-C"])
        a.say(marker("IN", point='<point lat="0.5" lon="0.5" hae="0" ce="1" le="1"/>'))
        self.assertEqual(b.uids(), ["IN"])

    def test_T43_xpath(self) -> None:
        """An XPath holds back broadcasts that do not match, never what is directed."""
        a, b, _ = self.three()
        tests = "<tests xpath=\"/event[starts-with(@type,'b-m-p')]\"/>"
        b.say(control("t-b", f'<subscription publish="stcp:x:0">{tests}</subscription>', uid="wish"))
        a.say(marker(), xml("SPOT", "b-m-p-s-m"), chat("A", marti=to("B")))
        self.assertEqual(b.types(), ["b-m-p-s-m", "b-t-f"])
        b.say(control("t-b-c", uid="wish"))
        a.say(marker())
        self.assertEqual(b.uids(), ["MARK-1"])

    def test_T87_pytaks_greeting(self) -> None:
        """PyTAK's greeting, a delete of nothing, is neither passed on nor held against it."""
        a, b, _ = self.three()
        bot = self.site.connect()
        bot.say(xml("takPing", "t-x-d-d"))
        self.assertEqual((a.uids(), b.uids(), bot.transport.lost), ([], [], None))
        self.assertEqual(sum(subscription.primary is None for subscription in self.site.router.subscriptions), 1)

    def test_T88_no_outgoing_connection(self) -> None:
        """A client cannot make the server send anything to an address that it names."""
        a, b, _ = self.three()
        b.say(control("t-b", '<subscription publish="udp:10.0.0.1:9999"><tests xpath="/nothing"/></subscription>'))
        a.say(marker())
        self.assertEqual(b.uids(), ["MARK-1"], "the request changed nothing")


class RoutingTests(ScenarioTests):
    """Who is addressed."""

    def test_T46_one_callsign(self) -> None:
        """What is for one callsign reaches it alone, without the list of recipients."""
        a, b, c = self.three()
        a.say(chat("A", marti=to("B")))
        event = self.one(b)
        self.assertNotIn(b"marti", event.xml)
        self.assertEqual((a.heard(), c.heard()), ([], []))

    def test_T47_two_callsigns(self) -> None:
        """Each of several addressed gets one copy."""
        a, b, c = self.three()
        d = self.site.join("D")
        b.heard(), c.heard()
        a.say(marker(marti=to("B", "C")))
        self.assertEqual((b.uids(), c.uids(), d.uids()), (["MARK-1"], ["MARK-1"], []))

    def test_T48_one_addressed_twice(self) -> None:
        """Who is addressed by callsign and by uid gets one copy."""
        a, b, _ = self.three()
        a.say(marker(marti=to("B", "B") + '<dest uid="B"/>'))
        self.assertEqual(b.uids(), ["MARK-1"])

    def test_T49_uid(self) -> None:
        """Addressing by uid, as iTAK does, works as well."""
        a, b, c = self.three()
        a.say(marker(marti='<dest uid="B"/>'))
        self.assertEqual((b.uids(), c.uids()), (["MARK-1"], []))

    def test_T50_unknown_is_never_broadcast(self) -> None:
        """What is for somebody unknown reaches nobody; ATAK addresses its server that way."""
        a, b, c = self.three()
        for marti in (to("ffffffff-ffff-ffff-ffff-ffffffffffff"), '<dest uid="X"/>', '<dest publish="x"/>'):
            a.say(marker(marti=marti))
        self.assertEqual((a.heard(), b.heard(), c.heard()), ([], [], []))
        self.assertNotIn("MARK-1", self.site.connect().uids())

    def test_T51_empty_destinations(self) -> None:
        """An empty list of destinations, as iTAK sends, means everybody."""
        a, b, c = self.three()
        for marti in ("", "<dest/>", '<dest callsign=""/>', '<dest other="x"/>'):
            a.say(marker(marti=marti))
            self.assertEqual((b.uids(), c.uids()), (["MARK-1"], ["MARK-1"]), marti)

    def test_T52_all_streaming(self) -> None:
        """The callsign "All Streaming" means everybody."""
        a, b, c = self.three()
        a.say(marker(marti=to("All Streaming", "nobody")))
        self.assertEqual((b.uids(), c.uids()), (["MARK-1"], ["MARK-1"]))

    def test_T53_oneself(self) -> None:
        """Who addresses itself gets its copy."""
        a, b, _ = self.three()
        a.say(marker(marti='<dest uid="A"/>'))
        self.assertEqual((a.uids(), b.uids()), (["MARK-1"], []))

    def test_T54_two_of_one_callsign(self) -> None:
        """All who have a callsign get what is for it."""
        a = self.site.join("A")
        first, second = self.site.join("D1", "DUP"), self.site.join("D2", "DUP")
        first.heard()
        a.say(marker(marti=to("DUP")))
        self.assertEqual((first.uids(), second.uids()), (["MARK-1"], ["MARK-1"]))

    def test_T55_groups(self) -> None:
        """A message reaches only who hears a group that its sender speaks to, on every path."""
        a = self.site.join("A", proved=principal("a", ["g1"], []))
        b = self.site.join("B", proved=principal("b", [], ["g1"]))
        c = self.site.join("C", proved=principal("c", ["g2"], ["g2"]))
        a.say(sa("A", "A"), marker(), chat("A", marti=to("C")), emergency("A", "A"))
        self.assertEqual(b.types(), ["a-f-G-U-C", "a-h-G", "b-a-o-tbl"])
        self.assertEqual(c.heard(), [])
        b.say(marker("FROM-B"))
        self.assertEqual((a.types(), c.heard()), (["b-t-f-s"], []), "only the notice about the chat that C cannot get")
        self.site.pass_time(11)
        self.assertEqual((b.types(), c.heard()), (["b-a-o-tbl"], []))
        newcomer = self.site.connect(principal("d", [], ["g2"]))
        self.assertEqual(newcomer.uids(), ["C"])
        newcomer = self.site.connect(principal("e", [], ["g1"]))
        self.assertEqual(newcomer.uids(), ["A-9-1-1", "A", "MARK-1"])
        a.leave()
        self.assertEqual((b.types(), c.heard()), (["t-x-d-d"], []))

    def test_T56_group_as_destination(self) -> None:
        """A named group narrows a broadcast, and one that the sender may not write to stops it."""
        a = self.site.join("A", proved=principal("a", ["g1", "g3"], []))
        b = self.site.join("B", proved=principal("b", [], ["g1"]))
        c = self.site.join("C", proved=principal("c", [], ["g2", "g3"]))
        a.say(marker(marti='<dest group="g1"/>'))
        self.assertEqual((b.uids(), c.uids()), (["MARK-1"], []))
        a.say(marker("M2", marti='<dest group="g2"/>'), marker("M3", marti='<dest group="g2"/><dest group="g1"/>'))
        self.assertEqual((b.heard(), c.heard()), ([], []))
        self.assertEqual(self.site.connect(principal("d", [], ["g3"])).uids(), ["A"], "retained for g1 alone")

    def test_T58_delete(self) -> None:
        """A delete reaches whom it is for and takes the item off the map for those who come later."""
        a, b, c = self.three()
        a.say(marker())
        b.heard(), c.heard()
        b.say(delete("MARK-1"))
        self.assertEqual((a.types(), c.types()), (["t-x-d-d"], ["t-x-d-d"]))
        self.assertNotIn("MARK-1", self.site.connect().uids())
        a.say(marker())
        self.assertNotIn("MARK-1", self.site.connect().uids(), "an old copy does not bring it back")
        self.assertNotIn("MARK-1", self.site.restart().connect().uids())
        self.site.pass_time(1)
        a.say(marker(now=NOW + 1))
        self.assertIn("MARK-1", self.site.connect().uids(), "a newer one does")

    def test_T58_delete_for_some(self) -> None:
        """A delete that is for one recipient reaches that one, and still removes what is kept."""
        a, b, c = self.three()
        a.say(marker())
        b.heard(), c.heard()
        a.say(delete("MARK-1", forced=False, marti=to("B")))
        self.assertEqual((b.types(), c.types()), (["t-x-d-d"], []))
        self.assertNotIn("MARK-1", self.site.connect().uids())

    def test_T58_what_cannot_be_deleted(self) -> None:
        """Nobody deletes another live client, an emergency, or an item of a group that it does not speak to."""
        a, b, _ = self.three()
        a.say(marker(), emergency("A", "A"))
        stranger = self.site.join("S", proved=principal("s", ["g2"], ["__ANON__"]))
        b.say(delete("A"), delete("A-9-1-1"))
        stranger.say(delete("MARK-1"))
        shown = self.site.connect().uids()
        for uid in ("A", "A-9-1-1", "MARK-1"):
            self.assertIn(uid, shown)

    def test_T59_flow_tags(self) -> None:
        """Our own mark on a client's event is taken off; it does not stop the event, and others' marks stay."""
        a, b, _ = self.three()
        tags = f'<_flow-tags_ TAK-Server-other="2026-03-01T09:00:00Z" {OUR_TAG}="2026-03-01T09:00:00Z"/>'
        a.say(marker(extra=tags))
        event = self.one(b)
        self.assertEqual(event.detail.flow_tags, ("TAK-Server-other",))
        self.assertNotIn(OUR_TAG.encode(), event.xml)

    def test_T60_stale(self) -> None:
        """An event that is stale already is passed on all the same."""
        a, b, _ = self.three()
        a.say(marker(now=NOW - 9000, stale=10))
        self.assertEqual(b.uids(), ["MARK-1"])
        self.assertNotIn("MARK-1", self.site.connect().uids())

    def test_T61_incomplete(self) -> None:
        """An event without detail is passed on with an empty one; one without a place is not, and harms nobody."""
        a, b, _ = self.three()
        good = marker()
        bare = good[: good.index(b"<detail>")] + b"</event>"
        pointless = good[: good.index(b"<point")] + good[good.index(b"<detail>") :]
        a.say(bare, pointless, good.replace(b'lat="52.1"', b'lat="abc"'))
        self.assertTrue(self.one(b).xml.endswith(b"<detail/></event>"))
        self.assertIsNone(a.transport.lost)

    def test_T62_two_devices(self) -> None:
        """Two devices of one user see each other."""
        first = self.site.join("A1", proved=principal("a"))
        second = self.site.join("A2", proved=principal("a"))
        first.say(marker())
        self.assertEqual(second.uids(), ["MARK-1"])

    def test_T63_everything_arrives(self) -> None:
        """Elements that nobody knows, namespaces and odd spellings arrive to the letter."""
        a, b, _ = self.three()
        odd = "".join(f'<x{n} a=\'{n}\'><y:z xmlns:y="urn:y" y:q="&#10;&lt;"/> t </x{n}>' for n in range(200))
        document = marker(extra=odd).replace(b"<event ", b'<event access="Undefined" opex="e" qos="1-r-c" ')
        a.say(document)
        self.assertTrue(self.one(b).xml.endswith(document))

    def test_T82_a_reader_that_stalls(self) -> None:
        """Who stops reading delays nobody; when it reads on it gets every message and the newest positions."""
        a, b, c = self.three()
        b.full()
        for number in range(2000):
            a.say(sa("A", "A", now=NOW + number))
            self.assertEqual(c.uids(), ["A"])
            if number % 100 == 0:
                a.say(chat("A", str(number), number=number, marti=to("B")))
            self.site.clock.advance(0.01)
        b.reads_on()
        events = b.heard()
        self.assertEqual(len([event for event in events if event.type == "b-t-f"]), 20)
        reports = [event for event in events if event.uid == "A"]
        self.assertEqual([event.time for event in reports], [NOW + 1999])
        a.say(marker())
        self.assertEqual(b.uids(), ["MARK-1"], "and it hears everything again")

    def test_T86_stop_without_a_storm(self) -> None:
        """When the server stops, nobody is told that everybody left, and what is for somebody is still sent."""
        a, b, _ = self.three()
        b.full()
        a.say(marker(), chat("A", marti=to("B")))
        self.site.router.stop()
        stopped = self.site.connections.stopService()
        self.assertEqual([client.transport.lost for client in (a, b)], ["lose", None])
        b.reads_on()
        self.assertEqual(b.types(), ["b-t-f"])
        self.assertEqual([client.transport.lost for client in (a, b)], ["lose", "lose"])
        a.leave()
        b.leave()
        self.assertEqual(b.heard(), [])
        self.assertIsNotNone(stopped)


class MessageTests(ScenarioTests):
    """Chat, files, emergencies."""

    def test_T64_chat_to_all(self) -> None:
        """A message to all reaches the others to the letter, and is not shown to newcomers."""
        a, b, c = self.three()
        document = chat("A", "\N{SMILING FACE WITH SMILING EYES} &lt;&amp;&gt;")
        a.say(document)
        self.assertTrue(self.one(b).xml.endswith(document))
        self.assertEqual((len(c.heard()), a.heard()), (1, []))
        self.assertNotIn("b-t-f", self.site.connect().types())

    def test_T65_direct_chat_and_receipts(self) -> None:
        """A direct message and its receipts reach the one they are for."""
        a, b, c = self.three()
        a.say(chat("A", room="B", id_="B", uids=("B",), marti=to("B")))
        self.assertEqual(b.types(), ["b-t-f"])
        b.say(chat("B", type_="b-t-f-d", marti=to("A")), chat("B", type_="b-t-f-r", marti=to("A")))
        self.assertEqual((a.types(), c.heard()), (["b-t-f-d", "b-t-f-r"], []))

    def test_T66_chat_to_a_team(self) -> None:
        """A message for several reaches exactly those."""
        a, b, c = self.three()
        d = self.site.join("D")
        a.say(chat("A", room="Cyan", uids=("B", "C"), marti=to("B", "C")))
        self.assertEqual((b.types(), c.types()[-1:], d.types()), (["a-f-G-U-C", "b-t-f"], ["b-t-f"], []))

    def test_T67_chat_to_nobody(self) -> None:
        """Who writes to somebody unknown is told so with its own message."""
        a, b, _ = self.three()
        a.say(chat("A", marti=to("NOBODY")))
        failed = self.one(a)
        self.assertEqual((failed.type, failed.uid), ("b-t-f-s", "GeoChat.A.All Chat Rooms.m-1"))
        self.assertEqual(b.heard(), [])

    def test_T67_chat_to_somebody_away(self) -> None:
        """Messages for a known contact that is away wait for it, also over a restart, and come once and in order."""
        a, b, _ = self.three()
        b.leave()
        a.heard()
        for number in range(5):
            a.say(chat("A", number=number, marti=to("B") if number % 2 else '<dest uid="B"/>'))
        self.assertEqual(a.heard(), [])
        site = self.site.restart()
        back = site.connect()
        back.heard()
        back.say(sa("B", "B"))
        self.assertEqual(back.uids(), [f"GeoChat.A.All Chat Rooms.m-{number}" for number in range(5)])
        back.leave()
        again = site.connect()
        again.heard()
        again.say(sa("B", "B"))
        self.assertEqual(again.heard(), [])

    def test_T67_chat_waits_for_its_certificate(self) -> None:
        """Messages for somebody with a certificate wait for it, whoever else says its uid in the meantime."""
        a = self.site.join("A")
        self.site.join("V", proved=principal("victor")).leave()
        a.say(chat("A", marti=to("V")))
        mallory = self.site.join("V", proved=principal("mallory"))
        self.assertNotIn("b-t-f", mallory.types())
        mallory.leave()
        back = self.site.connect(principal("victor"))
        back.heard()
        back.say(sa("V", "V"))
        self.assertIn("b-t-f", back.types())

    def test_T67_chat_that_nobody_could_read(self) -> None:
        """Who writes a message that is too large for clients is told so."""
        a, _, _ = self.three()
        a.say(chat("A", "x" * 66_000, marti=to("B")))
        self.assertEqual(a.types(), ["b-t-f-s"])

    def test_T68_receipt_for_somebody_away(self) -> None:
        """A receipt for somebody who is away is dropped and never shown to others."""
        a, b, c = self.three()
        a.leave()
        b.heard(), c.heard()
        b.say(chat("B", type_="b-t-f-r", marti=to("A")))
        self.assertEqual((b.heard(), c.heard()), ([], []))

    def test_T69_chat_of_a_bot(self) -> None:
        """A message without destinations goes to whom it names, and never to everybody instead."""
        a, b, c = self.three()
        a.say(chat("A", number=1, room="B", id_="B", uids=("B",)))
        self.assertEqual((b.types(), c.types()), (["b-t-f"], []))
        a.say(chat("A", number=2, room="Z", id_="Z", uids=("Z",)))
        self.assertEqual((a.types(), b.types(), c.types()), (["b-t-f-s"], [], []))
        red = self.site.join("R", team="Red")
        for client in (b, c):
            client.heard()
        a.say(chat("A", number=3, room="Red", id_="Red", uids=()))
        self.assertEqual((red.types(), b.types()), (["b-t-f"], []))

    def test_T69_without_the_fallback(self) -> None:
        """With chat_fallback off such a message goes to everybody, as on TAK Server."""
        self.site = Site(chat_fallback=False)
        a, b, c = self.three()
        a.say(chat("A", room="B", id_="B", uids=("B",)))
        self.assertEqual((b.types(), c.types()), (["b-t-f"], ["b-t-f"]))

    def test_T70_file_offer(self) -> None:
        """An offer of a file and its acknowledgement reach whom they name, to the letter."""
        a, b, c = self.three()
        share = '<fileshare filename="p.zip" senderUrl="https://h:8443/Marti/sync/content?hash=ab&amp;x=1" name="p"/>'
        a.say(xml("OFFER", "b-f-t-r", share, marti=to("B")))
        self.assertIn(share.encode(), self.one(b).xml)
        b.say(xml("ACK", "b-f-t-a", '<ackresponse uid="x" success="true"/>', marti=to("A")))
        self.assertEqual((a.uids(), c.heard()), (["ACK"], []))

    def test_T71_emergency(self) -> None:
        """An emergency is repeated with fresh times to everybody but who raised it, also when that one is gone."""
        a, b, c = self.three()
        a.say(emergency("A", "A"))
        first = self.one(b)
        self.assertEqual(len(c.heard()), 1)
        self.site.pass_time(10)
        again = self.one(b)
        self.assertEqual((again.start, again.time, again.stale), (first.start, NOW + 10, NOW + 25))
        self.assertEqual(a.heard(), [])
        newcomer = self.site.connect()
        self.assertEqual(newcomer.uids()[0], "A-9-1-1")
        a.vanish()
        self.site.pass_time(10)
        self.assertIn("A-9-1-1", b.uids())
        back = self.site.join("A")
        back.heard()
        self.site.pass_time(10)
        self.assertNotIn("A-9-1-1", back.uids())

    def test_T71_emergency_over_a_restart(self) -> None:
        """An emergency goes on after the server was killed."""
        self.three()[0].say(emergency("A", "A"))
        site = self.site.restart()
        b = site.connect()
        self.assertIn("A-9-1-1", b.uids())
        site.pass_time(10)
        self.assertIn("A-9-1-1", b.uids())

    def test_T72_cancel(self) -> None:
        """A cancel reaches everybody, also who comes a moment later, and ends the repeats."""
        a, b, c = self.three()
        a.say(emergency("A", "A"))
        b.heard(), c.heard()
        a.say(cancel("A", "A"))
        self.assertEqual((b.types(), c.types()), (["b-a-o-can"], ["b-a-o-can"]))
        self.assertIn("b-a-o-can", self.site.connect().types())
        self.site.pass_time(60)
        self.assertEqual(b.types(), ["b-a-o-can", "b-a-o-can"])
        self.assertNotIn("b-a-o-can", self.site.connect().types())
        self.assertNotIn("A-9-1-1", self.site.restart().connect().uids())

    def test_T72_cancel_by_somebody_else(self) -> None:
        """Somebody else's cancel is passed on but ends nothing."""
        a, b, c = self.three()
        a.say(emergency("A", "A"))
        b.heard(), c.heard()
        b.say(cancel("A", "A"))
        self.assertEqual(c.types(), ["b-a-o-can"])
        self.site.pass_time(10)
        self.assertEqual(c.types(), ["b-a-o-tbl"])

    def test_T72_cancel_by_another_certificate(self) -> None:
        """Who says the raiser's uid with another certificate cannot cancel its emergency."""
        a = self.site.join("A", proved=principal("alice"))
        a.say(emergency("A", "A"))
        mallory = self.site.join("A", proved=principal("mallory"))
        mallory.say(cancel("A", "A"))
        self.assertIn("b-a-o-tbl", self.site.connect().types())

    def test_T73_emergency_moves(self) -> None:
        """The repeats carry the newest position."""
        a, b, _ = self.three()
        a.say(emergency("A", "A"))
        a.say(emergency("A", "A", point='<point lat="1" lon="2" hae="0" ce="1" le="1"/>'))
        b.heard()
        self.site.pass_time(10)
        event = self.one(b)
        self.assertEqual((event.lat, event.lon), (1, 2))

    def test_T74_casevac(self) -> None:
        """A medical evacuation arrives with its own flow tag, and is shown to newcomers."""
        a, b, _ = self.three()
        document = xml("MED", "b-r-f-h-c", '<_flow-tags_ AndroidMedicalLine="x"/><_medevac_ urgent="1"/>')
        a.say(document)
        self.assertTrue(self.one(b).xml.endswith(document))
        self.assertIn("MED", self.site.connect().uids())

    def test_large_events_stay_here(self) -> None:
        """An event that ATAK cannot read is kept from clients, shown on the monitor and warned of once."""
        a, b, _ = self.three()
        monitor = self.site.connect(monitor=True)
        big = marker(extra=f'<x a="{"y" * 66_000}"/>')
        a.say(big, big, marker("SMALL"))
        self.assertEqual(b.uids(), ["SMALL"])
        self.assertEqual(monitor.uids(), ["MARK-1", "MARK-1", "SMALL"])
        self.assertEqual(self.site.connect().uids(), ["A", "B", "C", "SMALL"])
        self.assertEqual(self.site.router.offers.oversize, 2)
