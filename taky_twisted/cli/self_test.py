"""Do once what clients do all day, with a certificate that is thrown away: say something, send a file.

Nothing of it is seen on the map: the test clients are incognito, and the file is deleted again.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import re
import secrets
import socket
import ssl
import tempfile
import time
import zipfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.sax.saxutils import quoteattr

from cryptography.hazmat.primitives.serialization import Encoding

from taky_twisted.cli.checks import Finding
from taky_twisted.cli.site import Site
from taky_twisted.cli.site_maker import key_pem
from taky_twisted.cot.times import format_time
from taky_twisted.enrollment.authority import make_key

SECONDS = 10.0
"""How long one step may take."""
MAX_HEARD_BYTES = 4 << 20
CLIENT = "takyctl self-test"
BEHIND_NAT = (
    "a router that does not let its own network in by the public address (NAT) does this: try from a phone on"
    " another network; else forward the ports, and look at the firewall"
)
_UID = re.compile(rb'<event [^>]*\buid="([^"]*)"')


class TestFailed(Exception):
    """A step did not work; the text says which and why."""


def throw_away_context(site: Site, now: datetime) -> ssl.SSLContext:
    """Make a client's TLS with a certificate that is valid for a day, and that nobody keeps.

    Raises:
        CommandError: the site has no authority's key here.
    """
    authority = site.authority()
    key = make_key()
    certificate = authority.sign_client(CLIENT, key.public_key(), now, days=1)
    trusted = b"".join(each.public_bytes(Encoding.PEM) for each in site.trusted(authority))
    context = ssl.create_default_context(cadata=trusted.decode("ascii"))
    # OpenSSL takes a client's key from a file only.
    descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate.public_bytes(Encoding.PEM) + key_pem(key))
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
    return context


@dataclass(frozen=True)
class SelfTest:
    """A client of one server."""

    host: str
    """By which it is called."""
    context: ssl.SSLContext | None
    """None for plain TCP."""

    def events(self, port: int) -> Finding:
        """Let one client say something to another."""
        try:
            with self._connect(port) as first, self._connect(port) as second:
                names = [f"takyctl-test-{secrets.token_hex(8)}" for _ in range(2)]
                for client, uid in zip((first, second), names, strict=True):
                    client.sendall(_event(uid, "t-x-c-i-e") + _report(uid) + _event(f"{uid}-ping", "t-x-c-t"))
                    _hear(client, b"takPong")
                told = f"{names[0]}-said"
                first.sendall(_event(told, "b-m-p-s-m", f"<marti><dest uid={quoteattr(names[1])}/></marti>"))
                _hear(second, told.encode())
        except (OSError, TestFailed) as error:
            return self._failed("an event", port, error)
        return Finding("ok", f"an event went from one client to another through {self.host} port {port}")

    def files(self, port: int) -> Finding:
        """Send a data package, fetch it, and delete it."""
        package = _package()
        digest = hashlib.sha256(package).hexdigest()
        try:
            self._ask(port, "POST", f"/Marti/sync/missionupload?hash={digest}&filename=takyctl-test.zip", package)
            fetched = self._ask(port, "GET", f"/Marti/sync/content?hash={digest}")
            self._ask(port, "DELETE", f"/Marti/api/files/{digest}")
            if fetched != package:
                raise TestFailed("what came back is not what was sent")
        except (OSError, http.client.HTTPException, TestFailed) as error:
            return self._failed("a data package", port, error)
        return Finding("ok", f"a data package went up and came down through {self.host} port {port}")

    def _failed(self, what: str, port: int, error: Exception) -> Finding:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Finding("problem", f"{what} did not get through {self.host} port {port}: {reason}", "takyctl doctor")

    def _connect(self, port: int) -> socket.socket:
        plain = socket.create_connection((self.host, port), SECONDS)
        if self.context is None:
            return plain
        try:
            return self.context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise

    def _ask(self, port: int, method: str, target: str, upload: bytes | None = None) -> bytes:
        connection = (
            http.client.HTTPConnection(self.host, port, timeout=SECONDS)
            if self.context is None
            else http.client.HTTPSConnection(self.host, port, timeout=SECONDS, context=self.context)
        )
        headers, body = {}, None
        if upload is not None:
            boundary = secrets.token_hex(16)
            headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            body = (
                (
                    f'--{boundary}\r\nContent-Disposition: form-data; name="assetfile"; filename="takyctl-test.zip"\r\n'
                    "Content-Type: application/x-zip-compressed\r\n\r\n"
                ).encode()
                + upload
                + f"\r\n--{boundary}--\r\n".encode()
            )
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            said = answer.read(MAX_HEARD_BYTES)
            if answer.status != http.client.OK:
                raise TestFailed(
                    f"{method} {target.partition('?')[0]} was answered with {answer.status} {answer.reason}"
                )
            return said
        finally:
            connection.close()


def _hear(client: socket.socket, uid: bytes) -> None:
    """Wait for an event."""
    heard, end = b"", time.monotonic() + SECONDS
    while uid not in _UID.findall(heard):
        client.settimeout(max(0.001, end - time.monotonic()))
        try:
            data = client.recv(1 << 16)
        except TimeoutError:
            raise TestFailed(f"nothing was heard of it within {SECONDS:g} seconds") from None
        if not data:
            raise TestFailed("the server ended the connection")
        # What is long past is not needed; one event may be cut in two.
        heard = heard[-MAX_HEARD_BYTES:] + data


def _event(uid: str, type_: str, detail: str = "") -> bytes:
    now = time.time()
    begin, end = format_time(now), format_time(now + 60)
    return (
        f'<event version="2.0" uid={quoteattr(uid)} type="{type_}" how="m-g" time="{begin}" start="{begin}"'
        f' stale="{end}"><point lat="0" lon="0" hae="0" ce="9999999" le="9999999"/><detail>{detail}</detail></event>'
    ).encode()


def _report(uid: str) -> bytes:
    detail = (
        f'<contact callsign={quoteattr(uid)} endpoint="*:-1:stcp"/><__group name="Cyan" role="Team Member"/>'
        '<takv device="takyctl" platform="takyctl" os="" version=""/>'
    )
    return _event(uid, "a-f-G-U-C", detail)


def _package() -> bytes:
    """Make a data package that nobody has seen before."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as package:
        package.writestr(
            "MANIFEST/manifest.xml",
            '<MissionPackageManifest version="2"><Configuration><Parameter name="name" value="takyctl-test"/>'
            f'<Parameter name="uid" value="{secrets.token_hex(16)}"/></Configuration><Contents/>'
            "</MissionPackageManifest>",
        )
    return made.getvalue()
