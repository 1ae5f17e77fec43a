"""One HTTP request: judged when its headers are there, before a byte of its body is taken.

Twisted reads the whole body and only then asks what it was for. Here the end of the headers decides: who is it, does
the route exist, may it be called, where does the body go? A refusal is answered at once, and what still comes of the
body is thrown away.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.web.server import Request

from taky_twisted.background import logged
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.marti.arguments import Arguments
from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import (
    BadRequest,
    MartiError,
    NoSuchThing,
    NotAllowed,
    Revoked,
    TooLarge,
    error_reply,
    reply_of,
)
from taky_twisted.marti.origins import is_same_place
from taky_twisted.marti.routes import Access, Bound

if TYPE_CHECKING:
    from taky_twisted.enrollment.invites import Invited
    from taky_twisted.marti.channel import MartiChannel
    from taky_twisted.marti.site import MartiSite

FORM_BYTES = 64 << 10
"""What a form may add around an uploaded file, in bytes."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[\w.-]{1,253})(:[0-9]{1,5})?", re.ASCII)


class BodySink(Protocol):
    """Where a body goes while it arrives."""

    def write(self, data: bytes) -> None:
        """Take a piece; ask `MartiRequest.pause` for time if it cannot be kept up with."""

    def finish(self) -> Deferred[None]:
        """Fire when all of it is taken; fails with `MartiError` if it cannot be used."""

    def abort(self) -> None:
        """Forget it: the rest does not come, or nobody wants it. May be called at any time, also twice."""


class InMemory:
    """A small body, in memory."""

    def __init__(self) -> None:
        self._data = bytearray()  # a list of tiny pieces would be many times their size

    def write(self, data: bytes) -> None:
        self._data += data

    def finish(self) -> Deferred[None]:
        return succeed(None)

    def abort(self) -> None:
        self._data.clear()

    @property
    def data(self) -> bytes:
        """The whole body."""
        return bytes(self._data)


class MartiRequest(Request):
    """A request to the Marti API. Handlers find here who asks, with which parameters, and the body."""

    site: MartiSite
    channel: MartiChannel
    invited: Invited | None = None
    """What was shown in place of a password, if that was an invite's token; only enrollment looks at it."""
    length: int | None = None
    """Bytes of the body, as the client has announced them; None if it did not."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.granted: Principal = ANONYMOUS
        """Who asks, with all groups that it has."""
        self.principal: Principal = ANONYMOUS
        """The same with the groups that are switched on: by these it is decided what the caller sees."""
        self.arguments = Arguments(b"")
        self.bound: Bound | None = None
        self.body: BodySink = InMemory()
        self._room = 0  # bytes that are still taken
        self._uploader: str | None = None  # for whom this counts as an upload that is running
        self._refused = False
        self._early: list[bytes] | None = None  # what comes of the body until it is known who asks
        self._whole = False  # all of it has come by then

    # Twisted's HTTPChannel calls these, in this order

    def gotLength(self, length: int | None) -> None:
        channel = self.channel
        # Twisted keeps these for itself until the body is there (tests/marti/test_request.py pins them).
        self.method, self.uri, self.clientproto = channel._command.upper(), channel._path, channel._version
        self.site, self.length = channel.site, length
        try:
            caller = self.site.caller(self)
            if not isinstance(caller, Deferred):
                self._begin(caller)
                return
        except MartiError as error:
            if isinstance(error, Revoked):
                channel.complain(error.refusal)
            self.refuse(error)
            return
        self._wait_for(caller)

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        if self._early is not None:
            self._early.append(data)
            return
        try:
            self._room -= len(data)
            if self._room < 0:
                raise TooLarge(self._limit)
            if isinstance(self.body, InMemory):
                self.hold(self._limit - self._room)
            self.body.write(data)
        except MartiError as error:
            self.refuse(error)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._early is not None:
            self._whole = True
            return
        if self._refused:
            self.finish()
            return
        self.body.finish().addBoth(self._uploaded).addCallback(self._received).addErrback(self._not_received)

    def process(self) -> None:
        # Not Twisted's: ours has no children, and the path is normal already.
        self.args: dict[bytes, list[bytes]] = {}
        self.prepath: list[bytes] = []
        self.postpath = self._path.lstrip("/").encode().split(b"/")
        self.site.dress(self)
        self.render(self.site.resource)

    def connectionLost(self, reason: Failure) -> None:
        self._uploaded(None)
        self.body.abort()
        super().connectionLost(reason)

    def getRequestHostname(self) -> bytes:
        # Klein asks for it, and stumbles over what is no name; `host` is what the caller said.
        return b"localhost"

    # For handlers

    @property
    def data(self) -> bytes:
        """The body, where the route takes it in memory."""
        assert isinstance(self.body, InMemory), "the route has a receiver"
        return self.body.data

    @property
    def content_type(self) -> str:
        """The body's type without parameters, in lower case."""
        return (self.getHeader("content-type") or "").partition(";")[0].strip().lower()

    @property
    def base_url(self) -> str:
        """The address by which the caller can reach us, ``https://192.0.2.10:8443``: what we hand out begins so."""
        return self.site.marti.info.public_url or f"{'https' if self.site.is_tls(self) else 'http'}://{self.host_port}"

    @property
    def host_port(self) -> str:
        """The host by which the caller reached us, with the port as URLs spell it: what it said, else our address."""
        said = self.getHeader("host") or ""
        return said if _HOST.fullmatch(said) else local_host(self.channel.transport)

    @property
    def host_name(self) -> str:
        """The host by which the caller reached us, without a port."""
        match = _HOST.match(self.host_port)
        return match[1].strip("[]") if match is not None else self.site.marti.info.hostname

    def form(self) -> Arguments:
        """Add the fields of an ``application/x-www-form-urlencoded`` body to the parameters."""
        if self.content_type == "application/x-www-form-urlencoded":
            self.arguments.add(self.data)
        return self.arguments

    def hold(self, size: int) -> None:
        """Count a body or an answer in memory, with its size so far.

        Raises:
            MartiError: all of them together would be too much.
        """
        if not self._disconnected:
            self.channel.hold(size)

    def pause(self) -> None:
        """Take no more of the body for a while."""
        if not (self._disconnected or self.finished):
            self.channel.pause_body()

    def resume(self) -> None:
        """Go on taking the body; may be called too late."""
        if not (self._disconnected or self.finished):
            self.channel.resume_body()

    def refuse(self, error: MartiError) -> None:
        """Answer before the body is there; what comes of it is thrown away, for a while."""
        if self._refused or self._disconnected:
            return
        self._refused = True
        self._uploaded(None)
        self.body.abort()
        self.requestHeaders.removeHeader(b"expect")  # or Twisted would ask for the body after our answer
        if self.length != 0 or error.closes:
            self.channel.persistent = False
            self.setHeader("connection", "close")
        self.site.note(self, error)
        self.site.dress(self)
        self.site.send(self, reply_of(error))
        if self.length != 0:
            self.channel.linger()

    # Inside

    @property
    def waits(self) -> bool:
        """Whether it is still to be found out who asks."""
        return self._early is not None

    def _wait_for(self, caller: Deferred[Principal]) -> None:
        """Take nothing of the body until it is known who asks."""
        expects = (self.getHeader("expect") or "").lower() == "100-continue"
        self.requestHeaders.removeHeader(b"expect")  # or Twisted would ask for the body at once
        self._early = []
        self.channel.pause_body()
        caller.addCallback(self._known, expects).addErrback(self._unknown).addCallback(self._go_on)
        caller.addErrback(logged(self.site.journal, "finding out who asks"))

    def _known(self, caller: Principal, expects: bool) -> None:
        if not self._disconnected:
            self._begin(caller)
            if expects and not self._whole:
                self.channel.ask_for_body()

    def _unknown(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, MartiError):
            self.site.journal.failure("finding out who asks failed", failure)
            error = MartiError(500, "the server made a mistake; its log has more")
        self.refuse(error)

    def _go_on(self, _: None) -> None:
        early, self._early = self._early or [], None
        if self._disconnected:
            return
        self.resume()
        for data in early:
            self.handleContentChunk(data)
        if self._whole:
            self.requestReceived(self.method, self.uri, self.clientproto)

    def _begin(self, caller: Principal) -> None:
        self.granted = caller
        if caller.by_password:
            self.channel.account = caller.name
        self.principal = self.site.marti.granted(self.granted, host_of(self.getClientAddress()))
        self._path, query = normal_path(self.uri)
        try:
            self.bound = self.site.table.find(self.method.decode("ascii", "replace"), self._path)
        except MartiError:
            self.site.check_access(self, Access.CALLER)  # who is nobody does not hear what there is
            raise
        route = self.bound.route
        self.site.check_access(self, route.access)
        if route.methods != {"GET"}:
            self._check_page()
        self.arguments = Arguments(query)
        limits = self.site.connections.limits
        self._limit = self._room = route.body if isinstance(route.body, int) else limits.upload_bytes + FORM_BYTES
        if self.length is not None and self.length > self._limit:
            raise TooLarge(self._limit)
        if self.bound.receiver is not None:
            uploader = self.principal.name or host_of(self.getClientAddress())
            self.site.connections.begin_upload(uploader)
            self._uploader = uploader
            self.body = self.bound.receiver(self)

    def _check_page(self) -> None:
        """Refuse what a page of another site has a browser do; where only GET is answered nothing is changed."""
        origins = self.requestHeaders.getRawHeaders(b"origin", [])
        host, public_url = self.getHeader(b"host"), self.site.marti.info.public_url
        foreign = any(not is_same_place(origin, host, public_url) for origin in origins)
        if foreign or self.getHeader(b"sec-fetch-site") == b"cross-site":
            raise NotAllowed(
                "a page of another site may not do this; if it is ours, its address is missing: public_url"
            )

    def _uploaded(self, result: Any) -> Any:
        uploader, self._uploader = self._uploader, None
        if uploader is not None:
            self.site.connections.end_upload(uploader)
        return result

    def _received(self, _: None) -> None:
        if not self._disconnected:
            self.process()

    def _not_received(self, failure: Failure) -> None:
        if self._disconnected:
            return
        error = failure.value
        if isinstance(error, MartiError):
            self.site.note(self, error)
            reply = reply_of(error)
        else:
            self.site.journal.failure("taking the body of a request failed", failure)
            reply = error_reply(500, "the body could not be taken; the server's log has more")
        self.site.dress(self)
        self.site.send(self, reply)
        self.finish()


def local_host(transport: Any) -> str:
    """Spell our own end of a connection as a URL does."""
    address = transport.getHost()
    host, port = getattr(address, "host", "localhost"), getattr(address, "port", None)
    if ":" in host:
        host = f"[{host.partition('%')[0]}]"
    return host if port is None else f"{host}:{port}"


def normal_path(uri: bytes) -> tuple[str, bytes]:
    """Take a request's target apart: the path without doubled or trailing slashes, and the query.

    Raises:
        MartiError: it is no path, or not UTF-8.
    """
    path, _, query = uri.partition(b"?")
    if not path.startswith(b"/"):
        scheme, found, rest = path.partition(b"://")  # an absolute target, as proxies spell it
        if not found or not scheme.isalpha():
            raise BadRequest("the request's target is no path")
        path = b"/" + rest.partition(b"/")[2]
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the path is not UTF-8") from error
    if "\0" in decoded:
        raise NoSuchThing("there is nothing here")
    parts = [part for part in decoded.split("/") if part]
    return "/" + "/".join(parts), query
