"""Make a new site: all of it is thought out before the first file is written, and nothing is ever overwritten."""

from __future__ import annotations

import os
import pwd
import shutil
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.site import load_authority
from taky_twisted.config.settings import COT_PORT, COT_TLS_PORT, ENROLL_PORT
from taky_twisted.endpoints.strings import joined
from taky_twisted.enrollment.authority import Authority, SigningKey, chain_above, make_key
from taky_twisted.enrollment.keystores import trust_store
from taky_twisted.enrollment.register import CRL_NAME, SERVER, CertificateRegister
from taky_twisted.files import PRIVATE, PUBLIC, sync_folder, write_new
from taky_twisted.identity.credentials import Credentials, Source, load_certificates, load_credentials

CONF = "taky.conf"
REGISTER = "cert-db.txt"
_REGISTER_NAMES = (REGISTER, "cert-db.jsonl", f"{REGISTER}.lock", "issued")
_SSL_NAMES = ("ca.crt", "ca.key", "server.crt", "server.key", "server.p12", CRL_NAME, *_REGISTER_NAMES)
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@dataclass(frozen=True)
class Layout:
    """Where the parts of a site are."""

    conf: Path
    ssl: Path
    data: Path

    @classmethod
    def of_folder(cls, folder: Path) -> Layout:
        """Put everything into one folder."""
        return cls(folder / CONF, folder / "ssl", folder / "data")

    @classmethod
    def of_system(cls, root: Path = Path("/")) -> Layout:
        """Put everything where taky has it."""
        return cls(root / "etc/taky" / CONF, root / "etc/taky/ssl", root / "var/taky")

    def spelled(self, path: Path) -> str:
        """Spell a path as ``taky.conf`` does: what is in its folder is relative, so that the folder can be moved."""
        return str(path.relative_to(self.conf.parent)) if path.is_relative_to(self.conf.parent) else str(path)


@dataclass(frozen=True)
class Wishes:
    """What the operator wants."""

    hosts: tuple[str, ...]
    """Names, the main one first."""
    public: tuple[str, ...] = ()
    """Addresses by which clients come from outside, the main one first."""
    bind_ip: str = "0.0.0.0"
    encrypted: bool = True
    password: str = field(default="atakatak", repr=False)
    owner: str | None = None
    ca_certificate: Path | None = None
    ca_key: Path | None = None
    server_certificate: Path | None = None
    server_key: Path | None = None
    everywhere: bool = False
    """The server's given certificate is shown on all doors."""


@dataclass(frozen=True)
class Made:
    """A site that has just been made."""

    authority: Authority | None
    warnings: tuple[str, ...] = ()


def make_site(layout: Layout, wishes: Wishes, now: datetime, ca_key: SigningKey | None = None) -> Made:
    """Make a site.

    Args:
        layout: where.
        wishes: what.
        now: aware.
        ca_key: for the new authority, if there is one already; making it takes a second or more.

    Raises:
        CommandError: there is a site, or what was given cannot be used; nothing was written.
        OSError: it cannot be written; what was, is gone again.
    """
    _check_free(layout)
    owner = _owner(wishes.owner)
    warnings: list[str] = []
    given = _given_server(wishes)
    files: dict[Path, tuple[bytes, int]] = {}
    authority = server = None
    if wishes.encrypted:
        authority = _authority(wishes, now, ca_key)
        trusted = list(authority.chain)
        if given is not None and wishes.everywhere:
            trusted += _issuers(given, warnings)
        else:
            key = make_key()
            server = authority.sign_server([*wishes.hosts, *wishes.public], key.public_key(), now)
            shown = [server, *(each for each in authority.chain if each.subject != each.issuer)]
            files[layout.ssl / "server.crt"] = b"".join(map(_pem, shown)), PUBLIC
            files[layout.ssl / "server.key"] = key_pem(key), PRIVATE
        crl = authority.revocation_list([], now).public_bytes(Encoding.PEM)
        files |= {
            layout.ssl / "ca.crt": (_pem(authority.certificate), PUBLIC),
            layout.ssl / "ca.key": (key_pem(authority.key), PRIVATE),
            layout.ssl / "server.p12": (trust_store(trusted, wishes.password), PUBLIC),
            layout.ssl / CRL_NAME: (crl, PUBLIC),
        }
    files[layout.conf] = conf_text(layout, wishes).encode(), PRIVATE
    _write(layout, files, owner, server)
    return Made(authority, tuple(warnings))


def conf_text(layout: Layout, wishes: Wishes) -> str:
    """Spell the ``taky.conf`` of a new site."""
    lines = [
        "# taky.conf: one TAK server. Relative paths start at the folder of this file.",
        "",
        "[taky]",
        f"hostname = {wishes.hosts[0]}",
        f"bind_ip = {wishes.bind_ip}",
        *([f"public_ip = {wishes.public[0]}"] if wishes.public else []),
        f"root_dir = {layout.spelled(layout.data)}",
        "",
        "[cot_server]",
        f"port = {COT_TLS_PORT if wishes.encrypted else COT_PORT}",
        "",
        "[ssl]",
        f"enabled = {'true' if wishes.encrypted else 'false'}",
    ]
    if not wishes.encrypted:
        return "\n".join([*lines, ""])
    own = wishes.everywhere and wishes.server_certificate is not None
    certificate = wishes.server_certificate if own else layout.ssl / "server.crt"
    key = wishes.server_key if own else layout.ssl / "server.key"
    assert certificate is not None and key is not None
    lines += [
        "client_cert_required = true",
        f"ca = {layout.spelled(layout.ssl / 'ca.crt')}",
        f"ca_key = {layout.spelled(layout.ssl / 'ca.key')}",
        f"cert = {layout.spelled(certificate)}",
        f"key = {layout.spelled(key)}",
        f"cert_db = {layout.spelled(layout.ssl / REGISTER)}",
        "# What phones trust, and the password of that file:",
        f"server_p12 = {layout.spelled(layout.ssl / 'server.p12')}",
        f"server_p12_pw = {wishes.password}",
    ]
    if wishes.server_certificate is not None and not wishes.everywhere:
        paths = {"privateKey": wishes.server_key, "certKey": wishes.server_certificate}
        keys = {"interface": wishes.bind_ip} | {name: os.path.abspath(path) for name, path in paths.items() if path}
        lines += [
            "",
            "[dp_server]",
            "# Who enrolls is shown this certificate, which phones trust already:",
            f"enroll_endpoints = {joined(['ssl', str(ENROLL_PORT)], keys)}",
        ]
    return "\n".join([*lines, ""])


def key_pem(key: SigningKey) -> bytes:
    """Spell a private key as taky does, so that its tools read it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _check_free(layout: Layout) -> None:
    for path in (layout.conf, *(layout.ssl / name for name in _SSL_NAMES)):
        if os.path.lexists(path):
            raise CommandError(
                f"{path} is there already, and nothing is overwritten; name another folder, or use the site that is"
                f" there with 'takyctl -c {layout.conf}'"
            )


def _owner(name: str | None) -> tuple[int, int] | None:
    if name is None:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise CommandError(f"--user: there is no user {name!r} here; make it first (adduser --system)") from None
    return entry.pw_uid, entry.pw_gid


def _given_server(wishes: Wishes) -> Credentials | None:
    if wishes.server_certificate is None or wishes.server_key is None:
        return None
    return load_credentials(
        Source("--server-key", str(wishes.server_key)), Source("--server-cert", str(wishes.server_certificate)), None
    )


def _authority(wishes: Wishes, now: datetime, ca_key: SigningKey | None) -> Authority:
    if wishes.ca_certificate is None or wishes.ca_key is None:
        return Authority.make(wishes.hosts[0], now, ca_key)
    certificates = load_certificates(Source("--ca-cert", str(wishes.ca_certificate)))
    return load_authority(Source("--ca-key", str(wishes.ca_key)), certificates, [])


def _issuers(given: Credentials, warnings: list[str]) -> list[x509.Certificate]:
    """Find whom a phone has to trust for a certificate of somebody else."""
    chain = list(chain_above(given.certificate, given.chain))
    top = chain[-1] if chain else given.certificate
    if top.subject == top.issuer:
        return chain or [top]
    root = chain_above(top, _system_roots())
    chain += root
    if not chain:
        raise CommandError(
            "--server-cert: its issuer is neither in that file nor among this system's roots; append the"
            " certificates between it and the root to the file (certbot calls that fullchain.pem)"
        )
    if not root:
        warnings.append("the root above the certificate of --server-cert is not known here; phones get what is below")
    return chain


def _system_roots() -> list[x509.Certificate]:
    for path in (ssl.get_default_verify_paths().cafile, *_BUNDLES):
        if path is not None and os.path.exists(path):
            return load_certificates(Source("the system's roots", path))
    return []


def _write(
    layout: Layout, files: dict[Path, tuple[bytes, int]], owner: tuple[int, int] | None, server: x509.Certificate | None
) -> None:
    conf = files.pop(layout.conf)
    made: list[Path] = []
    try:
        for folder in (layout.conf.parent, layout.data, *([layout.ssl] if files else [])):
            made += _make_folder(folder)
        for path, (content, mode) in files.items():
            write_new(path, content, mode)
            made.append(path)
        if files:
            made += [layout.ssl / name for name in _REGISTER_NAMES]
            register = CertificateRegister(layout.ssl / REGISTER)
            register.create()
            if server is not None:
                register.add(server, SERVER)
        # Last: with it there is a site.
        write_new(layout.conf, *conf)
        made.append(layout.conf)
        if owner is not None:
            for path in made:
                for each in (path, *path.glob("*.pem")):
                    if each.exists():
                        os.lchown(each, *owner)
        sync_folder(layout.conf.parent)
    except BaseException:
        for path in reversed(made):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder for its owner alone; return those that were not there."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(new):
        each.mkdir(mode=0o755 if each != folder else 0o700)
    return list(reversed(new))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
