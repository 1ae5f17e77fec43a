"""``takyctl kickban`` and ``unban``: take certificates away, and let a name have new ones."""

from __future__ import annotations

import argparse
import json
from difflib import get_close_matches
from pathlib import Path

from taky_twisted.cli.commands import CommandError, Verbs, add_socket, add_verb, note
from taky_twisted.cli.running import NotRunning, RunningServer
from taky_twisted.cli.site import Site
from taky_twisted.cli.site_accounts import set_enabled
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.cert_db import Record, ban_key, name_key
from taky_twisted.identity.errors import EndpointError

KICKBAN_MORE = """\
Revokes all certificates of NAME, also those that the register does not know;
NAME gets no new ones until 'unban'. The running server refuses them and ends
their connections. With --serial, one certificate is revoked and its name stays
free: for a phone that is lost while its owner stays.
"""
UNBAN_MORE = """\
NAME may have certificates again ('build_client', 'renew'). Those from before
stay revoked.
"""
MAX_SERIAL_DIGITS = 40


def add_to(verbs: Verbs) -> None:
    """Add the verbs."""
    parser = add_verb(verbs, "kickban", run, "revoke somebody's certificates", KICKBAN_MORE)
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="the name in the certificate, in any case; never a serial"
    )
    parser.add_argument("--serial", metavar="HEX", help="revoke only the certificate with this serial")
    add_socket(parser)
    parser = add_verb(verbs, "unban", run_unban, "let somebody have certificates again", UNBAN_MORE)
    parser.add_argument("name", metavar="NAME", help="as it was banned, in any case")
    add_socket(parser)


def run(arguments: argparse.Namespace) -> None:
    """Revoke."""
    if (arguments.name is None) == (arguments.serial is None):
        raise CommandError("give a NAME or --serial HEX, one of them")
    site = Site.open(arguments.config)
    register = site.register()
    if arguments.serial is not None:
        what = f"serial {arguments.serial}"
        revoked = register.revoke_serial(_serial(arguments.serial))
    else:
        what = name_key(arguments.name)
        if not what:
            raise CommandError("the name is empty")
        _hint(register.records(), what)
        revoked = register.revoke_name(what)
    _write_list(site)
    told = tell_server(site, arguments.socket, what if arguments.serial is None else None)
    if arguments.serial is None:
        _set_account(site, arguments.socket, what, enabled=False)
    if arguments.json:
        print(json.dumps({"revoked_sns": [record.serial for record in revoked]}))
    else:
        _print(what, revoked, banned=arguments.serial is None)
        print(told)


def run_unban(arguments: argparse.Namespace) -> None:
    """Unban."""
    site = Site.open(arguments.config)
    name = name_key(arguments.name)
    freed = site.register().unban(name)
    tell_server(site, arguments.socket)
    _set_account(site, arguments.socket, name, enabled=True)
    if arguments.json:
        print(json.dumps({"unbanned": freed}))
    elif freed:
        print(f"{name} may have certificates again; those from before stay revoked")
    else:
        print(f"{name} is not banned")


def tell_server(site: Site, socket: Path | None, name: str | None = None) -> str:
    """Let the running server, if there is one, act on the register at once.

    Args:
        site: what was changed.
        socket: the server's, if the operator named it.
        name: whose connections end, whatever the register knows of their certificates.

    Returns:
        What to tell the operator.
    """
    server = RunningServer.of(site.settings, socket)
    try:
        if server.is_takys:
            # A name is all that taky's protocol knows.
            server.ask_taky({"cmd": "ping"} if name is None else {"cmd": "kickban", "user": name})
            return "The running server knows, and has ended their connections."
        dropped = server.ask("kickban", **({} if name is None else {"name": name}))["dropped"]
    except NotRunning:
        return "No server runs at the moment; when it does, it refuses them."
    except CommandError as error:
        note(f"the running server could not be told: {error}")
        return "A running server refuses them, and ends their connections, within 2 seconds."
    ended = f", and has ended {dropped} connection{'' if dropped == 1 else 's'}" if dropped else ""
    others = "" if site.settings.bus is None else "; the other nodes are told"
    return f"The running server knows{ended}{others}."


def _set_account(site: Site, socket: Path | None, name: str, *, enabled: bool) -> None:
    """Let the password of the name's account count or not, if it has one."""
    try:
        set_enabled(site.settings, name, enabled, socket)
    except CommandError as error:
        # The ban counts for passwords, too.
        note(f"whether {name} has an account is not known, and it was not {'en' if enabled else 'dis'}abled: {error}")


def _write_list(site: Site) -> None:
    try:
        site.write_crl(site.authority())
    except (CommandError, EndpointError, EnrollmentError, OSError) as error:
        # The register is what counts; an authority's key may well be kept elsewhere.
        note(f"the revocation list for other programs was not written: {error}")


def _hint(records: list[Record], name: str) -> None:
    names = {name_key(record.name) for record in records}
    if ban_key(name) not in map(ban_key, names):
        similar = get_close_matches(name, sorted(names), 3, 0.7)
        more = f"; did you mean {' or '.join(similar)}?" if similar else ""
        note(f"the register has no certificate of {name}{more}")


def _print(what: str, revoked: list[Record], *, banned: bool) -> None:
    if revoked:
        print(f"Revoked certificate SNs for {what}:")
        for record in revoked:
            print(f" - {record.serial_hex}" + ("" if banned else f"  {record.name}"))
    else:
        print(f"No certificate of {what} was left to revoke")
    if banned:
        print(f"{what} is banned; 'takyctl unban' lets the name have new certificates")


def _serial(text: str) -> int:
    digits = text.replace(":", "").removeprefix("0x").strip()
    try:
        serial = int(digits, 16) if len(digits) <= MAX_SERIAL_DIGITS and digits.isalnum() else 0
    except ValueError:
        serial = 0
    if serial <= 0:
        raise CommandError(
            f"--serial {text!r}: allowed: 1 to {MAX_SERIAL_DIGITS} hex digits, as 'takyctl certs NAME' shows"
        )
    return serial
