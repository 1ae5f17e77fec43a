"""Bring a store's file to the schema of this program.

``PRAGMA user_version`` says how many of the numbered files in ``schema/`` a file has seen, ``application_id`` that it
is ours. A published migration never changes; a new need is a new number.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from importlib.resources import files
from pathlib import Path

from taky_twisted.interfaces import StoreError

APPLICATION_ID = 0x54616B79
"""What tells our files from other programs' SQLite files: "Taky" in ASCII."""


@cache
def migrations(folder: str = "schema") -> tuple[str, ...]:
    """Read the numbered SQL files; the first one is version 1."""
    scripts = sorted(
        (entry for entry in files("taky_twisted.stores").joinpath(folder).iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return tuple(script.read_text(encoding="utf-8") for script in scripts)


def check_version(connection: sqlite3.Connection, path: Path, latest: int) -> int:
    """Tell which version of the schema a file has; 0 is a fresh file. Nothing is written.

    Raises:
        StoreError: The file is another program's, or of a newer version of this one.
        sqlite3.Error: The file cannot be read.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID and (owner or version or tables):
        raise StoreError(
            f"cannot use {path} as store: it is another program's SQLite database. "
            "Name another file with --store=sqlite:PATH."
        )
    if version > latest:
        raise StoreError(
            f"cannot use {path} as store: a newer version of this server wrote it (its schema is {version}, this "
            f"program knows up to {latest}). Start the newer version, name another file with --store=sqlite:PATH, or "
            f"put back the copy that was made before the upgrade ({copy_path(path, latest).name}), if there is one."
        )
    return int(version)


def upgrade(connection: sqlite3.Connection, path: Path, scripts: Sequence[str]) -> None:
    """Run the migrations that a file has not seen, each in a transaction, after making a copy of the file.

    A fresh file is not copied.

    Raises:
        StoreError: No copy could be made.
        sqlite3.Error: A migration failed; the file is as the one before left it.
    """
    version = check_version(connection, path, len(scripts))
    if 0 < version < len(scripts):
        _copy(connection, path, version)
    for number in range(version + 1, len(scripts) + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{scripts[number - 1]}\n;"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;"
            )
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def copy_path(path: Path, version: int) -> Path:
    """Name the copy that is made before a file of that version is upgraded."""
    return path.with_name(f"{path.name}.schema-{version}")


def create_private(path: Path) -> None:
    """Create an empty file that only its owner may read, whatever the umask; one that is there stays as it is.

    Raises:
        OSError: It cannot be created.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _copy(connection: sqlite3.Connection, path: Path, version: int) -> None:
    copy = copy_path(path, version)
    unfinished = copy.with_name(copy.name + ".unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        create_private(unfinished)
        with closing(sqlite3.connect(unfinished)) as target:
            connection.backup(target)
        unfinished.replace(copy)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"cannot upgrade the store {path}: making a copy of it first ({copy}) failed: {error}. "
            "Make room or make the folder writable, then start again."
        ) from error
