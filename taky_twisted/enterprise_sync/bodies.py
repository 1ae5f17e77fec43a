"""The two shapes in which a file is uploaded: as it is, and as a part of a form. Both run in the writing thread.

Source: TAK Server ``sync/MissionPackageUploadServlet.java`` and ``sync/UploadServlet.java`` (the names of the part).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from taky_twisted.enterprise_sync.contents import Incoming
from taky_twisted.enterprise_sync.errors import BadUpload, UploadTooLarge

PART_NAMES = ("assetfile", "resource")
"""What clients and TAK Server's own web page call the part with the file."""
MAX_PARTS = 50
"""Parts of one form."""
FRAME_BYTES = 64 << 10
"""What a form may have beside the file, in bytes: boundaries, headers, other fields."""
MAX_BOUNDARY = 200
"""Characters; RFC 2046 allows 70."""


class Body(Protocol):
    """Finds the file in a request's body."""

    incoming: Incoming
    file_name: str
    """What the body itself says the file is called; empty if it does not."""
    mime_type: str

    def take(self, pieces: Sequence[bytes]) -> None:
        """Take the next pieces. Raises `SyncError` or `OSError`."""

    def finish(self) -> None:
        """There is no more to come: see whether all is there, and seal it. Raises as `take`."""


class RawBody:
    """The body is the file."""

    def __init__(self, incoming: Incoming, limit: int) -> None:
        self.incoming = incoming
        self.file_name = self.mime_type = ""
        self._limit = limit

    def take(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            check_size(self.incoming.size + len(piece), self._limit)
        self.incoming.write(b"".join(pieces))

    def finish(self) -> None:
        self.incoming.seal()


class FormBody:
    """The file is a part of ``multipart/form-data``: one with a name of `PART_NAMES`, else the first that is a file."""

    def __init__(self, incoming: Incoming, limit: int, boundary: str) -> None:
        """Read nothing yet.

        Raises:
            BadUpload: the boundary cannot be used.
        """
        self.incoming = incoming
        self.file_name = self.mime_type = ""
        self._limit = limit
        self._chosen: MultipartSegment | None = None
        self._taking = False
        if not 0 < len(boundary) <= MAX_BOUNDARY or not boundary.isprintable():
            raise BadUpload("the form's boundary is missing, too long, or has control characters")
        self._parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS)

    def take(self, pieces: Sequence[bytes]) -> None:
        file: list[bytes] = []
        data = b"".join(pieces)
        if not data:
            return  # to the parser this would be the end
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._write(file)
                    self._begin(event)
                elif event is None:
                    self._taking = False
                elif self._taking:
                    file.append(event)
        except MultipartError as error:
            raise BadUpload(f"the form cannot be read: {error!s:.100}") from error
        self._write(file)

    def finish(self) -> None:
        try:
            self._parser.close()
        except MultipartError as error:
            raise BadUpload(f"the form is not whole: {error}") from error
        if self._chosen is None:
            raise BadUpload("the form has no file; it is expected in the part assetfile")
        self.incoming.seal()

    def _begin(self, part: MultipartSegment) -> None:
        """Decide whether a part is the file."""
        chosen = self._chosen
        if chosen is not None and (chosen.name in PART_NAMES or part.name not in PART_NAMES):
            return
        if part.name in PART_NAMES or part.filename:
            if chosen is not None:
                self.incoming.restart()
            self._chosen, self._taking = part, True
            self.file_name, self.mime_type = part.filename or "", part.content_type or ""

    def _write(self, file: list[bytes]) -> None:
        if file:
            data = b"".join(file)
            file.clear()
            check_size(self.incoming.size + len(data), self._limit)
            self.incoming.write(data)


def check_size(size: int, limit: int) -> None:
    """Raise `UploadTooLarge` for a file of more bytes than are taken."""
    if size > limit:
        raise UploadTooLarge(f"the file is too large; up to {limit} bytes are taken")
