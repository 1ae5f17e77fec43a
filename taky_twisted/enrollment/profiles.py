"""Device profiles: what a phone is given when it enrolls or connects, made of what the operator put into a folder.

::

    profiles/enrollment/   once, right after it has got its certificate
    profiles/connection/   each time it connects, what is new since the last time

A profile is a data package that the phone imports without asking: ``.pref`` files set preferences, ``.zip`` packages
and maps are imported as well. Nothing is made up here: an empty folder is no profile.

Source: TAK Server ``device/profile/service/ProfileService.java`` (the manifest).
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taky_twisted.enrollment.preferences import manifest
from taky_twisted.logs import Logger

Kind = Literal["enrollment", "connection"]

FOLDER = "profiles"
"""In the data folder."""
MAX_FILES = 500
MAX_BYTES = 32 << 20
"""Of all files of one profile."""
CACHED = 4
"""Packages that are kept in memory."""

_NAMESPACE = uuid.UUID("a6ad3b06-8c1a-4f6e-9d5b-0d4a8a1f7c55")
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    entry: str
    """Its name in the package."""
    size: int
    changed: int
    """When it was put there, in nanoseconds since the epoch."""


class Profiles:
    """The profiles of a site. They wait for the disk: use them in one thread."""

    log = Logger()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[Kind, tuple[_File, ...]], bytes] = {}
        self._complained: set[str] = set()

    def package(self, kind: Kind, since: float | None = None) -> bytes | None:
        """Make the package of a profile; None if there is nothing in it.

        Args:
            kind: which.
            since: only what was put there since then, in seconds since the epoch; all by default.
        """
        try:
            files = self._files(kind)
            if since is not None:
                files = tuple(file for file in files if file.changed >= since * 1e9)
            return self._package(kind, files) if files else None
        except OSError as error:
            self._complain(f"{self._folder / kind}: {error.strerror or error}; nobody is given that profile")
            return None

    def _files(self, kind: Kind) -> tuple[_File, ...]:
        files: list[_File] = []
        size = 0
        for file in self._found(self._folder / kind):
            size += file.size
            if len(files) >= MAX_FILES or size > MAX_BYTES:
                self._complain(
                    f"{self._folder / kind} holds more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB; nobody is given"
                    " that profile: take something out"
                )
                return ()
            files.append(file)
        return tuple(sorted(files, key=lambda file: file.entry))

    def _found(self, top: Path) -> Iterator[_File]:
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in names:
                path = Path(folder, name)
                entry = path.relative_to(top).as_posix()
                if name.startswith(".") or not path.is_file():
                    continue
                if not entry.isprintable():  # also what is no UTF-8: neither XML nor zip could have it
                    self._complain(f"{entry!r} in {top} is left out: its name is not printable text")
                    continue
                status = path.stat()
                # Not st_mtime alone: a copy may keep that of the original.
                yield _File(path, entry, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns))

    def _package(self, kind: Kind, files: tuple[_File, ...]) -> bytes:
        made = self._made.pop((kind, files), None) or _zip(kind, files)
        self._made[kind, files] = made
        if len(self._made) > CACHED:
            del self._made[next(iter(self._made))]
        return made

    def _complain(self, problem: str) -> None:
        if problem not in self._complained:
            self._complained.add(problem)
            self.log.warn("{problem}", problem=problem)


def _zip(kind: Kind, files: tuple[_File, ...]) -> bytes:
    contents = {file.entry: file.path.read_bytes() for file in files}
    digest = hashlib.sha256()
    for entry, content in contents.items():
        digest.update(f"{entry}\n{len(content)}\n".encode())
        digest.update(content)
    uid = str(uuid.uuid5(_NAMESPACE, f"{kind} {digest.hexdigest()}"))
    listed = manifest(uid, kind.capitalize(), contents)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in {"MANIFEST/manifest.xml": listed, **contents}.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            package.writestr(info, content)
    return written.getvalue()
