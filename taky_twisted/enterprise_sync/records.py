"""What is kept of a stored file, beside its content."""

from __future__ import annotations

from dataclasses import dataclass

Groups = frozenset[str]

NEVER = -1.0
"""The expiration of a file that does not expire."""
HIGH = 1 << 30
"""Numbers from here on were picked at random by one of several nodes that could not ask the others; counting goes on
below."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One upload. Several may have the same content: other names, other owners.

    Source of the fields: TAK Server ``sync/Metadata.java``.
    """

    number: int
    """Counts up, below `HIGH`; clients call it PrimaryKey."""
    hash: str
    """SHA-256 of the content, in lower-case hexadecimal digits."""
    uid: str
    """What the uploader calls it; for data packages the hash."""
    name: str
    """The file name that the uploader gave; for people, never part of a path."""
    size: int
    """Of the content, in bytes."""
    mime_type: str
    tool: str
    """``public``, ``private``, or what of a client it belongs to; decides what a search shows, not who may download."""
    keywords: tuple[str, ...]
    submitted: float
    """When it was uploaded, seconds since the epoch."""
    submitter: str | None
    """Who the uploader was proved to be; None: nobody."""
    creator_uid: str
    """The uid of the device, as the uploader said."""
    groups: Groups
    """The IN groups of the uploader: who has one of them as OUT sees the file."""
    expiration: float = NEVER
    """When it goes, seconds since the epoch; negative: never."""
    remarks: str = ""
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    permissions: tuple[str, ...] = ()
    contacts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The number, in decimal digits."""
        return str(self.number)
