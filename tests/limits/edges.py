"""Every limit's edge: what fits is taken, one more is not."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

if TYPE_CHECKING:
    Case = SynchronousTestCase
else:
    Case = object


def value_of(limit: str) -> float:
    """Read a fixed limit, named as in the manual: ``marti.cot.MAX_UIDS``."""
    module, _, name = limit.rpartition(".")
    value: float = getattr(import_module(f"taky_twisted.{module}"), name)
    return value


class Edges(Case):
    """For tests of limits at n-1, n and n+1; mixed into a `SynchronousTestCase`."""

    def assert_edge(
        self, limit: str, fits: Callable[[int], bool], *, small: int | None = None, least: bool = False
    ) -> None:
        """Try all three sizes.

        Args:
            limit: the fixed limit's name in the manual.
            fits: tries a size, and tells whether it was taken.
            small: what the limit is for this test, where reaching the real one takes long; its number changes nothing.
            least: it is the smallest that fits, and not the largest.
        """
        module, _, name = limit.rpartition(".")
        if small is not None:
            self.patch(import_module(f"taky_twisted.{module}"), name, small)
        value = int(value_of(limit))
        self.assertEqual(
            [fits(value + more) for more in (-1, 0, 1)], [not least, True, least], f"{limit} at {value}, -1, +0, +1"
        )
