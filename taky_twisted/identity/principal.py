"""Who a peer is proved to be, and which groups that lets it speak to and hear."""

from __future__ import annotations

from dataclasses import dataclass, field

ANON_GROUP = "__ANON__"
"""The group of everybody for whom no groups are configured (TAK Server's name for it)."""

_EVERYBODY = frozenset({ANON_GROUP})


@dataclass(frozen=True, slots=True)
class Certificate:
    """What we remember of a client certificate after the handshake."""

    common_name: str
    issuer: str
    """The issuer's distinguished name, RFC 4514."""
    serial: int
    begins: float = field(default=0.0, compare=False)
    """From when it is valid, in seconds since the epoch; 0 if that is not known."""
    ends: float = field(default=0.0, compare=False)
    """Until when it is valid, in seconds since the epoch; 0 if that is not known."""

    @property
    def serial_hex(self) -> str:
        """The serial as taky's certificate register spells it: upper-case hex."""
        return f"{self.serial:X}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who the TLS certificate (or, with accounts, the password) proves a peer to be.

    A message reaches a listener when one of the sender's ``groups_in`` is among the listener's ``groups_out``
    (TAK Server: ``groups/CommonGroupDirectedReachability.java``).
    """

    name: str | None = None
    """The certificate's common name or the account; None for an anonymous peer."""
    groups_in: frozenset[str] = _EVERYBODY
    """Groups that the principal may send into."""
    groups_out: frozenset[str] = _EVERYBODY
    """Groups that the principal may hear."""
    certificate: Certificate | None = None
    admin: bool = False
    """Whether it may administer the server; an account says so, never a certificate."""
    by_password: bool = False
    """Whether a password, or a token that one was shown for, is among what proves it."""

    @property
    def anonymous(self) -> bool:
        """Whether nothing proves who this is."""
        return self.name is None

    def same_as(self, other: Principal) -> bool:
        """Whether both are proved to be one and the same; two anonymous peers never are."""
        return self.name is not None and self.name == other.name

    def __str__(self) -> str:
        return self.name if self.name is not None else "anonymous"


ANONYMOUS = Principal()
"""A peer that proved nothing, on a site that never mentions groups."""
