"""``takyctl trace``: who gets what somebody says, and who does not, and why."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from taky_twisted.cli.commands import Verbs, add_verb
from taky_twisted.cli.running import RunningServer
from taky_twisted.cli.site import settings_of
from taky_twisted.identity.certificates import printable

MORE = """\
Shows each event that comes from there until you press Control-C (or as many as
-n says): who got it, who did not, and which rule decided that.
"""


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "trace", run, "show who gets what somebody says, and why not", MORE)
    parser.add_argument("whom", metavar="UID|CALLSIGN", help="whose events")
    parser.add_argument("-n", type=_count, metavar="N", help="end after so many events")
    parser.add_argument("-U", dest="socket", metavar="SOCKET", type=Path, help="the running server's socket")
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object for each event")


def run(arguments: argparse.Namespace) -> None:
    """Trace."""
    server = RunningServer.of(settings_of(arguments.config), arguments.socket)
    answers = server.stream("trace", {"whom": arguments.whom}, live=True)
    others = [printable(str(node.get("name"))) for node in next(answers).get("nodes") or ()]  # it has begun
    if others and not arguments.json:
        print(
            f"Clients of other nodes ({', '.join(others)}) are not among those who got it or did not: trace there, too"
            " (-U SOCKET, or on the other machine)."
        )
    if not arguments.json:
        print(f"Waiting for the next event of {arguments.whom}; Control-C ends this.", flush=True)
    for answer in islice(answers, arguments.n):
        traced = answer["traced"]
        text = json.dumps(traced) if arguments.json else "\n".join(lines(traced, datetime.now()))
        print(text, flush=True)
        if answer.get("left_out") and not arguments.json:
            print(f"({answer['left_out']} events before this one came too fast to be shown)", flush=True)


def lines(traced: dict[str, Any], now: datetime) -> list[str]:
    """Spell what became of an event for people."""
    sender, uid = printable(traced["sender"]), printable(traced["uid"])
    told = [
        f"{now:%H:%M:%S} {sender} said {printable(traced['type'])} {uid} ({traced['size']} bytes)",
        f"  from      {printable(traced['peer'])} as {printable(traced['principal'])}",
        f"  groups    {printable(', '.join(traced['groups']) or 'none')}",
    ]
    if traced["destinations"]:
        told.append(f"  to        {printable(', '.join(traced['destinations']))}")
    outcomes = traced["outcomes"]
    for title, got in (("got it", True), ("did not", False)):
        for number, outcome in enumerate(each for each in outcomes if each["got"] is got):
            where = f" ({printable(outcome['peer'])})" if outcome["peer"] else ""
            words = f"{printable(outcome['name'])}{where}: {printable(outcome['why'])} [{outcome['rule']}]"
            told.append(f"  {title if not number else '':9} {words}")
    if not outcomes:
        told.append("  nobody is connected")
    listed, counted = len(outcomes), sum(traced["rules"].values())
    if counted > listed:
        rules = ", ".join(f"{rule} {count}" for rule, count in sorted(traced["rules"].items()))
        told.append(f"  and {counted - listed} more; in all: {rules}")
    return told


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed is a number from 1 on")
    return int(text)
