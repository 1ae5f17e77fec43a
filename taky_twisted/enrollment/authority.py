"""The site's certificate authority: it makes itself, and signs certificates of servers, clients and revocations."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Union

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.cert_db import Record, same_issuer
from taky_twisted.identity.certificates import UNREADABLE, distinguished_name

SigningKey = Union[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey]
ClientKey = Union[rsa.RSAPublicKey, ec.EllipticCurvePublicKey]

CA_KEY_BITS = 4096
KEY_BITS = 2048
CA_DAYS = 3650
DAYS = 730
"""How long certificates of servers and clients are valid, unless somebody says otherwise."""
MAX_DAYS = 3650
CRL_DAYS = 365
"""How long others may rely on a revocation list; it is made anew with every change."""
EARLY = datetime.timedelta(days=2)
"""Certificates begin so long before they are made, for phones whose clock is wrong."""
ORGANIZATION = "TAK"
CHANNELS = x509.ObjectIdentifier("1.2.840.113549.1.9.7")
"""With this a certificate says that its device knows channels (TAK Server ``CertManagerApi.java``)."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A key that signs, its certificate, and the certificates from there up to the root."""

    key: SigningKey
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...] = ()

    def __post_init__(self) -> None:
        subject = distinguished_name(self.certificate.subject)
        if not isinstance(self.key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
            raise EnrollmentError(
                "the authority's key is neither RSA nor of an elliptic curve; make one of these kinds"
            )
        if self.key.public_key() != self.certificate.public_key():
            raise EnrollmentError(f"the authority's key does not belong to its certificate ({subject})")
        if not is_authority(self.certificate):
            raise EnrollmentError(
                f"the certificate {subject} is not an authority's: its basicConstraints do not say CA:TRUE"
            )

    @classmethod
    def make(cls, name: str, now: datetime.datetime, key: SigningKey | None = None) -> Authority:
        """Make a new one; with a new key this takes a second or more.

        Args:
            name: for whom; a few random digits are added, so that phones never mix up two authorities.
            now: aware.
            key: if there is one already.
        """
        key = key or rsa.generate_private_key(65537, CA_KEY_BITS)
        subject = _name(f"{name[:40]} CA {secrets.token_hex(4)}")
        builder = (
            _builder(subject, subject, key.public_key(), now - EARLY, now + datetime.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(digital_signature=True, key_cert_sign=True, crl_sign=True), critical=True)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The authority's own certificate and those above it."""
        return (self.certificate, *self.above)

    def sign_server(
        self, names: Sequence[str], key: rsa.RSAPublicKey, now: datetime.datetime, days: int = DAYS
    ) -> x509.Certificate:
        """Sign a server's certificate.

        Args:
            names: by which clients reach it: host names and IP addresses, the main one first.
            key: the server's.
            now: aware.
            days: from now.

        Raises:
            EnrollmentError: one of the names cannot be in a certificate, or the authority has expired.
        """
        others = list(dict.fromkeys(alternative_name(name) for name in names))
        common_name = names[0] if len(names[0].encode()) <= 64 else ORGANIZATION
        builder = (
            self._builder(_name(common_name), key, now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True, key_encipherment=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(others), critical=False)
        )
        return builder.sign(self.key, self._hash())

    def sign_client(
        self, name: str, key: ClientKey, now: datetime.datetime, days: int = DAYS, *, channels: bool = False
    ) -> x509.Certificate:
        """Sign a client's certificate; of who asks for it only the key is in it.

        Args:
            name: the common name, checked.
            key: the client's.
            now: aware.
            days: from now.
            channels: whether the device says that it knows channels.

        Raises:
            EnrollmentError: the authority has expired.
        """
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([CHANNELS] if channels else [])]
        usage = _usage(digital_signature=True, content_commitment=True, key_agreement=True)
        builder = (
            self._builder(_name(name), key, now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        return builder.sign(self.key, self._hash())

    def revocation_list(self, records: Iterable[Record], now: datetime.datetime) -> x509.CertificateRevocationList:
        """Sign a list of those certificates of ours that are revoked; of unknown issuer is ours."""
        own = distinguished_name(self.certificate.subject)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(now + datetime.timedelta(days=CRL_DAYS))
            .add_extension(self._authority_key(), critical=False)
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        )
        revoked = {
            record.serial: record.revoked
            for record in records
            if record.revoked is not None
            and (record.issuer is None or same_issuer(record.issuer, own))
            and 0 < record.serial.bit_length() < 160  # what RFC 5280 allows; no other is in a list
        }
        for serial, when in revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, self._hash())

    def _builder(
        self, subject: x509.Name, key: ClientKey, now: datetime.datetime, days: int
    ) -> x509.CertificateBuilder:
        end = self.certificate.not_valid_after_utc
        if now >= end:
            raise EnrollmentError(
                f"the site's authority has expired on {end:%Y-%m-%d}; make a new site with takyctl setup, and give"
                " everybody a new package"
            )
        begin = max(now - EARLY, self.certificate.not_valid_before_utc)
        end = min(now + datetime.timedelta(days=days), end)
        return _builder(subject, self.certificate.subject, key, begin, end).add_extension(
            self._authority_key(), critical=False
        )

    def _authority_key(self) -> x509.AuthorityKeyIdentifier:
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)

    def _hash(self) -> hashes.SHA256 | hashes.SHA384:
        curve = isinstance(self.key, ec.EllipticCurvePrivateKey) and self.key.curve.key_size > 256
        return hashes.SHA384() if curve else hashes.SHA256()


def make_key() -> rsa.RSAPrivateKey:
    """Make a key for a server or a client."""
    return rsa.generate_private_key(65537, KEY_BITS)


def alternative_name(text: str) -> x509.GeneralName:
    """Spell a host name or an IP address as certificates do; umlauts become what the DNS knows.

    Raises:
        EnrollmentError: it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text.encode("idna").decode("ascii"))
    except UnicodeError:
        raise EnrollmentError(f"{text!r} cannot be a host name in a certificate") from None


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """Read the host names and addresses that a certificate is for, in its order."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(each.value) for each in found if isinstance(each, (x509.DNSName, x509.IPAddress))]


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, *UNREADABLE):
        return False


def signed_by(certificate: x509.Certificate, other: x509.Certificate) -> bool:
    """Whether one certificate was issued with the key of another."""
    try:
        certificate.verify_directly_issued_by(other)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def chain_above(certificate: x509.Certificate, candidates: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Find, in order, the certificates above one, as far as they are among the candidates."""
    rest = [each for each in dict.fromkeys(candidates) if each != certificate]
    chain: list[x509.Certificate] = []
    lowest = certificate
    while lowest.subject != lowest.issuer:
        above = next((each for each in rest if signed_by(lowest, each)), None)
        if above is None:
            break
        rest.remove(above)
        chain.append(above)
        lowest = above
    return tuple(chain)


def _name(common_name: str) -> x509.Name:
    # Not checked there: cryptography counts bytes, X.520 characters.
    own = x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=len(common_name.encode()) <= 64)
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION), own])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ClientKey, begin: datetime.datetime, end: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    known = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in known})
