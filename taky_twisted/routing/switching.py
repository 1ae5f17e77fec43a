"""Groups are switched on and off while people are connected: whom that concerns, and what each is told.

What was said before the switch reaches everybody as it was said. Afterwards the connection speaks and hears in its new
groups only; who no longer hears its contact is told that it is gone, who hears it from now on is told of it, and the
connection itself is shown what is on the map of the groups that it has switched on.

Source: TAK Server ``groups/GroupsApi.java``, ``service/DistributedSubscriptionManager.java``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from taky_twisted.cot import compose
from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import Principal
from taky_twisted.takproto.batch import Batch

from .contact import Contact
from .records import Groups

if TYPE_CHECKING:
    from .outbox import Replay
    from .router import Router
    from .subscription import Subscription


def switch(router: Router, principal: Principal, uid: str, groups_in: Groups, groups_out: Groups, now: float) -> None:
    """Switch on some of somebody's groups and switch off the others.

    Args:
        router: where it is connected, or not.
        principal: who that is, with all groups that were granted; not an anonymous one.
        uid: the device that it is for; empty for all of them.
        groups_in: where it wants to speak.
        groups_out: what it wants to hear.
        now: seconds since the epoch.

    Raises:
        NoGroupLeft: it wants nothing at all.
    """
    router.groups.choose(principal, uid, groups_in, groups_out, now)
    for stream in router.groups.streams(principal):
        if uid and (stream.primary is None or stream.primary.uid != uid):
            continue
        chosen = router.groups.chosen(stream)
        if chosen != stream.principal:
            _switch(router, stream, chosen, now)


def grant(router: Router, stream: Subscription, granted: Principal, now: float) -> None:
    """Give a connection what was granted to the same principal anew, as if it had switched itself."""
    stream.granted = granted
    chosen, before = router.groups.chosen(stream), stream.principal
    if (chosen.groups_in, chosen.groups_out) != (before.groups_in, before.groups_out):
        _switch(router, stream, chosen, now)
    stream.principal = chosen


def follow(router: Router, stream: Subscription, granted: Principal, active: Principal, now: float) -> None:
    """Give another node's connection the groups that it has there."""
    before = stream.principal
    stream.granted = granted
    if (active.groups_in, active.groups_out) != (before.groups_in, before.groups_out):
        _switch(router, stream, active, now)
    stream.principal = active


def identified(router: Router, stream: Subscription, report: Event) -> Groups:
    """Switch to what is chosen for the device that a connection turns out to be, before anybody hears of it.

    Args:
        router: where it is connected.
        stream: the connection, which has just reported itself for the first time.
        report: that report.

    Returns:
        The groups that the report goes to.
    """
    before = stream.principal
    chosen = router.groups.chosen(stream) if not stream.node else before
    if chosen != before:
        _regroup(router, stream, chosen)
        show(router, stream, chosen.groups_out - before.groups_out)
    return _said_to(report, chosen)


def hand_missed(router: Router, contact: Contact, stream: Subscription, now: float) -> None:
    """Deliver the chat that waited for a contact and was said in groups that it has switched on."""
    hears, may_hear = stream.principal.groups_out, stream.granted.groups_out
    for event in router.chats.take(contact.uid, stream.principal.name, hears, now, may_hear):
        # Every node had it; the one that somebody comes to delivers it, and is handed what it does not have.
        if stream.node or router.nodes is None or not router.nodes.delivered(contact.uid, event):
            router.audiences.direct(event, None, stream)


def show(router: Router, stream: Subscription, groups: Groups) -> None:
    """Tell somebody who is connected what a newcomer is told of some groups."""
    if not groups or stream.wants_everything or stream.from_server or stream.node:
        return
    stream.untold |= groups
    # However often it is asked for by somebody who reads slowly, one waits besides the one that is under way. It waits
    # anew each time: the client may have forgotten what it was told since it asked before.
    stream.telling = stream.telling or _untold(router, stream)
    stream.sink.replay(stream.telling)


def _untold(router: Router, stream: Subscription) -> Iterator[Replay]:
    groups, stream.untold, stream.telling = stream.untold, frozenset(), None
    for uid, events in router.picture(stream, groups):
        contact, wanted = router.contacts.get(uid), stream.filter
        known = contact is not None and contact.sa is events[0] and groups.isdisjoint(contact.groups_in)
        if not known and uid not in stream.uids and (wanted is None or all(wanted(event) for event in events)):
            yield uid, events


def _switch(router: Router, stream: Subscription, chosen: Principal, now: float) -> None:
    before = stream.principal
    router.audiences.flush()  # a departure must not overtake a report
    moved = _regroup(router, stream, chosen)
    if stream.wants_everything or stream.from_server or stream.closed:
        return
    if not stream.node:
        # ATAK and CloudTAK take what they know off the map and ask again: so it comes before what is shown anew.
        stream.sink.deliver(Batch((compose.groups_changed(now),), directed=True))
        if router.nodes is not None:
            router.nodes.switched(stream)
    for contact, said_to in moved:
        if contact.sa is not None and not contact.incognito:
            gone = compose.departure(contact.uid, contact.sa.type, now)
            router.audiences.broadcast_between(gone, said_to, contact.groups_in, stream)
            router.audiences.broadcast_between(contact.sa, contact.groups_in, said_to, stream)
        hand_missed(router, contact, stream, now)
    show(router, stream, chosen.groups_out - before.groups_out)


def _regroup(router: Router, stream: Subscription, chosen: Principal) -> list[tuple[Contact, Groups]]:
    """Give a connection other groups.

    Returns:
        Its contacts, and the groups that each was seen in before.
    """
    if stream.audience is not None:
        stream.audience.flush()
    hears = stream.audience is not None  # and has not been closed by what was pending
    if hears:
        router.audiences.leave(stream)
    stream.principal = chosen
    if hears:
        router.audiences.join(stream)
    moved = []
    for contact in stream.uids.values():
        if stream in contact.holders:
            moved.append((contact, contact.groups_in))
            contact.groups_in = _said_to(contact.sa, chosen)
            contact.groups_out = chosen.groups_out
            router.contacts.touch(contact)
    return moved


def _said_to(report: Event | None, chosen: Principal) -> Groups:
    """Say which groups a report would go to now; one that names groups is for no others."""
    destinations = report.detail.destinations if report is not None else None
    if destinations is None or not destinations.groups:
        return chosen.groups_in
    return chosen.groups_in.intersection(destinations.groups)
