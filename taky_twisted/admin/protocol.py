"""Our protocol: a line of JSON asks, lines of JSON answer; ``doc/reference/admin-api.rst`` describes it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from taky_twisted.admin.commands import Admin, AdminError
from taky_twisted.admin.requests import RequestProtocol

VERSION = 1
"""Of the protocol; a member that is added does not change it."""
MAX_NAME_CHARS = 256

Said = dict[str, Any]


@implementer(IPushProducer)
class AdminProtocol(RequestProtocol):
    """Answer whoever connects: that it may is decided by the mode of the socket."""

    delimiter = b"\n"

    def __init__(self, admin: Admin) -> None:
        super().__init__()
        self._admin = admin
        self._full = False
        self._left_out = 0
        self._verbs: dict[str, Callable[[Said], Awaitable[Said]]] = {
            "ping": self._ping,
            "status": self._status,
            "stats": self._stats,
            "reload": self._reload,
            "kickban": self._kickban,
            "users": self._users,
            "invites": self._invites,
            "doctor": self._doctor,
            "trace": self._trace,
        }

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    async def answer(self, request: bytes) -> None:
        if not request.strip():
            return
        try:
            asked = _read(request)
            verb = self._verbs.get(asked.get("do", ""))
            if verb is None:
                raise AdminError(f"do is one of {', '.join(self._verbs)}")
            self._say({"ok": True, **await verb(asked)})
        except AdminError as error:
            self.refuse(str(error))

    def refuse(self, why: str) -> None:
        self._say({"ok": False, "error": why})

    # IPushProducer: the transport says when it is full

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False

    def stopProducing(self) -> None:
        self._full = True

    # What can be asked

    async def _ping(self, asked: Said) -> Said:
        return self._admin.ping()

    async def _status(self, asked: Said) -> Said:
        return await self._admin.status()

    async def _stats(self, asked: Said) -> Said:
        return self._admin.stats()

    async def _reload(self, asked: Said) -> Said:
        await self._admin.reload()
        return {}

    async def _kickban(self, asked: Said) -> Said:
        return await self._admin.kickban(_text(asked, "name") if "name" in asked else None)

    async def _users(self, asked: Said) -> Said:
        return await self._admin.users(asked)

    async def _invites(self, asked: Said) -> Said:
        return await self._admin.invites(asked)

    async def _doctor(self, asked: Said) -> Said:
        for attempt in self._admin.failed():
            self._say({"ok": True, "more": True, "attempt": attempt})
        if asked.get("follow") is True:
            return await self._stream(self._admin.watch_failures(lambda attempt: self._more({"attempt": attempt})))
        return {}

    async def _trace(self, asked: Said) -> Said:
        forget = self._admin.trace(_text(asked, "whom"), lambda traced: self._more({"traced": traced}))
        return await self._stream(forget, self._admin.joined())

    async def _stream(self, forget: Callable[[], None], began: Said | None = None) -> Said:
        """Say what there is to say until the operator has had enough; requests that come in the meantime wait."""
        self._say({"ok": True, "more": True, **(began or {})})
        try:
            return await Deferred[Said]()  # connectionLost cancels it
        except CancelledError:
            return {}
        finally:
            forget()

    def _more(self, said: Said) -> None:
        if self._full:
            self._left_out += 1  # who does not read is not worth memory
            return
        if self._left_out:
            said = {**said, "left_out": self._left_out}
            self._left_out = 0
        self._say({"ok": True, "more": True, **said})

    def _say(self, said: Said) -> None:
        if not self.over:
            self.transport.write(json.dumps({"v": VERSION, **said}).encode() + b"\n")


def _read(request: bytes) -> Said:
    try:
        asked = json.loads(request)
    except (ValueError, RecursionError) as error:
        raise AdminError("a request is a line with a JSON object") from error
    if not isinstance(asked, dict):
        raise AdminError("a request is a line with a JSON object")
    if asked.get("v") != VERSION:
        raise AdminError(f'this server speaks version {VERSION}: say "v": {VERSION}')
    if not isinstance(asked.get("do", ""), str):
        raise AdminError("do is a text")
    return asked


def _text(asked: Said, key: str) -> str:
    text = asked.get(key)
    if not isinstance(text, str) or not 0 < len(text) <= MAX_NAME_CHARS:
        raise AdminError(f"{key} is a text of 1 to {MAX_NAME_CHARS} characters")
    return text
