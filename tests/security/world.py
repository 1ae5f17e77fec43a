"""A server as the project itself wires it, with all its doors and no sockets, and people with every kind of proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.admitting import watch_requests
from taky_twisted.api import Api
from taky_twisted.config import Settings
from taky_twisted.config.settings import SslSettings
from taky_twisted.data_folder import DataFolder
from taky_twisted.doors import Door
from taky_twisted.enrolling import enroll_doors
from taky_twisted.enrollment.access_tokens import KEY_NAME
from taky_twisted.enrollment.register import CertificateRegister
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.failures import Failures
from taky_twisted.identity.principal import Principal
from taky_twisted.opening import marti_doors, tls_defaults
from taky_twisted.routing.granting import regrant
from taky_twisted.routing.router import Router
from taky_twisted.stores.memory import MemoryStore
from tests.marti.asking import Answer, Connection, parsed, spell
from tests.marti.file_server import whole
from tests.marti.tls_connection import TLSConnection
from tests.pki import PKI, ClientTLS, Credentials, write_private
from tests.threaded_clock import ThreadedClock

PASSWORD = "right password"
HOST = "tak.example:8443"
"""What requests call the server."""
MARTI = {
    "plain": ("tcp:0", True),
    "plain, closed": ("tcp:0", False),
    "cert": ("ssl:0", False),
    "password": ("ssl:0:auth=password", False),
    "cert+password": ("ssl:0:auth=cert+password", False),
    "none": ("ssl:0:auth=none", False),
}
"""Doors of the Marti API: the endpoint, and whether anonymous callers are let in without TLS."""
ENROLL = {"enroll": "ssl:0", "enroll, cert": "ssl:0:clientCert=optional"}
"""Doors for enrollment; on the second certificates are asked for as well."""


class QuickPasswords:
    """Compare passwords without computing anything."""

    def is_right(self, hashed: str | None, password: str, address: str) -> Deferred[bool]:
        return succeed(bool(hashed) and hashed == f"hash of {password}")

    def stop(self) -> None:
        """Have no threads."""


class NoDelays:
    """Let whoever was wrong try again at once: this is about who comes in, not how fast they may guess."""

    async def wait(self, who: object) -> None:
        """Wait for nothing."""

    def failed(self, who: object) -> None:
        """Forget it."""

    succeeded = failed


class QuickAccounts(Accounts):
    """Accounts whose passwords take no time."""

    def __init__(self, clock: Any, store: Any, banned: Any) -> None:
        super().__init__(clock, store, banned)
        self.passwords.stop()
        self.passwords = QuickPasswords()  # type: ignore[assignment]
        self._delays = NoDelays()  # type: ignore[assignment]


class World:
    """A server, its accounts, and its doors."""

    def __init__(self, test: SynchronousTestCase, *, accounts: bool = True) -> None:
        """Make everything.

        Args:
            test: stops it.
            accounts: whether the server has accounts at all.
        """
        self.clock = ThreadedClock()
        folder = Path(test.mktemp()).absolute()
        self.pki = PKI(folder / "pki")
        self.pki.write("ca.key", self.pki.ca.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.pki.write_register(R=[self.pki.revoked])
        ssl = SslSettings(
            enabled=True,
            ca=Path(self.pki.ca_path),
            ca_key=folder / "pki" / "ca.key",
            server_p12=None,
            cert=Path(self.pki.certificate_path),
            key=Path(self.pki.key_path),
            cert_db=Path(self.pki.register_path),
        )
        settings = Settings(
            ssl=ssl,
            hostname="tak.example",
            data_dir=folder / "data",
            marti_endpoints=tuple(e for e, _ in MARTI.values()),
        )
        self.settings, self.limits = settings, settings.limits
        self.store = MemoryStore(self.clock)
        self.failures = Failures(self.clock)
        self.router = Router(self.clock, self.store, settings.limits, failures=self.failures, pin_uid=True)
        self.defaults = tls_defaults(settings)
        register = self.defaults.register
        assert register is not None
        self.register = register
        self.accounts = QuickAccounts(self.clock, self.store, register.is_banned)
        self.accounts.watch(lambda before, after: regrant(self.router, self.accounts, before, after, self.now()))
        self.folder = DataFolder(folder / "data")
        self.api = Api(
            self.clock,
            settings,
            self.folder,
            self.store,
            self.router,
            failures=self.failures,
            accounts=self.accounts if accounts else None,
            was_banned=register.was_banned,
        )
        watch_requests(self.accounts, self.api)
        self.doors = dict(self._doors())
        self.folder.open()
        write_private(self.folder.path / KEY_NAME, rsa_key(0))
        kept = self.clock.wait(self.store.open())
        self.router.restore(kept)
        self.api.restore(kept)
        self.api.startService()
        test.addCleanup(self.stop)
        self._visits: dict[tuple[str, int], Visit] = {}
        self._streams: list[Visit] = []

    def stop(self) -> None:
        """Stop."""
        for visit in (*self._visits.values(), *self._streams):
            visit.end()
        self.router.stop()
        stopped = self.api.stopService()
        assert isinstance(stopped, Deferred)
        self.clock.wait(stopped)
        self.folder.close()

    def now(self) -> float:
        """Tell the time."""
        return self.clock.seconds()

    def ban(self, name: str) -> None:
        """Ban a name in the register, as an operator does."""
        CertificateRegister(Path(self.pki.register_path)).revoke_name(name)
        self.register.reload()

    def unban(self, name: str) -> None:
        """Lift a ban; what was issued before it stays void."""
        CertificateRegister(Path(self.pki.register_path)).unban(name)
        self.register.reload()

    def revoke(self, credentials: Credentials) -> None:
        """Revoke one certificate, as an administrator does."""
        CertificateRegister(Path(self.pki.register_path)).revoke_serial(credentials.certificate.serial_number)
        self.register.reload()

    def token(self, name: str) -> str:
        """Make an access token."""
        tokens = self.api.enroll_marti.callers.tokens
        assert tokens is not None
        return self.clock.wait(Deferred.fromCoroutine(tokens.make(Principal(name, by_password=True))))

    def ask(
        self,
        door: str,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        credentials: Credentials | None = None,
    ) -> Reply | None:
        """Ask at a door; None if the door does not even let the client speak."""
        key = door, id(credentials)
        visit = self._visits.get(key)
        if visit is None or visit.over:
            visit = self._visits[key] = Visit(self, door, credentials)
        reply = visit.ask(method, target, body, headers)
        if reply is not None and reply.status == 101:
            self._streams.append(self._visits.pop(key))  # HTTP is not spoken there any more
        return reply

    def _doors(self) -> Iterator[tuple[str, Door]]:
        for anonymous in (True, False):
            settings = replace(self.settings, anonymous_http=anonymous)
            made = list(marti_doors(self.clock, settings, self.defaults, self.api, []))
            for name, door in zip(MARTI, made, strict=True):
                if MARTI[name][1] is anonymous:
                    yield name, door
        names = tuple(ENROLL.values())
        made = list(enroll_doors(self.clock, names, self.defaults, self.api, lambda name: name))
        yield from zip(ENROLL, made, strict=True)


@dataclass(frozen=True)
class Reply:
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool
    """Whether the server has closed the connection."""


class Visit:
    """One client's connection to a door."""

    def __init__(self, world: World, door: str, credentials: Credentials | None) -> None:
        self._world, self._lost = world, False
        endpoint: Any = world.doors[door].endpoint
        site: Any = world.doors[door].factory
        tls = getattr(endpoint, "tls", None)
        self._connection: Connection | TLSConnection = (
            Connection(site) if tls is None else TLSConnection(site, tls, ClientTLS(world.pki.ca, credentials))
        )

    @property
    def over(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._lost or bool(self._connection.closed)

    def ask(self, method: str, target: str, body: bytes, headers: dict[str, str] | None) -> Reply | None:
        """Ask, and wait for the answer; None if the server has hung up."""
        if self.over:
            return None
        self.send(spell(method, target, body, {"Host": HOST, **(headers or {})}))
        answer = self.answer(method)
        closes = answer.headers.get("connection") == "close"
        if closes:
            self.end()
        return Reply(answer.status, answer.headers, answer.body, closes or self.over)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.send(data)

    def answer(self, method: str) -> Answer:
        """Wait for the answer."""
        while not whole(self._received(), method):
            self._world.clock.run_one()
        raw = self._received()
        if isinstance(self._connection, Connection):
            self._connection.transport.clear()
        else:
            self._connection.client.received = b""
        return parsed(raw, method)

    def end(self) -> None:
        """Hang up."""
        if not self._lost and (isinstance(self._connection, Connection) or not self._connection.closed):
            self._connection.lose()
        self._lost = True

    def _received(self) -> bytes:
        if isinstance(self._connection, Connection):
            written: bytes = self._connection.transport.value()
            return written
        self._connection.flush()
        return self._connection.client.received


@cache
def rsa_key(number: int) -> bytes:
    """Make a key for access tokens; making one takes a while, so that all worlds of one run share them."""
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing_request(key: ec.EllipticCurvePrivateKey, name: str | None = None) -> bytes:
    """Spell a request for a certificate, as a phone does."""
    attributes = [] if name is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes)).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM)
