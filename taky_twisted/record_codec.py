"""Records as JSON: how they look outside of this process, in Redis.

One object per record, each field under its name, and ``"v"`` with the version of this form. What a reader does not know
it passes over, and for what it misses it takes the field's default. So servers of two versions can share records; a
field that comes to mean something else gets another name, or all of it another version.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import lru_cache
from math import isfinite
from typing import Any, TypeVar

from taky_twisted.records import LISTS, Record
from taky_twisted.routing.records import Groups

R = TypeVar("R", bound=Record)

VERSION = 1


class UnreadableRecord(ValueError):
    """What is there is not a record of ours, or of a version that we do not know."""


def encode(record: Record, **more: object) -> bytes:
    """Spell a record, ASCII only, and always the same record alike.

    Args:
        record: of any kind.
        more: what stands beside its fields, or in place of them; None leaves a field out.
    """
    spelled: dict[str, object] = {"v": VERSION}
    for name, write, _ in _SPELLED[type(record)]:
        if name not in more:
            value = getattr(record, name)
            spelled[name] = value if write is None else write(value)
    spelled.update((name, value) for name, value in more.items() if value is not None)
    return json.dumps(spelled, separators=(",", ":")).encode("ascii")


def decode(kind: type[R], data: bytes) -> R:
    """Read a record.

    Raises:
        UnreadableRecord: it is none of that kind.
    """
    return make(kind, read(data))


def read(data: bytes) -> dict[str, Any]:
    """Read the object.

    Raises:
        UnreadableRecord: it is none, or of another version.
    """
    try:
        spelled = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecord(f"not JSON ({error})") from error
    if not isinstance(spelled, dict):
        raise UnreadableRecord("not a JSON object")
    if spelled.get("v") != VERSION:
        raise UnreadableRecord(f"version {spelled.get('v')!r:.20}, not {VERSION}")
    return spelled


def make(kind: type[R], spelled: dict[str, Any], **more: object) -> R:
    """Make a record of what was read, and of more fields.

    Raises:
        UnreadableRecord: a field is missing, or is something else.
    """
    values: dict[str, Any] = {}
    for name, _, understand in _SPELLED[kind]:
        if name in more:
            values[name] = more[name]
        elif name in spelled:
            try:
                values[name] = understand(spelled[name])
            except (ValueError, TypeError, OverflowError) as error:
                raise UnreadableRecord(f"{name} is not what it should be") from error
        elif name not in _OPTIONAL[kind]:
            raise UnreadableRecord(f"{name} is missing")
    return kind(**values)


def _checked(*types: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) not in types:
            raise TypeError
        return value

    return check


def _number(value: Any) -> float:
    number = float(_checked(int, float)(value))
    if not isfinite(number):
        raise ValueError
    return number


def _or_none(understand: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else understand(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(each) for each in _checked(list)(value))


# Most records carry one of a few sets of groups: sharing them saves memory.
@lru_cache(maxsize=1024)
def _groups(names: tuple[str, ...]) -> Groups:
    return frozenset(names)


def _write_bytes(value: bytes) -> str:
    # XML stays readable for people and other programs; what is not UTF-8 survives as well.
    return value.decode("utf-8", "surrogateescape")


def _read_bytes(value: Any) -> bytes:
    encoded: bytes = _text(value).encode("utf-8", "surrogateescape")
    return encoded


_text = _checked(str)
_SPELLINGS: dict[str, tuple[Callable[[Any], object] | None, Callable[[Any], Any]]] = {
    "str": (None, _text),
    "str | None": (None, _or_none(_text)),
    "int": (None, _checked(int)),
    "bool": (None, _checked(bool)),
    "float": (None, _number),
    "float | None": (None, _or_none(_number)),
    "bytes": (_write_bytes, _read_bytes),
    "Groups": (sorted, lambda value: _groups(_texts(value))),
    "tuple[str, ...]": (list, _texts),
}
"""How a field is written (None: as it is) and understood, by its annotation."""


_SPELLED: dict[type[Any], tuple[tuple[str, Callable[[Any], object] | None, Callable[[Any], Any]], ...]] = {
    kind: tuple((each.name, *_SPELLINGS[str(each.type)]) for each in fields(kind)) for kind in LISTS
}
_OPTIONAL: dict[type[Any], frozenset[str]] = {
    kind: frozenset(each.name for each in fields(kind) if each.default is not MISSING) for kind in LISTS
}
"""Fields with a default."""
