"""Refuse a wheel or an sdist that does not hold exactly what it should; .ci/package calls this.

package.py TREE WHEEL SDIST
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

PLUGIN = "twisted/plugins/taky_plugin.py"
NEEDED = {
    PLUGIN,
    "taky_twisted/py.typed",
    "taky_twisted/stores/schema/001.sql",
    "taky_twisted/stores/schema_history/001.sql",
    "taky_twisted/takproto/takproto.proto",
}
"""Data without which an installed server does not start, open its store, or is not found by twistd."""
SHIPPED = ("taky_twisted", "twisted", "tests", "bench", "doc", ".ci")
BESIDE = {"pyproject.toml", "LICENSE", ".gitignore", "PKG-INFO"}
"""What an sdist has beside those folders and the texts (``*.rst``)."""


def files_below(tree: Path, *folders: str) -> set[str]:
    """Name the files of some folders."""
    found = (path for folder in folders for path in (tree / folder).rglob("*"))
    return {path.relative_to(tree).as_posix() for path in found if path.is_file()}


def difference(what: str, found: set[str], expected: set[str]) -> list[str]:
    """Say what is missing, and what is too much."""
    missing = [f"{what} lacks {name}" for name in sorted(expected - found)]
    return missing + [f"{what} must not hold {name}" for name in sorted(found - expected)]


def main(tree: str, wheel: str, sdist: str) -> None:
    """Compare both with the tree that they were made from."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    wrong = difference("the wheel", names - about, files_below(Path(tree), "taky_twisted") | {PLUGIN})
    wrong += [f"the wheel lacks {name}" for name in sorted(NEEDED - names)]
    prefix = next(iter(about)).split("/")[0]
    expected = {f"{prefix}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    wrong += difference("the wheel", about, expected)
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    texts = {path.name for path in Path(tree).glob("*.rst")}
    wrong += difference("the sdist", inside, files_below(Path(tree), *SHIPPED) | BESIDE | texts)
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"{Path(wheel).name}: {len(names)} files; {Path(sdist).name}: {len(inside)} files")


if __name__ == "__main__":
    main(*sys.argv[1:])
