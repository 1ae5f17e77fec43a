"""A uid belongs to whoever was heard with it, for as long as that one is heard and has proved who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taky_twisted.cot.event import Event
from taky_twisted.identity.certificates import printable
from taky_twisted.identity.failures import Failures

if TYPE_CHECKING:
    from .contacts import Contacts
    from .subscription import Subscription

PIN_SECONDS = 60
"""How long after it was heard from somebody a uid is nobody else's."""
UID_CHARS = 100


class Pins:
    """Refuse what is said with the uid of somebody else, who showed a certificate or knew a password.

    The streams of both stay: who just got a new certificate is let in after a minute.
    """

    def __init__(self, contacts: Contacts, failures: Failures) -> None:
        self._contacts, self._failures = contacts, failures

    def owner(self, uid: str, source: Subscription, now: float) -> str | None:
        """Name whose a uid is, if that is somebody else than who speaks now."""
        contact = self._contacts.get(uid)
        if contact is None or contact.principal is None or contact.principal == source.principal.name:
            return None
        # A device at rest reports itself every few minutes only, but pings.
        heard = max(contact.seen, *(holder.sink_heard for holder in contact.holders), 0.0)
        return contact.principal if now - heard < PIN_SECONDS else None

    def refuse(self, event: Event, source: Subscription, now: float) -> bool:
        """Whether an event is somebody's who must not say it; then that is told."""
        owner = self.owner(event.uid, source, now)
        if owner is None:
            return False
        reason = (
            f"it says that it is {printable(event.uid, UID_CHARS)}, with which {owner} was heard in the last"
            f" {PIN_SECONDS} seconds"
        )
        attempt = self._failures.tell(source.host, source.door, reason, source.principal.name or "")
        if attempt.count == 1:  # it will say so again and again
            source.notices.warn(
                "{peer} ({name}): {reason}", peer=source.peer, name=str(source.principal), reason=reason
            )
        return True
