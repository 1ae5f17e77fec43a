"""The event: what every part of the server passes on."""

from __future__ import annotations

from dataclasses import dataclass, field

PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'
"""What every XML event begins with: ATAK reads strictly from right behind the previous end tag
(ATAK-CIV ``commoncommo/core/impl/streamingsocketmanagement.cpp``), TAK Server sends the same
(``tak/server/cot/XmlContainer.java``)."""


@dataclass(frozen=True, slots=True)
class Destinations:
    """Whom a sender named in ``<marti><dest .../></marti>``: the union of all of them.

    Source: TAK Server ``cot/filter/StreamingEndpointRewriteFilter.java``.
    """

    callsigns: tuple[str, ...] = ()
    uids: tuple[str, ...] = ()
    missions: tuple[str, ...] = ()
    """Mission names and GUIDs."""
    groups: tuple[str, ...] = ()
    """Groups that a broadcast is restricted to."""
    explicit: bool = False
    """Whether somebody in particular was named, so that it is never a broadcast, even if nobody is found."""


@dataclass(frozen=True, slots=True)
class Chat:
    """What ``<__chat>`` says of a GeoChat message."""

    id: str
    """The conversation: a uid, a team, ``All Chat Rooms``, ..."""
    chatroom: str
    uids: tuple[str, ...]
    """``chatgrp``'s uid1 ... uidN: everybody but the sender."""


@dataclass(slots=True)
class Detail:
    """The few things in ``<detail>`` that the server reads; everything else only travels in `Event.xml`."""

    callsign: str = ""
    endpoint: str | None = None
    team: str = ""
    role: str = ""
    takv: str | None = None
    """``platform:version``, or None if there is no ``<takv>``."""
    destinations: Destinations | None = None
    archive: bool = False
    flow_tags: tuple[str, ...] = ()
    """Names of the attributes of ``<_flow-tags_>``."""
    chat: Chat | None = None
    link_uid: str = ""
    """The first ``<link>``'s uid: of a delete, the item; of an emergency, who raised it."""
    emergency: bool | None = None
    """None without ``<emergency>``; True when it cancels one."""


@dataclass(slots=True, eq=False)
class Event:
    """A CoT event. It is never changed after it was made (not enforced: making it is on the hot path)."""

    uid: str
    type: str
    how: str
    time: float
    """Seconds since the epoch, as are ``start`` and ``stale``."""
    start: float
    stale: float
    lat: float
    lon: float
    detail: Detail
    xml: bytes
    """The delivered form: prolog, line feed, ``<event ...>...</event>``; without ``<marti>``."""
    protobuf: bytes | None = field(default=None, init=False)
    """The same in TAK protocol version 1, once somebody needed it or if it came so; a copy that differs has none."""

    @property
    def is_self_report(self) -> bool:
        """Whether a client says here who it is (SA).

        A marker has a callsign too, but neither an endpoint nor ``<takv>``.
        Source: TAK Server ``tak/server/cot/CotEventContainer.java``, widened for clients that omit the endpoint.
        """
        detail = self.detail
        return (
            bool(detail.callsign)
            and (detail.endpoint is not None or detail.takv is not None)
            and self.type.startswith("a-")
            and bool(self.uid)
        )
