"""One run in a process of its own: a job as JSON comes in, an outcome as JSON goes out."""

from __future__ import annotations

import gc
import json
import resource
import sys
from dataclasses import asdict

from .crowd import Failed
from .jobs import Job, Outcome
from .scenarios import SCENARIOS


def main() -> None:
    """Do what standard input says."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    job = Job(**json.load(sys.stdin))
    gc.freeze()
    gc.disable()  # nothing here is circular in numbers; a collection would be a delay that is not the server's
    try:
        outcome = SCENARIOS[job.scenario].run(job)
    except Failed as failed:
        outcome = Outcome(wrong=[str(failed)])
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
