"""What the nodes of one server tell each other. A node is one of our processes; the bus carries these words.

Every node routes what it hears itself, and what the others tell it, by the same rules: so each knows who is connected
anywhere, and delivers to its own connections alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import Principal

if TYPE_CHECKING:
    from taky_twisted.records import Record


@dataclass(frozen=True, slots=True)
class Speaker:
    """A connection of the node that tells of it."""

    connection: int
    """Its number there; no other connection of that process ever has it."""
    granted: Principal
    """Who it is proved to be, with all groups that it has."""
    active: Principal
    """The same with the groups that are switched on."""
    peer: str
    """Its address and door, for the log."""
    since: float = 0.0
    """When it said who it is, in seconds since the epoch: of two that say they are the same, the later one is."""
    from_server: bool = False
    """Whether other servers may speak there (UDP, multicast); it is nobody's contact and hears nothing."""


@dataclass(frozen=True, slots=True)
class Said:
    """A connection said an event."""

    speaker: Speaker
    event: Event
    """With its destinations, which the delivered form does not have."""


@dataclass(frozen=True, slots=True)
class Left:
    """A connection is gone."""

    connection: int
    clean: bool
    """Whether it said goodbye; else it may be back in a moment, here or elsewhere."""


@dataclass(frozen=True, slots=True)
class Switched:
    """A connection has other groups from now on."""

    speaker: Speaker


@dataclass(frozen=True, slots=True)
class Present:
    """A connection is there: part of the answer to `Ask`."""

    speaker: Speaker
    incognito: bool
    reports: tuple[Event, ...]
    """The latest self-report of each uid that it speaks for, its own first."""


@dataclass(frozen=True, slots=True)
class AllPresent:
    """These are all connections that have said who they are: the end of the answer to `Ask`."""

    connections: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Tell who is connected to you, and compare what is on the map."""

    node: str
    """Whom that is for, an instance id; empty: everybody."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What is on the map of a node, in short: whoever has something else in one of the parts says so."""

    parts: tuple[int, ...]
    """A checksum of each part, 256 of them; which record is in which is decided by its kind and key."""
    since: float
    """From when on the node has heard everything that was said, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Known:
    """Records that a node has and another one may lack; the newest counts."""

    records: tuple[Record, ...]
    parts: tuple[int, ...] = ()
    """Parts of the map that are told completely with this word and those directly before it."""
    since: float = 0.0
    """As in `Digest`, if there are parts."""


@dataclass(frozen=True, slots=True)
class Handed:
    """Something directed that one node still had for somebody who is connected to another one."""

    node: str
    """Whose connection it is for, an instance id; empty: it waits, and all keep it until somebody hears it."""
    connection: int
    uid: str
    """The contact that it is for, should the connection be gone meanwhile."""
    event: Event
    groups: frozenset[str]
    """The groups that it was said to."""
    principal: str | None = None
    """Who that is proved to be: nobody else gets it who says the same uid; None: whoever says it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A chat that some node still has for a contact was delivered: nobody need keep it."""

    uid: str
    """The contact."""
    chat: str
    """The chat's own uid."""


@dataclass(frozen=True, slots=True)
class Kick:
    """Whoever has this certificate's or account's name must go, on every node."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A node needs a file that it does not have, or a piece of it."""

    node: str
    """Who is to answer, an instance id; empty: whoever has the file, with his own id."""
    request: str
    """Where the answer is waited for."""
    digest: str
    """The file's SHA-256 in hex."""
    offset: int
    size: int
    """Bytes from there on; 0 if it is only asked who has it."""


Word = Union[Said, Left, Switched, Present, AllPresent, Ask, Digest, Known, Handed, Settled, Kick, Wanted]
