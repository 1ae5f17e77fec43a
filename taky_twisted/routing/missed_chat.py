"""Chat for those who are away: kept, and delivered once and in order when they are back."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from taky_twisted.cot.event import Destinations, Event
from taky_twisted.interfaces import EventStore

from .kept import kept_event
from .records import Groups, MissedChat

MAX_BYTES = 64 << 20
"""XML of all waiting chats together."""
MAX_CONTACT_BYTES = 1 << 20
"""XML of the chats that wait for one contact."""


class MissedChats:
    """Directed chats that wait for known contacts."""

    def __init__(self, store: EventStore, per_contact: int, seconds: float) -> None:
        """Start with none.

        Args:
            store: where they survive a restart.
            per_contact: how many wait for one contact.
            seconds: how long one waits.
        """
        self._store = store
        self._per_contact = per_contact
        self._seconds = seconds
        self._waiting: dict[str, deque[tuple[MissedChat, Event]]] = {}
        self._bytes = 0
        self._last = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def restore(self, chats: list[MissedChat]) -> None:
        """Take over what a store held, ordered by number."""
        for chat in chats:
            event = kept_event(chat)
            if event is None:
                continue
            self._append(chat, _directed(event, chat.recipient))

    def keep(self, recipient: str, principal: str | None, event: Event, groups: Groups, now: float) -> bool:
        """Keep a chat for a contact that is away.

        Args:
            recipient: the contact's uid.
            principal: who it was proved to be when it was last there; None for an anonymous one.
            event: the chat.
            groups: the IN groups of who said it.
            now: seconds since the epoch.

        Returns:
            False when no more may wait: the sender must be told.
        """
        waiting = self._waiting.get(recipient, ())
        if any(older.uid == event.uid for _, older in waiting):
            return True  # said twice, delivered once
        size = len(event.xml)
        if (
            len(waiting) >= self._per_contact
            or sum(len(chat.xml) for chat, _ in waiting) + size > MAX_CONTACT_BYTES
            or self._bytes + size > MAX_BYTES
        ):
            return False
        chat = MissedChat(self._last + 1, recipient, principal, event.xml, groups, now + self._seconds)
        self._append(chat, event)
        self._store.put(chat)
        return True

    def merge(self, chat: MissedChat, event: Event) -> None:
        """Take over a chat that another node keeps; it waits no longer here than there."""
        event = _directed(event, chat.recipient)
        self.keep(chat.recipient, chat.principal, event, chat.groups, chat.expires - self._seconds)

    def take(
        self, recipient: str, principal: str | None, groups_out: Groups, now: float, granted: Groups = frozenset()
    ) -> list[Event]:
        """Take what waits for a contact that is back and may hear it; what it may not hear is forgotten.

        What is for the same uid under another certificate or account goes on waiting: a uid is only what somebody says.
        So does what was said in groups that it has only switched off.

        Args:
            recipient: the contact's uid.
            principal: who it is proved to be.
            groups_out: what it hears.
            now: seconds since the epoch.
            granted: what it could hear.
        """
        events = []
        others: deque[tuple[MissedChat, Event]] = deque()
        for chat, event in self._waiting.pop(recipient, ()):
            is_off = chat.groups.isdisjoint(groups_out) and not chat.groups.isdisjoint(granted)
            if is_off or (chat.principal is not None and chat.principal != principal):
                others.append((chat, event))
                continue
            self._forget(chat)
            if chat.expires > now and not groups_out.isdisjoint(chat.groups):
                events.append(event)
        if others:
            self._waiting[recipient] = others
        return events

    def prune(self, now: float) -> None:
        """Forget what waited too long."""
        for recipient, waiting in list(self._waiting.items()):
            while waiting and waiting[0][0].expires <= now:
                self._forget(waiting.popleft()[0])
            if not waiting:
                del self._waiting[recipient]

    def records(self, now: float) -> list[MissedChat]:
        """List what waits."""
        return [chat for waiting in self._waiting.values() for chat, _ in waiting if chat.expires > now]

    def settle(self, recipient: str, uid: str) -> None:
        """Let a chat wait no more that was delivered by another node."""
        waiting = self._waiting.get(recipient, ())
        for chat in [chat for chat, event in waiting if event.uid == uid]:
            self.forget(chat)

    def forget(self, chat: MissedChat) -> None:
        """Let a chat wait no more that was delivered by another node."""
        waiting = self._waiting.get(chat.recipient)
        if waiting is None:
            return
        rest = deque(entry for entry in waiting if entry[0] is not chat)
        if len(rest) < len(waiting):
            self._forget(chat)
        if rest:
            self._waiting[chat.recipient] = rest
        else:
            del self._waiting[chat.recipient]

    def _append(self, chat: MissedChat, event: Event) -> None:
        self._waiting.setdefault(chat.recipient, deque()).append((chat, event))
        self._bytes += len(chat.xml)
        self._last = max(self._last, chat.number)

    def _forget(self, chat: MissedChat) -> None:
        self._bytes -= len(chat.xml)
        self._store.remove(MissedChat, chat.key)


def _directed(event: Event, recipient: str) -> Event:
    """Say whom a chat is for: the delivered form does not, and it may have to be kept again."""
    destinations = Destinations(uids=(recipient,), explicit=True)
    return replace(event, detail=replace(event.detail, destinations=destinations))
