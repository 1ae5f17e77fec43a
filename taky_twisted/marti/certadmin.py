"""``/Marti/api/certadmin``: certificates, for administrators.

"Replaced" is a label: a device has asked for a newer certificate since. The older one is valid until it expires or
somebody revokes it.

Source: TAK Server ``tak/tls/CertManagerAdminApi.java``, ``TakCert.java`` and ``repository/TakCertRepository.java``;
node-tak ``lib/api/certificate.ts`` (which members must be texts).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any

from twisted.internet.interfaces import IReactorTime

from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.names import plain
from taky_twisted.enrollment.service import Enrollment
from taky_twisted.identity.cert_db import Record, name_key
from taky_twisted.logs import Logger
from taky_twisted.marti.errors import BadRequest, MartiError, NoSuchThing
from taky_twisted.marti.replies import EMPTY, Envelope, Reply, date
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route

TYPE = "TakCert"
MAX_IDS = 1000
"""Certificates that one request revokes or downloads."""
_ID_DIGITS = 12  # of a hash, in hex: what JavaScript still counts exactly


class CertAdminArea:
    """Look at certificates, and take them away."""

    log = Logger()

    def __init__(self, clock: IReactorTime, enrollment: Enrollment, reload: Callable[[], Awaitable[object]]) -> None:
        """Describe it.

        Args:
            clock: tells what has expired.
            enrollment: has the register.
            reload: makes the server act on the register, at once.
        """
        self._clock, self._enrollment, self._reload = clock, enrollment, reload

    @route("/Marti/api/certadmin/cert", access=Access.ADMIN)
    async def all(self, request: MartiRequest) -> Envelope:
        """List all certificates, or those of one name (``username``)."""
        username = request.arguments.one("username")
        records = await self._records()
        if username is not None:
            records = [record for record in records if name_key(record.name) == name_key(username)]
        return await self._listed(records)

    @route("/Marti/api/certadmin/cert/active", access=Access.ADMIN)
    async def active(self, request: MartiRequest) -> Envelope:
        """List those that count, and that no newer one of the same device has replaced."""
        records = await self._records()
        replaced = _replaced(records)
        return await self._listed(
            record
            for record in records
            if record.revoked is None and not self._expired(record) and record.serial not in replaced
        )

    @route("/Marti/api/certadmin/cert/replaced", access=Access.ADMIN)
    async def replaced(self, request: MartiRequest) -> Envelope:
        """List those whose device has got a newer one; they count all the same."""
        records = await self._records()
        replaced = _replaced(records)
        return await self._listed(record for record in records if record.serial in replaced)

    @route("/Marti/api/certadmin/cert/expired", access=Access.ADMIN)
    async def expired(self, request: MartiRequest) -> Envelope:
        """List those whose time is over."""
        return await self._listed(record for record in await self._records() if self._expired(record))

    @route("/Marti/api/certadmin/cert/revoked", access=Access.ADMIN)
    async def revoked(self, request: MartiRequest) -> Envelope:
        """List those that were revoked."""
        return await self._listed(record for record in await self._records() if record.revoked is not None)

    @route("/Marti/api/certadmin/cert/<hash>", access=Access.ADMIN)
    async def show(self, request: MartiRequest, hash: str) -> Envelope:
        """Show one, by its hash."""
        return Envelope(TYPE, (await self._told([await self._find(hash)]))[0])

    @route("/Marti/api/certadmin/cert/<hash>/download", access=Access.ADMIN)
    async def download(self, request: MartiRequest, hash: str) -> Reply:
        """Send one as PEM."""
        record = await self._find(hash)
        (pem,) = await self._enrollment.certificates([record])
        if pem is None:
            raise NoSuchThing("of this certificate only the entry in the register is left")
        disposition = f"attachment; filename={plain(record.name)}_ClientCert.pem"
        return Reply(pem, headers={"Content-Disposition": disposition})

    @route("/Marti/api/certadmin/cert/download/<ids>", access=Access.ADMIN)
    async def download_several(self, request: MartiRequest, ids: str) -> Reply:
        """Send several, by their ids with commas between, as a zip."""
        records = await self._named(ids)
        found = zip(records, await self._enrollment.certificates(records), strict=True)
        pems = {f"{n}_{plain(record.name)}_ClientCert.pem": pem for n, (record, pem) in enumerate(found, 1) if pem}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as package:
            for name, pem in pems.items():
                package.writestr(name, pem)
        headers = {"Content-Disposition": "attachment; filename=ClientCertExport.zip"}
        return Reply(packed.getvalue(), "application/zip", headers=headers)

    @route("/Marti/api/certadmin/cert/<hash>", "DELETE", access=Access.ADMIN)
    async def revoke(self, request: MartiRequest, hash: str) -> Envelope:
        """Revoke one, by its hash; its connections end at once."""
        record = await self._find(hash)
        await self._take_away(request, [record])
        return Envelope(TYPE, (await self._told([await self._find(hash)]))[0])

    @route("/Marti/api/certadmin/cert/revoke/<ids>", "DELETE", access=Access.ADMIN)
    @route("/Marti/api/certadmin/cert/delete/<ids>", "DELETE", access=Access.ADMIN)
    async def revoke_several(self, request: MartiRequest, ids: str) -> Reply:
        """Revoke several, by their ids with commas between. No entry is ever deleted: without it one would count."""
        await self._take_away(request, await self._named(ids))
        return EMPTY

    async def _records(self) -> list[Record]:
        try:
            return await self._enrollment.records()
        except EnrollmentError as error:
            self.log.error("{problem}", problem=str(error))
            raise MartiError(503, "the certificate register cannot be read; the server's log has more") from error

    async def _find(self, hash: str) -> Record:
        for record in await self._records():
            if _hash(record) == hash.lower():
                return record
        raise NoSuchThing("there is no such certificate")

    async def _named(self, ids: str) -> list[Record]:
        wanted = {word.strip() for word in ids.split(",")}
        if len(wanted) > MAX_IDS or not all(word.isascii() and word.isdigit() for word in wanted):
            raise BadRequest(f"ids are up to {MAX_IDS} whole numbers with commas between")
        return [record for record in await self._records() if str(_id(record)) in wanted]

    async def _take_away(self, request: MartiRequest, records: list[Record]) -> None:
        valid = [record for record in records if record.revoked is None]
        try:
            await self._enrollment.revoke([record.serial for record in valid])
        except EnrollmentError as error:
            self.log.error("{problem}", problem=str(error))
            raise MartiError(503, "the certificate register cannot be written; the server's log has more") from error
        for record in valid:
            self.log.info(
                "{who} has revoked the certificate of {name}, serial {serial}",
                who=repr(request.principal.name),
                name=repr(record.name),
                serial=record.serial_hex,
            )
        await self._reload()

    def _expired(self, record: Record) -> bool:
        return record.expires is not None and record.expires.timestamp() <= self._clock.seconds()

    async def _listed(self, records: Iterable[Record]) -> Envelope:
        return Envelope(TYPE, await self._told(list(records)))

    async def _told(self, records: list[Record]) -> list[dict[str, Any]]:
        pems = await self._enrollment.certificates(records)
        return [_told(record, pem) for record, pem in zip(records, pems, strict=True)]


def _told(record: Record, pem: bytes | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": _id(record),
        "creatorDn": record.name,
        "subjectDn": f"CN={record.name}",
        "userDn": record.name,
        "certificate": (pem or b"").decode("ascii"),
        "hash": _hash(record),
        "clientUid": record.client_uid or "",
        "serialNumber": record.serial_hex,
        "issuanceDate": _date(record.issued),
        "expirationDate": _date(record.expires),
        "effectiveDate": _date(record.issued),
        "token": "",
    }
    if record.revoked is not None:
        told["revocationDate"] = _date(record.revoked)
    return told


def _date(when: datetime | None) -> str:
    return date(when.timestamp() if when is not None else 0.0)


def _hash(record: Record) -> str:
    """Spell by what a certificate is found; of some only the serial is known."""
    return record.sha256 or hashlib.sha256(record.serial_hex.encode()).hexdigest()


def _id(record: Record) -> int:
    return int(_hash(record)[:_ID_DIGITS], 16)


def _replaced(records: Iterable[Record]) -> set[int]:
    """Find the serials of those whose device has got a newer one."""
    newest: dict[tuple[str, str], int] = {}
    replaced = set()
    for record in records:  # in the order in which they were issued
        if record.client_uid and record.revoked is None:
            device = (name_key(record.name), record.client_uid)
            if device in newest:
                replaced.add(newest[device])
            newest[device] = record.serial
    return replaced
