"""Ask a server's stored files in memory: real threads and files, a clock that stands still, no sockets."""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.enterprise_sync.service import EnterpriseSync
from taky_twisted.identity.principal import Principal
from taky_twisted.marti.files import FilesArea
from taky_twisted.marti.site import ServerInfo
from taky_twisted.marti.sync import SyncArea
from taky_twisted.marti.sync_metadata import SyncMetadataArea
from taky_twisted.routing.contacts import Contacts
from taky_twisted.stores.memory import MemoryStore
from tests.marti.asking import NODE_ID, Answer, Asking, Connection, spell
from tests.threaded_clock import ThreadedClock

BOUNDARY = "------------------------0123456789abcdef"


def form(data: bytes, field: str = "assetfile", name: str = "Fotos.zip", boundary: str = BOUNDARY) -> bytes:
    """Spell a file as curl does in a form."""
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: application/x-zip-compressed\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{boundary}--\r\n".encode()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


class FileServer:
    """A server with stored files and nothing else, and one door to it."""

    def __init__(
        self, test: SynchronousTestCase, *, limits: Limits | None = None, anonymous: bool = True, start: bool = True
    ) -> None:
        self.clock = ThreadedClock()
        self.store = MemoryStore(self.clock)
        self.upload_path = Path(test.mktemp()).absolute()
        self.limits, self.anonymous = limits or Limits(), anonymous
        self.server_id = NODE_ID
        test.addCleanup(self.stop)
        self.running = False
        if start:
            self.start()

    def start(self) -> None:
        """Start on what is there."""
        self.sync = EnterpriseSync(self.clock, self.store, self.upload_path, self.limits)
        self.contacts = Contacts(self.clock, self.store, 10, 10, lambda event, groups: None)
        info = ServerInfo(node_id=NODE_ID)
        self.asking = Asking(
            SyncArea(self.clock, self.sync),
            SyncMetadataArea(self.clock, self.sync, info),
            FilesArea(self.clock, self.sync, self.contacts, info),
            clock=self.clock,
            anonymous=self.anonymous,
            limits=self.limits,
        )
        self.sync.restore(self.clock.wait(self.store.open()).files)
        self.sync.start(self.server_id, None)
        self.running = True

    def stop(self) -> None:
        """Stop."""
        if self.running:
            self.running = False
            self.clock.wait(Deferred.fromCoroutine(self.sync.stop()))

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def connect(self, who: Principal | None = None) -> Connection:
        """Open a connection."""
        self.asking.door.who = who
        return Connection(self.asking.door)

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        who: Principal | None = None,
    ) -> Answer:
        """Ask, and wait for the answer."""
        connection = self.connect(who)
        connection.send(spell(method, target, body, headers))
        answer = self.answer(connection, method)
        connection.lose()
        return answer

    def answer(self, connection: Connection, method: str = "GET") -> Answer:
        """Wait for the answer on a connection."""
        while not whole(connection.transport.value(), method):
            self.clock.run_one()
        return connection.answer(method)

    def upload(self, data: bytes, query: str = "filename=Fotos.zip&creatorUid=A", who: Principal | None = None) -> str:
        """Upload a package as ATAK does; return its hash."""
        answer = self("POST", f"/Marti/sync/missionupload?{query}", form(data), FORM, who)
        assert answer.status == 200, answer
        return answer.body.decode()[-64:]

    def listed(self, query: str = "keywords=missionpackage&tool=public", who: Principal | None = None) -> list[str]:
        """List the names that a search finds."""
        return [file["Name"] for file in self("GET", f"/Marti/sync/search?{query}", who=who).json["results"]]

    def records(self) -> list[StoredFile]:
        """List what the store has."""
        return self.clock.wait(self.store.open()).files

    def contents(self) -> set[str]:
        """List the hashes of the contents on disk."""
        blobs = self.upload_path / "blobs"
        return {path.name for path in blobs.glob("??/*")}

    def incoming(self) -> list[str]:
        """List what is written aside just now, when the thread has done all that it was asked to."""
        self.clock.wait(self.sync.blobs.write(lambda: None))
        return os.listdir(self.upload_path / "blobs" / "incoming")


def whole(raw: bytes, method: str) -> bool:
    """Whether an answer has arrived in its full length."""
    head, end, body = raw.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and (method == "HEAD" or length is None or len(body) >= int(length[1]))
