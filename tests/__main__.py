"""Run all tests with trial, two parts at a time, each in processes of its own: ``python -m tests [PART...]``.

Those with real servers wait more than they work. It ends with what failed, so that nobody has to search for it, and a
line like trial's, for all parts together.
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
FAILURES = "== failures"
"""The line before what failed."""
SHOWN = 20_000
"""How much is repeated of what a part says about its failures, in characters: what it said last."""
_RESULT = re.compile(r"^(PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)
_FAULTS = re.compile(r"^={70,}$.*?(?=^-{70,}\nRan \d|\Z)", re.MULTILINE | re.DOTALL)


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


def faults(said: str) -> str:
    """Return what trial says about failed tests, or, where it did not come to that, its last words."""
    found = _FAULTS.search(said)
    return (found[0] if found else said).strip()[-SHOWN:]


def main(names: list[str]) -> int:
    """Run some parts, by default all."""
    counts: Counter[str] = Counter()
    failed = []
    with tempfile.TemporaryDirectory(prefix="t") as folder, ThreadPoolExecutor(JOBS) as pool:
        names = names or parts()
        for part, (status, said) in zip(names, pool.map(lambda each: run(each, Path(folder)), names), strict=True):
            print(said, flush=True)
            found = _RESULT.findall(said)
            numbers: Counter[str] = Counter()
            for word in found[-1][1].split(", ") if found and found[-1][1] else ():
                name, _, number = word.partition("=")
                numbers[name] += int(number)
            if status or not numbers["successes"]:  # trial calls it good that there are no tests
                failed.append(f"{part}\n{faults(said)}\n")
            counts += numbers
            if status and not (found and found[-1][0] == "FAILED"):
                counts["errors"] += 1  # it did not even come to a result
    if failed:
        print(FAILURES, *failed, sep="\n")
    shown = ", ".join(f"{name}={number}" for name, number in sorted(counts.items()))
    print(f"{'FAILED' if failed else 'PASSED'} ({shown})" if shown else "FAILED")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
