"""``takyctl systemd``: let systemd run the site."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from taky_twisted.cli.commands import CommandError, Verbs, add_verb, note
from taky_twisted.cli.site import Site
from taky_twisted.cli.units import UNIT_FOLDERS, check_user, owner_of, program_path, unit_name, unit_text

MORE = """\
Writes one unit, taky.service (or taky-HOST.service for a site that is not in
/etc/taky), enables it and starts it. LOG_LEVEL can be set in /etc/default/taky
(or taky-HOST). taky's units taky-cot and taky-dps are not needed any more.
"""
PUBLIC = 0o644

Call = Callable[[Sequence[str]], None]


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "systemd", run, "let systemd run the server", MORE)
    parser.add_argument(
        "--path", type=Path, default=UNIT_FOLDERS[0], metavar="FOLDER", help="where units are [%(default)s]"
    )
    parser.add_argument("--no-install", dest="install", action="store_false", help="write the unit, start nothing")
    parser.add_argument("-u", "--user", metavar="USER", help="as whom it runs; else whom the site's data belongs to")
    parser.add_argument("--no-dps", dest="dps", action="store_false", help="accepted from taky; there is one unit")


def run(arguments: argparse.Namespace) -> None:
    """Write the unit, and let systemd start it."""
    install(Site.open(arguments.config), arguments.path, arguments.user, arguments.dps)
    if arguments.install:
        start(unit_name(Site.open(arguments.config).settings), _systemctl)


def install(site: Site, folder: Path, user: str | None, dps: bool) -> Path:
    """Write the unit, and say so; what is there already is not replaced."""
    settings = site.settings
    if not dps:
        note("one process serves everything now; what marti_endpoints in taky.conf names is what HTTP is served on")
    user = user if user is not None else owner_of(settings)
    if user is None:
        note("the server will run as root; make a user for it, give it the site (chown -R), and say -u USER")
    else:
        check_user(user)
    path = folder / unit_name(settings)
    text = unit_text(settings, user, program_path())
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        path.chmod(PUBLIC)
    except FileExistsError as error:
        raise CommandError(f"{path} is there already; remove it first, or write elsewhere with --path") from error
    print(f"Wrote {path}")
    for old in ("cot", "dps"):
        other = path.with_name(f"{path.stem}-{old}.service")
        if other.exists():
            note(f"{other} is taky's; it is not needed any more: systemctl disable --now {other.name}")
    return path


def start(unit: str, call: Call) -> None:
    """Let systemd read the unit, start it now, and at every start of the machine."""
    call(["systemctl", "daemon-reload"])
    call(["systemctl", "enable", "--now", unit])
    print(f"Started {unit}; 'takyctl logs' shows what it says")


def _systemctl(command: Sequence[str]) -> None:
    if shutil.which(command[0]) is None:
        raise CommandError("there is no systemctl here; with --no-install the unit is written, and that is all")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise CommandError(f"{' '.join(command)}: {said}")
