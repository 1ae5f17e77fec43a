"""The files of a site's authority, and the authority that is in them now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from taky_twisted.enrollment.authority import Authority, chain_above
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.keystores import read_authorities
from taky_twisted.identity.credentials import Source, load_certificates, load_key, snapshot_of
from taky_twisted.identity.errors import EndpointError


@dataclass(frozen=True, slots=True)
class AuthorityFiles:
    """Where they are; as in section [ssl] of ``taky.conf``."""

    certificate: Path
    key: Path
    trust_store: Path | None = None
    """What phones get to trust the server: it may hold more than our authority."""
    password: str | None = None
    """Of the trust store."""


class SiteAuthority:
    """A site's authority, read again whenever its files have changed. It waits for the disk: use it in a thread."""

    def __init__(self, files: AuthorityFiles) -> None:
        self.files = files
        self._paths = [str(path) for path in (files.certificate, files.key, files.trust_store) if path is not None]
        self._snapshot: object = None
        self._read: tuple[Authority, tuple[x509.Certificate, ...]] | None = None

    @property
    def authority(self) -> Authority:
        """Who signs.

        Raises:
            EnrollmentError: a file cannot be used.
        """
        return self._now()[0]

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """Whom a client has to trust: who signs, those above, and what else is in the trust store, in this order."""
        return self._now()[1]

    def _now(self) -> tuple[Authority, tuple[x509.Certificate, ...]]:
        snapshot = snapshot_of(self._paths)
        if self._read is None or snapshot != self._snapshot:
            self._read, self._snapshot = self._load(), snapshot
        return self._read

    def _load(self) -> tuple[Authority, tuple[x509.Certificate, ...]]:
        files = self.files
        try:
            certificates = load_certificates(Source("[ssl] ca", str(files.certificate)))
            key = load_key(Source("[ssl] ca_key", str(files.key)), None)
        except EndpointError as error:
            raise EnrollmentError(str(error)) from error
        own = next((each for each in certificates if each.public_key() == key.public_key()), None)
        if own is None:
            raise EnrollmentError(f"none of the certificates in [ssl] ca {files.certificate} belongs to [ssl] ca_key")
        others = self._in_trust_store()
        authority = Authority(key, own, chain_above(own, [*certificates, *others]))  # type: ignore[arg-type] # it looks
        return authority, tuple(dict.fromkeys([*authority.chain, *others]))

    def _in_trust_store(self) -> list[x509.Certificate]:
        path = self.files.trust_store
        if path is None:
            return []
        try:
            return read_authorities(path.read_bytes(), self.files.password)
        except FileNotFoundError:
            return []
        except (EnrollmentError, OSError) as error:
            raise EnrollmentError(f"the trust store {path} ([ssl] server_p12, server_p12_pw): {error}") from error
