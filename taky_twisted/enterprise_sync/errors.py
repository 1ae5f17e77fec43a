"""What goes wrong with files; the texts are for whoever asked."""

from __future__ import annotations


class SyncError(Exception):
    """Something cannot be done with a file."""


class NoSuchFile(SyncError):
    """There is no such file, or not for this caller."""


class NotYours(SyncError):
    """The file is there, but somebody else's."""


class BadUpload(SyncError):
    """A body or its description makes no sense, or is not what was announced."""


class UploadTooLarge(SyncError):
    """A file is larger than what is taken."""


class NoRoom(SyncError):
    """The server cannot keep any more."""


class Overloaded(SyncError):
    """The server cannot do it just now, but may a little later."""
