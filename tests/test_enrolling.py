from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.api import Api
from taky_twisted.config import Settings
from taky_twisted.config.settings import SslSettings
from taky_twisted.data_folder import DataFolder
from taky_twisted.doors import Door
from taky_twisted.endpoints import TLSDefaults
from taky_twisted.enrolling import Enrolling, enroll_doors, enroll_names, issuing_of
from taky_twisted.enrollment.records import SpentUse
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import EndpointError
from taky_twisted.marti.site import MartiSite
from taky_twisted.records import Kept
from taky_twisted.routing.router import Router
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import LogLines
from tests.pki import PKI
from tests.threaded_clock import ThreadedClock


class EnrollingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.pki = PKI(self.folder / "pki")
        ssl = SslSettings(
            enabled=True,
            ca=self.folder / "pki" / "ca.pem",
            ca_key=self.folder / "pki" / "ca.key",
            cert_db=self.folder / "pki" / "cert-db.txt",
        )
        self.pki.write("ca.key", b"a key")
        self.settings = Settings(ssl=ssl, store="memory:", data_dir=self.folder / "data")
        self.reactor = ThreadedClock()
        self.store = MemoryStore(self.reactor)

    def changed(self, **ssl: Any) -> Settings:
        """Change section [ssl]."""
        return replace(self.settings, ssl=replace(self.settings.ssl, **ssl))


class NamesTests(EnrollingTestCase):
    def test_default(self) -> None:
        """A site with TLS and an authority's key has the door; the register may be made later."""
        self.assertEqual(enroll_names(self.settings), ("ssl:8446",))
        self.assertEqual(enroll_names(self.changed(cert_db=self.folder / "new.txt")), ("ssl:8446",))
        self.assertEqual(enroll_names(Settings()), ())

    def test_no_authority(self) -> None:
        """Without the key the door stays closed, and one line says why; nobody hears of it without TLS."""
        for missing, words in (
            ({"ca_key": self.folder / "none.key"}, "none.key is missing"),
            ({"ca_key": None}, r"\[ssl\] ca_key \(not set\) is missing"),
            ({"ca": None, "cert_db": None}, r"\[ssl\] ca \(not set\) and \[ssl\] cert_db \(not set\) is missing"),
        ):
            log = LogLines(self)
            self.assertEqual(enroll_names(self.changed(**missing)), ())
            (line,) = log()
            self.assertRegex(line, rf"^nobody can enroll here, because .*{words}; the enrollment port stays closed$")

    def test_wanted(self) -> None:
        """If the operator has named the door, the server does not start without the key."""
        settings = replace(self.changed(ca_key=None), enroll_endpoints=("ssl:8446:keyPassword=secret",))
        problem = str(self.assertRaises(EndpointError, enroll_names, settings))
        self.assertIn("[ssl] ca_key (not set) is missing; take the enrollment endpoint out", problem)
        self.assertNotIn("secret", problem)


class DoorsTests(EnrollingTestCase):
    def doors(self, *names: str) -> list[Door]:
        """Make doors."""
        router = Router(self.reactor, self.store, self.settings.limits)
        accounts = Accounts(self.reactor, self.store)
        self.addCleanup(accounts.stop)
        folder = DataFolder(self.folder / "data")
        api = Api(self.reactor, self.settings, folder, self.store, router, accounts=accounts)
        defaults = TLSDefaults(
            private_key=self.pki.key_path, certificate=self.pki.certificate_path, ca_certificates=self.pki.ca_path
        )
        return list(enroll_doors(MemoryReactorClock(), names, defaults, api, lambda name: name.partition(":")[0]))

    def test_door(self) -> None:
        """The door asks for no certificates, unless its string says so, and serves what belongs to enrolling only."""
        first, second = self.doors("ssl:8446", "ssl:8447:clientCert=optional")
        asked = [door.endpoint.tls.settings.client_cert for door in (first, second)]  # type: ignore[attr-defined]
        self.assertEqual(asked, ["none", "optional"])
        self.assertEqual((first.what, first.name), ("enroll", "ssl"))
        site = first.factory
        assert isinstance(site, MartiSite)
        self.assertTrue(site.enrolls)
        paths = {bound.route.path for bound in site.table.bound}
        for path in ("/Marti/api/tls/config", "/oauth/token", "/takproto/1", "/Marti/api/version/config"):
            self.assertIn(path, paths)
        for path in ("/Marti/sync/search", "/Marti/api/contacts/all", "/Marti/api/device/profile/connection"):
            self.assertNotIn(path, paths)

    def test_plain(self) -> None:
        """Without TLS passwords could be read on the way: refused, without showing what else is in the string."""
        problem = str(self.assertRaises(EndpointError, self.doors, "tcp:8446"))
        self.assertEqual(
            problem, "endpoint tcp: enrollment needs TLS, because passwords are sent there; write ssl:PORT"
        )


class InvitedTests(EnrollingTestCase):
    def make(self, settings: Settings | None = None) -> Enrolling:
        """Put enrollment together."""
        self.bans: dict[str, float] = {}
        enrolling = Enrolling(
            self.reactor,
            settings or self.settings,
            DataFolder(self.folder / "data"),
            self.store,
            lambda name, since: name in self.bans and self.bans[name] >= since,
        )
        self.addCleanup(lambda: self.reactor.wait(enrolling.stop()))
        return enrolling

    def test_banned(self) -> None:
        """A ban voids the invites that are older; those that come after it count."""
        enrolling = self.make()
        older = enrolling.invites.invite("alpha")
        self.assertIsNotNone(enrolling.invited("alpha", older))
        self.reactor.advance(10)
        self.bans["alpha"] = self.reactor.seconds()
        self.reactor.advance(10)
        newer = enrolling.invites.invite("alpha")
        self.assertIsNone(enrolling.invited("alpha", older))
        self.assertIsNotNone(enrolling.invited("alpha", newer))
        self.assertIsNone(enrolling.invited("alpha", "nonsense"))

    def test_restore(self) -> None:
        """Invites survive a restart."""
        token = self.make().invites.invite("alpha")
        again = self.make()
        kept: Kept = self.successResultOf(self.store.open())
        kept.spent_uses.append(SpentUse("00" * 32, "aa" * 32, "bravo", "B", "1", self.reactor.seconds() + 60))
        again.restore(kept)
        self.assertIsNotNone(again.invited("alpha", token))

    def test_without_authority(self) -> None:
        """A site whose configuration names no authority has profiles, and nothing to enroll with or to administer."""
        settings = self.changed(ca_key=None)
        self.assertIsNone(issuing_of(settings))
        enrolling = self.make(settings)
        self.assertEqual(len(enrolling.areas()), 1)
        self.assertEqual(enrolling.areas_without_certificate(), [])

    def test_reload(self) -> None:
        """Nothing has to be read again before the server says how."""
        self.assertIsNone(self.successResultOf(self.make().reload()))  # type: ignore[arg-type]  # it is a Deferred
