"""Chat that is on its way to a connection of another node: if that node dies, it was perhaps never delivered."""

from __future__ import annotations

from collections import deque

from .words import Handed

LATE_SECONDS = 7.0
"""How old it is at most when a node is found dead, which is five seconds after it was heard last."""
MAX_CHATS = 5000
"""Chats that are remembered."""
MAX_BYTES = 4 << 20
"""XML of all of them."""


class Underway:
    """Remembers for a few seconds what other nodes are to deliver."""

    def __init__(self) -> None:
        self._chats: deque[tuple[float, str, Handed]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._chats)

    def put(self, node: str, chat: Handed, now: float) -> None:
        """Note that a node is to deliver a chat."""
        self._chats.append((now, node, chat))
        self._bytes += len(chat.event.xml)
        while self._chats[0][0] < now - LATE_SECONDS or len(self._chats) > MAX_CHATS or self._bytes > MAX_BYTES:
            self._bytes -= len(self._chats.popleft()[2].event.xml)
            if not self._chats:
                return

    def lost_with(self, node: str, now: float) -> list[Handed]:
        """Find what a node that is dead was to deliver in its last seconds."""
        return [chat for said, to, chat in self._chats if to == node and said >= now - LATE_SECONDS]
