"""Events out of a store, where anything may have happened to them."""

from __future__ import annotations

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.logs import Logger

from .records import Emergency, Item, KnownContact, MissedChat

log = Logger()


def kept_event(record: Item | KnownContact | Emergency | MissedChat) -> Event | None:
    """Read the event of a record; None, with a warning, if it cannot be read: the rest is not lost by it."""
    try:
        return decode(record.xml[len(PROLOG) :])
    except MalformedEvent as error:
        log.warn(
            "{kind} {key} in the store cannot be read and is left out: {reason}",
            kind=type(record).__name__,
            key=record.key,
            reason=str(error),
        )
        return None
