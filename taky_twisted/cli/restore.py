"""``takyctl restore``: make a site of a backup."""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import shlex
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from taky_twisted.cli import backup_names as names
from taky_twisted.cli.backup import add_passphrase, ask_passphrase
from taky_twisted.cli.commands import CommandError, Verbs, absolute, add_verb
from taky_twisted.cli.sealed import MAGIC, SealedReader, Unsealable
from taky_twisted.cli.site import Site
from taky_twisted.files import sync_folder

MORE = """\
PATH has to be empty, or not there. Paths in taky.conf are changed to those in
PATH; all else stays as it was, so phones connect as before if the new machine
has the old one's name or address ('takyctl renew-server' for another).
"""
BLOCK = tarfile.BLOCKSIZE
_GZIP = b"\x1f\x8b"
_COPY = 1 << 20  # bytes
Changes = Mapping[tuple[str, str], "str | None"]


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "restore", run, "make a site of a backup", MORE)
    parser.add_argument("file", metavar="FILE", type=Path, help="what 'takyctl backup' has written")
    parser.add_argument("path", metavar="PATH", nargs="?", type=Path, default=Path("."), help="folder of the site [.]")
    add_passphrase(parser)


def run(arguments: argparse.Namespace) -> None:
    """Do it."""
    target = absolute(arguments.path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CommandError(f"{target} is not an empty folder; name one that is empty, or not there yet")
    with arguments.file.open("rb") as file:
        start = file.read(len(MAGIC))
        file.seek(0)
        if start == MAGIC:
            passphrase = ask_passphrase(arguments.passphrase_file, twice=False)
            count = _restore(SealedReader(file, passphrase), target)
        elif start.startswith(_GZIP):
            count = _restore(file, target)
        else:
            raise CommandError(f"{arguments.file} is not a backup of takyctl")
    site = Site.open(str(target / names.CONF))
    conf = shlex.quote(str(target / names.CONF))
    print(f"The site is back: {target / names.CONF}, {count} files")
    print(f"  clients connect to  {site.host()}:{site.port()}")
    print("")
    print("Stop the old server before you start this one:")
    print(f"  twistd -n taky --config {conf}")


def _restore(packed: object, target: Path) -> int:
    new = not target.exists()
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        with gzip.GzipFile(fileobj=cast(BinaryIO, packed)) as archive:
            found = {name: _write(archive, target, name, size) for name, size in _entries(archive)}
            while archive.read(_COPY):
                pass  # to the end: a part that was cut off is noticed there
        if isinstance(packed, SealedReader):
            packed.check_end()
        if names.CONF not in found:
            raise CommandError("there is no taky.conf in the backup")
        conf = target / names.CONF
        conf.write_text(changed(conf.read_text("utf-8-sig"), _changes(found)), "utf-8")
        sync_folder(target)
    except BaseException as error:
        _empty(target, new)
        if isinstance(error, (Unsealable, EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, UnicodeError)):
            raise CommandError(f"nothing was restored: {error}") from error
        raise
    return len(found)


def _entries(archive: gzip.GzipFile) -> Iterator[tuple[str, int]]:
    """Go through the files in an archive; each has to be read before the next.

    Not with tarfile: it reads names and comments of any length into memory.
    """
    seen: set[str] = set()
    while (block := archive.read(BLOCK)).strip(b"\0"):
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        kind = names.kind_of(entry.name)
        if kind is None or not entry.isreg() or entry.name in seen:
            raise CommandError(f"nothing was restored: {entry.name!r} has no place in a backup")
        if entry.size < 0 or (kind.limit is not None and entry.size > kind.limit):
            raise CommandError(f"nothing was restored: {entry.name} has {entry.size} bytes, allowed: {kind.limit}")
        seen.add(entry.name)
        yield entry.name, entry.size
        archive.read(-entry.size % BLOCK)


def _write(archive: gzip.GzipFile, target: Path, name: str, size: int) -> int:
    if size > shutil.disk_usage(target).free:
        raise CommandError(f"nothing was restored: {name} has {size} bytes, and the disk of {target} has not so many")
    path, kind = target / name, names.kind_of(name)
    assert kind is not None
    for folder in reversed([each for each in path.parents if each.is_relative_to(target)]):
        folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, kind.mode)
    with open(descriptor, "wb") as file:
        left = size
        while left:
            piece = archive.read(min(left, _COPY))
            if not piece:
                raise EOFError(f"the backup ends within {name}")
            file.write(piece)
            left -= len(piece)
        file.flush()
        os.fsync(file.fileno())
    return size


def _changes(found: Mapping[str, int]) -> Changes:
    """Say how taky.conf changes for files that are elsewhere now."""
    changes: dict[tuple[str, str], str | None] = {("taky", "root_dir"): "data", ("dp_server", "upload_path"): None}
    if names.STORE in found:
        changes["taky", "store"] = None
    return changes | {("ssl", key): name for key, name in names.SSL.items() if name in found}


def changed(text: str, changes: Changes) -> str:
    """Change values in the text of a ``taky.conf`` and leave all else as it is.

    Args:
        text: the file.
        changes: by section and key; None takes the key away.
    """
    lines: list[str] = []
    left, section = dict(changes), ""
    level, in_key, skipping = 0, False, False
    # Only what ends a line for whoever reads the file: splitlines() knows more.
    for line in io.StringIO(text, newline=None).read().removesuffix("\n").split("\n"):
        said = line.strip()
        indent = line[: len(line) - len(line.lstrip())]
        if said and said[0] not in "#;":
            if in_key and len(indent) > level:  # it goes on with a value
                if skipping:
                    continue
            elif header := re.match(r"\[(.+)\]", said):
                # Indented as much as what follows, or that would go on with the last of them.
                lines += (f"{indent}{each}" for each in _missing(left, section))
                section, level, in_key, skipping = header[1], len(indent), False, False
            else:
                key = re.split("[=:]", said, maxsplit=1)[0].rstrip()
                place = section, key.lower()
                level, in_key, skipping = len(indent), True, place in changes
                if skipping:
                    value = left.pop(place, None)
                    if value is not None:
                        lines.append(f"{indent}{key} = {value}")
                    continue
        lines.append(line)
    lines += _missing(left, section)
    for section in dict.fromkeys(section for (section, _), value in left.items() if value is not None):
        lines += ["", f"[{section}]", *_missing(left, section)]
    return "\n".join([*lines, ""])


def _missing(left: dict[tuple[str, str], str | None], section: str) -> list[str]:
    keys = [key for key in left if key[0] == section]
    return [f"{key[1]} = {value}" for key in keys if (value := left.pop(key)) is not None]


def _empty(target: Path, whole: bool) -> None:
    if whole:
        shutil.rmtree(target, ignore_errors=True)
        return
    for path in target.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
