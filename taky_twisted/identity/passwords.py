"""Passwords: what is kept of them, and how they are checked without hurting anybody else.

Checking one costs 19 MiB and some hundredths of a second, on purpose. That happens in threads of its own, two at once;
a few more may wait, and whoever comes then is told to come back.

Source of the numbers: OWASP, "Password Storage Cheat Sheet", Argon2id.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from taky_twisted.identity.errors import AccountError, Busy
from taky_twisted.own_thread import OwnThread

if TYPE_CHECKING:
    from argon2 import PasswordHasher
    from twisted.internet.interfaces import IReactorFromThreads

T = TypeVar("T")

AT_ONCE = 2
"""Computations at the same time."""
MAX_WAITING = 32
"""Computations that wait for one of those to end."""
MAX_PER_ADDRESS = 16
"""Of all these, those of one address: it cannot keep everybody else out."""
MIN_CHARACTERS, MAX_BYTES = 8, 1024
"""Of a password; bytes in UTF-8."""

_PASSES, _KIBIBYTES, _LANES = 2, 19 << 10, 1
# The hash of no password: names without one cost what others do.
_NOBODY = f"$argon2id$v=19$m={_KIBIBYTES},t={_PASSES},p={_LANES}${'A' * 22}${'A' * 43}"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without what looks alike: people type these into phones
_BLOCKS, _BLOCK = 4, 4


class Passwords:
    """Compute hashes in threads that have nothing else to do."""

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._threads = OwnThread("passwords", reactor, AT_ONCE)
        self._computing = 0
        self._per_address: Counter[str] = Counter()

    def is_right(self, hashed: str | None, password: str, address: str) -> Deferred[bool]:
        """Compare a password with its hash; without a hash it takes as long, and is wrong.

        Raises:
            Busy: too many wait already.
        """
        return self._compute(address, lambda: matches(hashed, password))

    def hash(self, password: str) -> Deferred[str]:
        """Compute what is kept of a password; raises as `is_right`."""
        return self._compute("", lambda: hash_of(password))

    def stop(self) -> None:
        """End the threads; what they are computing is waited for, some hundredths of a second."""
        self._threads.stop()

    def _compute(self, address: str, compute: Callable[[], T]) -> Deferred[T]:
        if self._computing >= AT_ONCE + MAX_WAITING or self._per_address[address] >= MAX_PER_ADDRESS:
            raise Busy("the server checks as many passwords as it can; try again in a few seconds")
        self._computing += 1
        self._per_address[address] += 1
        # Not the threads' own Deferred: a client that leaves cancels what it waits for, and the computation goes on.
        waiting: Deferred[T] = Deferred()
        self._threads.run(compute).addBoth(self._computed, address, waiting)
        return waiting

    def _computed(self, result: T | Failure, address: str, waiting: Deferred[T]) -> None:
        self._computing -= 1
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
        waiting.callback(result)  # a failure fails it


def hash_of(password: str) -> str:
    """Compute what is kept of a password; this takes a while."""
    return _hasher().hash(_spelled(password))


def matches(hashed: str | None, password: str) -> bool:
    """Compare a password with its hash; this takes a while, also without a hash."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        fits = len(password) <= MAX_BYTES
        _hasher().verify(hashed or _NOBODY, _spelled(password) if fits else b"")
    except (VerificationError, InvalidHashError):
        return False
    return bool(hashed) and fits


def check_password(password: str) -> str:
    """Return a password that somebody may have.

    Raises:
        AccountError: it is too short, too long, or holds what cannot be typed.
    """
    if len(password) < MIN_CHARACTERS:
        raise AccountError(f"the password has {len(password)} characters; at least {MIN_CHARACTERS} are needed")
    try:
        size = len(password.encode())
    except UnicodeEncodeError as error:
        raise AccountError("the password is not UTF-8 text") from error
    if size > MAX_BYTES:
        raise AccountError(f"the password has {size} bytes; up to {MAX_BYTES} are allowed")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in password):
        raise AccountError("the password holds a control character; leave it out")
    return password


def make_password() -> str:
    """Make up a password of 79 random bits."""
    blocks = ("".join(secrets.choice(_ALPHABET) for _ in range(_BLOCK)) for _ in range(_BLOCKS))
    return "-".join(blocks)


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # only where there are passwords: it costs memory

    return PasswordHasher(time_cost=_PASSES, memory_cost=_KIBIBYTES, parallelism=_LANES)


def _spelled(password: str) -> bytes:
    # Some keyboards compose what others write in two characters.
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
