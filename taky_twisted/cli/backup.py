"""``takyctl backup``: everything that a site is, in one file, also while its server runs."""

from __future__ import annotations

import argparse
import getpass
import gzip
import os
import re
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast

from taky_twisted.cli import backup_names as names
from taky_twisted.cli.commands import CommandError, Parser, Verbs, absolute, add_verb, note
from taky_twisted.cli.sealed import SealedWriter
from taky_twisted.cli.site import Site
from taky_twisted.enrollment.register import CRL_NAME, ISSUED_FOLDER
from taky_twisted.files import sync_folder
from taky_twisted.identity.cert_db import beside

MORE = """\
The file has taky.conf, the certificates with the authority's key, the register,
the picture, the history, and the files that clients share; private keys of
clients are kept nowhere. It is encrypted with a passphrase, which is asked for:
who has both can make himself anybody on your server. 'takyctl restore' makes a
site of it on this or another machine.
"""
MIN_PASSPHRASE = 8  # characters
MAX_PASSPHRASE = 1024  # characters
SQLITE_SECONDS = 30
"""How long a lock of the running server is waited for."""


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "backup", run, "write everything into one file", MORE)
    parser.add_argument("file", metavar="FILE", type=Path, help="what to write, mysite.takybackup for example")
    parser.add_argument(
        "--plain", action="store_true", help="do not encrypt it: a .tar.gz, for disks that are encrypted"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    add_passphrase(parser)


def add_passphrase(parser: Parser) -> None:
    """Take a passphrase other than by asking."""
    parser.add_argument(
        "--passphrase-file", metavar="FILE", type=Path, help="the passphrase is the first line of this file"
    )


def run(arguments: argparse.Namespace) -> None:
    """Do it."""
    site, target = Site.open(arguments.config), absolute(arguments.file)
    if os.path.lexists(target) and not arguments.force:
        raise CommandError(f"{target} is there already; --force replaces it")
    passphrase = None if arguments.plain else ask_passphrase(arguments.passphrase_file, twice=True)
    # Beside the target: it is on a disk with room for it, and only the whole file gets its name.
    with tempfile.TemporaryDirectory(prefix=".taky-backup-", dir=target.parent) as folder:
        written = Path(folder, "backup")
        count = write_backup(site, written, Path(folder), passphrase)
        size = written.stat().st_size
        os.replace(written, target)
    sync_folder(target.parent)
    how = "not encrypted: it holds the authority's key, keep it safe" if arguments.plain else "encrypted"
    print(f"{target}  {count} files, {size / (1 << 20):.1f} MiB, {how}")


def write_backup(site: Site, path: Path, folder: Path, passphrase: str | None) -> int:
    """Write a backup.

    Args:
        site: of what.
        path: the new file, for its owner alone.
        folder: for copies in between.
        passphrase: None: it is not encrypted.

    Returns:
        How many files are in it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        sealed = None if passphrase is None else SealedWriter(file, passphrase)
        # Most of it are zips: a higher level would only take time.
        with gzip.GzipFile("", "wb", 3, cast(BinaryIO, sealed or file), mtime=0) as packed:
            count = _pack(site, packed, folder)
        if sealed is not None:
            sealed.finish()
        file.flush()
        os.fsync(file.fileno())
    return count


def ask_passphrase(path: Path | None, *, twice: bool) -> str:
    """Get the passphrase from a file, or from the operator."""
    try:
        if path is not None:
            with path.open(encoding="utf-8") as file:
                # Where one is chosen a longer line is refused below; of a backup that was made so its beginning counts.
                text = file.readline(MAX_PASSPHRASE + (2 if twice else 0)).rstrip("\r\n")
        elif not sys.stdin.isatty():
            raise CommandError("there is no terminal to ask for the passphrase; name a file with --passphrase-file")
        else:
            text = getpass.getpass("Passphrase of the backup: ")
            if twice and getpass.getpass("Once more: ") != text:
                raise CommandError("the two are not the same; nothing was written")
        text.encode()
    except UnicodeError as error:
        raise CommandError(f"{path or 'the passphrase'}: not UTF-8 text; choose another passphrase") from error
    except EOFError as error:
        raise CommandError("no passphrase was given; nothing was written") from error
    if twice and len(text) < MIN_PASSPHRASE:
        raise CommandError(f"a passphrase has at least {MIN_PASSPHRASE} characters; nothing was written")
    if twice and len(text) > MAX_PASSPHRASE:
        raise CommandError(f"a passphrase has up to {MAX_PASSPHRASE} characters; nothing was written")
    return text


def _pack(site: Site, packed: gzip.GzipFile, folder: Path) -> int:
    count = 0
    with tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for name, path in _files(site, folder):
            try:
                with path.open("rb") as file:
                    entry = tarfile.TarInfo(name)
                    entry.size = os.fstat(file.fileno()).st_size
                    entry.mode = 0o600
                    archive.addfile(entry, file)
            except FileNotFoundError:
                # Deleted meanwhile: clients delete files, and then they are not missed.
                continue
            count += 1
    return count


def _files(site: Site, folder: Path) -> Iterator[tuple[str, Path]]:
    """Name what is to be packed: first what says what there is, then the contents."""
    settings = site.settings
    files = site.files()
    assert settings.path is not None
    yield names.CONF, settings.path
    for key, name in names.SSL.items():
        path = files.get(key)
        if path is not None and path.exists():
            yield name, path
        elif settings.ssl.enabled and path is not None:
            note(f"[ssl] {key}: {path} is not there, so it is not in the backup")
    if (register := files.get("cert_db")) is not None:
        for name, path in ((names.REGISTER_BESIDE, beside(register)), (names.CRL, register.with_name(CRL_NAME))):
            if path.exists():
                yield name, path
        for path in sorted((register.parent / ISSUED_FOLDER).glob("*.pem")):
            if names.kind_of(names.ISSUED + path.name) is not None:
                yield names.ISSUED + path.name, path
    data = settings.data_dir
    if settings.store_redis is not None:
        note(f"what is in {settings.store} is not in the backup: make one of Redis")
    for name, database in ((names.STORE, _store(site)), (names.HISTORY, data / "history.sqlite")):
        if database is not None and database.exists():
            yield name, _copied(database, folder / Path(name).name)
    for each in names.DATA_FILES:
        if (data / each).exists():
            yield names.DATA + each, data / each
    yield from _profiles(data)
    blobs = (settings.upload_path or data / "dp-user") / "blobs"
    for path in [blobs / "owner", *sorted(blobs.glob("??/*"))]:
        name = names.BLOBS + path.relative_to(blobs).as_posix()
        if names.kind_of(name) is not None and path.exists():
            yield name, path


def _profiles(data: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted((data / "profiles").rglob("*")):
        name = f"data/{path.relative_to(data).as_posix()}"
        if not path.is_file():
            continue
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            size = 1 << 30
        if names.kind_of(name) is None or size > names.PROFILE_BYTES:
            note(f"{path} is not in the backup: its name is hidden, strange, or too long")
        else:
            yield name, path


def _store(site: Site) -> Path | None:
    store = site.settings.store
    if store is None:
        return site.settings.data_dir / "taky.sqlite"
    match = re.fullmatch("sqlite:(.+)", store)
    return None if match is None else site.settings.data_dir / match[1]


def _copied(database: Path, copy: Path) -> Path:
    """Copy a database as it is at this moment; its server may go on writing."""
    try:
        with (
            closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", SQLITE_SECONDS, uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            # One file, without a log beside it.
            target.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise CommandError(f"{database} cannot be copied: {error}") from error
    return copy
