"""``/Marti/api/injectors/cot/uid``: say an event over HTTP.

In TAK Server an administrator leaves a piece of XML there, which is put into every event of a uid
(``injector/InjectionApi.java``). PyTAK posts whole events there and expects them to be routed (``classes.py``,
``MartiTXWorker``); that is what is done here.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.types import is_control
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import BadRequest, MartiError, NotAllowed, TooLarge
from taky_twisted.marti.json_body import read_json
from taky_twisted.marti.replies import Envelope, Reply
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route
from taky_twisted.routing.router import Router

if TYPE_CHECKING:
    from taky_twisted.cot.event import Event
    from taky_twisted.routing.outbox import Replay
    from taky_twisted.routing.recorder import Recorder
    from taky_twisted.routing.subscription import Subscription
    from taky_twisted.takproto.batch import Batch

TYPE = "InjectorConfig"
BODY_BYTES = 9 << 20
"""Of a request: an event as large as streams take it by default, and what JSON adds to it."""
MAX_SPEAKERS = 1000
"""Callers that are remembered, so that whoever raised an emergency can cancel it."""

_BEFORE = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?")
_EVENT = re.compile(rb"<event[\s/>]")


class InjectorsArea:
    """Callers speak here like clients on a stream, but none becomes a contact: nothing could be sent to it."""

    def __init__(self, router: Router, max_bytes: int, recorder: Recorder | None = None) -> None:
        """Take events.

        Args:
            router: where they go.
            max_bytes: the largest event.
            recorder: writes down what is said, if that is wanted.
        """
        self._router, self._max_bytes, self._recorder = router, max_bytes, recorder
        self._speakers: OrderedDict[tuple[bool, str], Subscription] = OrderedDict()

    @route("/Marti/api/injectors/cot/uid")
    @route("/Marti/api/injectors/cot/uid/<path:uid>")
    def injections(self, request: MartiRequest, uid: str = "") -> Envelope:
        """List what is put into events: nothing."""
        return Envelope(TYPE, [])

    @route("/Marti/api/injectors/cot/uid", "DELETE", access=Access.ADMIN)
    def remove(self, request: MartiRequest) -> Reply:
        """Put something into events no more."""
        raise MartiError(501, "this server is not administered over HTTP")

    @route("/Marti/api/injectors/cot/uid", "POST", body=BODY_BYTES)
    def inject(self, request: MartiRequest) -> Envelope:
        """Route an event as said by the caller."""
        wanted = read_json(request)
        text = wanted.get("toInject") if isinstance(wanted, dict) else None
        if not isinstance(text, str):
            raise BadRequest('a JSON object with the text "toInject" is wanted')
        event = self._read(text)
        speaker = self._speaker(request)
        if self._recorder is not None:
            self._recorder.record(speaker.name, event.xml)
        if not is_control(event.type):  # those are between a stream and its server: pings, filters
            self._router.audiences.tally.of(event).heard += 1
            speaker.publish(event)
        return Envelope(TYPE, [{"uid": event.uid, "toInject": ""}])

    def _read(self, text: str) -> Event:
        # Of halves of characters, which JSON can spell, the parser says that they are not well-formed.
        document = text.encode("utf-8", "surrogatepass").rstrip()
        match = _BEFORE.match(document)
        document = document[match.end() :] if match is not None else document
        if len(document) > self._max_bytes:
            raise TooLarge(self._max_bytes)
        if not _EVENT.match(document):
            raise NotAllowed("only administrators may put something into events; whole events are routed")
        try:
            return decode(document)
        except MalformedEvent as error:
            raise BadRequest(f"the event is not routed: {error}") from error

    def _speaker(self, request: MartiRequest) -> Subscription:
        principal = request.principal
        host = host_of(request.getClientAddress())
        key = (principal.name is not None, principal.name or host)
        speaker = self._speakers.pop(key, None)
        if speaker is None:
            speaker = self._router.speaker(principal, _Nobody(), f"{host}:0 at {request.site.door}")
            # Unlike a datagram port this is one client: what it sends is not our own that came around.
            speaker.from_server = False
        speaker.principal = principal  # groups may have been switched
        self._speakers[key] = speaker
        if len(self._speakers) > MAX_SPEAKERS:
            _, oldest = self._speakers.popitem(last=False)
            oldest.close()
        return speaker


class _Nobody:
    """The ear of somebody who only speaks."""

    def deliver(self, batch: Batch) -> None:
        """Say nothing: a chat that reached nobody cannot be answered here."""

    def replay(self, entries: Iterable[Replay]) -> None:
        """Show nothing."""

    def close(self, reason: str) -> None:
        """Stay."""

    def unsent(self) -> list[Event]:
        return []
