"""``takyctl``: make a site, give out certificates and take them away; one module for each verb."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import cast

from taky_twisted import __version__
from taky_twisted.cli import (
    backup,
    build_client,
    certs,
    doctor,
    invite,
    kickban,
    logs,
    migrate,
    renew,
    restore,
    setup,
    status,
    systemd,
    trace,
    up,
    users,
)
from taky_twisted.cli.commands import CommandError, Parser, Verbs
from taky_twisted.config import ConfigError
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.errors import EndpointError

_VERBS = (
    *(setup, build_client, users, invite, certs, kickban, renew, migrate, backup, restore),
    *(status, doctor, trace, logs, systemd, up),
)
_SIGINT = 130


def parser() -> Parser:
    """Make the parser of the whole command line."""
    made = Parser(
        prog="takyctl",
        usage="takyctl [-h] [-c FILE] [--version] VERB ...",
        description="Make and look after the site of a TAK server.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "-c", dest="config", metavar="FILE", help="the site's taky.conf; else ./taky.conf, else the system's"
    )
    made.add_argument("--version", action="version", version=f"takyctl version {__version__}")
    verbs = made.add_subparsers(
        dest="verb", metavar="VERB", prog="takyctl", parser_class=Parser, help=argparse.SUPPRESS
    )
    for module in _VERBS:
        module.add_to(cast(Verbs, verbs))
    # argparse's own list has the longer ones on lines of their own.
    listed = [f"  {name:<13} {verb.get_default('summary')}" for name, verb in verbs.choices.items()]
    made.epilog = "\n".join(["verbs:", *listed, "", "'takyctl VERB --help' says more about each."])
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    Args:
        arguments: those of the process by default.

    Raises:
        SystemExit: always if it cannot be done, with one line that says why and status 1.
    """
    made = parser()
    given = made.parse_args(arguments)
    if given.verb is None:
        made.print_usage(sys.stderr)
        raise SystemExit("takyctl: name a verb ('takyctl --help' lists them)")
    try:
        given.run(given)
    except (CommandError, ConfigError, EnrollmentError, EndpointError) as error:
        raise SystemExit(f"takyctl {given.verb}: {error}") from error
    except BrokenPipeError:
        # Somebody looks at the first lines only.
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:
        raise SystemExit(f"takyctl {given.verb}: {_where(error)}{error.strerror or error}") from error
    except KeyboardInterrupt:
        raise SystemExit(_SIGINT) from None


def _where(error: OSError) -> str:
    return "" if error.filename is None else f"{error.filename}: "


if __name__ == "__main__":
    main()
