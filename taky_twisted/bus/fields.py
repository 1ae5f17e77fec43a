"""Words and records, field by field, as JSON; the fields' types say how, and are checked when reading.

Only what is declared is written and read: no class is ever named by what comes in. What another version has more than
this one is passed over, what it has less gets its default value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass, replace
from math import isfinite
from types import UnionType
from typing import Any, Protocol, Union, get_args, get_origin, get_type_hints

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.event import PROLOG, Destinations, Event
from taky_twisted.cot.shapes import Shapes
from taky_twisted.identity.principal import Principal
from taky_twisted.records import Record
from taky_twisted.routing.records import Emergency, Item, KnownContact, MissedChat, Tombstone
from taky_twisted.routing.words import Speaker

from .errors import EnvelopeError

MAX_COUNT = 200_000
"""Values in one list."""
MAX_TEXT = 1 << 20
"""Characters in one text; an attribute in an event may have as many."""
MAX_INTEGER = 1 << 255
"""No number is as large; a certificate's serial has up to 160 bits."""

KINDS = {kind.__name__: kind for kind in (Item, Tombstone, KnownContact, Emergency, MissedChat)}
"""The records that nodes tell each other."""


class Writes(Protocol):
    """Where what is no JSON goes: bytes, and what many words have in common."""

    def bytes_(self, data: bytes) -> list[int]:
        """Put bytes behind the JSON; say where, and how many."""

    def speaker(self, speaker: Speaker) -> int:
        """Put a speaker into the batch's table; say where."""

    def principal(self, principal: Principal) -> int:
        """Put a principal into the batch's table; say where."""


class Reads(Protocol):
    """Where what is no JSON comes from."""

    unreadable: int
    """Events that were left out."""

    def bytes_(self, place: Any) -> bytes:
        """Get bytes."""

    def speaker(self, number: Any) -> Speaker:
        """Get a speaker from the batch's table."""

    def principal(self, number: Any) -> Principal:
        """Get a principal from the batch's table."""


Write = Callable[[Any, Writes], Any]
Read = Callable[[Any, Reads], Any]
Codec = tuple[Write, Read]

_ABSENT = object()
_shapes = Shapes()  # what the other nodes tell is as much alike as what clients say
SKIP: Any = object()
"""What is read instead of something that is to be left out: it cannot be read, but what stands beside it can."""


def codec(kind: Any) -> Codec:
    """Make the functions that write and read values of a type.

    Raises:
        TypeError: it is none of the types that words and records have.
    """
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind == Record:
        return _write_record, _read_record
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and arguments[1:] == (...,):
        return _sequence(codec(arguments[0]), tuple, list)
    if origin is frozenset:
        return _sequence(codec(arguments[0]), frozenset, sorted)
    if origin in (Union, UnionType) and len(arguments) == 2 and arguments[1] is type(None):
        return _optional(codec(arguments[0]))
    if is_dataclass(kind):
        return by_fields(kind)
    raise TypeError(f"no way to write {kind}")


def by_fields(kind: Any) -> Codec:
    """Make the functions that write and read the instances of a dataclass; fields at their defaults are left out."""
    hints = get_type_hints(kind, localns={"Record": Record})
    parts = [(each.name, _default(each), codec(hints[each.name])) for each in fields(kind)]
    writing = [(name, default, write) for name, default, (write, _) in parts]
    reading = [(name, default, read) for name, default, (_, read) in parts]

    def write(value: Any, out: Writes) -> Any:
        written = {}
        for name, default, write in writing:
            part = getattr(value, name)
            if default is _ABSENT or part != default:
                written[name] = write(part, out)
        return written

    def read(value: Any, source: Reads) -> Any:
        if type(value) is not dict:
            raise EnvelopeError(f"{kind.__name__} is no object")
        arguments = []
        for name, default, read in reading:
            part = value.get(name, _ABSENT)
            if part is not _ABSENT:
                part = read(part, source)
                if part is SKIP:
                    return SKIP
            elif default is _ABSENT:
                raise EnvelopeError(f"{kind.__name__} lacks {name}")
            else:
                part = default
            arguments.append(part)
        return kind(*arguments)

    return write, read


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else _ABSENT


def _plain(value: Any, out: Writes) -> Any:
    return value


def _write_float(value: Any, out: Writes) -> Any:
    if not isfinite(value):
        raise EnvelopeError(f"{value} is no number to tell")
    return value


def _read_text(value: Any, source: Reads) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise EnvelopeError("not a text, or too long a one")
    return value


def _read_integer(value: Any, source: Reads) -> int:
    if type(value) is not int or not -MAX_INTEGER < value < MAX_INTEGER:
        raise EnvelopeError("not a whole number, or too large a one")
    return value


def _read_float(value: Any, source: Reads) -> float:
    if type(value) is int and -MAX_INTEGER < value < MAX_INTEGER:
        return float(value)
    if type(value) is not float or not isfinite(value):
        raise EnvelopeError("not a number")
    return value


def _read_boolean(value: Any, source: Reads) -> bool:
    if type(value) is not bool:
        raise EnvelopeError("neither true nor false")
    return value


def _write_bytes(value: Any, out: Writes) -> Any:
    return out.bytes_(value)


def _read_bytes(value: Any, source: Reads) -> bytes:
    return source.bytes_(value)


def _write_speaker(value: Any, out: Writes) -> Any:
    return out.speaker(value)


def _read_speaker(value: Any, source: Reads) -> Speaker:
    return source.speaker(value)


def _write_principal(value: Any, out: Writes) -> Any:
    return out.principal(value)


def _read_principal(value: Any, source: Reads) -> Principal:
    return source.principal(value)


def _write_event(event: Any, out: Writes) -> Any:
    written = {"xml": out.bytes_(event.xml)}
    if event.detail.destinations is not None:
        written["to"] = _DESTINATIONS[0](event.detail.destinations, out)
    return written


def _read_event(value: Any, source: Reads) -> Any:
    """Parse an event anew; one that cannot be read is left out: asking for it again would not help."""
    if type(value) is not dict:
        raise EnvelopeError("an event is no object")
    xml, to = source.bytes_(value.get("xml")), value.get("to")
    destinations = _DESTINATIONS[1](to, source) if to is not None else None
    try:
        if not xml.startswith(PROLOG):
            raise MalformedEvent("not in delivered form")
        event: Event = _shapes.decode(xml[len(PROLOG) :])
    except MalformedEvent:
        source.unreadable += 1
        return SKIP
    if event.detail.destinations != destinations:
        # The event was made here just now, and nobody has seen it yet; its detail may be that of others too.
        event.detail = replace(event.detail, destinations=destinations)
    return event


def _write_record(record: Any, out: Writes) -> Any:
    kind = type(record).__name__
    if kind not in _RECORDS:
        raise EnvelopeError(f"{kind} is nothing that nodes tell each other")
    return {"kind": kind, **_RECORDS[kind][0](record, out)}


def _read_record(value: Any, source: Reads) -> Any:
    kind = value.get("kind") if type(value) is dict else None
    if type(kind) is not str:
        raise EnvelopeError("a record is of no kind")
    return _RECORDS[kind][1](value, source) if kind in _RECORDS else SKIP


def _sequence(parts: Codec, make: Callable[[list[Any]], Any], order: Callable[[Any], list[Any]]) -> Codec:
    write_part, read_part = parts

    def write(values: Any, out: Writes) -> Any:
        values = order(values)
        return values if write_part is _plain else [write_part(value, out) for value in values]

    def read(values: Any, source: Reads) -> Any:
        if type(values) is not list or len(values) > MAX_COUNT:
            raise EnvelopeError("not a list, or too long a one")
        return make([part for value in values if (part := read_part(value, source)) is not SKIP])

    return write, read


def _optional(part: Codec) -> Codec:
    write_part, read_part = part

    def write(value: Any, out: Writes) -> Any:
        return None if value is None else write_part(value, out)

    def read(value: Any, source: Reads) -> Any:
        return None if value is None else read_part(value, source)

    return write, read


_SIMPLE: dict[Any, Codec] = {
    str: (_plain, _read_text),
    int: (_plain, _read_integer),
    float: (_write_float, _read_float),
    bool: (_plain, _read_boolean),
    bytes: (_write_bytes, _read_bytes),
    Speaker: (_write_speaker, _read_speaker),
    Principal: (_write_principal, _read_principal),
    Event: (_write_event, _read_event),
}
_DESTINATIONS = by_fields(Destinations)
_RECORDS = {name: by_fields(kind) for name, kind in KINDS.items()}
SPEAKER, PRINCIPAL = by_fields(Speaker), by_fields(Principal)
"""How the tables of a batch are written and read."""
