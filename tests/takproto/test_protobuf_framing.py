from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable
from taky_twisted.takproto.protobuf_framing import MAX_GARBAGE, ProtobufFraming, frame, mesh_frame, read_mesh

LIMIT = 8 << 20
SMALL, LARGE = b"small", bytes(range(256)) * 2


def read(*pieces: bytes, limit: int = LIMIT, first_limit: int | None = None) -> list[bytes | Unreadable]:
    """Feed a framing piece by piece."""
    framing, buffer, found = ProtobufFraming(limit, first_limit), bytearray(), list[bytes | Unreadable]()
    for piece in pieces:
        buffer += piece
        found += iter(partial(framing.next_frame, buffer), None)
    return found


class FrameTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """Frames look as the protocol document says."""
        self.assertEqual(frame(SMALL), b"\xbf\x05small")
        self.assertEqual(frame(b"x" * 127)[:2], b"\xbf\x7f")
        self.assertEqual(frame(b"x" * 128)[:3], b"\xbf\x80\x01")
        self.assertEqual(frame(b"x" * 300)[:3], b"\xbf\xac\x02")
        self.assertEqual(frame(b"x" * (1 << 14))[:4], b"\xbf\x80\x80\x01")
        self.assertEqual(mesh_frame(SMALL), b"\xbf\x01\xbfsmall")

    def test_never_empty(self) -> None:
        """A frame of length 0, at which ATAK waits, is never made."""
        self.assertRaises(ValueError, frame, b"")


class ReadMeshTests(SynchronousTestCase):
    def test_payload(self) -> None:
        """A datagram's payload is all behind its header."""
        self.assertEqual(read_mesh(mesh_frame(LARGE)), LARGE)
        self.assertEqual(read_mesh(b"\xbf\x81\x00\xbfsmall"), SMALL)
        self.assertEqual(read_mesh(b"\xbf\x01\xbf"), b"")

    def test_version(self) -> None:
        """Another version is refused by its number."""
        for datagram, version in ((b"\xbf\x00\xbfx", 0), (b"\xbf\x02\xbfx", 2), (b"\xbf\xac\x02\xbfx", 300)):
            error = self.assertRaises(MalformedEvent, read_mesh, datagram)
            self.assertIn(f"version {version};", str(error))

    def test_other(self) -> None:
        """Anything else is refused as what it is."""
        for datagram in (b"", b"<event/>", b"\xbf", b"\xbf\x01", b"\xbf\x01x", b"\xbf\x81", b"\xbf" * 20, frame(SMALL)):
            error = self.assertRaises(MalformedEvent, read_mesh, datagram)
            self.assertIn("no datagram", str(error))


class ProtobufFramingTests(SynchronousTestCase):
    def test_T20_cut_anywhere(self) -> None:
        """However the network cuts the bytes, the same messages come out."""
        wire = frame(SMALL) + b"\x00" + frame(LARGE) + b"\xbf\x00junk" + frame(b"\xbf\xbf") + frame(b"x" * 128)
        whole = read(wire)
        self.assertEqual(whole, [SMALL, LARGE, Unreadable("4 bytes between frames", b"junk"), b"\xbf\xbf", b"x" * 128])
        for cut in range(len(wire) + 1):
            self.assertEqual(read(wire[:cut], wire[cut:]), whole, f"cut at {cut}")
        self.assertEqual(read(*(wire[at : at + 1] for at in range(len(wire)))), whole)

    def test_T21_zeros(self) -> None:
        """The zero byte that goatak writes behind each frame is nobody's concern."""
        self.assertEqual(read((frame(SMALL) + b"\x00") * 3), [SMALL] * 3)

    def test_T22_next_one_is_good(self) -> None:
        """A payload that is no message takes nothing of the next frame with it."""
        self.assertEqual(read(frame(b"no message") + frame(SMALL)), [b"no message", SMALL])

    def test_T23_large_length(self) -> None:
        """A declared gigabyte ends the stream at once, before anything is kept for it."""
        for length in (b"\x80\x80\x80\x80\x04", b"\xff" * 9 + b"\x01"):
            framing, buffer = ProtobufFraming(LIMIT), bytearray(b"\xbf" + length)
            error = self.assertRaises(RemoteProtocolError, framing.next_frame, buffer)
            self.assertIn(f"at most {LIMIT}", str(error))

    def test_limit(self) -> None:
        """A payload of the limit is read, one byte more is refused."""
        self.assertEqual(read(frame(b"x" * 299) + frame(b"x" * 300), limit=300), [b"x" * 299, b"x" * 300])
        self.assertRaises(RemoteProtocolError, read, b"\xbf\xad\x02", limit=300)

    def test_endless_length(self) -> None:
        """A length of ten bytes may end in the tenth; one that does not is no length."""
        self.assertEqual(read(b"\xbf\x85" + b"\x80" * 8 + b"\x00small"), [SMALL])
        self.assertEqual(read(b"\xbf" + b"\x80" * 9), [])
        error = self.assertRaises(RemoteProtocolError, read, b"\xbf" + b"\x80" * 10)
        self.assertIn("over 10 bytes", str(error))

    def test_T25_from_the_first_byte(self) -> None:
        """A stream may begin with a frame."""
        self.assertEqual(read(frame(SMALL) * 2), [SMALL] * 2)

    def test_empty(self) -> None:
        """Frames without payload mean nothing, however many."""
        self.assertEqual(read(b"\xbf\x00" * MAX_GARBAGE + frame(SMALL)), [SMALL])

    def test_garbage(self) -> None:
        """What is no frame is skipped, and reported once with its beginning when the next frame begins."""
        garbage = b"\x00" * 10 + b"<event>" + b"x" * 1000
        self.assertEqual(read(garbage), [])
        expected = [Unreadable("1017 bytes between frames", garbage[:512]), SMALL]
        self.assertEqual(read(garbage + frame(SMALL)), expected)
        self.assertEqual(read(garbage[:9], garbage[9:600], garbage[600:] + frame(SMALL)), expected)

    def test_too_much_garbage(self) -> None:
        """64 KiB that belong to no frame are passed over, one byte more ends the stream, in pieces or whole."""
        most = b"x" * MAX_GARBAGE
        self.assertEqual(len(read(most + frame(SMALL) + most + frame(SMALL))), 4)
        self.assertRaises(RemoteProtocolError, read, most + b"x")
        self.assertRaises(RemoteProtocolError, read, most, b"\xbf\x00", b"x")
        self.assertRaises(RemoteProtocolError, read, *[b"\x00"] * (MAX_GARBAGE + 1))

    def test_first_limit(self) -> None:
        """Who has said nothing valid yet may not fill memory; afterwards messages of full size are read."""
        self.assertEqual(read(frame(b"x" * 98), first_limit=100), [b"x" * 98])
        self.assertRaises(RemoteProtocolError, read, frame(b"x" * 99)[:2], first_limit=100)
        self.assertRaises(RemoteProtocolError, read, b"\xbf\x00" * 50, b"\x00", first_limit=100)
        self.assertRaises(RemoteProtocolError, read, b"\x00" * 101, first_limit=100)
        framing = ProtobufFraming(1000, 100)
        framing.trust()
        self.assertEqual(framing.next_frame(bytearray(frame(LARGE))), LARGE)
