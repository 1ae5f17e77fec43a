"""``takyctl renew`` and ``renew-server``: new certificates before the old ones end."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from taky_twisted.cli.build_client import add_options, make_packages, making_of, person_of
from taky_twisted.cli.commands import CommandError, Parser, Verbs, add_verb, note
from taky_twisted.cli.site import Site, now
from taky_twisted.cli.site_maker import key_pem
from taky_twisted.config import parse_host
from taky_twisted.enrollment.authority import DAYS, MAX_DAYS, alternative_names, make_key
from taky_twisted.enrollment.names import check_name
from taky_twisted.enrollment.register import SERVER
from taky_twisted.files import PRIVATE, PUBLIC, replace_file
from taky_twisted.identity.cert_db import name_key
from taky_twisted.identity.credentials import Source, load_certificates
from taky_twisted.identity.errors import EndpointError

RENEW_MORE = """\
Makes a new key, certificate and package for NAME, as build_client does; the
certificate from before stays good until it expires, so there is no hurry on
the phone.
"""
SERVER_MORE = """\
Makes a new key and certificate for the server, for the names and addresses of
the old one, those in taky.conf, and those given. The authority stays the same,
so no client has to do anything, and nobody is disconnected: a running server
shows the new certificate to whoever connects from then on.
"""


def add_to(verbs: Verbs) -> None:
    """Add the verbs."""
    parser = add_verb(verbs, "renew", run, "make somebody a new certificate and package", RENEW_MORE)
    parser.add_argument("name", metavar="NAME", help="who has one already")
    add_options(parser)
    parser = add_verb(verbs, "renew-server", run_server, "make the server a new certificate", SERVER_MORE)
    _add_names(parser)
    parser.add_argument("--days", type=int, default=DAYS, help="how long it is valid [%(default)s]")


def _add_names(parser: Parser) -> None:
    parser.add_argument("--host", action="append", metavar="NAME", help="one more name; may be repeated")
    parser.add_argument("--public-ip", action="append", metavar="ADDRESS", help="one more address; may be repeated")


def run(arguments: argparse.Namespace) -> None:
    """Renew a client's."""
    site = Site.open(arguments.config)
    name = check_name(arguments.name)
    held = [record for record in site.register().records() if name_key(record.name) == name_key(name)]
    if not held:
        raise CommandError(f"the register has no certificate of {name}; 'takyctl build_client' makes the first")
    if arguments.group is None:
        arguments.group = list(held[-1].groups)
    make_packages(site, making_of(arguments), [person_of(arguments, name)])


def run_server(arguments: argparse.Namespace) -> None:
    """Renew the server's."""
    site = Site.open(arguments.config)
    if not 1 <= arguments.days <= MAX_DAYS:
        raise CommandError(f"--days {arguments.days}: allowed: 1 to {MAX_DAYS}")
    names = [*site.server_names(), *_given(arguments)]
    renew_server(site, names, arguments.days)


def renew_server(site: Site, names: list[str], days: int = DAYS) -> None:
    """Make a new certificate, for more names than the old one."""
    ssl = site.settings.ssl
    if not site.encrypted():
        raise CommandError(f"{site.name}: the site serves without TLS, so its server has no certificate")
    if ssl.cert is None:
        raise CommandError(f"{site.name}: [ssl] cert names no file; set it")
    authority = site.authority()
    try:
        old = load_certificates(Source("[ssl] cert", str(ssl.cert)))[0]
    except EndpointError as error:
        note(f"the old certificate cannot be read, so its names are not taken over: {error}")
    else:
        if old.issuer != authority.certificate.subject:
            raise CommandError(
                f"{ssl.cert} is not of the site's authority; renew it where it comes from, the server reads it again"
                " by itself"
            )
        names = [*names, *alternative_names(old)]
    key = make_key()
    certificate = authority.sign_server(list(dict.fromkeys(names)), key.public_key(), now(), days)
    site.register().add(certificate, SERVER)
    shown = [certificate, *(each for each in authority.chain if each.subject != each.issuer)]
    content = key_pem(key), b"".join(each.public_bytes(Encoding.PEM) for each in shown)
    _replace_both(ssl.key or ssl.cert, ssl.cert, *content)
    end = certificate.not_valid_after_utc
    print(f"{ssl.cert}  valid until {end:%Y-%m-%d}, for {', '.join(alternative_names(certificate))}")
    print("A running server shows it to new connections within 2 seconds.")


def _replace_both(key_path: Path, certificate_path: Path, key: bytes, certificate: bytes) -> None:
    """Replace key and certificate; if the second fails, the first is put back."""
    if key_path.resolve() == certificate_path.resolve():
        replace_file(key_path, key + certificate, PRIVATE)
        return
    old = key_path.read_bytes() if os.path.exists(key_path) else None
    replace_file(key_path, key, PRIVATE)
    try:
        replace_file(certificate_path, certificate, PUBLIC)
    except OSError:
        if old is not None:
            replace_file(key_path, old, PRIVATE)
        raise


def _given(arguments: argparse.Namespace) -> list[str]:
    names = [*(arguments.host or ()), *(arguments.public_ip or ())]
    try:
        return [parse_host(name) for name in names]
    except ValueError as error:
        raise CommandError(f"--host or --public-ip: {error}") from error
