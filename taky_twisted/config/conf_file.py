"""An INI file as taky reads it, and errors that say file, section, key, value and what is allowed."""

from __future__ import annotations

import configparser
import io
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from taky_twisted.config.values import ConfigError, parse_path, without_password

MAX_FILE_BYTES = 256 << 10  # a full taky.conf is 5 KiB; this only keeps /dev/zero and the like out of memory

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_SECRET = re.compile(r"pw|pass|secret|server_p12_key")
_SHOWN = 80  # characters of a value in an error
# A key without a value has a continuation line: before Python 3.13 configparser itself stumbles over that.
_CONTINUES_NOTHING: type[Exception] = getattr(configparser, "MultilineContinuationError", AttributeError)

T = TypeVar("T")
D = TypeVar("D")


class ConfFile:
    """The sections and keys of one file; remembers which were asked for, so that the rest can be refused.

    A key that is absent and a key without a value are both "not set", except to `optional`.
    """

    def __init__(self, sections: Mapping[str, Mapping[str, str | None]], path: Path | None, base: Path) -> None:
        """Hold what was read from ``path``; relative paths start at ``base``."""
        self._sections = sections
        self.path = path
        self.base = base
        self.known: dict[str, list[str]] = {}
        """The keys that were asked for, by section."""

    @classmethod
    def read(cls, path: Path) -> ConfFile:
        """Read a file.

        Raises:
            FileNotFoundError: there is none.
            ConfigError: it cannot be read, or is not an INI file.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError(f"{str(path)!r}: not a file name: {error}") from error
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: too large for a configuration file; allowed: {MAX_FILE_BYTES} bytes")
        return cls(_sections(data, path), path, path.parent)

    def text(self, section: str, key: str) -> str | None:
        """Return what the file says, None for nothing, and an empty text for a key without a value."""
        if key not in self.known.setdefault(section, []):
            self.known[section].append(key)
        keys = self._sections.get(section, {})
        if key not in keys:
            return None
        text = (keys[key] or "").strip()
        if control := _CONTROL.search(text):
            raise self.bad(section, key, f"holds the control character {control[0]!r}; allowed: printable text")
        return text

    def value(self, section: str, key: str, parse: Callable[[str], T], default: D) -> T | D:
        """Return what ``parse`` makes of a key, or the default if it is not set.

        Raises:
            ConfigError: ``parse`` raised `ValueError`, or there is more than one line.
        """
        text = self.text(section, key)
        if not text:
            return default
        if "\n" in text:
            raise self.bad(section, key, "more than one line; an indented line continues the one above it")
        return self._parsed(section, key, text, parse)

    def lines(self, section: str, key: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """Return what ``parse`` makes of every line of a key; empty lines do not count.

        Raises:
            ConfigError: ``parse`` raised `ValueError`.
        """
        lines = (line.strip() for line in (self.text(section, key) or "").split("\n"))
        return tuple(self._parsed(section, key, line, parse) for line in lines if line)

    def optional(self, section: str, key: str, parse: Callable[[str], T], default: T | None) -> T | None:
        """Do as `value`, but a key without a value is None, not the default: so one says "none"."""
        return self.value(section, key, parse, default if self.text(section, key) is None else None)

    def keys(self, section: str) -> tuple[str, ...]:
        """Name the keys of a section in which any key may stand; they are in lower case."""
        self.known.setdefault(section, [])
        return tuple(self._sections.get(section, {}))

    def path_of(self, text: str) -> Path:
        """Make a path of the file absolute."""
        return parse_path(text, self.base)

    def interpolated(self) -> Iterator[str]:
        """Name the keys that taky reads otherwise: there ``%%`` is a ``%``, and ``%(key)s`` another value."""
        for section, keys in self._sections.items():
            for key, value in keys.items():
                if value is not None and ("%%" in value or "%(" in value):
                    yield f"[{section}] {key}"

    def bad(self, section: str, key: str, reason: str, value: str | None = None) -> ConfigError:
        """Make the error for a key; passwords are not shown."""
        if value is None:
            value = self._sections[section][key] or ""
        shown = "(not shown)" if _SECRET.search(key) else f"'{_short(without_password(value))}'"
        return self.wrong(f"[{section}] {_short(key)} = {shown}: {reason}")

    def wrong(self, what: str) -> ConfigError:
        """Make an error that begins with the file's name."""
        return ConfigError(f"{self.path}: {what}")

    def check_unknown(self) -> None:
        """Refuse what nobody asked for: call it last.

        Raises:
            ConfigError: for the first unknown section or key, with those that look like it.
        """
        for section, keys in self._sections.items():
            if section not in self.known:
                raise self.wrong(f"unknown section [{_short(section)}]{_allowed(section, list(self.known))}")
            for key in keys:
                if key not in self.known[section]:
                    raise self.bad(section, key, self._unknown(section, key))

    def _parsed(self, section: str, key: str, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise self.bad(section, key, str(error), text) from error

    def _unknown(self, section: str, key: str) -> str:
        for other, keys in self.known.items():
            if key in keys:
                return f"unknown key here; it belongs into [{other}]"
        return f"unknown key{_allowed(key, self.known[section])} (a line that continues the one above is indented)"


def _sections(data: bytes, path: Path) -> dict[str, dict[str, str | None]]:
    """Read INI text as taky does, but without interpolation and without ``[DEFAULT]``."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: byte 0x{data[error.start]:02x} is not UTF-8") from error
    parser = configparser.ConfigParser(allow_no_value=True, interpolation=None, default_section="")
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(io.StringIO(text, newline=None), 1):  # noqa: B007  # it is what we report
            yield line

    try:
        parser.read_file(lines(), str(path))
    except _CONTINUES_NOTHING as error:
        raise ConfigError(
            f"{path}: line {number}: is indented, so it continues the line above, which has no '=';"
            " indent less or write '=' there"
        ) from error
    except configparser.DuplicateSectionError as error:
        raise ConfigError(f"{path}: line {error.lineno}: section [{_short(error.section)}] is there twice") from error
    except configparser.DuplicateOptionError as error:
        where = f"[{_short(error.section)}] {_short(error.option)}"
        raise ConfigError(f"{path}: line {error.lineno}: {where} is there twice") from error
    except configparser.MissingSectionHeaderError as error:
        raise ConfigError(f"{path}: line {error.lineno}: stands before the first [section]") from error
    except configparser.ParsingError as error:
        raise ConfigError(f"{path}: line {error.errors[0][0]}: has no key before '='") from error
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _short(text: str) -> str:
    """Make a text fit for one line of a terminal."""
    text = repr(text)[1:-1]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _allowed(word: str, known: list[str]) -> str:
    close = get_close_matches(word.lower(), known, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"{meant}; allowed: {', '.join(known)}"
