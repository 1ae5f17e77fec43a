"""What is on the disk or in a store: registers of certificates, taky's folder, records of this server.

The first byte chooses. Holds: nothing but the documented error of each reader is raised; who is revoked in either file
of the register stays revoked whatever is done to it, and what is written is read as the same; nothing outside of taky's
folder is ever taken over; a record that is read can be written and read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timezone

from taky_twisted import record_codec
from taky_twisted.bus import shared_register
from taky_twisted.bus.shared_register import BANS, CERTIFICATES
from taky_twisted.enterprise_sync import takeover
from taky_twisted.enterprise_sync.takeover import Unusable, read_package
from taky_twisted.identity import cert_db, revocation
from taky_twisted.identity.cert_db import CertDb, Record, ban_key, beside
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.principal import Certificate
from taky_twisted.record_codec import UnreadableRecord
from taky_twisted.records import LISTS
from tests.fuzz.inputs import memory_folder
from tests.fuzz.target import Target

WHEN = datetime(2026, 3, 1, 10, tzinfo=timezone.utc)
NEW = Record(0x4D9, "NEW", WHEN, WHEN, issuer="CN=Test CA", kind="client")
_folder = memory_folder("saved")
_register = _folder / "cert-db.txt"
_uploads = _folder / "dp-user"
KINDS = {kind.__name__: kind for kind in LISTS}

assert takeover and revocation and cert_db  # to be instrumented


def read_register(taky: bytes, ours: bytes) -> CertDb | None:
    """Read two files as a register; None if they are no text."""
    _register.write_bytes(taky)
    beside(_register).write_bytes(ours)
    try:
        return CertDb.read(_register)
    except UnicodeError:
        return None


def refused(found: CertDb) -> set[tuple[str | None, int]]:
    """List who is revoked."""
    return {(record.issuer, record.serial) for record in found.records() if record.revoked is not None}


def register(data: bytes) -> None:
    """Read a register; a NUL is between its two files."""
    taky, _, ours = data.partition(b"\0")
    found = read_register(taky, ours)
    if found is None:
        with suppress(EndpointError):
            revocation.Register(str(_register))
        return
    before, banned = refused(found), {key for key, ban in found.bans.items() if ban.until is None}
    server = revocation.Register(str(_register))
    for issuer, serial in before:
        assert server.is_revoked(Certificate("x", issuer or "CN=Test CA", serial)), (issuer, serial)
    for key in banned:
        assert server.is_banned(found.bans[key].name)
    found.heal()
    found.add(NEW)
    for record in list(found.records())[:3]:
        if record.revoked is None:
            found.revoke(record, WHEN)
            before.add((record.issuer, record.serial))
    again = read_register(found.taky_text().encode(), found.text_beside().encode())
    assert again is not None
    serials = {serial for _, serial in refused(again)}
    assert {serial for _, serial in before} <= serials, (before, refused(again))
    assert {key for key, ban in again.bans.items() if ban.until is None} == banned
    assert all(ban_key(ban.name) == key for key, ban in again.bans.items())
    assert {(record.issuer, record.serial) for record in again.records()} >= {(NEW.issuer, NEW.serial)}
    assert not again.taky_text() or again.taky_text().endswith("\n")


def package(data: bytes) -> None:
    """Take over a data package of taky."""
    description = _uploads / "meta" / "A_a.zip.json"
    description.write_bytes(data)
    with suppress(Unusable, OSError):
        found = read_package(_uploads, description)
        assert found.path.is_relative_to(_uploads) and found.path.name in ("A_a.zip", "b.zip"), found
        words = found.words
        assert words.name and not set("/\\\0\n") & set(words.name), words
        assert found.submitted >= 0


def record(data: bytes) -> None:
    """Read a record; its kind is the first line."""
    name, _, spelled = data.partition(b"\n")
    kind = KINDS.get(name.decode("ascii", "replace"))
    if kind is None:
        return
    try:
        found = record_codec.decode(kind, spelled)
    except UnreadableRecord as error:
        assert len(str(error)) < 500, error
        return
    again = record_codec.decode(kind, record_codec.encode(found))
    assert repr(again) == repr(found), (again, found)
    assert isinstance(found.key, str)


def shared(data: bytes) -> None:
    """Read what another node says of the register; the first line says of what."""
    kind, _, payload = data.partition(b"\n")
    name = BANS if kind == b"bans" else CERTIFICATES
    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):  # what it says is skipped then
        value = shared_register._read(name, payload)
        place = shared_register._place(value)
        assert place[0] == name
        again = shared_register._spell(value)
        assert shared_register._spell(shared_register._read(name, again)) == again, (payload, again)
        assert shared_register._place(shared_register._read(name, again)) == place, (payload, again)


_READERS: dict[bytes, Callable[[bytes], None]] = {b"0": register, b"1": package, b"2": record, b"3": shared}


def run(data: bytes) -> None:
    if (reader := _READERS.get(data[:1])) is not None:
        reader(data[1:])


def _prepare() -> None:
    (_uploads / "meta").mkdir(parents=True)
    for name in ("A_a.zip", "b.zip", "meta/x.zip"):
        (_uploads / name).write_bytes(b"PK")
    (_uploads / "blobs").mkdir()
    (_folder / "secret").write_bytes(b"secret")
    (_uploads / "out").symlink_to(_folder / "secret")
    (_uploads / "circle").symlink_to(_uploads / "circle")


_prepare()
SAMPLE_VALUES = {
    "str": "x",
    "str | None": None,
    "int": 1,
    "bool": True,
    "float": 1.5,
    "float | None": 1.5,
    "bytes": "<x/>",
    "Groups": ["__ANON__"],
    "tuple[str, ...]": ["a"],
}


def _seeds() -> list[bytes]:
    line = b"\t".join((b"V", b"2024-03-01T10:00:00", b"2026-03-01T10:00:00", b"%040x" % 0x4D2, b"ALPHA-1")) + b"\n"
    openssl = b"R\t350101000000Z\t240101000000Z\t04D3\tunknown\t/C=X/CN=BRAVO-2\n"
    ours: list[dict[str, object]] = [
        {"serial": f"{0x4D2:040x}", "name": "ALPHA-1", "issuer": "CN=Test CA", "revoked": "2026-03-01T10:00:00Z"},
        {"ban": "alpha-1", "since": "2026-03-01T10:00:00Z"},
        {"ban": "x", "since": "2026-03-01T10:00:00Z", "until": "2026-03-01T10:00:00Z", "later": 1},
        {"serial": "1", "name": "é", "issuer": "CN=a", "groups": ["Blue"], "issued": "2026-03-01T10:00:00Z"},
    ]
    beside_it = "".join(json.dumps(each) + "\n" for each in ours).encode()
    meta = {
        "UID": "A_a.zip",
        "Name": "a.zip",
        "Hash": "0" * 64,
        "PrimaryKey": 1,
        "SubmissionDateTime": "2024-05-06T07:08:09.123456Z",
        "SubmissionUser": "alice",
        "CreatorUid": "A",
        "Keywords": "kw",
        "MIMEType": "application/x-zip-compressed",
        "Size": 2,
        "Visibility": "private",
    }
    uids = ("A_a.zip", "../secret", "out", "circle", "\0", ".")
    records = [
        f"2{name}\n".encode()
        + json.dumps({"v": 1, **{each.name: SAMPLE_VALUES[str(each.type)] for each in fields(kind)}}).encode()
        for name, kind in KINDS.items()
    ]
    return [
        *(b"0" + one for one in (line, line + b"\0" + beside_it, openssl + b"# x\n\n" + line, b"\0" + beside_it)),
        b"0\xff",
        b"0" + line.replace(b"V", b"R") + line.replace(b"ALPHA", b"BRAVO"),
        *(b"1" + json.dumps({**meta, "UID": uid}).encode() for uid in uids),
        b"1" + json.dumps({**meta, "Visibility": None, "SubmissionUser": "Anonymous", "Name": "../x"}).encode(),
        *records,
        *(b"3bans\n" + json.dumps({"v": 1, **each}).encode() for each in ours),
        *(b"3certificates\n" + json.dumps({"v": 1, **each}).encode() for each in ours),
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b"\t", b"\n", b"V\t", b"R\t", b"E\t", b"\0", b'"ban":', b'"until":', b'"serial":', b'"revoked":'),
        b'"issuer":',
        *(b"CN=", b"-1", b"0x", b"_", b"null", b"[]", b'"UID":', b"/etc/passwd", b"..", b"\\u0000", b"\\ud800"),
        b"9" * 400,
        *(b'"v": 1', *(f"2{name}\n".encode() for name in KINDS), b"1e999", b"NaN", b"true", b"\xe2\x80\xa8"),
    ],
)
