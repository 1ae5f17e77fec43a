"""The list of guards is complete and true, and the matrix misses those that are taken out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.routes import Access
from tests.security.guards import GUARDS, NOT_IN_THE_MATRIX
from tests.security.mutate import PACKAGE, functions_in, place_of, try_out
from tests.security.tables import table
from tests.security.test_marti_access import AccessTestCase, api_of

ELSEWHERE = ("cli", "config", "cot", "endpoints", "takproto")
"""Packages that know nobody: operators' tools, settings, and the forms of what is said."""
REFUSALS = frozenset(
    {
        "BadCredentials",
        "Banned",
        "NoUseLeft",
        "NotAllowed",
        "NotIdentified",
        "NotTheirName",
        "NotYours",
        "Revoked",
        "WrongCredentials",
    }
)
"""Errors that say that somebody may not do something."""
QUESTIONS = frozenset(
    {
        "_banned",
        "_may_change",
        "_was_banned",
        "is_banned",
        "is_barred",
        "is_revoked",
        "is_same_place",
        "isdisjoint",
        "issuperset",
        "owns",
        "refusal_of",
        "same_as",
        "sees",
        "still_good",
        "was_banned",
    }
)
"""Calls that find out whether somebody may do something."""
SAMPLE = 6
"""Guards that are taken out each time that the tests run; all are when ``tests.security.mutate`` runs."""


def suspects() -> Iterator[tuple[str, str, int, str]]:
    """Find everything that looks like a guard: file, function, line, and what it is."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = str(path.relative_to(PACKAGE))
        if module.partition("/")[0] in ELSEWHERE:
            continue
        for name, function in functions_in(ast.parse(path.read_text("utf-8"))):
            for node in ast.walk(function):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    called, known = node.exc.func, REFUSALS
                elif isinstance(node, ast.Call):
                    called, known = node.func, QUESTIONS
                else:
                    continue
                word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if word in known:
                    yield module, name, node.lineno, word


class ListTests(SynchronousTestCase):
    def test_places(self) -> None:
        """Every guard stands once where the list says, inside of a function, and can be taken out."""
        for guard in GUARDS:
            name, _ = place_of(guard)
            self.assertTrue(name)
            self.assertNotEqual(guard.text, guard.without)
            mutated = (PACKAGE / guard.module).read_text("utf-8").replace(guard.text, guard.without)
            self.assertTrue(ast.parse(mutated))

    def test_complete(self) -> None:
        """Whatever in the server looks like a guard is in the list, or it says why the matrix need not miss it."""
        known = {(guard.module, place_of(guard)[0]) for guard in GUARDS}
        found = list(suspects())
        missing = [
            f"{module}, line {line}: {word} in {name}"
            for module, name, line, word in found
            if (module, name) not in known and f"{module} {name}" not in NOT_IN_THE_MATRIX
        ]
        self.assertEqual(missing, [], "\n" + "\n".join(missing))
        self.assertGreater(len(found), 100)

    def test_exceptions(self) -> None:
        """What is left out of the list is there, has a reason, and is not in the list all the same."""
        known = {f"{guard.module} {place_of(guard)[0]}" for guard in GUARDS}
        there = {f"{module} {name}" for module, name, _, _ in suspects()}
        self.assertLessEqual(set(NOT_IN_THE_MATRIX), there)
        self.assertEqual(set(NOT_IN_THE_MATRIX) & known, set())
        self.assertEqual([place for place, why in NOT_IN_THE_MATRIX.items() if not why.strip()], [])


class RoutesTests(AccessTestCase):
    def test_every_route(self) -> None:
        """A route that everybody might call of a sudden is noticed, whichever it is; so is one for every caller."""
        unnoticed = []
        for door, api in (("cert", self.world.api.marti), ("enroll", self.world.api.enroll_marti)):
            rows = {(row["method"], row["path"]): row for row in table(api_of(door))}
            for bound in api.table.bound:
                weaker = {Access.ADMIN: [Access.CALLER, Access.EVERYBODY], Access.EVERYBODY: []}
                for access in weaker.get(bound.route.access, [Access.EVERYBODY]):
                    for method in sorted(bound.route.methods):
                        if not self.notices(door, bound.route, access, rows[method, bound.route.path]):
                            unnoticed.append(f"{door}: {method} {bound.route.path} for {access.value}")
        self.assertEqual(unnoticed, [])
        self.assertGreater(self.count, 190)
        self.flushLoggedErrors(AssertionError)  # of handlers that rightly thought that they are for somebody

    def notices(self, door: str, route: object, access: Access, row: dict[str, str]) -> bool:
        """Whether the table says something else than what happens if a route is for others."""
        anybody = access is Access.EVERYBODY
        proof = "nothing" if anybody else "password: fox" if door == "enroll" else "certificate: fox"
        standing = "nobody" if anybody else "enrolling" if door == "enroll" else "somebody"
        before = route.access  # type: ignore[attr-defined]
        object.__setattr__(route, "access", access)
        try:
            got = self.ask(door, self.people.proofs[proof], (row["method"], row["path"]))
        finally:
            object.__setattr__(route, "access", before)
        self.assertIn(row[standing], ("401", "403"))
        return not got.startswith(row[standing])


class SampleTests(SynchronousTestCase):
    def test_some(self) -> None:
        """Without one of its guards the server fails the matrix; some of them are tried here."""
        quick = [guard for guard in GUARDS if guard.by.startswith("tests.security.test_streams")]
        for guard in quick[:: len(quick) // SAMPLE]:
            self.assertTrue(try_out(guard).startswith(guard.by), guard)
