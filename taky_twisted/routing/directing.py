"""What is said to somebody in particular: whom that reaches, what waits for them, when the sender is told of failure.

Sources: TAK Server ``service/DistributedSubscriptionManager.java``; ATAK-CIV ``android/chat/GeoChatService.java``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from taky_twisted.cot import compose
from taky_twisted.cot.event import Destinations, Event
from taky_twisted.cot.types import CHAT

from .contact import Contact

if TYPE_CHECKING:
    from .router import Router
    from .subscription import Subscription

EVERYBODY_ROOMS = frozenset({"All Chat Rooms", "All Streaming", "Streaming"})
"""Chat rooms that are for everybody (ATAK-CIV ``android/chat/GeoChatService.java``)."""
TEAMS = frozenset(
    {
        "Blue",
        "Brown",
        "Cyan",
        "Dark Blue",
        "Dark Green",
        "Green",
        "Magenta",
        "Maroon",
        "Orange",
        "Purple",
        "Red",
        "Teal",
        "White",
        "Yellow",
    }
)
"""ATAK's team colors."""


def direct(router: Router, event: Event, source: Subscription, destinations: Destinations, told: bool = False) -> None:
    """Deliver an event to those that its destinations name; ``told`` is whether the other nodes know of it already."""
    named: dict[Contact, None] = {}
    known = not destinations.missions
    for callsign in destinations.callsigns:
        called = router.contacts.called(callsign)
        if not called:
            known = False
        for contact in called:
            named[contact] = None
    for uid in destinations.uids:
        found = router.contacts.get(uid)
        if found is not None:
            named[found] = None
        else:
            known = False
    reached = _deliver_to(router, named, event, source, known, told)
    if not reached and event.type == CHAT and not destinations.missions:
        tell_failed(router, event, source)


def chat_to_named(router: Router, event: Event, source: Subscription) -> bool:
    """Deliver a chat without destinations to the members that it names; False if it is for everybody.

    For bots that do not know ``<marti>``: a private message must not be shown to everybody because of that.
    """
    chat = event.detail.chat
    if chat is None or chat.chatroom in EVERYBODY_ROOMS or chat.id in EVERYBODY_ROOMS:
        return False
    if chat.id in TEAMS:
        named = [contact for contact in router.contacts.in_team(chat.id) if source not in contact.holders]
    else:
        uids = dict.fromkeys((*chat.uids, chat.id))
        named = [contact for uid in uids if (contact := router.contacts.get(uid)) and source not in contact.holders]
    # So that it is known as directed, should it have to be kept.
    destinations = Destinations(uids=tuple(contact.uid for contact in named), explicit=True)
    event = replace(event, detail=replace(event.detail, destinations=destinations))
    if router.witness is not None:
        router.witness.heard(event, source.principal.groups_in, source, router.now())
    if not _deliver_to(router, named, event, source, known=True):
        tell_failed(router, event, source)
    return True


def tell_failed(router: Router, event: Event, source: Subscription) -> None:
    """Tell the sender of a chat that nobody got it; if it is another node's client, that node does."""
    if not source.from_server and not source.node:
        router.audiences.direct(compose.chat_failed(event, router.max_to_client), None, source)


def _deliver_to(
    router: Router, named: Iterable[Contact], event: Event, source: Subscription, known: bool, told: bool = False
) -> bool:
    """Deliver to each connection of these contacts once; keep chat for who is away.

    Args:
        router: where they are.
        named: the contacts.
        event: what they are told.
        source: who says it.
        known: whether these are all that it is for; else another node may know more of them.
        told: whether the other nodes know of it already.

    Returns:
        Whether anybody was reached.
    """
    is_chat = event.type == CHAT
    if is_chat and router.max_to_client and len(event.xml) > router.max_to_client:
        return False  # nobody could read it, now or later, and its sender is told so
    groups = source.principal.groups_in
    receivers: dict[Subscription, None] = {}
    reached, elsewhere = False, not known
    for contact in named:
        holders = contact.holders
        for holder in holders:
            if not groups.isdisjoint(holder.principal.groups_out):
                if holder.node:
                    reached = elsewhere = True
                else:
                    receivers[holder] = None
                if is_chat and router.nodes is not None:
                    if holder.node:
                        router.nodes.underway(holder, contact.uid, event, groups)
                    else:
                        router.nodes.delivered(contact.uid, event)
        if not holders:
            elsewhere = True
            if is_chat and not groups.isdisjoint(contact.groups_out):
                reached |= router.chats.keep(contact.uid, contact.principal, event, groups, router.now())
    for receiver in receivers:
        router.audiences.direct(event, source, receiver)
    if elsewhere and not told and router.nodes is not None:
        router.nodes.said(event, source)
    return reached or bool(receivers)
