"""Every limit of the server, once: its default, its unit, its range, and what happens at it.

The keys of ``[limits]`` in ``taky.conf`` and the command line options are both made from `LIMITS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from taky_twisted.config.values import parse_integer, parse_size

_BIG = 1_000_000_000
_TIMES = ("seconds", "hours", "days")


@dataclass(frozen=True, slots=True)
class Limit:
    """What is known about one limit."""

    name: str
    unit: str
    """``bytes``, ``seconds``, ``hours``, ``days``, or what is counted."""
    default: float
    low: float
    """The smallest value that is allowed."""
    high: float
    """The largest value that is allowed."""
    at: str
    """What happens when it is reached."""

    @property
    def doc(self) -> str:
        """One line for ``--help``."""
        return f"[{self.unit}] {self.at}"

    def parse(self, text: str) -> float:
        """Read a value: sizes may carry a suffix, times may have a fraction, the rest are whole numbers.

        Raises:
            ValueError: it is not a value, or out of range; the text says what is allowed.
        """
        if self.unit == "bytes":
            return self.check(parse_size(text))
        if self.unit in _TIMES:
            if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text.strip()):
                raise ValueError(f"not a number; {self._allowed}")
            return self.check(float(text))
        return parse_integer(text, int(self.low), int(self.high), f"a number of {self.unit}")

    def check(self, value: float) -> float:
        """Return the value, or raise `ValueError` if it is out of range."""
        if not self.low <= value <= self.high:
            raise ValueError(f"out of range; {self._allowed}")
        return value

    @property
    def _allowed(self) -> str:
        return f"allowed: {_number(self.low)} to {_number(self.high)} {self.unit}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _limit(start: float, unit: str, at: str, low: float = 1, high: float = _BIG) -> Any:
    """Declare a limit; `LIMITS` is built from what is said here."""
    return field(default=start, metadata={"default": start, "unit": unit, "low": low, "high": high, "at": at})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much anybody may have of anything. Values are not checked here; `Limit.parse` and `replaced` do."""

    max_connections: int = _limit(
        10_000, "connections", "A further connection is closed at once, unless another one gives way to it."
    )
    """Connections at once, over all CoT and monitor doors."""
    max_per_address: int = _limit(0, "connections", "A further one from that address is closed at once; 0 = off.", 0)
    """Connections at once from one IP address; 0 is no limit."""
    max_unidentified: int = _limit(
        0, "connections", "While so many have not identified, one more is closed or another gives way; 0 = off.", 0
    )
    """Connections at once from which no SA was heard yet; 0 is no limit."""
    max_handshakes: int = _limit(
        500, "handshakes", "A further connection to a TLS door is closed at once, unless another one gives way to it."
    )
    """TLS handshakes that have begun and not ended."""
    handshake_seconds: float = _limit(
        10.0, "seconds", "A TLS handshake that has not ended by then is closed.", high=600
    )
    """Time for one TLS handshake, in seconds."""
    max_event_bytes: int = _limit(
        8 << 20, "bytes", "The event is skipped up to its end; the connection stays.", 1024, 64 << 20
    )
    """Size of one event that is taken in, in bytes."""
    max_unidentified_bytes: int = _limit(
        64 << 10, "bytes", "A stream that has said so much without a valid event is closed.", 1024, 64 << 20
    )
    """Size of what a stream may say before its first valid event, in bytes."""
    max_event_to_client: int = _limit(
        64 << 10, "bytes", "Clients are offered a larger event as a file, if the Marti API is served; 0 = off.", 0
    )
    """Size of one event on its way to a client, in bytes with its prolog; 0 is no limit."""
    input_events_per_second: int = _limit(
        5000, "events per second", "Reading from that connection pauses for a moment; nothing is dropped."
    )
    """Events that one connection may say in a second."""
    input_bytes_per_second: int = _limit(
        5 << 20, "bytes", "Reading from that connection pauses for a moment; nothing is dropped.", 1024
    )
    """Bytes that one connection may say in a second."""
    outbox_bytes: int = _limit(
        1 << 20,
        "bytes",
        "The backlog is thinned; one that is still too large is closed with its client.",
        1024,
    )
    """Size of what waits for one client, in bytes."""
    thin_seconds: float = _limit(1.0, "seconds", "A backlog that is so old is thinned.", 0.1, 3600)
    """Age of what waits for one client, in seconds."""
    stall_seconds: float = _limit(
        30.0, "seconds", "A client to which no byte could be written for so long is closed.", high=86400
    )
    """Time without a byte going out while some wait, in seconds."""
    idle_seconds: float = _limit(
        300.0,
        "seconds",
        "A client that has identified or pinged and was silent for so long is closed.",
        high=30 * 86400,
    )
    """Time without a byte coming in, in seconds."""
    retained_items: int = _limit(10_000, "items", "The item that goes stale first is no longer kept.", 0)
    """Items that are kept for newcomers."""
    retained_bytes: int = _limit(64 << 20, "bytes", "The item that goes stale first is no longer kept.", 0, 1 << 40)
    """Size of all items that are kept for newcomers, in bytes."""
    missed_chats: int = _limit(100, "chats", "A further chat is not kept, and its sender is told so.", 0)
    """Direct chats that wait for one contact that is away."""
    missed_chat_days: float = _limit(7.0, "days", "A chat that has waited for so long is dropped.", 0, 3650)
    """Time that a direct chat waits, in days."""
    emergencies: int = _limit(1000, "emergencies", "The first emergency of whoever raised most is no longer repeated.")
    """Emergencies that are repeated at once."""
    emergency_hours: float = _limit(
        24.0, "hours", "An emergency that nobody has canceled is no longer repeated.", 0.1, 8760
    )
    """Time that an emergency is repeated, in hours."""
    emergency_period: float = _limit(10.0, "seconds", "Every emergency is sent again after so long.", high=3600)
    """Time between two repeats, in seconds."""
    secondary_uids: int = _limit(1000, "uids", "A further uid is no contact; what it says is routed all the same.", 0)
    """Further uids that one connection may speak for."""
    known_contacts: int = _limit(10_000, "contacts", "The contact that has been away longest is forgotten.")
    """Contacts that are remembered, online or not."""
    tombstones: int = _limit(10_000, "deletes", "The oldest delete is forgotten.", 0)
    """Deletes that are remembered, so that an old copy does not come back."""
    max_http_connections: int = _limit(1000, "connections", "A further HTTP connection is closed at once.")
    """Connections at once, over all doors of the Marti API."""
    max_http_per_address: int = _limit(
        0, "connections", "A further HTTP connection from that address is closed at once; 0 = off.", 0
    )
    """HTTP connections at once from one IP address; 0 is no limit."""
    http_header_seconds: float = _limit(
        30.0, "seconds", "A request whose headers are not complete by then is closed.", high=3600
    )
    """Time for the headers of one request, from its first byte or the connection on, in seconds."""
    http_idle_seconds: float = _limit(
        60.0, "seconds", "An HTTP connection without a request for so long is closed.", high=86400
    )
    """Time between two requests on one connection, in seconds."""
    http_stall_seconds: float = _limit(
        60.0, "seconds", "A body that brings less than 600 bytes, or an answer that nobody reads, is cut.", high=86400
    )
    """Time in which a request's body must bring 600 bytes, and a byte of an answer must leave, in seconds."""
    upload_bytes: int = _limit(400_000_000, "bytes", "A larger upload is refused (413).", 1024, 1 << 40)
    """Size of one uploaded file, in bytes."""
    uploads_per_principal: int = _limit(8, "uploads", "A further upload of that client at once is refused (429).")
    """Uploads at once of one principal; anonymous ones count per address."""
    stored_files: int = _limit(20_000, "files", "A further file is not stored, and its uploader is told so (507).")
    """Files that are stored."""
    video_connections: int = _limit(
        1000, "connections", "A further one is not kept, and its maker is told so (507).", 0
    )
    """Video connections that are kept."""
    history_days: float = _limit(
        7.0, "days", "An event that was stored so long ago is forgotten; 0 = nothing is kept.", 0, 3650
    )
    """Time that what was said is kept, in days; 0 is no history."""
    history_bytes: int = _limit(1 << 30, "bytes", "The event that was stored first is forgotten.", 1 << 20, 1 << 44)
    """Size of the history's file, in bytes."""

    def replaced(self, values: Mapping[str, float]) -> Limits:
        """Make a copy in which the named limits have other values.

        Raises:
            ValueError: a value is out of range, or two limits contradict each other.
        """
        for name, value in values.items():
            try:
                LIMITS[name].check(value)
            except ValueError as error:
                raise ValueError(f"{name} = {_number(value)}: {error}") from None
        made: Limits = replace(self, **values)  # type: ignore[arg-type]  # counts are whole: `Limit.parse` made them
        for lesser, greater in (
            ("max_unidentified_bytes", "max_event_bytes"),
            ("max_event_to_client", "outbox_bytes"),
        ):
            if getattr(made, lesser) > getattr(made, greater):
                raise ValueError(
                    f"{lesser} = {getattr(made, lesser)} is more than {greater} = {getattr(made, greater)};"
                    f" allowed: {lesser} up to {greater}"
                )
        return made


LIMITS: dict[str, Limit] = {one.name: Limit(one.name, **one.metadata) for one in fields(Limits)}
"""Every limit by name, in the order in which the manual shows them."""


def parse_limit(name: str, text: str) -> float:
    """Read a value of the limit called ``name``; raises `ValueError` with what is allowed."""
    return LIMITS[name].parse(text)


def limit_options() -> list[tuple[str, str, str]]:
    """List every limit as name (with ``_``), default as text, and one line of help."""
    return [(limit.name, _number(limit.default), limit.doc) for limit in LIMITS.values()]
