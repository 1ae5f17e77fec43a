"""Sign what clients ask to have signed, enter it into the register, and only then give it away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from taky_twisted.enrollment.authority import ClientKey
from taky_twisted.enrollment.authority_files import SiteAuthority
from taky_twisted.enrollment.errors import Banned, EnrollmentError
from taky_twisted.enrollment.names import check_name
from taky_twisted.enrollment.register import CertificateRegister, Details
from taky_twisted.enrollment.signing_requests import SigningRequest, read_request
from taky_twisted.identity.cert_db import Record, name_key
from taky_twisted.logs import Logger


class NotTheirName(EnrollmentError):
    """A request names somebody else than who sends it."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate for a client, and whom the client has to trust."""

    certificate: x509.Certificate
    trusted: tuple[x509.Certificate, ...]
    """The issuer first."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a client says about itself."""

    client_uid: str = ""
    version: str | None = None
    """What it runs; whoever says so knows channels (TAK Server ``CertManagerApi.java``)."""


class Issuing:
    """The register and the authority of a site, at work for clients. All of it belongs into a thread."""

    log = Logger()

    def __init__(
        self,
        authority: SiteAuthority,
        register: CertificateRegister,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._authority, self.register, self._clock = authority, register, clock

    def read(self, body: bytes, name: str) -> SigningRequest:
        """Read a request of somebody.

        Args:
            body: as it was sent.
            name: who has sent it.

        Raises:
            BadRequest: it cannot be read, or its key is of a kind that is not signed.
            NotTheirName: it says that it is for somebody else.
        """
        request = read_request(body)
        if request.common_name is not None and _folded(request.common_name) != _folded(name):
            raise NotTheirName(f"the request is for {request.common_name}, and its sender is {name}")
        return request

    def issue(self, name: str, key: ClientKey, device: Device) -> Issued:
        """Sign and enter a certificate; of the client only the key is in it.

        Raises:
            Banned: the name gets none.
            EnrollmentError: a file cannot be read or written, or the name cannot be a certificate's.
        """
        if self.register.is_banned(name):
            raise Banned(f"{name} is banned")
        certificate = self._authority.authority.sign_client(
            check_name(name), key, self._clock(), channels=device.version is not None
        )
        self.register.add(certificate, Details(client_uid=device.client_uid or None, version=device.version))
        return Issued(certificate, self._authority.trusted)

    def again(self, serial: int) -> Issued | None:
        """Find a certificate that was issued, unless it was revoked since."""
        issuer = self._authority.authority.certificate
        for record in self.register.records():
            if record.serial == serial and record.revoked is None:
                certificate = self.register.certificate(record)
                if certificate is not None and certificate.issuer == issuer.subject:
                    return Issued(certificate, self._authority.trusted)
        return None

    def pem(self, record: Record) -> bytes | None:
        """Read a certificate; None if only its entry in the register is left."""
        certificate = self.register.certificate(record)
        return None if certificate is None else certificate.public_bytes(Encoding.PEM)

    def revoke(self, serials: Iterable[int]) -> None:
        """Revoke certificates, and write the list of all that are revoked for other programs.

        Raises:
            EnrollmentError: the register cannot be written.
        """
        for serial in serials:
            self.register.revoke_serial(serial)
        self.publish()

    def publish(self) -> None:
        """Write the list of all certificates that are revoked, for other programs."""
        try:
            self.register.publish(self._authority.authority)
        except EnrollmentError as error:
            # The register is what counts here.
            self.log.warn("the revocation list was not written: {error}", error=str(error))


def key_hash(key: ClientKey) -> str:
    """Tell a public key from others: its SHA-256, in hex, as in the register."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _folded(name: str) -> str:
    return name_key(name).casefold()
