"""A small public key infrastructure for tests: real P-256 keys, made in microseconds, nothing reused between runs.

`PKI` writes what a site needs to a folder, keys readable by their owner only; `Authority` issues anything else, and
`ClientTLS` is the client's end for Twisted.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

DAY = datetime.timedelta(days=1)

SIGNING = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""What an authority's key is for."""


def days_from_now(days: float) -> datetime.datetime:
    """Return the time some days from now; negative for the past."""
    return datetime.datetime.now(datetime.timezone.utc) + days * DAY


def write_private(path: Path, content: bytes) -> str:
    """Write a file that only its owner may read, and return its path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return str(path)


def subject(common_name: str | None, **others: str) -> x509.Name:
    """Make a distinguished name; ``organization`` is the only other attribute."""
    attributes = []
    if "organization" in others:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, others["organization"]))
    if common_name is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False))
    return x509.Name(attributes)


@dataclass(frozen=True)
class Credentials:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    issuer: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: str | None = None) -> bytes:
        """Spell the key as PEM, encrypted if a password is given."""
        encryption = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def pkcs12(self, password: str, *, with_key: bool = True) -> bytes:
        """Pack key, certificate and issuer as taky's ``server.p12`` does."""
        return pkcs12.serialize_key_and_certificates(
            b"test",
            self.key if with_key else None,
            self.certificate,
            [self.issuer],
            BestAvailableEncryption(password.encode()),
        )


class Authority:
    """A certificate authority."""

    def __init__(self, name: str = "Test CA", *, above: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        own = subject(name, organization="taky")
        self.certificate: x509.Certificate
        builder = (
            x509.CertificateBuilder()
            .subject_name(own)
            .issuer_name(above.certificate.subject if above else own)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(days_from_now(-100))
            .not_valid_after(days_from_now(100))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(SIGNING, critical=True)  # without it Python 3.13 trusts nothing that this signs
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        if above:
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), critical=False
            )
        self.certificate = builder.sign(above.key if above else self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        common_name: str | None,
        *,
        begins: float = -1,
        ends: float = 10,
        serial: int | None = None,
        server: bool = False,
        names: tuple[x509.GeneralName, ...] = (),
        name: x509.Name | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        key_identifiers: bool = True,
    ) -> Credentials:
        """Issue a certificate that is valid from one day to another, counted from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject(common_name) if name is None else name)
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number() if serial is None else serial)
            .not_valid_before(days_from_now(begins))
            .not_valid_after(days_from_now(ends))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if key_identifiers:
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        if server:
            names = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *names)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Credentials(key, builder.sign(self.key, hashes.SHA256()), self.certificate)

    def crl(self, *serials: int, begins: float = -2, ends: float = 10) -> bytes:
        """Make a list of revoked serials, as PEM."""
        return self.revocation_list(*serials, begins=begins, ends=ends).public_bytes(Encoding.PEM)

    def revocation_list(self, *serials: int, begins: float = -2, ends: float = 10) -> x509.CertificateRevocationList:
        """Make a list of revoked serials."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(days_from_now(begins))
            .next_update(days_from_now(ends))
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(days_from_now(begins))
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, hashes.SHA256())


class PKI:
    """A folder with a site's keys: ``ca.pem``, ``server.pem``, ``server.key``, ``client.pem``, ``client.key``.

    Beside those there are credentials in memory that a server should refuse: ``expired``, ``early``, ``foreign`` (from
    another authority), ``namesake`` (from another authority with our authority's name) and ``revoked`` (refused by
    whoever asks the register ``cert-db.txt`` or the list ``crl.pem``).
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca = Authority()
        self.other_ca = Authority("Other CA")
        self.server = self.ca.issue("localhost", server=True, ends=60)
        self.client = self.ca.issue("ALPHA-1")
        self.second_client = self.ca.issue("BRAVO-2")
        self.revoked = self.ca.issue("REVOKED-3")
        self.expired = self.ca.issue("EXPIRED-4", begins=-20, ends=-10)
        self.early = self.ca.issue("EARLY-5", begins=5, ends=20)
        self.foreign = self.other_ca.issue("FOREIGN-6")
        self.namesake = Authority().issue("NAMESAKE-7", key_identifiers=False)
        self.ca_path = self.write("ca.pem", self.ca.pem)
        self.certificate_path = self.write("server.pem", self.server.pem)
        self.key_path = self.write("server.key", self.server.key_pem())
        self.client_certificate_path = self.write("client.pem", self.client.pem)
        self.client_key_path = self.write("client.key", self.client.key_pem())
        self.crl_path = self.write("crl.pem", self.ca.crl(self.revoked.certificate.serial_number))
        self.register_path = self.write("cert-db.txt", b"")
        self.write_register(V=[self.client], R=[self.revoked])

    def write(self, name: str, content: bytes) -> str:
        """Write a file into the folder and return its path."""
        return write_private(self.folder / name, content)

    def write_register(self, **statuses: list[Credentials]) -> None:
        """Write taky's register with certificates by status: ``V=[...], R=[...]``."""
        lines = [
            f"{status}\t2024-03-01T10:00:00\t2026-03-01T10:00:00\t{each.certificate.serial_number:040x}\tname\n"
            for status, certificates in statuses.items()
            for each in certificates
        ]
        self.write("cert-db.txt", "".join(lines).encode())

    def endpoint(self, prefix: str = "ssl:0:interface=127.0.0.1", **keys: str) -> str:
        """Spell an endpoint string that names this folder's files; a key that is set to '' is left out."""
        named = {"privateKey": self.key_path, "certKey": self.certificate_path, "caCerts": self.ca_path, **keys}
        return ":".join([prefix, *(f"{key}={escaped(value)}" for key, value in named.items() if value)])


def escaped(value: str) -> str:
    r"""Escape what means something in an endpoint string: ``:``, ``=`` and ``\``."""
    return value.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS:
    """A client's end of TLS.

    Args:
        trusts: The authority whose servers are believed; None believes anybody.
        credentials: What the client shows; None for nothing.
        version: ``SSL.TLS1_2_VERSION`` or another, alone; None for whatever both can do.
        alpn: The protocols that the client offers.
        calls: The name by which the client calls the server.
    """

    def __init__(
        self,
        trusts: Authority | None = None,
        credentials: Credentials | None = None,
        *,
        version: int | None = None,
        alpn: tuple[bytes, ...] = (),
        calls: bytes | None = None,
    ) -> None:
        self._calls = calls
        self.context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
        self.session: SSL.Session | None = None
        """The session that the next connection resumes."""
        self.connections: list[SSL.Connection] = []
        """The connections made, newest last."""
        if version is not None:
            self.context.set_min_proto_version(version)
            self.context.set_max_proto_version(version)
            if version < SSL.TLS1_2_VERSION:
                self.context.set_cipher_list(b"ALL:@SECLEVEL=0")
        if trusts is not None:
            store = self.context.get_cert_store()
            assert store is not None
            store.add_cert(crypto.X509.from_cryptography(trusts.certificate))
            self.context.set_verify(SSL.VERIFY_PEER, lambda connection, x509, code, depth, ok: bool(ok))
        if credentials is not None:
            self.context.use_certificate(credentials.certificate)
            self.context.use_privatekey(credentials.key)
        if alpn:
            self.context.set_alpn_protos(list(alpn))

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the connection for one protocol."""
        connection = SSL.Connection(self.context, None)
        if self._calls is not None:
            connection.set_tlsext_host_name(self._calls)
        if self.session is not None:
            connection.set_session(self.session)
        self.connections.append(connection)
        return connection
