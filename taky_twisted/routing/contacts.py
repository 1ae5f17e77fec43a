"""Who is on the map: uids that have reported SA, and which connection speaks for each.

What happens when two connections claim one uid (nobody may close somebody else's connection by naming its uid), unless
`taky_twisted.routing.pins` refuses the newer one:

====================================  ==================================================================================
the older and the newer connection
====================================  ==================================================================================
one certificate or account            the uid moves to the newer one; the older one is flushed and closed
both anonymous                        the uid moves; the older one is closed if it says nothing for 10 seconds, else
                                      both get what is directed to the uid
anything else                         the newer one is addressed, the older one stays, and there is a warning
====================================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from taky_twisted.cot import compose
from taky_twisted.cot.event import Event
from taky_twisted.interfaces import EventStore

from .callsigns import Callsigns
from .contact import Contact
from .records import Groups, KnownContact

if TYPE_CHECKING:
    from .subscription import Subscription

SAVE_SECONDS = 0.5
"""How long a change of a contact may wait before it goes to the store."""
DEPARTURE_SECONDS = 5
"""How long after a broken connection a contact counts as gone, unless it reconnects."""
RIVAL_SECONDS = 10
"""How long an older anonymous connection of the same uid may be silent before it is closed."""
REPLAY_SECONDS = 24 * 3600
"""The age up to which a connected contact's last report is shown to newcomers."""
KNOWN_SECONDS = 7 * 24 * 3600
"""How long a contact that is away is known, so that chat waits for it."""
MAX_REPORT_BYTES = 1 << 14
"""A larger self-report is passed on, but newcomers are not shown it."""
CLOCK_SECONDS = 300
"""How far a client's clock may be off before there is a warning."""


class Contacts:
    """All contacts, by uid and by callsign."""

    def __init__(
        self,
        clock: IReactorTime,
        store: EventStore,
        max_contacts: int,
        max_secondary: int,
        announce: Callable[[Event, Groups], None],
    ) -> None:
        """Start with nobody.

        Args:
            clock: for the delays.
            store: where contacts survive a restart.
            max_contacts: how many are known; those away longest are forgotten first.
            max_secondary: how many uids besides its own one connection may speak for.
            announce: says an event to everybody who hears one of the groups.
        """
        self._clock, self._store, self._announce = clock, store, announce
        self._max_contacts, self._max_secondary = max_contacts, max_secondary
        self._by_uid: dict[str, Contact] = {}
        self._callsigns = Callsigns()
        self._away: dict[str, Contact] = {}  # in the order in which they left
        self._changed: dict[str, Contact] = {}
        self._saving: IDelayedCall | None = None
        self._judging: set[IDelayedCall] = set()
        self._stopping = False

    def __iter__(self) -> Iterator[Contact]:
        return iter(self._by_uid.values())

    def restore(self, records: Iterable[KnownContact], now: float) -> None:
        """Take over what a store held: all of them are away."""
        for record in sorted(records, key=lambda record: record.seen):
            self._absent(Contact(record.uid), record, now)

    def records_of_absent(self) -> list[KnownContact]:
        """List who was there and is on the map still."""
        return [record for contact in self._away.values() if contact.leaving is None and (record := contact.record())]

    def merge(self, record: KnownContact, now: float) -> None:
        """Take over what another node knows of somebody who is not there, if it knows more."""
        contact = self._by_uid.get(record.uid)
        if contact is None:
            if not self._make_room():
                return
            contact = Contact(record.uid)
        elif contact.present or contact.seen >= record.seen:
            return
        self._absent(contact, record, now)
        self.touch(contact)

    def get(self, uid: str) -> Contact | None:
        """Find a contact by uid."""
        return self._by_uid.get(uid)

    def is_present(self, uid: str, groups: Groups) -> bool:
        """Whether a contact of this uid is online, to those who hear these groups."""
        contact = self._by_uid.get(uid)
        return contact is not None and contact.present and not contact.groups_in.isdisjoint(groups)

    def called(self, callsign: str) -> Iterable[Contact]:
        """Find all contacts of a callsign; in another case only if there is no exact match."""
        return self._callsigns.find(callsign)

    def in_team(self, team: str) -> list[Contact]:
        """Find the contacts of a team that are online."""
        return [contact for contact in self if contact.team == team and contact.holders]

    def heard(self, source: Subscription, event: Event, groups: Groups, now: float) -> Contact | None:
        """Note a self-report.

        Args:
            source: the connection that it came from.
            event: the report; newcomers are not shown one that was for some, or that came incognito.
            groups: the groups that it was said to.
            now: seconds since the epoch.

        Returns:
            The contact if this is the first report of its uid on this connection.
        """
        contact = source.uids.get(event.uid)
        new = contact is None
        if contact is None:
            contact = self._identify(source, event, now)
            if contact is None:
                return None
        elif source not in contact.holders:
            return None  # somebody else speaks for the uid now
        detail = event.detail
        if detail.callsign != contact.callsign:
            self._callsigns.rename(contact, detail.callsign)
        contact.team, contact.role, contact.takv = detail.team, detail.role, detail.takv or ""
        contact.principal = source.principal.name
        contact.groups_in, contact.groups_out = groups, source.principal.groups_out
        contact.seen = now
        if len(event.xml) > MAX_REPORT_BYTES:
            source.notices.say(
                "the report of {callsign} is too large to be shown to newcomers", callsign=detail.callsign
            )
        elif not source.incognito and not (detail.destinations is not None and detail.destinations.explicit):
            contact.sa = event
        self.touch(contact)
        return contact if new else None

    def left(self, source: Subscription, clean: bool, now: float) -> None:
        """Note that a connection is gone.

        Args:
            source: the connection, already out of the routing tables.
            clean: whether the peer said goodbye; else it may be back in a moment.
            now: seconds since the epoch.
        """
        for contact in source.uids.values():
            contact.displaced.pop(source, None)
            if source not in contact.holders:
                continue
            del contact.holders[source]
            if contact.holders:
                continue
            if contact.displaced:
                heir = next(reversed(contact.displaced))
                del contact.displaced[heir]
                contact.holders[heir] = None
                continue
            contact.seen = now
            self._away[contact.uid] = contact
            if self._stopping:
                self.touch(contact)
            elif clean or source.incognito:
                self._depart(contact, silent=source.incognito)
            else:
                contact.leaving = self._clock.callLater(DEPARTURE_SECONDS, self._depart, contact)
        source.uids = {}

    def hide(self, source: Subscription, now: float) -> None:
        """Announce the departure of somebody who stays but wants not to be seen."""
        for contact in source.uids.values():
            if contact.sa is not None and source in contact.holders:
                self._announce(compose.departure(contact.uid, contact.sa.type, now), contact.groups_in)

    def take_off_map(self, uid: str, groups: Groups) -> bool:
        """Forget the last report of somebody who is away, if whoever asks may.

        Returns:
            False if it is online or not theirs: then the report stays.
        """
        contact = self._by_uid.get(uid)
        if contact is None:
            return True
        if contact.present or contact.groups_in.isdisjoint(groups):
            return False
        contact.sa = contact.departed = None
        self._store.remove(KnownContact, uid)
        return True

    def still_there(self, source: Subscription) -> None:
        """Note that a connection whose uid moved to a newer one, and which was thought dead, speaks."""
        source.rival = None
        source.echo = source
        for contact in source.uids.values():
            if source in contact.displaced and all(holder.principal.anonymous for holder in contact.holders):
                del contact.displaced[source]
                contact.holders[source] = None
                source.notices.warn(
                    "two anonymous connections say they are {uid}: {peer} and another; both get its messages",
                    uid=contact.uid,
                    peer=source.peer,
                )

    def visible(self, newcomer: Subscription, now: float) -> Iterator[tuple[str, tuple[Event, ...]]]:
        """Go through what a newcomer is told: the report of whoever is there; of who left, also that it left.

        Whom it is told of is settled now; the report is the latest when it is asked for.
        """
        return self._visible(list(self._by_uid), newcomer, now)

    def _visible(self, uids: list[str], newcomer: Subscription, now: float) -> Iterator[tuple[str, tuple[Event, ...]]]:
        for uid in uids:
            contact = self._by_uid.get(uid)
            sa = contact.sa if contact is not None else None
            if contact is None or sa is None or newcomer.principal.groups_out.isdisjoint(contact.groups_in):
                continue
            if contact.present:
                if now - contact.seen <= REPLAY_SECONDS and not contact.incognito:
                    yield contact.uid, (sa,)
            elif contact.departed is not None and sa.stale > now and not self._may_be(newcomer, contact):
                yield contact.uid, (sa, contact.departed)

    def doubtful(self, source: Subscription, now: float) -> list[tuple[str, tuple[Event, ...]]]:
        """List what somebody was not told as a newcomer, because it could have been that contact itself."""
        return [
            (contact.uid, (contact.sa, contact.departed))
            for contact in self._away.values()
            if contact.sa is not None
            and contact.departed is not None
            and contact.sa.stale > now
            and not source.principal.groups_out.isdisjoint(contact.groups_in)
            and self._may_be(source, contact)
        ]

    @staticmethod
    def _may_be(newcomer: Subscription, contact: Contact) -> bool:
        """Whether a newcomer may be this contact, come back: it must not be told that it is gone."""
        return contact.principal is not None and contact.principal == newcomer.principal.name

    def prune(self, now: float) -> None:
        """Forget who has been away for long."""
        while self._away:
            contact = next(iter(self._away.values()))
            if now - contact.seen <= KNOWN_SECONDS:
                return
            self._forget(contact)

    def save(self) -> None:
        """Hand what changed to the store."""
        if self._saving is not None and self._saving.active():
            self._saving.cancel()
        self._saving = None
        changed, self._changed = self._changed, {}
        for contact in changed.values():
            record = contact.record()
            if record is not None:
                self._store.put(record)

    def stop(self) -> None:
        """Announce no departure from now on."""
        self._stopping = True
        for timer in self._judging:
            timer.cancel()
        self._judging.clear()
        for contact in self._away.values():
            if contact.leaving is not None:
                contact.leaving.cancel()
                self._depart(contact)

    def _absent(self, contact: Contact, record: KnownContact, now: float) -> None:
        contact.restore(record, now)
        self._by_uid[record.uid] = self._away[record.uid] = contact
        self._callsigns.rename(contact, record.callsign)

    def _identify(self, source: Subscription, event: Event, now: float) -> Contact | None:
        uid = event.uid
        contact = self._by_uid.get(uid)
        if source.primary is not None and (
            len(source.uids) > self._max_secondary
            or (contact is not None and contact.holders)
            or (contact is None and not self._make_room())
        ):
            return None  # a gateway's further uid never takes somebody's identity
        if contact is None:
            self._make_room()
            contact = self._by_uid[uid] = Contact(uid)
        if source.primary is None:
            source.primary = contact
            if not source.node:
                # Whatever the clocks of the nodes say: who follows another one is later than that.
                source.since = max([now, *(holder.since + 0.001 for holder in contact.holders)])
            if abs(event.time - now) > CLOCK_SECONDS:
                source.notices.warn(
                    "the clock of {callsign} at {peer} is off by {minutes} minutes: its reports look stale or too new",
                    callsign=event.detail.callsign,
                    peer=source.peer,
                    minutes=round((event.time - now) / 60),
                )
        self._away.pop(uid, None)
        if contact.leaving is not None:
            contact.leaving.cancel()
            contact.leaving = None
        contact.departed = None
        older = [*contact.displaced, *contact.holders]
        contact.holders[source] = None
        source.uids[uid] = contact
        for other in older:
            self._displace(contact, other, source, now)
        return contact

    def _displace(self, contact: Contact, older: Subscription, newer: Subscription, now: float) -> None:
        if older.principal.same_as(newer.principal):
            contact.holders.pop(older, None)
            contact.displaced.pop(older, None)
            older.uids.pop(contact.uid, None)
            older.close_peer("it connected anew")
            return
        anonymous = older.principal.anonymous and newer.principal.anonymous
        if anonymous:
            if older.rival is None and not older.node:  # another node's is judged there
                self._judge_later(older, now)
            if older.audience is not None:
                older.audience.flush()  # so that what it said itself is not sent back to it
            older.echo = older.rival = newer
        if older in contact.displaced:
            return
        del contact.holders[older]
        contact.displaced[older] = None
        if not anonymous:
            newer.notices.warn(
                "{uid} is said by {older} at {older_peer} and now by {newer} at {newer_peer}: the newer is addressed",
                uid=contact.uid,
                older=str(older.principal),
                older_peer=older.peer,
                newer=str(newer.principal),
                newer_peer=newer.peer,
            )

    def _judge_later(self, older: Subscription, moved: float) -> None:
        def run() -> None:
            self._judging.discard(timer)
            self._judge(older, moved)

        timer = self._clock.callLater(RIVAL_SECONDS, run)
        self._judging.add(timer)

    def _judge(self, older: Subscription, moved: float) -> None:
        if older.closed or older.rival is None:
            return
        if older.sink_heard > moved:
            self.still_there(older)
        else:
            older.close_peer("it connected anew")

    def _depart(self, contact: Contact, silent: bool = False) -> None:
        contact.leaving = None
        contact.departed = compose.departure(contact.uid, contact.sa.type if contact.sa else "", self._clock.seconds())
        if contact.sa is not None and not silent and not self._stopping:
            self._announce(contact.departed, contact.groups_in)
        self.touch(contact)

    def _make_room(self) -> bool:
        while len(self._by_uid) >= self._max_contacts:
            if not self._away:
                return False
            self._forget(next(iter(self._away.values())))
        return True

    def _forget(self, contact: Contact) -> None:
        if contact.leaving is not None:
            contact.leaving.cancel()
            self._depart(contact)
        self._callsigns.rename(contact, "")
        del self._by_uid[contact.uid], self._away[contact.uid]
        self._changed.pop(contact.uid, None)
        self._store.remove(KnownContact, contact.uid)

    def touch(self, contact: Contact) -> None:
        """See to it that a contact that has changed is kept."""
        self._changed[contact.uid] = contact
        if self._saving is None:
            self._saving = self._clock.callLater(SAVE_SECONDS, self.save)
