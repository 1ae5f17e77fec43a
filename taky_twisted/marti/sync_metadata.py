"""``/Marti/api/sync``: what is said of stored files, to be read and changed.

Sources: TAK Server ``sync/MetadataApi.java``, ``sync/api/MissionApi.java`` (search and resources); ATAK-CIV
``commoncommo/core/impl/missionpackagemanager.cpp`` sets the tool after each upload, and does not look at the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from twisted.internet.interfaces import IReactorTime

from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.enterprise_sync.service import EnterpriseSync
from taky_twisted.marti.download import send
from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.file_forms import resource
from taky_twisted.marti.file_words import (
    caller_of,
    checked_text,
    checked_type,
    checked_words,
    expiration_of,
    search_of,
)
from taky_twisted.marti.long_lists import enveloped_list
from taky_twisted.marti.refusals import told_to_the_client
from taky_twisted.marti.replies import EMPTY, Envelope, Reply
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route
from taky_twisted.marti.site import ServerInfo

BODY_BYTES = 64 << 10
"""The largest new value, in bytes."""
RESOURCE = "Resource"


class SyncMetadataArea:
    """The newer half of Enterprise Sync, and what administrators see."""

    def __init__(self, clock: IReactorTime, sync: EnterpriseSync, info: ServerInfo) -> None:
        self._clock, self._info = clock, info
        self._files, self._blobs = sync.files, sync.blobs

    @route("/Marti/api/sync/metadata/<hash:hash>/<field>", "PUT", body=BODY_BYTES)
    async def change(self, request: MartiRequest, hash: str, field: str) -> Reply:
        """Change one thing that is said of a content, in the caller's own files. Others' stay, and nobody minds."""
        change = _change(request, field)
        with told_to_the_client():
            await self._files.change(caller_of(request), hash, change)
        return EMPTY

    @route("/Marti/api/sync/metadata/<hash:hash>/tool")
    async def content(self, request: MartiRequest, hash: str) -> Reply:
        """Send the content: links that other servers have handed out point here."""
        with told_to_the_client():
            file = self._files.find(caller_of(request), hash=hash)
        return await send(request, self._blobs, file)

    @route("/Marti/api/sync/search")
    async def search(self, request: MartiRequest) -> Reply:
        """List the files that fit."""
        caller, search = caller_of(request), search_of(request.arguments)
        # No mission has files here yet: who asks for one's gets none, and not everybody's.
        seen = [] if request.arguments.one("mission") else self._files.all(caller)
        found = await self._blobs.aside(lambda: [file for file in seen if search.fits(file, caller)])
        return await enveloped_list(self._clock, request.hold, RESOURCE, map(resource, found), self._info.node_id)

    @route("/Marti/api/resources/<hash:hash>", access=Access.ADMIN)
    def one(self, request: MartiRequest, hash: str) -> Envelope:
        """Show what is known of a content."""
        with told_to_the_client():
            return Envelope(RESOURCE, [resource(self._files.find(caller_of(request), hash=hash))])


def _change(request: MartiRequest, field: str) -> Callable[[StoredFile], StoredFile]:
    """Read which field a request changes, and how."""
    if field == "expiration":
        request.arguments.text("expiration")
        expiration = expiration_of(request.arguments)
        return lambda file: replace(file, expiration=expiration)
    if field not in ("tool", "mimetype", "keywords"):
        raise BadRequest("tool, mimetype, keywords and expiration can be changed")
    try:
        said = request.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the new {field} is not UTF-8") from error
    if field == "tool":
        tool = checked_text("tool", said)
        return lambda file: replace(file, tool=tool)
    if field == "mimetype":
        mime_type = checked_type(said)
        return lambda file: replace(file, mime_type=mime_type)
    keywords = checked_words("keywords", _strings(said))
    return lambda file: replace(file, keywords=keywords)


def _strings(said: str) -> list[str]:
    try:
        strings = json.loads(said)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the new keywords are no JSON") from error
    if not isinstance(strings, list) or not all(isinstance(one, str) for one in strings):
        raise BadRequest("the new keywords are no JSON array of strings")
    return strings
