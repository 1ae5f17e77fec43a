from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.mutation import fuzz, mutated
from tests.fuzz.target import Target


class MutationTests(SynchronousTestCase):
    def fuzz(self, run: Target) -> tuple[int, str, list[bytes]]:
        """Fuzz for a moment; return the status, what was said, and what was found."""
        work = Path(self.mktemp())
        with redirect_stderr(io.StringIO()) as said:
            status = fuzz("no such corpus", run, 0.3, work, seed=1)
        return status, said.getvalue(), [path.read_bytes() for path in work.glob("findings/*")]

    def test_found(self) -> None:
        """A mistake that one changed byte brings to light is found, and its input is kept."""

        def run(data: bytes) -> None:
            assert not data.startswith(b"bed"), data

        status, said, found = self.fuzz(Target(run, seeds=lambda: [b"bad news"]))
        self.assertEqual(status, 1)
        self.assertTrue(found[0].startswith(b"bed"))
        self.assertIn("AssertionError", said)
        self.assertIn("Test unit written to ", said)

    def test_nothing_found(self) -> None:
        """Without a mistake it ends when the time is up, and says how much was tried."""
        status, said, found = self.fuzz(Target(lambda data: None))
        self.assertEqual((status, found), (0, []))
        self.assertRegex(said, r"stat::number_of_executed_units: [0-9]{2}")

    def test_mutated(self) -> None:
        """Changes reach every place, may be undone by none, and never exceed the limit."""
        random, made = Random(1), set()
        for _ in range(2000):
            new = mutated(b"abcdefgh", [b"1234"], [b"WORD"], random, 20)
            self.assertLessEqual(len(new), 20)
            made.add(new)
        self.assertGreater(len(made), 1000)
        self.assertTrue(any(b"WORD" in new for new in made))
        self.assertTrue(any(b"234" in new for new in made))
