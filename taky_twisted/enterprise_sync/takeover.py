"""Data packages of taky, which was here before: taken over at the first start, and left as they are.

taky keeps ``<upload_path>/<UID>`` (the content), ``<upload_path>/meta/<UID>.json`` (what is known of it) and
``meta/<hash>.json``, a link to the latter (taky 0.10, ``taky/dps/views/datapackage.py``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.times import parse_time
from taky_twisted.enterprise_sync.blobs import Blobs
from taky_twisted.enterprise_sync.disk_thread import Stopped
from taky_twisted.enterprise_sync.errors import SyncError
from taky_twisted.enterprise_sync.files import PACKAGE, PACKAGE_TYPE, PRIVATE, PUBLIC, Caller, Files, Words
from taky_twisted.enterprise_sync.texts import clean, clean_name, clean_type
from taky_twisted.files import sync_folder
from taky_twisted.identity.principal import Principal
from taky_twisted.logs import Logger

MAX_DESCRIPTION = 1 << 20
"""Bytes of one description; taky's have a few hundred."""
READ_BYTES = 1 << 20
"""Bytes that are hashed at once."""
NOBODY = "Anonymous"
"""What taky writes when it does not know who it was."""

log = Logger()


@dataclass(frozen=True, slots=True)
class Package:
    """A package that taky has."""

    path: Path
    """The content, all links followed."""
    hash: str
    size: int
    submitted: float
    words: Words
    submitter: str | None


class Unusable(Exception):
    """A package cannot be taken over; the text says why."""


async def take_over(upload_path: Path, files: Files, blobs: Blobs, marker: Path | None) -> None:
    """Take over what taky has, unless that was done before.

    Args:
        upload_path: taky's folder.
        files: gets the packages.
        blobs: gets their contents.
        marker: a file that says that it was done; None: the files are forgotten at the next start anyway.
    """
    descriptions = await blobs.aside(_descriptions, upload_path, marker)
    taken = 0
    for description in descriptions:
        try:
            package = await blobs.write(read_package, upload_path, description)
            with files.claimed(package.hash):
                await blobs.adopt(package.path, package.hash, package.size)
                who = Caller(Principal(package.submitter))
                files.insert(package.words, package.hash, package.size, who, package.submitted)
            taken += 1
        except Stopped:
            return
        except (Unusable, SyncError, OSError) as error:
            log.warn("{path} of taky was not taken over: {error}", path=str(description), error=str(error))
    if descriptions:
        await files.flush()
        log.info("{taken} data packages of taky were taken over from {path}", taken=taken, path=str(upload_path))
        if marker is not None:
            await blobs.write(mark, marker, upload_path)


def read_package(upload_path: Path, description: Path) -> Package:
    """Read what taky knows of a package, and the content itself; this waits for the disk.

    Raises:
        Unusable: it makes no sense.
        OSError: it cannot be read.
    """
    known = _read_description(description)
    uid = known.get("UID")
    if not isinstance(uid, str) or not uid:
        raise Unusable("it names no file")
    root = upload_path.resolve()
    try:
        path = (root / uid).resolve()
    except (ValueError, RuntimeError) as error:  # no text that a path can have, or links in a circle
        raise Unusable(f"the file that it names cannot be looked for ({error})") from error
    if not path.is_relative_to(root) or path.is_relative_to(root / "blobs") or path.is_relative_to(root / "meta"):
        raise Unusable("the file that it names is not in taky's folder")
    if not path.is_file():
        raise Unusable("the file that it names is not there")
    sha256, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(READ_BYTES):
            sha256.update(piece)
            size += len(piece)
    digest = sha256.hexdigest()
    submitter = clean(_text(known, "SubmissionUser"))
    return Package(
        path=path,
        hash=digest,
        size=size,
        submitted=_time(_text(known, "SubmissionDateTime"), path),
        submitter=None if submitter in ("", NOBODY) else submitter,
        words=Words(
            name=clean_name(_text(known, "Name")) or clean_name(uid) or digest,
            uid=digest,
            mime_type=clean_type(_text(known, "MIMEType")) or PACKAGE_TYPE,
            # What has no Visibility was uploaded before taky had it, and was for everybody.
            tool=PUBLIC if known.get("Visibility", PUBLIC) == PUBLIC else PRIVATE,
            keywords=(PACKAGE,),  # taky has nothing else, and writes "kw" here
            creator_uid=clean(_text(known, "CreatorUid")),
        ),
    )


def _descriptions(upload_path: Path, marker: Path | None) -> list[Path]:
    """List the descriptions that are there, each once, by name; none if that was done before."""
    if is_marked(marker, upload_path):
        return []
    return list(_unique(upload_path.resolve(), upload_path / "meta"))


def _unique(root: Path, folder: Path) -> Iterator[Path]:
    seen = set()
    for path in sorted(folder.glob("*.json")):
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # links in a circle
            log.warn("{path} of taky was not taken over: {error}", path=str(path), error=str(error))
            continue
        if not real.is_relative_to(root):
            log.warn("{path} of taky was not taken over: it is a link out of taky's folder", path=str(path))
        elif real not in seen:
            seen.add(real)
            yield real


def _read_description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise Unusable("it is no file")
    with open(path, "rb") as file:
        data = file.read(MAX_DESCRIPTION + 1)
    if len(data) > MAX_DESCRIPTION:
        raise Unusable("it is too long")
    try:
        known = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"it is no JSON ({error})") from error
    if not isinstance(known, dict):
        raise Unusable("it is no JSON object")
    return known


def _text(known: dict[str, Any], name: str) -> str:
    value = known.get(name)
    return value[:1000] if isinstance(value, str) else ""


def _time(text: str, path: Path) -> float:
    try:
        return max(0.0, parse_time(text)[0])
    except MalformedEvent:
        return path.stat().st_mtime


def is_marked(marker: Path | None, upload_path: Path) -> bool:
    """Whether a file says that what taky has in a folder was taken over."""
    return marker is not None and marker.exists() and marker.read_text("utf-8", "replace") == str(upload_path)


def mark(marker: Path, upload_path: Path) -> None:
    """Have a file say so; raises `OSError`."""
    aside = marker.with_name(f"{marker.name}.new")
    with open(aside, "w", encoding="utf-8") as file:
        file.write(str(upload_path))
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, marker)
    sync_folder(marker.parent)
