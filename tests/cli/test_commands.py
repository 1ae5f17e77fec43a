from __future__ import annotations

import argparse
import contextlib
import io
import os
from pathlib import Path
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli.commands import Parser, Verbs, absolute, add_socket, add_verb, note


class CommandsTests(SynchronousTestCase):
    def test_error(self) -> None:
        """A wrong command line is one line that names where help is, and status 1."""
        err = io.StringIO()
        with contextlib.redirect_stderr(err), self.assertRaises(SystemExit) as end:
            Parser(prog="tool").parse_args(["--nonsense"])
        self.assertEqual(end.exception.code, 1)
        self.assertEqual(
            err.getvalue(), "tool: unrecognized arguments: --nonsense ('tool --help' lists what there is)\n"
        )

    def test_verb(self) -> None:
        """A verb gets its options, and help that keeps its lines."""
        ran: list[argparse.Namespace] = []
        made = Parser(prog="tool")
        verbs = cast(Verbs, made.add_subparsers(parser_class=Parser))
        verb = add_verb(verbs, "do", ran.append, "do something", "First.\n\n  tool do\n")
        add_socket(verb)
        add_verb(verbs, "plain", ran.append, "do nothing")
        given = made.parse_args(["do", "-U", "there.sock", "-j"])
        given.run(given)
        self.assertEqual((ran[0].socket, ran[0].json), (Path("there.sock"), True))
        self.assertIn("Do something.\n\nFirst.\n\n  tool do\n", verb.format_help())

    def test_note(self) -> None:
        """A note does not mix with the result."""
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            note("look")
        self.assertEqual(err.getvalue(), "note: look\n")

    def test_absolute(self) -> None:
        """Paths are shown without dots in them."""
        self.assertEqual(absolute(Path("a/../b")), Path(os.getcwd(), "b"))
