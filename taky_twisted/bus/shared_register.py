"""The certificate register, shared: what is entered into one node's file is in those of all nodes a moment later.

::

    takyctl, enrollment --> the register's files --look--> SharedRegister --put--> SharedLog
    the doors <--reload-- the register's files <--join-- SharedRegister <--take_in-- SharedLog

Nodes on one machine may share the files, others have files of their own. Nothing is ever removed from a register: what
two nodes say of a certificate or a name is made one (`taky_twisted.identity.cert_db.CertDb.join`), and whoever then
knows more than what was told tells it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import LoopingCall

from taky_twisted.background import logged, undeterred
from taky_twisted.bus.shared_copy import Kind, Payloads
from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.register import CertificateRegister
from taky_twisted.enterprise_sync.disk_thread import STOP_SECONDS, patiently
from taky_twisted.identity.cert_db import Ban, CertDb, Record, ban_key, beside, read_ban, read_record, spelled
from taky_twisted.identity.certificates import printable
from taky_twisted.logs import Logger
from taky_twisted.own_thread import OwnThread

CERTIFICATES, BANS = "certificates", "bans"
LOOK_SECONDS = 2
"""How often the files are looked at, as the doors do."""
_VERSION = 1
_NO_DATE = "1970-01-01T00:00:00Z"  # what a line of the register has for a date that is not known

V = TypeVar("V")
State = dict[tuple[str, str], bytes]
"""Entries by kind and key."""


class SharedRegister:
    """One register, and the entries of it that all nodes have."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        shared: SharedLog,
        register: CertificateRegister,
        changed: Callable[[], object],
        suffix: str = "",
    ) -> None:
        """Touch nothing yet.

        Args:
            reactor: for the interval, and it takes calls from threads.
            shared: not started yet.
            register: this node's.
            changed: called when another node's entries were entered here.
            suffix: tells its kinds from those of another register that this node has.
        """
        self._clock, self._register, self._changed, self._suffix = reactor, register, changed, suffix
        self._shared = shared
        self._thread = OwnThread("shared register", IReactorFromThreads(reactor))
        self._busy = DeferredLock()
        self._seen: State = {}
        self._signature: object = None
        self._undone: State = {}
        """What could not be entered, because the files cannot be written."""
        self._complained = False
        self._warned: set[tuple[str, str]] = set()
        self._looking = LoopingCall(undeterred(self.log, "looking for new entries in the register", self.look))
        self._looking.clock = reactor
        for kind in (CERTIFICATES, BANS):
            self._share(kind)

    async def begin(self) -> None:
        """Read the register; after this the log may be started."""
        await self._busy.run(self._in_thread, self._read_changed, self._first_read)
        self._looking.start(LOOK_SECONDS, now=False).addErrback(logged(self.log, "looking into the register"))

    async def end(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()
            if await patiently(self._busy.acquire(), STOP_SECONDS, self._clock):
                self._thread.stop()

    def look(self) -> Deferred[None]:
        """Tell the other nodes what was entered since the last look."""
        return self._busy.run(self._look)

    def _share(self, kind: str) -> None:
        shared = Kind(
            kind + self._suffix,
            lambda payloads: self._busy.run(self._take_in, kind, payloads),
            lambda: {key: payload for (of, key), payload in self._seen.items() if of == kind},
            lasting=True,
        )
        self._shared.share(shared)

    # One after the other

    def _look(self) -> Deferred[None]:
        if self._undone:
            undone, self._undone = self._undone, {}
            return self._in_thread(self._join, self._joined, undone)
        return self._in_thread(self._read_changed, self._found)

    def _take_in(self, kind: str, payloads: Payloads) -> Deferred[Collection[str]]:
        wanted = {(kind, key): payload for key, payload in payloads.items() if payload is not None}
        good = {place: payload for place, payload in wanted.items() if self._is_good(place, payload)}
        joining = self._in_thread(self._join, self._joined, good)
        return joining.addCallback(lambda _: [] if self._undone else [key for _, key in good])

    def _in_thread(self, call: Callable[..., V], then: Callable[[V], None], *args: object) -> Deferred[None]:
        return self._thread.run(call, *args).addCallback(then)

    def _first_read(self, found: State | None) -> None:
        self._seen = found or {}

    def _found(self, found: State | None) -> None:
        if found is None:
            return
        seen, self._seen = self._seen, found
        for place, payload in found.items():
            if seen.get(place) != payload:
                self._tell(place, payload)

    def _joined(self, result: tuple[State, State, State] | None) -> None:
        if result is None:
            return
        wanted, joined, found = result
        seen, self._seen = self._seen, found
        for place, payload in found.items():
            if seen.get(place) != payload and place not in wanted:
                self._tell(place, payload)
        for place, payload in joined.items():
            if payload != wanted[place]:
                # Not at once: it is a change of what the log will have noted as taken in then.
                self._clock.callLater(0, self._tell, place, payload)
        if found != seen:
            self._changed()

    def _tell(self, place: tuple[str, str], payload: bytes) -> None:
        self._shared.put(place[0] + self._suffix, place[1], payload)

    def _is_good(self, place: tuple[str, str], payload: bytes) -> bool:
        try:
            good = _place(_read(place[0], payload)) == place
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            good = False
        if not good and place not in self._warned and len(self._warned) < 1000:
            self._warned.add(place)
            self.log.warn(
                "{kind}: what another node says of {key} is skipped, because it cannot be read",
                kind=place[0],
                key=repr(place[1][:100]),
            )
        return good

    # In the thread

    def _read_changed(self) -> State | None:
        """Read the files, if they are others than before."""
        signature = self._sign()
        if signature == self._signature:
            return None
        try:
            found = _state(self._register.read())
        except EnrollmentError:
            return None  # the doors say so
        self._signature = signature
        return found

    def _join(self, wanted: Mapping[tuple[str, str], bytes]) -> tuple[State, State, State] | None:
        values = [_read(kind, payload) for (kind, _), payload in wanted.items()]
        bans = [value for value in values if isinstance(value, Ban)]
        try:
            found, records = self._register.join([each for each in values if isinstance(each, Record)], bans)
        except EnrollmentError as error:
            self._undone |= wanted
            if not self._complained:
                self._complained = True
                self.log.warn(
                    "{error}; what other nodes have revoked and banned does not count here until it can be entered, "
                    "which is tried every {seconds} s. Make room, or make the file writable.",
                    error=str(error),
                    seconds=LOOK_SECONDS,
                )
            return None
        self._complained = False
        self._signature = None  # somebody else may have written right after us
        joined: list[Record | Ban] = [*records, *(found.bans[ban_key(ban.name)] for ban in bans)]
        return dict(wanted), {_place(each): _spell(each) for each in joined}, _state(found)

    def _sign(self) -> object:
        return [_signature(os.fspath(path)) for path in (self._register.path, beside(self._register.path))]


def _signature(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _state(found: CertDb) -> State:
    entries: list[Record | Ban] = [*found.records(), *found.bans.values()]
    return {_place(each): _spell(each) for each in entries}


def _place(value: Record | Ban) -> tuple[str, str]:
    if isinstance(value, Ban):
        return BANS, ban_key(value.name)
    return CERTIFICATES, f"{value.serial_hex}\n{value.issuer or ''}"


def _spell(value: Record | Ban) -> bytes:
    """Spell an entry, the same one always alike, also after it was a line of taky's file on another node."""
    if isinstance(value, Record) and value.issuer is None:
        value = replace(value, name=printable(value.name), expires=None if value.revoked else value.expires)
    told = spelled(value)
    if isinstance(value, Record) and value.issuer is None:
        told = {name: content for name, content in told.items() if name == "revoked" or content != _NO_DATE}
    return json.dumps({"v": _VERSION, **told}, sort_keys=True).encode()


def _read(kind: str, payload: bytes) -> Record | Ban:
    told = json.loads(payload)
    if told["v"] != _VERSION:
        raise ValueError("another version")
    return read_ban(told) if kind == BANS else read_record(told)
