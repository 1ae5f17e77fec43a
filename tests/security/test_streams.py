"""Everything that can be tried on a stream, by everybody: the table of the manual says what comes of it."""

from __future__ import annotations

import re
from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot import types
from taky_twisted.cot.event import Destinations
from taky_twisted.routing import switching
from tests.fakes import principal
from tests.samples import chat, emergency, marker, sa
from tests.security.actions import ACTIONS
from tests.security.scene import ACTORS, GROUP, OTHERS, Phone, Scene
from tests.security.tables import table

TRIED = {
    "PING": "answer pings of others",
    "PONG": "answer pings of others",
    "DELETE": "delete an item",
    "CHAT": "chat with everybody",
    "CHAT_FAILED": "say that a chat of somebody failed",
    "FILE_OFFER": "offer a file",
    "EMERGENCY_CANCEL": "cancel an emergency of somebody else",
    "SUBSCRIBE": "set a filter for others",
    "UNSUBSCRIBE": "set a filter for others",
    "GEO_FILTER": "set a filter for others",
    "INCOGNITO_ON": "hide others",
    "INCOGNITO_OFF": "show somebody who hides",
    "GROUPS_CHANGED": "say that the groups of others have changed",
    "CONTROL_TYPES": "set a filter for others",
    "EMERGENCY_TYPES": "raise an emergency",
}
"""By which action each type is tried that the server treats in its own way."""
NAMED = {
    "callsigns": "say something to somebody, by his callsign",
    "uids": "say something to somebody, by his uid",
    "missions": "say something to a mission",
    "groups": "say something to a group by its name",
    "explicit": "say something to somebody, by his uid",
}
"""The same for everything that a sender can name."""


class TableTests(SynchronousTestCase):
    """The table is complete: what is new has to be entered, or this fails."""

    def test_rows_and_columns(self) -> None:
        """Every row is tried by every column, and nothing else is tried."""
        rows = table("streams")
        self.assertEqual([row["action"] for row in rows], list(ACTIONS))
        self.assertEqual([*rows[0]][1:], list(ACTORS))

    def test_every_type(self) -> None:
        """Every type of event that the server treats in its own way is tried by some row."""
        named = {name for name in vars(types) if name.isupper() and not name.startswith("_")}
        self.assertEqual(set(TRIED), named)
        self.assertLessEqual({*TRIED.values(), *NAMED.values()}, set(ACTIONS))

    def test_every_destination(self) -> None:
        """Everything that a sender can name is named by some row."""
        self.assertEqual(set(NAMED), {field.name for field in fields(Destinations)})


class ActionsTests(SynchronousTestCase):
    """One test for each row, made below."""

    def test_two_strangers_are_alike(self) -> None:
        """For somebody of another group it makes no difference what he can prove."""
        for row in table("streams"):
            self.assertEqual(row["another group"], row["anonymous, another group"], row["action"])

    def everybody(self, row: dict[str, str]) -> None:
        """Whoever tries something, what comes of it is what the table says."""
        got = {actor: ACTIONS[row["action"]](Scene(actor)) for actor in ACTORS}
        self.assertEqual(got, {actor: row[actor] for actor in ACTORS}, row["action"])


def _add_tests() -> None:
    for row in table("streams"):

        def run(self: ActionsTests, row: dict[str, str] = row) -> None:
            self.everybody(row)

        run.__doc__ = f"Whoever tries to {row['action']}, what comes of it is what the table says."
        run.__name__ = "test_" + re.sub(r"\W+", "_", row["action"])
        setattr(ActionsTests, run.__name__, run)


_add_tests()


class WaitingTests(SynchronousTestCase):
    def test_no_longer_there(self) -> None:
        """A chat that waits is not for somebody who is in none of its groups when he comes back."""
        for groups, got in (([GROUP], True), ([OTHERS], False)):
            scene = Scene("own group")
            scene.victim.say(chat("V", id_="AWAY", uids=("AWAY",), now=scene.now(), marti='<dest uid="AWAY"/>'))
            back = Phone(scene, principal("away", groups, groups))
            back.say(sa("AWAY", "AWAY", now=scene.now()))
            self.assertEqual("GeoChat.V.AWAY.m-1" in back.heard(), got, groups)


class SwitchedOffTests(SynchronousTestCase):
    """A group that somebody has switched off is as if it were not his."""

    def setUp(self) -> None:
        self.scene = Scene("own group")
        self.both = Phone(self.scene, principal("both", [self.scene.group, OTHERS], [self.scene.group, OTHERS]))
        self.both.say(sa("BOTH", "BOTH"))
        self.third = Phone(self.scene, principal("third", ["THIRD"], ["THIRD"]))
        others = frozenset({OTHERS})
        switching.switch(self.scene.router, self.both.stream.granted, "", others, others, self.scene.now())
        self.scene.turn()
        self.both.heard()

    def test_hears_nothing(self) -> None:
        """He hears nothing of it, broadcast, directed or again."""
        now = self.scene.now()
        self.scene.victim.say(
            marker("NEW", now=now),
            marker("NEW-2", now=now, marti='<dest uid="BOTH"/>'),
            emergency("VICTIM", "V", now=now),
        )
        self.scene.pass_time(31)
        self.assertEqual(self.both.heard(), [])

    def test_third(self) -> None:
        """Somebody who has no part in either group hears nothing of that."""
        self.assertEqual((self.third.heard(), "BOTH" in self.scene.witness.heard()), ([], True))

    def test_says_nothing(self) -> None:
        """He cannot speak there either, not even by naming it."""
        now = self.scene.now()
        self.scene.quiet()
        self.both.say(
            marker("NEW", now=now),
            marker("NEW-2", now=now, marti='<dest uid="VICTIM"/>'),
            marker("NEW-3", now=now, marti=f'<dest group="{self.scene.group}"/>'),
        )
        self.assertEqual(self.scene.victim.heard(), [])
