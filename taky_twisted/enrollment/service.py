"""Enrollment as clients see it: who may have a key signed, and what comes of it.

::

    marti.tls --name, request--> Enrollment.sign --> Issuing, in a thread --> register
                                      |
                                   Invites, if the client has shown a token in place of a password; where several
                                   nodes are one server, they take turns at each token
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar, cast

from twisted.internet.defer import DeferredLock

from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.invites import Invited, Invites
from taky_twisted.enrollment.issuing import Device, Issued, Issuing, key_hash
from taky_twisted.enterprise_sync.disk_thread import DiskThread
from taky_twisted.identity.cert_db import Record, name_key
from taky_twisted.identity.certificates import printable
from taky_twisted.logs import Logger

T = TypeVar("T")

MAX_SIGNED = 30
"""Certificates for one name in an hour."""
HOUR = 3600.0
MAX_WAITING = 200
"""Requests that wait to be signed."""

SPENT = "this invite was used already, for another device; ask for a new one"


class NoUseLeft(EnrollmentError):
    """The invite was used for another device."""


class TooOften(EnrollmentError):
    """One name wants too many certificates, or too many clients want one at once."""


class Enrollment:
    """Sign for clients, one after the other; who waits for other nodes holds up nobody."""

    log = Logger()

    def __init__(self, reactor: Any, thread: DiskThread, issuing: Issuing, invites: Invites) -> None:
        """Touch nothing yet.

        Args:
            reactor: tells the time.
            thread: where it waits for the disk.
            issuing: signs.
            invites: whose tokens count.
        """
        self._clock, self._thread, self._issuing, self.invites = reactor, thread, issuing, invites
        self._turn = DeferredLock()
        self._asking = 0
        self._signed: dict[str, list[float]] = {}  # when, by the key of the name; who was first comes first
        self.turn: Callable[[Invited, str], AbstractAsyncContextManager[None]] = lambda invited, key: nullcontext()
        """Keeps other nodes of the server away from an invite meanwhile, having read what they know of it and of the
        key with that SHA-256; it may raise `TooOften`."""

    async def sign(
        self, name: str, body: bytes, device: Device, invited: Invited | None, pack: Callable[[Issued], T]
    ) -> T:
        """Sign a request.

        Args:
            name: who asks, as the certificate will spell it.
            body: the request as it was sent.
            device: which of their devices.
            invited: the token that was shown, if it was one.
            pack: makes of the certificate what the client gets, in the thread.

        Raises:
            EnrollmentError: it is not signed; the text says why, to the client as well.
        """
        if self._asking > MAX_WAITING:
            raise TooOften("too many clients want a certificate at the moment; try again in a minute")
        self._asking += 1
        try:
            request = await self._thread.run(self._issuing.read, body, name)
            if invited is None:
                packed, _ = await self._turn.run(self._issue, name, request.key, device, pack)
                return cast(T, packed)
            digest = key_hash(request.key)
            if self.invites.serial_of(invited, digest) is None:
                self._check(invited)
            async with self.turn(invited, digest):
                # In turn on this node, too: of two requests with one token, only one may have its last use.
                return await self._turn.run(self._use, invited, name, request.key, device, pack)
        finally:
            self._asking -= 1

    async def _use(self, invited: Invited, name: str, key: Any, device: Device, pack: Callable[[Issued], T]) -> T:
        digest = key_hash(key)
        serial = self.invites.serial_of(invited, digest)
        issued = await self._thread.run(self._issuing.again, serial) if serial is not None else None
        if issued is not None:
            return await self._thread.run(pack, issued)
        self._check(invited)
        packed, serial = await self._issue(name, key, device, pack)
        self.invites.spend(invited, digest, device.client_uid, serial)
        return packed

    def _check(self, invited: Invited) -> None:
        if not self.invites.is_open(invited):
            raise NoUseLeft(SPENT)

    async def _issue(self, name: str, key: Any, device: Device, pack: Callable[[Issued], T]) -> tuple[T, int]:
        """Sign; return what the client gets, and the serial number."""
        self._count(name)
        issued = await self._thread.run(self._issuing.issue, name, key, device)
        serial = issued.certificate.serial_number
        self.log.info(
            "{name} has got a certificate for the device {uid}, serial {serial:x}",
            name=printable(name),
            uid=printable(device.client_uid) or "(unnamed)",
            serial=serial,
        )
        return await self._thread.run(pack, issued), serial

    async def records(self) -> list[Record]:
        """List all certificates that the register knows."""
        return await self._thread.run(self._issuing.register.records)

    async def certificates(self, records: list[Record]) -> list[bytes | None]:
        """Read certificates, as PEM; None for those of which only the entry is left."""
        return await self._thread.run(lambda: [self._issuing.pem(record) for record in records])

    async def revoke(self, serials: list[int]) -> None:
        """Revoke certificates; whoever uses one is refused as soon as the register is read again."""
        await self._thread.run(self._issuing.revoke, serials)

    def _count(self, name: str) -> None:
        now, key = self._clock.seconds(), name_key(name)
        self._signed = {
            other: recent
            for other, times in self._signed.items()
            if (recent := [when for when in times if when > now - HOUR])
        }
        if len(self._signed.get(key, ())) >= MAX_SIGNED:
            raise TooOften(f"{name} has got {MAX_SIGNED} certificates within an hour; try again later")
        self._signed.setdefault(key, []).append(now)
