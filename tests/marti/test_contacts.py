from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.principal import Principal
from taky_twisted.marti.contacts import ContactsArea
from taky_twisted.marti.long_lists import PIECE
from tests.fakes import MemorySink, Site, principal
from tests.marti.asking import Asking, Connection, spell
from tests.samples import NOW, control, event, sa

BLUE, RED = frozenset({"Blue"}), frozenset({"Red"})


class ContactsAreaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.serve()

    def serve(self) -> None:
        """Serve what the site knows."""
        self.ask = Asking(clock=self.site.clock)
        self.ask = Asking(ContactsArea(self.site.clock, self.site.router, self.ask.info), clock=self.site.clock)

    def endpoints(self, query: str = "", who: Principal | None = None) -> list[dict[str, Any]]:
        """Ask as ATAK does."""
        answer = self.ask("GET", f"/Marti/api/clientEndPoints{query}", who=who)
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual((answer.json["version"], answer.json["nodeId"]), ("3", self.ask.info.node_id))
        self.assertEqual(answer.json["type"], "com.bbn.marti.remote.ClientEndpoint")
        data: list[dict[str, Any]] = answer.json["data"]
        return data

    def uids(self, query: str = "", who: Principal | None = None) -> list[str]:
        """Ask whom there is."""
        return [entry["uid"] for entry in self.endpoints(query, who)]

    def contacts(self, query: str = "", who: Principal | None = None) -> list[dict[str, Any]]:
        """Ask as CloudTAK does."""
        answer = self.ask("GET", f"/Marti/api/contacts/all{query}", who=who)
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        found: list[dict[str, Any]] = answer.json
        return found

    def test_row17_client_endpoints(self) -> None:
        """ATAK gets the list that it reads, with nobody and with somebody in it, and only whole entries."""
        self.assertEqual(self.endpoints(), [])
        self.site.join("ANDROID-1", "ALPHA", principal("alice"))
        self.assertEqual(
            self.endpoints(),
            [
                {
                    "callsign": "ALPHA",
                    "uid": "ANDROID-1",
                    "username": "alice",
                    "team": "Cyan",
                    "role": "Team Member",
                    "lastEventTime": "2026-03-01T10:00:00.000Z",
                    "lastStatus": "Connected",
                }
            ],
        )

    def test_row17_only_complete_entries(self) -> None:
        """Who has no callsign or has not reported itself is left out: one such entry would cost ATAK the whole list."""
        self.site.connect()
        self.site.join("A", "ALPHA")
        self.site.join("B", " ")
        self.site.join(" ", "CHARLIE")
        found = self.endpoints()
        self.assertEqual([entry["uid"] for entry in found], ["A"])
        for entry in found:
            self.assertRegex(entry["lastEventTime"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
            self.assertIn(entry["lastStatus"], ("Connected", "Disconnected"))
            self.assertEqual({type(value) for value in entry.values()}, {str})

    def test_disconnected(self) -> None:
        """Who has left is remembered, also over a restart, with when it left; whose connection broke has a moment."""
        leaving, breaking = self.site.join("A", "ALPHA"), self.site.join("B", "BRAVO")
        self.site.pass_time(1.25)
        leaving.leave()
        breaking.vanish()
        states = {entry["uid"]: entry["lastStatus"] for entry in self.endpoints()}
        self.assertEqual(states, {"A": "Disconnected", "B": "Connected"})
        self.site.pass_time(10)
        found = {entry["uid"]: (entry["lastStatus"], entry["lastEventTime"]) for entry in self.endpoints()}
        gone = ("Disconnected", "2026-03-01T10:00:01.250Z")
        self.assertEqual(found, {"A": gone, "B": gone})
        self.site.router.contacts.save()
        self.site = self.site.restart()
        self.serve()
        self.assertEqual({entry["uid"]: entry["lastStatus"] for entry in self.endpoints()}["A"], "Disconnected")

    def test_parameters(self) -> None:
        """One may ask for those that are connected, were heard lately, or spoke last for a callsign."""
        self.site.join("OLD", "ALPHA").leave()
        self.site.pass_time(100)
        self.site.join("NEW", "ALPHA")
        self.site.join("B", "BRAVO").leave()
        self.assertEqual(self.uids(), ["NEW", "OLD", "B"])
        self.assertEqual(self.uids("?secAgo=50"), ["NEW", "B"])
        self.assertEqual(self.uids("?secAgo=100"), ["NEW", "OLD", "B"])
        self.assertEqual(self.uids("?secAgo=0"), ["NEW", "OLD", "B"])
        self.assertEqual(self.uids("?showCurrentlyConnectedClients=true"), ["NEW"])
        self.assertEqual(self.uids("?showMostRecentOnly=true"), ["NEW", "B"])
        self.assertEqual(self.uids("?showmostrecentonly=TRUE&secago=50&group=__ANON__"), ["NEW", "B"])

    def test_wrong_parameters(self) -> None:
        """What makes no sense is refused, and so is a group that the caller does not hear."""
        for query, status in (("secAgo=-1", 400), ("secAgo=x", 400), ("secAgo=9999999999999999999", 400)):
            self.assertEqual(self.ask("GET", f"/Marti/api/clientEndPoints?{query}").status, status, query)
        for query in ("group=Red", "group=__ANON__&group=Red", "group=__ANON__,Red"):
            self.assertEqual(self.ask("GET", f"/Marti/api/clientEndPoints?{query}").status, 403, query)

    def test_groups(self) -> None:
        """A caller sees whom it could hear, and of those only the ones of the groups that it asks for."""
        self.site.join("A", "A", principal("a", BLUE, []))
        self.site.join("B", "B", principal("b", RED, []))
        self.site.join("C", "C", principal("c", BLUE | RED, []))
        both = principal("x", [], BLUE | RED)
        self.assertEqual(self.uids(who=both), ["A", "B", "C"])
        self.assertEqual(self.uids(who=principal("y", RED, BLUE)), ["A", "C"])
        self.assertEqual(self.uids("?group=Red", both), ["B", "C"])
        self.assertEqual(self.uids("?group=Red,Blue", both), ["A", "B", "C"])
        self.assertEqual((self.uids(), self.contacts()), ([], []))
        self.assertEqual([each["uid"] for each in self.contacts(who=principal("y", RED, BLUE))], ["A", "C"])

    def test_incognito(self) -> None:
        """Who does not want to be seen is not listed anywhere."""
        client = self.site.join("A", "ALPHA")
        client.say(control("t-x-c-i-e"))
        self.assertEqual((self.uids(), self.contacts()), ([], []))
        client.say(control("t-x-c-i-d"))
        self.assertEqual(self.uids(), ["A"])

    def test_contacts(self) -> None:
        """CloudTAK sees by a bare list, also an empty one, that a login is good; in it are those who are connected."""
        self.assertEqual(self.contacts(), [])
        self.site.join("GONE", "GONE").leave()
        self.site.join("A", "ALPHA", principal("alice"))
        self.site.join("B", "BRAVO")
        first, second = self.contacts()
        self.assertEqual(
            first,
            {
                "filterGroups": [],
                "notes": "alice",
                "callsign": "ALPHA",
                "team": "Cyan",
                "role": "Team Member",
                "takv": "ATAK-CIV:4.10.0.5",
                "uid": "A",
            },
        )
        self.assertEqual((second["uid"], second["notes"]), ("B", "anonymous"))

    def test_more_of_contacts(self) -> None:
        """Two more spellings of the list tell more, with the same members in it."""
        self.site.join("A", "ALPHA", principal("alice"))
        (short,), (lite,), (full,) = self.contacts(), self.contacts("/lite"), self.contacts("/full")
        self.assertEqual(lite, short | {"user": {"id": "alice", "name": "alice"}})
        more = {"clientUid": "A", "username": "alice", "lastProcTime": int(NOW * 1000), "incognito": False}
        self.assertEqual(full, lite | more)

    def test_order(self) -> None:
        """The list is sorted as one wishes; what is not understood counts as nothing."""
        self.site.join("1", "B"), self.site.join("2", "A")
        for query, wanted in (
            ("", "21"),
            ("?sortBy=CALLSIGN&direction=ASCENDING&noFederates=false", "21"),
            ("?sortBy=CALLSIGN&direction=DESCENDING", "12"),
            ("?sortBy=UID", "12"),
            ("?sortBy=uid&direction=descending", "21"),
            ("?sortBy=x&direction=y", "21"),
        ):
            self.assertEqual("".join(each["uid"] for each in self.contacts(query)), wanted, query)

    def test_many(self) -> None:
        """A long list comes in whole, while the server goes on with other work."""
        for number in range(2 * PIECE + 1):
            self.site.router.subscribe(principal("x"), MemorySink(), "x").publish(event(sa(f"U{number}", "C")))
        for path in ("clientEndPoints", "contacts/all"):
            connection = Connection(self.ask.door)
            connection.send(spell("GET", f"/Marti/api/{path}"))
            self.assertRaises(AssertionError, connection.answer)
            self.site.turn()
            found = connection.answer().json
            self.assertEqual(len(found["data"] if path == "clientEndPoints" else found), 2 * PIECE + 1)

    def test_gone_while_it_is_written(self) -> None:
        """Who goes away in the middle of a long list leaves no trouble behind."""
        for number in range(2 * PIECE):
            self.site.router.subscribe(principal("x"), MemorySink(), "x").publish(event(sa(f"U{number}", "C")))
        connection = Connection(self.ask.door)
        connection.send(spell("GET", "/Marti/api/contacts/all"))
        connection.lose()
        self.site.turn()
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(max_examples=100, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters='<&"'), min_size=1, max_size=20))
    def test_any_name(self, name: str) -> None:
        """Whatever somebody calls itself, the list stays JSON, and only of names that ATAK takes."""
        self.site = Site()
        self.serve()
        contact = self.site.router.subscribe(principal("x"), MemorySink(), "x")
        contact.publish(event(sa("A", "A")))
        assert contact.primary is not None
        contact.primary.callsign = name
        for entry in self.endpoints():
            self.assertTrue(json.dumps(entry) and entry["callsign"].strip())
