"""Who is connected, as ``takyctl status`` shows it: taky's members, and ours.

Source: taky 0.10, ``taky/cot/mgmt.py``, ``taky/cot/models/takuser.py`` (members and their spelling).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree.ElementTree import Element

from taky_twisted.cot import compose
from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import Principal
from taky_twisted.routing.directing import TEAMS
from taky_twisted.routing.nodes import Nodes
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
    node: str = ""
    """The other node that it is connected to; empty: this one."""


def connected(router: Router) -> Iterator[Seen]:
    """Look at every client's connection, on all nodes; monitors, multicast and the like are no clients."""
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
    if router.nodes is not None:
        yield from _elsewhere(router, router.nodes)


def nodes(router: Router) -> list[dict[str, Any]] | None:
    """List the other nodes of this server; None if it never has any."""
    if router.nodes is None:
        return None
    return [asdict(node) for node in sorted(router.nodes.bus.nodes, key=lambda node: node.name)]


def _elsewhere(router: Router, others: Nodes) -> Iterator[Seen]:
    for contact in router.contacts:
        for holder in contact.holders:
            if not holder.node or holder.primary is not contact or holder.speaker is None:
                continue
            yield Seen(
                state=StreamState(
                    address=holder.host.strip("[]"),
                    door=holder.speaker.peer.partition(" at ")[2],
                    protocol="",
                    began=holder.since,
                    heard=contact.seen,
                    events=0,
                    backlog=0,
                    dropped=0,
                    full=False,
                ),
                granted=holder.granted,
                active=holder.principal,
                uid=contact.uid,
                callsign=contact.callsign,
                team=contact.team,
                role=contact.role,
                report=contact.sa,
                incognito=holder.incognito,
                node=others.name(holder.node),
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
        "node": seen.node,
    }


def _detail(report: Event | None) -> Element:
    detail = compose.document(report).find("detail") if report is not None else None
    return Element("detail") if detail is None else detail


def _group(team: str) -> str:
    # taky prints a member of a Python enumeration, and takes a team that it does not know for Cyan.
    return f"Teams.{team.upper().replace(' ', '_')}" if team in TEAMS else "Teams.CYAN" if team else "None"
