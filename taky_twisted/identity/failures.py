"""What went wrong at the doors lately, for an operator who wants to help somebody to connect.

::

    streaming, marti, routing --tell()--> Failures --watch()--> admin: `takyctl doctor`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from twisted.internet.interfaces import IReactorTime

from taky_twisted.identity.advice import advice_for
from taky_twisted.identity.certificates import printable

MAX_ADDRESSES = 500
"""Addresses that are remembered; the one that failed least recently is forgotten first."""
MAX_PER_ADDRESS = 10
"""Different failures that are remembered of one address, so that one cannot displace all others."""
REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """Something that did not work for somebody, as often as it happened."""

    address: str
    """The peer's, without a port; empty for a local process."""
    door: str
    subject: str
    """The name in the certificate that was shown, or the account; empty if there is none."""
    reason: str
    """Why, in plain words."""
    advice: str
    """What to do; empty if there is nothing to say."""
    first: float
    """Seconds since the epoch, as is ``last``."""
    last: float
    count: int


Watcher = Callable[[FailedAttempt], None]


class Failures:
    """Remember failed attempts, a bounded number, the newest of each address; nothing of it survives a restart."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._by_address: dict[str, dict[tuple[str, str, str], FailedAttempt]] = {}  # oldest first, both
        self._watchers: dict[object, Watcher] = {}
        self.total = 0
        """Failed attempts since the start, forgotten ones too."""

    def __iter__(self) -> Iterator[FailedAttempt]:
        """Go through what is remembered, oldest first."""
        everything = chain.from_iterable(failed.values() for failed in self._by_address.values())
        return iter(sorted(everything, key=lambda attempt: attempt.last))

    def tell(self, address: str, door: str, reason: str, subject: str = "") -> FailedAttempt:
        """Remember that something failed, and tell whoever watches.

        Args:
            address: the peer's, without a port.
            door: where it came in.
            reason: why it failed, in plain words; what the peer wrote need not be printable.
            subject: whom it showed itself to be, if anybody.

        Returns:
            What is remembered of it now.
        """
        now = self._clock.seconds()
        reason, subject = printable(reason, REASON_CHARS), printable(subject)
        self.total += 1
        of_address = self._by_address.pop(address, {})
        self._by_address[address] = of_address
        key = (door, subject, reason)
        before = of_address.pop(key, None)
        if before is None:
            attempt = FailedAttempt(address, door, subject, reason, advice_for(reason), now, now, 1)
        else:
            attempt = replace(before, last=now, count=before.count + 1)
        of_address[key] = attempt
        if len(of_address) > MAX_PER_ADDRESS:
            del of_address[next(iter(of_address))]
        if len(self._by_address) > MAX_ADDRESSES:
            del self._by_address[next(iter(self._by_address))]
        for watcher in list(self._watchers.values()):
            watcher(attempt)
        return attempt

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call somebody at each failure from now on, until what is returned is called."""
        key = object()
        self._watchers[key] = watcher

        def forget() -> None:
            self._watchers.pop(key, None)

        return forget
