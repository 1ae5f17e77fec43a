from __future__ import annotations

import json

from taky_twisted.cli.status import human, lines, table
from tests.cli.answering import AnsweringTestCase

TAKYS = {"last_rx": 95.0, "num_rx": 3, "connected": 40.0, "ip": "10.0.0.1", "uid": "A", "callsign": "FOX1"}
OURS = {
    **TAKYS,
    "door": "ssl:8089",
    "protocol": "protobuf",
    "certificate": {"name": "ALPHA-1", "issuer": "CN=x", "serial": "1"},
    "active": {"in": ["__ANON__"], "out": ["__ANON__"]},
    "backlog": 0,
    "dropped": 0,
}
HEAD = ["Uptime: 00h 01m 40.000s", "Num Clients: 1", ""]


class StatusTests(AnsweringTestCase):
    def test_takys(self) -> None:
        """What taky says is shown as taky's own program does."""
        shown = lines({"uptime": 100, "num_clients": 1, "clients": [TAKYS]}, 100.0)
        self.assertEqual(
            shown,
            [
                *HEAD,
                "Callsign | UID | Connected       | IP       | LastRx",
                "---------+-----+-----------------+----------+----------------",
                "FOX1     | A   | 00h 01m 00.000s | 10.0.0.1 | 00h 00m 05.000s",
            ],
        )

    def test_ours(self) -> None:
        """What we know beside that stands behind it; columns in which nothing would stand are left out."""
        shown = lines({"uptime": 100, "clients": [OURS]}, 100.0)
        self.assertTrue(shown[3].endswith("LastRx          | Certificate | Door     | Protocol"))
        self.assertTrue(shown[5].endswith("| ALPHA-1     | ssl:8089 | protobuf"))

    def test_nodes(self) -> None:
        """Of a server with several nodes it is seen which are heard, and where who is connected elsewhere is."""
        shown = lines({"uptime": 100, "clients": [OURS, {**OURS, "node": "pi-2"}], "nodes": [{"name": "pi-2"}]}, 100.0)
        self.assertEqual(shown[2], "Other Nodes: pi-2")
        self.assertIn("| pi-2 |", shown[-1])
        shown = lines({"uptime": 100, "clients": [], "nodes": []}, 100.0)
        self.assertEqual(shown[2], "Other Nodes: none is heard at the moment")

    def test_slow_and_groups(self) -> None:
        """Who reads slowly, and who is in which groups, is seen."""
        slow = {**OURS, "backlog": 5000, "dropped": 7, "active": {"in": ["red"], "out": ["red", "blue"]}}
        one = {**OURS, "active": {"in": ["red"], "out": ["red"]}}
        none = {**OURS, "active": {"in": [], "out": []}}
        shown = lines({"uptime": 100, "clients": [slow, one, none, OURS]}, 100.0)
        self.assertIn("| Groups                | Backlog | Dropped", shown[3])
        self.assertTrue(shown[5].endswith("| in red; out red, blue | 5000    | 7"))
        self.assertIn("| red  ", shown[6])
        self.assertIn("| none  ", shown[7])

    def test_anonymous(self) -> None:
        """Who has not said who it is is listed, with whether it said anything."""
        client = {"last_rx": 0, "num_rx": 0, "connected": 40.0, "anonymous": True}
        self.assertIn(
            "(anonymous) | (anonymous) | 00h 01m 00.000s | None | never", lines({"clients": [client]}, 100)[-1]
        )

    def test_nobody(self) -> None:
        """Without clients there is no table."""
        self.assertEqual(lines({"uptime": 100, "clients": []}, 100)[1:], ["Num Clients: 0", ""])
        self.assertEqual(table([]), [])

    def test_names(self) -> None:
        """What clients call themselves cannot forge a line, nor color the screen."""
        shown = lines({"clients": [{**TAKYS, "callsign": "X\n\x1b[31mY"}]}, 100.0)
        self.assertIn(r"X\n\x1b[31mY", shown[-1])

    def test_times(self) -> None:
        """Times are spelled as taky does."""
        for seconds, text in (
            (0, "00h 00m 00.000s"),
            (142, "00h 02m 22.000s"),
            (90061.5, "1d 01h 01m 01.500s"),
            (-1, "00h 00m 00.000s"),
        ):
            self.assertEqual(human(seconds), text)

    def test_verb(self) -> None:
        """The verb asks our socket in our protocol and taky's in taky's, and can answer in JSON."""
        self.answer({"v": 1, "ok": True, "uptime": 100, "num_clients": 1, "clients": [OURS]})
        self.assertIn("ALPHA-1", self.takyctl("status"))
        path = self.answer({"uptime": 100, "num_clients": 1, "clients": [TAKYS]}, name="taky-mgmt.sock", end=b"\0")
        self.assertEqual(json.loads(self.takyctl("status", "-j", "-U", str(path)))["clients"], [TAKYS])
        self.answer({"v": 1, "ok": True, "uptime": 1, "clients": []})
        self.assertEqual(json.loads(self.takyctl("status", "--json")), {"uptime": 1, "clients": []})
        self.assertEqual([json.loads(each) for each in self.requests[::2]], [{"v": 1, "do": "status"}] * 2)

    def test_not_running(self) -> None:
        """If no server runs, one line says so."""
        self.assertRegex(
            self.refused("status"), r"^takyctl status: no server answers at /.*taky-admin\.sock; does it run"
        )
