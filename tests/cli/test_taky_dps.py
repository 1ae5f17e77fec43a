from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli.taky_dps import main


class TakyDpsTests(SynchronousTestCase):
    def test_explains(self) -> None:
        """Who still starts taky_dps is told that taky serves it now, and nothing fails."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            main()
        self.assertIn("served by taky itself now", out.getvalue())
