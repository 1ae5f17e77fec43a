"""Put the Marti API together: its areas, what they need, and its doors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred

from taky_twisted.background import logged
from taky_twisted.config import Settings
from taky_twisted.data_folder import DataFolder
from taky_twisted.enrolling import Enrolling
from taky_twisted.enrollment.access_tokens import KEY_NAME, AccessTokens
from taky_twisted.enterprise_sync.service import EnterpriseSync
from taky_twisted.history.keeper import History
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.failures import Failures
from taky_twisted.identity.proofs import Auth
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import Logger
from taky_twisted.marti.addresses import Addresses
from taky_twisted.marti.answers import Answers
from taky_twisted.marti.callers import Callers
from taky_twisted.marti.connections import HttpConnections
from taky_twisted.marti.contacts import ContactsArea
from taky_twisted.marti.cot import CotArea
from taky_twisted.marti.files import FilesArea
from taky_twisted.marti.groups import GroupsArea
from taky_twisted.marti.injectors import InjectorsArea
from taky_twisted.marti.kml import KmlArea
from taky_twisted.marti.oauth import OAuthArea
from taky_twisted.marti.site import Marti, MartiSite, ServerInfo
from taky_twisted.marti.stubs import StubsArea
from taky_twisted.marti.subscriptions import SubscriptionsArea
from taky_twisted.marti.sync import SyncArea
from taky_twisted.marti.sync_metadata import SyncMetadataArea
from taky_twisted.marti.utilities import UtilitiesArea
from taky_twisted.marti.version import VersionArea
from taky_twisted.marti.video import VideoArea
from taky_twisted.marti.video_feeds import VideoFeedsArea
from taky_twisted.marti.websocket import WebSocketArea
from taky_twisted.routing.recorder import Recorder
from taky_twisted.routing.router import DAY, Router
from taky_twisted.stores.history import SqliteHistory
from taky_twisted.video.takeover import take_over
from taky_twisted.video.videos import Videos

if TYPE_CHECKING:
    from taky_twisted.records import Kept


class Api(MultiService):
    """The Marti API of a server, for as many doors as there are."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        folder: DataFolder,
        store: EventStore,
        router: Router,
        recorder: Recorder | None = None,
        failures: Failures | None = None,
        accounts: Accounts | None = None,
        was_banned: Callable[[str, float], bool] = lambda name, since: False,
    ) -> None:
        super().__init__()
        self._reactor, self._folder = reactor, folder
        self.connections = HttpConnections(reactor, settings.limits, failures)
        self.connections.setServiceParent(self)
        self.info = ServerInfo(hostname=settings.hostname, public_url=settings.public_url)
        self._store = settings.store or ""
        self._marker = None if settings.store == "memory:" else folder.path / "taky-files-taken-over"
        # Only once for a site: what was deleted since must not come back with its second worker.
        self._takes_over = settings.worker in (None, 1)
        node, uploads = settings.node_name if settings.bus is not None else "", settings.upload_path
        self.sync = EnterpriseSync(reactor, store, uploads or folder.path / "dp-user", settings.limits, node)
        self.files = self.sync.files
        self.history = _history(reactor, settings, folder, router)
        self._answers = Answers(reactor, self.history, folder.path)
        self.videos = Videos(store, reactor, settings.limits.video_connections)
        self.enrolling = Enrolling(reactor, settings, folder, store, was_banned)
        version, utilities = VersionArea(self.info), UtilitiesArea(reactor)
        streams = WebSocketArea(reactor, router, settings.limits, self.info, recorder)
        areas = [
            version,
            ContactsArea(reactor, router, self.info),
            GroupsArea(reactor, router),
            SubscriptionsArea(reactor, router, self.info),
            utilities,
            StubsArea(self.connections.notices),
            SyncArea(reactor, self.sync),
            SyncMetadataArea(reactor, self.sync, self.info),
            FilesArea(reactor, self.sync, router.contacts, self.info),
            CotArea(reactor, router, self._answers),
            KmlArea(reactor, self._answers),
            InjectorsArea(router, settings.limits.max_event_bytes, recorder),
            VideoArea(reactor, self.videos),
            VideoFeedsArea(reactor, self.videos),
            streams,
            *self.enrolling.areas(),
        ]
        self.marti = Marti.of(areas, self.info)
        self.marti.granted = lambda principal, host: router.groups.granted(principal, host=host)
        self.marti.callers = Callers(accounts)
        # On the port for those without a certificate nobody sees files, nor anything else that groups decide about.
        enroll_areas = [version, utilities, streams, *self.enrolling.areas_without_certificate()]
        self._tokens = None
        if accounts is not None:
            self._tokens = AccessTokens(reactor, folder.shared / KEY_NAME, accounts)
            enroll_areas.append(OAuthArea(accounts, self._tokens))
        self.enroll_marti = Marti.of(enroll_areas, self.info)
        self.enroll_marti.granted = self.marti.granted
        self.enroll_marti.callers = Callers(accounts, self._tokens, self.enrolling.invited)
        self.addresses = Addresses(settings.public_url)
        router.offers.base_url = self.addresses.base_url

    @property
    def tokens(self) -> AccessTokens | None:
        """Makes and knows access tokens, if there are accounts."""
        return self._tokens

    def site(self, anonymous: bool, door: str = "HTTP", auth: Auth = "cert") -> MartiSite:
        """Make the factory of one more door, which has a name in the log and takes certain proofs."""
        return MartiSite(self.marti, self._reactor, anonymous, self.connections, door, auth)

    def enroll_site(self, door: str) -> MartiSite:
        """Make the factory of a door for clients without a certificate."""
        return MartiSite(self.enroll_marti, self._reactor, False, self.connections, door, "password", True)

    def restore(self, kept: Kept) -> None:
        """Take over what a store held, before anybody is connected."""
        self.enrolling.restore(kept)
        self.sync.restore(kept.files)
        self.videos.restore(kept.videos)

    def startService(self) -> None:
        self.info.node_id = self._folder.server_id()
        self.sync.start(f"{self.info.node_id} {self._store}".strip(), self._marker, self._takes_over)
        if self._takes_over:
            marker = self._marker.with_name("taky-videos-taken-over") if self._marker is not None else None
            taking = Deferred.fromCoroutine(take_over(self.sync.upload_path, self.videos, marker, self._reactor))
            taking.addErrback(logged(self.log, "taking over taky's video feeds"))
        if self.history is not None:
            self.history.start()
        super().startService()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await super().stopService()
        await self.sync.stop()  # afterwards: answers that are under way are finished before
        await self._answers.stop()
        await self.enrolling.stop()
        if self._tokens is not None:
            self._tokens.stop()
        if self.history is not None:
            await self.history.stop()

    def close_refused(self) -> None:
        """End the requests and connections of certificates that are refused by now."""
        self.connections.close_refused()

    def close_named(self, name: str, reason: str) -> int:
        """End the requests and connections of a certificate's or account's name; return how many those were."""
        return self.connections.close_named(name, reason)


def _history(reactor: Any, settings: Settings, folder: DataFolder, router: Router) -> History | None:
    """Have the router tell history of what is said, unless none is kept."""
    limits = settings.limits
    if not limits.history_days or settings.store == "memory:":
        return None
    path = folder.path / "history.sqlite"
    store = SqliteHistory(path, reactor, limits.history_days * DAY, limits.history_bytes)
    router.witness = history = History(reactor, store, router.contacts, str(path))
    return history
