"""What the store keeps of invites: who may still enroll, and who just did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Invite:
    """Somebody may get certificates with a token; of the token only its hash is kept."""

    hash: str
    """SHA-256 of the token, in hex."""
    name: str
    """Whose certificates they will be."""
    uses: int
    """How many are left."""
    created: float
    """Seconds since the epoch."""
    expires: float
    """When it ends, seconds since the epoch."""

    @property
    def key(self) -> str:
        """The token's hash."""
        return self.hash


@dataclass(frozen=True, slots=True)
class SpentUse:
    """A device has just got its certificate; it may have to ask for it once more."""

    hash: str
    """SHA-256 of the token, in hex."""
    key_sha256: str
    """Of the device's public key, in hex."""
    name: str
    client_uid: str
    """The device, as it said."""
    serial: str
    """Of the certificate, in hex."""
    expires: float
    """Until when it may ask, seconds since the epoch."""

    @property
    def key(self) -> str:
        """The hashes of the token and of the device's key."""
        return f"{self.hash}\n{self.key_sha256}"
