"""Say in one plain sentence why a TLS connection did not come about.

The sentences are for the operator's log. What a peer wrote (names, issuers) is in them only in printable form.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from OpenSSL import SSL
from twisted.internet import defer, error

from taky_twisted.identity.certificates import certificate_of, covers, distinguished_name, printable
from taky_twisted.identity.transport import Handshake, TLSProtocol, tls_of

if TYPE_CHECKING:
    from cryptography import x509
    from twisted.python.failure import Failure

    from taky_twisted.identity.principal import Certificate

_CODES = SSL.X509VerificationCodes
_NOT_OURS = frozenset(
    {
        _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT,
        _CODES.ERR_CERT_SIGNATURE_FAILURE,
        _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
        _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN,
        _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        _CODES.ERR_CERT_UNTRUSTED,
        _CODES.ERR_SUBJECT_ISSUER_MISMATCH,
        _CODES.ERR_AKID_SKID_MISMATCH,
        _CODES.ERR_AKID_ISSUER_SERIAL_MISMATCH,
    }
)
_OTHERS = {
    _CODES.ERR_CERT_REVOKED: "is revoked",
    _CODES.ERR_INVALID_PURPOSE: "is not made for clients (its extended key usage lacks clientAuth)",
    _CODES.ERR_INVALID_CA: "was signed by a certificate that is not an authority's",
    66: "has a key that is too short",
    67: "was signed with a key that is too short",
    68: "is signed with a digest that is too weak (SHA-1 or MD5)",
}
_HTTP = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"PRI * HTTP")
_PROXY = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")
_TLS_RECORDS = b"\x14\x15\x16\x17"
_NOT_TLS = "the client speaks something that is not TLS"
_NOT_IN_IT = "which is not in it"


def looks_like_tls(data: bytes) -> bool:
    """Whether the first bytes of a stream are the start of a TLS handshake; three bytes are needed to tell."""
    return len(data) >= 3 and data[0] == 0x16 and data[1] == 3 and data[2] <= 4 and data[5:6] in (b"", b"\x01")


def shown_as(certificate: Certificate) -> str:
    """Name a client's certificate in a sentence."""
    name, issuer = printable(certificate.common_name), printable(certificate.issuer)
    return f"the client's certificate ({name}, serial {certificate.serial_hex}, issued by {issuer})"


def verify_refusal(code: int, certificate: x509.Certificate, depth: int, authorities: Collection[str]) -> str:
    """Say why OpenSSL does not accept a certificate.

    Args:
        code: OpenSSL's ``X509_V_ERR_...``.
        certificate: The one that it was checking.
        depth: 0 for the client's own, more for those above it.
        authorities: The names (RFC 4514) of the authorities that we trust.
    """
    if depth == 0:
        what = shown_as(certificate_of(certificate))
    else:
        what = f"an authority's certificate above the client's ({distinguished_name(certificate.subject)})"
    if code == _CODES.ERR_CERT_HAS_EXPIRED:
        return f"{what} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if code == _CODES.ERR_CERT_NOT_YET_VALID:
        begin = certificate.not_valid_before_utc
        return f"{what} is not valid before {begin:%Y-%m-%d %H:%M} UTC; is a clock wrong?"
    if code in _NOT_OURS:
        if distinguished_name(certificate.issuer) in authorities:
            return f"{what} is from another authority than ours, one with the same name but another key"
        if certificate.issuer == certificate.subject:
            return f"{what} is signed by itself, not by an authority that we trust"
        return f"{what} is from an authority that we do not trust"
    return f"{what} {_OTHERS.get(code, f'does not pass OpenSSL (verify error {code})')}"


def explain(reason: Failure, transport: object = None) -> str:
    """Say why a connection ended before its TLS handshake was complete.

    Args:
        reason: What ``connectionLost`` was told. A `TimeoutError` stands for a handshake that took too long: who keeps
            that deadline passes ``Failure(TimeoutError())``.
        transport: The protocol's transport, while it is inside ``connectionLost`` or earlier; without it, or if the
            connection is not ours, the sentence knows less.
    """
    tls = tls_of(transport)
    handshake = tls.handshake if tls is not None else Handshake()
    if (problem := _not_tls(handshake.first_bytes)) is not None:
        return problem
    if handshake.refusal is not None:
        return handshake.refusal
    if reason.check(error.TimeoutError, defer.TimeoutError, TimeoutError):
        return "the client did not finish the TLS handshake in time"
    if reason.check(SSL.Error):
        return _from_openssl(_reasons(reason.value), _missing_name(tls))
    if reason.check(error.ConnectionAborted):
        return "this server closed the connection before the TLS handshake was complete"
    if not handshake.first_bytes:
        return "the client closed the connection without sending anything"
    missing = _missing_name(tls)
    if missing is not None:
        return _not_accepted("it closed the connection", missing)
    return (
        "the client closed the connection in the middle of the TLS handshake; perhaps it does not trust our certificate"
    )


def explain_silence(transport: object) -> str | None:
    """Say why somebody may have left without a word after a complete TLS handshake; None if nothing speaks for it.

    Java's and Twisted's clients look at the names in a certificate only then.
    """
    missing = _missing_name(tls_of(transport))
    return None if missing is None else _not_accepted("it left without a word", missing)


def _not_accepted(how: str, missing: str) -> str:
    return f"the client does not accept our certificate ({how}), probably because it called us {missing}, {_NOT_IN_IT}"


def _missing_name(tls: TLSProtocol | None) -> str | None:
    """Name the host that a client wanted to reach, if our certificate is not good for it.

    Who calls us by a name says so in its greeting. Who calls us by an address does not: then it is that of our end,
    unless a router stands in between.
    """
    handle = tls.getHandle() if tls is not None else None
    if tls is None or handle is None:
        return None
    name = handle.get_servername()
    host = name.decode("ascii", "replace") if name is not None else tls.handshake.host
    if host is None or covers(tls.factory.creator.certificate, host):
        return None
    return printable(host)


def _not_tls(first: bytes) -> str | None:
    if not first or first[0] in _TLS_RECORDS:
        return None
    if first.startswith(_HTTP):
        return "the client speaks plain HTTP; this port wants TLS (https)"
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "the client speaks plain XML (CoT without TLS); this port wants TLS"
    if first.startswith(_PROXY):
        return "a load balancer sends the PROXY protocol; this port needs inner=haproxy\\:tcp\\:PORT for that"
    if first[0] == 0xBF:
        return "the client speaks the plain TAK protocol (protobuf without TLS); this port wants TLS"
    return _NOT_TLS


def _reasons(failed: BaseException | None) -> list[str]:
    queue = failed.args[0] if failed is not None and failed.args else ()
    return [str(entry[-1]).lower() for entry in queue] if isinstance(queue, (list, tuple)) else []


def _from_openssl(reasons: list[str], missing: str | None) -> str:
    words = "; ".join(reasons)
    if "peer did not return a certificate" in words:
        return "the client showed no certificate"
    if "http request" in words or "https proxy request" in words:
        return "the client speaks plain HTTP; this port wants TLS (https)"
    if "alert" in words:
        return _from_alert(words, missing)
    if any(each in words for each in ("unsupported protocol", "version too low", "inappropriate fallback")):
        return "the client speaks only TLS versions that are too old for this port"
    if any(each in words for each in ("no shared cipher", "no suitable", "no shared", "no ciphers")):
        return "the client and this port have no cipher (or signature algorithm) in common"
    if "certificate verify failed" in words:
        return "the client's certificate is not accepted"
    if "wrong version number" in words:
        return _NOT_TLS
    if not words:
        return "the client closed the connection in the middle of the TLS handshake"
    return f"TLS failed: {words}"


def _from_alert(words: str, missing: str | None) -> str:
    alert = words[words.index("alert") + len("alert") :].split(";")[0].strip()
    if missing is not None and ("bad certificate" in alert or "certificate unknown" in alert):
        # "unknown ca" is about the authority alone; these are said of a wrong name as well.
        return _not_accepted(f"alert: {alert}", missing)
    if any(each in alert for each in ("unknown ca", "bad certificate", "certificate unknown", "decrypt error")):
        return f"the client does not trust our certificate (alert: {alert}); its truststore must have our authority"
    if "certificate expired" in alert:
        return f"the client says that our certificate has expired (alert: {alert}); is a clock wrong?"
    if "unsupported certificate" in alert or "certificate revoked" in alert:
        return f"the client does not accept our certificate (alert: {alert})"
    if "protocol version" in alert:
        return f"the client does not speak the TLS versions of this port (alert: {alert})"
    if "handshake failure" in alert or "insufficient security" in alert:
        return f"the client found no TLS settings in common with this port (alert: {alert})"
    if "user canceled" in alert or "user cancelled" in alert or "close notify" in alert:
        return f"the client gave up (alert: {alert})"
    return f"the client ended the TLS handshake (alert: {alert})"
