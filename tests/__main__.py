"""Run all tests with trial, two parts at a time, each in processes of its own: ``python -m tests [PART...]``.

Those with real servers wait more than they work. It ends with a line like trial's, for all parts together.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
JOBS = 2
LONGEST = ("test_nodes", "test_redis_store", "test_workers", "test_shared_settings", "test_faults", "test_kills")
"""Of those with real processes: they begin, so that none is waited for alone at the end."""
_RESULT = re.compile(r"^(PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)


def parts() -> list[str]:
    """List what is run by itself, the longest first."""
    real = [path.stem for path in sorted((HERE / "end_to_end").glob("test_*.py"))]
    real.sort(key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    packages = [path.parent.name for path in sorted(HERE.glob("*/__init__.py")) if path.parent.name != "end_to_end"]
    modules = [path.stem for path in sorted(HERE.glob("test_*.py"))]
    return [*(f"tests.end_to_end.{name}" for name in real), *(f"tests.{name}" for name in (*packages, *modules))]


def run(part: str, folder: Path) -> tuple[int, str]:
    """Run one part; return its exit status and what it said."""
    command = [sys.executable, "-m", "twisted.trial", f"--temp-directory={folder / part}", part]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def main(names: list[str]) -> int:
    """Run some parts, by default all."""
    counts: Counter[str] = Counter()
    good = True
    with tempfile.TemporaryDirectory(prefix="t") as folder, ThreadPoolExecutor(JOBS) as pool:
        for status, said in pool.map(lambda part: run(part, Path(folder)), names or parts()):
            print(said, flush=True)
            found = _RESULT.findall(said)
            numbers: Counter[str] = Counter()
            for word in found[-1][1].split(", ") if found and found[-1][1] else ():
                name, _, number = word.partition("=")
                numbers[name] += int(number)
            good = good and status == 0 and numbers["successes"] > 0  # trial calls it good that there are no tests
            counts += numbers
            if status and not (found and found[-1][0] == "FAILED"):
                counts["errors"] += 1  # it did not even come to a result
    shown = ", ".join(f"{name}={number}" for name, number in sorted(counts.items()))
    print(f"{'PASSED' if good else 'FAILED'} ({shown})" if shown else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
