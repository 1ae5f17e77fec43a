"""Connections that nobody knows yet, and which of them gives way where there is no room for one more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .protocol import CoTProtocol


class Newcomers:
    """Connections by the address they are from, the oldest first."""

    def __init__(self) -> None:
        self._from: dict[str, dict[CoTProtocol, None]] = {}
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def add(self, connection: CoTProtocol, host: str) -> None:
        """Count a connection."""
        self._from.setdefault(host, {})[connection] = None
        self._number += 1

    def remove(self, connection: CoTProtocol, host: str) -> None:
        """Count one no more that was added."""
        del self._from[host][connection]
        if not self._from[host]:
            del self._from[host]
        self._number -= 1

    def too_many(self, host: str) -> CoTProtocol | None:
        """Find who gives way to one more from an address: the oldest of the address that has most.

        None if that one would not have more than the newcomer's even then. So one address leaves room for others, and
        where many come at the same time those who are here already are not driven out by those who come.
        """
        here = len(self._from.get(host, ()))
        greediest = max(self._from.values(), key=len, default={})
        return next(iter(greediest)) if len(greediest) > here + 1 else None
