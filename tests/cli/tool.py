"""``takyctl`` in this process, and sites to use it on, for tests."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli.site import Site
from taky_twisted.cli.site_maker import Layout, Wishes, make_site
from taky_twisted.cli.takyctl import main


@dataclass(frozen=True)
class Ran:
    """How a command line ended, and what it printed."""

    status: int
    out: str
    err: str


def takyctl(*arguments: str) -> Ran:
    """Run a command line."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=err)
                status = 1
            else:
                status = end.code or 0
    return Ran(status, out.getvalue(), err.getvalue())


class SiteTestCase(SynchronousTestCase):
    """Tests in an empty folder of their own, with a site in the folder ``site`` of it."""

    wishes = Wishes(hosts=("localhost",), public=("127.0.0.1",))

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.layout = Layout.of_folder(self.folder / "site")
        self.conf = str(self.layout.conf)
        make_site(self.layout, self.wishes, datetime.now(timezone.utc), quick_key())

    @property
    def site(self) -> Site:
        """The site, as it is now."""
        return Site.open(self.conf)

    def run_well(self, *arguments: str) -> Ran:
        """Run a verb on the site; it works."""
        ran = takyctl("-c", self.conf, *arguments)
        self.assertEqual(ran.status, 0, ran.err)
        return ran

    def fail_to(self, *arguments: str) -> str:
        """Run a verb on the site; it fails with one line and status 1."""
        ran = takyctl("-c", self.conf, *arguments)
        self.assertEqual((ran.status, ran.out), (1, ""))
        *_, line = ran.err.splitlines()
        self.assertRegex(line, r"^takyctl")
        self.assertNotIn("Traceback", ran.err)
        return line


def quick_key() -> ec.EllipticCurvePrivateKey:
    """Make a key for an authority in no time."""
    return ec.generate_private_key(ec.SECP256R1())
