"""Fuzz targets, one process for each; the exit status says whether anything was found."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT
from time import monotonic

from tests.fuzz.target import names

PATIENCE_SECONDS = 120
"""How long a process may take beside its time: it reads its corpus first, and one input may hang."""
TOLD_CHARS = 6000
"""How much of what it says is shown if it ends badly."""
ROOT = Path(__file__).resolve().parents[2]
_COUNT = re.compile(r"stat::number_of_executed_units: *(\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+)")
_TRACE = re.compile(r"=== Uncaught Python exception: ===.*?(?=^==\d+== ERROR)", re.DOTALL | re.MULTILINE)
_FOUND = re.compile(r"Test unit written to (.+)")


@dataclass(frozen=True)
class Run:
    """What came of fuzzing one target once."""

    target: str
    engine: str
    seconds: float
    executions: int
    coverage: int
    """Counters of instrumented code that were reached, as libFuzzer counts them; 0 where nobody counts."""
    finding: str
    """The file with the input, empty if nothing was found."""
    said: str
    """The end of what the process said, if it ended badly."""

    @property
    def good(self) -> bool:
        """Whether all inputs passed."""
        return not self.said

    def __str__(self) -> str:
        speed = self.executions / max(self.seconds, 0.1)
        outcome = "nothing found" if self.good else f"FOUND {self.finding or 'see above'}"
        return f"{self.target:<16} {self.seconds:6.0f} s {self.executions:9} runs {speed:7.0f}/s  {outcome}"


def fuzz(target: str, seconds: float, work: Path, engine: str, seed: int = 0) -> Run:
    """Fuzz one target in a process of its own."""
    command = [sys.executable, "-m", "tests.fuzz.child", target, str(seconds), str(work / target), engine, str(seed)]
    began = monotonic()
    try:
        done = subprocess.run(
            command, stdout=PIPE, stderr=STDOUT, timeout=seconds + PATIENCE_SECONDS, cwd=ROOT, check=False
        )
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        status, output = -1, (error.stdout or b"") + b"\nit did not end"
    said = output.decode("utf-8", "replace")
    counts, covered, found = _COUNT.findall(said), _COVERAGE.findall(said), _FOUND.findall(said)
    told = _told(said)
    return Run(
        target,
        engine,
        round(monotonic() - began, 1),
        int(counts[-1]) if counts else 0,
        int(covered[-1][0]) if covered else 0,
        found[-1] if found else "",
        "" if status == 0 and counts else told[-TOLD_CHARS:],
    )


def _told(said: str) -> str:
    """Take what matters of what a process has said: atheris spells an input in several ways beside it."""
    if trace := _TRACE.search(said):
        return trace[0].strip() + "\n"
    return "\n".join(line for line in said.splitlines() if not line.startswith(("#", "INFO:", "WARNING:")))


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", metavar="TARGET", nargs="*", help="which; see --list")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--list", action="store_true", help="name them and do nothing")
    parser.add_argument("--seconds", type=float, default=60, help="for each [%(default)s]")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="same inputs each time; 0: others [%(default)s]")
    parser.add_argument("--engine", choices=("atheris", "own"), help="[atheris if it is installed]")
    parser.add_argument("--work", type=Path, help="folder that keeps inputs between runs [a new one]")
    parser.add_argument("--log", type=Path, help="file to which the outcome of each is added, a JSON object a line")
    asked = parser.parse_args(arguments)
    if asked.list:
        print("\n".join(names()))
        return 0
    targets = names() if asked.all else asked.targets
    unknown = [name for name in targets if name not in names()]
    if unknown or not targets:
        parser.error(f"name targets, of these: {', '.join(names())}")
    engine = asked.engine or ("atheris" if importlib.util.find_spec("atheris") else "own")
    work = asked.work or Path(tempfile.mkdtemp(prefix="taky-fuzz-"))
    print(f"{len(targets)} targets with {engine}, inputs in {work}", flush=True)
    good = True
    with ThreadPoolExecutor(asked.jobs) as pool:
        for run in pool.map(lambda name: fuzz(name, asked.seconds, work.absolute(), engine, asked.seed), targets):
            good = good and run.good
            if run.said:
                print(run.said, file=sys.stderr)
            print(run, flush=True)
            if asked.log:
                with asked.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**asdict(run), "said": run.said[-300:]}) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
