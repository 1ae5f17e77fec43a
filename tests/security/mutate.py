"""Take out every guard of the server in turn, and see whether a test of this package misses it.

    python -m tests.security.mutate [-j PROCESSES] [PART OF A FILE'S NAME OR TEXT ...]

Each guard is taken out in a process of its own: the function that it stands in gets the code that it would have
without it, and then tests run, first the one that `guards` names. It ends with a table, and with status 1 if a guard is
missed by none.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from tests.security.guards import ACCESS, GROUPS, GUARDS, LOGINS, OPERATORS, STREAMS, Guard

PACKAGE = Path(__file__).resolve().parents[2] / "taky_twisted"
ALL = (STREAMS, OPERATORS, LOGINS, GROUPS, ACCESS)
"""The matrix, what is quick first."""
PATIENCE_SECONDS = 300
"""How long the tests may take without one guard; then it counts as missed by none."""


class Misplaced(Exception):
    """A guard is not where the list says that it is."""


def source_of(guard: Guard) -> str:
    """Read the file that a guard stands in."""
    return (PACKAGE / guard.module).read_text("utf-8")


def place_of(guard: Guard) -> tuple[str, int]:
    """Find the function that a guard stands in: its name inside the module, and the line where it begins.

    Raises:
        Misplaced: the text is not there, or more than once, or in no function.
    """
    source = source_of(guard)
    if source.count(guard.text) != 1:
        raise Misplaced(f"{guard.module} has {source.count(guard.text)} times: {guard.text}")
    line = source[: source.index(guard.text)].count("\n") + 1 + guard.text[: -len(guard.text.lstrip())].count("\n")
    for name, node in functions_in(ast.parse(source)):
        if node.lineno <= line <= (node.end_lineno or 0):
            return name, node.lineno
    raise Misplaced(f"{guard.module} has it outside of any function: {guard.text}")


def functions_in(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Go through the functions and methods of a module, not those inside of others."""
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in inside:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + each.name, each


def take_out(guard: Guard) -> None:
    """Take a guard out of this process."""
    name, _ = place_of(guard)
    path = PACKAGE / guard.module
    mutated = source_of(guard).replace(guard.text, guard.without)
    code = _code(compile(mutated, str(path), "exec", dont_inherit=True), name.split("."))
    function = _function("taky_twisted." + guard.module[:-3].replace("/", "."), name)
    function.__code__ = code


def _code(code: CodeType, names: Sequence[str]) -> CodeType:
    for name in names:
        (code,) = [each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name]
    return code


def _function(module: str, name: str) -> FunctionType:
    found: Any = importlib.import_module(module)
    *outer, last = name.split(".")
    for each in outer:
        found = getattr(found, each)
    found = found.__dict__[last] if outer else getattr(found, last)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    assert isinstance(found, FunctionType), f"{module}.{name} is no function"
    return found


class _FirstFailure(unittest.TestResult):
    """Remember the first test that did not pass."""

    def __init__(self) -> None:
        super().__init__()
        self.failfast = True

    @property
    def first(self) -> str:
        """Its name; empty if there is none."""
        return next((test.id() for test, _ in (*self.failures, *self.errors)), "")


def missed_by(guard: Guard) -> str:
    """Take a guard out of this process, and name the first test that fails; empty if none does."""
    take_out(guard)
    for name in (guard.by, *ALL):
        result = _FirstFailure()
        unittest.defaultTestLoader.loadTestsFromName(name).run(result)
        if result.first:
            return result.first
    return ""


def _child(guard: Guard, sending: Any) -> None:
    folder = tempfile.mkdtemp(prefix="taky-guard-")
    os.chdir(folder)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    sending.send(missed_by(guard))
    os._exit(0)


def try_out(guard: Guard) -> str:
    """Say which test misses a guard, found out in another process; empty if none does."""
    context = get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(guard, sending), daemon=True)
    process.start()
    sending.close()
    try:
        return str(receiving.recv()) if receiving.poll(PATIENCE_SECONDS) else ""
    except EOFError:
        return ""  # whatever that was, it was no test that failed
    finally:
        process.kill()
        process.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the status."""
    parser = argparse.ArgumentParser(prog="python -m tests.security.mutate", description=__doc__.split("\n")[0])
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1, metavar="PROCESSES", help="how many at once")
    parser.add_argument("only", nargs="*", help="guards whose file or text has this")
    given = parser.parse_args(arguments)
    wanted = [
        guard for guard in GUARDS if not given.only or any(part in guard.module + guard.text for part in given.only)
    ]
    for guard in wanted:
        place_of(guard)
    for name in ALL:
        importlib.import_module(name)
    for module in {guard.module for guard in wanted}:
        importlib.import_module("taky_twisted." + module[:-3].replace("/", "."))
    began, survived = time.monotonic(), 0
    with ThreadPoolExecutor(given.j) as pool:
        for guard, test in zip(wanted, pool.map(try_out, wanted), strict=True):
            survived += not test
            unlike = "" if test.startswith(guard.by) or not test else "  (not the one that is named)"
            name, _ = place_of(guard)
            print(f"{guard.module[:-3].replace('/', '.')}.{name}: {' '.join(guard.text.split())[:90]}")
            print(f"    {test.removeprefix('tests.security.') or 'MISSED BY NO TEST'}{unlike}", flush=True)
    print(f"{len(wanted)} guards, {survived} of them missed by no test, in {time.monotonic() - began:.0f} s")
    return 1 if survived or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
