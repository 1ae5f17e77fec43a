"""A site's authority and register, for tests; nothing in it takes time to make."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from taky_twisted.enrollment.authority import Authority
from taky_twisted.enrollment.authority_files import AuthorityFiles, SiteAuthority
from taky_twisted.enrollment.issuing import Issuing
from taky_twisted.enrollment.register import CertificateRegister
from tests.pki import write_private


def made_authority(name: str = "tak.example") -> Authority:
    """Make an authority in no time."""
    return Authority.make(name, datetime.now(timezone.utc), ec.generate_private_key(ec.SECP256R1()))


def written(folder: Path, authority: Authority, *more: bytes) -> AuthorityFiles:
    """Write an authority's files, the certificate after others."""
    folder.mkdir(parents=True, exist_ok=True)
    pem = authority.certificate.public_bytes(Encoding.PEM)
    key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / "ca.crt", b"".join([*more, pem]))
    write_private(folder / "ca.key", key)
    return AuthorityFiles(folder / "ca.crt", folder / "ca.key", folder / "server.p12", "atakatak")


def issuing_in(folder: Path, authority: Authority | None = None) -> Issuing:
    """Make a site in a folder, and what signs there."""
    files = written(folder, authority or made_authority())
    register = CertificateRegister(folder / "cert-db.txt")
    register.create()
    return Issuing(SiteAuthority(files), register)
