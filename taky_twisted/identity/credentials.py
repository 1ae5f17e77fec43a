"""Read keys, certificates and revocation lists from files; whatever is wrong with them is said in plain words."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from taky_twisted.identity.certificates import UNREADABLE, distinguished_name, printable
from taky_twisted.identity.errors import EndpointError
from taky_twisted.logs import Logger

log = Logger()

_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_CERTIFICATE_FILES = (".pem", ".crt", ".cer")
_CRL_FILES = (".pem", ".crl")


@dataclass(frozen=True, slots=True)
class Source:
    """A file or folder, and the setting that names it."""

    key: str
    """As the operator wrote it: ``privateKey``, ``[ssl] key``."""
    path: str

    def __str__(self) -> str:
        return f"{self.key} {self.path}"

    def at(self, path: str) -> Source:
        """Name another file on behalf of the same setting."""
        return Source(self.key, path)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the server shows: a private key, its certificate, and the certificates between that and the root."""

    key: PrivateKeyTypes
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()


def load_credentials(key: Source, certificate: Source, password: str | None) -> Credentials:
    """Read a key and its certificate from PEM files, which may be one and the same.

    Args:
        key: The private key.
        certificate: The certificate, perhaps followed by its chain.
        password: What decrypts the key; not used for a key that is not encrypted.
    """
    private_key = load_key(key, password)
    certificates = load_certificates(certificate)
    own = [each for each in certificates if _belongs(each, private_key)]
    if not own:
        subject = distinguished_name(certificates[0].subject)
        raise EndpointError(f"{certificate}: the certificate ({subject}) does not belong to the key in {key}")
    return Credentials(private_key, own[0], tuple(each for each in certificates if each is not own[0]))


def load_key(source: Source, password: str | None) -> PrivateKeyTypes:
    """Read a PEM private key, the first in its file."""
    found = _KEY.search(_read(source))
    if found is None:
        raise EndpointError(f"{source}: no private key in it (PEM, '-----BEGIN PRIVATE KEY-----')")
    block, encrypted = found[0], b"ENCRYPTED" in found[0]
    if encrypted and not password:
        raise EndpointError(f"{source}: the key is encrypted; give its password (keyPassword=, or key_pw in [ssl])")
    try:
        return load_pem_private_key(block, password.encode() if encrypted and password else None)
    except UNREADABLE as error:
        problem = "the password is wrong, or the key is damaged" if encrypted else "not a private key that we can read"
        raise EndpointError(f"{source}: {problem}") from error


def load_pkcs12(source: Source, password: str | None) -> Credentials:
    """Read a PKCS#12 file (``.p12``, ``.pfx``) with key, certificate and chain."""
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(
            _read(source), password.encode() if password is not None else None
        )
    except UNREADABLE as error:
        raise EndpointError(f"{source}: the password is wrong, or it is not a PKCS#12 file") from error
    if key is None or certificate is None:
        missing = "private key" if key is None else "certificate"
        raise EndpointError(f"{source}: it holds no {missing}; a server needs both")
    return Credentials(key, certificate, tuple(others))


def load_certificates(source: Source) -> list[x509.Certificate]:
    """Read all certificates of a PEM file, at least one."""
    content = _read(source)
    if _CERTIFICATE not in content:
        raise EndpointError(f"{source}: no certificate in it (PEM, '{_CERTIFICATE.decode()}')")
    try:
        found = x509.load_pem_x509_certificates(content)
        for each in found:
            _ = each.subject, each.issuer, each.not_valid_after_utc  # what is inside is only read when asked for
    except UNREADABLE as error:
        raise EndpointError(f"{source}: not a certificate that we can read ({printable(str(error))})") from error
    return found


def load_authorities(source: Source) -> list[x509.Certificate]:
    """Read the certificates of trusted authorities from a PEM file, or from the PEM files of a folder."""
    found: dict[x509.Certificate, None] = {}
    for path in files_of(source, _CERTIFICATE_FILES):
        part = source.at(path)
        # A folder may hold keys and lists beside the certificates.
        if path == source.path or _CERTIFICATE in _read(part):
            found.update(dict.fromkeys(load_certificates(part)))
    if not found:
        raise EndpointError(f"{source}: no certificate in any of its {', '.join(_CERTIFICATE_FILES)} files")
    return list(found)


def load_revoked(source: Source, authorities: list[x509.Certificate]) -> frozenset[tuple[str, int]]:
    """Read revocation lists (PEM or DER) from a file, or from the ``.pem`` and ``.crl`` files of a folder.

    A list that is out of date still counts, with a warning: revoked stays revoked, and nobody else is locked out.

    Returns:
        Issuer (RFC 4514) and serial of each revoked certificate.

    Raises:
        EndpointError: A list cannot be read, or none of the authorities signed it.
    """
    revoked: set[tuple[str, int]] = set()
    lists = 0
    for path in files_of(source, _CRL_FILES):
        part = source.at(path)
        content = _read(part)
        blocks = _CRL.findall(content)
        if not blocks and path != source.path and b"-----BEGIN" in content:
            continue
        try:
            found = [x509.load_pem_x509_crl(block) for block in blocks] or [x509.load_der_x509_crl(content)]
            # What is inside is only looked at when it is asked for.
            listed = [(each, distinguished_name(each.issuer), [one.serial_number for one in each]) for each in found]
        except UNREADABLE as error:
            raise EndpointError(f"{part}: not a certificate revocation list (PEM or DER)") from error
        for each, issuer, serials in listed:
            _check_list(part, each, issuer, authorities)
            revoked.update((issuer, serial) for serial in serials)
            lists += 1
    if not lists:
        raise EndpointError(f"{source}: no revocation list in any of its {', '.join(_CRL_FILES)} files")
    return frozenset(revoked)


def files_of(source: Source, endings: tuple[str, ...]) -> list[str]:
    """Name the file, or the files of a folder that end in certain ways, in order."""
    if not os.path.isdir(source.path):
        return [source.path]
    try:
        names = sorted(os.listdir(source.path))
    except OSError as error:
        raise EndpointError(f"{source}: {error.strerror}") from error
    return [os.path.join(source.path, name) for name in names if name.lower().endswith(endings)]


def snapshot_of(paths: list[str]) -> tuple[tuple[object, ...], ...]:
    """Say in what state files and folders are, to be compared later; one that is not there has a state too.

    Of a folder that are the files in it, as `files_of` reads them, and not what is in folders below.
    """
    states = []
    for path in paths:
        states.append(_state_of(path))
        try:
            names = sorted(os.listdir(path)) if os.path.isdir(path) else []
        except OSError:
            continue
        states.extend(_state_of(os.path.join(path, name)) for name in names if not name.startswith("."))
    return tuple(states)


def _state_of(path: str) -> tuple[object, ...]:
    try:
        status = os.stat(path)
    except OSError as error:
        return path, error.errno
    return path, status.st_mtime_ns, status.st_size, status.st_ino


def _belongs(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except UNREADABLE:
        return False


def _check_list(
    source: Source, revocations: x509.CertificateRevocationList, issuer: str, authorities: list[x509.Certificate]
) -> None:
    if not any(_signed(revocations, each) for each in authorities if each.subject == revocations.issuer):
        raise EndpointError(
            f"{source}: the revocation list of {issuer} is not signed by one of the authorities in caCerts"
        )
    end = revocations.next_update_utc
    if end is not None and end < datetime.datetime.now(datetime.timezone.utc):
        log.warn(
            "{source}: the revocation list of {issuer} is out of date since {end}; it still counts",
            source=str(source),
            issuer=issuer,
            end=f"{end:%Y-%m-%d}",
        )


def _signed(revocations: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return revocations.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, *UNREADABLE):
        return False


def _read(source: Source) -> bytes:
    try:
        with open(source.path, "rb") as file:
            return file.read()
    except OSError as error:
        raise EndpointError(f"{source} cannot be read: {error.strerror}") from error
