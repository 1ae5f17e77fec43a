"""Clients that speak protobuf ask for it, and find whole frames in what they read."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench import events
from bench.protobuf import Protobuf
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.takproto.connection import Reply, TAKConnection
from tests.threaded_clock import EPOCH


class ProtobufTests(SynchronousTestCase):
    def test_with_a_server(self) -> None:
        """The server agrees to what the client asks for, and takes the events behind that in the same read."""
        client, server = Protobuf(), TAKConnection(1 << 20, 1 << 20)
        offer = server.offer(EPOCH)
        said = list(server.receive(client.hello() + client.spell(events.position(3, 7, "text")), EPOCH))
        assert isinstance(said[0], Reply)
        self.assertEqual((server.protocol, len(said)), ("protobuf", 2))
        wire = bytearray(offer + said[0].data)
        self.assertEqual(client.whole(wire, len(offer)), len(offer))
        self.assertEqual(client.whole(wire, len(wire)), len(wire))

    def test_frames(self) -> None:
        """However the network cuts them, whole frames are found, and an event in them as it was said or not."""
        client = Protobuf()
        answer = b"<event type='t-x-takp-r'></event>"
        frames = [client.spell(events.position(3, number, "x" * 200)) for number in range(3)]
        wire = bytearray(answer + b"".join(frames))
        ends = [len(answer) + sum(map(len, frames[:count])) for count in range(4)]
        for end in range(len(answer), len(wire) + 1):
            self.assertEqual(Protobuf().whole(wire, end), max(place for place in ends if place <= end), end)
        self.assertEqual(Protobuf().whole(wire, len(answer) - 1), 0)
        self.assertTrue(client.holds(wire, len(wire), events.position(3, 1, "x" * 200)))
        self.assertFalse(client.holds(wire, len(wire), events.position(3, 1, "y" * 200)))
        self.assertEqual(decode(events.position(3, 1)).uid, events.uid_of(3))

    def test_no_frame(self) -> None:
        """Anything between two frames is no frame."""
        wire = bytearray(b"<event type='t-x-takp-r'></event>?")
        self.assertRaises(ValueError, Protobuf().whole, wire, len(wire))
