"""What the load generator says is what clients say, and is found again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench import events
from taky_twisted.cot.event import PROLOG
from taky_twisted.cot.xmlcodec import decode


class EventsTests(SynchronousTestCase):
    def test_valid(self) -> None:
        """Each kind is an event of its type, and is delivered as it was said, so that bytes can be compared."""
        for document, type_ in (
            (events.position(3, 7, "text"), "a-f-G-U-C"),
            (events.marker("item-1", 3, 7, "text"), "a-h-G"),
            (events.chat(3, 7, "text"), "b-t-f"),
            (events.emergency(3, "text"), "b-a-o-tbl"),
            (events.cancel(3), "b-a-o-can"),
            (events.delete("item-1", 3, 7, "text"), "t-x-d-d"),
            (events.ping(3), "t-x-c-t"),
        ):
            event = decode(document)
            self.assertEqual(event.type, type_)
            self.assertEqual(event.xml, PROLOG + document)

    def test_roles(self) -> None:
        """A position is a self-report, a directed one names its receiver, an emergency is one."""
        self.assertTrue(decode(events.position(3)).is_self_report)
        directed = decode(events.position(3, callsign="UNIT 0004")).detail.destinations
        assert directed is not None
        self.assertEqual(directed.callsigns, ("UNIT 0004",))
        self.assertIsNotNone(decode(events.emergency(3, "")).detail.emergency)

    def test_marks(self) -> None:
        """Marks are found wherever they stand, and those of another run are not."""
        own = events.mark("0000abcd", events.stream_key(12), 345)
        other = events.mark("0000abce", events.stream_key(12), 345)
        buffer = bytearray(events.position(1, remarks=own) + events.chat(2, 1, other) + events.chat(2, 1, own))
        found = events.mark_finder("0000abcd")(buffer, 0, len(buffer))
        self.assertEqual([mark[: events.NUMBER_END] for mark in found], [b"0012 00000345"] * 2)
        self.assertRaises(ValueError, events.stream_key, events.MAX_STREAMS)

    def test_xml(self) -> None:
        """What was read ends with the last whole event, and a document is in it as it was said or not."""
        document, encoding = events.position(1), events.XML()
        wire = encoding.spell(document)
        buffer = bytearray(wire + wire[:-20])
        whole = encoding.whole(buffer, len(buffer))
        self.assertEqual(bytes(buffer[:whole]), wire[:-1])
        self.assertEqual(encoding.whole(buffer, 100), 0)
        self.assertTrue(encoding.holds(buffer, whole, document))
        self.assertFalse(encoding.holds(buffer, whole, events.position(2)))
