"""What a certificate register says: taky's file, and beside it a file of ours for what taky's has no place for.

taky's ``cert-db.txt`` has one certificate a line, five fields with tabs between them::

    V  2024-03-01T10:00:00  2026-03-01T10:00:00  00000000000000000000000000000000000004d2  ALPHA-1
    R  2024-03-01T10:00:00  2024-04-01T12:30:00  00000000000000000000000000000000000004d3  BRAVO-2

status (V valid, R revoked), issued, expires (or the time of revocation), serial in hex, common name. OpenSSL's
``index.txt`` has status and serial at the same places, so it works too. Lines stay as they are, also those that we do
not understand, until one of them has to be marked R.

The file beside it, ``cert-db.jsonl``, has one JSON object a line: a certificate (issuer, dates and hashes), or a name
that was banned. Who is revoked in either file is revoked: a program that writes taky's file without our lock can lose
a line there, and no ban is lost with it.

Source: taky 0.10, ``taky/util/anc.py``, class ``CertificateDatabase``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from taky_twisted.identity.certificates import printable

REVOKED = "R"
_STATUSES = frozenset({"V", REVOKED, "E"})  # E: expired, in OpenSSL's index.txt
_TAKY_FIELDS, _OPENSSL_FIELDS = 5, 6
_SERIAL = 3
_OPENSSL_NAME = re.compile(r"CN\s*=\s*([^/,]+)")
_SPELLED = "%Y-%m-%dT%H:%M:%S"
_OPENSSL_SPELLED = "%y%m%d%H%M%SZ"

Problem = tuple[str, int, str, str]
"""File, line number, the line, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One certificate that the register knows. Times are in UTC; what is None is not known."""

    serial: int
    name: str
    """The common name."""
    issued: datetime | None = None
    expires: datetime | None = None
    revoked: datetime | None = None
    issuer: str | None = None
    """The issuer's distinguished name, RFC 4514; None for a line that only taky's file has."""
    kind: str | None = None
    """``client`` or ``server``."""
    sha256: str | None = None
    """Of the certificate (DER), in hex."""
    key_sha256: str | None = None
    """Of its public key (SubjectPublicKeyInfo, DER), in hex."""
    client_uid: str | None = None
    """The device that asked for it."""
    version: str | None = None
    """What that device runs."""
    groups: tuple[str, ...] = ()
    """What ``build_client --group`` said."""

    @property
    def serial_hex(self) -> str:
        """The serial as taky's file spells it."""
        return f"{self.serial:040x}"


@dataclass(frozen=True, slots=True)
class Ban:
    """A name that was banned; its certificates stay refused when it no longer is."""

    name: str
    since: datetime
    until: datetime | None = None
    """None: it still is."""

    @property
    def order(self) -> tuple[datetime, datetime, bool, datetime]:
        """Of two bans of a name the one with the higher order counts: the last word on it."""
        until = self.until or self.since
        return max(self.since, until), self.since, self.until is not None, until


@dataclass
class CertDb:
    """Both files in memory."""

    lines: list[str] = field(default_factory=list)
    """taky's file, line by line."""
    known: dict[tuple[str, int], Record] = field(default_factory=dict)
    """What our file says, by issuer and serial."""
    bans: dict[str, Ban] = field(default_factory=dict)
    """By `ban_key`."""
    foreign: list[str] = field(default_factory=list)
    """Lines of our file that we do not understand, a later version's perhaps."""
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> CertDb:
        """Read both files; taky's has to be there.

        Raises:
            OSError: one cannot be read.
            UnicodeError: one is not text.
        """
        # Ours first: what is written between the two reads is then seen by the next look at the latest.
        try:
            more = beside(path).read_text("utf-8")
        except FileNotFoundError:
            more = ""
        found = cls(lines=_lines(path.read_text("utf-8")))
        for number, line in enumerate(_lines(more), 1):
            if not line.strip():
                continue
            try:
                found._take(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                found.foreign.append(line)
                found.problems.append((str(beside(path)), number, line, "not a line that this version understands"))
        for number, line in enumerate(found.lines, 1):
            try:
                parse_line(line)
            except ValueError as error:
                found.problems.append((str(path), number, line, str(error)))
        return found

    def records(self) -> Iterator[Record]:
        """Go through all certificates, each once, in the order in which they were issued."""
        told: set[int] = set()
        of_serial: dict[int, list[Record]] = {}
        for record in self.known.values():
            of_serial.setdefault(record.serial, []).append(record)
        last = {entry.serial: entry for entry in self._entries()}
        for entry in last.values():
            told.add(entry.serial)
            records = of_serial.get(entry.serial)
            if records is None:
                yield entry
            elif entry.revoked is not None and not any(record.revoked for record in records):
                # Revoked by taky or by hand: there a serial is all there is.
                yield from (replace(record, revoked=entry.revoked) for record in records)
            else:
                yield from records
        for serial, records in of_serial.items():
            if serial not in told:
                yield from records

    def add(self, record: Record) -> None:
        """Enter a certificate whose issuer is known."""
        assert record.issuer is not None
        self.known[record.issuer, record.serial] = record
        if not any(entry.serial == record.serial for entry in self._entries()):
            self.lines.append(_line(record))

    def revoke(self, record: Record, when: datetime) -> Record:
        """Mark a certificate as revoked in both files, and return what they say of it then."""
        record = replace(record, revoked=when)
        if record.issuer is not None:
            self.known[record.issuer, record.serial] = record
        found = False
        for number, line in enumerate(self.lines):
            entry = _parsed(line)
            if entry is not None and entry.serial == record.serial:
                self.lines[number], found = _revoked_line(line, when), True
        if not found:
            self.lines.append(_line(record))
        return record

    def heal(self) -> None:
        """Put back into taky's file what a program without our lock has lost there."""
        entries = {entry.serial: entry for entry in self._entries()}
        for record in list(self.known.values()):
            entry = entries.get(record.serial)
            if entry is None:
                self.lines.append(_line(record))
                entries[record.serial] = record
            elif record.revoked is not None and entry.revoked is None:
                self.revoke(record, record.revoked)

    def join(self, records: Iterable[Record], bans: Iterable[Ban]) -> list[Record]:
        """Make one of what is here and what somebody else has entered; the order in which that is done is the same.

        Who is revoked on either side is revoked. Of bans the last word counts. What else is said of a certificate is
        taken over. Returns the certificates, as they are here now.
        """
        lines = {entry.serial: number for number, line in enumerate(self.lines) if (entry := _parsed(line)) is not None}
        joined = []
        for record in records:
            at = lines.setdefault(record.serial, len(self.lines))
            if at == len(self.lines):
                self.lines.append(_line(record))
            here = self.known.get((record.issuer, record.serial)) if record.issuer is not None else None
            here = here or _parsed(self.lines[at])
            dates = [each.revoked for each in (here, record) if each is not None and each.revoked is not None]
            record = replace(record, revoked=min(dates, default=None))
            if record.issuer is not None:
                self.known[record.issuer, record.serial] = record
            if record.revoked is not None:
                self.lines[at] = _revoked_line(self.lines[at], record.revoked)
            joined.append(record)
        for ban in bans:
            known = self.bans.get(ban_key(ban.name))
            if known is None or ban.order > known.order:
                self.bans[ban_key(ban.name)] = ban
        return joined

    def taky_text(self) -> str:
        """Spell taky's file."""
        return "".join(f"{line}\n" for line in self.lines)

    def text_beside(self) -> str:
        """Spell our file."""
        entries: list[Record | Ban] = [*self.known.values(), *self.bans.values()]
        lines = [json.dumps(spelled(each), ensure_ascii=False) for each in entries] + self.foreign
        return "".join(f"{line}\n" for line in lines)

    def _entries(self) -> Iterator[Record]:
        for line in self.lines:
            entry = _parsed(line)
            if entry is not None:
                yield entry

    def _take(self, told: dict[str, Any]) -> None:
        if "ban" in told:
            ban = read_ban(told)
            known = self.bans.get(ban_key(ban.name))
            # Of two that differ in case only, which an older version told apart, the one that lasts longer counts.
            if known is None or ban.until is None or (known.until is not None and ban.until >= known.until):
                self.bans[ban_key(ban.name)] = ban
            return
        record = read_record(told)
        if record.issuer is None:
            raise ValueError("no issuer")
        self.known[record.issuer, record.serial] = record


def beside(path: Path) -> Path:
    """Name our file, beside taky's."""
    return path.with_suffix(".jsonl")


def parse_line(line: str) -> Record | None:
    """Read a line of taky's file; None for one that is empty or a comment.

    Dates that cannot be read do not matter: a revoked certificate is refused even if somebody broke them.

    Raises:
        ValueError: it is no line of a register; the text says why.
    """
    if not line.strip() or line.startswith("#"):
        return None
    found = line.split("\t")
    if len(found) not in (_TAKY_FIELDS, _OPENSSL_FIELDS):
        raise ValueError(f"{len(found)} fields instead of 5 (status, issued, expires, serial, name, tabs between)")
    status = found[0].strip().upper()
    if status not in _STATUSES:
        raise ValueError(f"the status {found[0][:20]!r} is neither V nor R")
    try:
        serial = int(found[_SERIAL], 16)
    except ValueError:
        raise ValueError(f"the serial {found[_SERIAL][:60]!r} is not a hex number") from None
    if len(found) == _TAKY_FIELDS:
        issued, end, name = _date(found[1]), _date(found[2]), found[4].strip()
        expires, revoked = (None, end) if status == REVOKED else (end, None)
    else:
        issued, expires, revoked = None, _openssl_date(found[1]), _openssl_date(found[2])
        subject = _OPENSSL_NAME.search(found[5])
        name = subject[1].strip() if subject is not None else found[5].strip()
    return Record(serial, name, issued, expires, (revoked or _LONG_AGO) if status == REVOKED else None)


def same_issuer(one: str, other: str) -> bool:
    """Whether two distinguished names are the same, although another version may have spelled one of them."""
    return one == other or _values(one) == _values(other)


def name_key(name: str) -> str:
    """Spell a name so that two are equal if they look equal, as a certificate's name does in the log."""
    return unicodedata.normalize("NFC", printable(name.strip()))


def ban_key(name: str) -> str:
    """Spell a name as bans compare it: in any case, because accounts do not tell that apart either."""
    return unicodedata.normalize("NFC", name_key(name).casefold())


_LONG_AGO = datetime.fromtimestamp(0, timezone.utc)


def _lines(text: str) -> list[str]:
    # Not splitlines(): a name may hold what Unicode calls a line separator.
    return text.removesuffix("\n").split("\n") if text else []


def _values(name: str) -> list[str]:
    parts = re.split(r"(?<!\\)[,+]", name)
    return sorted(part.partition("=")[2].replace("\\", "").strip().casefold() for part in parts)


def _parsed(line: str) -> Record | None:
    try:
        return parse_line(line)
    except ValueError:
        return None


def _line(record: Record) -> str:
    status = "V" if record.revoked is None else REVOKED
    dates = (record.issued or _LONG_AGO, record.revoked or record.expires or _LONG_AGO)
    # A tab or a line break would make two fields or lines of it, also for taky.
    return "\t".join((status, *map(_spelled_time, dates), record.serial_hex, printable(record.name)))


def _revoked_line(line: str, when: datetime) -> str:
    entry = _parsed(line)
    if entry is not None and entry.revoked is not None and entry.revoked <= when:
        return line
    found = line.split("\t")
    found[0] = REVOKED
    found[2] = _spelled_time(when) if len(found) == _TAKY_FIELDS else f"{when:{_OPENSSL_SPELLED}}"
    return "\t".join(found)


def spelled(value: Record | Ban) -> dict[str, Any]:
    """Spell a certificate or a ban for our file."""
    told: dict[str, Any] = {}
    for each in fields(value):
        content = getattr(value, each.name)
        if content is None or content == ():
            continue
        if isinstance(content, datetime):
            content = f"{_spelled_time(content)}Z"
        elif each.name == "serial":
            content = f"{content:040x}"
        told["ban" if isinstance(value, Ban) and each.name == "name" else each.name] = content
    return told


def read_ban(told: dict[str, Any]) -> Ban:
    """Read what `spelled` makes of a ban.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    _check_texts(told)
    return Ban(str(told["ban"]), _time(told["since"]), _time(told["until"]) if told.get("until") else None)


def read_record(told: dict[str, Any]) -> Record:
    """Read what `spelled` makes of a certificate.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    _check_texts(told)
    values = {each.name: told[each.name] for each in fields(Record) if told.get(each.name) is not None}
    for name in ("issued", "expires", "revoked"):
        if name in values:
            values[name] = _time(values[name])
    values |= {"serial": int(values["serial"], 16), "groups": tuple(map(str, values.get("groups", ())))}
    record = Record(**values)
    if not isinstance(record.name, str) or not isinstance(record.issuer, str | None):
        raise ValueError("no name, or no issuer")
    return record


def _check_texts(told: dict[str, Any]) -> None:
    # JSON can spell halves of characters, with which nothing could be written to the file any more.
    json.dumps(told, ensure_ascii=False).encode()  # raises a ValueError


def _spelled_time(moment: datetime) -> str:
    # Not strftime: it spells the year 26 with two digits, which are not read.
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def _time(text: str) -> datetime:
    return datetime.strptime(text, f"{_SPELLED}Z").replace(tzinfo=timezone.utc)


def _date(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found.replace(tzinfo=timezone.utc) if found.tzinfo is None else found.astimezone(timezone.utc)


def _openssl_date(text: str) -> datetime | None:
    try:
        return datetime.strptime(text.strip()[:13], _OPENSSL_SPELLED).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
