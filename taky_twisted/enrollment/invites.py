"""Invites: a token, on paper or in a QR code, with which somebody gets certificates for his devices.

::

    takyctl invite --> Invites.invite --token--> the phone, which shows it in place of a password
    tls/config, tls/signClient, tls/profile/enrollment --> Invites.find, then Invites.spend

A token is 130 random bits; the store has its SHA-256, so whoever reads the store cannot enroll. It ends with its time
or its last use. A use is spent when a certificate was signed. For some minutes more the same device may ask for what
belongs to that: networks break just then.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.names import check_name
from taky_twisted.enrollment.records import Invite, SpentUse
from taky_twisted.identity.cert_db import name_key

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from taky_twisted.interfaces import EventStore

MAX_INVITES = 10_000
"""That are open at once."""
MAX_USES = 1000
MAX_SECONDS = 366 * 86400.0
DEFAULT_SECONDS = 7 * 86400.0
GRACE_SECONDS = 15 * 60.0
"""How long a device may ask again after it has got its certificate."""
MAX_SPENT = 10_000
"""Uses that are remembered for that long."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Without what looks alike: somebody may have to type a token from paper."""
_CHARACTERS = 26  # of 5 bits
_MISREAD = str.maketrans("oil", "011", "- ")


@dataclass(frozen=True, slots=True)
class Invited:
    """Whoever has shown a token of ours."""

    hash: str
    """SHA-256 of the token, in hex."""
    name: str
    """As the invite spells it."""
    open: bool
    """Whether a use is left; else the device may only ask for what belongs to its last one."""
    since: float
    """When it was invited, or got its certificate; a ban that came later ends it. Seconds since the epoch."""


class Invites:
    """Who is invited to a server, in memory and in its store."""

    def __init__(self, store: EventStore, clock: IReactorTime) -> None:
        self._store, self._clock = store, clock
        self._invites: dict[str, Invite] = {}  # by the token's hash
        self._spent: dict[str, dict[str, SpentUse]] = {}  # by the hashes of token and key; oldest first

    def __iter__(self) -> Iterator[Invite]:
        """Go through those that are open."""
        now = self._clock.seconds()
        return (invite for invite in list(self._invites.values()) if invite.expires > now)

    def restore(self, invites: Iterable[Invite], spent: Iterable[SpentUse]) -> None:
        """Take over what the store held."""
        self._invites = {invite.key: invite for invite in invites}
        self._spent = {}
        for use in sorted(spent, key=lambda use: use.expires):
            self._spent.setdefault(use.hash, {})[use.key_sha256] = use

    def invite(self, name: str, uses: int = 1, seconds: float = DEFAULT_SECONDS) -> str:
        """Invite somebody, and return the token; nobody can read it anywhere afterwards.

        Raises:
            EnrollmentError: the name, the uses or the time are not allowed, or there are too many invites.
        """
        token = make_token()
        invite = new_invite(token, name, uses, seconds, self._clock.seconds())
        self._forget_old()
        if len(self._invites) >= MAX_INVITES:
            raise EnrollmentError(f"there are {MAX_INVITES} invites already; withdraw some, or wait until they end")
        self._invites[invite.hash] = invite
        self._store.put(invite)
        return token

    def find(self, name: str, token: str) -> Invited | None:
        """Say whom a token lets in under a name; None if it does not."""
        if len(token) > 2 * _CHARACTERS:
            return None
        hashed, now = hash_of(token), self._clock.seconds()
        invite = self._invites.get(hashed)
        if invite is not None and invite.expires > now:
            found = Invited(hashed, invite.name, True, invite.created)
        else:
            uses = [use for use in self._spent.get(hashed, {}).values() if use.expires > now]
            if not uses:
                return None
            found = Invited(hashed, uses[-1].name, False, uses[-1].expires - GRACE_SECONDS)
        return found if _same(found.name, name) else None

    def is_open(self, invited: Invited) -> bool:
        """Whether a use is left now."""
        invite = self._invites.get(invited.hash)
        return invite is not None and invite.expires > self._clock.seconds()

    def was_spent_by(self, invited: Invited, client_uid: str) -> bool:
        """Whether a device has got its certificate with this token a moment ago."""
        now = self._clock.seconds()
        uses = self._spent.get(invited.hash, {}).values()
        return any(use.client_uid == client_uid and use.expires > now for use in uses)

    def serial_of(self, invited: Invited, key_sha256: str) -> int | None:
        """Find the certificate that a key has got with this token a moment ago."""
        use = self._spent.get(invited.hash, {}).get(key_sha256)
        return int(use.serial, 16) if use is not None and use.expires > self._clock.seconds() else None

    def spend(self, invited: Invited, key_sha256: str, client_uid: str, serial: int) -> None:
        """Take one use off: a certificate was signed for a key."""
        self._forget_old()
        invite = self._invites.get(invited.hash)
        if invite is not None:
            left = replace(invite, uses=invite.uses - 1)
            if left.uses > 0:
                self._invites[left.hash] = left
                self._store.put(left)
            else:
                self._remove(invite)
        ends = self._clock.seconds() + GRACE_SECONDS
        use = SpentUse(invited.hash, key_sha256, invited.name, client_uid, f"{serial:x}", ends)
        if sum(map(len, self._spent.values())) >= MAX_SPENT:
            self._remove_use(min(self._all_spent(), key=lambda use: use.expires))
        of_token = self._spent.setdefault(use.hash, {})
        of_token.pop(use.key_sha256, None)
        of_token[use.key_sha256] = use
        self._store.put(use)

    def withdraw(self, name: str) -> int:
        """End all invites of a name, and return how many there were."""
        named = [invite for invite in self._invites.values() if _same(invite.name, name)]
        for invite in named:
            self._remove(invite)
        for use in [use for use in self._all_spent() if _same(use.name, name)]:
            self._remove_use(use)
        return len(named)

    def take_in(self, key: str, invite: Invite | None) -> None:
        """Have an invite be what another node says; None: it has ended. The store has it already."""
        self._invites.pop(key, None)
        if invite is not None:
            self._invites[key] = invite

    def take_in_use(self, key: str, use: SpentUse | None) -> None:
        """Remember what was spent on another node, or forget it if it is None. The store has it already."""
        hashed, _, key_sha256 = key.partition("\n")
        of_token = self._spent.get(hashed, {})
        of_token.pop(key_sha256, None)
        if use is not None:
            self._spent.setdefault(hashed, of_token)[key_sha256] = use
        elif not of_token:
            self._spent.pop(hashed, None)

    def _all_spent(self) -> list[SpentUse]:
        return [use for uses in self._spent.values() for use in uses.values()]

    def _forget_old(self) -> None:
        now = self._clock.seconds()
        for invite in [invite for invite in self._invites.values() if invite.expires <= now]:
            self._remove(invite)
        for use in [use for use in self._all_spent() if use.expires <= now]:
            self._remove_use(use)

    def _remove(self, invite: Invite) -> None:
        del self._invites[invite.hash]
        self._store.remove(Invite, invite.key)

    def _remove_use(self, use: SpentUse) -> None:
        of_token = self._spent[use.hash]
        del of_token[use.key_sha256]
        if not of_token:
            del self._spent[use.hash]
        self._store.remove(SpentUse, use.key)


def make_token() -> str:
    """Make a new token."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))


def spaced(token: str) -> str:
    """Spell a token for somebody who has to type it; it is taken like this, too."""
    return "-".join(token[at : at + 5] for at in range(0, len(token), 5))


def hash_of(token: str) -> str:
    """Spell what the store keeps of a token, however somebody has typed it."""
    return hashlib.sha256(token.lower().translate(_MISREAD).encode("utf-8", "replace")).hexdigest()


def new_invite(token: str, name: str, uses: int, seconds: float, now: float) -> Invite:
    """Make what is kept of an invite.

    Raises:
        EnrollmentError: the name, the uses or the time are not allowed.
    """
    if not 1 <= uses <= MAX_USES:
        raise EnrollmentError(f"an invite for {uses} devices; allowed: 1 to {MAX_USES}")
    if not 0 < seconds <= MAX_SECONDS:
        raise EnrollmentError("an invite ends after more than nothing, and within 366 days")
    return Invite(hash_of(token), check_name(name), uses, now, now + seconds)


def _same(one: str, other: str) -> bool:
    return name_key(one).casefold() == name_key(other).casefold()
