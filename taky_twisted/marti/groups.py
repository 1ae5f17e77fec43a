"""The groups of who asks, and which of them are switched on: ATAK's channels.

Sources: TAK Server ``groups/GroupsApi.java``; ATAK-CIV ``android/http/rest/ServerGroup.java`` and TAK Aware, which take
no list in which an entry lacks a member.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from twisted.internet.interfaces import IReactorTime

from taky_twisted.identity.principal import ANON_GROUP, Principal
from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import BadRequest, MartiError, NoSuchThing, NotAllowed
from taky_twisted.marti.json_body import read_list
from taky_twisted.marti.replies import EMPTY, Envelope, Reply, date
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route
from taky_twisted.routing import switching
from taky_twisted.routing.groups import NoGroupLeft
from taky_twisted.routing.router import Router

GROUP = "com.bbn.marti.remote.groups.Group"
IN, OUT = "IN", "OUT"
ANON_BIT = 2
"""Where TAK Server has the group of everybody in its bit vectors."""
BITS = 1 << 15
"""How long those are there."""
MAX_ENTRIES = 5000
"""Groups in one request."""
MAX_UID_CHARS = 500


class GroupsArea:
    """``/Marti/api/groups``."""

    def __init__(self, clock: IReactorTime, router: Router) -> None:
        self._clock, self._router = clock, router
        self._created = date(clock.seconds())[:10]  # a date is wanted; groups have none here

    @route("/Marti/api/groups/all")
    def all(self, request: MartiRequest) -> Envelope:
        """List both directions of all groups that the caller has, and which are switched on."""
        if request.arguments.flag("sendLatestSA"):
            self._show_again(request)
        return Envelope(GROUP, self._spelled(request))

    @route("/Marti/api/groups/groupCacheEnabled")
    def cache_enabled(self, request: MartiRequest) -> Envelope:
        """Say that groups can be switched: without that, clients do not offer it."""
        return Envelope("java.lang.Boolean", True)

    @route("/Marti/api/groups/<name>/<direction>")
    def one(self, request: MartiRequest, name: str, direction: str) -> Envelope:
        """Show one direction of a group that the caller has."""
        for group in self._spelled(request):
            if (group["name"], group["direction"]) == (name, direction.upper()):
                return Envelope(GROUP, group)
        raise NoSuchThing("there is no such group, or you are not in it")

    @route("/Marti/api/groups/active", "PUT")
    def set_active(self, request: MartiRequest) -> Reply:
        """Switch the groups that are listed on or off; what is not listed stays as it is.

        Clients send back what they got from `all`: groups that are gone since then are passed over.
        """
        active = self._active(request)
        groups = {IN: set(active.groups_in), OUT: set(active.groups_out)}
        for entry in read_list(request, MAX_ENTRIES):
            name, direction, switched_on = _read_group(entry)
            (groups[direction].add if switched_on else groups[direction].discard)(name)
        return self._choose(request, groups[IN], groups[OUT])

    @route("/Marti/api/groups/activebits", "PUT")
    def set_active_bits(self, request: MartiRequest) -> Reply:
        """Switch on the groups whose bits are listed, and off all others."""
        bits = set()
        for bit in read_list(request, MAX_ENTRIES):
            if isinstance(bit, bool) or not isinstance(bit, int):
                raise BadRequest("the body must hold whole numbers: the bitpos of each group that is to be active")
            bits.add(bit)
        names = {name for name, bit in positions(_names(request.granted)).items() if bit in bits}
        return self._choose(request, names, names)

    @route("/Marti/api/groups", access=Access.ADMIN)
    @route("/Marti/api/groups/activeForce", "PUT", access=Access.ADMIN)
    @route("/Marti/api/groups/members", access=Access.ADMIN)
    @route("/Marti/api/groups/update", "POST", access=Access.ADMIN)
    @route("/Marti/api/groups/update/<username>", access=Access.ADMIN)
    @route("/Marti/api/groups/user", access=Access.ADMIN)
    @route("/Marti/api/groupprefix", access=Access.ADMIN)
    @route("/Marti/api/users/all", access=Access.ADMIN)
    @route("/Marti/api/users/<connection>", access=Access.ADMIN)
    def administer(self, request: MartiRequest, **found: str) -> Reply:
        """Look after others' groups."""
        raise MartiError(501, "this server's groups are not administered over HTTP")

    def _active(self, request: MartiRequest) -> Principal:
        return self._router.groups.granted(request.granted, _device(request), host_of(request.getClientAddress()))

    def _spelled(self, request: MartiRequest) -> list[dict[str, Any]]:
        return spell_groups(request.granted, self._active(request), self._created)

    def _choose(self, request: MartiRequest, groups_in: Iterable[str], groups_out: Iterable[str]) -> Reply:
        who = request.granted
        chosen_in, chosen_out = who.groups_in.intersection(groups_in), who.groups_out.intersection(groups_out)
        if who.anonymous:
            if not chosen_in and not chosen_out:
                raise BadRequest("at least one group must stay active")
            if (chosen_in, chosen_out) != (who.groups_in, who.groups_out):
                raise NotAllowed("without a certificate nobody can tell whose choice this is: nothing is switched")
            return EMPTY
        try:
            switching.switch(self._router, who, _device(request), chosen_in, chosen_out, self._clock.seconds())
        except NoGroupLeft as error:
            raise BadRequest(str(error)) from error
        return EMPTY

    def _show_again(self, request: MartiRequest) -> None:
        # ATAK takes what came from us off the map when its groups change, and asks for it so.
        for stream in self._router.groups.streams(request.granted, host_of(request.getClientAddress())):
            switching.show(self._router, stream, stream.principal.groups_out)


def spell_groups(granted: Principal, active: Principal, created: str) -> list[dict[str, Any]]:
    """Spell both directions of somebody's groups."""
    bits = positions(_names(granted))
    return [
        {
            "name": name,
            "direction": direction,
            "created": created,
            "type": "SYSTEM",
            "bitpos": bits[name],
            "active": name in switched_on,
        }
        for name in sorted(bits)
        for direction, groups, switched_on in (
            (IN, granted.groups_in, active.groups_in),
            (OUT, granted.groups_out, active.groups_out),
        )
        if name in groups
    ]


def positions(names: Iterable[str]) -> dict[str, int]:
    """Give each group a bit of its own; the same, as far as possible, in every list and after every restart."""
    bits: dict[str, int] = {}
    taken = {ANON_BIT}
    for name in sorted(names):
        bit = ANON_BIT
        if name != ANON_GROUP:
            digest = sha256(name.encode("utf-8", "surrogatepass")).digest()
            bit = ANON_BIT + 1 + int.from_bytes(digest[:8], "big") % (BITS - ANON_BIT - 1)
            while bit in taken:
                bit += 1
        taken.add(bit)
        bits[name] = bit
    return bits


def _names(principal: Principal) -> frozenset[str]:
    return principal.groups_in | principal.groups_out


def _device(request: MartiRequest) -> str:
    uid = request.arguments.one("clientUid") or ""
    if len(uid) > MAX_UID_CHARS or not uid.isprintable():
        raise BadRequest("clientUid is no uid of a client")
    return uid


def _read_group(entry: object) -> tuple[str, str, bool]:
    if isinstance(entry, dict):
        name, direction, active = entry.get("name"), entry.get("direction"), entry.get("active")
        if isinstance(name, str) and isinstance(direction, str) and isinstance(active, bool):
            direction = direction.upper()
            if direction in (IN, OUT):
                return name, direction, active
    raise BadRequest('every entry must have a "name", a "direction" that is IN or OUT, and "active", true or false')
