"""Write files that matter: never half a file, never for more eyes than wanted, never over what is there by accident."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def write_new(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Write a file that must not be there yet, in one step: whoever opens it sees all of it.

    Raises:
        FileExistsError: it is there.
        OSError: it cannot be written; nothing is left of it.
    """
    descriptor, aside = _aside(path)
    try:
        _fill(descriptor, content, mode)
        try:
            os.link(aside, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
            os.replace(aside, path)
            return
    except OSError:
        os.unlink(aside)
        raise
    os.unlink(aside)


def replace_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file in one step: whoever opens it sees all of the old or all of the new content.

    It keeps its owner and, unless one is given, its mode. A new one belongs to the owner of its folder: root may work
    on a site whose server runs as somebody else.

    Raises:
        OSError: it cannot be written; it stays as it was.
    """
    path = _followed(path)
    try:
        like = path.lstat()
        mode = like.st_mode & 0o777 if mode is None else mode
    except FileNotFoundError:
        like = path.parent.stat()
    descriptor, aside = _aside(path)
    try:
        _fill(descriptor, content, PRIVATE if mode is None else mode, like)
        os.replace(aside, path)
    except OSError:
        os.unlink(aside)
        raise
    sync_folder(path.parent)


def _aside(path: Path) -> tuple[int, str]:
    return tempfile.mkstemp(prefix=".taky-", dir=path.parent)  # short: the name may have its full length


def _fill(descriptor: int, content: bytes, mode: int, like: os.stat_result | None = None) -> None:
    with open(descriptor, "wb") as file:
        if like is not None and os.geteuid() == 0:
            os.fchown(descriptor, like.st_uid, like.st_gid)
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _followed(path: Path) -> Path:
    """Name what a link leads to, so that it stays a link.

    Root follows only its own ones: who may write in a folder must not choose which file of the system root writes.
    """
    if not path.is_symlink():
        return path
    if os.geteuid() == 0 and path.lstat().st_uid != 0:
        raise PermissionError(
            errno.EPERM, "a link that is not root's, and root follows no other; run this as its owner", str(path)
        )
    return path.resolve()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
