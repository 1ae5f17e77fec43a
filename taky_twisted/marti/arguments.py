"""The parameters of a request: names in any case, values checked before they are used.

Source: TAK Server ``sync/EnterpriseSyncServlet.java`` takes names in any case; clients spell ``UID``, ``creatorUid``
and ``CreatorUid``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from urllib.parse import parse_qsl

from taky_twisted.marti.errors import BadRequest

MAX_ARGUMENTS = 500
"""Parameters of one request."""
_HASH = re.compile("[0-9a-fA-F]{64}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII)


class Arguments:
    """What stands behind the question mark, and in a form."""

    def __init__(self, query: bytes) -> None:
        """Read a query string.

        Raises:
            BadRequest: there are too many, or one is not UTF-8.
        """
        self._values: dict[str, list[str]] = {}
        self.add(query)

    def add(self, query: bytes) -> None:
        """Add those of a form."""
        try:
            pairs = parse_qsl(
                query.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_ARGUMENTS
            )
        except ValueError as error:  # also a UnicodeError
            raise BadRequest(f"the parameters cannot be read: {error}") from error
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def all(self, *names: str) -> list[str]:
        """List the values of a parameter, under any of its names."""
        return [value for name in names for value in self._values.get(name.lower(), ())]

    def words(self, *names: str) -> list[str]:
        """List the values of a parameter that may be repeated or hold several with commas between."""
        return [word for value in self.all(*names) for part in value.split(",") if (word := part.strip())]

    def one(self, *names: str) -> str | None:
        """Find a parameter's first value."""
        return next(iter(self.all(*names)), None)

    def text(self, *names: str) -> str:
        """Find a parameter that must be there; `BadRequest` if it is not, or empty."""
        value = self.one(*names)
        if not value:
            raise BadRequest(f"the parameter {names[0]} is missing")
        return value

    def hash(self, name: str = "hash") -> str:
        """Find a SHA-256 that must be there, in lower case."""
        value = self.text(name)
        if not _HASH.fullmatch(value):
            raise BadRequest(f"{name} is not a SHA-256: 64 hexadecimal digits are wanted")
        return value.lower()

    def number(self, name: str, default: float | None = None, low: float = -1e18, high: float = 1e18) -> float | None:
        """Find a number."""
        value = self.one(name)
        if value is None or value == "":
            return default
        try:
            number = float(value)
        except ValueError as error:
            raise BadRequest(f"{name} is not a number") from error
        if not low <= number <= high:
            raise BadRequest(f"{name} is out of range: {low:g} to {high:g}")
        return number

    def count(self, name: str, default: int = 0, low: int = 0, high: int = 1 << 62) -> int:
        """Find a whole number."""
        value = self.one(name)
        if value is None or value == "":
            return default
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", value) or not low <= int(value) <= high:
            raise BadRequest(f"{name} is no whole number from {low} to {high}")
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Find a truth value; everything but true, yes, on and 1 is false."""
        value = self.one(name)
        return default if value is None else value.strip().lower() in ("true", "yes", "on", "1")

    def time(self, *names: str) -> float | None:
        """Find a moment, in seconds since the epoch."""
        value = self.one(*names)
        return None if not value else read_time(names[0], value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


def read_time(name: str, value: str) -> float:
    """Read a moment as clients spell it: 0 to 9 digits of a second, ``Z`` or an offset; seconds since the epoch."""
    match = _TIME.fullmatch(value.strip())
    if match is None:
        raise BadRequest(f"{name} is no time like 2026-01-31T12:00:00.000Z")
    day, hour, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{hour}").replace(tzinfo=timezone.utc).timestamp()
    except ValueError as error:
        raise BadRequest(f"{name} is no time: {error}") from error
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        moment += offset if sign == "-" else -offset
    return moment + (float(f"0.{fraction}") if fraction else 0.0)
