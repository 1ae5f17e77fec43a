"""The site that a verb works on: its settings, its authority, its register."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from ipaddress import IPv6Address
from pathlib import Path

from cryptography import x509

from taky_twisted.cli.commands import CommandError
from taky_twisted.config import Settings, SslSettings, load
from taky_twisted.config.settings import COT_PORT, COT_TLS_PORT
from taky_twisted.config.taky_conf import SYSTEM_FILE
from taky_twisted.endpoints.strings import split
from taky_twisted.enrollment.authority import Authority, chain_above
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.keystores import check_password, read_authorities, trust_store
from taky_twisted.enrollment.packages import Connection
from taky_twisted.enrollment.register import CertificateRegister
from taky_twisted.identity.credentials import Source, load_certificates, load_key

TLS_KINDS = ("ssl", "taktls")
FILE_KEYS = ("ca", "ca_key", "cert", "key", "server_p12", "cert_db")
"""Keys of section [ssl] that name files."""
SYSTEM_SSL = SslSettings()
"""What a configuration says that says nothing."""


def now() -> datetime:
    """Tell the time."""
    return datetime.now(timezone.utc)


def settings_of(config: str | None) -> Settings:
    """Read the configuration that ``-c`` names, else that of this folder or of the system, else have the defaults."""
    if config is not None and not os.path.exists(config):
        raise CommandError(f"{config}: there is no such file; name the site's taky.conf with -c")
    return load(config)


@dataclass(frozen=True)
class Site:
    """A site that is there already."""

    settings: Settings

    @classmethod
    def open(cls, config: str | None) -> Site:
        """Read the configuration that ``-c`` names, or the one in the current folder or of the system."""
        settings = settings_of(config)
        if settings.path is None:
            raise CommandError(
                "there is no taky.conf here and none in /etc/taky; name it with -c before the verb, or make a site"
                " with 'takyctl setup'"
            )
        return cls(settings)

    @property
    def name(self) -> str:
        """The configuration, as messages call it."""
        return str(self.settings.path)

    def register(self) -> CertificateRegister:
        """Name the certificate register."""
        path = self._named("cert_db")
        if not path.parent.is_dir():
            more = "" if self.encrypted() else "; a site that serves without TLS has no certificates"
            raise CommandError(f"{self.name}: [ssl] cert_db: there is no folder {path.parent}{more}")
        return CertificateRegister(path)

    def authority(self) -> Authority:
        """Read the authority's key and certificate."""
        ca, key_path = self._named("ca"), self._named("ca_key")
        certificates = load_certificates(Source("[ssl] ca", str(ca)))
        return load_authority(Source("[ssl] ca_key", str(key_path)), certificates, self._trust_store())

    def trusted(self, authority: Authority) -> list[x509.Certificate]:
        """Name everybody whom a phone has to trust: the authority, those above it, and what setup has added."""
        return list(dict.fromkeys([*authority.chain, *self._trust_store()]))

    def files(self) -> dict[str, Path]:
        """Name the files of section [ssl] by their keys, without those of another site.

        Where the configuration of a site without TLS names none, the defaults are the system's site's.
        """
        settings = self.settings
        doors = (*settings.cot_doors(), *settings.monitor_doors(), *settings.marti_doors(), *settings.enroll_doors())
        defaults = settings.path == SYSTEM_FILE or any(_kind(door) in TLS_KINDS for door in doors)
        found = {key: getattr(settings.ssl, key) for key in FILE_KEYS}
        return {
            key: path
            for key, path in found.items()
            if path is not None and (defaults or path != getattr(SYSTEM_SSL, key))
        }

    def encrypted(self) -> bool:
        """Whether clients are served over TLS."""
        return any(_kind(door) in TLS_KINDS for door in self.settings.cot_doors())

    def port(self) -> int:
        """Tell the port of CoT, over TLS if that is served."""
        wanted = TLS_KINDS if self.encrypted() else ("tcp",)
        for door in self.settings.cot_doors():
            if _kind(door) in wanted:
                words, keys = split(door)
                text = keys.get("port", words[1] if len(words) > 1 else "")
                if text.isdigit():
                    return int(text)
        return COT_TLS_PORT if self.encrypted() else COT_PORT

    def host(self) -> str:
        """Tell how clients reach this server from outside: the public address, else the name.

        An IPv6 address cannot stand in ATAK's connect string, which it splits at every colon (ATAK-CIV
        ``comms/NetConnectString.java``).
        """
        public = self.settings.public_ip
        return self.settings.hostname if public is None or _is_ipv6(public) else public

    def connection(self, authority: Authority) -> Connection:
        """Describe the server as packages do."""
        password = self.settings.ssl.server_p12_pw or ""
        check_password(password)
        trusted = trust_store(self.trusted(authority), password)
        return Connection(self.settings.hostname, self.host(), self.port(), trusted, password)

    def write_crl(self, authority: Authority) -> Path:
        """Write the revocation list for programs other than ours, beside the register."""
        return self.register().publish(authority)

    def server_names(self) -> list[str]:
        """List by which names and addresses the configuration says that clients come."""
        named = (self.settings.hostname, self.settings.public_ip)
        return list(dict.fromkeys(name for name in named if name is not None))

    def _named(self, key: str) -> Path:
        path = self.files().get(key)
        if path is None:
            more = "set it" if self.encrypted() else "a site that serves without TLS has no certificates"
            raise CommandError(f"{self.name}: [ssl] {key} names no file; {more}")
        return path

    def _trust_store(self) -> list[x509.Certificate]:
        path = self.settings.ssl.server_p12
        if path is None or not path.exists():
            return []
        try:
            return read_authorities(path.read_bytes(), self.settings.ssl.server_p12_pw)
        except (EnrollmentError, OSError) as error:
            raise CommandError(f"the trust store {path} ([ssl] server_p12, server_p12_pw): {error}") from error


def load_authority(key: Source, certificates: list[x509.Certificate], others: list[x509.Certificate]) -> Authority:
    """Put an authority together: of some certificates the one of the key, and those above it.

    Raises:
        CommandError: none is of that key.
    """
    private = load_key(key, None)
    own = next((each for each in certificates if each.public_key() == private.public_key()), None)
    if own is None:
        raise CommandError(f"{key}: none of the authority's certificates belongs to this key")
    return Authority(private, own, chain_above(own, [*certificates, *others]))  # type: ignore[arg-type] # checked there


def _kind(door: str) -> str:
    return door.partition(":")[0].lower()


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
