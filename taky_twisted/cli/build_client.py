"""``takyctl build_client``: give somebody a certificate, in a package that his phone imports."""

from __future__ import annotations

import argparse
import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from taky_twisted.cli.commands import CommandError, Parser, Verbs, add_verb
from taky_twisted.cli.site import Site, now
from taky_twisted.cli.site_accounts import give_groups
from taky_twisted.cli.site_maker import key_pem
from taky_twisted.enrollment.authority import DAYS, MAX_DAYS, Authority, make_key
from taky_twisted.enrollment.errors import Banned, EnrollmentError
from taky_twisted.enrollment.keystores import PASSWORD, check_password, client_keystore
from taky_twisted.enrollment.names import check_name
from taky_twisted.enrollment.packages import Connection, Identity, connection_package, plain_package
from taky_twisted.enrollment.register import Details
from taky_twisted.files import PRIVATE, PUBLIC, replace_file, write_new

MORE = """\
Writes NAME.zip into the current folder; send it to the phone and import it
there. Who has the package is NAME for the server, so hand it over with care:
its password protects little.

  takyctl -c mysite/taky.conf build_client "Jörg Müller"
  takyctl -c mysite/taky.conf build_client --from-csv people.csv

The file for --from-csv begins with the line name,groups,days,itak; only the
name has to be filled in. Several groups have ';' between them.
"""
COLUMNS = ("name", "groups", "days", "itak")
MAX_PEOPLE = 10_000
MAX_GROUP = 255  # characters
_YES, _NO = frozenset({"1", "yes", "true", "on", "y", "x"}), frozenset({"", "0", "no", "false", "off", "n"})


@dataclass(frozen=True)
class Person:
    """Who gets a package, and of which kind."""

    name: str
    groups: tuple[str, ...] = ()
    days: int = DAYS
    itak: bool = False


@dataclass(frozen=True)
class Making:
    """How packages are made."""

    password: str
    dump_pem: bool
    force: bool
    folder: Path

    def paths(self, person: Person) -> list[Path]:
        """Name what is written for somebody."""
        endings = [".zip", *((".crt", ".key", ".p12") if self.dump_pem else ())]
        return [self.folder / f"{person.name}{ending}" for ending in endings]


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "build_client", run, "make a package for somebody's phone", MORE)
    parser.add_argument("name", nargs="?", metavar="NAME", help="whose certificate it is; the name in the server's log")
    add_options(parser)
    parser.add_argument("--from-csv", type=Path, metavar="FILE", help="make packages for all in a list")


def add_options(parser: Parser) -> None:
    """Take what says how a package is made."""
    parser.add_argument(
        "--is_itak", "--itak", action="store_true", help="for iTAK or TAK Aware instead of ATAK, WinTAK"
    )
    parser.add_argument("--p12_pw", default=PASSWORD, metavar="PW", help="password of the client's .p12 [%(default)s]")
    parser.add_argument("--dump_pem", action="store_true", help="also write NAME.crt, NAME.key and NAME.p12")
    parser.add_argument("--group", action="append", metavar="GROUP", help="group of the client; may be repeated")
    parser.add_argument("--days", type=int, default=DAYS, help="how long the certificate is valid [%(default)s]")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def run(arguments: argparse.Namespace) -> None:
    """Do it."""
    site = Site.open(arguments.config)
    making = making_of(arguments)
    if arguments.from_csv is not None:
        if arguments.name is not None:
            raise CommandError("give a NAME or --from-csv, not both")
        people = people_in(arguments.from_csv, person_of(arguments, "X"))
    elif arguments.name is not None:
        people = [person_of(arguments, arguments.name)]
    else:
        raise CommandError("whose package? Give a NAME, or --from-csv FILE")
    make_packages(site, making, people)


def make_packages(site: Site, making: Making, people: list[Person]) -> None:
    """Make a package for each, or for nobody if it can be known before that one cannot be made."""
    if not making.force:
        for path in (path for person in people for path in making.paths(person)):
            if os.path.lexists(path):
                raise CommandError(f"{path.name} is in this folder already; --force replaces it")
    if not site.encrypted():
        _without_tls(site, making, people)
        return
    authority, register = site.authority(), site.register()
    banned = [person.name for person in people if register.is_banned(person.name)]
    if banned:
        raise Banned(f"{', '.join(banned)}: banned; 'takyctl unban NAME' lets the name have certificates again")
    connection = site.connection(authority)
    # First: without them, a certificate would let its owner hear everybody who is in no group.
    give_groups(site.settings, {person.name: person.groups for person in people if person.groups})
    for person in people:
        _make(site, authority, connection, making, person)
    site.write_crl(authority)


def _make(site: Site, authority: Authority, connection: Connection, making: Making, person: Person) -> None:
    key = make_key()
    certificate = authority.sign_client(person.name, key.public_key(), now(), person.days)
    keystore = client_keystore(person.name, key, certificate, authority.chain, making.password)
    package = connection_package(connection, Identity(person.name, keystore, making.password), itak=person.itak)
    # First the register: nobody shall have a certificate that cannot be taken away.
    site.register().add(certificate, Details(groups=person.groups))
    contents = {".zip": (package, PRIVATE)}
    if making.dump_pem:
        contents |= {
            ".crt": (certificate.public_bytes(Encoding.PEM), PUBLIC),
            ".key": (key_pem(key), PRIVATE),
            ".p12": (keystore, PRIVATE),
        }
    for path in making.paths(person):
        _write(path, *contents[path.suffix], making.force)
    kind = "iTAK, TAK Aware" if person.itak else "ATAK, WinTAK"
    end = certificate.not_valid_after_utc
    print(f"{person.name}.zip  for {kind}; {connection.host}:{connection.port}, until {end:%Y-%m-%d}")


def _without_tls(site: Site, making: Making, people: list[Person]) -> None:
    if making.dump_pem:
        raise CommandError(
            f"{site.name}: the site serves without TLS, so there are no certificates; leave --dump_pem out"
        )
    for person in people:
        package = plain_package(site.settings.hostname, site.host(), site.port(), itak=person.itak)
        _write(making.paths(person)[0], package, PRIVATE, making.force)
        print(f"{person.name}.zip  {site.host()}:{site.port()}, without TLS and without a certificate")


def _write(path: Path, content: bytes, mode: int, force: bool) -> None:
    if force:
        replace_file(path, content, mode)
    else:
        write_new(path, content, mode)


def making_of(arguments: argparse.Namespace) -> Making:
    """Check how packages shall be made."""
    return Making(check_password(arguments.p12_pw), arguments.dump_pem, arguments.force, Path.cwd())


def person_of(arguments: argparse.Namespace, name: str) -> Person:
    """Check for whom."""
    groups = tuple(_group(text) for text in arguments.group or ())
    return Person(check_name(name), groups, _days(arguments.days), arguments.is_itak)


def people_in(path: Path, default: Person) -> list[Person]:
    """Read a list of people; what a line leaves out is as the command line says.

    Raises:
        CommandError: something in it is wrong; the text names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, strict=True)
            columns = [name.strip().lower() for name in lines.fieldnames or ()]
            if "name" not in columns or not set(columns) <= set(COLUMNS) or len(columns) != len(set(columns)):
                raise CommandError(f"{path}: the first line has to be {','.join(COLUMNS)}; all but name may be missing")
            lines.fieldnames = columns
            found: dict[str, Person] = {}
            for row in lines:
                where = f"{path}, line {lines.line_num}"
                person = _person(row, default, where)
                if person.name in found:
                    raise CommandError(f"{where}: {person.name} is in the list twice")
                found[person.name] = person
                if len(found) > MAX_PEOPLE:
                    raise CommandError(f"{path}: more than {MAX_PEOPLE} people; make several lists")
    except UnicodeDecodeError as error:
        raise CommandError(f"{path}: not UTF-8 text; save it as 'CSV UTF-8'") from error
    except csv.Error as error:
        raise CommandError(f"{path}: not a CSV file: {error}") from error
    if not found:
        raise CommandError(f"{path}: nobody is in the list")
    return list(found.values())


def _person(row: dict[str, str | None], default: Person, where: str) -> Person:
    if None in row:
        raise CommandError(f"{where}: more fields than the first line has; put what holds a comma into quotes")
    texts = {key: (value or "").strip() for key, value in row.items()}
    try:
        person = replace(default, name=check_name(texts["name"]))
        if texts.get("groups"):
            person = replace(person, groups=tuple(_group(text) for text in texts["groups"].split(";")))
        if texts.get("days"):
            person = replace(person, days=_days(int(texts["days"]) if texts["days"].isascii() else 0))
        if texts.get("itak"):
            word = texts["itak"].lower()
            if word not in _YES | _NO:
                raise CommandError(f"itak is {word!r}; allowed: yes or no")
            person = replace(person, itak=word in _YES)
    except ValueError:
        raise CommandError(
            f"{where}: days is {texts['days']!r}; allowed: a whole number from 1 to {MAX_DAYS}"
        ) from None
    except (EnrollmentError, CommandError) as error:
        raise CommandError(f"{where}: {error}") from error
    return person


def _group(text: str) -> str:
    name = text.strip()
    if not 0 < len(name) <= MAX_GROUP or not name.isprintable():
        raise CommandError(f"the group {text!r}; allowed: 1 to {MAX_GROUP} printable characters")
    return name


def _days(days: int) -> int:
    if not 1 <= days <= MAX_DAYS:
        raise CommandError(f"--days {days}: allowed: 1 to {MAX_DAYS}")
    return days
