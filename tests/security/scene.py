"""A small world of streams: somebody to be harmed, and everybody who may try."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from twisted.internet.task import Clock

from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import ANON_GROUP, ANONYMOUS, Principal
from taky_twisted.marti.injectors import InjectorsArea
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.streaming.datagrams import CoTDatagrams
from tests.fakes import MemorySink, principal
from tests.marti.asking import Asking
from tests.samples import NOW, emergency, event, marker, sa

OTHERS = "OTHERS"
"""The group that has no part in anything."""
GROUP = "GROUP"
"""The group where everything happens; where nobody proves anything it is everybody's."""

NOBODY = ("anonymous", "datagram", "monitor")
"""Whoever proves nothing, and so is in the group of everybody."""

Say = Callable[[bytes], None]


class Phone:
    """Somebody's stream, with what he hears."""

    def __init__(self, scene: Scene, who: Principal, *, everything: bool = False, host: str = "192.0.2.1") -> None:
        self.sink = MemorySink()
        scene.ports += 1
        peer = f"{host}:{scene.ports} at ssl:8089"
        self._scene = scene
        self.stream: Subscription = scene.router.subscribe(
            who, self.sink, peer, 0 if everything else scene.limits.max_event_to_client, everything
        )

    def say(self, *documents: bytes) -> None:
        """Say events; the reactor turn ends after them."""
        self.stream.sink_heard = self._scene.now()
        for document in documents:
            self.stream.publish(event(document))
        self._scene.turn()

    def heard(self) -> list[str]:
        """Read the uids of what came since the last time."""
        events, self.sink.events = self.sink.events, []
        return [each.detail.link_uid if each.type == "t-x-d-d" else each.uid for each in events]

    def shown(self) -> list[str]:
        """Read the uids of what it was shown when it came."""
        return [each.uid for each in self.sink.replayed]


class Scene:
    """A victim with an item and an emergency, a witness of the same group, somebody who is away, and an actor."""

    def __init__(self, actor: str) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.ports = 4000
        self.limits = limits = Limits()
        self.router = Router(self.clock, MemoryStore(self.clock), limits, pin_uid=True)
        self.router.offers.base_url = lambda stream: "https://tak.example:8443"
        self.group = ANON_GROUP if actor in NOBODY else GROUP
        self.victim, self.witness = Phone(self, self.member("victim")), Phone(self, self.member("witness"))
        self.away = Phone(self, self.member("away"))
        self.victim.say(sa("VICTIM", "VICTIM"), marker("ITEM", "ITEM"), emergency("VICTIM", "VICTIM"))
        self.witness.say(sa("WITNESS", "WITNESS", team="Red"))
        self.away.say(sa("AWAY", "AWAY"))
        self.away.stream.close(clean=True)
        self.turn()
        self.asking = Asking(InjectorsArea(self.router, limits.max_event_bytes), clock=self.clock)
        self.actor = ACTORS[actor](self)
        self.quiet()

    def member(self, name: str) -> Principal:
        """Make somebody of the group, who proves his name."""
        return principal(name, [self.group], [self.group])

    def now(self) -> float:
        """Tell the time."""
        return self.clock.seconds()

    def turn(self) -> None:
        """End the reactor turn."""
        self.clock.advance(0)

    def quiet(self) -> None:
        """Forget what was heard so far."""
        self.turn()
        for phone in (self.victim, self.witness):
            phone.heard()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, second by second."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
        self.router.prune()


class Actor:
    """Somebody who says things."""

    def __init__(self, scene: Scene, say: Say, phone: Phone | None = None) -> None:
        self.scene, self._say, self.phone = scene, say, phone

    def say(self, *documents: bytes) -> None:
        """Say events."""
        for document in documents:
            self._say(document)
        self.scene.turn()

    def heard(self) -> list[str]:
        """Read what he heard since the last time."""
        return self.phone.heard() if self.phone is not None else []


def _on_stream(who: Callable[[Scene], Principal], everything: bool = False) -> Callable[[Scene], Actor]:
    def make(scene: Scene) -> Actor:
        phone = Phone(scene, who(scene), everything=everything, host="198.51.100.9")
        return Actor(scene, phone.say, phone)

    return make


def _certificate(groups_in: Iterable[str], groups_out: Iterable[str]) -> Callable[[Scene], Principal]:
    return lambda scene: principal("actor", groups_in, groups_out)


def _over_http(who: Callable[[Scene], Principal]) -> Callable[[Scene], Actor]:
    def make(scene: Scene) -> Actor:
        def say(document: bytes) -> None:
            body = json.dumps({"uid": "X", "toInject": document.decode()}).encode()
            answer = scene.asking("POST", "/Marti/api/injectors/cot/uid", body, who=who(scene))
            assert answer.status == 200, answer

        return Actor(scene, say)

    return make


def _datagrams(scene: Scene) -> Actor:
    port = CoTDatagrams(scene.clock, scene.router, "udp:6969", scene.router.notices)
    return Actor(scene, lambda document: port.datagramReceived(document, ("198.51.100.9", 4000)))


ACTORS: dict[str, Callable[[Scene], Actor]] = {
    "own group": _on_stream(_certificate([GROUP], [GROUP])),
    "another group": _on_stream(_certificate([OTHERS], [OTHERS])),
    "hears only": _on_stream(_certificate([], [GROUP])),
    "speaks only": _on_stream(_certificate([GROUP], [])),
    "over HTTP": _over_http(_certificate([GROUP], [GROUP])),
    "over HTTP, another group": _over_http(_certificate([OTHERS], [OTHERS])),
    "anonymous": _on_stream(lambda scene: ANONYMOUS),
    "anonymous, another group": _on_stream(lambda scene: ANONYMOUS),
    "datagram": _datagrams,
    "monitor": _on_stream(lambda scene: ANONYMOUS, everything=True),
}
"""Everybody who may say something: the columns of the table. Victim and witness are of one group, and proved."""
