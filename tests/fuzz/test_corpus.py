from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.target import CORPUS, Target, check, corpus, load, names

SIZE_LIMIT = 1 << 20
"""Bytes of the whole corpus."""
PATIENCE = 4.0
"""How much longer than usual an input may take here: something else may be running."""


class CorpusTests(SynchronousTestCase):
    def test_size(self) -> None:
        """The repository stays small, and has no inputs for a target that is gone."""
        files = [path for path in CORPUS.rglob("*") if path.is_file()]
        self.assertLess(sum(path.stat().st_size for path in files), SIZE_LIMIT)
        self.assertLessEqual({path.parent.name for path in files}, set(names()))

    def test_seeds(self) -> None:
        """Every target has something good to begin with, and its own limit does not cut that."""
        for name in names():
            target = load(name)
            inputs = [*target.seeds(), *corpus(name).values()]
            with self.subTest(name):
                self.assertGreater(len(inputs), 5)
                self.assertLess(max(map(len, corpus(name).values()), default=0), target.max_bytes + 1)


def _inputs(target: Target, name: str) -> dict[str, bytes]:
    return {**{f"seed {number}": data for number, data in enumerate(target.seeds())}, **corpus(name)}


def _test_of(name: str) -> object:
    def test(self: SynchronousTestCase) -> None:
        target = load(name)
        for file, data in _inputs(target, name).items():
            try:
                check(target, data, PATIENCE)
            except Exception as error:
                raise AssertionError(f"{name}, {file}: {error!r}") from error

    test.__doc__ = f"""What the fuzz target {name} was given, and what it found, does no harm."""
    return test


for _name in names():
    setattr(CorpusTests, f"test_{_name}", _test_of(_name))
