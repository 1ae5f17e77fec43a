"""Say in time that a certificate ends: to the operator in the log, and if that is wanted to whoever uses it."""

from __future__ import annotations

from datetime import datetime, timezone
from math import ceil
from typing import TYPE_CHECKING

from taky_twisted.cot import compose
from taky_twisted.takproto.batch import Batch

if TYPE_CHECKING:
    from taky_twisted.notices import Notices
    from taky_twisted.routing.subscription import Subscription

SOON_DAYS = 30
"""From how many days before its end on a certificate is spoken of."""
DAY = 24 * 3600
MAX_REMEMBERED = 10_000
"""Certificates of which it is known that they were spoken of today."""


class Expiry:
    """Speak of each certificate once a day, when its user connects."""

    def __init__(self, notices: Notices, tell_clients: bool = False) -> None:
        """Have spoken of none.

        Args:
            notices: the log.
            tell_clients: whether the user gets a chat message too.
        """
        self._notices, self._tell_clients = notices, tell_clients
        self._spoken: dict[tuple[str, int], int] = {}  # the day, by issuer and serial

    def joined(self, client: Subscription, now: float) -> None:
        """Look at the certificate of a client that has said who it is."""
        certificate = client.principal.certificate
        if certificate is None or not certificate.ends or certificate.ends - now > SOON_DAYS * DAY:
            return
        key, today = (certificate.issuer, certificate.serial), int(now // DAY)
        if self._spoken.get(key) == today:
            return
        self._spoken.pop(key, None)
        self._spoken[key] = today
        if len(self._spoken) > MAX_REMEMBERED:
            del self._spoken[next(iter(self._spoken))]
        days = max(1, ceil((certificate.ends - now) / DAY))
        last = datetime.fromtimestamp(certificate.ends, timezone.utc).strftime("%Y-%m-%d")
        self._notices.warn(
            "the certificate of {name} ends on {last}, in {days} days: takyctl renew makes a new one",
            name=certificate.common_name,
            last=last,
            days=days,
        )
        if self._tell_clients and client.primary is not None:
            words = f"Your certificate for this server ends on {last}. Ask its operator for a new one in time."
            client.sink.deliver(Batch((compose.message(words, client.primary.uid, now),), directed=True))
