"""Run ``twistd`` with a clock that a test sets: the file named first holds by how many seconds it is off."""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main() -> None:
    real, offset = time.time, Path(sys.argv.pop(1))
    time.time = lambda: real() + float(offset.read_text("ascii") or 0)

    from twisted.scripts.twistd import run  # takes the clock as it finds it

    run()


if __name__ == "__main__":
    main()
