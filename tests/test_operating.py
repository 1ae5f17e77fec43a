from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.admin.protocol import AdminProtocol
from taky_twisted.admin.taky_protocol import TakyProtocol
from taky_twisted.cli.site_maker import key_pem
from taky_twisted.config import Settings, SslSettings
from taky_twisted.doors import Doors
from taky_twisted.enrollment.authority import Authority
from taky_twisted.enrollment.register import CRL_NAME, CertificateRegister
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.failures import Failures
from taky_twisted.operating import admin_sockets
from tests.admin.running import Reactor, Wire
from tests.fakes import Site, principal
from tests.pki import PKI
from tests.samples import sa


class OperatingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.reactor = Reactor()
        self.failures = Failures(self.reactor)
        self.tls: list[Any] = []
        self.api: Any = None
        self.reloads = 0
        self.ssl = SslSettings()

    def reload(self) -> Deferred[None]:
        self.reloads += 1
        return succeed(None)

    def sockets(self, *endpoints: str) -> list[Any]:
        made = admin_sockets(
            self.reactor,
            Settings(admin_endpoints=endpoints, ssl=self.ssl),
            Path("/data"),
            self.site.router,
            self.site.connections,
            self.failures,
            SimpleNamespace(reload=self.reload),  # type: ignore[arg-type]  # all that is asked of it
            Doors([], []),
            self.tls,
            self.api,
        )
        return list(made._sockets)

    def wire(self) -> Wire:
        return Wire(self.sockets()[0].make())

    def test_default(self) -> None:
        """Operators find our socket and taky's in the data folder; the server starts also if it cannot have them."""
        ours, takys = self.sockets()
        self.assertEqual((ours.path, ours.wanted), (Path("/data/taky-admin.sock"), False))
        self.assertIsInstance(ours.make(), AdminProtocol)
        self.assertEqual((takys.path, takys.wanted), (Path("/data/taky-mgmt.sock"), False))
        self.assertIsInstance(takys.make(), TakyProtocol)

    def test_named(self) -> None:
        """Sockets that an operator names stand in place of ours, and there is no server without them."""
        sockets = self.sockets("unix:/run/a", "unix:/run/b")
        self.assertEqual(
            [(str(each.path), each.wanted) for each in sockets],
            [("/run/a", True), ("/run/b", True), ("/data/taky-mgmt.sock", False)],
        )
        self.assertRaises(EndpointError, self.sockets, "tcp:9000")

    def test_kickban(self) -> None:
        """A name's streams and HTTP connections are closed, also those whose certificate no register knows."""
        self.api = SimpleNamespace(
            enrolling=SimpleNamespace(invites=None),
            close_named=lambda name, reason: 2 if name == "alice" else 0,
            connections=[1, 2],
        )
        alice, bob = self.site.connect(principal("alice")), self.site.connect(principal("bob"))
        alice.say(sa("A", "A"))
        (answer,) = self.wire().ask({"v": 1, "do": "kickban", "name": " alice"})
        self.assertEqual((answer["dropped"], alice.transport.lost, bob.transport.lost), (2, "abort", None))
        (answer,) = self.wire().ask({"v": 1, "do": "kickban", "name": "alice"})
        self.assertEqual((answer["dropped"], self.reloads), (6, 2))

    def test_register(self) -> None:
        """The name's certificates are revoked in the register that the doors use, and the answer says which."""
        pki = PKI(self.mktemp())
        register = CertificateRegister(Path(pki.register_path))
        register.add(pki.second_client.certificate)
        settings = SimpleNamespace(register=SimpleNamespace(path=pki.register_path))
        none = SimpleNamespace(register=None)
        self.tls = [SimpleNamespace(settings=each) for each in (settings, settings, none)]
        (answer,) = self.wire().ask({"v": 1, "do": "kickban", "name": "BRAVO-2"})
        serial = pki.second_client.certificate.serial_number
        self.assertEqual(answer["revoked_sns"], [serial])
        self.assertIn(serial, [record.serial for record in register.records() if record.revoked])
        self.assertTrue(register.is_banned("BRAVO-2"))

    def test_revocation_list(self) -> None:
        """The list for other programs has the certificates that were revoked through a socket, by taky's tools too."""
        folder = Path(self.mktemp())
        folder.mkdir()
        authority = Authority.make("camp", datetime.now(timezone.utc), ec.generate_private_key(ec.SECP256R1()))
        (folder / "ca.crt").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        (folder / "ca.key").write_bytes(key_pem(authority.key))
        register = CertificateRegister(folder / "cert-db.txt")
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        certificate = authority.sign_client("ALPHA", key, datetime.now(timezone.utc))
        register.add(certificate)
        self.ssl = SslSettings(ca=folder / "ca.crt", ca_key=folder / "ca.key", cert_db=register.path)
        self.tls = [
            SimpleNamespace(settings=SimpleNamespace(register=SimpleNamespace(path=str(register.path.absolute()))))
        ]
        self.wire().ask({"v": 1, "do": "kickban", "name": "ALPHA"})
        crl = x509.load_pem_x509_crl((folder / CRL_NAME).read_bytes())
        self.assertIsNotNone(crl.get_revoked_certificate_by_serial_number(certificate.serial_number))
        # Doors without TLS have nothing to do with the files of the configuration, another site's perhaps.
        (folder / CRL_NAME).unlink()
        self.tls = []
        self.wire().ask({"v": 1, "do": "kickban", "name": "ALPHA"})
        self.assertFalse((folder / CRL_NAME).exists())

    def test_counts(self) -> None:
        """Statistics count streams and HTTP connections."""
        self.site.connect()
        (answer,) = self.wire().ask({"v": 1, "do": "stats"})
        self.assertEqual((answer["streams"], answer["unidentified"], answer["http"]), (1, 1, 0))
        self.api = SimpleNamespace(enrolling=SimpleNamespace(invites=None), connections=[1, 2])
        (answer,) = self.wire().ask({"v": 1, "do": "stats"})
        self.assertEqual(answer["http"], 2)
