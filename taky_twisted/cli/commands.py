"""What the verbs of ``takyctl`` have in common: how they are added, and how they fail."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

Run = Callable[[argparse.Namespace], None]


class CommandError(Exception):
    """A verb cannot do what it shall; the text is one line that says why, and what to do."""


class Parser(argparse.ArgumentParser):
    """argparse that fails with one line and status 1."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message} ('{self.prog} --help' lists what there is)\n")


class Verbs(Protocol):
    """What argparse's subparsers are to a verb."""

    def add_parser(self, name: str, **kwargs: object) -> Parser:
        """Make the parser of one more verb."""


def add_verb(verbs: Verbs, name: str, run: Run, summary: str, more: str = "") -> Parser:
    """Make the parser of a verb.

    Args:
        verbs: gets one more.
        name: what the operator types.
        run: does it; raises `CommandError` if it cannot.
        summary: one line for the list of verbs.
        more: paragraphs for its own help.
    """
    parser = verbs.add_parser(
        name,
        description=f"{summary[0].upper()}{summary[1:]}.{more and f'{chr(10)}{chr(10)}{more}'}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, summary=summary)
    return parser


def add_socket(parser: Parser) -> None:
    """Take what taky's verbs take that speak to the running server."""
    parser.add_argument("-U", dest="socket", metavar="SOCKET", type=Path, help="the running server's socket")
    parser.add_argument("-j", "--json", action="store_true", help="answer in JSON")


def absolute(path: Path) -> Path:
    """Make a path absolute, without '..' in it; links stay."""
    return Path(os.path.abspath(path))


def note(text: str) -> None:
    """Tell the operator something that is not the result."""
    print(f"note: {text}", file=sys.stderr)
