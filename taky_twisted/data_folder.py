"""The folder in which one server keeps its state: locked, private, and with an id of its own."""

from __future__ import annotations

import fcntl
import os
import re
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

from taky_twisted.files import write_new

LOCK_NAME = "taky.lock"
ID_NAME = "server-id"
ADMIN_SOCKET = "taky-admin.sock"
"""Where operators ask, in the data folder."""
TAKY_SOCKET = "taky-mgmt.sock"
"""The same for taky's own programs."""
SOCKET_PATH_BYTES = 107
"""The longest path of a unix socket on Linux (``sun_path`` has 108 bytes and ends with a zero)."""

LOCK_TRIES = 5
LOCK_WAIT_SECONDS = 0.05
"""Between tries: somebody may just be checking."""


class DataFolderError(Exception):
    """The data folder cannot be used; the text tells the operator what to do."""


class SocketError(DataFolderError):
    """A unix socket cannot be used; the text tells the operator what to do."""


class DataFolder:
    """The data folder of one server.

    The lock is an ``flock``: it goes when the process does, however that ends, so a ``taky.lock`` that is left behind
    means nothing. Open it after twistd has gone to the background, or the lock names a process that is gone.
    """

    def __init__(self, path: Path, shared: Path | None = None) -> None:
        """Touch nothing yet.

        Args:
            path: the folder.
            shared: where what several processes share is, if they are one server; the same by default.
        """
        self.path = path.absolute()
        self.shared = shared.absolute() if shared is not None else self.path
        """Where what is no process's own is: the server's id, the key for access tokens, profiles, uploaded files."""
        self._lock: int | None = None

    def check(self) -> None:
        """See whether `open` would work, without making or locking anything.

        Raises:
            DataFolderError: It would not.
        """
        self._check_access()
        try:
            descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._in_use(descriptor) from None
        finally:
            os.close(descriptor)

    def open(self) -> None:
        """Make the folder, readable by its owner alone, if it is not there, and lock it.

        Raises:
            DataFolderError: It is no folder, is not writable, or another server uses it.
        """
        self._check_access()
        try:
            for folder in (*reversed(self.path.parents), self.path):
                if not folder.exists():
                    folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._take(descriptor)
            now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {now}\n".encode(), 0)
        except DataFolderError:
            os.close(descriptor)
            raise
        except OSError as error:
            os.close(descriptor)
            raise self._unusable(error) from error
        self._lock = descriptor

    def close(self) -> None:
        """Unlock the folder, if it is locked."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            # The file stays: who deletes a lock file may delete the one that a third process has just locked.
            os.close(descriptor)

    def server_id(self) -> str:
        """Tell this server's id, 32 hexadecimal digits, which is made at the first call and stays the same.

        Raises:
            DataFolderError: The file is damaged, or cannot be read or written.
        """
        path = self.shared / ID_NAME
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return self._make_id(path)
        except OSError as error:
            raise self._unusable(error) from error
        if not re.fullmatch("[0-9a-f]{32}", text):
            raise DataFolderError(
                f"{path} is damaged: it must hold 32 hexadecimal digits in lower case. "
                "Delete the file and the server makes itself a new id."
            )
        return text

    def socket_path(self, name: str) -> Path:
        """Say where a unix socket of this server is.

        Raises:
            SocketError: The path is too long for the system.
        """
        return checked_socket(self.path / name)

    def _check_access(self) -> None:
        """Look at the folder, or at where it is going to be."""
        there = self.path
        while not os.path.lexists(there):
            there = there.parent
        if not os.path.isdir(there):
            raise DataFolderError(
                f"cannot use the data folder {self.path}: {there} is not a folder. Name another one with --data-dir."
            )
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            raise DataFolderError(
                f"cannot use the data folder {self.path}: user id {os.geteuid()} may not write in {there}. "
                "Change its owner or mode, or name another one with --data-dir."
            )

    def _take(self, descriptor: int) -> None:
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_WAIT_SECONDS)
            else:
                return
        raise self._in_use(descriptor)

    def _in_use(self, descriptor: int) -> DataFolderError:
        holder = re.fullmatch(rb"(\d{1,10}) (\S{1,40})\n", os.pread(descriptor, 64, 0))
        who = "another server"
        if holder is not None:
            pid, since = holder[1].decode(), holder[2].decode("ascii", "replace")
            who = f"another server (process {pid}, running since {since})"
        return DataFolderError(
            f"cannot use the data folder {self.path}: {who} is using it. "
            "Stop that one first, or give this one a folder of its own with --data-dir."
        )

    def _unusable(self, error: OSError) -> DataFolderError:
        return DataFolderError(
            f"cannot use the data folder {self.path}: {error.filename or self.path}: {error.strerror}. "
            "Make it writable for the user that the server runs as, or name another one with --data-dir."
        )

    def _make_id(self, path: Path) -> str:
        server_id = uuid.uuid4().hex
        try:
            write_new(path, f"{server_id}\n".encode("ascii"))
        except FileExistsError:
            return self.server_id()  # another worker was faster
        except OSError as error:
            raise self._unusable(error) from error
        return server_id


def checked_socket(path: Path) -> Path:
    """Return the path of a unix socket, if the system can have one there.

    Raises:
        SocketError: The path is too long for the system.
    """
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES:
        raise SocketError(
            f"the path of the socket {path} has {length} bytes, and the system allows {SOCKET_PATH_BYTES}. "
            "Choose a data folder with a shorter path."
        )
    return path
