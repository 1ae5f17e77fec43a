"""Enterprise Sync as a whole: its parts, and how they start and stop."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from taky_twisted.background import logged, undeterred
from taky_twisted.config.limits import Limits
from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.disk_thread import STOP_SECONDS, patiently
from taky_twisted.enterprise_sync.files import Files
from taky_twisted.enterprise_sync.takeover import take_over
from taky_twisted.enterprise_sync.upload import Uploads
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import Logger

if TYPE_CHECKING:
    from taky_twisted.enterprise_sync.records import StoredFile

EXPIRE_SECONDS = 60
"""How often files whose time is over are forgotten; they are not shown in between either."""


class EnterpriseSync:
    """The stored files of a server."""

    log = Logger()

    def __init__(self, reactor: Any, store: EventStore, upload_path: Path, limits: Limits, node: str = "") -> None:
        """Touch nothing yet.

        Args:
            reactor: the time, and it takes calls from threads.
            store: keeps what is known of the files.
            upload_path: gets a folder for their contents; perhaps taky's files are there.
            limits: how much there may be.
            node: of a server with several nodes the name of this one.
        """
        self.upload_path, self._clock, self._node = upload_path, reactor, node
        self.blobs = Blobs(upload_path / "blobs", reactor, node)
        self.files = Files(store, self.blobs, reactor, limits.stored_files)
        self.uploads = Uploads(self.files, self.blobs, reactor, limits.upload_bytes)
        self._expiring = LoopingCall(undeterred(self.log, "forgetting expired files", self.files.expire))
        self._expiring.clock = reactor

    def restore(self, records: Iterable[StoredFile]) -> None:
        """Take over what the store held."""
        self.files.restore(records)

    def start(self, owner: str, marker: Path | None, takes_over: bool = True) -> None:
        """Clean up, and take over what taky has, in the background. Waits for the disk, but not for taky's files.

        Args:
            owner: who knows of the contents that are there: this server, with the store that it has.
            marker: a file that says that taky's files were taken over; None: to be done at every start.
            takes_over: whether that is done here; another process of this server may have the same folder.

        Raises:
            StoreError: the folder cannot be used; the text tells the operator what to do.
        """
        self.blobs.open(owner, self.files.hashes())
        if self._node:
            self.files.expect_contents()
        self._expiring.start(EXPIRE_SECONDS, now=False).addErrback(logged(self.log, "forgetting expired files"))
        if not takes_over:
            return
        taking = Deferred.fromCoroutine(take_over(self.upload_path, self.files, self.blobs, marker))
        taking.addErrback(logged(self.log, "taking over taky's files"))

    async def stop(self) -> None:
        """End what is on its way."""
        if self._expiring.running:
            self._expiring.stop()
        await self.uploads.stop()
        await patiently(self.blobs.stop(), STOP_SECONDS, self._clock)
