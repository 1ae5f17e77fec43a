"""Share with the other nodes what an operator sets: accounts, invites, certificates, files, the server's id, ...

It stands between the node's own store and everything that uses it, and it has what the other nodes have before the
doors open. What other nodes change is taken in with all that follows from it here: groups are switched, connections
closed.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from taky_twisted.background import logged
from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.bus.shared_numbers import SharedNumbers
from taky_twisted.bus.shared_redis import SharedRedis
from taky_twisted.bus.shared_register import SharedRegister
from taky_twisted.bus.shared_secrets import Secret, SharedSecrets
from taky_twisted.bus.shared_store import SharedStore
from taky_twisted.bus.shared_turns import NotOurTurn, SharedTurns
from taky_twisted.config import Settings
from taky_twisted.data_folder import ID_NAME, DataFolder
from taky_twisted.enrollment.access_tokens import KEY_NAME
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.invites import Invited
from taky_twisted.enrollment.records import Invite, SpentUse
from taky_twisted.enrollment.register import CertificateRegister
from taky_twisted.enrollment.service import Enrollment, TooOften
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.records import Account
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import Logger
from taky_twisted.records import LISTS
from taky_twisted.reloading import Reloading
from taky_twisted.routing import switching
from taky_twisted.routing.records import ActiveGroups
from taky_twisted.routing.router import Router
from taky_twisted.stores import DEFAULT_FILE
from taky_twisted.video.records import VideoConnection

if TYPE_CHECKING:
    from taky_twisted.api import Api
    from taky_twisted.identity.tls import MutualTLS

MAX_KEY_FILE = 1 << 14
"""Bytes of a key for access tokens."""


class Sharing:
    """What this node shares with the others; `taky_twisted.server.Groundwork`."""

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, own: EventStore, folder: DataFolder) -> None:
        """Connect to nothing yet.

        Args:
            reactor: the reactor.
            settings: name a bus.
            own: this node's own store.
            folder: has the files that all nodes have alike.

        Raises:
            EndpointError: the settings cannot be used.
        """
        assert settings.bus is not None, "no bus is named"
        self._reactor, self._settings, self._folder = reactor, settings, folder
        self._redis = SharedRedis(reactor, settings.bus, settings.node_id)
        self.shared = SharedLog(reactor, self._redis, own, _changed(reactor, settings, folder.path))
        self.store = SharedStore(own, self.shared, lossy=_file_of(settings, folder.path) is None)
        """What everybody puts into, instead of the node's own store."""
        self._secrets = SharedSecrets(reactor, self.shared, self._files())
        self._registers: list[SharedRegister] = []
        self._numbers: SharedNumbers | None = None
        self._router: Router | None = None
        self._api: Api | None = None
        self._reloading: Reloading | None = None
        self._is_prepared = False
        self._register_changed = False

    def join(
        self, router: Router, accounts: Accounts, api: Api | None, reloading: Reloading, tls: Sequence[MutualTLS]
    ) -> None:
        """Name who has in memory what is shared, before the store is opened.

        Args:
            router: has the groups that are switched off.
            accounts: the accounts.
            api: has everything else, if it is served.
            reloading: makes the doors act on the certificate register.
            tls: the doors that look into one.
        """
        self._router, self._api, self._reloading = router, api, reloading
        self.store.hold(Account, accounts.take_in)
        self.store.hold(ActiveGroups, partial(_take_in_choice, router))
        if api is not None:
            self.store.hold(Invite, api.enrolling.invites.take_in)
            self.store.hold(SpentUse, api.enrolling.invites.take_in_use)
            self.store.hold(StoredFile, api.files.take_in, api.files.lost)
            self.store.hold(VideoConnection, api.videos.take_in)
            self._join_enrollment(api.enrolling.enrollment)
            self._numbers = SharedNumbers(self._redis, lambda: api.files.highest)
            api.files.numbers = self._numbers.take
        site = self._settings.ssl.cert_db
        paths = [] if site is None else [os.path.abspath(site)]
        paths += [each.settings.register.path for each in tls if each.settings.register is not None]
        for number, path in enumerate(dict.fromkeys(paths)):
            # Where doors have registers of their own, the nodes name them in the same order.
            register, suffix = CertificateRegister(Path(path)), f" {number + 1}" if number else ""
            self._registers.append(SharedRegister(self._reactor, self.shared, register, self._entered, suffix))

    def _join_enrollment(self, enrollment: Enrollment | None) -> None:
        if enrollment is None:
            return
        turns = SharedTurns(self._reactor, self._redis, self.shared)

        @asynccontextmanager
        async def turn(invited: Invited, key_sha256: str) -> AsyncIterator[None]:
            use = LISTS[SpentUse], f"{invited.hash}\n{key_sha256}"
            try:
                async with turns.turn((LISTS[Invite], invited.hash), [use]):
                    yield
            except NotOurTurn:
                raise TooOften("others are using this invite at the moment; try again in a minute") from None

        enrollment.turn = turn

    def reloaded(self) -> None:
        """Look into the register at once: somebody has said that it was changed."""
        if self._is_prepared:
            for register in self._registers:
                register.look().addErrback(logged(self.log, "looking for new entries in the register"))

    async def prepare(self) -> None:
        """Get what the other nodes have, or serve the last copy after a while."""
        await self._secrets.begin()
        for register in self._registers:
            await register.begin()
        self.shared.startService()
        if await self.shared.when_synced() and self._numbers is not None:
            await self._numbers.fill()
        await self._ensure_key()
        if self._register_changed:
            await self._reload()
        self._is_prepared = True

    async def finish(self) -> None:
        """Share nothing any more; the last changes are told if that is possible."""
        self._is_prepared = False
        await self.shared.stopService()
        for register in self._registers:
            await register.end()
        self._secrets.end()

    # Files that all nodes have alike

    def _files(self) -> dict[str, Secret]:
        folder = self._folder.shared
        return {
            ID_NAME: Secret(folder / ID_NAME, _is_id, self._take_id),
            KEY_NAME: Secret(folder / KEY_NAME, _is_key, self._take_key),
        }

    def _take_id(self, content: bytes) -> None:
        assert self._router is not None, "join comes first"
        server_id = content.decode().strip()
        self._router.flow_tag = self._router.flow_tag[: -len(server_id)] + server_id
        if self._api is not None:
            self._api.info.node_id = server_id

    def _take_key(self, _: bytes) -> None:
        if self._api is not None and self._api.tokens is not None:
            self._api.tokens.forget_key()

    async def _ensure_key(self) -> None:
        # Now and not with the first token, or two nodes would make two at the same time.
        if self._api is None or self._api.tokens is None:
            return
        try:
            self._secrets.made(KEY_NAME, await self._api.tokens.ensure_key())
        except EnrollmentError as error:
            self.log.warn("{error}", error=str(error))
        await self.shared.flush()

    # The register

    def _entered(self) -> None:
        self._register_changed = True
        if self._is_prepared:
            Deferred.fromCoroutine(self._reload()).addErrback(logged(self.log, "taking in what was revoked"))

    async def _reload(self) -> None:
        assert self._reloading is not None, "join comes first"
        self._register_changed = False
        await self._reloading.reload()
        from taky_twisted.enrolling import issuing_of  # only when it is needed

        issuing, key = issuing_of(self._settings), self._settings.ssl.ca_key
        if issuing is not None and key is not None and key.exists():  # many keep it elsewhere
            await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), issuing.publish)


def _take_in_choice(router: Router, key: str, record: ActiveGroups | None) -> None:
    for stream in router.groups.take_in(key, record):
        if not stream.closed:
            switching.grant(router, stream, stream.granted, router.now())


def _changed(reactor: Any, settings: Settings, folder: Path) -> Callable[[], float]:
    """Say when the store was changed last before it is opened; a store that is no file may have been just now."""
    path = _file_of(settings, folder)
    if path is None:
        return lambda: float(reactor.seconds())
    times = [each.stat().st_mtime for each in (path, path.with_name(f"{path.name}-wal")) if each.exists()]
    return lambda: max(times, default=0.0)


def _file_of(settings: Settings, folder: Path) -> Path | None:
    """Name the store's file; None if it is in Redis, which may have lost some of it, or in memory."""
    kind, _, name = (settings.store or f"sqlite:{DEFAULT_FILE}").partition(":")
    return folder / name if kind == "sqlite" else None


def _is_id(content: bytes) -> bool:
    return re.fullmatch(rb"[0-9a-f]{32}\n?", content) is not None


def _is_key(content: bytes) -> bool:
    if len(content) > MAX_KEY_FILE:
        return False
    try:
        return isinstance(load_pem_private_key(content, None), RSAPrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
