"""Who is connected, as ``takyctl status`` shows it: taky's members, and ours.

Source: taky 0.10, ``taky/cot/mgmt.py``, ``taky/cot/models/takuser.py`` (members and their spelling).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from taky_twisted.cot import compose
from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import Principal
from taky_twisted.routing.directing import TEAMS
from taky_twisted.routing.router import Router
from taky_twisted.routing.tak_stream import StreamState, TAKStream

_TAKV = ("device", "os", "version", "platform")


@dataclass(frozen=True, slots=True)
class Seen:
    """One connection at one moment. It is taken in the reactor's thread, and spelled in another."""

    state: StreamState
    granted: Principal
    """With all groups that it has."""
    active: Principal
    """With the groups that are switched on."""
    uid: str | None
    """None before it has said who it is."""
    callsign: str
    team: str
    role: str
    report: Event | None
    """Its last self-report that was for everybody."""
    incognito: bool


def connected(router: Router) -> Iterator[Seen]:
    """Look at every client's connection; monitors, multicast and the like are no clients."""
    for subscription in router.subscriptions:
        sink, contact = subscription.sink, subscription.primary
        if not isinstance(sink, TAKStream) or subscription.wants_everything:
            continue
        yield Seen(
            state=sink.state,
            granted=subscription.granted,
            active=subscription.principal,
            uid=contact.uid if contact is not None else None,
            callsign=contact.callsign if contact is not None else "",
            team=contact.team if contact is not None else "",
            role=contact.role if contact is not None else "",
            report=contact.sa if contact is not None else None,
            incognito=subscription.incognito,
        )


def takys(seen: Iterable[Seen], uptime: float) -> dict[str, Any]:
    """Spell a status with taky's members and no others."""
    clients = [_takys(each) for each in seen]
    return {"uptime": uptime, "num_clients": len(clients), "clients": clients}


def ours(seen: Iterable[Seen], uptime: float) -> dict[str, Any]:
    """Spell a status with taky's members and ours."""
    clients = [{**_takys(each), **_ours(each)} for each in seen]
    return {"uptime": uptime, "num_clients": len(clients), "clients": clients}


def _takys(seen: Seen) -> dict[str, Any]:
    state = seen.state
    client: dict[str, Any] = {"last_rx": state.heard, "num_rx": state.events, "connected": state.began}
    if seen.uid is None:
        return {**client, "anonymous": True}
    detail = _detail(seen.report)
    status, takv = detail.find("status"), detail.find("takv")
    return {
        **client,
        "ip": state.address,
        "uid": seen.uid,
        "callsign": seen.callsign,
        "group": _group(seen.team),
        "battery": status.get("battery") if status is not None else None,
        **{name: takv.get(name) if takv is not None else None for name in _TAKV},
    }


def _ours(seen: Seen) -> dict[str, Any]:
    state, certificate = seen.state, seen.granted.certificate
    return {
        "ip": state.address,
        "door": state.door,
        "protocol": state.protocol,
        "name": seen.granted.name,
        "certificate": certificate
        and {
            "name": certificate.common_name,
            "issuer": certificate.issuer,
            "serial": certificate.serial_hex,
        },
        "groups": {"in": sorted(seen.granted.groups_in), "out": sorted(seen.granted.groups_out)},
        "active": {"in": sorted(seen.active.groups_in), "out": sorted(seen.active.groups_out)},
        "team": seen.team,
        "role": seen.role,
        "incognito": seen.incognito,
        "backlog": state.backlog,
        "dropped": state.dropped,
        "full": state.full,
    }


def _detail(report: Event | None) -> Element:
    detail = compose.document(report).find("detail") if report is not None else None
    return Element("detail") if detail is None else detail


def _group(team: str) -> str:
    # taky prints a member of a Python enumeration, and takes a team that it does not know for Cyan.
    return f"Teams.{team.upper().replace(' ', '_')}" if team in TEAMS else "Teams.CYAN" if team else "None"
