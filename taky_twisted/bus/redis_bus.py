"""The bus: two connections to Redis, one that tells and one that listens."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from taky_twisted.background import logged
from taky_twisted.config.values import RedisSettings
from taky_twisted.interfaces import BusListener, Node
from taky_twisted.logs import Logger
from taky_twisted.redis_client import Redis, RedisError
from taky_twisted.routing.words import Word

from .calls import Calls
from .listening import Listening
from .tally import Tally
from .telling import Telling

START_SECONDS = 5.0
"""How long Redis is waited for at the start."""


class RedisBus(Service):
    """Joins this node to the others of its server; a `taky_twisted.interfaces.Bus`."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: RedisSettings,
        node_id: str,
        name: str,
        version: str,
        listener: BusListener,
        counts: Callable[[], Mapping[str, int]],
        make_redis: Callable[[Any, RedisSettings], Redis] = Redis,
    ) -> None:
        """Connect to nothing yet.

        Args:
            reactor: the reactor.
            settings: where the nodes meet.
            node_id: names the server; it is the same for all its nodes.
            name: what people call this node.
            version: this program's.
            listener: takes what other nodes tell.
            counts: what the others are told in numbers, every second.
            make_redis: makes a connection.

        Raises:
            EndpointError: the settings cannot be used.
        """
        clock = self._clock = IReactorTime(reactor)
        tally = self.tally = Tally()
        """What is counted here."""
        calls = self._calls = Calls(clock, "taking what other nodes say")
        self._redis = writer, reader = make_redis(reactor, settings), make_redis(reactor, settings)
        self.instance, self.up = secrets.token_hex(16), False
        self.started: Deferred[None] = Deferred()
        """Fires when the bus works for the first time, or when it is clear that it does not."""
        self._listener = listener
        self._away_since: float | None = None
        self._dropped_before = 0
        stream = f"taky:{node_id}:bus"
        self._listening = Listening(clock, reader, stream, self.instance, listener, calls, tally, self._changed)
        self._telling = Telling(
            clock,
            writer,
            stream,
            Node(self.instance, name, version, clock.seconds()),
            counts,
            tally,
            changed=self._changed,
            there=self._is_there,
            undelivered=lambda word: calls.put([(listener.undelivered, word)]),
        )

    @property
    def nodes(self) -> Sequence[Node]:
        """The other nodes that are there."""
        return self._listening.members.nodes

    @property
    def crowded(self) -> bool:
        """Whether more waits to be told than gets out in a moment."""
        return self._telling.crowded

    def tell(self, word: Word) -> None:
        self._telling.tell(word)

    def startService(self) -> None:
        super().startService()
        for redis in self._redis:
            redis.startService()
        self._telling.start()
        waiting = self._redis[0].wait(START_SECONDS)
        waiting.addErrback(self._not_there)
        waiting.addErrback(logged(self.log, "waiting for Redis"))

    def stopService(self) -> Deferred[None]:
        """Say goodbye, then close the connections."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._telling.finish()
        self._listening.stop()
        self.up = False
        self._fire_started()
        await DeferredList([redis.stopService() for redis in self._redis], fireOnOneErrback=True)
        self._calls.close()

    def _is_there(self, id_: bytes, begun_anew: bool) -> None:
        if begun_anew:
            self._listening.start_over()
        self._listening.start_at(id_)

    def _not_there(self, failure: Failure) -> None:
        error: Any = failure.value
        self._changed(error)

    def _changed(self, error: RedisError | None) -> None:
        before, self.up = self.up, bool(self.running) and self._telling.works and self._listening.works
        if self.up and not before:
            self._is_back()
        elif self.running and error is not None and self._away_since is None:
            self._is_away(error)

    def _is_away(self, error: RedisError) -> None:
        self.tally.outages += 1
        self._away_since, self._dropped_before = self._clock.seconds(), self.tally.dropped
        self.log.warn(
            "the other nodes cannot be reached through Redis: {error}. {advice} Meanwhile this node serves its own "
            "clients, and those of other nodes do not hear them",
            error=str(error),
            advice=error.advice,
        )
        self._fire_started()

    def _is_back(self) -> None:
        if self._away_since is not None:
            self.log.info(
                "the other nodes are reached again, after {seconds} s; {dropped} words to them were dropped meanwhile",
                seconds=round(self._clock.seconds() - self._away_since, 1),
                dropped=self.tally.dropped - self._dropped_before,
            )
            self._away_since = None
        self._calls.put([(self._listener.back,)])
        self._fire_started()

    def _fire_started(self) -> None:
        if not self.started.called:
            self.started.callback(None)
