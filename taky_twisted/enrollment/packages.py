"""Connection packages: a zip that a phone imports, and then it knows its server.

=============  ==============================================  ====================================================
flavor         entries                                         locations in the ``.pref``
=============  ==============================================  ====================================================
ATAK, WinTAK   ``MANIFEST/manifest.xml``, the rest in           ``cert/FILE``: ATAK copies ``.p12`` files to its own
               ``certs/``                                      folder ``cert`` and looks at the last part only
iTAK, TAK      ``MANIFEST/manifest.xml``, the rest at the root  ``FILE``
Aware
=============  ==============================================  ====================================================

The names of the ``.p12`` files are never used twice: a phone keeps them all in one folder, and those of another server
must not be overwritten. Both flavors have the keys with a number, for ATAK and iTAK, and those without, for TAK Aware.

Source: ATAK-CIV ``app/preferences/PreferenceControl.java``; SwiftTAK ``TAKDataPackageImporter``; pytak
``onboarding_packages.py``.
"""

from __future__ import annotations

import io
import secrets
import time
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from taky_twisted.enrollment.names import plain
from taky_twisted.enrollment.preferences import APP, STREAMS, Value, manifest, preferences

_FIRST_DOS_YEAR = 1980


@dataclass(frozen=True, slots=True)
class Connection:
    """How a phone reaches the server, and whom it believes there."""

    description: str
    """What the phone calls the server."""
    host: str
    port: int
    trust_store: bytes
    """PKCS#12; see `taky_twisted.enrollment.keystores.trust_store`."""
    trust_password: str
    encrypted: bool = True

    @property
    def connect_string(self) -> str:
        """Host, port and protocol as clients spell it."""
        return f"{self.host}:{self.port}:{'ssl' if self.encrypted else 'tcp'}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the phone is."""

    name: str
    keystore: bytes
    """PKCS#12 with key and certificate; see `taky_twisted.enrollment.keystores.client_keystore`."""
    password: str


def connection_package(connection: Connection, identity: Identity, *, itak: bool = False) -> bytes:
    """Make a package with everything in it; after the import the phone connects."""
    trust, client = _unique("truststore"), _unique(plain(identity.name))
    if itak:
        trust, client = _unique("caCert"), _unique("clientCert")
    place: Callable[[str], str] = str if itak else _in_cert
    trusted = {"caLocation": place(trust), "caPassword": connection.trust_password}
    own = {"certificateLocation": place(client), "clientPassword": identity.password}
    sections: dict[str, dict[str, Value]] = {
        STREAMS: _stream(connection) | _numbered(trusted) | _numbered(own),
        APP: {"displayServerConnectionWidget": True, **trusted, **own},
    }
    files = {trust: connection.trust_store, client: identity.keystore}
    return _package(connection.description, sections, files, itak)


def enrollment_package(connection: Connection, *, itak: bool = False) -> bytes:
    """Make a package without a certificate: the phone asks for name and password, and gets one with them."""
    trust = _unique("caCert" if itak else "truststore")
    place: Callable[[str], str] = str if itak else _in_cert
    trusted = {"caLocation": place(trust), "caPassword": connection.trust_password}
    enrolling: dict[str, Value] = {
        "useAuth0": True,
        "cacheCreds0": "Cache credentials",
        "enrollForCertificateWithTrust0": True,
    }
    sections: dict[str, dict[str, Value]] = {
        STREAMS: _stream(connection) | _numbered(trusted) | enrolling,
        APP: {"displayServerConnectionWidget": True, **trusted},
    }
    return _package(connection.description, sections, {trust: connection.trust_store}, itak)


def plain_package(description: str, host: str, port: int, *, itak: bool = False) -> bytes:
    """Make a package for a server without TLS: there is nobody to trust, and nothing to prove."""
    connection = Connection(description, host, port, b"", "", encrypted=False)
    sections: dict[str, dict[str, Value]] = {
        STREAMS: _stream(connection),
        APP: {"displayServerConnectionWidget": True},
    }
    return _package(description, sections, {}, itak)


def _stream(connection: Connection) -> dict[str, Value]:
    return {
        "count": 1,
        "description0": connection.description,
        "enabled0": True,
        "connectString0": connection.connect_string,
    }


def _numbered(entries: dict[str, str]) -> dict[str, Value]:
    return {f"{key}0": value for key, value in entries.items()}


def _in_cert(name: str) -> str:
    return f"cert/{name}"


def _unique(stem: str) -> str:
    return f"{stem}-{secrets.token_hex(6)}.p12"


def _package(description: str, sections: dict[str, dict[str, Value]], files: dict[str, bytes], itak: bool) -> bytes:
    folder, pref = ("", "config.pref") if itak else ("certs/", "server.pref")
    entries = {folder + pref: preferences(sections), **{folder + name: data for name, data in files.items()}}
    contents = {"MANIFEST/manifest.xml": manifest(str(uuid.uuid4()), description, entries), **entries}
    now = time.localtime()[:6]
    # A machine without a clock of its own starts in 1970, which zip cannot say.
    when = now if now[0] >= _FIRST_DOS_YEAR else (_FIRST_DOS_YEAR, 1, 1, 0, 0, 0)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, when)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o600 << 16
            package.writestr(entry, data)
    return written.getvalue()
