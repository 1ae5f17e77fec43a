from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import PROLOG
from taky_twisted.history.packing import PACKED, PLAIN, pack, unpack
from tests.samples import chat, sa


class PackingTests(SynchronousTestCase):
    @given(st.binary(max_size=5000))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever is packed comes back to the byte, and packing never makes it larger."""
        how, packed = pack(data)
        self.assertEqual(unpack(how, packed), data)
        self.assertLessEqual(len(packed), len(data))

    def test_small(self) -> None:
        """A client's report needs less than a third of its size, a chat less than half."""
        report, message = PROLOG + sa("ANDROID-589520ccfcd20f01", "ALPHA-17"), PROLOG + chat("ANDROID-589520ccfcd20f01")
        self.assertLess(len(pack(report)[1]), len(report) / 3)
        self.assertLess(len(pack(message)[1]), len(message) / 2)

    def test_format(self) -> None:
        """What an older version packed is read by every later one: the dictionary never changes."""
        packed = bytes.fromhex(
            "a35aea33243af91983128f219ee48743410ea60988e48792d64c8df40ca1e9cd44cf189ae20c0d0cf54c21c9ce44cf1225c1"
            "114e6e267a86409780f4c31295bbbfbfbb8fab42806784ab8f821959c90a919a1c7d023c1cd192145c8cec4462618e99240c"
            "8d409ec09f2600"
        )
        self.assertEqual(unpack(PACKED, packed), PROLOG + sa("ANDROID-1", "ALPHA"))
        self.assertEqual(unpack(PLAIN, b"<event/>"), b"<event/>")

    def test_damaged(self) -> None:
        """What is damaged is said to be, and never shown."""
        how, packed = pack(PROLOG + sa("ANDROID-1", "ALPHA"))
        for wrong in ((7, packed), (how, packed[:-3]), (how, b"\xff" + packed), (how, b"")):
            self.assertRaises(ValueError, unpack, *wrong)
