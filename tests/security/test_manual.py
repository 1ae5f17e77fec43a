"""The threat model keeps its word: every promise has a number, and tests that are there."""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest import TestCase

from twisted.trial.unittest import SynchronousTestCase

from tests.security.tables import MANUAL, ROOT

MODEL = MANUAL / "explanation" / "security.rst"


def promises() -> dict[int, list[str]]:
    """Read the numbers of the promises, each with the tests that it names."""
    _, _, after = MODEL.read_text("utf-8").partition("\nPromises\n")
    part = after.partition("\nWhat is not protected\n")[0]
    pieces = re.split(r"^\*\*S(\d+)\*\* ", part, flags=re.M)[1:]
    return {
        int(number): re.findall(r"``(tests\.[\w.]+)``", text)
        for number, text in zip(pieces[::2], pieces[1::2], strict=True)
    }


def resolved(name: str) -> Any:
    """Find a test module, class or method by its full name."""
    parts = name.split(".")
    for at in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:at]))
        except ModuleNotFoundError:
            continue
        for part in parts[at:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


class ModelTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """Promises are numbered from 1 on without a gap, so that others can refer to them."""
        numbers = list(promises())
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertGreater(len(numbers), 15)
        self.assertIn(f"(S1 to S{numbers[-1]})", (ROOT / "SECURITY.rst").read_text("utf-8"))

    def test_tests(self) -> None:
        """Every promise names tests, and each of them is there."""
        for number, names in promises().items():
            self.assertTrue(names, f"S{number} names no test")
            for name in names:
                found = resolved(name)
                is_test = isinstance(found, ModuleType) or callable(found)
                self.assertTrue(is_test, f"S{number} names {name}, which is no test")
                if isinstance(found, type):
                    self.assertTrue(issubclass(found, TestCase), name)
                elif not isinstance(found, ModuleType):
                    self.assertTrue(name.rpartition(".")[2].startswith("test_"), name)

    def test_reachable(self) -> None:
        """Whoever reads the first page finds out how to report a hole, and the model."""
        readme = (ROOT / "README.rst").read_text("utf-8")
        for name in ("SECURITY.rst", "doc/explanation/security.rst"):
            self.assertIn(name, readme)
            self.assertTrue((ROOT / name).exists())
        index = (MANUAL / "index.rst").read_text("utf-8")
        for name in ("reference/access", "explanation/security"):
            self.assertIn(f"   {name}\n", index)

    def test_tables_are_shown(self) -> None:
        """Every table that is tried out is in the manual."""
        page = (MANUAL / "reference" / "access.rst").read_text("utf-8")
        shown = set(re.findall(r":file: (access-[\w-]+\.csv)", page))
        self.assertEqual(shown, {path.name for path in (MANUAL / "reference").glob("access-*.csv")})
