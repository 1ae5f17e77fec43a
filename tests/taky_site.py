"""A site as taky 0.10's own ``takyctl setup`` and ``build_client`` leave it, made for tests.

Names, files, the configuration's text and the fields of certificates are taky's; keys are of an elliptic curve, which
take no time to make. Source: taky 0.10, ``taky/cli/setup_taky_cmd.py``, ``taky/util/anc.py``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.pki import Authority, Credentials, days_from_now, write_private

CONF = """\
[taky]
hostname = {host}
node_id = TAKY
bind_ip = {bind}
public_ip = {public}
{redis}
root_dir = .

[cot_server]
port = {port}
mon_ip
mon_port
log_cot
max_persist_ttl = -1

[dp_server]
upload_path = ./dp-user

[ssl]
enabled = {tls}
client_cert_required = True
ca = ./ssl/ca.crt
ca_key = ./ssl/ca.key
server_p12 = ./ssl/server.p12
server_p12_pw = atakatak
cert = ./ssl/server.crt
key = ./ssl/server.key
key_pw
cert_db = ./ssl/cert-db.txt

"""


class TakySite:
    """The folder, and in memory what a phone has: the client's key and certificate."""

    def __init__(self, folder: Path, host: str, public: str) -> None:
        self.folder, self.ssl, self.conf = folder, folder / "ssl", folder / "taky.conf"
        self._host, self._public = host, public
        self.authority = _authority()
        self.server = self.authority.issue(host, ends=730)
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        self.server = _with(self.server, self.authority, names)
        self.client = self.authority.issue("ALPHA", ends=730)
        self.stranger = Authority("Stranger").issue(host, server=True)
        self.ssl.mkdir(parents=True)
        (folder / "dp-user/meta").mkdir(parents=True)
        self.configure()
        self.write()

    def configure(self, *, redis: str | None = None, tls: bool = True, bind: str = "127.0.0.1", port: int = 0) -> None:
        """Write the configuration."""
        text = CONF.format(
            host=self._host,
            public=self._public,
            bind=bind,
            redis="redis" if redis is None else f"redis = {redis}",
            tls="true" if tls else "false",
            port=port or (8089 if tls else 8087),
        )
        self.conf.write_text(text, "utf-8")

    def write(self, server: Credentials | None = None) -> None:
        """Write keys, certificates and the register."""
        server = server or self.server
        own = Credentials(self.authority.key, self.authority.certificate, self.authority.certificate)
        write_private(self.ssl / "ca.key", own.key_pem())
        write_private(self.ssl / "server.key", server.key_pem())
        (self.ssl / "ca.crt").write_bytes(self.authority.pem)
        (self.ssl / "server.crt").write_bytes(server.pem)
        (self.ssl / "server.p12").write_bytes(server.pkcs12("atakatak", with_key=False))
        lines = [
            "\t".join(
                (
                    "V",
                    f"{each.not_valid_before_utc:%Y-%m-%dT%H:%M:%S}",
                    f"{each.not_valid_after_utc:%Y-%m-%dT%H:%M:%S}",
                    f"{each.serial_number:040x}",
                    name,
                )
            )
            for each, name in ((self.server.certificate, self._host), (self.client.certificate, "ALPHA"))
        ]
        (self.ssl / "cert-db.txt").write_text("\n".join(lines) + "\n", "utf-8")

    def remove(self) -> None:
        """Take everything away."""
        shutil.rmtree(self.folder)


def _authority() -> Authority:
    """Make an authority with the name that every site of taky has."""
    authority = Authority()
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "CA"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "taky")]
    )
    key = authority.key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(days_from_now(-1))
        .not_valid_after(days_from_now(100))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    authority.certificate = builder.sign(authority.key, hashes.SHA256())
    return authority


def _with(credentials: Credentials, authority: Authority, names: x509.SubjectAlternativeName) -> Credentials:
    """Give a certificate alternative names: of taky's servers it is the host name alone."""
    old = credentials.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(credentials.key.public_key())
        .serial_number(old.serial_number)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
    )
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
    certificate = builder.sign(authority.key, hashes.SHA256())
    assert certificate.public_bytes(Encoding.DER)
    return Credentials(credentials.key, certificate, authority.certificate)
