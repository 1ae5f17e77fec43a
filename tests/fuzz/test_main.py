from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.__main__ import Run, main
from tests.fuzz.target import names


class MainTests(SynchronousTestCase):
    def run_main(self, *arguments: str) -> tuple[int, str]:
        """Call it as a shell does; return the exit status and what it prints."""
        with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
            try:
                status = main(list(arguments))
            except SystemExit as error:
                status = int(str(error.code))
        return status, said.getvalue()

    def test_list(self) -> None:
        """The targets can be listed."""
        self.assertEqual(self.run_main("--list"), (0, "\n".join(names()) + "\n"))

    def test_unknown(self) -> None:
        """A target that there is not is refused, with those that there are."""
        for arguments in ((), ("no_such",)):
            status, said = self.run_main(*arguments)
            self.assertEqual(status, 2)
            self.assertIn("xml_framing", said)

    def test_short(self) -> None:
        """A target is run in a process of its own, and what came of it is noted; without atheris, too."""
        work, log = Path(self.mktemp()), Path(self.mktemp())
        status, said = self.run_main(
            *("texts", "--seconds", "0.5", "--engine", "own", "--work", str(work), "--log", str(log))
        )
        self.assertEqual(status, 0, said)
        self.assertIn("nothing found", said)
        told = json.loads(log.read_text("utf-8"))
        self.assertEqual((told["target"], told["engine"], told["finding"]), ("texts", "own", ""))
        self.assertGreater(told["executions"], 20)

    def test_outcome(self) -> None:
        """What came of it fits on a line."""
        good = Run("texts", "own", 10.0, 1000, 0, "", "")
        self.assertIn("100/s  nothing found", str(good))
        self.assertIn("FOUND /x/crash-1", str(Run("texts", "own", 10.0, 1000, 0, "/x/crash-1", "Traceback")))
        self.assertIn("FOUND see above", str(Run("texts", "own", 0.0, 0, 0, "", "it did not start")))
