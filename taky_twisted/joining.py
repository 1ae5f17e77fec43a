"""Be one of several nodes: join the others before the doors open, and remember until when they were heard."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool

from taky_twisted import __version__
from taky_twisted.background import logged, undeterred
from taky_twisted.bus.file_exchange import FileExchange
from taky_twisted.bus.redis_bus import RedisBus
from taky_twisted.config import Settings
from taky_twisted.logs import Logger
from taky_twisted.routing.nodes import Nodes
from taky_twisted.routing.router import Router
from taky_twisted.streaming.connections import Connections

if TYPE_CHECKING:
    from taky_twisted.api import Api
    from taky_twisted.enterprise_sync.blobs import Blobs

MARK_NAME = "nodes-last-heard"
"""A file whose time of change says until when the other nodes were heard."""
MARK_SECONDS = 10
"""How often that is noted."""
ALONE_SECONDS = 1.5
"""Who has heard no other node for so long at the start is the only one; each says every second that it is there."""
ANSWER_SECONDS = 0.5
"""In what time all nodes have answered that are not stuck."""
READY_SECONDS = 5
"""For how long at most the doors stay shut for the sake of what other nodes know."""
LOOK_SECONDS = 0.05
COMPARE_SECONDS = 60
"""How often nodes look whether they know the same."""


class Joining(MultiService):
    """This process as a node of a server that has several."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        data_dir: Path,
        router: Router,
        kick: Callable[[str, str], object],
        counts: Callable[[], Mapping[str, int]],
        blobs: Blobs | None,
    ) -> None:
        """Tell nobody yet.

        Args:
            reactor: the reactor.
            settings: name a bus.
            data_dir: where a node keeps what is its own.
            router: whose connections are told of.
            kick: ends this node's connections of a certificate's or account's name, for a reason.
            counts: what the others are told in numbers.
            blobs: contents of files, if this node serves any.

        Raises:
            EndpointError: the settings cannot be used.
        """
        super().__init__()
        self._reactor, self._mark = reactor, data_dir / MARK_NAME
        self.nodes = Nodes(router, reactor, kick)
        redis = settings.bus
        assert redis is not None, "no bus is named"
        self.bus = RedisBus(reactor, redis, settings.node_id, settings.node_name, __version__, self.nodes, counts)
        self.bus.setServiceParent(self)
        self.nodes.join(self.bus)
        if blobs is not None:
            files = FileExchange(reactor, redis, settings.node_id, self.bus, blobs)
            files.setServiceParent(self)
            self.nodes.wanted = files.wanted
        self._marking = LoopingCall(self._note)
        self._comparing = LoopingCall(undeterred(self.log, "comparing with other nodes", self.nodes.compare))
        self._marking.clock = self._comparing.clock = reactor

    async def prepare(self) -> None:
        """Join the others: wait until this node knows what they know, but not for ever."""
        self._tell_old_from_new()
        self.startService()
        await self._know_the_same()

    async def finish(self) -> None:
        """Leave the others."""
        if self.running:
            await self.stopService()

    def _tell_old_from_new(self) -> None:
        try:
            left_off = self._mark.stat().st_mtime
        except FileNotFoundError:
            left_off = 0.0
        self.nodes.exchange.restored(left_off)

    async def _know_the_same(self) -> None:
        waited = 0.0  # not by the clock, which may be set just now: a machine that starts learns the time
        while waited < READY_SECONDS and not self._is_ready(waited):
            await deferLater(self._reactor, LOOK_SECONDS)
            waited += LOOK_SECONDS
        if not self.bus.up:
            self.log.warn("this node opens its doors without the others: it serves what it knows, and joins them later")

    def _is_ready(self, waited: float) -> bool:
        if not self.bus.nodes:
            return self.bus.up and waited >= ALONE_SECONDS
        return self.nodes.exchange.agreed.called and not self.nodes.unknown and waited >= ANSWER_SECONDS

    def startService(self) -> None:
        super().startService()
        self._marking.start(MARK_SECONDS, now=False).addErrback(logged(self.log, "noting when nodes were heard"))
        self._comparing.start(COMPARE_SECONDS, now=False).addErrback(logged(self.log, "comparing with other nodes"))

    def stopService(self) -> Deferred[None]:
        for calling in (self._marking, self._comparing):
            if calling.running:
                calling.stop()
        self.nodes.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await super().stopService()

    def _note(self) -> Deferred[None] | None:
        if not self.bus.up:
            return None
        noting: Deferred[None] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._touch)
        return noting.addErrback(logged(self.log, f"noting in {self._mark} that the other nodes were heard"))

    def _touch(self) -> None:
        now = self._reactor.seconds()
        self._mark.touch(mode=0o600)
        os.utime(self._mark, (now, now))


def join_nodes(
    reactor: Any, settings: Settings, data_dir: Path, router: Router, connections: Connections, api: Api | None
) -> Joining:
    """Make this process a node of a server that names a bus.

    Raises:
        EndpointError: the settings cannot be used.
    """

    def kick(name: str, reason: str) -> None:
        connections.close_named(name, reason)
        if api is not None:
            api.close_named(name, reason)

    def counts() -> Mapping[str, int]:
        return {"streams": len(connections), "http": len(api.connections) if api is not None else 0}

    blobs = api.sync.blobs if api is not None else None
    return Joining(reactor, settings, data_dir, router, kick, counts, blobs)
