"""The enrollment port in memory: real requests, a real authority, whoever the test says asks."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.enrollment.invites import Invited, Invites
from taky_twisted.enrollment.profiles import Profiles
from taky_twisted.enrollment.service import Enrollment
from taky_twisted.enterprise_sync.disk_thread import DiskThread
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.marti.certadmin import CertAdminArea
from taky_twisted.marti.connections import HttpConnections
from taky_twisted.marti.profiles import ProfilesArea
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.site import Marti, ServerInfo
from taky_twisted.marti.tls import EnrollmentArea
from taky_twisted.marti.version import VersionArea
from taky_twisted.stores.memory import MemoryStore
from tests.enrollment.site_files import issuing_in, made_authority
from tests.marti.asking import NODE_ID, Answer, Connection, Door, spell
from tests.threaded_clock import ThreadedClock

ALPHA = Principal("alpha", by_password=True)
ADMIN = Principal("root", admin=True, by_password=True)


class InvitingDoor(Door):
    """A door whose callers may also show an invite."""

    invited: Invited | None = None

    def caller(self, request: MartiRequest) -> Principal:
        request.invited = self.invited
        return self.who or (Principal(self.invited.name) if self.invited is not None else ANONYMOUS)


class EnrollServer:
    """All that there is on the port."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.reactor = ThreadedClock()
        self.folder = Path(test.mktemp())
        self.authority = made_authority()
        self.issuing = issuing_in(self.folder, self.authority)
        self.invites = Invites(MemoryStore(self.reactor), self.reactor)
        self.thread = DiskThread("test", self.reactor)
        test.addCleanup(lambda: self.reactor.wait(self.thread.stop()))
        self.enrollment = Enrollment(self.reactor, self.thread, self.issuing, self.invites)
        self.profiles = Profiles(self.folder / "profiles")
        self.reloaded = 0
        areas = [
            EnrollmentArea(self.enrollment, self.thread, self.profiles),
            ProfilesArea(self.reactor, self.thread, self.profiles),
            CertAdminArea(self.reactor, self.enrollment, self._reload),
            VersionArea(ServerInfo()),
        ]
        self.connections = HttpConnections(self.reactor, Limits())
        marti = Marti.of(areas, ServerInfo(node_id=NODE_ID))
        self.door = InvitingDoor(marti, self.reactor, False, self.connections, "enroll", enrolls=True)
        self.door.tls = True

    async def _reload(self) -> None:
        self.reloaded += 1

    def invite(self, name: str = "alpha", uses: int = 1) -> Invited:
        """Invite somebody, who shows the token."""
        found = self.invites.find(name, self.invites.invite(name, uses))
        assert found is not None
        return found

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        who: Principal | Invited | None = None,
    ) -> Answer:
        """Ask, and wait for the answer."""
        self.door.who = who if isinstance(who, Principal) else None
        self.door.invited = who if isinstance(who, Invited) else None
        connection = Connection(self.door)
        connection.send(spell(method, target, body, headers))
        while not connection.transport.value():
            self.reactor.run_one()
        answer = connection.answer(method)
        connection.lose()
        return answer
