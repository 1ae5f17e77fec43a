"""Who is there, and who was.

Sources: TAK Server ``network/ContactManagerApi.java`` and ``sync/api/ContactsApi.java``; ATAK-CIV
``android/http/rest/ServerContact.java``, which throws the whole list away because of one entry that lacks something;
CloudTAK asks for all contacts to see whether a certificate is good.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from taky_twisted.identity.principal import Principal
from taky_twisted.marti.errors import NotAllowed
from taky_twisted.marti.long_lists import bare_list, enveloped_list
from taky_twisted.marti.replies import Reply, date
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from taky_twisted.marti.site import ServerInfo
from taky_twisted.routing.contact import Contact
from taky_twisted.routing.router import Router

CLIENT_ENDPOINT = "com.bbn.marti.remote.ClientEndpoint"
ANONYMOUS_NAME = "anonymous"
"""The name of users of whom nothing is proved."""


class ContactsArea:
    """``/Marti/api/clientEndPoints`` and ``/Marti/api/contacts``."""

    def __init__(self, clock: IReactorTime, router: Router, info: ServerInfo) -> None:
        self._clock, self._router, self._info = clock, router, info

    @route("/Marti/api/clientEndPoints")
    async def client_endpoints(self, request: MartiRequest) -> Reply:
        """List who is and was connected; ATAK asks on each connection and shows them as contacts of the server."""
        arguments = request.arguments
        seconds = arguments.count("secAgo")
        groups = frozenset(arguments.words("group"))
        if not groups <= request.principal.groups_out:
            raise NotAllowed("you do not hear the group that you ask for")
        since = self._clock.seconds() - seconds if seconds else None
        contacts = [
            contact
            for contact in self._visible(request.principal)
            if (since is None or contact.seen >= since)
            and (contact.present or not arguments.flag("showCurrentlyConnectedClients"))
            and not (groups and groups.isdisjoint(contact.groups_in))
        ]
        if arguments.flag("showMostRecentOnly"):
            contacts.sort(key=lambda contact: contact.seen)
            contacts = list({contact.callsign: contact for contact in contacts}.values())
        contacts.sort(key=_by_callsign)
        endpoints = map(_endpoint, contacts)
        return await enveloped_list(self._clock, request.hold, CLIENT_ENDPOINT, endpoints, self._info.node_id)

    @route("/Marti/api/contacts/all")
    async def contacts(self, request: MartiRequest) -> Reply:
        """List who is connected."""
        return await bare_list(self._clock, request.hold, map(_contact, self._present(request)))

    @route("/Marti/api/contacts/all/lite")
    async def contacts_with_user(self, request: MartiRequest) -> Reply:
        """List who is connected, and as which user."""
        return await bare_list(self._clock, request.hold, map(_with_user, self._present(request)))

    @route("/Marti/api/contacts/all/full")
    async def contacts_in_full(self, request: MartiRequest) -> Reply:
        """List who is connected, with all that is known."""
        return await bare_list(self._clock, request.hold, map(_in_full, self._present(request)))

    def _present(self, request: MartiRequest) -> list[Contact]:
        arguments = request.arguments
        by_uid = (arguments.one("sortBy") or "").upper() == "UID"
        return sorted(
            (contact for contact in self._visible(request.principal) if contact.present),
            key=_by_uid if by_uid else _by_callsign,
            reverse=(arguments.one("direction") or "").upper() == "DESCENDING",
        )

    def _visible(self, principal: Principal) -> Iterable[Contact]:
        for contact in self._router.contacts:
            if contact.shown_to(principal.groups_out) and contact.callsign.strip() and contact.uid.strip():
                yield contact


def _by_callsign(contact: Contact) -> tuple[str, str]:
    return contact.callsign, contact.uid


def _by_uid(contact: Contact) -> str:
    return contact.uid


def _endpoint(contact: Contact) -> dict[str, Any]:
    return {
        "callsign": contact.callsign,
        "uid": contact.uid,
        "username": contact.principal or ANONYMOUS_NAME,
        "team": contact.team,
        "role": contact.role,
        "lastEventTime": date(contact.seen),
        "lastStatus": "Connected" if contact.present else "Disconnected",
    }


def _contact(contact: Contact) -> dict[str, Any]:
    return {
        "filterGroups": [],
        "notes": contact.principal or ANONYMOUS_NAME,
        "callsign": contact.callsign,
        "team": contact.team,
        "role": contact.role,
        "takv": contact.takv,
        "uid": contact.uid,
    }


def _with_user(contact: Contact) -> dict[str, Any]:
    name = contact.principal or ANONYMOUS_NAME
    return _contact(contact) | {"user": {"id": name, "name": name}}


def _in_full(contact: Contact) -> dict[str, Any]:
    return _with_user(contact) | {
        "clientUid": contact.uid,
        "username": contact.principal or ANONYMOUS_NAME,
        "lastProcTime": int(contact.seen * 1000),
        "incognito": False,
    }
