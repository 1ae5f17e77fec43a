"""``takyctl users``: who may come with a password, and who is in which groups."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from typing import Any

from taky_twisted.cli.commands import CommandError, Parser, Verbs, add_socket, add_verb
from taky_twisted.cli.running import Said
from taky_twisted.cli.site import Site
from taky_twisted.cli.site_accounts import SiteAccounts
from taky_twisted.cli.status import table
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.names import check_name
from taky_twisted.identity.certificates import printable
from taky_twisted.identity.errors import AccountError
from taky_twisted.identity.passwords import MAX_BYTES, check_password, make_password

MORE = """\
An account has a name, groups and, if it is to be used without a certificate, a
password. Certificates of that name are in the same groups. What is changed
counts at once, also for who is connected.

  takyctl -c mysite/taky.conf users add "Jörg Müller" --group Red
  takyctl -c mysite/taky.conf users passwd "Jörg Müller" --generate
  takyctl -c mysite/taky.conf users groups "Jörg Müller" --in Red --out Red --out HQ
  takyctl -c mysite/taky.conf users list

Without --generate or --password-stdin you are asked for the password.
"""
ACTIONS = (
    ("add", "make an account"),
    ("passwd", "give an account another password"),
    ("list", "list all accounts"),
    ("remove", "forget an account; certificates of that name count as before"),
    ("groups", "put an account into other groups, or make it an administrator"),
    ("enable", "let an account's password count again"),
    ("disable", "let an account's password and access tokens not count"),
)


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "users", run, "make accounts with passwords and groups", MORE)
    actions = parser.add_subparsers(dest="action", title="actions", metavar="ACTION", parser_class=Parser)
    for name, summary in ACTIONS:
        action = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name != "list":
            action.add_argument("name", metavar="NAME", help="the account, in whatever case")
        if name in ("add", "passwd"):
            _add_password(action, name == "add")
        if name in ("add", "groups"):
            _add_groups(action)
        if name == "groups":
            action.add_argument("--no-admin", dest="admin", action="store_false", help="it is no administrator")
            action.set_defaults(admin=None)
        add_socket(action)


def run(arguments: argparse.Namespace) -> None:
    """Do what the action says."""
    if arguments.action is None:
        raise CommandError(f"say what to do: {', '.join(name for name, _ in ACTIONS)}")
    site = Site.open(arguments.config)
    accounts = SiteAccounts(site.settings, arguments.socket)
    if arguments.action == "list":
        _list(accounts.ask("list")["accounts"], arguments.json)
        return
    request: dict[str, Any] = {"name": arguments.name}
    if arguments.action in ("add", "groups"):
        request |= _groups_of(arguments)
    made_up = None
    if arguments.action in ("add", "passwd"):
        if arguments.action == "add":
            _check(site, arguments.name)
        request["password"], made_up = _password(arguments)
    said = accounts.ask(arguments.action, **request)
    said = {key: value for key, value in said.items() if key not in ("v", "ok")}
    if arguments.json:
        print(json.dumps(said | ({"new_password": made_up} if made_up is not None else {})))
        return
    print(_sentence(arguments.action, said))
    if made_up is not None:
        print(f"Password: {made_up}")


def _add_password(parser: Parser, may_be_none: bool) -> None:
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    parser.add_argument("--generate", action="store_true", help="make up a password, and print it")
    if may_be_none:
        parser.add_argument("--no-password", action="store_true", help="certificates only: the account has just groups")


def _add_groups(parser: Parser) -> None:
    parser.add_argument("--group", action="append", default=[], metavar="GROUP", help="speaks to it and hears it")
    parser.add_argument("--in", dest="ins", action="append", default=[], metavar="GROUP", help="speaks to it")
    parser.add_argument("--out", dest="outs", action="append", default=[], metavar="GROUP", help="hears it")
    parser.add_argument("--admin", action="store_true", help="it may administer the server over HTTP")


def _groups_of(arguments: argparse.Namespace) -> dict[str, Any]:
    ins, outs = [*arguments.group, *arguments.ins], [*arguments.group, *arguments.outs]
    request: dict[str, Any] = {} if arguments.admin is None else {"admin": arguments.admin}
    if ins or outs or (arguments.action == "groups" and arguments.admin is None):
        request |= {"in": ins, "out": outs}  # none at all: the group of everybody
    return request


def _check(site: Site, name: str) -> None:
    """Find out before somebody has typed a password twice."""
    try:
        check_name(name)
        register = site.settings.ssl.cert_db
        if register is not None and register.exists() and site.register().is_banned(name):
            raise CommandError(f"{name} is banned; 'takyctl unban NAME' comes first")
    except EnrollmentError as error:
        raise CommandError(str(error)) from error


def _password(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """Get the password, and that which was made up."""
    chosen = (arguments.password_stdin, arguments.generate, getattr(arguments, "no_password", False))
    if sum(chosen) > 1:
        raise CommandError("take one of --password-stdin, --generate and --no-password")
    if chosen[2]:
        return None, None
    try:
        if arguments.generate:
            made_up = make_password()
            return made_up, made_up
        if arguments.password_stdin:
            return check_password(sys.stdin.readline(4 * MAX_BYTES).rstrip("\r\n")), None
        password = check_password(getpass.getpass("Password: "))
        if getpass.getpass("Once more: ") != password:
            raise CommandError("the two are not the same")
    except AccountError as error:
        raise CommandError(str(error)) from error
    except EOFError as error:
        raise CommandError("no password was typed; nothing was changed") from error
    return password, None


def _sentence(action: str, account: Said) -> str:
    name = printable(str(account.get("name", "")))
    if action == "remove":
        return f"{name} has no account any more"
    if action == "disable":
        return f"The password of {name} does not count any more; its certificates do ('takyctl kickban' revokes them)"
    facts = [_directions(account)]
    if not account.get("password"):
        facts.append("no password")
    if account.get("admin"):
        facts.append("administrator")
    if not account.get("enabled"):
        facts.append("disabled")
    return f"{name}: {'; '.join(facts)}"


def _directions(account: Said) -> str:
    ins, outs = (", ".join(map(printable, account.get(key, []))) or "none" for key in ("in", "out"))
    return f"groups {ins}" if ins == outs else f"speaks to {ins}, hears {outs}"


def _list(accounts: list[Said], as_json: bool) -> None:
    if as_json:
        print(json.dumps(accounts))
        return
    rows = [
        {
            "Name": printable(str(account["name"])),
            "Groups": _directions(account).removeprefix("groups "),
            "Password": "" if account["password"] else "none",
            "Admin": "yes" if account["admin"] else "",
            "State": "" if account["enabled"] else "disabled",
        }
        for account in accounts
    ]
    print("\n".join(table(rows)) if rows else "There are no accounts")
