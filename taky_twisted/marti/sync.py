"""``/Marti/sync``: how ATAK, WinTAK and iTAK share data packages and other files.

Sources: TAK Server ``sync/MissionPackageQueryServlet.java``, ``sync/MissionPackageUploadServlet.java``,
``sync/ContentServlet.java``, ``sync/UploadServlet.java``, ``sync/SearchServlet.java``, ``sync/DeleteServlet.java``;
ATAK-CIV ``commoncommo/core/impl/missionpackagemanager.cpp`` (what is made of the answers).
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.interfaces import IReactorTime

from taky_twisted.enterprise_sync.files import PACKAGE, PACKAGE_TYPE
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.enterprise_sync.service import EnterpriseSync
from taky_twisted.marti.download import send
from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.file_forms import metadata
from taky_twisted.marti.file_words import caller_of, search_of, words_of
from taky_twisted.marti.long_lists import counted_list
from taky_twisted.marti.refusals import told_to_the_client
from taky_twisted.marti.replies import Reply, as_json, text
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from taky_twisted.marti.upload import UploadSink, receive

MAX_DELETED = 1000
"""Files that one request deletes by number."""


class SyncArea:
    """The older half of Enterprise Sync, which most clients use."""

    def __init__(self, clock: IReactorTime, sync: EnterpriseSync) -> None:
        self._clock = clock
        self._files, self._blobs, self._uploads = sync.files, sync.blobs, sync.uploads

    @route("/Marti/sync/missionquery")
    def missionquery(self, request: MartiRequest) -> Reply:
        """Say where a content is, so that it need not be uploaded. With any other status than 404 ATAK gives up."""
        with told_to_the_client():
            file = self._files.find(caller_of(request), hash=request.arguments.hash())
        return text(content_url(request, file))

    def package(self, request: MartiRequest) -> UploadSink:
        """Take the body of an uploaded package."""
        words = words_of(request)
        # What is uploaded here is a package, whatever else it is called, and known by its hash.
        keywords, mime_type = tuple(dict.fromkeys((PACKAGE, *words.keywords))), words.mime_type or PACKAGE_TYPE
        words = replace(words, keywords=keywords, mime_type=mime_type, uid=None)
        return receive(request, self._uploads, words, only_form=True)

    @route("/Marti/sync/missionupload", "POST", body="package")
    def missionupload(self, request: MartiRequest) -> Reply:
        """Store a package and say where it is. ATAK sends the answer to the receivers, to the letter."""
        return text(content_url(request, stored(request)))

    def resource(self, request: MartiRequest) -> UploadSink:
        """Take the body of any uploaded file."""
        return receive(request, self._uploads, words_of(request))

    @route("/Marti/sync/upload", "POST", body="resource")
    def upload(self, request: MartiRequest) -> Reply:
        """Store a file, and list it as a search would."""
        return as_json(metadata(stored(request)))

    @route("/Marti/sync/content")
    async def content(self, request: MartiRequest) -> Reply:
        """Send a content, found by its hash or by the uid of a file."""
        arguments, caller = request.arguments, caller_of(request)
        with told_to_the_client():
            if "hash" in arguments or "uid" not in arguments:
                file = self._files.find(caller, hash=arguments.hash())
            else:
                file = self._files.find(caller, uid=arguments.text("uid"))
        return await send(request, self._blobs, file)

    @route("/Marti/sync/search")
    async def search(self, request: MartiRequest) -> Reply:
        """List the files that fit. ATAK looks for ``resultCount``."""
        caller, search = caller_of(request), search_of(request.arguments)
        seen = self._files.all(caller)
        found = await self._blobs.aside(lambda: [file for file in seen if search.fits(file, caller)])
        return await counted_list(self._clock, request.hold, len(found), map(metadata, found))

    @route("/Marti/sync/delete", "GET", "POST", "DELETE")
    async def delete(self, request: MartiRequest) -> Reply:
        """Delete files by their numbers or a hash."""
        arguments = request.form()
        numbers = set(arguments.words("primarykey"))
        if len(numbers) > MAX_DELETED or not all(one.isascii() and one.isdigit() and len(one) < 20 for one in numbers):
            raise BadRequest(f"PrimaryKey must be up to {MAX_DELETED} whole numbers")
        if numbers:
            keys = {str(int(one)) for one in numbers}
            deleting = self._files.delete(caller_of(request), lambda file: file.key in keys)
        else:
            wanted = arguments.hash()
            deleting = self._files.delete(caller_of(request), lambda file: file.hash == wanted)
        with told_to_the_client():
            count = await deleting
        return Reply(f"<html><body>Deleted {count} resource(s).</body></html>".encode(), "text/html")


def content_url(request: MartiRequest, file: StoredFile) -> str:
    """Spell where a file's content is; with its hash as a parameter, for CloudTAK looks for it there."""
    return f"{request.base_url}/Marti/sync/content?hash={file.hash}"


def stored(request: MartiRequest) -> StoredFile:
    """Find what has become of the body of a request."""
    assert isinstance(request.body, UploadSink), "the route has another receiver"
    return request.body.file
