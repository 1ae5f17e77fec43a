"""The manual and the table of routes say the same."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from inspect import getmembers, isclass, isfunction
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import taky_twisted.marti
from taky_twisted.marti.routes import Access, Route

MANUAL = Path(__file__).resolve().parents[2] / "doc" / "reference" / "marti.rst"


def routes() -> Iterator[Route]:
    """List every route of every area."""
    for module in pkgutil.iter_modules(taky_twisted.marti.__path__):
        for _, area in getmembers(importlib.import_module(f"taky_twisted.marti.{module.name}"), isclass):
            for _, method in getmembers(area, isfunction):
                yield from getattr(method, "__routes__", ())


class ManualTests(SynchronousTestCase):
    def test_every_route(self) -> None:
        """The manual has every path with its methods, in the part for those who may call it, and no others."""
        everybody, _, administrators = MANUAL.read_text("utf-8").partition("\nFor administrators\n")
        found = {True: self.rows(administrators), False: self.rows(everybody)}
        wanted: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
        for route in routes():
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.path)
            wanted[route.access is Access.ADMIN].add((", ".join(sorted(route.methods)), path))
        self.assertGreater(len(wanted[False]), 50)
        self.assertEqual(found, wanted)

    @staticmethod
    def rows(part: str) -> set[tuple[str, str]]:
        """Read the methods and paths of a part's tables."""
        return set(re.findall(r"^   \* - ([A-Z, ]+)\n     - ``(\S+)``$", part, re.M))
