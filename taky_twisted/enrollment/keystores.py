"""PKCS#12 files as the oldest phones in the field read them.

Triple DES and HMAC-SHA-1: old Android, iOS and Windows call today's algorithms a wrong password (TAK Server
``makeCert.sh`` uses OpenSSL's ``-legacy`` for the same reason). What protects the file is the way it is handed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import KeySerializationEncryption, PrivateFormat, pkcs12

from taky_twisted.enrollment.authority import is_authority
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.names import plain
from taky_twisted.identity.certificates import UNREADABLE

PASSWORD = "atakatak"
"""What TAK clients try if nobody tells them another password."""
ROUNDS = 2048
MAX_PASSWORD = 64  # characters
SIGNED = "signedCert"
"""The alias by which ATAK finds its own certificate (ATAK-CIV ``net/CertificateSigningOperation.java``)."""


def check_password(text: str) -> str:
    """Return a password that all clients can read.

    Raises:
        EnrollmentError: it is none.
    """
    if not 0 < len(text) <= MAX_PASSWORD or not (text.isascii() and text.isprintable()):
        raise EnrollmentError(
            f"not a password for .p12 files; allowed: 1 to {MAX_PASSWORD} characters of ASCII (no umlauts)"
        )
    return text


def client_keystore(
    name: str,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    password: str,
) -> bytes:
    """Pack a client's key and certificate, and the authorities above it."""
    others = [pkcs12.PKCS12Certificate(each, f"ca{number}".encode()) for number, each in enumerate(chain)]
    try:
        return pkcs12.serialize_key_and_certificates(
            plain(name).encode(), key, certificate, others, _encryption(password)
        )
    except UnsupportedAlgorithm as error:
        raise _no_triple_des() from error


def trust_store(authorities: Iterable[x509.Certificate], password: str) -> bytes:
    """Pack whom to trust, and no key; Java sees the entries, too."""
    named = {f"ca{number}": each for number, each in enumerate(authorities)}
    return _certificates(named, password)


def enrollment_keystore(certificate: x509.Certificate, chain: Sequence[x509.Certificate], password: str) -> bytes:
    """Pack a freshly signed certificate and its chain, without a key, as ATAK expects it (``tls/signClient``)."""
    named = {SIGNED: certificate, **{f"ca{number}": each for number, each in enumerate(chain)}}
    return _certificates(named, password)


def read_authorities(content: bytes, password: str | None) -> list[x509.Certificate]:
    """Read the authorities in a trust store, ours or taky's (which also has the server's own certificate in it).

    Raises:
        EnrollmentError: it cannot be read.
    """
    try:
        found = pkcs12.load_pkcs12(content, None if password is None else password.encode())
        held = ([found.cert] if found.cert is not None else []) + list(found.additional_certs)
        found_here = [each.certificate for each in held]
        # Who signed itself is trusted for itself alone.
        return [each for each in found_here if is_authority(each) or each.subject == each.issuer]
    except UNREADABLE as error:
        raise EnrollmentError("the password is wrong, or it is not a PKCS#12 file") from error


def _certificates(named: dict[str, x509.Certificate], password: str) -> bytes:
    entries = [pkcs12.PKCS12Certificate(each, alias.encode()) for alias, each in named.items()]
    try:
        return pkcs12.serialize_java_truststore(entries, _encryption(password))
    except UnsupportedAlgorithm as error:
        raise _no_triple_des() from error


def _encryption(password: str) -> KeySerializationEncryption:
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(password.encode("ascii"))
    )


def _no_triple_des() -> EnrollmentError:
    return EnrollmentError(
        "this system's OpenSSL has no triple DES (FIPS mode?), and phones read no other PKCS#12 files;"
        " make the packages on another machine"
    )
