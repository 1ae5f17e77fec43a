"""``takyctl up``: make a site if there is none, start its server here, and see whether it works."""

from __future__ import annotations

import argparse
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from taky_twisted.cli.checks import Finding
from taky_twisted.cli.commands import CommandError, Verbs, add_verb, note
from taky_twisted.cli.doctor import finding_lines
from taky_twisted.cli.running import NotRunning, RunningServer
from taky_twisted.cli.self_test import BEHIND_NAT, SelfTest, throw_away_context
from taky_twisted.cli.setup import own_name
from taky_twisted.cli.site import Site, now
from taky_twisted.cli.site_maker import Layout, Wishes, make_site
from taky_twisted.config import parse_host
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.errors import EndpointError

START_SECONDS = 30.0
STOP_SECONDS = 10.0
"""More than a server takes that was told to stop."""
POLL_SECONDS = 0.1
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where one reaches a server that listens everywhere."""
MORE = """\
In a folder without a site (the current one, if none is named) this makes one.
Then the server runs in the foreground, and a client that is thrown away tries
it: first from this machine, then by the public address. Control-C stops it.

  takyctl up --public 203.0.113.5
"""


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "up", run, "make a site if need be, start it, and test it", MORE)
    parser.add_argument("--public", metavar="ADDRESS", help="address or name by which clients come from outside")
    parser.add_argument("path", nargs="?", type=Path, default=Path(), metavar="PATH", help="the site's folder [.]")


def run(arguments: argparse.Namespace) -> None:
    """Do all of it; the exit status is the server's."""
    layout = Layout.of_folder(arguments.path.absolute())
    conf = Path(arguments.config).absolute() if arguments.config is not None else layout.conf
    if not conf.exists():
        if arguments.config is not None:
            raise CommandError(f"{conf}: there is no such file")
        make_site(layout, wishes_of(arguments.public), now())
        print(f"The site is made: {conf}", flush=True)
    site = Site.open(str(conf))
    if arguments.public not in (None, site.host(), site.settings.public_ip):
        note(f"this site tells its clients to connect to {site.host()}; public_ip in {conf} changes that")
    server = subprocess.Popen([sys.executable, "-m", "taky_twisted.cli.taky", "-c", str(conf)])
    before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        for finding in tested(site, server):
            print("\n".join(finding_lines(finding)), flush=True)
        print(f"The server runs; 'takyctl -c {conf} build_client NAME' makes a package for a phone.", flush=True)
        status = server.wait()
    except KeyboardInterrupt:
        status = _interrupted(server)
    except BaseException:
        server.terminate()
        server.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if status:
        raise SystemExit(status)


def _interrupted(server: subprocess.Popen[Any]) -> int:
    """Wait for a server that the terminal told to stop, as it told us; end it if nobody told it."""
    try:
        return server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.terminate()
        return server.wait()


def wishes_of(public: str | None) -> Wishes:
    """Say what a new site is like: an address is how clients come, a name is what the server is called."""
    if public is None:
        raise CommandError("there is no site yet: say by which address or name clients come, --public ADDRESS")
    try:
        host = parse_host(public)
    except ValueError as error:
        raise CommandError(f"--public {public!r}: {error}") from error
    try:
        version = ip_address(host).version
    except ValueError:
        return Wishes(hosts=(host,))
    return Wishes(hosts=(own_name(),), public=(host,), bind_ip="0.0.0.0" if version == 4 else "::")


def tested(site: Site, server: subprocess.Popen[Any]) -> Iterator[Finding]:
    """Wait until the server answers, and try it as clients do.

    Raises:
        SystemExit: the server has ended; it has said why.
        CommandError: it does not answer.
    """
    doors = _started(site, server)["doors"]
    context: ssl.SSLContext | None = None
    if any(door["tls"] for door in doors):
        try:
            context = throw_away_context(site, now())
        except (CommandError, EnrollmentError, EndpointError) as error:
            yield Finding("note", f"it cannot be tested: no certificate can be made for that ({error})")
            return
    yield from _rounds(doors, context)
    host = site.host()
    if host not in ("localhost", "127.0.0.1"):
        for finding in _rounds(doors, context, host):
            yield finding if finding.level == "ok" else replace(finding, level="warning", advice=BEHIND_NAT)


def _started(site: Site, server: subprocess.Popen[Any]) -> dict[str, Any]:
    running = RunningServer.of(site.settings, None)
    end = time.monotonic() + START_SECONDS
    while True:
        status = server.poll()
        if status is not None:
            raise SystemExit(status or 1)
        try:
            return running.ask("status")
        except NotRunning:
            if time.monotonic() > end:
                raise CommandError(f"the server does not answer within {START_SECONDS:g} seconds") from None
            time.sleep(POLL_SECONDS)


def _rounds(doors: list[dict[str, Any]], context: ssl.SSLContext | None, host: str | None = None) -> Iterator[Finding]:
    """Try the first door for events and the first for files; from this machine, or by another address."""
    for what in ("CoT", "Marti"):
        usable = [door for door in doors if door["what"] == what and door["port"] is not None]
        if not usable:
            yield Finding("note", f"there is no {what} door with a port, so that is not tested")
            continue
        door = max(usable, key=lambda door: bool(door["tls"]))
        tls = context if door["tls"] else None
        if tls is not None and host is None:
            tls.check_hostname = False  # it is us, whatever we are called from outside
        elif tls is not None:
            tls.check_hostname = True
        test = SelfTest(host or LOOPBACK.get(door["host"], door["host"]), tls)
        yield test.events(door["port"]) if what == "CoT" else test.files(door["port"])
