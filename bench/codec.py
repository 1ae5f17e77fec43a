"""Microseconds per event of the two codecs, beside lxml's bare parse of the same event.

Run by hand, from the root of the project, on a machine that does nothing else::

    python -m bench.codec

Columns: bytes as XML and as protobuf; then microseconds for ``lxml`` (``etree.fromstring``, which checks and keeps
nothing), ``xml decode`` (`xmlcodec.decode`), ``pb encode`` (an event that came as XML, for the first protobuf client),
``pb decode`` (a payload to an event with its XML), and ``frame`` (cutting one frame off a buffer of a hundred). Each
number is the best of seven rounds. The ratio to lxml is what compares between machines.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from timeit import timeit

from lxml import etree

from taky_twisted.cot import xmlcodec
from taky_twisted.takproto import protobuf
from taky_twisted.takproto.protobuf_framing import ProtobufFraming, frame
from tests.samples import chat, marker, sa, xml

ROUNDS = 7
ROUND_SECONDS = 0.05
FRAMES = 100
EVENTS = {
    "self-report": sa("ANDROID-0123456789abcdef", "FOX1", extra='<precisionlocation altsrc="GPS" geopointsrc="GPS"/>'),
    "the same, with a phone": sa("ANDROID-0123456789abcdef", "FOX1").replace(b"<contact ", b'<contact phone="+31" '),
    "marker": marker(extra='<remarks>two vehicles</remarks><color argb="-65536"/><usericon iconsetpath="a/b/c"/>'),
    "chat": chat("ANDROID-0123456789abcdef"),
    "route, 200 points": xml(
        type_="b-m-r", detail="".join(f'<link uid="{at}" type="b-m-p-w" point="52.1,4.{at}"/>' for at in range(200))
    ),
}


def microseconds(call: Callable[[], object]) -> float:
    """Time a call."""
    number = max(1, round(ROUND_SECONDS / max(timeit(call, number=3) / 3, 1e-7)))
    return min(timeit(call, number=number) for _ in range(ROUNDS)) / number * 1e6


def cut(wire: bytes) -> None:
    """Take all frames off a buffer."""
    framing, buffer = ProtobufFraming(1 << 20), bytearray(wire)
    while framing.next_frame(buffer) is not None:
        pass


def main() -> None:
    """Print a line for each kind of event."""
    columns = ("XML bytes", "pb bytes", "lxml", "xml decode", "pb encode", "pb decode", "frame")
    print(f"{'':24}" + "".join(f"{column:>12}" for column in columns))
    for name, document in EVENTS.items():
        event = xmlcodec.decode(document)
        payload = protobuf.encode(event)
        times = (
            microseconds(partial(etree.fromstring, document)),
            microseconds(partial(xmlcodec.decode, document)),
            microseconds(partial(protobuf.encode, event)),
            microseconds(partial(protobuf.decode, payload)),
            microseconds(partial(cut, frame(payload) * FRAMES)) / FRAMES,
        )
        print(f"{name:24}{len(document):12}{len(payload):12}" + "".join(f"{time:12.2f}" for time in times))


if __name__ == "__main__":
    main()
