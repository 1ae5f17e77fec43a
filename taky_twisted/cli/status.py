"""``takyctl status``: who is connected."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from taky_twisted.cli.commands import Verbs, add_socket, add_verb
from taky_twisted.cli.running import RunningServer, Said
from taky_twisted.cli.site import settings_of
from taky_twisted.identity.certificates import printable

MORE = """\
Groups, backlog (bytes that wait for a slow reader) and dropped (map items that
were overtaken by newer ones) are shown where there are any; -j has everything.
"""
EVERYBODY = ["__ANON__"]
_DAY, _HOUR, _MINUTE = 86400, 3600, 60

Row = dict[str, str]


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    add_socket(add_verb(verbs, "status", run, "show who is connected", MORE))


def run(arguments: argparse.Namespace) -> None:
    """Show it."""
    server = RunningServer.of(settings_of(arguments.config), arguments.socket)
    status = server.ask_taky({"cmd": "status"}) if server.is_takys else server.ask("status")
    if arguments.json:
        print(json.dumps({key: value for key, value in status.items() if key not in ("v", "ok")}))
    else:
        print("\n".join(lines(status, time.time())))


def lines(status: Said, now: float) -> list[str]:
    """Spell a status for people."""
    clients: list[dict[str, Any]] = status.get("clients", [])
    head = [f"Uptime: {human(status.get('uptime', -1))}", f"Num Clients: {len(clients)}"]
    others: list[dict[str, Any]] | None = status.get("nodes")
    if others is not None:
        named = ", ".join(_text(node.get("name")) for node in others)
        head.append(f"Other Nodes: {named}" if named else "Other Nodes: none is heard at the moment")
    return [*head, "", *table([_row(client, now) for client in clients])]


def table(rows: Sequence[Row]) -> list[str]:
    """Spell rows as a table; columns in which nothing stands are left out."""
    if not rows:
        return []
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    head = " | ".join(name.ljust(widths[name]) for name in columns).rstrip()
    ruler = "-+-".join("-" * widths[name] for name in columns)
    body = [" | ".join(row[name].ljust(widths[name]) for name in columns).rstrip() for row in rows]
    return [head, ruler, *body]


def human(seconds: float) -> str:
    """Spell a time span as taky does: ``1d 02h 03m 04.500s``."""
    days, rest = divmod(max(seconds, 0), _DAY)
    hours, rest = divmod(rest, _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    text = f"{int(hours):02d}h {int(minutes):02d}m {rest:06.3f}s"
    return f"{int(days)}d {text}" if days else text


def _row(client: dict[str, Any], now: float) -> Row:
    anonymous = client.get("anonymous") is True
    last = client.get("last_rx") or 0
    certificate = client.get("certificate") or {}
    return {
        "Callsign": "(anonymous)" if anonymous else _text(client.get("callsign")),
        "UID": "(anonymous)" if anonymous else _text(client.get("uid")),
        "Connected": human(now - (client.get("connected") or now)),
        "IP": _text(client.get("ip")) or "None",
        "LastRx": human(now - last) if last > 0 else "never",
        "Certificate": _text(certificate.get("name")),
        "Node": _text(client.get("node")),
        "Door": _text(client.get("door")),
        "Protocol": _text(client.get("protocol")),
        "Groups": _groups(client.get("active") or {}),
        "Backlog": str(client.get("backlog") or ""),
        "Dropped": str(client.get("dropped") or ""),
    }


def _groups(groups: dict[str, list[str]]) -> str:
    """Spell groups; who is in the one of everybody alone is not worth a word."""
    speaks, hears = groups.get("in", EVERYBODY), groups.get("out", EVERYBODY)
    if speaks == hears:
        return "" if speaks == EVERYBODY else _text(", ".join(speaks) or "none")
    return _text(f"in {', '.join(speaks) or 'none'}; out {', '.join(hears) or 'none'}")


def _text(value: object) -> str:
    return "" if value is None else printable(str(value))
