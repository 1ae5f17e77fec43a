from __future__ import annotations

from time import process_time
from zlib import crc32

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.target import REPEATED_BYTES, REPEATED_OF, Target, TooCostly, check, load, names


class CheckTests(SynchronousTestCase):
    def test_finding(self) -> None:
        """What a target raises is a finding."""

        def run(data: bytes) -> None:
            raise KeyError(data)

        self.assertRaises(KeyError, check, Target(run), b"x")

    def test_too_slow(self) -> None:
        """An input that takes longer than its size allows is a finding; one slow moment of the machine is none."""
        calls = []

        def run(data: bytes) -> None:
            calls.append(data)
            end = process_time() + (0.02 if len(calls) in (1, 3, 4, 5) else 0)
            while process_time() < end:
                pass

        target = Target(run, seconds=0.01, seconds_per_kib=0)
        check(target, b"x")
        self.assertEqual(len(calls), 2)
        self.assertRaises(TooCostly, check, target, b"x")
        self.assertEqual(len(calls), 5)
        calls.clear()
        check(target, b"x", slowness=4)
        self.assertEqual(len(calls), 1)

    def test_too_large(self) -> None:
        """An input that takes much memory is a finding."""

        def run(data: bytes) -> None:
            bytearray(b"x") * (256 << 20)

        error = self.assertRaises(TooCostly, check, Target(run, memory=1 << 20, seconds=9), b"x")
        self.assertIn("1 bytes made the process grow by", str(error))

    def test_cut(self) -> None:
        """Nothing longer than a target wants is given to it."""
        given: list[bytes] = []
        check(Target(given.append, max_bytes=3), b"12345")
        self.assertEqual(given, [b"123"])

    def test_repeated(self) -> None:
        """Some inputs are also given repeated, where a target takes that."""
        data = next(data for number in range(10_000) if crc32(data := b"%d" % number) % REPEATED_OF == 0)
        for repeats, expected in ((True, [len(data), REPEATED_BYTES // len(data) * len(data)]), (False, [len(data)])):
            given: list[int] = []
            check(Target(lambda data, given=given: given.append(len(data)), repeats=repeats), data)  # type: ignore[misc]
            self.assertEqual(given, expected)

    def test_names(self) -> None:
        """Every target can be loaded, and says what must hold."""
        self.assertGreater(len(names()), 15)
        for name in names():
            self.assertIsInstance(load(name), Target)
            self.assertIn("Holds:", __import__(f"tests.fuzz.targets.{name}", fromlist=["x"]).__doc__)
