"""What the store keeps of accounts."""

from __future__ import annotations

from dataclasses import dataclass

Groups = frozenset[str]


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody whom the server knows by name: with a password, or only with groups for certificates of that name."""

    key: str
    """The name as names are compared (`taky_twisted.identity.accounts.account_key`)."""
    name: str
    """The name as whoever made the account spells it."""
    password: str
    """argon2's hash; empty: there is none, only certificates count."""
    groups_in: Groups
    """Where it may speak."""
    groups_out: Groups
    """What it may hear."""
    admin: bool
    enabled: bool
    """Whether its password and its tokens count."""
    since: float
    """When the password was set, or the account was disabled, last: tokens from before are void. Seconds since the
    epoch."""
