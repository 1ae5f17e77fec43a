"""The whole Marti API in memory: all areas, real files, a clock that stands still, neither sockets nor threads."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty
from typing import Any

from twisted.internet.defer import Deferred

from taky_twisted.api import Api
from taky_twisted.config import Settings, SslSettings
from taky_twisted.data_folder import DataFolder
from taky_twisted.enrollment.invites import Invited
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.passwords import hash_of
from taky_twisted.identity.principal import ANON_GROUP, ANONYMOUS, Certificate, Principal
from taky_twisted.marti.connections import FINISH_SECONDS
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.site import MartiSite
from taky_twisted.routing.router import Router
from taky_twisted.stores.memory import MemoryStore
from tests.enrollment.site_files import made_authority, written
from tests.fakes import MemoryRecorder, MemorySink
from tests.fuzz.inputs import FORM_HEADERS, VIDEO, form, memory_folder
from tests.fuzz.threads import without_threads
from tests.fuzz.watching import no_mistakes
from tests.marti.asking import Connection, spell
from tests.samples import NOW, event, marker, sa
from tests.threaded_clock import ThreadedClock

GROUPS = frozenset({ANON_GROUP, "Blue"})
USER = Principal("alpha", GROUPS, GROUPS, Certificate("alpha", "CN=Test CA", 1), by_password=True)
ADMIN = Principal("root", GROUPS, GROUPS, Certificate("root", "CN=Test CA", 2), admin=True, by_password=True)
WHO: dict[str, Principal | None] = {"a": None, "u": USER, "d": ADMIN, "i": None}
"""Anonymous, a user, an administrator; whoever shows an invite."""
HASH = hash_of("secret12")
CONTENT = b"PK"
"""Of the file that it has."""
MAX_CHANGES = 25
"""Inputs that may have changed a site until another one is made, which takes longer than a hundred of them."""
MARTI = "taky_twisted.marti."
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class SaidDoor(MartiSite):
    """A door whose callers are whoever the input says."""

    who: Principal | None = None
    invited: Invited | None = None

    def caller(self, request: MartiRequest) -> Principal:
        request.invited = self.invited
        if self.who is None and self.invited is not None:
            return Principal(self.invited.name)
        return self.who or ANONYMOUS

    def is_tls(self, request: MartiRequest) -> bool:  # type: ignore[override]
        return self.who is not None or self.invited is not None


class ProvingDoor(MartiSite):
    """A door whose callers are whoever they prove to be with a password, an access token or an invite."""

    def is_tls(self, request: MartiRequest) -> bool:  # type: ignore[override]
        return True


@dataclass
class Site:
    """A server's API, and doors to it."""

    clock: ThreadedClock
    api: Api
    folder: DataFolder
    accounts: Accounts
    door: SaidDoor
    enroll_door: SaidDoor
    proving_door: ProvingDoor

    @classmethod
    def made(cls) -> Site:
        """Make one that knows somebody, something, and a file."""
        root = memory_folder("site")
        files = written(root / "ssl", made_authority())
        ssl = SslSettings(ca=files.certificate, ca_key=files.key, server_p12=None, cert_db=root / "ssl" / "cert-db.txt")
        settings = Settings(hostname="tak.example", data_dir=root / "data", ssl=ssl)
        clock, folder = ThreadedClock(NOW), DataFolder(root / "data")
        store = MemoryStore(clock)
        router = Router(clock, store, settings.limits)
        accounts = Accounts(clock, store)
        accounts.add("alpha", HASH)
        folder.open()
        api = Api(clock, settings, folder, store, router, MemoryRecorder(), accounts=accounts)
        store.open()
        api.startService()
        marti, enroll, counted = api.marti, api.enroll_marti, api.connections
        site = cls(
            clock,
            api,
            folder,
            accounts,
            SaidDoor(marti, clock, True, counted, "http"),
            SaidDoor(enroll, clock, True, counted, "enroll", enrolls=True),
            ProvingDoor(enroll, clock, False, counted, "enroll", "password", True),
        )
        speaker = router.speaker(USER, MemorySink(), "test")
        for document in (sa("A", "ALPHA"), marker()):
            speaker.publish(event(document))
        site.door.who = USER
        for target, body, kind in (
            ("/Marti/sync/missionupload?filename=a.zip&creatorUid=A", form(CONTENT), FORM_HEADERS["Content-Type"]),
            ("/Marti/vcm", VIDEO, "application/xml"),
        ):
            connection = Connection(site.door)
            connection.send(spell("POST", target, body, {"Content-Type": kind}))
            site.settle()
            assert statuses(connection.transport.value()) == [200], connection.transport.value()
            connection.lose()
        clock.advance(1)
        site.settle()
        return site

    def settle(self) -> None:
        """Do all that threads have left to do in the reactor's."""
        with suppress(Empty):
            while True:
                self.clock._calls.get_nowait()()

    def left_over(self) -> list[Any]:
        """List what is to be done later for a connection or its request."""
        calls: list[Any] = list(self.clock.getDelayedCalls())
        whose = [(call, type(getattr(call.func, "__self__", None)).__module__, call.func) for call in calls]
        return [call for call, owner, func in whose if MARTI in (owner[: len(MARTI)], func.__module__[: len(MARTI)])]

    def remove(self) -> None:
        """Stop it, and take its files away."""
        stopped = self.api.stopService()
        assert isinstance(stopped, Deferred)
        self.clock.advance(FINISH_SECONDS)
        self.settle()
        self.accounts.stop()
        self.folder.close()
        shutil.rmtree(self.folder.path.parent, ignore_errors=True)


class Sites:
    """A site for many inputs: another one is made when some may have changed it, or one found something."""

    def __init__(self) -> None:
        self._site: Site | None = None
        self._changes: list[bytes] = []
        atexit.register(self._remove)

    @contextmanager
    def site(self, data: bytes) -> Iterator[Site]:
        """Find or make one for an input; if that finds something, say which inputs have changed the site before."""
        if self._site is None or len(self._changes) >= MAX_CHANGES:
            self._remove()
            with without_threads():
                self._site = Site.made()
        try:
            with without_threads(), no_mistakes():
                yield self._site
            assert not self._site.left_over(), f"something goes on: {self._site.left_over()}"
        except BaseException as error:
            before = self._changes
            self._remove()
            if before:
                with tempfile.NamedTemporaryFile("w", prefix="taky-fuzz-before-", suffix=".txt", delete=False) as file:
                    file.writelines(f"{each!r}\n" for each in before)
                raise AssertionError(f"{error!r}, perhaps only after what is in {file.name}") from error
            raise

    def changed(self, data: bytes) -> None:
        """Learn that an input has changed the site."""
        self._changes.append(data)

    def _remove(self) -> None:
        site, self._site = self._site, None
        self._changes = []
        if site is not None:
            with without_threads():
                site.remove()


def statuses(raw: bytes) -> list[int]:
    """List the statuses of answers."""
    return [int(status) for status in _STATUS.findall(raw)]
