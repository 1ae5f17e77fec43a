"""TLS as one door wants it: what it shows, whom it trusts, what it refuses.

`MutualTLS` is Twisted's ``IOpenSSLServerConnectionCreator``. It makes OpenSSL contexts from ``cryptography`` objects
only; pyOpenSSL's own X.509 types are going away.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from taky_twisted.identity.certificates import UNREADABLE, certificate_of, distinguished_name
from taky_twisted.identity.credentials import (
    Credentials,
    Source,
    load_authorities,
    load_certificates,
    load_credentials,
    load_pkcs12,
    load_revoked,
    snapshot_of,
)
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.refusals import shown_as, verify_refusal
from taky_twisted.identity.transport import Handshake, TLSProtocol
from taky_twisted.logs import Logger

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

    from taky_twisted.identity.principal import Certificate
    from taky_twisted.identity.revocation import Register

ClientCert = Literal["required", "optional", "none"]

SOON = datetime.timedelta(days=30)
"""How long before its end the server's own certificate is spoken of."""
SESSION_SECONDS = 3600
"""How long a client may resume a session without showing its certificate again."""

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"  # TLS 1.2; 1.3 has only good ones
_VERIFY = {
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT | SSL.VERIFY_CLIENT_ONCE,
    "optional": SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE,
    "none": SSL.VERIFY_NONE,
}
_VERSIONS = {"TLSv1_2": SSL.TLS1_2_VERSION, "TLSv1_3": SSL.TLS1_3_VERSION}


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """Where a door's keys are, and what it asks of its clients."""

    name: str
    """The door, as error messages call it."""
    private_key: Source | None = None
    certificate: Source | None = None
    chain: Source | None = None
    pkcs12: Source | None = None
    """In place of the key and the certificate; it may hold more of the chain."""
    password: str | None = None
    """What decrypts the private key or the PKCS#12 file."""
    authorities: Source | None = None
    """Who may have signed client certificates: a PEM file or a folder of them."""
    revocations: Source | None = None
    """Revocation lists by these authorities: a file or a folder."""
    register: Register | None = None
    client_cert: ClientCert = "required"
    min_version: Literal["TLSv1_2", "TLSv1_3"] = "TLSv1_2"
    alpn: tuple[bytes, ...] = ()
    """Protocols to agree on with a client that offers them, best first; others connect all the same."""
    tells_refused: bool = False
    """Whether a revoked client may finish the handshake, because the application tells it why it is refused."""

    @property
    def paths(self) -> list[str]:
        """Every file and folder that matters."""
        sources = (self.private_key, self.certificate, self.chain, self.pkcs12, self.authorities, self.revocations)
        paths = [source.path for source in sources if source is not None]
        return paths + (self.register.paths if self.register is not None else [])


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was read from the files, all of it good."""

    credentials: Credentials
    authorities: list[x509.Certificate]
    revoked: frozenset[tuple[str, int]]


@implementer(IOpenSSLServerConnectionCreator)
class MutualTLS:
    """Make the server's end of TLS connections, and refuse certificates that are revoked.

    A client that resumes a session does not show its certificate again, and OpenSSL does not ask us: call `refusal_of`
    in ``handshakeCompleted`` too.

    Raises:
        EndpointError: A file cannot be used.
    """

    log = Logger()

    def __init__(self, settings: TLSSettings) -> None:
        self.settings = settings
        self._snapshot: object = None
        self._revoked: frozenset[tuple[str, int]] = frozenset()
        self._names: frozenset[str] = frozenset()
        self.certificate: x509.Certificate
        """What we show; of a file that was read anew, the new one."""
        self._context = self._load()

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)  # older Twisted does not; `_verify` finds the handshake there
        return connection

    def reload(self) -> None:
        """Read all files again; new connections use what they say, open ones go on as they are.

        It reads files, and may be called in a thread. The register is read again as well.

        Raises:
            EndpointError: A file cannot be used; everything stays as it was.
        """
        self._context = self._load()
        if self.settings.register is not None:
            self.settings.register.reload()

    def changed(self) -> bool:
        """Whether a file is not as it was at the last `reload`. It looks at the disk, and may be called in a thread."""
        return self._snapshot != snapshot_of(self.settings.paths)

    def refusal_of(self, certificate: Certificate) -> str | None:
        """Say that a certificate which an authority of ours has signed is revoked, and by what; None if it is good."""
        register = self.settings.register
        if register is not None and register.is_revoked(certificate):
            return f"{shown_as(certificate)} is revoked in the certificate register"
        if (certificate.issuer, certificate.serial) in self._revoked:
            return f"{shown_as(certificate)} is revoked by its issuer's revocation list"
        return None

    def _load(self) -> SSL.Context:
        # Taken first: a file that changes while we read it has changed.
        self._snapshot = snapshot_of(self.settings.paths)
        try:
            loaded = self._read()
            context = self._build(loaded)
        except EndpointError as error:
            raise EndpointError(f"endpoint {self.settings.name}: {error}") from error
        self._revoked = loaded.revoked
        self.certificate = loaded.credentials.certificate
        self._names = frozenset(distinguished_name(each.subject) for each in loaded.authorities)
        self._warn_about_dates(loaded.credentials.certificate)
        return context

    def _read(self) -> _Loaded:
        settings = self.settings
        if settings.private_key is not None and settings.certificate is not None:
            credentials = load_credentials(settings.private_key, settings.certificate, settings.password)
        elif settings.pkcs12 is not None:
            credentials = load_pkcs12(settings.pkcs12, settings.password)
        else:
            raise EndpointError("no certificate: add privateKey= and certKey=, or set key and cert in section [ssl]")
        if settings.chain is not None:
            more = tuple(load_certificates(settings.chain))
            credentials = replace(credentials, chain=credentials.chain + more)
        authorities: list[x509.Certificate] = []
        revoked: frozenset[tuple[str, int]] = frozenset()
        if settings.client_cert != "none":
            if settings.authorities is None:
                raise EndpointError(
                    f"clientCert={settings.client_cert} needs to know whose certificates to believe: "
                    "add caCerts=, or set ca in section [ssl], or say clientCert=none"
                )
            authorities = load_authorities(settings.authorities)
            if settings.revocations is not None:
                revoked = load_revoked(settings.revocations, authorities)
        return _Loaded(credentials, authorities, revoked)

    def _build(self, loaded: _Loaded) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(_VERSIONS[self.settings.min_version])
        context.set_cipher_list(_CIPHERS)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # Sessions live in the clients' tickets; without a store of our own they cost no memory.
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER | SSL.SESS_CACHE_NO_INTERNAL)
        context.set_session_id(os.urandom(16))
        context.set_timeout(SESSION_SECONDS)
        try:
            context.use_certificate(loaded.credentials.certificate)
            for each in loaded.credentials.chain:
                context.add_extra_chain_cert(each)
            context.use_privatekey(loaded.credentials.key)  # type: ignore[arg-type]
        except SSL.Error as error:
            raise EndpointError(f"OpenSSL does not take the server's key or certificate: {_words(error)}") from error
        store = context.get_cert_store()
        assert store is not None
        # What is listed is trusted, also an intermediate authority without its root.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for each in loaded.authorities:
            store.add_cert(crypto.X509.from_cryptography(each))
            context.add_client_ca(each)
        context.set_verify(_VERIFY[self.settings.client_cert], self._verify)
        # Always: without it a client that offers protocols is told of none; with it an unknown one still connects.
        context.set_alpn_select_callback(self._select_protocol)
        return context

    def _warn_about_dates(self, certificate: x509.Certificate) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not begin <= now <= end:
            self.log.warn(
                "endpoint {name}: the server's own certificate is valid from {begin} to {end}, not now; "
                "clients will refuse it",
                name=self.settings.name,
                begin=f"{begin:%Y-%m-%d}",
                end=f"{end:%Y-%m-%d}",
            )
        elif end - now < SOON:
            self.log.warn(
                "endpoint {name}: the server's own certificate ends on {end}: takyctl renew-server makes a new one",
                name=self.settings.name,
                end=f"{end:%Y-%m-%d}",
            )

    def _select_protocol(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        return next((each for each in self.settings.alpn if each in offered), SSL.NO_OVERLAPPING_PROTOCOLS)

    def _verify(self, connection: SSL.Connection, shown: crypto.X509, code: int, depth: int, ok: int) -> bool:
        protocol = connection.get_app_data()
        handshake = protocol.handshake if isinstance(protocol, TLSProtocol) else Handshake()
        try:
            handshake.refusal = self._judge(shown, code, depth, bool(ok), handshake)
        except Exception:  # noqa: BLE001 - it would go past OpenSSL into the reactor; whatever it is, nobody gets in
            self.log.failure("checking a client's certificate failed; the client is refused")
            handshake.refusal = "the client's certificate could not be checked"
        return handshake.refusal is None

    def _judge(self, shown: crypto.X509, code: int, depth: int, ok: bool, handshake: Handshake) -> str | None:
        if ok and depth > 0 and not self._revoked:
            return None
        try:
            certificate = shown.to_cryptography()
            kept = certificate_of(certificate)
        except UNREADABLE as error:
            return f"the client's certificate cannot be read: {error}"
        if depth == 0:
            handshake.certificate = kept
        if not ok:
            return verify_refusal(code, certificate, depth, self._names)
        if depth == 0:
            return None if self.settings.tells_refused else self.refusal_of(kept)
        if (kept.issuer, kept.serial) in self._revoked:
            return (
                f"an authority above the client's certificate is revoked ({kept.common_name}, serial {kept.serial_hex})"
            )
        return None


def _words(error: SSL.Error) -> str:
    return "; ".join(reason for _, _, reason in error.args[0])
