"""How a client and its server agree to go on in protobuf (TAK protocol version 1).

::

    server                                  client
      t-x-takp-v  version="1"  ------------->          once, as soon as the peer is known
                 <-------------  t-x-takp-q  version="1"   then the client sends nothing until it is answered
      t-x-takp-r  status="true" ------------>          the last XML in either direction

All three carry one uid, which the server chose. A client may never ask; one that was refused may ask again.
Source: ATAK-CIV ``commoncommo/core/impl/protobuf/protocol.txt``, TAK Server
``nio/protocol/connections/StreamingProtoBufOrCoTProtocol.java``.
"""

from __future__ import annotations

from uuid import uuid4
from xml.sax.saxutils import quoteattr

from taky_twisted import __version__
from taky_twisted.cot.compose import document
from taky_twisted.cot.event import PROLOG, Detail, Event
from taky_twisted.cot.times import format_time

OFFER, REQUEST, RESPONSE = "t-x-takp-v", "t-x-takp-q", "t-x-takp-r"
VERSION = "1"
"""The version that we speak besides XML (which is 0)."""
FRESH_SECONDS = 60
"""How long a client may take to answer."""
API_VERSION = "3"


class Negotiation:
    """The server's side; one per connection."""

    def __init__(self) -> None:
        self._uid = str(uuid4())
        self._offered = False

    def offer(self, now: float) -> Event:
        """Say which version we speak besides XML."""
        self._offered = True
        server = quoteattr(f"taky_twisted {__version__}")
        info = f'<TakServerVersionInfo serverVersion={server} apiVersion="{API_VERSION}"/>'
        return self._event(OFFER, now, f'<TakProtocolSupport version="{VERSION}"/>{info}')

    def answer(self, request: Event, now: float) -> tuple[Event, bool]:
        """Answer a request.

        Returns:
            The answer, and whether everything after it, in both directions, is protobuf.
        """
        wanted = [asked.get("version") for asked in document(request).iterfind("detail/TakControl/TakRequest")]
        agreed = self._offered and wanted == [VERSION]
        return self._event(RESPONSE, now, f'<TakResponse status="{"true" if agreed else "false"}"/>'), agreed

    def _event(self, type_: str, now: float, inner: str) -> Event:
        time, stale = format_time(now), format_time(now + FRESH_SECONDS)
        xml = (
            PROLOG
            + (
                f'<event version="2.0" uid="{self._uid}" type="{type_}" how="m-g" time="{time}" start="{time}"'
                f' stale="{stale}"><point lat="0.0" lon="0.0" hae="0.0" ce="999999" le="999999"/>'
                f"<detail><TakControl>{inner}</TakControl></detail></event>"
            ).encode()
        )
        return Event(self._uid, type_, "m-g", now, now, now + FRESH_SECONDS, 0.0, 0.0, Detail(), xml)
