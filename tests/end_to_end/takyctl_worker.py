"""Run takyctl in a process of its own, again and again: a command line (JSON) a line on stdin, its status on stdout.

What a command line prints is only shown, on stderr, if it fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from taky_twisted.cli.takyctl import main

for line in sys.stdin:
    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(json.loads(line))
        except SystemExit as end:
            status = 1
            print(end.code, file=said)
    if status:
        print(said.getvalue(), file=sys.stderr)
    print(status, flush=True)
