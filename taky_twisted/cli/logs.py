"""``takyctl logs``: what the server has logged, wherever that is."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from taky_twisted.cli.commands import CommandError, Verbs, add_verb
from taky_twisted.cli.site import settings_of
from taky_twisted.cli.units import UNIT_FOLDERS, template_name, unit_name
from taky_twisted.config import Settings

FILES = ("twistd.log", "taky.log")
SYSTEM_FILE = Path("/var/log/taky.log")
MORE = """\
With a unit of systemd that is journalctl; else the log file of twistd, if it is
in the site's folder, in the data folder, or /var/log/taky.log.
"""


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "logs", run, "show what the server has logged", MORE)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what it logs from now on")
    parser.add_argument("-n", metavar="LINES", default="50", help="show so many lines [%(default)s]")


def run(arguments: argparse.Namespace) -> None:
    """Show them: this program becomes journalctl or tail."""
    if not arguments.n.isdigit():
        raise CommandError(f"-n {arguments.n!r}: allowed is a number of lines")
    show(settings_of(arguments.config), arguments.n, arguments.follow)


def show(
    settings: Settings,
    count: str,
    follow: bool,
    become: Callable[[str, list[str]], NoReturn] = os.execvp,
    units: Sequence[Path] = UNIT_FOLDERS,
    system_file: Path = SYSTEM_FILE,
) -> None:
    """Find the log and show it.

    Args:
        settings: of the site.
        count: how many lines.
        follow: whether to go on.
        become: what runs another program in place of this one.
        units: where units of systemd are.
        system_file: where a log may be beside the site's folders.
    """
    more = ["-f"] if follow else []
    unit, template = unit_name(settings), template_name(settings)
    for name, shown in ((unit, unit), (template, template.replace("@", "@*"))):
        if any((folder / name).exists() for folder in units) and shutil.which("journalctl") is not None:
            become("journalctl", ["journalctl", "-u", shown, "-n", count, *more])
    folders = [settings.path.parent] if settings.path is not None else []
    places = [folder / name for folder in (*folders, settings.data_dir, Path()) for name in FILES]
    for path in (*places, system_file):
        if path.is_file():
            become("tail", ["tail", "-n", count, *more, "--", str(path)])
    raise CommandError(
        f"no log was found: there is no unit {unit}, and no twistd.log beside taky.conf or in the data folder. A server"
        " in the foreground logs to its terminal; 'journalctl -u UNIT' shows another unit's"
    )
