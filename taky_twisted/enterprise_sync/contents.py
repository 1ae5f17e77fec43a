"""One content on disk: while it is written, and while it is read."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred

from taky_twisted.enterprise_sync.disk_thread import DiskThread
from taky_twisted.enterprise_sync.errors import NoRoom

if TYPE_CHECKING:
    from _hashlib import HASH

T = TypeVar("T")

RESERVE_BYTES = 64 << 20
"""So much of the disk stays free, in bytes: the picture is kept there too."""


class Incoming:
    """A content that is being written aside. Everything here waits for the disk, so it belongs into a thread."""

    def __init__(self, path: Path) -> None:
        """Touch nothing yet."""
        self.path = path
        self.size = 0
        self.hash = ""
        """SHA-256 in lower-case hexadecimal digits, once sealed."""
        self._descriptor: int | None = None
        self._sha256: HASH = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Append something.

        Raises:
            NoRoom: the disk is almost full.
            OSError: it cannot be written.
        """
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
        if shutil.disk_usage(self.path.parent).free < RESERVE_BYTES + len(data):
            raise NoRoom("the server's disk is almost full")
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._sha256.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget what was written so far."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._sha256, self.size = hashlib.sha256(), 0

    def seal(self) -> None:
        """End it: all is on disk, and its hash is known.

        Raises:
            OSError: the disk did not take it.
        """
        self.write(b"")  # an empty content is one, too
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        self._close()
        self.hash = self._sha256.hexdigest()

    def discard(self) -> None:
        """Take it away; it may be gone already, or never have been there."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Content:
    """A content that is open for reading."""

    def __init__(self, descriptor: int, size: int, thread: DiskThread) -> None:
        self.size = size
        self._descriptor, self._thread = descriptor, thread
        self._reading = self._closed = False

    def read(self, at: int, count: int) -> Deferred[bytes]:
        """Read up to so many bytes from a place on; ask for one piece at a time."""
        self._reading = True
        return self._thread.run(os.pread, self._descriptor, count, at).addBoth(self._read)

    def close(self) -> None:
        """Let go of it, at the latest when the piece that is being read has come."""
        if not self._closed:
            self._closed = True
            self._let_go()

    def _read(self, result: T) -> T:
        self._reading = False
        if self._closed:
            self._let_go()
        return result

    def _let_go(self) -> None:
        if not self._reading:
            os.close(self._descriptor)
