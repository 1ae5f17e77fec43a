"""Where the body of an upload goes."""

from __future__ import annotations

from dataclasses import replace

from multipart import parse_options_header
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from taky_twisted.enterprise_sync.files import Words
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.enterprise_sync.texts import clean_type
from taky_twisted.enterprise_sync.upload import Order, Upload, Uploads
from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.file_words import caller_of
from taky_twisted.marti.refusals import told_to_the_client
from taky_twisted.marti.request import MartiRequest

FORM = "multipart/form-data"


class UploadSink:
    """The body of a request that uploads a file."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    @property
    def file(self) -> StoredFile:
        """What was stored; there is one as soon as a handler is called."""
        assert self._upload.file is not None
        return self._upload.file

    def write(self, data: bytes) -> None:
        with told_to_the_client():
            self._upload.write(data)

    def finish(self) -> Deferred[None]:
        def told(failure: Failure) -> None:
            with told_to_the_client():
                failure.raiseException()

        return self._upload.finish().addCallbacks(lambda file: None, told)

    def abort(self) -> None:
        self._upload.abort()


def receive(request: MartiRequest, uploads: Uploads, words: Words, *, only_form: bool = False) -> UploadSink:
    """Begin an upload when the headers of its request are there.

    Args:
        request: the request.
        uploads: takes it.
        words: what is said of the file.
        only_form: whether the file must be in a form.

    Raises:
        MartiError: it is refused.
    """
    kind, options = parse_options_header(request.getHeader("content-type") or "")
    boundary = options.get("boundary", "") if kind == FORM else None
    if boundary is None and only_form:
        raise BadRequest(f"the file is expected in a form, {FORM}, as its part assetfile")
    if boundary is None and not words.mime_type:
        # A client that says nothing of it is made to say this by its library.
        words = replace(words, mime_type="" if kind == "application/x-www-form-urlencoded" else clean_type(kind))
    order = Order(
        caller=caller_of(request),
        words=words,
        hash=request.arguments.hash() if request.arguments.one("hash") else None,
        boundary=boundary,
        length=request.length,
    )
    with told_to_the_client():
        return UploadSink(uploads.begin(order, request.pause, request.resume))
