"""The recorder's files: one per sender, with safe names, of bounded size and number. Runs in the recorder's thread."""

from __future__ import annotations

import hashlib
import os
import re
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

SENDERS = 10_000
"""So many senders have files of their own; all others share one."""
OPEN_FILES = 64
"""So many files are held open."""
NAME_LENGTH = 80
"""Characters of a sender that are found again in its file's name."""
OTHERS = "_others"
"""The name of the file for those who have none of their own; no sender's name comes out like that."""

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_LIKE_HASHED = re.compile(r".*-[0-9a-f]{10}")


def file_name(sender: str) -> str:
    """Make a name for a sender's file, without the suffix.

    A name in lower-case letters, digits, dots and the like is used as it is. Any other gets a hash at its end, so that
    different senders have different files, also where a file system takes upper and lower case for the same.
    """
    if _PLAIN.fullmatch(sender) and not _LIKE_HASHED.fullmatch(sender):
        return sender
    digest = hashlib.sha256(sender.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    safe = re.sub("[^A-Za-z0-9._-]", "_", sender[:NAME_LENGTH]).lstrip(".-") or "unnamed"
    return f"{safe}-{digest}"


class RecordedFile:
    """One sender's file, open for appending."""

    def __init__(self, path: Path, max_bytes: int, files: int) -> None:
        """Open the file.

        Raises:
            OSError: That is not possible.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._open()

    def append(self, entries: list[bytes]) -> None:
        """Write at the end, going on in a new file where this one would become too large.

        Raises:
            OSError: Not everything could be written; a part of an entry is taken back.
        """
        chunk: list[bytes] = []
        room = self._max_bytes - self._size
        for entry in entries:
            if len(entry) > room and (chunk or self._size):
                self._write(b"".join(chunk))
                self._rotate()
                chunk = []
                room = self._max_bytes
            chunk.append(entry)
            room -= len(entry)
        self._write(b"".join(chunk))

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        def numbered(number: int) -> Path:
            return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

        for number in range(self._files - 2, -1, -1):
            with suppress(FileNotFoundError):
                numbered(number).replace(numbered(number + 1))
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        old = self._descriptor
        self._open()
        os.close(old)


class RecordedFiles:
    """The files of all senders, below one folder."""

    def __init__(
        self, folder: Path, max_bytes: int, files: int, *, senders: int = SENDERS, open_files: int = OPEN_FILES
    ) -> None:
        """Touch nothing yet.

        Args:
            folder: Is made when it is not there, readable by its owner alone.
            max_bytes: What one file holds before it is rotated.
            files: How many files one sender has in all: ``name.cot``, ``name.cot.1`` and so on.
            senders: How many senders have files of their own.
            open_files: How many files are held open.
        """
        self.folder = folder
        self._max_bytes = max_bytes
        self._files = files
        self._senders = senders
        self._open_files = open_files
        self._names: set[str] | None = None
        """The senders' files that there are; None before the folder was read."""
        self._open: OrderedDict[str, RecordedFile] = OrderedDict()

    def name_of(self, sender: str) -> str:
        """Say which file a sender's entries go to, without the suffix.

        Raises:
            OSError: The folder cannot be made or read.
        """
        if self._names is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._names = {entry[:-4] for entry in os.listdir(self.folder) if entry.endswith(".cot")} - {OTHERS}
        name = file_name(sender)
        if name not in self._names:
            if len(self._names) >= self._senders:
                return OTHERS
            self._names.add(name)
        return name

    def append(self, name: str, entries: list[bytes]) -> None:
        """Append entries to a file.

        Raises:
            OSError: Not all could be written.
        """
        file = self._file(name)
        try:
            file.append(entries)
        except OSError:
            self._open.pop(name).close()
            raise

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _file(self, name: str) -> RecordedFile:
        file = self._open.get(name)
        if file is not None:
            self._open.move_to_end(name)
            return file
        if len(self._open) >= self._open_files:
            self._open.popitem(last=False)[1].close()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._open[name] = RecordedFile(self.folder / f"{name}.cot", self._max_bytes, self._files)
        return file
