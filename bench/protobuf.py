"""TAK protocol 1 as a client speaks it: asked for at once, and read from the server's answer on.

Events are turned into protobuf by this server's own codec, which `tests/takproto` holds against somebody else's.
"""

from __future__ import annotations

from taky_twisted.cot.xmlcodec import decode
from taky_twisted.takproto.protobuf import payload_of
from taky_twisted.takproto.protobuf_framing import frame

from .events import PROLOG, REQUEST, RESPONSE, control

MAGIC = 0xBF


class Protobuf:
    """A client that asks for protobuf when it connects, and speaks it from then on."""

    def __init__(self) -> None:
        self._agreed = False

    def hello(self) -> bytes:
        return PROLOG + control(REQUEST, '<TakControl><TakRequest version="1"/></TakControl>')

    def spell(self, document: bytes) -> bytes:
        return frame(payload_of(decode(document)))

    def whole(self, buffer: bytearray, end: int) -> int:
        at = 0
        if not self._agreed:
            at = buffer.rfind(b"</event>", 0, end) + 8
            if at < 8:
                return 0
            if buffer.find(RESPONSE.encode(), 0, at) < 0:
                return at
            self._agreed = True  # the answer is the last XML
        while (after := _after_frame(buffer, at, end)) <= end:
            at = after
        return at

    def holds(self, buffer: bytearray, end: int, document: bytes) -> bool:
        return buffer.find(self.spell(document), 0, end) >= 0


def _after_frame(buffer: bytearray, at: int, end: int) -> int:
    """Say where the frame that begins here ends; beyond the end of what is there if it is not whole."""
    if at >= end:
        return end + 1
    if buffer[at] != MAGIC:
        raise ValueError(f"no frame begins with {buffer[at]:#x}")
    size = shift = 0
    for place in range(at + 1, min(at + 6, end)):
        size |= (buffer[place] & 0x7F) << shift
        if buffer[place] < 0x80:
            return place + 1 + size
        shift += 7
    return end + 1
