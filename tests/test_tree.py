"""The tests mirror the tree: ``taky_twisted/a/b.py`` is tested by ``tests/a/test_b.py``."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent


def is_trivial(source: str) -> bool:
    """Whether no function in a module does more than return one expression."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.If, ast.For, ast.While, ast.Try, ast.With)) and "TYPE_CHECKING" not in ast.unparse(
            node
        ):
            return False
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = [
                line for line in node.body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            ]
            if len(body) > 1 or not all(isinstance(line, ast.Return) for line in body):
                return False
    return True


def place_of_test(module: Path) -> Path:
    """Name the file that tests a module, both relative to the root."""
    return Path("tests", *module.parts[1:-1], f"test_{module.name}")


class TreeTests(SynchronousTestCase):
    def test_every_module_has_its_test(self) -> None:
        """Whoever changes a module knows where its tests are, and that there are some."""
        modules = [path.relative_to(ROOT) for path in sorted((ROOT / "taky_twisted").rglob("*.py"))]
        self.assertIn(Path("taky_twisted/background.py"), modules)
        missing = [
            f"{module} has no {place_of_test(module)}"
            for module in modules
            if not is_trivial((ROOT / module).read_text("utf-8")) and not (ROOT / place_of_test(module)).exists()
        ]
        self.assertEqual(missing, [], "\n" + "\n".join(missing))

    def test_every_folder_is_found(self) -> None:
        """Every folder with tests is a package, or trial would silently pass it by."""
        folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
        missing = [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").exists()]
        self.assertEqual(missing, [], f"no __init__.py in {', '.join(missing)}")


class CheckerTests(SynchronousTestCase):
    def test_name(self) -> None:
        """A module's test is at the same place with ``test_`` before its name."""
        self.assertEqual(place_of_test(Path("taky_twisted/tap.py")), Path("tests/test_tap.py"))
        self.assertEqual(place_of_test(Path("taky_twisted/cot/event.py")), Path("tests/cot/test_event.py"))

    def test_trivial(self) -> None:
        """Declarations and one-line properties need no test of their own; anything that decides or acts does."""
        self.assertTrue(is_trivial('"""Only words."""\nfrom typing import Protocol\nNUMBER = 1\n'))
        self.assertTrue(is_trivial('class A:\n    def key(self):\n        """Say it."""\n        return self.uid\n'))
        self.assertTrue(is_trivial("if TYPE_CHECKING:\n    import os\n"))
        self.assertFalse(is_trivial("def f(a):\n    a += 1\n    return a\n"))
        self.assertFalse(is_trivial("def f(a):\n    a.close()\n"))
        self.assertFalse(is_trivial("for a in range(3):\n    print(a)\n"))
