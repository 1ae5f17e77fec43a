"""``/Marti/api/files``: the list of files for TAK Aware, CloudTAK and people.

Sources: TAK Server ``tak/server/filemanager/FileManagerApi.java`` (pages are counted from 0; without a page or a limit
all are listed) and ``FileManagerServiceDefaultImpl.java``; node-tak ``lib/api/files.ts``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.interfaces import IReactorTime

from taky_twisted.enterprise_sync.files import PACKAGE, Caller
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.enterprise_sync.search import Search
from taky_twisted.enterprise_sync.service import EnterpriseSync
from taky_twisted.marti.download import send
from taky_twisted.marti.errors import MartiError
from taky_twisted.marti.file_forms import row
from taky_twisted.marti.file_words import caller_of, checked_words, expiration_of
from taky_twisted.marti.long_lists import enveloped_list
from taky_twisted.marti.refusals import told_to_the_client
from taky_twisted.marti.replies import EMPTY, Envelope, Reply, as_json
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route
from taky_twisted.marti.site import ServerInfo
from taky_twisted.routing.contacts import Contacts

MEGABYTE = 1_000_000
"""Bytes, as TAK Server counts them in its limit."""

_SORTED: dict[str, Callable[[StoredFile], Any]] = {
    "name": lambda file: file.name.casefold(),
    "updatetime": lambda file: file.submitted,
    "submissiontime": lambda file: file.submitted,
    "size": lambda file: file.size,
}


class FilesArea:
    """The file manager."""

    def __init__(self, clock: IReactorTime, sync: EnterpriseSync, contacts: Contacts, info: ServerInfo) -> None:
        """Serve a server's files.

        Args:
            clock: the reactor.
            sync: has them.
            contacts: know who has uploaded.
            info: what the server is.
        """
        self._clock, self._info = clock, info
        self._files, self._blobs, self._limit = sync.files, sync.blobs, sync.uploads.limit
        self._contacts = contacts

    @route("/Marti/api/files/metadata")
    async def metadata(self, request: MartiRequest) -> Reply:
        """List files, a page of them or all."""
        said = request.arguments
        page, limit = said.count("page", -1, -1), said.count("limit", -1, -1)
        sorting, ascending = _SORTED.get((said.one("sort") or "").lower()), said.flag("ascending", True)
        caller, name = caller_of(request), said.one("name") or ""
        seen, packages = self._seen(request, caller), said.flag("missionpackage")

        def listed() -> list[StoredFile]:
            found = [file for file in seen if _listed(file, caller, name, packages)]
            if sorting is not None:
                found.sort(key=sorting, reverse=not ascending)
            return found if page < 0 or limit < 1 else found[page * limit : (page + 1) * limit]

        rows = (row(file, self._creator(file, caller)) for file in await self._blobs.aside(listed))
        return await enveloped_list(self._clock, request.hold, "Files", rows, self._info.node_id)

    @route("/Marti/api/files/metadata/count")
    async def count(self, request: MartiRequest) -> Envelope:
        """Count files."""
        caller, packages = caller_of(request), request.arguments.flag("missionpackage")
        seen = self._seen(request, caller)
        return Envelope(
            "Count", await self._blobs.aside(lambda: sum(_listed(file, caller, "", packages) for file in seen))
        )

    @route("/Marti/api/files/<hash:hash>")
    async def content(self, request: MartiRequest, hash: str) -> Reply:
        """Send a content."""
        with told_to_the_client():
            file = self._files.find(caller_of(request), hash=hash)
        return await send(request, self._blobs, file, "attachment")

    @route("/Marti/api/files/<hash:hash>", "DELETE")
    async def delete(self, request: MartiRequest, hash: str) -> Reply:
        """Delete the caller's files with a content."""
        with told_to_the_client():
            await self._files.delete(caller_of(request), lambda file: file.hash == hash)
        return EMPTY

    @route("/Marti/api/files/<hash:hash>/metadata", "PUT")
    async def change(self, request: MartiRequest, hash: str) -> Reply:
        """Change when the caller's files with a content go, and their keywords. Who uploaded them stays true."""
        said = request.arguments
        expires, expiration = bool(said.one("expiration")), expiration_of(said)
        keywords = checked_words("keywords", said.words("keywords")) if "keywords" in said else None

        def changed(file: StoredFile) -> StoredFile:
            return replace(
                file,
                expiration=expiration if expires else file.expiration,
                keywords=file.keywords if keywords is None else keywords,
            )

        with told_to_the_client():
            await self._files.change(caller_of(request), hash, changed)
        return EMPTY

    @route("/files/api/config")
    def config(self, request: MartiRequest) -> Reply:
        """Say how large an upload may be; CloudTAK asks when it connects."""
        return as_json({"uploadSizeLimit": max(1, self._limit // MEGABYTE)})

    @route("/files/api/config", "POST", access=Access.ADMIN)
    def set_config(self, request: MartiRequest) -> Reply:
        """Leave the limit to whoever runs the server."""
        raise MartiError(501, "the limit is upload_bytes in the section [limits] of taky.conf")

    def _creator(self, file: StoredFile, caller: Caller) -> str:
        """Name the contact that has uploaded a file, if the caller may know of it; else only its uid."""
        contact = self._contacts.get(file.creator_uid)
        if contact is None or contact.groups_in.isdisjoint(caller.principal.groups_out):
            return file.creator_uid
        return contact.callsign

    def _seen(self, request: MartiRequest, caller: Caller) -> list[StoredFile]:
        # No mission has files here yet.
        return [] if request.arguments.one("mission") else self._files.all(caller)


def _listed(file: StoredFile, caller: Caller, name: str, packages: bool) -> bool:
    return (not packages or PACKAGE in file.keywords) and Search(name=name).fits(file, caller)
