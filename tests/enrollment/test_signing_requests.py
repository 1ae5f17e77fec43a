from __future__ import annotations

import base64
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.errors import BadRequest
from taky_twisted.enrollment.signing_requests import MAX_BYTES, read_request
from tests.enrollment.programs import openssl

EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str | None = "ALPHA", **how: object) -> bytes:
    """Make a request in PEM."""
    attributes = [] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    return builder.sign(key, hashes.SHA256(), **how).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


class SigningRequestTests(SynchronousTestCase):
    def refuse(self, body: bytes) -> str:
        return str(self.assertRaises(BadRequest, read_request, body))

    def test_row20_sha1(self) -> None:
        """A request as ATAK makes it, RSA-4096 and SHA-1, is read in every spelling that clients have."""
        folder = Path(self.mktemp())
        folder.mkdir()
        key, subject = str(folder / "key"), "/CN=alpha/O=TAK/OU=TAK"
        pem = openssl(
            "req", "-new", "-newkey", "rsa:4096", "-sha1", "-nodes", "-keyout", key, "-subj", subject
        ).encode()
        self.assertFalse(x509.load_pem_x509_csr(pem).is_signature_valid)  # why it is checked by hand
        lines = pem.split(b"\n")[1:-2]
        bodies = {
            "PEM": pem,
            "PEM, CRLF": pem.replace(b"\n", b"\r\n"),
            "base64, lines": b"\n".join(lines),
            "base64, CRLF, leading newline": b"\n" + b"\r\n".join(lines) + b"\r\n",
            "base64, one line": b"".join(lines),
            "no end": b"\n".join([b"-----BEGIN CERTIFICATE REQUEST-----", *lines]),
            "end twice": pem + b"-----END CERTIFICATE REQUEST-----\n",
            "new": pem.replace(b"CERTIFICATE", b"NEW CERTIFICATE"),
        }
        for spelling, body in bodies.items():
            found = read_request(body)
            self.assertEqual(found.common_name, "alpha", spelling)
            assert isinstance(found.key, rsa.RSAPublicKey)
            self.assertEqual(found.key.key_size, 4096)

    def test_keys(self) -> None:
        """RSA and the two usual curves are taken, also with the newer kind of RSA signature."""
        for key in (EC_KEY, ec.generate_private_key(ec.SECP384R1()), RSA_KEY):
            self.assertEqual(read_request(request(key)).key, key.public_key())
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        self.assertEqual(read_request(request(RSA_KEY, rsa_padding=pss)).key, RSA_KEY.public_key())

    def test_keys_refused(self) -> None:
        """Keys that are too weak, too large or of another kind are refused with what is allowed."""
        weak = openssl("req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=A")
        self.assertEqual(self.refuse(weak.encode()), "an RSA key of 1024 bits; allowed: 2048 to 8192")
        self.assertIn("P-256 and P-384", self.refuse(request(ec.generate_private_key(ec.SECP521R1()))))
        self.assertIn("secp256k1", self.refuse(request(ec.generate_private_key(ec.SECP256K1()))))
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        edwards = builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM)
        self.assertIn("neither RSA nor", self.refuse(edwards))

    def test_large_exponent(self) -> None:
        """A key whose signature would take long to check is refused before it is."""
        key = str(Path(self.mktemp()))
        options = [
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-pkeyopt",
            f"rsa_keygen_pubexp:{2**40 + 15}",
        ]
        openssl("genpkey", *options, "-out", key)
        self.assertIn("large exponent", self.refuse(openssl("req", "-new", "-key", key, "-subj", "/CN=A").encode()))

    def test_name(self) -> None:
        """A request without a name has none; which one it has is for others to judge."""
        self.assertIsNone(read_request(request(EC_KEY, None)).common_name)
        self.assertEqual(read_request(request(EC_KEY, "Jörg Müller")).common_name, "Jörg Müller")

    def test_forged(self) -> None:
        """Who does not have the private key gets nothing: the signature has to be right."""
        for key in (EC_KEY, RSA_KEY):
            der = bytearray(x509.load_pem_x509_csr(request(key)).public_bytes(Encoding.DER))
            der[-1] ^= 1
            self.assertIn("signature is wrong", self.refuse(base64.b64encode(der)))
            der = bytearray(x509.load_pem_x509_csr(request(key)).public_bytes(Encoding.DER))
            at = der.index(b"ALPHA")
            der[at : at + 5] = b"ADMIN"
            self.assertIn("signature is wrong", self.refuse(base64.b64encode(der)))

    def test_other_algorithm(self) -> None:
        """A signature that says it was made with another kind of key is refused."""
        der = bytearray(x509.load_pem_x509_csr(request(RSA_KEY)).public_bytes(Encoding.DER))
        rsa_sha256, ecdsa_sha256 = "300d06092a864886f70d01010b0500", "300a06082a8648ce3d040302"
        der = der.replace(bytes.fromhex(rsa_sha256), bytes.fromhex(ecdsa_sha256))
        der[2:4] = (int.from_bytes(der[2:4], "big") - 3).to_bytes(2, "big")
        self.assertIn("does not fit the key", self.refuse(base64.b64encode(der)))

    def test_unreadable_name(self) -> None:
        """A rightly signed request whose name is no text is a request without a name."""
        found = x509.load_pem_x509_csr(request(RSA_KEY))
        # Bytes that are no UTF-8, and a string of bits.
        for old, new in ((b"ALPHA", b"\xff\xff\xff\xff\xff"), (b"\x0c\x05ALPHA", b"\x03\x05\0LPHA")):
            tbs = found.tbs_certrequest_bytes.replace(old, new)
            self.assertNotEqual(tbs, found.tbs_certrequest_bytes)
            der = found.public_bytes(Encoding.DER).replace(found.tbs_certrequest_bytes, tbs)
            der = der.replace(found.signature, RSA_KEY.sign(tbs, padding.PKCS1v15(), hashes.SHA256()))
            self.assertIsNone(read_request(base64.b64encode(der)).common_name)

    def test_hash(self) -> None:
        """A signature with MD5 proves nothing."""
        pem = openssl("req", "-new", "-newkey", "rsa:2048", "-md5", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=A")
        self.assertIn("unusual hash", self.refuse(pem.encode()))

    def test_size(self) -> None:
        """A body of 16 KiB is looked at, one byte more is not."""
        self.assertEqual(read_request(request(EC_KEY).ljust(MAX_BYTES, b"\n")).common_name, "ALPHA")
        self.assertIn("allowed: 16384", self.refuse(request(EC_KEY).ljust(MAX_BYTES + 1, b"\n")))

    def test_garbage(self) -> None:
        """Garbage is refused as such."""
        for body in (b"", b"\n", b"hello", b"AAAA", b"-----BEGIN CERTIFICATE REQUEST-----", b"\xff\xfe", b"=" * 99):
            self.assertIn("not a certificate signing request", self.refuse(body))

    @given(st.binary(max_size=2000), st.integers(0, 700), st.integers(0, 255))
    def test_any(self, body: bytes, at: int, value: int) -> None:
        """Whatever comes, it is read or refused."""
        der = bytearray(x509.load_pem_x509_csr(request(EC_KEY)).public_bytes(Encoding.DER))
        der[at % len(der)] = value
        for each in (body, base64.b64encode(body), base64.b64encode(der)):
            try:
                read_request(each)
            except BadRequest as error:
                self.assertTrue(str(error))
