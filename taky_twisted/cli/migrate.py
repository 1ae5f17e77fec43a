"""``takyctl migrate``: take over a site of taky where it is, so that its phones go on as before."""

from __future__ import annotations

import argparse
import configparser
import shlex
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from taky_twisted.cli.commands import CommandError, Verbs, absolute, add_verb
from taky_twisted.cli.site import Site, now
from taky_twisted.cli.site_maker import CONF
from taky_twisted.config.conf_file import ConfFile
from taky_twisted.config.taky_conf import read_settings
from taky_twisted.enrollment.authority import Authority, alternative_name, alternative_names
from taky_twisted.enrollment.register import SERVER
from taky_twisted.identity.credentials import Source, load_credentials
from taky_twisted.identity.errors import EndpointError

MORE = """\
PATH is the folder of the site (/etc/taky for the system's), or its taky.conf.
All files of taky stay as they are, so that you can go back; what this server
needs beside them is added. --dry-run only says what is found.
"""
UNITS = Path("/etc/systemd/system")
SOON = timedelta(days=30)


@dataclass(frozen=True)
class Finding:
    """Something that the operator should know."""

    text: str
    good: bool = True
    stops: bool = False
    """It has to be mended first."""

    def __str__(self) -> str:
        return f"  {'!!' if self.stops else 'ok' if self.good else ' !'}  {self.text}"


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "migrate", run, "take over a site of taky", MORE)
    parser.add_argument("path", metavar="PATH", type=Path, help="the site's folder, or its taky.conf")
    parser.add_argument("--dry-run", action="store_true", help="look, and change nothing")


def run(arguments: argparse.Namespace) -> None:
    """Do it."""
    path = absolute(arguments.path)
    path = path / CONF if path.is_dir() else path
    site, findings = read_site(path)
    findings += look(site)
    print(f"Site of taky: {path}")
    for finding in findings:
        print(finding)
    if any(finding.stops for finding in findings):
        raise CommandError("mend what is marked with !! and try again; nothing was changed")
    if arguments.dry_run:
        print("Nothing was changed (--dry-run)")
        return
    if site.encrypted():
        take_over(site)
    conf = shlex.quote(str(path))
    print("")
    print("The site is ready. Start the server; phones need nothing new:")
    print(f"  twistd -n taky --config {conf}")
    if site.encrypted() and missing_names(site):
        print("A certificate of the server for all its names, from the same authority; no phone notices:")
        print(f"  takyctl -c {conf} renew-server")
    print("What is different now: the manual, 'Come from taky'.")


def read_site(path: Path) -> tuple[Site, list[Finding]]:
    """Read taky's configuration."""
    parser = configparser.ConfigParser(allow_no_value=True, interpolation=None, default_section="")
    try:
        parser.read_string(path.read_text("utf-8-sig"), str(path))
    except FileNotFoundError:
        raise CommandError(f"there is no {path}; name the folder with taky's taky.conf") from None
    except (configparser.Error, UnicodeError) as error:
        first = str(error).splitlines()[0]
        raise CommandError(f"{path}: not a configuration of taky: {first}") from error
    sections: dict[str, dict[str, str | None]] = {name: dict(parser.items(name)) for name in parser.sections()}
    findings = []
    site = Site(read_settings(ConfFile(sections, path, path.parent), path.parent))
    if site.settings.store_redis is not None:
        findings.append(
            Finding(
                f"[taky] redis: what is on the map stays in {site.settings.store}; what taky left there is taken in"
            )
        )
    if not sections.get("taky", {}).get("root_dir"):
        where = site.settings.data_dir.name
        findings.append(
            Finding(f"[taky] root_dir is not set: data goes to {where} where the server is started", good=False)
        )
    return site, findings


def look(site: Site) -> list[Finding]:
    """Look at everything that the server will use."""
    settings = site.settings
    doors = ", ".join([*settings.cot_doors(), *settings.marti_doors()])
    findings = [Finding(f"serves {doors}: CoT, and the data packages of taky_dps, in one process")]
    if _answers(settings.data_dir / "taky-mgmt.sock"):
        findings.append(Finding("taky is running; stop it first (systemctl stop taky)", good=False, stops=True))
    if site.encrypted():
        findings += _certificates(site)
    findings += _packages(site)
    units = [unit.name for unit in sorted(UNITS.glob("taky*.service"))]
    if units:
        findings.append(
            Finding(f"units of taky: {', '.join(units)}; disable them, 'takyctl systemd' makes one", good=False)
        )
    return findings


def missing_names(site: Site) -> list[str]:
    """Name what clients may call the server, and its certificate does not."""
    server = _server(site)
    held = set(alternative_names(server))
    return [name for name in site.server_names() if str(alternative_name(name).value) not in held]


def take_over(site: Site) -> None:
    """Add what this server needs beside taky's files."""
    register, server = site.register(), _server(site)
    register.create()
    if server.issuer == site.authority().certificate.subject:
        # From now on it is known whose it is: banning a client of the same name leaves it alone.
        register.add(server, SERVER)
    site.write_crl(site.authority())


def _certificates(site: Site) -> Iterator[Finding]:
    ssl, moment = site.settings.ssl, now()
    try:
        authority: Authority | None = site.authority()
    except (EndpointError, CommandError) as error:
        authority = None
        yield Finding(str(error), good=False, stops=True)
    try:
        server = _server(site)
    except EndpointError as error:
        yield Finding(str(error), good=False, stops=True)
        return
    if authority is not None:
        end = authority.certificate.not_valid_after_utc
        yield Finding(f"the authority, {ssl.ca}, is valid until {end:%Y-%m-%d}", good=end > moment + SOON)
    end = server.not_valid_after_utc
    yield Finding(f"the server's certificate, {ssl.cert}, is valid until {end:%Y-%m-%d}", good=end > moment + SOON)
    if missing := missing_names(site):
        yield Finding(f"the server's certificate is not for {', '.join(missing)}; see renew-server below", good=False)
    records = site.register().records()
    revoked = sum(record.revoked is not None for record in records)
    yield Finding(f"the register has {len(records)} certificates, {revoked} of them revoked")


def _packages(site: Site) -> Iterator[Finding]:
    meta = (site.settings.upload_path or site.settings.data_dir / "dp-user") / "meta"
    found = [path for path in meta.glob("*.json") if not path.is_symlink()]
    if found:
        yield Finding(f"{len(found)} data packages in {meta.parent} are taken over when the server starts")


def _server(site: Site) -> x509.Certificate:
    ssl = site.settings.ssl
    if ssl.cert is None:
        raise EndpointError(f"{site.name}: [ssl] cert names no file; set it")
    key = ssl.key or ssl.cert
    return load_credentials(Source("[ssl] key", str(key)), Source("[ssl] cert", str(ssl.cert)), ssl.key_pw).certificate


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(str(path))
        except OSError:
            return False
    return True
