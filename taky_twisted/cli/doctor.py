"""``takyctl doctor``: what is wrong with the site, and who cannot connect, and why."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

from taky_twisted.cli.checks import Checks, Finding, moment, worst
from taky_twisted.cli.commands import CommandError, Verbs, add_verb
from taky_twisted.cli.running import NotRunning, RunningServer
from taky_twisted.cli.site import settings_of
from taky_twisted.config import Settings
from taky_twisted.config.workers import folder_name
from taky_twisted.identity.certificates import printable

MORE = """\
Looks at the site's files, certificates, store, disk and ports, then at whom the
running server refused lately, and goes on showing whom it refuses until you
press Control-C. --once ends after what there is; its status is 1 if there is a
problem. Without a terminal, --once is what happens unless --follow says else.
"""
_MARKS = {"ok": "ok      ", "note": "note    ", "warning": "WARNING ", "problem": "PROBLEM "}
_INDENT = " " * 8
_SILENCE = "the client closed the connection without sending anything"


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "doctor", run, "find out what is wrong, and why somebody cannot connect", MORE)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="end after what there is")
    how.add_argument("-f", "--follow", action="store_true", help="go on showing who is refused")
    parser.add_argument("-U", dest="socket", metavar="SOCKET", type=Path, help="the running server's socket")
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object for each finding")


def run(arguments: argparse.Namespace) -> None:
    """Examine."""
    began = time.time()
    settings = settings_of(arguments.config)
    server = RunningServer.of(settings, arguments.socket)
    findings = []
    several = settings if arguments.socket is None else None
    for finding in (*Checks(settings, moment()).all(), *_doors(server, several)):
        findings.append(finding)
        _print(arguments.json, {"finding": asdict(finding)}, finding_lines(finding))
    follow = arguments.follow or (sys.stdout.isatty() and not arguments.once)
    _failures(server, follow, arguments.json, began)
    if worst(findings) == "problem":
        raise SystemExit(1)


def lines(attempt: dict[str, Any]) -> list[str]:
    """Spell a failed attempt for people."""
    when = datetime.fromtimestamp(attempt["last"]).astimezone()
    times = f"  {attempt['count']} times since {_clock(attempt['first'])}" if attempt["count"] > 1 else ""
    whom = printable(attempt["address"]) or "a local process"
    subject = f"  as {printable(attempt['subject'])}" if attempt["subject"] else ""
    told = [f"{when:%Y-%m-%d %H:%M:%S}  {whom}  at {printable(attempt['door'])}{subject}{times}"]
    told += _indented(printable(attempt["reason"], None))
    if attempt["advice"]:
        told += _indented(f"-> {printable(attempt['advice'], None)}")
    return told


def _doors(server: RunningServer, settings: Settings | None) -> Iterator[Finding]:
    try:
        status = server.ask("status")
    except NotRunning as error:
        yield Finding("warning", str(error), "start it: twistd -n taky, or systemctl start taky")
        return
    except CommandError as error:
        yield Finding("problem", str(error))
        return
    yield Finding("ok", f"the server runs (version {status['version']}), {status['num_clients']} clients are connected")
    for door in status["doors"]:
        secure = "TLS" if door["tls"] else "no TLS"
        where = "a unix socket" if door["port"] is None else f"{door['host']} port {door['port']}"
        yield Finding("ok", f"{door['what']} door {door['name']} is open on {where} ({secure})")
    if settings is not None and settings.workers > 1:
        yield from _workers(server, settings)


def _workers(server: RunningServer, settings: Settings) -> Iterator[Finding]:
    """Say which of several processes do not answer: the others serve, so that nobody might notice."""
    further = {worker.path.parent.name: worker for worker in server.further}
    for number in range(1, settings.workers + 1):
        worker = RunningServer(server.path) if number == 1 else further.get(folder_name(number))
        try:
            if worker is not None:
                worker.ask("ping")
                continue
        except NotRunning:
            pass
        except CommandError as error:
            yield Finding("problem", f"worker {number}: {error}")
            continue
        yield Finding(
            "warning",
            f"worker {number} of {settings.workers} does not answer; the others serve",
            "see why it has ended: takyctl logs",
        )


def _failures(server: RunningServer, follow: bool, as_json: bool, began: float) -> None:
    if not as_json:
        print("\nWho could not connect lately:", flush=True)
    known = 0
    for worker in server.further:
        try:
            known += sum(_shown(attempt, as_json) for attempt in _attempts(worker, began, False))
        except NotRunning:
            continue
        except CommandError as error:
            # One that hangs does not hide whom the others have refused.
            finding = Finding("problem", str(error))
            _print(as_json, {"finding": asdict(finding)}, finding_lines(finding))
            continue
        if follow:
            Thread(target=_follow, args=(worker, as_json), daemon=True).start()
    try:
        for attempt in _attempts(RunningServer(server.path), began, follow):
            known += _shown(attempt, as_json)
            if attempt is None and not known and not as_json:
                print(
                    "  nobody" + (", so far; whoever is refused is shown here (Control-C ends this)" * follow),
                    flush=True,
                )
    except NotRunning:
        if not as_json and not server.further:
            print("  the server does not run; its log has more (takyctl logs)")


def _attempts(server: RunningServer, began: float, follow: bool) -> Iterator[dict[str, Any] | None]:
    """Go through what failed; None stands between what is known and what happens from now on."""
    live = False
    for answer in server.stream("doctor", {"follow": follow}, live=follow):
        attempt = answer.get("attempt")
        if attempt is not None and not live and attempt["reason"] == _SILENCE and attempt["last"] >= began:
            continue  # that was us, looking whether the port takes connections
        live = live or attempt is None
        yield attempt


def _follow(worker: RunningServer, as_json: bool) -> None:
    """Show what happens at one more worker, until the program ends or the worker does."""
    with suppress(CommandError):
        live = False
        for attempt in _attempts(worker, 0, True):
            if live:
                _shown(attempt, as_json)
            live = live or attempt is None


def _shown(attempt: dict[str, Any] | None, as_json: bool) -> bool:
    if attempt is not None:
        _print(as_json, {"attempt": attempt}, lines(attempt))
    return attempt is not None


def finding_lines(finding: Finding) -> list[str]:
    """Spell a finding for people."""
    told = [f"{_MARKS[finding.level]}{printable(finding.what, None)}"]
    if finding.advice:
        told += _indented(f"-> {printable(finding.advice, None)}")
    return told


def _indented(text: str) -> list[str]:
    """Indent a sentence; on a terminal, break it where words end."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    more = f"{_INDENT}   " if text.startswith("-> ") else _INDENT
    return textwrap.wrap(text, width, initial_indent=_INDENT, subsequent_indent=more, break_on_hyphens=False)


def _print(as_json: bool, told: dict[str, Any], words: list[str]) -> None:
    print(json.dumps(told) if as_json else "\n".join(words), flush=True)


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M:%S}"
