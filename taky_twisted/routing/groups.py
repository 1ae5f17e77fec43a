"""Which of their groups people have switched off: ATAK shows groups as channels, and whoever uses it picks some.

What somebody was granted stays; a choice only takes from it, so that a group that is granted later is on. A choice is
made for a device, or for all devices of somebody at once; the last word on a device counts.

Source: TAK Server ``groups/GroupsApi.java`` (there the choice of one device is that of all).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from taky_twisted.identity.principal import Principal
from taky_twisted.interfaces import EventStore

from .records import ActiveGroups, Groups

if TYPE_CHECKING:
    from .subscription import Subscription

MAX_CHOICES = 10_000
"""Choices that are remembered; the oldest of somebody who is not connected goes first."""
MAX_DEVICES = 100
"""Devices with a choice of their own, of one principal: a certificate that a whole team shares has many."""


class NoGroupLeft(Exception):
    """A choice would leave somebody without any group."""


class GroupChoices:
    """What everybody has switched off, and which connections that concerns. It changes no connection itself."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        # By principal and device, "" being all devices. Whoever chose last comes last, in both.
        self._choices: dict[str, dict[str, ActiveGroups]] = {}
        self._count = 0
        self._streams: dict[str, dict[Subscription, None]] = {}

    def __len__(self) -> int:
        """How many choices are remembered."""
        return self._count

    def restore(self, records: Iterable[ActiveGroups]) -> None:
        """Take over what a store held."""
        for record in sorted(records, key=lambda record: record.changed):
            self._put(record)

    def joined(self, stream: Subscription) -> None:
        """Note a connection, and give it the groups that are switched on as far as one can tell yet."""
        if stream.granted.name is not None:
            self._streams.setdefault(stream.granted.name, {})[stream] = None
            stream.principal = self.chosen(stream)

    def left(self, stream: Subscription) -> None:
        """Forget a connection."""
        name = stream.granted.name
        if name is not None and name in self._streams:
            self._streams[name].pop(stream, None)
            if not self._streams[name]:
                del self._streams[name]

    def streams(self, principal: Principal, host: str = "") -> list[Subscription]:
        """List somebody's connections: those from a host if there are any, else all."""
        streams = list(self._streams.get(principal.name, ())) if principal.name is not None else []
        return [stream for stream in streams if stream.host.strip("[]") == host] or streams

    def chosen(self, stream: Subscription) -> Principal:
        """Say what a connection's principal is with the groups that are switched on there."""
        uid = stream.primary.uid if stream.primary is not None else ""
        return self.granted(stream.granted, uid, stream.host.strip("[]"))

    def granted(self, principal: Principal, uid: str = "", host: str = "") -> Principal:
        """Say what somebody is with the groups that are switched on.

        Args:
            principal: with all groups that were granted.
            uid: the device; without one it is guessed from where its connections come, else the last choice counts.
            host: from where it asks.
        """
        choice = self._choice(principal, uid, host)
        if choice is None:
            return principal
        groups_in, groups_out = principal.groups_in - choice.inactive_in, principal.groups_out - choice.inactive_out
        if not groups_in and not groups_out:
            return principal  # other groups were granted than at the time of the choice: nothing is left of it
        return replace(principal, groups_in=groups_in, groups_out=groups_out)

    def choose(self, principal: Principal, uid: str, groups_in: Groups, groups_out: Groups, now: float) -> None:
        """Remember a choice.

        Args:
            principal: who makes it, with all groups that were granted; not an anonymous one.
            uid: the device that it is for; empty for all of them.
            groups_in: where it wants to speak.
            groups_out: what it wants to hear.
            now: seconds since the epoch.

        Raises:
            NoGroupLeft: it wants nothing at all.
        """
        assert principal.name is not None, "nothing proves whose choice this is"
        if principal.groups_in.isdisjoint(groups_in) and principal.groups_out.isdisjoint(groups_out):
            raise NoGroupLeft("at least one group must stay active")
        record = ActiveGroups(
            principal.name, uid, principal.groups_in - groups_in, principal.groups_out - groups_out, now
        )
        devices = self._choices.get(principal.name, {})
        if not uid:
            for other in list(devices):
                self._forget(principal.name, other)
        if not record.inactive_in and not record.inactive_out and "" not in self._choices.get(principal.name, ()):
            self._forget(principal.name, uid)  # as if nothing had ever been chosen
            return
        self._put(record)
        self._store.put(record)
        self._shrink(principal.name)

    def take_in(self, key: str, record: ActiveGroups | None) -> list[Subscription]:
        """Have a choice be what another node says; None: it was taken back. The store has it already.

        Returns:
            The connections of whoever chose, which may have to be switched.
        """
        if record is not None:
            self._put(record)
            return list(self._streams.get(record.principal, ()))
        for at in [at for at, character in enumerate(key) if character == "\n"]:
            name, uid = key[:at], key[at + 1 :]
            if self._drop(name, uid) is not None:
                return list(self._streams.get(name, ()))
        return []

    def _choice(self, principal: Principal, uid: str, host: str) -> ActiveGroups | None:
        devices = self._choices.get(principal.name) if principal.name is not None else None
        if not devices:
            return None
        uid = uid or self._device(principal, host)
        if uid:
            return devices.get(uid) or devices.get("")
        return next(reversed(devices.values()))

    def _device(self, principal: Principal, host: str) -> str:
        """Guess which device of somebody is at a host; empty if that is not clear."""
        uids = {stream.primary.uid for stream in self.streams(principal, host) if stream.primary is not None}
        return uids.pop() if len(uids) == 1 else ""

    def _put(self, record: ActiveGroups) -> None:
        devices = self._choices.pop(record.principal, {})
        self._choices[record.principal] = devices
        self._count += record.uid not in devices
        devices.pop(record.uid, None)
        devices[record.uid] = record

    def _shrink(self, name: str) -> None:
        """Forget a choice if there is one too many; not the one that was just made."""
        devices = self._choices[name]
        if len(devices) > MAX_DEVICES:
            there = {stream.primary.uid for stream in self._streams.get(name, ()) if stream.primary is not None}
            older = [uid for uid in devices if uid][:-1]
            self._forget(name, next((uid for uid in older if uid not in there), older[0]))
        if self._count > MAX_CHOICES:
            others = (other for other in self._choices if other != name and other not in self._streams)
            away = next(others, next(iter(self._choices)))
            self._forget(away, next(iter(self._choices[away])))

    def _forget(self, name: str, uid: str) -> None:
        record = self._drop(name, uid)
        if record is not None:
            self._store.remove(ActiveGroups, record.key)

    def _drop(self, name: str, uid: str) -> ActiveGroups | None:
        devices = self._choices.get(name, {})
        record = devices.pop(uid, None)
        if record is not None:
            self._count -= 1
            if not devices:
                del self._choices[name]
        return record
