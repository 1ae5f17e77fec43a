from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from taky_twisted.cli.trace import lines
from tests.cli.answering import AnsweringTestCase

NOON = datetime(2026, 3, 1, 12, 0, 0)


def traced(**more: Any) -> dict[str, Any]:
    """Spell what a server says of an event."""
    outcomes = [
        {"name": "FOX2", "peer": "10.0.0.2:5 at tcp:8087", "got": True, "rule": "delivered", "why": "it was sent"},
        {"name": "FOX3", "peer": "10.0.0.3:5 at tcp:8087", "got": False, "rule": "groups", "why": "it hears blue"},
        {"name": "FOX4", "peer": "", "got": False, "rule": "away", "why": "it is not connected"},
    ]
    return {
        "uid": "MARK-1",
        "type": "a-h-G",
        "size": 500,
        "sender": "FOX1",
        "peer": "10.0.0.1:5 at ssl:8089",
        "principal": "ALPHA-1",
        "groups": ["red"],
        "destinations": [],
        "outcomes": outcomes,
        "rules": {"delivered": 1, "groups": 1, "away": 1},
        **more,
    }


class TraceTests(AnsweringTestCase):
    def test_lines(self) -> None:
        """An operator reads who said what, who got it, and who did not and why."""
        self.assertEqual(
            lines(traced(), NOON),
            [
                "12:00:00 FOX1 said a-h-G MARK-1 (500 bytes)",
                "  from      10.0.0.1:5 at ssl:8089 as ALPHA-1",
                "  groups    red",
                "  got it    FOX2 (10.0.0.2:5 at tcp:8087): it was sent [delivered]",
                "  did not   FOX3 (10.0.0.3:5 at tcp:8087): it hears blue [groups]",
                "            FOX4: it is not connected [away]",
            ],
        )

    def test_more(self) -> None:
        """Destinations are named; receivers that are not listed are counted; nobody is nobody."""
        shown = lines(traced(destinations=["callsign FOX2"], rules={"echo": 1, "delivered": 500}, groups=[]), NOON)
        self.assertEqual(shown[2:4], ["  groups    none", "  to        callsign FOX2"])
        self.assertEqual(shown[-1], "  and 498 more; in all: delivered 500, echo 1")
        self.assertEqual(lines(traced(outcomes=[], rules={}), NOON)[-1], "  nobody is connected")

    def test_names(self) -> None:
        """What clients call themselves cannot forge a line."""
        self.assertIn(r"12:00:00 X\nY said", lines(traced(sender="X\nY"), NOON)[0])

    def test_verb(self) -> None:
        """The verb says that it waits, shows each event, and ends after as many as were asked for."""
        began, told = {"ok": True, "more": True}, {"ok": True, "more": True, "traced": traced()}
        self.answer(began, told, {**told, "left_out": 3}, told)
        said = self.takyctl("trace", "FOX1", "-n", "2")
        self.assertIn("Waiting for the next event of FOX1; Control-C ends this.", said)
        self.assertEqual(said.count("FOX1 said"), 2)
        self.assertTrue(said.endswith("(3 events before this one came too fast to be shown)\n"))
        self.assertEqual(json.loads(self.requests[0]), {"v": 1, "do": "trace", "whom": "FOX1"})
        self.assertNotIn("other nodes", said)

    def test_nodes(self) -> None:
        """Of a server with several nodes one knows only what its own clients get, and it is said where else to look."""
        began, told = {"ok": True, "more": True}, {"ok": True, "more": True, "traced": traced()}
        nodes = [{"name": "alpha worker 2"}, {"name": "beta"}]
        self.answer({**began, "nodes": nodes}, told)
        said = self.takyctl("trace", "FOX1", "-n", "1")
        self.assertIn("Clients of other nodes (alpha worker 2, beta) are not among", said)
        self.answer({**began, "nodes": nodes}, told)
        self.assertEqual(len(self.takyctl("trace", "FOX1", "-n", "1", "-j").splitlines()), 1)

    def test_json(self) -> None:
        """Programs get one object for each event."""
        self.answer({"ok": True, "more": True}, {"ok": True, "more": True, "traced": traced()})
        self.assertEqual(json.loads(self.takyctl("trace", "FOX1", "-n1", "-j")), traced())

    def test_ends(self) -> None:
        """When the server stops, that is said; a number of events is one."""
        self.answer({"ok": True, "more": True})
        self.assertIn("has ended the connection", self.refused("trace", "FOX1"))
        for number in ("0", "x", "-1"):
            self.assertRaises(SystemExit, self.run_verb, "trace", "FOX1", f"-n{number}")
