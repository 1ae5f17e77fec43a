"""The site's enrollment door, as phones will find it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from cryptography import x509
from OpenSSL import crypto

from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.site import Site
from taky_twisted.config.settings import ENROLL_PORT
from taky_twisted.endpoints.strings import split
from taky_twisted.identity.certificates import covers
from taky_twisted.identity.credentials import Credentials, Source, load_credentials, load_pkcs12


@dataclass(frozen=True)
class EnrollDoor:
    """What phones meet there."""

    host: str
    """By which they call it."""
    port: int
    public: bool
    """Whether they trust it without having imported anything."""

    @classmethod
    def of(cls, site: Site) -> EnrollDoor:
        """Look at the site's configuration.

        Raises:
            CommandError: there is no such door, or its certificate cannot be read.
        """
        doors = site.settings.enroll_doors()
        if not doors:
            raise CommandError(
                f"{site.name}: there is no enrollment port; name one with 'enroll_endpoints = ssl:{ENROLL_PORT}' in"
                " section [dp_server]"
            )
        words, keys = split(doors[0])
        port = keys.get("port", words[1] if len(words) > 1 else "")
        shown = _credentials(site, keys)
        named = [site.host(), *site.server_names()]
        covered = next((host for host in named if covers(shown.certificate, host)), None)
        public = covered is not None and _is_public(shown)
        return cls(
            covered if public and covered is not None else site.host(),
            int(port) if port.isdigit() else ENROLL_PORT,
            public,
        )


def _credentials(site: Site, keys: dict[str, str]) -> Credentials:
    section = site.settings.ssl
    if "pkcs12" in keys:
        return load_pkcs12(Source("pkcs12", keys["pkcs12"]), keys.get("keyPassword"))
    certificate = keys.get("certKey") or (str(section.cert) if section.cert is not None else None)
    key = keys.get("privateKey") or (str(section.key) if section.key is not None else certificate)
    if certificate is None or key is None:
        raise CommandError(f"{site.name}: the enrollment port has no certificate; set cert and key in section [ssl]")
    return load_credentials(
        Source("privateKey", key), Source("certKey", certificate), keys.get("keyPassword", section.key_pw)
    )


def _is_public(shown: Credentials) -> bool:
    """Whether this system, as phones do, trusts a certificate without being told to."""
    paths = ssl.get_default_verify_paths()
    store = crypto.X509Store()
    if paths.cafile is None and paths.capath is None:
        return False
    store.load_locations(paths.cafile, paths.capath)
    between = [crypto.X509.from_cryptography(each) for each in shown.chain]
    try:
        crypto.X509StoreContext(store, _openssl(shown.certificate), between).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


def _openssl(certificate: x509.Certificate) -> crypto.X509:
    return crypto.X509.from_cryptography(certificate)
