"""What goes wrong with files, as HTTP says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from taky_twisted.enterprise_sync.errors import (
    BadUpload,
    NoRoom,
    NoSuchFile,
    NotYours,
    Overloaded,
    SyncError,
    UploadTooLarge,
)
from taky_twisted.marti.errors import MartiError

_STATUS: dict[type[SyncError], int] = {
    BadUpload: 400,
    NotYours: 403,
    NoSuchFile: 404,
    UploadTooLarge: 413,
    Overloaded: 503,
    NoRoom: 507,
}


@contextmanager
def told_to_the_client() -> Iterator[None]:
    """Refuse the request if something goes wrong with a file in here."""
    try:
        yield
    except SyncError as error:
        raise MartiError(_STATUS[type(error)], str(error)) from error
