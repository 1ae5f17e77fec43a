"""What is kept of a video connection."""

from __future__ import annotations

from dataclasses import dataclass

Groups = frozenset[str]


@dataclass(frozen=True, slots=True)
class VideoConnection:
    """An alias of a camera, with one or more feeds."""

    uid: str
    alias: str
    active: bool
    document: str
    """All of it, as the JSON object that ``/Marti/api/video`` shows."""
    owner: str | None
    """Who it was proved to be that made it; None: nobody."""
    groups: Groups
    """The IN groups of who made it: who has one of them as OUT sees it."""
    changed: float
    """Seconds since the epoch."""

    @property
    def key(self) -> str:
        """The connection's uid."""
        return self.uid
