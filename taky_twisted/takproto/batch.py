"""Events that go to many listeners in one piece."""

from __future__ import annotations

from collections.abc import Sequence

from taky_twisted.cot.event import Event


class Batch:
    """Events in the order in which they were said; joined at most once, however many hear them."""

    __slots__ = ("directed", "events", "protobuf", "websocket", "xml")

    xml: bytes
    """All of them as TAK protocol 0."""
    protobuf: bytes
    """All of them as frames of TAK protocol 1."""
    websocket: bytes
    """All of them as frames of TAK protocol 1, each in a binary message of its own."""

    def __init__(self, events: Sequence[Event], directed: bool = False) -> None:
        """Take events.

        Args:
            events: at least one.
            directed: whether they were meant for this listener in particular, so that none may be dropped for a newer.
        """
        self.events = events
        self.directed = directed

    def __getattr__(self, name: str) -> bytes:
        # Only asked for what is not there yet: joining is done once, and looking it up costs nothing.
        events = self.events
        if name == "xml":
            xml = self.xml = events[0].xml if len(events) == 1 else b"".join([event.xml for event in events])
            return xml
        if name == "protobuf":
            from .protobuf import payload_of  # only where somebody speaks it: it costs memory
            from .protobuf_framing import frame

            protobuf = self.protobuf = b"".join([frame(payload_of(event)) for event in events])
            return protobuf
        if name == "websocket":
            from .protobuf import payload_of
            from .protobuf_framing import frame
            from .websocket import binary_message

            # One in each: PyTAK and goatak read a message up to the end of its first frame.
            websocket = self.websocket = b"".join([binary_message(frame(payload_of(event))) for event in events])
            return websocket
        raise AttributeError(name)

    def __len__(self) -> int:
        """How many bytes this is on the wire, about."""
        return len(self.xml)
