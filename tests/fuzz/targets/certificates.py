"""Keys, certificates, revocation lists, requests for certificates, and PKCS#12 files of strangers and operators.

The first byte chooses. Holds: each reader raises its own error and nothing else; a request is only taken with a key of
a kind and size that we sign; what is read of a certificate is fit for the log, the register and a file's name; none of
it takes long, whatever numbers are in it.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import datetime, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from taky_twisted.enrollment import authority, keystores, register, signing_requests
from taky_twisted.enrollment.authority import Authority
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.keystores import client_keystore, enrollment_keystore, read_authorities, trust_store
from taky_twisted.enrollment.register import CLIENT, record_of
from taky_twisted.identity import certificates as shown
from taky_twisted.identity import credentials, refusals
from taky_twisted.identity.credentials import (
    Source,
    load_authorities,
    load_certificates,
    load_credentials,
    load_key,
    load_pkcs12,
    load_revoked,
)
from taky_twisted.identity.errors import EndpointError
from tests.fuzz.inputs import memory_folder
from tests.fuzz.target import Target

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
_folder = memory_folder("certificates")
_file = _folder / "file.pem"
_source = Source("[ssl] ca", str(_file))
_KEY = ec.generate_private_key(ec.SECP256R1())
_AUTHORITY = Authority.make("tak.example", NOW, _KEY)

assert authority and credentials and keystores and register  # to be instrumented


def request(data: bytes) -> None:
    """Read a request, and sign it."""
    try:
        found = signing_requests.read_request(data)
    except EnrollmentError as error:
        assert len(str(error)) < 500
        return
    key = found.key
    if isinstance(key, rsa.RSAPublicKey):
        assert 2048 <= key.key_size <= 8192
    else:
        assert isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1))
    certificate = _AUTHORITY.sign_client("alpha", key, NOW, 1)
    described(certificate)
    assert enrollment_keystore(certificate, [_AUTHORITY.certificate], keystores.PASSWORD)


def described(certificate: x509.Certificate) -> None:
    """See what is kept of a certificate."""
    about = shown.certificate_of(certificate)
    assert about.common_name and about.common_name.isprintable() and len(about.common_name) <= 4 * 10 * shown.NAME_LIMIT
    assert about.issuer.isprintable() or not about.issuer
    record = record_of(certificate, CLIENT)
    assert set(record.serial_hex) <= set("0123456789abcdef-")
    shown.covers(certificate, "tak.example")


def pem(data: bytes) -> None:
    """Read a file that the operator has named, as everything that it may be."""
    _file.write_bytes(data)
    with suppress(EndpointError):
        for certificate in load_certificates(_source):
            with suppress(*shown.UNREADABLE):
                described(certificate)
    with suppress(EndpointError):
        load_credentials(_source, _source, "atakatak")
    for password in (None, "atakatak"):
        with suppress(EndpointError):
            load_key(_source, password)
    with suppress(EndpointError):
        load_authorities(_source)
    with suppress(EndpointError):
        load_revoked(_source, [_AUTHORITY.certificate])


def pkcs12(data: bytes) -> None:
    """Read a PKCS#12 file."""
    _file.write_bytes(data)
    for password in (None, "atakatak"):
        with suppress(EndpointError):
            load_pkcs12(_source, password)
        with suppress(EnrollmentError):
            for found in read_authorities(data, password):
                with suppress(*shown.UNREADABLE):
                    described(found)


def der(data: bytes) -> None:
    """Read a certificate as a peer shows it, and say why it is refused."""
    with suppress(*shown.UNREADABLE):  # as in the handshake
        certificate = x509.load_der_x509_certificate(data)
        described(certificate)
        for code in (10, 18, 19, 20, 23, 26):
            for depth in (0, 1):
                assert refusals.verify_refusal(code, certificate, depth, ()).isprintable()


_READERS = {
    b"0": request,
    b"1": pem,
    b"2": pkcs12,
    b"3": der,
    b"4": lambda data: request(base64.b64encode(data)),  # so that a changed byte is one of the request
}


def run(data: bytes) -> None:
    if (reader := _READERS.get(data[:1])) is not None:
        reader(data[1:])


def _made_requests() -> list[bytes]:
    words = {NameOID.COMMON_NAME: "alpha", NameOID.ORGANIZATION_NAME: "T"}
    name = x509.Name([x509.NameAttribute(kind, word) for kind, word in words.items()])
    keys = (_KEY, ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 2048))
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    found = [builder.sign(key, hashes.SHA256()) for key in keys]
    found.append(builder.sign(ed25519.Ed25519PrivateKey.generate(), None))
    return [one.public_bytes(Encoding.DER) for one in found]


def _seeds() -> list[bytes]:
    requests = _made_requests()
    certificate = _AUTHORITY.certificate
    key = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    crl = _AUTHORITY.revocation_list([], NOW)
    spelled = [base64.b64encode(one) for one in requests]
    return [
        *(b"0" + one for one in spelled),
        *(b"4" + one for one in requests),
        b"0-----BEGIN REQUEST-----\n" + base64.encodebytes(requests[0]) + b"-----END REQUEST-----\n",
        b"1" + certificate.public_bytes(Encoding.PEM) + key,
        b"1" + crl.public_bytes(Encoding.PEM),
        b"1" + crl.public_bytes(Encoding.DER),
        b"1" + key.replace(b"PRIVATE", b"ENCRYPTED PRIVATE"),
        b"2" + trust_store([certificate], keystores.PASSWORD),
        b"2" + client_keystore("alpha", _KEY, certificate, [certificate], keystores.PASSWORD),
        b"3" + certificate.public_bytes(Encoding.DER),
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"-----BEGIN X509 CRL-----\n"),
        b"-----BEGIN ",
        *(b"-----END X509 CRL-----\n", b"PRIVATE KEY-----", b"\x30\x82", b"\x02\x03\x01\x00\x01"),
        b"\x06\x03\x55\x04\x03",
        *(b"\x0c\x05", b"\x1e\x04\xd8\x00\x00\x00", b"\x13\x00", b"\x17\x0d", b"\x18\x0f", b"\x02\x01\x00"),
        b"\xff\xff\xff\xff",
    ],
    max_bytes=6000,
    seconds=0.5,
)
