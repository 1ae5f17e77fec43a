"""``takyctl systemd``: let systemd run the site."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from taky_twisted.cli.commands import CommandError, Verbs, add_verb, note
from taky_twisted.cli.site import Site
from taky_twisted.cli.units import (
    UNIT_FOLDERS,
    all_doors,
    check_user,
    owner_of,
    program_path,
    site_name,
    target_name,
    target_text,
    template_name,
    unit_name,
    unit_text,
)
from taky_twisted.config import Settings, parse_workers
from taky_twisted.config.workers import check_workers
from taky_twisted.endpoints.shared import worker_doors

MORE = """\
Writes one unit, taky.service (or taky-HOST.service for a site that is not in
/etc/taky), enables it and starts it. LOG_LEVEL can be set in /etc/default/taky
(or taky-HOST). taky's units taky-cot and taky-dps are not needed any more.

With --workers N, or workers = N in taky.conf, there are N processes that are
one server: the template taky@.service, and taky.target, which starts them.
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
    parser.add_argument("--workers", metavar="N", help="so many processes; else workers in taky.conf")
    parser.add_argument("--no-dps", dest="dps", action="store_false", help="accepted from taky; there is one unit")


def run(arguments: argparse.Namespace) -> None:
    """Write the units, and let systemd start them."""
    site = Site.open(arguments.config)
    workers = site.settings.workers if arguments.workers is None else _workers(arguments.workers)
    install(site, arguments.path, arguments.user, arguments.dps, workers)
    if arguments.install:
        start(unit_name(site.settings) if workers == 1 else target_name(site.settings), _systemctl)


def install(site: Site, folder: Path, user: str | None, dps: bool, workers: int = 1) -> None:
    """Write the unit, or those of several processes, and say so; what is there already is not replaced."""
    settings = site.settings
    if not dps:
        note("one process serves everything now; what marti_endpoints in taky.conf names is what HTTP is served on")
    user = user if user is not None else owner_of(settings)
    if user is None:
        note("the server will run as root; make a user for it, give it the site (chown -R), and say -u USER")
    else:
        check_user(user)
    units = {unit_name(settings): unit_text(settings, user, program_path())}
    if workers > 1:
        check_workers(replace(settings, workers=workers))
        worker_doors(all_doors(settings), 1)
        units = {
            template_name(settings): unit_text(settings, user, program_path(), workers),
            target_name(settings): target_text(settings, workers),
        }
    _check_free(folder, settings, units)
    for name, text in units.items():
        _write(folder / name, text)
    for old in ("cot", "dps"):
        other = folder / f"{site_name(settings)}-{old}.service"
        if other.exists():
            note(f"{other} is taky's; it is not needed any more: systemctl disable --now {other.name}")


def _check_free(folder: Path, settings: Settings, wanted: Mapping[str, str]) -> None:
    for name in (unit_name(settings), template_name(settings), target_name(settings)):
        path = folder / name
        if path.exists():
            if name in wanted:
                raise CommandError(f"{path} is there already; remove it first, or write elsewhere with --path")
            raise CommandError(
                f"{path} is there: the server would run twice; stop that (systemctl disable --now {name}) and remove it"
                " first"
            )


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    path.chmod(PUBLIC)
    print(f"Wrote {path}")


def _workers(text: str) -> int:
    try:
        return parse_workers(text)
    except ValueError as error:
        raise CommandError(f"--workers {text!r}: {error}") from error


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
