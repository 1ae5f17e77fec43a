"""Look at a site as it lies on the disk and in the network: what is wrong, and what to do about it."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from taky_twisted.config import Settings
from taky_twisted.endpoints.loopback import is_wide
from taky_twisted.endpoints.strings import port_of
from taky_twisted.identity.cert_db import CertDb
from taky_twisted.identity.certificates import covers
from taky_twisted.identity.credentials import Source, load_authorities, load_credentials
from taky_twisted.identity.errors import EndpointError

Level = Literal["ok", "note", "warning", "problem"]

SOON = timedelta(days=30)
LOW_BYTES, FULL_BYTES = 1 << 30, 100 << 20
"""Room on the disk below which there is a warning, and a problem."""
CHECKED_STORE_BYTES = 256 << 20
"""A larger store is opened but not read through."""
CONNECT_SECONDS = 3.0
TLS_KINDS = ("ssl", "taktls")
_OTHERS_READ, _OTHERS_WRITE = stat.S_IROTH, stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    advice: str = ""


@dataclass(frozen=True)
class Checks:
    """Everything that can be looked at without asking the server."""

    settings: Settings
    now: datetime

    def all(self) -> Iterator[Finding]:
        """Look at everything."""
        yield from self.files()
        yield from self.certificates()
        yield from self.store()
        yield from self.disk()
        yield from self.reachable()
        yield from self.watched()

    @property
    def encrypted(self) -> bool:
        """Whether a door speaks TLS."""
        settings = self.settings
        doors = (*settings.cot_doors(), *settings.monitor_doors(), *settings.marti_doors())
        return any(door.partition(":")[0].lower() in TLS_KINDS for door in doors)

    # Files and their modes

    def files(self) -> Iterator[Finding]:
        """Look at the configuration, the keys and the data folder."""
        settings = self.settings
        if settings.path is None:
            yield Finding("note", "there is no taky.conf here and none in /etc/taky: everything has its default")
        else:
            yield _mode(settings.path, _OTHERS_WRITE, "others may change it", "chmod go-w")
        if self.encrypted:
            for key, path in (("key", settings.ssl.key), ("ca_key", settings.ssl.ca_key)):
                if path is not None and path.exists():
                    yield _mode(path, _OTHERS_READ | _OTHERS_WRITE, "others may read it", "chmod go=", f"[ssl] {key} ")
        folder = settings.data_dir
        if not folder.exists():
            yield Finding("note", f"the data folder {folder} is not there yet; the server makes it")
        else:
            yield _mode(
                folder, stat.S_IRWXG | stat.S_IRWXO, "others may look into it", "chmod 0700", "the data folder "
            )

    # Certificates

    def certificates(self) -> Iterator[Finding]:
        """Look at the server's certificate, the authority and the register."""
        if not self.encrypted:
            yield Finding("note", "no door speaks TLS: whoever reaches the server hears and says what he likes")
            return
        ssl = self.settings.ssl
        if ssl.cert is None or not ssl.cert.exists():
            yield Finding("note", f"[ssl] cert ({ssl.cert}) is not there; endpoints may name their own certificates")
            return
        try:
            source = Source("[ssl] cert", str(ssl.cert))
            key = Source("[ssl] key", str(ssl.key)) if ssl.key is not None else source
            certificate = load_credentials(key, source, ssl.key_pw).certificate
        except EndpointError as error:
            yield Finding("problem", str(error), "make a new one with takyctl renew-server, or restore the file")
            return
        yield self._dates("the server's certificate", certificate, "takyctl renew-server")
        yield from self._names(certificate)
        yield from self._authority(certificate)
        yield from self._register()

    def _dates(self, what: str, certificate: x509.Certificate, advice: str) -> Finding:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if self.now < begin:
            return Finding(
                "problem",
                f"{what} is not valid before {begin:%Y-%m-%d %H:%M} UTC, and it is {self.now:%Y-%m-%d %H:%M} now",
                "the clock of this machine is wrong: timedatectl set-ntp true",
            )
        if self.now > end:
            return Finding("problem", f"{what} expired on {end:%Y-%m-%d}: nobody can connect", advice)
        level: Level = "warning" if end - self.now < SOON else "ok"
        return Finding(level, f"{what} is valid until {end:%Y-%m-%d}", advice if level == "warning" else "")

    def _names(self, certificate: x509.Certificate) -> Iterator[Finding]:
        for name in dict.fromkeys((self.settings.public_ip, self.settings.hostname)):
            if name is None:
                continue
            if covers(certificate, name):
                yield Finding("ok", f"the server's certificate is good for {name}")
            else:
                yield Finding(
                    "warning",
                    f"the server's certificate does not contain {name}: clients that check names refuse it",
                    f"takyctl renew-server --host {name}; nothing changes on the devices",
                )

    def _authority(self, certificate: x509.Certificate) -> Iterator[Finding]:
        ca = self.settings.ssl.ca
        if ca is None:
            return
        try:
            authorities = load_authorities(Source("[ssl] ca", str(ca)))
        except EndpointError as error:
            yield Finding("problem", str(error), "restore the file from a backup")
            return
        for authority in authorities:
            yield self._dates("the authority's certificate", authority, "plan for a new site: phones need new packages")
        if not any(_issued(certificate, authority) for authority in authorities):
            yield Finding(
                "warning",
                "the server's certificate is not from this site's authority, which is whom phones trust",
                "takyctl renew-server makes one that is",
            )

    def _register(self) -> Iterator[Finding]:
        path = self.settings.ssl.cert_db
        if path is None or not path.exists():
            yield Finding("note", f"there is no certificate register ({path}): nobody is revoked")
            return
        try:
            found = CertDb.read(path)
        except (OSError, UnicodeError) as error:
            yield Finding("problem", f"the certificate register {path} cannot be read: {error}", "restore it")
            return
        for place, number, _, problem in found.problems:
            yield Finding("warning", f"{place}, line {number}: {problem}", "mend or remove the line")
        valid = [record for record in found.records() if record.revoked is None and record.expires is not None]
        soon = [record for record in valid if record.expires and self.now < record.expires < self.now + SOON]
        if soon:
            names = ", ".join(sorted({record.name for record in soon})[:5])
            yield Finding("warning", f"{len(soon)} certificates expire within 30 days ({names})", "takyctl certs")
        else:
            yield Finding("ok", f"the certificate register knows {len(list(found.records()))} certificates")

    # The store, the disk, the network

    def store(self) -> Iterator[Finding]:
        """Look into the databases, without changing them."""
        if self.settings.store == "memory:":
            yield Finding("note", "store = memory: a restart forgets what is on the map")
            return
        if self.settings.store_redis is not None:
            yield Finding(
                "note", f"store = {self.settings.store}: whether it can be used is seen when the server starts"
            )
            return
        named = (self.settings.store or "").partition(":")[2]
        for path in (Path(named) if named else self.settings.data_dir / "taky.sqlite",):
            if path.exists():
                yield _database(path)
            else:
                yield Finding("note", f"there is no store yet ({path}); the server makes it")

    def disk(self) -> Iterator[Finding]:
        """Look how much room there is."""
        folder = self.settings.data_dir.absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        words = f"{free >> 20} MiB are free in {folder}"
        if free < FULL_BYTES:
            yield Finding("problem", words, "make room: nothing more can be kept, and uploads are refused")
        elif free < LOW_BYTES:
            yield Finding("warning", words, "make room")
        else:
            yield Finding("ok", words)

    def reachable(self) -> Iterator[Finding]:
        """Try to connect as clients do: by the address that they are told."""
        settings = self.settings
        host = settings.public_ip or settings.hostname
        ports = [port for door in settings.cot_doors() if (port := port_of(door)) is not None]
        if not ports:
            yield Finding("note", "no door has a port of its own: whether clients reach it cannot be tried")
            return
        if _is_private(host):
            yield Finding("note", f"clients are told {host}, which only this network knows", "set public_ip")
        yield try_to_connect(host, ports[0])

    def watched(self) -> Iterator[Finding]:
        """Look who can read metrics."""
        for door in self.settings.metrics_endpoints:
            if is_wide(door):
                yield Finding(
                    "warning",
                    f"others than this machine may reach the metrics door {door.partition(':')[0]}:"
                    f"{port_of(door) or '...'}: they can read how many use the server, and how it is",
                    "leave interface= out (then it is 127.0.0.1), or keep that port inside a trusted network",
                )


def try_to_connect(host: str, port: int) -> Finding:
    """Connect to a port and say what came of it."""
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS):
            return Finding("ok", f"{host} port {port} takes connections from here")
    except socket.gaierror:
        return Finding(
            "warning",
            f"{host} is a name that this machine cannot look up; phones probably cannot, either",
            "set public_ip to an address, or enter the name into the DNS",
        )
    except ConnectionRefusedError:
        return Finding("warning", f"nothing listens at {host} port {port}", "does the server run?")
    except OSError as error:
        return Finding(
            "warning",
            f"{host} port {port} cannot be reached from here ({error.strerror or error})",
            "a router that does not let its own network in by the public address (NAT) does this: try from a phone;"
            " else forward the port, and look at the firewall",
        )


def worst(findings: Iterable[Finding]) -> Level:
    """Name the gravest level."""
    order: list[Level] = ["ok", "note", "warning", "problem"]
    return max((finding.level for finding in findings), key=order.index, default="ok")


def _mode(path: Path, wrong: int, words: str, advice: str, name: str = "") -> Finding:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return Finding("problem", f"{name}{path}: {error.strerror}", "run this as the server's user, or as root")
    if mode & wrong:
        return Finding("warning", f"{name}{path}: {words} (mode {stat.S_IMODE(mode):04o})", f"{advice} {path}")
    if not os.access(path, os.R_OK):
        return Finding("problem", f"{name}{path} cannot be read", "run this as the server's user, or as root")
    return Finding("ok", f"{name}{path}")


def _database(path: Path) -> Finding:
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=2)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if path.stat().st_size <= CHECKED_STORE_BYTES:
                (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if said != "ok":
                    return Finding("problem", f"the store {path} is damaged: {said}", "restore a backup")
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        return Finding("problem", f"the store {path} cannot be read: {error}", "restore a backup, or mend its rights")
    return Finding("ok", f"the store {path} is whole (schema {version})")


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_private(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_private and not address.is_loopback


def moment() -> datetime:
    """Tell the time."""
    return datetime.now(timezone.utc)
