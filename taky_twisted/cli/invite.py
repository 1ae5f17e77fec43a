"""``takyctl invite``: let somebody's devices get their certificates themselves, with a code to scan."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from taky_twisted.cli.build_client import Person, people_in
from taky_twisted.cli.commands import CommandError, Verbs, add_socket, add_verb, note
from taky_twisted.cli.enroll_door import EnrollDoor
from taky_twisted.cli.invitation import Invitation, page, terminal
from taky_twisted.cli.site import Site
from taky_twisted.cli.site_invites import ask
from taky_twisted.config.settings import ENROLL_PORT
from taky_twisted.enrollment import qr
from taky_twisted.enrollment.account_requests import check_group
from taky_twisted.enrollment.errors import Banned
from taky_twisted.enrollment.names import check_name
from taky_twisted.enrollment.packages import enrollment_package
from taky_twisted.files import PRIVATE, replace_file, write_new
from taky_twisted.identity.errors import AccountError

MORE = """\
Prints codes to scan, a link, and what to type instead; writes NAME-enroll.zip
into the current folder. With the code a device makes itself a key and gets a
certificate for it from the enrollment port (8446). Who has the code is NAME for
the server, as long as a use is left: hand it over with care.

Devices trust the enrollment port only if its certificate is publicly trusted
(takyctl setup --server-cert). Else the package comes first: it makes them trust
this site, and is no secret.

  takyctl -c mysite/taky.conf invite ALPHA --groups Red Blue --uses 2
  takyctl -c mysite/taky.conf invite --from-csv people.csv

The file for --from-csv begins with the line name,groups; several groups have
';' between them. It makes invites.html, a sheet for each to be printed.
"""
PAGE = "invites.html"
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_TIME = re.compile(r"([0-9]{1,6})([mhdw])")


@dataclass(frozen=True)
class Wanted:
    """What the command line says of all invites."""

    uses: int
    seconds: float
    itak: bool
    pictures: tuple[str, ...]
    force: bool
    as_json: bool
    socket: Path | None


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "invite", run, "let somebody's devices enroll with a code", MORE)
    parser.add_argument("name", nargs="?", metavar="NAME", help="who it is for; the name in the server's log")
    parser.add_argument(
        *("--groups", "--group"), nargs="+", action="extend", metavar="GROUP", help="groups of NAME from now on"
    )
    parser.add_argument("--uses", type=int, default=1, metavar="N", help="for how many devices [%(default)s]")
    parser.add_argument("--expires", default="7d", metavar="TIME", help="as 90m, 12h, 7d or 2w [%(default)s]")
    parser.add_argument("--from-csv", type=Path, metavar="FILE", help="invite all in a list, and make a page to print")
    parser.add_argument("--svg", action="store_true", help="also write the codes as NAME-atak.svg and NAME-itak.svg")
    parser.add_argument("--png", action="store_true", help="also write the codes as NAME-atak.png and NAME-itak.png")
    parser.add_argument("--itak", action="store_true", help="make the package for iTAK or TAK Aware")
    parser.add_argument("--list", action="store_true", help="list the invites that are open, and invite nobody")
    parser.add_argument("--withdraw", action="store_true", help="end all invites of NAME")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    add_socket(parser)


def run(arguments: argparse.Namespace) -> None:
    """Do it."""
    site = Site.open(arguments.config)
    wanted = Wanted(
        arguments.uses,
        seconds_of(arguments.expires),
        arguments.itak,
        tuple(kind for kind in ("svg", "png") if getattr(arguments, kind)),
        arguments.force,
        arguments.json,
        arguments.socket,
    )
    if arguments.list:
        _list(site, wanted)
        return
    if (arguments.name is None) == (arguments.from_csv is None):
        raise CommandError("who is invited? Give a NAME, or --from-csv FILE")
    if arguments.withdraw:
        _withdraw(site, wanted, arguments.name)
        return
    groups = _groups(arguments.groups or ())
    if arguments.from_csv is not None:
        people = people_in(arguments.from_csv, Person("X", groups))
        _invite_all(site, wanted, people)
    else:
        _invite_one(site, wanted, Person(check_name(arguments.name), groups))


def _invite_one(site: Site, wanted: Wanted, person: Person) -> None:
    package = Path(f"{person.name}-enroll.zip")
    pictures = [Path(f"{person.name}-{app}.{kind}") for kind in wanted.pictures for app in ("atak", "itak")]
    _check_free([package, *pictures], wanted.force)
    door = EnrollDoor.of(site)
    connection = site.connection(site.authority())
    (invitation,) = invited(site, wanted, door, [person])
    _write(package, enrollment_package(connection, itak=wanted.itak), wanted.force)
    for path in pictures:
        text = invitation.atak if path.stem.endswith("-atak") else invitation.itak
        _write(path, qr.picture(text, "svg" if path.suffix == ".svg" else "png"), wanted.force)
    files = [str(package), *map(str, pictures)]
    if wanted.as_json:
        print(json.dumps({**_told(invitation), "public": door.public, "files": files}))
        return
    print(terminal(invitation))
    print("")
    for file in files:
        print(f"wrote {file}")
    _warn(door, str(package))


def _invite_all(site: Site, wanted: Wanted, people: list[Person]) -> None:
    package = Path("enroll.zip")
    _check_free([Path(PAGE), package], wanted.force)
    door = EnrollDoor.of(site)
    connection = site.connection(site.authority())
    invitations = invited(site, wanted, door, people)
    first = None if door.public else f"First import the package {package}, which you were sent; then scan."
    _write(package, enrollment_package(connection, itak=wanted.itak), wanted.force)
    _write(Path(PAGE), page(invitations, site.settings.hostname, first).encode(), wanted.force)
    if wanted.as_json:
        told = [_told(invitation) for invitation in invitations]
        print(json.dumps({"invites": told, "public": door.public, "files": [PAGE, str(package)]}))
        return
    print(f"{len(invitations)} invites, {invitations[0].worth.partition(' ')[2]}")
    print(f"wrote {PAGE}: print it, hand the sheets over, and delete it")
    print(f"wrote {package}")
    _warn(door, str(package))


def invited(site: Site, wanted: Wanted, door: EnrollDoor, people: list[Person]) -> list[Invitation]:
    """Invite people, all or, if it can be known before that one cannot be, nobody."""
    register = site.register()
    banned = [person.name for person in people if register.is_banned(person.name)]
    if banned:
        raise Banned(f"{', '.join(banned)}: banned; 'takyctl unban NAME' lets the name have certificates again")
    said = ask(site.settings, [_request(wanted, person) for person in people], wanted.socket)
    return [
        Invitation(each["name"], each["token"], door.host, site.port(), each["uses"], each["expires"]) for each in said
    ]


def _request(wanted: Wanted, person: Person) -> dict[str, Any]:
    request = {"action": "invite", "name": person.name, "uses": wanted.uses, "seconds": wanted.seconds}
    if person.groups:
        request |= {"in": list(person.groups), "out": list(person.groups)}
    return request


def _list(site: Site, wanted: Wanted) -> None:
    (said,) = ask(site.settings, [{"action": "list"}], wanted.socket)
    if wanted.as_json:
        print(json.dumps({"invites": said["invites"]}))
        return
    for each in said["invites"]:
        end = datetime.fromtimestamp(each["expires"], timezone.utc)
        print(f"{each['name']}: {each['uses']} left, until {end:%Y-%m-%d %H:%M} UTC")
    if not said["invites"]:
        print("Nobody is invited")


def _withdraw(site: Site, wanted: Wanted, name: str) -> None:
    (said,) = ask(site.settings, [{"action": "withdraw", "name": name}], wanted.socket)
    if wanted.as_json:
        print(json.dumps({"withdrawn": said["withdrawn"]}))
    else:
        print(f"{said['withdrawn']} invites of {name} were withdrawn")


def _groups(names: Iterable[str]) -> tuple[str, ...]:
    try:
        return tuple(check_group(name) for name in names)
    except AccountError as error:
        raise CommandError(str(error)) from error


def seconds_of(text: str) -> float:
    """Read a time, as 7d."""
    match = _TIME.fullmatch(text.strip().lower())
    if match is None:
        raise CommandError(f"--expires {text!r}: write a number and m, h, d or w, as 12h or 7d")
    return float(match[1]) * _UNITS[match[2]]


def _told(invitation: Invitation) -> dict[str, Any]:
    return {
        "name": invitation.name,
        "token": invitation.token,
        "uses": invitation.uses,
        "expires": invitation.expires,
        "atak": invitation.atak,
        "itak": invitation.itak,
    }


def _warn(door: EnrollDoor, package: str) -> None:
    if not door.public:
        note(
            "devices do not trust the enrollment port yet, because its certificate is not publicly trusted for"
            f" {door.host}: they import {package} first, then scan"
        )
    if door.port != ENROLL_PORT:
        note(f"the enrollment port is {door.port}; devices look for {ENROLL_PORT} unless somebody sets that on them")


def _check_free(paths: list[Path], force: bool) -> None:
    for path in paths:
        if not force and os.path.lexists(path):
            raise CommandError(f"{path} is in this folder already; --force replaces it")


def _write(path: Path, content: bytes, force: bool) -> None:
    if force:
        replace_file(path, content, PRIVATE)
    else:
        write_new(path, content)
