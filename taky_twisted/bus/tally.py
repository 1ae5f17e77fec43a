"""What the bus counts of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counted since the start."""

    told: int = 0
    """Words of this node that got out."""
    heard: int = 0
    """Words of other nodes."""
    dropped: int = 0
    """Words that were not told because the bus was away or too slow, and that may be dropped."""
    undelivered: int = 0
    """Words that waited for the bus in vain."""
    resent: int = 0
    """Batches that were sent again."""
    doubled: int = 0
    """Batches that came a second time."""
    gaps: int = 0
    """Times that batches of another node were missing, or unreadable."""
    unreadable: int = 0
    """Events of other nodes that could not be read."""
    outages: int = 0
