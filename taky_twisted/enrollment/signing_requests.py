"""Read certificate signing requests (PKCS#10) as clients send them, and take nothing from them but the key.

Seen in the field: PEM; base64 without markers, on one line or many, after an empty line; a marker only at one end.
ATAK signs its requests with SHA-1 (ATAK-CIV commo ``core/impl/cryptoutil.cpp``), which ``cryptography`` calls invalid
without looking: the signature is verified here by hand. It proves that the sender has the private key, nothing more.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from taky_twisted.enrollment.authority import ClientKey
from taky_twisted.enrollment.errors import BadRequest
from taky_twisted.identity.certificates import UNREADABLE

MAX_BYTES = 16 << 10
"""Of a request as it is sent; one with an RSA-8192 key has about 3 KiB."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
MAX_EXPONENT_BITS = 32  # 65537 is usual; a long one makes checking the signature slow

_MARKER = re.compile(rb"-----[^-\r\n]{0,80}-----")
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_HASHES = (hashes.SHA1, hashes.SHA224, hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """What is taken from a request."""

    key: ClientKey
    common_name: str | None
    """For whom the client says it is; never believed, only compared with who it is."""


def read_request(body: bytes) -> SigningRequest:
    """Read a request, and check that its sender has the private key.

    Raises:
        BadRequest: it cannot be read, or its key is of a kind that we do not sign.
    """
    if len(body) > MAX_BYTES:
        raise BadRequest(f"the request has {len(body)} bytes; allowed: {MAX_BYTES}")
    try:
        der = base64.b64decode(b"".join(_MARKER.sub(b"", body).split()), validate=True)
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
    except (binascii.Error, *UNREADABLE) as error:
        raise BadRequest("not a certificate signing request (PKCS#10, as PEM or base64) that can be read") from error
    checked = _checked(key)
    _verify(request, checked)
    return SigningRequest(checked, _common_name(request))


def _checked(key: object) -> ClientKey:
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise BadRequest(f"an RSA key of {key.key_size} bits; allowed: {MIN_RSA_BITS} to {MAX_RSA_BITS}")
        if key.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
            raise BadRequest("an RSA key with an unusually large exponent; allowed: up to 32 bits, as 65537")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise BadRequest(f"a key on the curve {key.curve.name}; allowed: P-256 and P-384")
        return key
    raise BadRequest("a key that is neither RSA nor of an elliptic curve; allowed: RSA, P-256 and P-384")


def _verify(request: x509.CertificateSigningRequest, key: ClientKey) -> None:
    try:
        algorithm = request.signature_hash_algorithm
        if not isinstance(algorithm, _HASHES):
            raise BadRequest("signed with an unusual hash; allowed: SHA-1 and SHA-2")
        if isinstance(key, rsa.RSAPublicKey):
            filling = request.signature_algorithm_parameters
            if not isinstance(filling, (padding.PKCS1v15, padding.PSS)):
                raise BadRequest("the signature's algorithm does not fit the key")
            key.verify(request.signature, request.tbs_certrequest_bytes, filling, algorithm)
        else:
            key.verify(request.signature, request.tbs_certrequest_bytes, ec.ECDSA(algorithm))
    except (InvalidSignature, *UNREADABLE) as error:
        raise BadRequest("its signature is wrong: the request was damaged, or its key is somebody else's") from error


def _common_name(request: x509.CertificateSigningRequest) -> str | None:
    try:
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except UNREADABLE:
        return None
    return str(names[0].value) if names else None
