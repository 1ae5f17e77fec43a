"""Read the tables of the manual that say who may do what."""

from __future__ import annotations

import csv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "doc"


def table(name: str) -> list[dict[str, str]]:
    """Read the rows of one of the tables, by the names of their columns."""
    with open(MANUAL / "reference" / f"access-{name}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    for row in rows:
        assert None not in row and None not in row.values(), f"access-{name}.csv: a row is too long or too short: {row}"
    return rows
