"""Where events begin and end on an XML stream.

Holds: however the stream is cut, the same documents and the same end come out; a document is a piece of the stream and
within the limit; only `RemoteProtocolError` ends it; time grows with the size and not with its square.
"""

from __future__ import annotations

from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.framing import Unreadable, XMLFraming
from tests.fuzz.cutting import cuttings
from tests.fuzz.target import Target
from tests.takproto.streams import MIXED, WORDS

LIMITS = ((1 << 20, 1 << 16), (600, 300))
"""As a server has them, nearly; and so small that much is too large."""

Outcome = tuple["list[bytes | Unreadable]", str]


def outcome(pieces: list[bytes], limit: int, first_limit: int) -> Outcome:
    """Frame a stream; say what came and how it ended."""
    framing, buffer, found = XMLFraming(limit, first_limit), bytearray(), list[bytes | Unreadable]()
    try:
        for piece in pieces:
            buffer += piece
            while (frame := framing.next_frame(buffer)) is not None:
                found.append(frame)
                if frame == found[0] and isinstance(frame, bytes):
                    framing.trust()
    except RemoteProtocolError as error:
        return found, str(error)
    assert len(buffer) <= limit + 1, f"{len(buffer)} bytes wait for the end of something"
    return found, ""


def run(data: bytes) -> None:
    for limit, first_limit in LIMITS:
        outcomes = [outcome(pieces, limit, first_limit) for pieces in cuttings(data)]
        assert all(other == outcomes[0] for other in outcomes), outcomes
        at = 0
        for frame in outcomes[0][0]:
            if isinstance(frame, bytes):
                assert frame.startswith((b"<event", b"<auth")) and frame.endswith(b">"), frame
                assert len(frame) <= limit, len(frame)
                at = data.index(frame, at) + len(frame)


TARGET = Target(
    run, seeds=lambda: [MIXED, *WORDS], words=[word for word in WORDS if len(word) < 40], max_bytes=8192, repeats=True
)
