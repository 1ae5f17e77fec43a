"""Contents on disk, each under its own SHA-256.

::

    blobs/owner                 whose folder this is
    blobs/incoming/<random>     what is being uploaded; nothing in here is ever served
    blobs/<2 hex>/<64 hex>      whole contents, written aside and renamed

No name on disk comes from a client: a content is called by the hash that we computed. Several nodes of one server may
share the folder; each has an ``incoming-<node>`` of its own then, and nothing is deleted that another may just need.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from taky_twisted.background import logged
from taky_twisted.enterprise_sync.contents import Content, Incoming
from taky_twisted.enterprise_sync.disk_thread import DiskThread, Stopped
from taky_twisted.enterprise_sync.errors import NoRoom, NoSuchFile, Overloaded
from taky_twisted.files import sync_folder
from taky_twisted.interfaces import StoreError
from taky_twisted.logs import Logger

P = ParamSpec("P")
T = TypeVar("T")

COPY_BYTES = 1 << 20
"""Bytes that are copied at once."""

FORGET_SECONDS = 60.0
"""How long a content that nothing refers to stays in a folder that several nodes share."""

_HASH = re.compile("[0-9a-f]{64}")


class Blobs:
    """All contents of a server, in a folder that is its own."""

    log = Logger()

    def __init__(self, folder: Path, reactor: Any, node: str = "") -> None:
        """Touch nothing yet.

        Args:
            folder: made when it is not there.
            reactor: takes calls from threads, and tells the time.
            node: of a server with several nodes the name of this one, which is one among those in the same folder.
        """
        self.folder = folder
        self._node, self._reactor = node, reactor
        self._incoming = folder / (f"incoming-{node}" if node else "incoming")
        self._elsewhere: dict[str, int] = {}
        self.fetch: Callable[[str, int], Deferred[None]] | None = None
        """Gets a content that other nodes have into this folder; fails with `NoSuchFile` if none has it."""
        # Two: who reads need not wait until the disk has taken a large upload.
        self._writing = DiskThread("uploads", IReactorFromThreads(reactor))
        self._reading = DiskThread("downloads", IReactorFromThreads(reactor))
        self._sizes: dict[str, int] = {}

    def open(self, owner: str, known: Container[str]) -> None:
        """Make the folder or look through it, and clean up what a sudden end has left. This waits for the disk.

        Args:
            owner: whose folder it is to be.
            known: hashes of the contents that are wanted; others are deleted.

        Raises:
            StoreError: it cannot be used.
        """
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.folder, self._incoming):
                folder.mkdir(mode=0o700, exist_ok=True)
            mine = self._is_mine(owner)
            if mine:
                for left in os.scandir(self._incoming):
                    os.unlink(left.path)
            orphans = 0
            for entry in self._contents():
                # What another node was given while this one was down is no orphan.
                if mine and not self._node and entry.name not in known:
                    os.unlink(entry.path)
                    orphans += 1
                else:
                    self._sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        except OSError as error:
            raise StoreError(
                f"cannot use the folder for uploaded files {self.folder}: {error.filename or ''}: {error.strerror}. "
                "Make it writable for the user that the server runs as, or name another one (upload_path in taky.conf)."
            ) from error
        if orphans:
            self.log.info("{orphans} contents that no file refers to were deleted", orphans=orphans)

    def stop(self) -> Deferred[list[None]]:
        """Fire when everything that was begun is done."""
        return gatherResults([self._writing.stop(), self._reading.stop()])

    def has(self, digest: str, size: int) -> bool:
        """Whether a content is there, and of this size; asks no disk."""
        return self._sizes.get(digest) == size

    def is_known(self, digest: str, size: int) -> bool:
        """Whether a content is there, or another node has it; asks no disk."""
        return self.has(digest, size) or self._elsewhere.get(digest) == size

    def size(self, digest: str) -> int | None:
        """Tell the size of a content that is there; None if it is not."""
        return self._sizes.get(digest)

    def expect(self, digest: str, size: int) -> Deferred[None]:
        """Learn that another node has been given a content; it may be in this folder already.

        Returns:
            Fires when it is here; fails with `NoSuchFile` if nobody can give it to us at the moment.
        """
        if self.has(digest, size) or not _HASH.fullmatch(digest):
            return succeed(None)
        self._elsewhere[digest] = size

        def looked(found: int | None) -> Deferred[None] | None:
            if found == size:
                self._sizes[digest] = size
            elif self.fetch is not None:
                return self.fetch(digest, size)
            return None

        return self._reading.run(self._size_on_disk, digest).addCallback(looked)

    def begin(self) -> Incoming:
        """Make a place for a content that is to come."""
        return Incoming(self._incoming / secrets.token_hex(16))

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run something that writes, after all that was to be written before."""
        return self._writing.run(call, *args, **kwargs)

    def aside(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run something that takes time, but writes nothing."""
        return self._reading.run(call, *args, **kwargs)

    def discard(self, incoming: Incoming) -> None:
        """Take away what is not wanted after all, when nothing is written to it any more."""
        self._in_the_end(self._writing.run(incoming.discard), "taking away an upload")

    async def keep(self, incoming: Incoming) -> None:
        """Put a sealed content in its place; one that is there already is replaced, for it might be damaged.

        Raises:
            OSError: that is not possible.
        """
        await self._writing.run(self._put, incoming)
        self._sizes[incoming.hash] = incoming.size

    async def adopt(self, path: Path, digest: str, size: int) -> None:
        """Put somebody else's file in its place and leave it where it is: as a hard link, or else as a copy.

        Raises:
            SyncError: the copy cannot be made.
            OSError: neither is possible.
        """
        await self._writing.run(self._adopt, path, digest)
        self._sizes[digest] = size

    def forget(self, digest: str) -> None:
        """Delete a content. Whoever is just reading it gets all of it."""
        self._elsewhere.pop(digest, None)
        if self._sizes.pop(digest, None) is None:
            return
        if self._node:  # another node may just be given the same
            self._reactor.callLater(FORGET_SECONDS, self._delete, digest)
        else:
            self._delete(digest)

    def _delete(self, digest: str) -> None:
        if digest not in self._sizes and digest not in self._elsewhere:
            self._in_the_end(self._writing.run(self.path(digest).unlink, missing_ok=True), "deleting a content")

    def read(self, digest: str, size: int) -> Deferred[Content]:
        """Open a content; fails with `NoSuchFile` if it is not there, or not whole."""
        wanted: Deferred[Content] = Deferred()

        def opened(descriptor: int) -> None:
            content = Content(descriptor, size, self._reading)
            if wanted.called:  # canceled: the client is gone
                content.close()
            else:
                wanted.callback(content)

        def failed(failure: Failure) -> None:
            failure.trap(OSError)
            if getattr(failure.value, "errno", None) in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                wanted.errback(Overloaded("too many files are open just now; try again"))
                return
            if self.has(digest, size):  # or it has been deleted in the meantime
                # From now on it is not there: then the next who has it uploads it anew, and that mends it.
                del self._sizes[digest]
                self.log.warn("the content {digest} cannot be served: {error}", digest=digest, error=str(failure.value))
            wanted.errback(NoSuchFile("the content of this file is lost; upload it again"))

        def open_it(_: None) -> None:
            opening = self._reading.run(self._open, self.path(digest), size)
            opening.addCallbacks(opened, failed).addErrback(wanted.errback)

        if self.fetch is None or self.has(digest, size):
            open_it(None)
        else:
            self.fetch(digest, size).addCallbacks(open_it, wanted.errback)
        return wanted

    def path(self, digest: str) -> Path:
        """Say where a content is."""
        assert _HASH.fullmatch(digest), digest
        return self.folder / digest[:2] / digest

    def place(self, digest: str) -> Path:
        """Say where a content is to be, and make its folder; waits for the disk."""
        path = self.path(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return path

    def _in_the_end(self, done: Deferred[None], what: str) -> None:
        # What a stop leaves behind goes at the next start.
        done.addErrback(lambda failure: failure.trap(Stopped) and None).addErrback(logged(self.log, what))

    def _put(self, incoming: Incoming) -> None:
        place = self.place(incoming.hash)
        os.replace(incoming.path, place)
        sync_folder(place.parent)

    def _adopt(self, path: Path, digest: str) -> None:
        link = self._incoming / secrets.token_hex(16)
        try:
            os.link(path, link, follow_symlinks=False)
        except OSError:  # another file system, one without links, or a foreign file
            copy = Incoming(link)
            try:
                with open(path, "rb") as file:
                    while piece := file.read(COPY_BYTES):
                        copy.write(piece)
                copy.seal()
                if copy.hash != digest:
                    raise OSError(f"{path} changes while it is read")
            except (OSError, NoRoom):
                copy.discard()
                raise
        place = self.place(digest)
        os.replace(link, place)
        sync_folder(place.parent)

    def _size_on_disk(self, digest: str) -> int | None:
        with suppress(OSError):
            return self.path(digest).stat(follow_symlinks=False).st_size
        return None

    @staticmethod
    def _open(path: Path, size: int) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(descriptor).st_size
        if found != size:
            os.close(descriptor)
            raise OSError(f"{path} has {found} bytes and should have {size}")
        return descriptor

    def _contents(self) -> Iterator[os.DirEntry[str]]:
        for folder in os.scandir(self.folder):
            if re.fullmatch("[0-9a-f]{2}", folder.name) and folder.is_dir(follow_symlinks=False):
                for entry in os.scandir(folder.path):
                    if _HASH.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        yield entry

    def _is_mine(self, owner: str) -> bool:
        """Find out whether we may delete here: not what another server knows of, or this one with another store."""
        note = self.folder / "owner"
        with suppress(FileExistsError), open(note, "xb") as file:
            file.write(os.fsencode(f"{owner}\n"))
            file.flush()
            os.fsync(file.fileno())
        if os.fsdecode(note.read_bytes()).strip() in (owner, ""):  # empty: the power failed when it was made
            return True
        self.log.warn(
            "the contents in {folder} belong to a server with another data folder or another store, so nothing that is "
            "left over is deleted there; if that one is gone for good, delete {note}",
            folder=str(self.folder),
            note=str(note),
        )
        return False
