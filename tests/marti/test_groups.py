from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.principal import ANON_GROUP, Principal
from taky_twisted.marti.errors import MartiError
from taky_twisted.marti.groups import MAX_ENTRIES, GroupsArea, positions, spell_groups
from taky_twisted.routing.subscription import Subscription
from tests.fakes import MemorySink, Site, principal
from tests.marti.asking import Answer, Asking
from tests.samples import event, marker, sa

BLUE, RED, BOTH = frozenset({"Blue"}), frozenset({"Red"}), frozenset({"Blue", "Red"})
HOST = "198.51.100.7"
"""From where requests come."""


def alice() -> Principal:
    """Make somebody with two groups both ways."""
    return principal("alice", BOTH, BOTH)


class GroupsAreaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.router = self.site.router
        self.area = GroupsArea(self.site.clock, self.router)
        self.ask = self.asking()

    def asking(self) -> Asking:
        """Serve what the router knows, wired as the server does it."""
        ask = Asking(self.area, clock=self.site.clock)
        ask.marti.granted = lambda who, host: self.router.groups.granted(who, host=host)
        return ask

    def connect(self, uid: str, who: Principal | None = None, host: str = HOST) -> tuple[Subscription, MemorySink]:
        """Connect a device that has reported itself."""
        sink = MemorySink()
        stream = self.router.subscribe(who or alice(), sink, f"{host}:4711 at ssl:8089")
        stream.publish(event(sa(uid, uid)))
        self.site.turn()
        sink.events.clear()
        sink.replayed.clear()
        return stream, sink

    def put(self, body: Any, where: str = "active", who: Principal | None = None, query: str = "") -> Answer:
        """Switch groups; by default alice does."""
        spelled = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("PUT", f"/Marti/api/groups/{where}{query}", spelled, who=who or alice())

    def groups(self, who: Principal | None = None, query: str = "?useCache=true") -> list[dict[str, Any]]:
        """List somebody's groups, alice's by default."""
        answer = self.ask("GET", f"/Marti/api/groups/all{query}", who=who or alice())
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        data: list[dict[str, Any]] = answer.json["data"]
        return data

    def active(self, query: str = "") -> set[str]:
        """Tell which groups alice has switched on, both ways."""
        groups = self.groups(query=query)
        on = {group["name"] for group in groups if group["active"]}
        self.assertEqual(len([group for group in groups if group["active"]]), 2 * len(on))
        return on

    def one(self, name: str, direction: str, active: bool) -> dict[str, Any]:
        """Spell a group as ATAK does when it sends it back."""
        return {
            "name": name,
            "direction": direction,
            "created": 1772359200000,
            "type": "SYSTEM",
            "bitpos": 7,
            "active": active,
            "description": "",
            "novel": {"a": [1]},
        }

    def both_ways(self, name: str, active: bool) -> list[dict[str, Any]]:
        """Spell both directions of a group."""
        return [self.one(name, direction, active) for direction in ("IN", "OUT")]

    def test_row18_groups_all(self) -> None:
        """ATAK and TAK Aware find every member with its type on every entry; a site without groups has two entries."""
        answer = self.ask("GET", "/Marti/api/groups/all?useCache=true")
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual((answer.json["version"], answer.json["type"]), ("3", "com.bbn.marti.remote.groups.Group"))
        self.assertTrue(answer.json["nodeId"])
        entry = {"name": "__ANON__", "created": "2026-03-01", "type": "SYSTEM", "bitpos": 2, "active": True}
        self.assertEqual(answer.json["data"], [entry | {"direction": "IN"}, entry | {"direction": "OUT"}])

    def test_row18_every_entry(self) -> None:
        """So it is with many groups, also of one direction and those that are switched off; bits are nobody else's."""
        who = principal("many", {f"g{number}" for number in range(300)}, {"g1", "only out", "größe/1"})
        self.put(self.both_ways("g1", False), who=who)
        found = self.groups(who)
        self.assertEqual(len(found), 303)
        for group in found:
            types = {name: type(value) for name, value in group.items()}
            expected = dict.fromkeys(("name", "direction", "created", "type"), str) | {"bitpos": int, "active": bool}
            self.assertEqual(types, expected)
            self.assertIn(group["direction"], ("IN", "OUT"))
            self.assertRegex(group["created"], r"\A\d{4}-\d\d-\d\d\Z")
            self.assertIn(group["bitpos"], range(1 << 15))
            self.assertIs(group["active"], group["name"] != "g1")
        names = {group["bitpos"]: group["name"] for group in found}
        self.assertEqual(len(names), 302)

    def test_cache(self) -> None:
        """Clients are told that groups can be switched."""
        answer = self.ask("GET", "/Marti/api/groups/groupCacheEnabled").json
        self.assertEqual((answer["type"], answer["data"]), ("java.lang.Boolean", True))

    def test_one_group(self) -> None:
        """A group is shown to who has it; others learn nothing of it."""
        answer = self.ask("GET", "/Marti/api/groups/Blue/IN", who=alice())
        self.assertEqual((answer.status, answer.json["type"]), (200, "com.bbn.marti.remote.groups.Group"))
        self.assertEqual((answer.json["data"]["name"], answer.json["data"]["direction"]), ("Blue", "IN"))
        for path in ("Green/IN", "Blue/UP", "__ANON__/IN"):
            self.assertEqual(self.ask("GET", f"/Marti/api/groups/{path}", who=alice()).status, 404, path)
        self.assertEqual(self.ask("GET", "/Marti/api/groups/Blue/OUT").status, 404, "anonymous")

    def test_switch_off_and_on(self) -> None:
        """What ATAK sends back with other values is so afterwards, on the streams as in the lists."""
        stream, sink = self.connect("A")
        answer = self.put(self.both_ways("Red", False) + self.both_ways("Blue", True))
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.site.turn()
        self.assertEqual([each.type for each in sink.events], ["t-x-g-c"])
        self.assertEqual(
            (self.active(), stream.principal.groups_in, stream.principal.groups_out), ({"Blue"}, BLUE, BLUE)
        )
        self.assertEqual(self.put(self.both_ways("Red", True)).status, 200)
        self.assertEqual((self.active(), stream.principal), (BOTH, alice()))

    def test_directions(self) -> None:
        """Each direction is switched by itself; what is not named stays."""
        self.put([self.one("Red", "in", False)])
        states = {(group["name"], group["direction"]): group["active"] for group in self.groups()}
        self.assertEqual(
            states, {("Blue", "IN"): True, ("Blue", "OUT"): True, ("Red", "IN"): False, ("Red", "OUT"): True}
        )

    def test_what_callers_see(self) -> None:
        """Over HTTP as well somebody has only the groups that are switched on."""
        self.put(self.both_ways("Red", False))
        self.assertEqual(self.ask.marti.granted(alice(), HOST).groups_out, BLUE)

    def test_one_must_stay(self) -> None:
        """Without any group nobody is left; with unknown ones nothing happens."""
        everything = self.both_ways("Red", False) + self.both_ways("Blue", False)
        self.assertEqual(self.put(everything).status, 400)
        self.assertEqual(self.put(everything + self.both_ways("Green", True)).status, 400)
        self.assertEqual(self.active(), BOTH)
        self.assertEqual(self.put(self.both_ways("Green", True)).status, 200)
        self.assertEqual(self.put([]).status, 200)
        self.assertEqual(self.active(), BOTH)

    def test_device(self) -> None:
        """With a device named only that one is switched, and it finds that again without saying which it is."""
        a, _ = self.connect("A")
        b, other = self.connect("B", host="192.0.2.99")
        self.put(self.both_ways("Red", False), query="?clientUid=A")
        self.assertEqual((a.principal.groups_out, b.principal.groups_out, other.events), (BLUE, BOTH, []))
        self.assertEqual(self.active(), {"Blue"})
        self.assertEqual(self.active("?clientUid=B"), BOTH)
        self.put(self.both_ways("Blue", False), query="?clientUid=B")
        self.assertEqual((self.active(), self.active("?clientUid=B")), ({"Blue"}, {"Red"}))
        self.assertEqual(self.put(self.both_ways("Red", True) + self.both_ways("Blue", True)).status, 200)
        self.assertEqual((a.principal, b.principal), (alice(), alice()))

    def test_strange_device(self) -> None:
        """What cannot be a uid is none."""
        for uid in ("x" * 501, "a%0ab", "%00"):
            self.assertEqual(self.put(self.both_ways("Red", False), query=f"?clientUid={uid}").status, 400, uid)
            self.assertEqual(self.ask("GET", f"/Marti/api/groups/all?clientUid={uid}", who=alice()).status, 400)

    def test_bits(self) -> None:
        """TAK Aware names the bits of what is to be active: all others are off."""
        stream, _ = self.connect("A")
        bits = {group["name"]: group["bitpos"] for group in self.groups()}
        self.assertEqual(self.put([bits["Red"], 2, 99999, -1], "activebits").status, 200)
        self.assertEqual((self.active(), stream.principal.groups_in), ({"Red"}, RED))
        self.assertEqual({group["name"]: group["bitpos"] for group in self.groups()}, bits, "bits stay")
        self.assertEqual(self.put([], "activebits").status, 400)
        self.assertEqual(self.put([2], "activebits").status, 400)
        self.assertEqual(self.active(), {"Red"})
        self.assertEqual(self.put([bits["Blue"]], "activebits", query="?clientUid=A").status, 200)
        self.assertEqual(stream.principal.groups_out, BLUE)

    def test_anonymous(self) -> None:
        """Nothing proves who an anonymous caller is: it may confirm what is, and change nothing."""
        here, gone = self.both_ways(ANON_GROUP, True), self.both_ways(ANON_GROUP, False)
        for where, body, status in (
            ("active", here, 200),
            ("active", gone, 400),
            ("active", [self.one(ANON_GROUP, "IN", False)], 403),
            ("activebits", [2], 200),
            ("activebits", [3], 400),
        ):
            answer = self.ask("PUT", f"/Marti/api/groups/{where}", json.dumps(body).encode())
            self.assertEqual(answer.status, status, (where, body))
        self.assertEqual(len(self.router.groups), 0)

    def test_shown_again(self) -> None:
        """ATAK, which has taken everything off its map, asks for it with its groups."""
        _, other = self.connect("B", principal("bob", BLUE, BLUE))
        other_stream, _ = self.connect("C", principal("carol", BLUE, BLUE))
        other_stream.publish(event(marker("M")))
        _, sink = self.connect("A")
        _, elsewhere = self.connect("A2", host="192.0.2.99")
        self.groups()
        self.assertEqual(sink.replayed, [])
        self.groups(query="?useCache=true&sendLatestSA=true")
        self.assertEqual([each.uid for each in sink.replayed], ["B", "C", "A2", "M"])
        self.assertEqual((elsewhere.replayed, other.replayed), ([], []))
        self.assertEqual(self.ask("GET", "/Marti/api/groups/all?sendLatestSA=true").status, 200)

    def test_restart(self) -> None:
        """What is switched off stays so over a restart, of the device and of all."""
        self.put(self.both_ways("Red", False), query="?clientUid=A")
        self.put(self.both_ways("Blue", False), query="?clientUid=B")
        self.site = self.site.restart()
        self.router = self.site.router
        self.area = GroupsArea(self.site.clock, self.router)
        self.ask = self.asking()
        self.assertEqual(self.active("?clientUid=A"), {"Blue"})
        a, _ = self.connect("A")
        self.assertEqual((a.principal.groups_in, self.active()), (BLUE, {"Blue"}))

    def test_administrators(self) -> None:
        """Others' groups are nobody's business."""
        for method, path in (
            ("GET", "groups"),
            ("PUT", "groups/activeForce?username=bob"),
            ("GET", "groups/user?username=bob"),
            ("POST", "groups/update"),
            ("GET", "groups/update/bob"),
            ("GET", "groups/members"),
            ("GET", "groupprefix"),
            ("GET", "users/all"),
            ("GET", "users/17"),
        ):
            answer = self.ask(method, f"/Marti/api/{path}", who=alice())
            self.assertEqual((answer.status, answer.json["code"]), (403, 10), path)
        with self.assertRaises(MartiError) as raised:
            self.area.administer(None)  # type: ignore[arg-type]
        self.assertEqual(raised.exception.status, 501)

    def test_hostile(self) -> None:
        """Nothing that is sent makes the server stumble, or switches anything."""
        deep = b"[" * 100_000
        many = json.dumps(list(range(100_000))).encode()
        wrong: list[Any] = [
            *(b"", b"{}", b"null", b"1", b'"x"', b"[", b"\xff", b"[NaN]", b"[1e999]", b'["\\ud800"]', deep, many),
            *(b"[" + b"9" * 5000 + b"]", b"[" * 500 + b"]" * 500, b'{"a":' * 20_000, b"[[]]", b"[null]", b"[true]"),
            *([{}], [[]], ["IN"], [1.5], [{"name": "Red"}], [{"name": "Red", "direction": "IN"}]),
            *([self.one("Red", "UP", True)], [self.one("Red", "IN", True) | {"active": 1}]),
            *([self.one("Red", "IN", True) | {"active": None}], [self.one("Red", "IN", True) | {"name": ["Red"]}]),
            *([self.one("Red", "IN", True) | {"direction": {}}], [*self.both_ways("Red", False), 3]),
            [0] * (MAX_ENTRIES + 1),
        ]
        for body in wrong:
            for where in ("active", "activebits"):
                status = self.put(body, where).status
                self.assertEqual(status, 400, (where, body[:60]))
        self.assertEqual(self.put(b"[" + b" " * (1 << 20) + b"]").status, 413)
        self.assertEqual((self.active(), len(self.router.groups)), (BOTH, 0))

    def test_as_many_as_may_be(self) -> None:
        """So many entries are taken, and the last word on a group counts."""
        bits = self.groups()[0]["bitpos"]
        self.assertEqual(self.put([bits] * MAX_ENTRIES, "activebits").status, 200)
        self.assertEqual(self.put([*self.both_ways("Red", False), *self.both_ways("Red", True)]).status, 200)
        self.assertEqual(self.active(), BOTH)

    @settings(max_examples=300, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from(["name", "direction", "active", "x"]), inner, max_size=4)
                | st.fixed_dictionaries(
                    {
                        "name": st.sampled_from(["Red", "Blue"]) | inner,
                        "direction": st.sampled_from(["IN", "OUT"]) | inner,
                        "active": st.booleans() | inner,
                    }
                )
            ),
            max_leaves=30,
        )
    )
    def test_anything(self, body: Any) -> None:
        """Whatever JSON it is, it is either understood or refused, and at least one group stays."""
        for where in ("active", "activebits"):
            self.assertIn(self.put(body, where).status, (200, 400))
        found = self.router.groups.granted(alice())
        self.assertTrue(found.groups_in or found.groups_out)


class SpellingTests(SynchronousTestCase):
    def test_positions(self) -> None:
        """A group has the same bit in every list, and no two in a list share one."""
        names = [f"g{number}" for number in range(3000)]
        bits = positions(names)
        self.assertEqual(len(set(bits.values())), 3000)
        self.assertEqual(positions([ANON_GROUP, "Blue"]), {ANON_GROUP: 2, "Blue": positions(["Blue"])["Blue"]})
        few = positions(names[:10])
        self.assertEqual(few, positions(reversed(names[:10])))
        self.assertEqual(positions(["Blue"]), {"Blue": 16699}, "also after an update of the server")

    def test_what_is_spelled(self) -> None:
        """Only directions that somebody has are listed, in order of their names."""
        who = principal("a", {"b", "a"}, {"b"})
        listed = [(each["name"], each["direction"]) for each in spell_groups(who, who, "2026-01-01")]
        self.assertEqual(listed, [("a", "IN"), ("b", "IN"), ("b", "OUT")])
