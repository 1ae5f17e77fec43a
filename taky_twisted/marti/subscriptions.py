"""Who is connected, as the server sees it.

Source: TAK Server ``sync/api/SubscriptionApi.java``; every member is there and has its type, because CloudTAK checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from taky_twisted.identity.principal import Principal
from taky_twisted.marti.contacts import ANONYMOUS_NAME
from taky_twisted.marti.errors import MartiError, NoSuchThing
from taky_twisted.marti.groups import spell_groups
from taky_twisted.marti.long_lists import enveloped_list
from taky_twisted.marti.replies import Envelope, Reply, date
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route
from taky_twisted.marti.site import ServerInfo
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription

SUBSCRIPTION_INFO = "SubscriptionInfo"
_PROTOCOLS = {"ssl": "tls", "taktls": "tls", "WebSocket port": "WebSockets"}
_NOT_MEASURED = dict.fromkeys(
    (
        "appFramerate",
        "battery",
        "batteryStatus",
        "batteryTemp",
        "deviceDataRx",
        "deviceDataTx",
        "heapCurrentSize",
        "heapFreeSize",
        "heapMaxSize",
        "deviceIPAddress",
        "storageAvailable",
        "storageTotal",
    ),
    "",
)
"""What a device may tell about itself; here it is not asked."""


class SubscriptionsArea:
    """``/Marti/api/subscriptions`` and ``/Marti/api/subscription``."""

    def __init__(self, clock: IReactorTime, router: Router, info: ServerInfo) -> None:
        self._clock, self._router, self._info = clock, router, info
        self._created = date(clock.seconds())[:10]

    @route("/Marti/api/subscriptions/all")
    async def all(self, request: MartiRequest) -> Reply:
        """List the connections of whom the caller hears."""
        by_uid = (request.arguments.one("sortBy") or "").upper() == "UID"
        key: Callable[[Subscription], tuple[str, str]] = _by_uid if by_uid else _by_callsign
        down = (request.arguments.one("direction") or "").upper() == "DESCENDING"
        found = sorted(self._visible(request.principal), key=key, reverse=down)
        entries = (self._info_of(subscription, request) for subscription in found)
        return await enveloped_list(self._clock, request.hold, SUBSCRIPTION_INFO, entries, self._info.node_id)

    @route("/Marti/api/subscription/<path:uid>")
    def one(self, request: MartiRequest, uid: str) -> Envelope:
        """Show one connection, by its own uid or by that of its client."""
        for subscription in self._visible(request.principal):
            if uid in (_name(subscription), _client(subscription)):
                return Envelope(SUBSCRIPTION_INFO, self._info_of(subscription, request))
        raise NoSuchThing("there is no such subscription")

    @route("/Marti/api/subscriptions/add", "POST", access=Access.ADMIN)
    @route("/Marti/api/subscriptions/delete/<path:uid>", "DELETE", access=Access.ADMIN)
    @route("/Marti/api/subscriptions/incognito/<path:uid>", "POST", access=Access.ADMIN)
    @route("/Marti/api/subscriptions/<path:uid>/filter", "PUT", "DELETE", access=Access.ADMIN)
    def administer(self, request: MartiRequest, **found: str) -> Reply:
        """Look after others' connections."""
        raise MartiError(501, "this server's subscriptions are not administered over HTTP")

    def _visible(self, principal: Principal) -> list[Subscription]:
        return [
            subscription
            for subscription in self._router.subscriptions
            if subscription.reports
            and not subscription.principal.groups_in.isdisjoint(principal.groups_out)
            and (not subscription.incognito or subscription.principal.same_as(principal))
        ]

    def _info_of(self, subscription: Subscription, request: MartiRequest) -> dict[str, Any]:
        contact, principal = subscription.primary, subscription.principal
        host, port, protocol = _place(subscription)
        seen = int(max(subscription.sink_heard, contact.seen if contact is not None else 0) * 1000)
        client, _, version = (contact.takv if contact is not None else "").partition(":")
        return {
            "dn": f"CN={principal.certificate.common_name}" if principal.certificate is not None else "",
            "callsign": contact.callsign if contact is not None and contact.callsign else _name(subscription),
            "clientUid": _client(subscription),
            "lastReportMilliseconds": seen,
            "lastReportDiffMilliseconds": max(0, int(self._clock.seconds() * 1000) - seen) if seen else 0,
            "takClient": client,
            "takVersion": version,
            "username": principal.name or ANONYMOUS_NAME,
            "groups": spell_groups(_shared(principal, request.granted), principal, self._created),
            "role": contact.role if contact is not None else "",
            "team": contact.team if contact is not None else "",
            "ipAddress": host,
            "port": port,
            "pendingWrites": 0,
            "numProcessed": 0,
            "protocol": protocol,
            "xpath": "",
            "subscriptionUid": _name(subscription),
            **_NOT_MEASURED,
            "incognito": subscription.incognito,
            "handlerType": "",
        }


def _shared(theirs: Principal, own: Principal) -> Principal:
    """Say who somebody is to somebody else: what other groups there are is nobody's business."""
    names = own.groups_in | own.groups_out
    return Principal(theirs.name, theirs.groups_in & names, theirs.groups_out & names)


def _place(subscription: Subscription) -> tuple[str, str, str]:
    where, _, door = subscription.peer.partition(" at ")
    kind = door.partition(":")[0].rstrip(" 0123456789")
    port = where.rpartition(":")[2] if subscription.host else ""
    return subscription.host.strip("[]"), port, _PROTOCOLS.get(kind, kind)


def _name(subscription: Subscription) -> str:
    host, port, protocol = _place(subscription)
    return f"{protocol}:{host}:{port}" if host else subscription.peer


def _client(subscription: Subscription) -> str:
    return subscription.primary.uid if subscription.primary is not None else ""


def _by_callsign(subscription: Subscription) -> tuple[str, str]:
    contact = subscription.primary
    return (contact.callsign if contact is not None else "") or _name(subscription), _client(subscription)


def _by_uid(subscription: Subscription) -> tuple[str, str]:
    return _client(subscription), _name(subscription)
