"""Emergencies: said again and again until canceled, because clients raise them once and forget them in seconds.

Sources: TAK Server ``service/RepeaterService.java``, ATAK-CIV ``emergency/tool/EmergencyManager.java`` (raised once,
stale after ten seconds, canceled under the same uid).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from taky_twisted.cot import compose
from taky_twisted.cot.event import Destinations, Event
from taky_twisted.cot.types import EMERGENCY_CANCEL, EMERGENCY_TYPES
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import Logger

from .kept import kept_event
from .records import Emergency, Groups

if TYPE_CHECKING:
    from .subscription import Subscription

log = Logger()

CANCEL_REPEATS = (5.0, 10.0)
"""Seconds after which a cancel is said again."""
CANCEL_SECONDS = 15
"""How long newcomers are told of a cancel."""
MAX_ALERT_BYTES = 1 << 16
"""A larger emergency is passed on but not repeated."""
OWN_SUFFIX = "-9-1-1"
"""What ATAK appends to a device's uid for the uid of its emergency."""
MIN_STALE_SECONDS = 15
"""A repeat is fresh for at least so long, and always longer than the period."""


@dataclass(slots=True)
class Alert:
    """An emergency, or the cancel of one, that is still said."""

    record: Emergency
    event: Event
    source: Subscription | None
    """The connection that raised it, while the server knows it."""


Say = Callable[[Alert, Event], None]
"""Deliver one saying of an alert to whom it was for, but not to who raised it."""


class Emergencies:
    """Keep, repeat and cancel emergencies."""

    def __init__(
        self, clock: IReactorTime, store: EventStore, period: float, max_alerts: int, max_seconds: float, say: Say
    ) -> None:
        """Start with none.

        Args:
            clock: for the repeats.
            store: where they survive a restart.
            period: seconds between repeats.
            max_alerts: how many are repeated at once.
            max_seconds: how long one is repeated.
            say: delivers a repeat.
        """
        self._clock, self._store, self._say = clock, store, say
        self._period, self._max_alerts, self._max_seconds = period, max_alerts, max_seconds
        self._alerts: dict[str, Alert] = {}
        self._cancels: dict[str, tuple[Alert, float]] = {}
        self._timers: set[IDelayedCall] = set()
        self._repeating: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._alerts)

    def __contains__(self, uid: str) -> bool:
        return uid in self._alerts

    def time_of(self, uid: str) -> float | None:
        """Tell an emergency's own time; None if there is no such."""
        alert = self._alerts.get(uid)
        return alert.event.time if alert is not None else None

    def restore(self, records: list[Emergency]) -> None:
        """Take over what a store held, and go on repeating it at once."""
        for record in records:
            event = kept_event(record)
            if event is not None:
                self._alerts[record.uid] = Alert(record, event, None)
        if self._alerts:
            self._schedule(0)

    def heard(self, event: Event, source: Subscription, groups: Groups, now: float) -> None:
        """Note an event of an emergency type: one that raises, or one that cancels."""
        if event.type == EMERGENCY_CANCEL or event.detail.emergency:
            self._cancel(event, source, now)
        elif event.type in EMERGENCY_TYPES and event.detail.emergency is not None:
            self._raise(event, source, groups, now)

    def find(self, uid: str, groups_out: Groups) -> Event | None:
        """Find an emergency for everybody as it was raised, if whoever hears these groups may see it."""
        alert = self._alerts.get(uid)
        if alert is None or alert.record.callsigns or alert.record.uids or alert.record.groups.isdisjoint(groups_out):
            return None
        return alert.event

    def current(self, groups_out: Groups, now: float) -> Iterator[tuple[Alert, Event]]:
        """Go through what a newcomer is told, with fresh times."""
        for alert in self._alerts.values():
            if not groups_out.isdisjoint(alert.record.groups):
                yield alert, self._fresh(alert, now)
        for alert, until in self._cancels.values():
            if until > now and not groups_out.isdisjoint(alert.record.groups):
                yield alert, self._fresh(alert, now)

    def records(self) -> list[Emergency]:
        """List what is repeated."""
        return [alert.record for alert in self._alerts.values()]

    def merge(self, record: Emergency, event: Event) -> None:
        """Take over an emergency that another node repeats, if it is not known, or newer there."""
        older = self._alerts.get(record.uid)
        if older is None:
            if len(self._alerts) >= self._max_alerts:
                return
        elif (older.event.time, older.event.xml) >= (event.time, event.xml):
            return
        alert = self._alerts[record.uid] = Alert(record, event, older.source if older is not None else None)
        self._store.put(record)
        self._say(alert, self._fresh(alert, self._clock.seconds()))
        self._schedule(self._period)

    def end(self, uid: str, canceled: float) -> None:
        """Repeat an emergency no more that was canceled on another node; one that was raised later goes on."""
        alert = self._alerts.get(uid)
        if alert is not None and alert.event.time <= canceled:
            self._remove(uid)

    def stop(self) -> None:
        """Say nothing more; what is active stays in the store."""
        for timer in (*self._timers, self._repeating):
            if timer is not None and timer.active():
                timer.cancel()
        self._timers.clear()
        self._repeating = None

    def _raise(self, event: Event, source: Subscription, groups: Groups, now: float) -> None:
        older = self._alerts.get(event.uid)
        if older is not None and not self._is_raiser(older, source):
            device = event.uid.removesuffix(OWN_SUFFIX)
            if device not in source.uids or older.record.raiser == device:
                return  # or its raiser could no longer cancel it
            older = None  # somebody else had used what is this device's own
        destinations = event.detail.destinations or Destinations()
        if destinations.explicit and not destinations.callsigns and not destinations.uids:
            return  # for nobody whom we could repeat it to
        if len(event.xml) > MAX_ALERT_BYTES:
            source.notices.warn("emergency {uid} is too large to be repeated", uid=event.uid)
            return
        is_new = event.uid not in self._alerts
        if is_new and len(self._alerts) >= self._max_alerts and not self._drop_one(source):
            return
        record = Emergency(
            uid=event.uid,
            xml=event.xml,
            groups=groups,
            raiser=_raiser(event, source),
            principal=source.principal.name,
            raised=older.record.raised if older is not None else now,
            callsigns=destinations.callsigns,
            uids=destinations.uids,
        )
        self._alerts[event.uid] = Alert(record, event, source)
        self._cancels.pop(event.uid, None)
        self._store.put(record)
        self._schedule(self._period)
        if older is None:
            source.notices.say("emergency {uid} raised by {raiser}", uid=event.uid, raiser=record.raiser or source.peer)

    def _cancel(self, event: Event, source: Subscription, now: float) -> None:
        alert = self._alerts.get(event.uid)
        if alert is None:
            return
        if not self._is_raiser(alert, source):
            source.notices.say("emergency {uid} goes on: {peer} did not raise it", uid=event.uid, peer=source.peer)
            return
        if source.node and event.time < alert.event.time:
            return  # it was said before this was raised, and had a longer way
        self._remove(event.uid)
        source.notices.say("emergency {uid} canceled by {peer}", uid=event.uid, peer=source.peer)
        if len(self._cancels) >= self._max_alerts:
            return  # said once, like any event: raising and canceling in turns must not fill the memory
        cancel = Alert(alert.record, event, source)
        self._cancels[event.uid] = (cancel, now + CANCEL_SECONDS)
        for delay in CANCEL_REPEATS:
            self._later(delay, self._say_cancel, cancel)
        self._later(CANCEL_SECONDS, self._forget_cancel, cancel)

    def _is_raiser(self, alert: Alert, source: Subscription) -> bool:
        if source is alert.source:
            return True
        record = alert.record
        if record.principal is not None:
            return record.principal == source.principal.name  # a uid is only what somebody says
        return record.raiser != "" and record.raiser in source.uids

    def _later(self, delay: float, call: Callable[[Alert], None], alert: Alert) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call(alert)

        timer = self._clock.callLater(delay, run)
        self._timers.add(timer)

    def _say_cancel(self, cancel: Alert) -> None:
        if self._is_current(cancel):
            self._say(cancel, self._fresh(cancel, self._clock.seconds()))

    def _forget_cancel(self, cancel: Alert) -> None:
        if self._is_current(cancel):
            del self._cancels[cancel.record.uid]

    def _is_current(self, cancel: Alert) -> bool:
        current = self._cancels.get(cancel.record.uid)
        return current is not None and current[0] is cancel

    def _fresh(self, alert: Alert, now: float) -> Event:
        return compose.repeated(alert.event, now, now + max(MIN_STALE_SECONDS, 1.5 * self._period))

    def _schedule(self, delay: float) -> None:
        if self._repeating is None:
            self._repeating = self._clock.callLater(delay, self._repeat)

    def _repeat(self) -> None:
        self._repeating = None
        now = self._clock.seconds()
        for uid, alert in list(self._alerts.items()):
            if now - alert.record.raised > self._max_seconds:
                log.warn("emergency {uid} was never canceled; it is not repeated any more", uid=uid)
                self._remove(uid)
            else:
                self._say(alert, self._fresh(alert, now))
        if self._alerts:
            self._schedule(self._period)

    def _drop_one(self, source: Subscription) -> bool:
        """Make room at the cost of whoever raised most; False if everybody raised only one."""
        # Not by the uid that raised it: that is only what its sender says.
        origins = Counter(map(_origin, self._alerts.values()))
        origin, number = origins.most_common(1)[0]
        if number == 1:
            source.notices.warn("over {limit} emergencies: a further one is not repeated", limit=self._max_alerts)
            return False
        alerts = [alert for alert in self._alerts.values() if _origin(alert) == origin]
        connection, number = Counter(alert.source for alert in alerts).most_common(1)[0]
        # The oldest of a connection that raised many; where each raised one, the newest: it began with real ones.
        own = [alert for alert in alerts if alert.source is connection]
        uid = (own[0] if number > 1 else alerts[-1]).record.uid
        source.notices.warn("over {limit} emergencies: {uid} is not repeated any more", limit=self._max_alerts, uid=uid)
        self._remove(uid)
        return True

    def _remove(self, uid: str) -> None:
        del self._alerts[uid]
        self._store.remove(Emergency, uid)


def _raiser(event: Event, source: Subscription) -> str:
    """Tell which device an emergency is of; who proves a name is only believed that it is one of his own."""
    link, own = event.detail.link_uid, source.primary.uid if source.primary is not None else ""
    return link if link and (source.principal.name is None or link in source.uids) else own


def _origin(alert: Alert) -> str:
    """Name who raised an emergency by what cannot be chosen freely; what was kept over a restart stands for itself."""
    if alert.record.principal is not None:
        return f"principal {alert.record.principal}"
    if alert.source is None:
        return f"uid {alert.record.uid}"
    return f"host {alert.source.host}" if alert.source.host else f"connection {id(alert.source)}"
