"""Write the certificate register: who has which certificate, which are revoked, which names are banned.

Several programs may write at the same time (an operator's ``takyctl``, a second one, the server): each change is made
under a lock, to what the files say at that moment, and written in one step. The running server reads them again by
itself (`taky_twisted.identity.revocation`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from taky_twisted.enrollment.authority import Authority
from taky_twisted.enrollment.errors import Banned, EnrollmentError
from taky_twisted.files import PRIVATE, PUBLIC, replace_file
from taky_twisted.identity.cert_db import Ban, CertDb, Record, ban_key, beside, name_key
from taky_twisted.identity.certificates import distinguished_name, name_in

ISSUED_FOLDER = "issued"
CRL_NAME = "ca.crl"
"""The revocation list for other programs, beside the register."""


@dataclass(frozen=True, slots=True)
class Details:
    """What is kept of a certificate beside what it says itself."""

    kind: str = "client"
    client_uid: str | None = None
    version: str | None = None
    groups: tuple[str, ...] = ()


CLIENT = Details()
SERVER = Details("server")


class CertificateRegister:
    """The register of one site. Its methods wait for the disk and for each other."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        """Touch nothing yet.

        Args:
            path: taky's file; ours, the lock and the issued certificates are beside it.
            clock: says the time, aware.
        """
        self.path = path
        self._clock = clock

    def create(self) -> None:
        """Make an empty register, unless there is one."""
        with self._changing():
            pass

    def records(self) -> list[Record]:
        """Read all certificates, each once.

        Raises:
            EnrollmentError: the register cannot be read.
        """
        return list(self._read().records())

    def bans(self) -> list[Ban]:
        """Read all names that are or were banned."""
        return list(self._read().bans.values())

    def is_banned(self, name: str) -> bool:
        """Whether a name gets no certificates."""
        return _still_banned(self._read(), name)

    def add(self, certificate: x509.Certificate, details: Details = CLIENT) -> Record:
        """Enter a certificate; do so before it is given to anybody.

        Raises:
            Banned: its name is banned.
            EnrollmentError: the register cannot be read or written.
        """
        record = record_of(certificate, details)
        with self._changing() as found:
            if details.kind == "client" and _still_banned(found, record.name):
                raise Banned(f"{record.name} is banned; takyctl unban lets the name have certificates again")
            self._keep(certificate, record)
            found.add(record)
        return record

    def revoke_name(self, name: str) -> list[Record]:
        """Ban a name: all its certificates are revoked, also those that the register does not know.

        Returns:
            Those that it knows and that were not revoked before.
        """
        key = ban_key(name)
        with self._changing() as found:
            now = self._now()
            revoked = [
                found.revoke(record, now)
                for record in list(found.records())
                if record.revoked is None and record.kind != "server" and ban_key(record.name) == key
            ]
            before = found.bans.get(key)
            # Also within one second, and if another node's clock is ahead: what was said later is later.
            again = before.until + timedelta(seconds=1) if before is not None and before.until is not None else now
            found.bans[key] = Ban(name_key(name), max(now, again))
        return revoked

    def revoke_serial(self, serial: int) -> list[Record]:
        """Revoke the certificate with a serial, whether the register knows it or not; its name stays free.

        Returns:
            What is now revoked and was not before.
        """
        with self._changing() as found:
            known = [record for record in found.records() if record.serial == serial]
            wanted = known or [Record(serial, "unknown", issued=self._now())]
            return [found.revoke(record, self._now()) for record in wanted if record.revoked is None]

    def unban(self, name: str) -> bool:
        """Let a name have certificates again; those it had before stay revoked.

        Returns:
            Whether it was banned.
        """
        with self._changing() as found:
            if not _still_banned(found, name):
                return False
            ban = found.bans[ban_key(name)]
            found.bans[ban_key(name)] = replace(ban, until=max(self._now(), ban.since))
        return True

    def join(self, records: Iterable[Record], bans: Iterable[Ban]) -> tuple[CertDb, list[Record]]:
        """Enter what somebody else has entered in another register of the same site.

        Returns:
            All that is there now, and of that the certificates that were named.

        Raises:
            EnrollmentError: the register cannot be read or written.
        """
        with self._changing() as found:
            joined = found.join(records, bans)
        return found, joined

    def read(self) -> CertDb:
        """Read everything; nothing, if there is no register yet.

        Raises:
            EnrollmentError: the register cannot be read.
        """
        return self._read()

    def publish(self, authority: Authority) -> Path:
        """Write the revocation list for programs other than ours; not while somebody else changes what is in it.

        Raises:
            EnrollmentError: it cannot be written.
        """
        path = self.path.with_name(CRL_NAME)
        try:
            with self._locked():
                crl = authority.revocation_list(self._read().records(), self._now())
                replace_file(path, crl.public_bytes(Encoding.PEM), PUBLIC)
        except OSError as error:
            raise EnrollmentError(f"cannot write the revocation list {path}: {error.strerror}") from error
        return path

    def certificate(self, record: Record) -> x509.Certificate | None:
        """Read a certificate that was entered here; None for those of taky, of which only the line is left."""
        try:
            return x509.load_pem_x509_certificate(self._place(record).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise EnrollmentError(f"{self._place(record)} cannot be read: {error}") from error

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)

    def _read(self) -> CertDb:
        try:
            return CertDb.read(self.path)
        except FileNotFoundError:
            return CertDb()
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise EnrollmentError(f"the certificate register {self.path} cannot be read: {reason}") from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[CertDb]:
        """Hold the lock; write what was changed, unless an exception says that it shall not be."""
        try:
            with self._locked():
                found = self._read()
                before = found.taky_text(), found.text_beside()
                found.heal()
                yield found
                # Ours first: a ban that is only there counts, an end in between loses nothing.
                if found.text_beside() != before[1] or not beside(self.path).exists():
                    replace_file(beside(self.path), found.text_beside().encode(), self._mode())
                if found.taky_text() != before[0] or not self.path.exists():
                    replace_file(self.path, found.taky_text().encode(), self._mode())
        except OSError as error:
            where = error.filename or self.path
            raise EnrollmentError(f"cannot write the certificate register: {where}: {error.strerror}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path.with_name(f"{self.path.name}.lock")
        # Never through a link: whoever may write in this folder could let root give away any file of the system.
        flags, new = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, True
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE)
        except FileExistsError:
            descriptor, new = os.open(path, flags), False
        try:
            if new and os.geteuid() == 0:
                # Root may be first, and the server, which is somebody else, has to lock it later.
                folder = path.parent.stat()
                os.fchown(descriptor, folder.st_uid, folder.st_gid)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _mode(self) -> int:
        """Tell how taky's file may be read; ours may be in the same way."""
        try:
            return self.path.stat().st_mode & 0o777
        except FileNotFoundError:
            return PUBLIC

    def _keep(self, certificate: x509.Certificate, record: Record) -> None:
        place = self._place(record)
        if not place.parent.exists():
            place.parent.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0:
                above = place.parent.parent.stat()
                os.lchown(place.parent, above.st_uid, above.st_gid)
        replace_file(place, certificate.public_bytes(Encoding.PEM), PUBLIC)

    def _place(self, record: Record) -> Path:
        return self.path.parent / ISSUED_FOLDER / f"{record.serial_hex}.pem"


def record_of(certificate: x509.Certificate, details: Details) -> Record:
    """Say of a certificate what the register keeps."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Record(
        serial=certificate.serial_number,
        name=str(names[0].value) if names else name_in(certificate),
        issued=certificate.not_valid_before_utc,
        expires=certificate.not_valid_after_utc,
        issuer=distinguished_name(certificate.issuer),
        kind=details.kind,
        sha256=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
        key_sha256=hashlib.sha256(key).hexdigest(),
        client_uid=details.client_uid,
        version=details.version,
        groups=details.groups,
    )


def _still_banned(found: CertDb, name: str) -> bool:
    ban = found.bans.get(ban_key(name))
    return ban is not None and ban.until is None
