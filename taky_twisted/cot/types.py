"""What the type of an event says about how it is treated.

Sources: TAK Server ``service/SubmissionService.java`` (control types), ATAK-CIV ``emergency/tool/EmergencyType.java``,
taky ``cot/persistence.py`` (what is shown to newcomers).
"""

from __future__ import annotations

PING = "t-x-c-t"
PONG = "t-x-c-t-r"
DELETE = "t-x-d-d"
CHAT = "b-t-f"
CHAT_FAILED = "b-t-f-s"
FILE_OFFER = "b-f-t-r"
EMERGENCY_CANCEL = "b-a-o-can"
SUBSCRIBE = "t-b"
UNSUBSCRIBE = "t-b-c"
GEO_FILTER = "t-x-c-f"
INCOGNITO_ON = "t-x-c-i-e"
INCOGNITO_OFF = "t-x-c-i-d"
GROUPS_CHANGED = "t-x-g-c"

CONTROL_TYPES = frozenset(
    {
        PING,
        PONG,
        SUBSCRIBE,
        "t-b-a",
        UNSUBSCRIBE,
        "t-b-q",
        GEO_FILTER,
        "t-x-c-m",
        INCOGNITO_ON,
        INCOGNITO_OFF,
        "t-x-takp-v",
        "t-x-takp-q",
        "t-x-takp-r",
    }
)
"""Between a client and its server; consumed, never routed. Compared in lower case."""

EMERGENCY_TYPES = frozenset({"b-a-o-tbl", "b-a-o-pan", "b-a-o-opn", "b-a-o-c", "b-a-g"})
"""911 Alert, Ring The Bell, In Contact, Custom, Geo-fence Breached."""

_RETAINED = ("a-", "b-m-p", "b-m-r", "b-r-f-h-c", "b-i-v", "u-d-", "u-rb", "u-r-b")
_NEVER_RETAINED = ("t-", "b-t-f", "b-f-t", "b-a-")
_PROTECTED = ("b-t-f", "b-a-", "b-f-t-", "t-")
_UNFILTERED = ("b-a-o-tbl", "b-a-o-can", "b-a-g", "b-a-o-pan", "b-a-o-opn", "b-t-f")


def is_control(type_: str) -> bool:
    """Whether the event is meant for the server and is never routed."""
    return type_[:2] in ("t-", "T-") and type_.lower() in CONTROL_TYPES


def is_retained(type_: str, archived: bool) -> bool:
    """Whether newcomers are shown an event of this type that was said to everybody.

    ``<archive/>`` makes any other type an item as well; chat, file offers, emergencies and control messages never are.
    """
    return type_.startswith(_RETAINED) or (archived and not type_.startswith(_NEVER_RETAINED))


def is_protected(type_: str) -> bool:
    """Whether a slow reader is owed every event of this type, in order, and not only the newest per uid."""
    return type_.startswith(_PROTECTED)


def passes_geo_filter(type_: str) -> bool:
    """Whether a client's area filter never holds events of this type back (``FILT/GeospatialEventFilter.java``)."""
    return type_.startswith(_UNFILTERED)
