"""``takyctl certs``: who has a certificate, and until when."""

from __future__ import annotations

import argparse
import json
from datetime import datetime, timedelta, timezone
from typing import Any

from taky_twisted.cli.commands import Verbs, add_verb
from taky_twisted.cli.site import Site, now
from taky_twisted.identity.cert_db import Record, name_key
from taky_twisted.identity.certificates import printable
from taky_twisted.identity.credentials import Source, load_certificates
from taky_twisted.identity.errors import EndpointError

SOON_DAYS = 30
MORE = f"""\
The next to expire comes first; what has expired or is revoked is shown with
--all, and all of somebody with NAME. From {SOON_DAYS} days before its end on, a
certificate is marked.
"""
_NEVER = datetime.max.replace(tzinfo=timezone.utc)


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "certs", run, "list certificates and when they expire", MORE)
    parser.add_argument("name", nargs="?", metavar="NAME", help="only those of this name, all of them")
    parser.add_argument("-a", "--all", action="store_true", help="also those that count no more")
    parser.add_argument("-s", "--serials", action="store_true", help="with serials, as 'kickban --serial' takes them")
    parser.add_argument("-j", "--json", action="store_true", help="answer in JSON")


def run(arguments: argparse.Namespace) -> None:
    """List them."""
    site, moment = Site.open(arguments.config), now()
    register = site.register()
    records = sorted(register.records(), key=lambda record: (record.expires or _NEVER, record.name))
    if arguments.name is not None:
        records = [record for record in records if name_key(record.name) == name_key(arguments.name)]
    banned = sorted(ban.name for ban in register.bans() if ban.until is None)
    shown = [
        record
        for record in records
        if arguments.all or arguments.name is not None or _state(record, moment) in ("valid", "expires soon")
    ]
    authority = _authority(site)
    if arguments.json:
        told: dict[str, Any] = {"certificates": [_told(record, moment) for record in records], "banned": banned}
        if authority is not None:
            told["authority_expires"] = f"{authority:%Y-%m-%dT%H:%M:%SZ}"
        print(json.dumps(told, ensure_ascii=False))
        return
    _print(shown, moment, arguments.serials or arguments.name is not None)
    if hidden := len(records) - len(shown):
        print(f"{hidden} more have expired or are revoked (--all)")
    if banned and arguments.name is None:
        print(f"Banned: {', '.join(banned)}")
    if authority is not None:
        print(f"The authority is valid until {authority:%Y-%m-%d}{_left(authority, moment)}")


def _print(records: list[Record], moment: datetime, serials: bool) -> None:
    if not records:
        print("No certificates")
        return
    table: list[tuple[str, ...]] = [("Expires", "State", "Kind", *(("Serial",) if serials else ()), "Name")]
    for record in records:
        expires = "?" if record.expires is None else f"{record.expires:%Y-%m-%d}"
        serial = (f"{record.serial:x}",) if serials else ()
        table.append((expires, _state(record, moment), record.kind or "client?", *serial, printable(record.name)))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]) - 1)]
    for row in table:
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]))


def _state(record: Record, moment: datetime) -> str:
    if record.revoked is not None:
        return "revoked"
    if record.expires is None:
        return "valid"
    if record.expires <= moment:
        return "expired"
    return "expires soon" if record.expires - moment < timedelta(days=SOON_DAYS) else "valid"


def _told(record: Record, moment: datetime) -> dict[str, Any]:
    dates = {"issued": record.issued, "expires": record.expires, "revoked": record.revoked}
    return {
        "name": record.name,
        "kind": record.kind,
        "state": _state(record, moment),
        "serial": record.serial_hex,
        "issuer": record.issuer,
        **{key: None if date is None else f"{date:%Y-%m-%dT%H:%M:%SZ}" for key, date in dates.items()},
        "groups": list(record.groups),
        "client_uid": record.client_uid,
    }


def _authority(site: Site) -> datetime | None:
    """Tell until when the site's authority is valid, if it can be read."""
    path = site.settings.ssl.ca
    if path is None:
        return None
    try:
        certificates = load_certificates(Source("[ssl] ca", str(path)))
    except EndpointError:
        return None
    return min(certificate.not_valid_after_utc for certificate in certificates)


def _left(end: datetime, moment: datetime) -> str:
    days = (end - moment).days
    if end <= moment:
        return ": it has expired, nobody can connect; make a new site"
    return f" ({days} days left: plan for a new site)" if days < SOON_DAYS * 12 else ""
