"""Turn a peer's certificate into a `Principal`."""

from __future__ import annotations

import ipaddress
import unicodedata
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from taky_twisted.identity.principal import ANONYMOUS, Certificate, Principal

if TYPE_CHECKING:
    from collections.abc import Iterator

UNREADABLE = (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm)
"""What reading something that others have made may raise, also later: what is inside is only read when asked for."""
NAME_LIMIT = 256
"""Characters of a name that we keep; RFC 5280 allows 64 in a common name."""

_READABLE = (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier, x509.IPAddress)


def principal_of(transport: object) -> Principal:
    """Say who the other end of a connection is proved to be.

    Call it in ``handshakeCompleted`` or later: in ``connectionMade`` the peer has not shown anything yet. A peer
    without a certificate, or without TLS, is `ANONYMOUS`.
    """
    handle = getattr(transport, "getHandle", lambda: None)()
    peer_certificate = getattr(handle, "get_peer_certificate", None)
    certificate = peer_certificate(as_cryptography=True) if peer_certificate is not None else None
    if certificate is None:
        return ANONYMOUS
    shown = certificate_of(certificate)
    return Principal(name=shown.common_name, certificate=shown)


def certificate_of(certificate: x509.Certificate) -> Certificate:
    """Keep of a certificate what the rest of the server asks about."""
    return Certificate(
        common_name=name_in(certificate),
        issuer=distinguished_name(certificate.issuer),
        serial=certificate.serial_number,
        begins=certificate.not_valid_before_utc.timestamp(),
        ends=certificate.not_valid_after_utc.timestamp(),
    )


def name_in(certificate: x509.Certificate) -> str:
    """Name whom a certificate stands for; never empty, and fit for a log line.

    The first of these that is not blank: the common name, a subject alternative name, the whole subject, the serial.
    """
    for name in _names_in(certificate):
        if safe := printable(name.strip()):
            return safe
    return f"serial {certificate.serial_number:X}"


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether a server's certificate is good for the name or address by which a client calls the server.

    Without subject alternative names its common name counts, which not every client accepts.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError, TypeError):
        spelled = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        return any(_is_called(name, host) for name in spelled)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return any(_is_called(name, host) for name in names.get_values_for_type(x509.DNSName))
    return address in names.get_values_for_type(x509.IPAddress)


def _is_called(name: str, host: str) -> bool:
    name, host = name.lower(), host.lower().rstrip(".")
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return host == name


def distinguished_name(name: x509.Name) -> str:
    """Spell a subject or an issuer as RFC 4514 does, fit for a log line."""
    return printable(name.rfc4514_string(), limit=None)


def printable(text: str, limit: int | None = NAME_LIMIT) -> str:
    r"""Write control and formatting characters as escapes (``\x0a``), so that a name cannot forge a log line."""
    return "".join(
        character.encode("unicode_escape").decode("ascii") if unicodedata.category(character)[0] == "C" else character
        for character in text[:limit]
    )


def _names_in(certificate: x509.Certificate) -> Iterator[str]:
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield str(attribute.value)
    try:
        others = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError, TypeError):
        # None there, or spelled so that they cannot be read: the certificate still has its subject.
        others = []
    for other in others:
        if isinstance(other, x509.DirectoryName):
            yield other.value.rfc4514_string()
        elif isinstance(other, _READABLE):
            yield str(other.value)
    yield certificate.subject.rfc4514_string()
