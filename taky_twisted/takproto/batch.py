"""Events that go to many listeners in one piece."""

from __future__ import annotations

from collections.abc import Sequence

from taky_twisted.cot.event import Event


class Batch:
    """Events in the order in which they were said; joined at most once, however many hear them."""

    __slots__ = ("directed", "events", "xml")

    xml: bytes
    """All of them as TAK protocol 0."""

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
        if name != "xml":
            raise AttributeError(name)
        events = self.events
        xml = self.xml = events[0].xml if len(events) == 1 else b"".join([event.xml for event in events])
        return xml

    def __len__(self) -> int:
        """How many bytes this is on the wire, about."""
        return len(self.xml)
