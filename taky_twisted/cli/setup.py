"""``takyctl setup``: make a site."""

from __future__ import annotations

import argparse
import shlex
import socket
from collections.abc import Callable
from pathlib import Path

from taky_twisted.cli.commands import CommandError, Parser, Verbs, absolute, add_verb, note
from taky_twisted.cli.site import Site, now
from taky_twisted.cli.site_maker import Layout, Wishes, make_site
from taky_twisted.config import parse_address, parse_host
from taky_twisted.enrollment.keystores import PASSWORD, check_password

MORE = """\
Makes taky.conf, an authority, the server's certificate for every name and
address given, what phones need to trust it, and the folder for what the server
keeps. Nothing is ever overwritten. Give every name and address that anybody
uses to reach the server; the first --public-ip (else the first --host) is what
phones are told.

  takyctl setup --host tak.example.org --public-ip 203.0.113.5 mysite
"""


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "setup", run, "make a site", MORE)
    parser.add_argument("--host", action="append", metavar="NAME", help="name of the server; may be repeated")
    parser.add_argument(
        "--public-ip",
        action="append",
        metavar="ADDRESS",
        help="address or name by which clients come from outside; may be repeated",
    )
    parser.add_argument("--bind-ip", default="0.0.0.0", metavar="IP", help="listen on this address only [%(default)s]")
    parser.add_argument("--no-ssl", action="store_true", help="serve everybody, without TLS and without certificates")
    parser.add_argument("--p12_pw", default=PASSWORD, metavar="PW", help="password of the trust store [%(default)s]")
    parser.add_argument("--user", metavar="USER", help="whom the files shall belong to: as whom the server runs")
    _add_own(parser)
    parser.add_argument(
        "path", nargs="?", metavar="PATH", type=Path, help="folder of the site; else /etc/taky and /var/taky"
    )


def _add_own(parser: Parser) -> None:
    own = parser.add_argument_group("certificates of your own")
    own.add_argument("--ca-cert", type=Path, metavar="FILE", help="your authority, and those above it (PEM)")
    own.add_argument("--ca-key", type=Path, metavar="FILE", help="its key, not encrypted")
    own.add_argument(
        "--server-cert", type=Path, metavar="FILE", help="publicly trusted certificate with its chain, for port 8446"
    )
    own.add_argument("--server-key", type=Path, metavar="FILE", help="its key")
    own.add_argument(
        "--server-cert-everywhere",
        action="store_true",
        help="show it on 8089 and 8443, too, and make phones trust its root",
    )


def run(arguments: argparse.Namespace) -> None:
    """Do it."""
    wishes = wishes_of(arguments)
    layout = Layout.of_system() if arguments.path is None else Layout.of_folder(absolute(arguments.path))
    made = make_site(layout, wishes, now())
    for warning in made.warnings:
        note(warning)
    site = Site.open(str(layout.conf))
    conf = shlex.quote(str(layout.conf))
    print(f"The site is made: {layout.conf}")
    print(f"  clients connect to  {site.host()}:{site.port()}" + ("" if wishes.encrypted else "  (without TLS)"))
    print(f"  its data            {layout.data}")
    if made.authority is not None:
        print(f"  its certificates    {layout.ssl}")
        print("Keep ca.key there secret, and make a backup: takyctl backup")
    print("")
    print("Next:")
    print("  a package for somebody's phone:")
    print(f"    takyctl -c {conf} build_client NAME")
    print("  the server:")
    print(f"    twistd -n taky --config {conf}")
    _notes(site, wishes)


def wishes_of(arguments: argparse.Namespace) -> Wishes:
    """Check the command line."""
    for one, other in (("ca_cert", "ca_key"), ("server_cert", "server_key")):
        if (getattr(arguments, one) is None) != (getattr(arguments, other) is None):
            names = [f"--{name.replace('_', '-')}" for name in (one, other)]
            raise CommandError(f"{names[0]} and {names[1]} belong together; give both")
    if arguments.server_cert_everywhere and arguments.server_cert is None:
        raise CommandError("--server-cert-everywhere needs --server-cert and --server-key")
    if arguments.no_ssl and (arguments.ca_cert or arguments.server_cert):
        raise CommandError("--no-ssl makes a site without certificates; leave those options out, or --no-ssl")
    public = tuple(_checked("--public-ip", parse_host, text) for text in arguments.public_ip or ())
    hosts = tuple(_checked("--host", parse_host, text) for text in arguments.host or ())
    return Wishes(
        hosts=hosts or (own_name(),),
        public=public,
        bind_ip=_checked("--bind-ip", parse_address, arguments.bind_ip),
        encrypted=not arguments.no_ssl,
        password=_password(arguments.p12_pw),
        owner=arguments.user,
        ca_certificate=_absolute(arguments.ca_cert),
        ca_key=_absolute(arguments.ca_key),
        server_certificate=_absolute(arguments.server_cert),
        server_key=_absolute(arguments.server_key),
        everywhere=arguments.server_cert_everywhere,
    )


def _password(text: str) -> str:
    check_password(text)
    if text != text.strip():
        raise CommandError(
            "--p12_pw: a space at the beginning or the end is lost in taky.conf; choose another password"
        )
    return text


def _notes(site: Site, wishes: Wishes) -> None:
    if not wishes.encrypted:
        note("without TLS everybody who reaches the server hears and says what he likes; use a trusted network only")
    if site.host() == site.settings.hostname and not wishes.public:
        note(f"phones are told to connect to '{site.host()}'; if they cannot find that name, give --public-ip, too")
    elif site.host() != wishes.public[0]:
        note(f"phones cannot be told an IPv6 address, so they are told '{site.host()}'; put an IPv4 --public-ip first")
    if wishes.bind_ip == "0.0.0.0" and any(":" in address for address in wishes.public):
        note("the server listens on IPv4 only; --bind-ip :: (bind_ip in taky.conf) listens on IPv6, too")
    if wishes.server_certificate is not None and not wishes.everywhere:
        note("the certificate of --server-cert is for the enrollment port, 8446; 8089 and 8443 show the site's own")


def _checked(option: str, parse: Callable[[str], str], text: str) -> str:
    try:
        return parse(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!r}: {error}") from error


def own_name() -> str:
    """Name this machine, as it calls itself."""
    try:
        return parse_host(socket.gethostname())
    except ValueError:
        return "taky.local"


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else absolute(path)
