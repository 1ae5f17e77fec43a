"""Every limit is on the page with its value, and has a test of its edge: a new one without them fails here.

What is a limit: every field of `taky_twisted.config.limits.Limits`, and every number that a module of ours has under a
name in capitals, except what ``no_limits.py`` beside this file names with the reason.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import LIMITS
from tests.limits.edges import Edges, value_of
from tests.limits.no_limits import BECAUSE
from tests.limits.tested import CONFIGURED, FIXED

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "doc" / "reference" / "limits.rst"
HELP = """
Each of these is a number in the source that is new, or was renamed or removed.
A number that bounds something from outside (clients, other nodes, Redis, files, the disk) is a limit. It needs
 1. a row in doc/reference/limits.rst under "Fixed limits": ``{0}``, unit, value, what happens at it;
 2. a test that tries it at n-1, n and n+1 (tests.limits.edges.Edges.assert_edge does that in one line);
 3. the name of that test in FIXED in tests/limits/tested.py: "{0}": "PLACE.BELOW.tests.SomeTests.test_some".
A number that bounds nothing from outside is named in tests/limits/no_limits.py, under the reason that fits.
"""


def numbers_in(source: str) -> Iterator[str]:
    """Name the numbers that a module binds in capitals, one by one or several at once."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts, strict=True) if several else [(target, value)]  # type: ignore[attr-defined]
            for name, said in pairs:
                if isinstance(name, ast.Name) and name.id.isupper() and _is_number(said):
                    yield name.id


def _is_number(said: ast.expr) -> bool:
    """Whether an expression is made of numbers only: ``64 << 20``."""
    if isinstance(said, ast.Constant):
        return isinstance(said.value, (int, float)) and not isinstance(said.value, bool)
    if isinstance(said, ast.BinOp):
        return _is_number(said.left) and _is_number(said.right)
    return isinstance(said, ast.UnaryOp) and _is_number(said.operand)


def all_numbers() -> set[str]:
    """Name all numbers of the package: ``marti.cot.MAX_UIDS``."""
    package = ROOT / "taky_twisted"
    found = set()
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found |= {f"{module}.{name}".lstrip(".") for name in numbers_in(path.read_text("utf-8"))}
    return found


def rows() -> dict[str, str]:
    """Read the page's table rows: what stands under "Value" by name."""
    cells = re.findall(r"\* - ``([\w.]+)``\n +- ?(.*)\n +- (.+)\n", PAGE.read_text("utf-8"))
    return {name: value for name, _, value in cells}


class PageTests(SynchronousTestCase):
    def assert_nothing(self, wrong: set[str], what: str) -> None:
        """Fail with every name, and with what to do."""
        if wrong:
            self.fail("\n".join([f"{what}:", *sorted(wrong), HELP.format(min(wrong))]))

    def test_every_number(self) -> None:
        """Who reads the page knows every limit of the server: no number in the source is left out."""
        exempt = {name for names in BECAUSE.values() for name in names}
        found = all_numbers()
        self.assertIn("marti.cot.MAX_UIDS", found)
        self.assertIn("identity.passwords.MIN_CHARACTERS", found)
        self.assert_nothing(found - set(rows()) - exempt, "neither on the page nor in no_limits.py")
        self.assert_nothing(set(rows()) & exempt, "on the page and in no_limits.py")

    def test_nothing_else(self) -> None:
        """And nothing on the page is gone, or has another value, in the source."""
        known = all_numbers()
        fixed = {name: value for name, value in rows().items() if "." in name}
        self.assert_nothing({name for name in fixed if name not in known}, "on the page, but not in the source")
        wrong = {
            f"{name}: the page says {value}, the source {value_of(name):.12g}"
            for name, value in fixed.items()
            if value != f"{value_of(name):.12g}"
        }
        self.assert_nothing(wrong, "another value on the page")

    def test_no_limits(self) -> None:
        """Each number that is no limit is there, and has one reason."""
        names = [name for group in BECAUSE.values() for name in group]
        self.assertEqual(len(names), len(set(names)), "a number has two reasons")
        self.assert_nothing(set(names) - all_numbers(), "in no_limits.py, but gone")

    def test_every_edge(self) -> None:
        """Each limit has a test just below, at, and just above it, and each such test is there."""
        self.assert_nothing(set(LIMITS) ^ set(CONFIGURED), "configured limits without a test in CONFIGURED, or gone")
        fixed = {name for name in rows() if "." in name}
        self.assert_nothing(fixed ^ set(FIXED), "fixed limits without a test in FIXED, or gone")
        missing = set()
        for limit, test in (CONFIGURED | FIXED).items():
            module, of, name = test.rsplit(".", 2)
            found = getattr(getattr(import_module(f"tests.{module}"), of, None), name, None)
            if found is None:
                missing.add(f"{limit}: there is no test tests.{test}")
                continue
            said = inspect.getsource(found)
            # Several limits may share a test; then each of them is tried there by its name.
            if "assert_edge" in said and f'"{limit}"' not in said:
                missing.add(f"{limit}: tests.{test} does not try it")
        self.assert_nothing(missing, "limits whose test is not there")


class CheckerTests(Edges, SynchronousTestCase):
    def test_numbers(self) -> None:
        """Numbers are found in whatever way they are written; other things are not taken for them."""
        source = (
            "A = 1\nB: int = 2\nC = D = -3\nE, F = 4 << 20, 5.5\n_G = 24 * 3600\nH = 'x'\ni = 7\nJ = True\n"
            "K = len(H)\nL, M = 'a', 8\nN: int\nO = (1, 2)\nclass P:\n    Q = 9\n"
        )
        self.assertEqual(list(numbers_in(source)), ["A", "B", "C", "D", "E", "F", "_G", "M"])

    def test_edge(self) -> None:
        """A limit that is off by one in either direction is found, and so is one that is not there."""
        name = "marti.cot.MAX_UIDS"
        limit = int(value_of(name))
        self.assert_edge(name, lambda size: size <= limit)
        self.assert_edge(name, lambda size: size >= limit, least=True)
        self.assert_edge(name, lambda size: size <= 3, small=3)
        self.patch(import_module("taky_twisted.marti.cot"), "MAX_UIDS", limit)
        for wrong in (lambda size: size < limit, lambda size: size <= limit + 1, lambda size: True):
            self.assertRaises(self.failureException, self.assert_edge, name, wrong)
