from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.identity.failures import Failures
from taky_twisted.identity.principal import Principal
from taky_twisted.marti import injectors
from taky_twisted.routing.pins import Pins
from tests.fakes import SERVER_ID, MemorySink, principal
from tests.marti.asking import Answer, Asking
from tests.marti.history_server import HistoryServer
from tests.samples import ATAK_PROLOG, cancel, chat, delete, emergency, event, marker, ping, sa, to, xml

ALICE, BOB = principal("alice"), principal("bob")
RED = principal("rose", ["red"], ["red"])
PATH = "/Marti/api/injectors/cot/uid"


class InjectorsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = HistoryServer(self, limits=Limits(max_event_bytes=4096, max_unidentified_bytes=4096))
        self.router = self.ask.router
        self.sink = MemorySink()
        self.listener = self.router.subscribe(BOB, self.sink, "test")
        self.addCleanup(self.listener.close, clean=True)

    def post(self, document: bytes | str, who: Principal | None = None) -> Answer:
        """Post an event as PyTAK does."""
        text = document if isinstance(document, str) else document.decode()
        body = json.dumps({"uid": "pytak@host", "toInject": text}).encode()
        answer = self.ask("POST", PATH, body, {"Content-Type": "application/json"}, who)
        self.ask.clock.advance(0)
        return answer

    def heard(self) -> list[str]:
        """Read the uids of what the listener heard."""
        uids = [event.uid for event in self.sink.events]
        self.sink.events.clear()
        return uids

    def test_event(self) -> None:
        """PyTAK's events are routed as they are, with and without a prolog, and kept like any others."""
        for document in (marker("M"), ATAK_PROLOG + marker("N"), b"\n <?xml version='1.0'?>" + marker("O") + b"\n"):
            answer = self.post(document)
            self.assertEqual((answer.status, answer.type), (200, "application/json"))
            self.assertEqual(answer.json["type"], "InjectorConfig")
        self.assertEqual([one.xml for one in self.sink.events], [event(marker(uid)).xml for uid in "MNO"])
        self.assertEqual(self.router.audiences.tally.kinds["marker"].heard, 3)
        self.assertEqual(self.ask("GET", "/Marti/api/cot/xml/M").body, event(marker("M")).xml)
        self.assertEqual(next(xml for _, xml in self.ask.recorder.recorded), event(marker("M")).xml)

    def test_no_contact(self) -> None:
        """Whoever reports himself over HTTP is shown, but is no contact: nothing could be sent to him."""
        self.assertEqual(self.post(sa("A", "ALPHA")).status, 200)
        self.assertEqual(self.heard(), ["A"])
        self.assertIsNone(self.router.contacts.get("A"))

    def test_groups(self) -> None:
        """What somebody says over HTTP reaches whom it would reach from a stream."""
        self.post(marker("M"), RED)
        self.assertEqual(self.heard(), [])
        self.post(marker("N", marti='<dest group="red"/>'), ALICE)
        self.assertEqual(self.heard(), [])
        self.post(marker("O"), ALICE)
        self.assertEqual(self.heard(), ["O"])
        self.post(marker("P"), principal("alice", ["red"], ["red"]))  # he has switched groups since
        self.assertEqual(self.heard(), [])

    def test_pins(self) -> None:
        """Where uids are pinned nobody says over HTTP that he is somebody else, and everybody may say who he is."""
        self.router.pins = Pins(self.router.contacts, Failures(self.ask.clock))
        self.listener.publish(event(sa("B", "BRAVO", now=self.ask.clock.seconds())))
        sink = MemorySink()
        other = self.router.subscribe(ALICE, sink, "test")
        self.addCleanup(other.close, clean=True)
        sink.events.clear()
        for who, heard in ((ALICE, 0), (None, 0), (BOB, 1)):
            self.post(sa("B", "BRAVO", now=self.ask.clock.seconds()), who)
            self.assertEqual(len(sink.events), heard)
        self.post(marker("M"), ALICE)
        self.assertEqual(self.heard()[-1:], ["M"])

    def test_destinations(self) -> None:
        """So do messages to somebody."""
        self.listener.publish(event(sa("B", "BRAVO")))
        other = MemorySink()
        third = self.router.subscribe(principal("carol"), other, "test")
        self.post(chat("A", room="BRAVO", id_="B", uids=("B",), marti=to("BRAVO")), ALICE)
        self.assertEqual([one.type for one in self.sink.events], ["b-t-f"])
        self.assertEqual([one.type for one in other.events if one.type == "b-t-f"], [])
        self.assertEqual(self.post(chat("A", marti=to("NOBODY")), ALICE).status, 200)
        third.close(clean=True)

    def test_delete(self) -> None:
        """Deletes are carried out."""
        self.post(marker("M"))
        self.assertIsNotNone(self.router.find("M", BOB.groups_out))
        self.post(delete("M"))
        self.assertIsNone(self.router.find("M", BOB.groups_out))

    def test_emergency(self) -> None:
        """Who raised an emergency can cancel it, also where nobody knows who he is; others cannot."""
        for who, other in ((ALICE, principal("carol")), (None, ALICE)):
            self.post(emergency("A", "ALPHA"), who)
            self.assertIn("A-9-1-1", self.router.emergencies)
            self.post(cancel("A", "ALPHA"), other)
            self.assertIn("A-9-1-1", self.router.emergencies)
            self.post(cancel("A", "ALPHA"), who)
            self.assertNotIn("A-9-1-1", self.router.emergencies)
        self.router.stop()

    def test_flow_tags(self) -> None:
        """Our own tag is taken out, as on a stream."""
        self.router.flow_tag += SERVER_ID
        self.post(xml("M", "a-h-G", f'<_flow-tags_ TAK-Server-{SERVER_ID}="2026-03-01T10:00:00Z" other="x"/>'))
        self.assertNotIn(SERVER_ID.encode(), self.sink.events[0].xml)

    def test_control(self) -> None:
        """What is meant for the server of a stream does nothing."""
        self.assertEqual(self.post(ping()).status, 200)
        self.assertEqual(self.post(xml("I", "t-x-c-i-e"), ALICE).status, 200)
        self.post(marker("M"), ALICE)
        self.assertEqual(self.heard(), ["M"])

    def test_size(self) -> None:
        """An event may be as large as on a stream."""
        base = len(marker("M", extra="<x></x>"))
        self.assertEqual(self.post(marker("M", extra=f"<x>{'y' * (4096 - base)}</x>")).status, 200)
        self.assertEqual(self.heard(), ["M"])
        self.assertEqual(self.post(marker("M", extra=f"<x>{'y' * (4097 - base)}</x>")).status, 413)
        self.assertEqual(self.heard(), [])

    def test_malformed(self) -> None:
        """What is no CoT is refused, and says why."""
        for document in ("<event>", "<event/>", marker("M").decode() * 2, "<event \ud800>", "<event \0/>"):
            answer = self.post(document)
            self.assertEqual(answer.status, 400, document)
            self.assertIn("not routed", answer.json["message"])
        self.assertEqual(self.post(b"<!DOCTYPE x>" + marker()).status, 403)
        self.assertEqual(self.heard(), [])

    def test_fragment(self) -> None:
        """Putting something into others' events is for administrators."""
        for document in ("<x/>", "", "text", "<events>", " <__group/>"):
            self.assertEqual(self.post(document).status, 403, document)

    def test_wrong(self) -> None:
        """Anything else is refused."""
        for body in (b"", b"[]", b"1", b"{}", b'{"toInject": 7}', b'{"toInject": null}', b"[" * 100_000, b"\xff"):
            self.assertEqual(self.ask("POST", PATH, body).status, 400, body[:20])

    def test_list(self) -> None:
        """There is nothing that is put into events, and nobody who could take it out."""
        for path in (PATH, f"{PATH}/some/uid"):
            answer = self.ask("GET", path)
            self.assertEqual((answer.status, answer.json["type"], answer.json["data"]), (200, "InjectorConfig", []))
        self.assertEqual(self.ask("DELETE", f"{PATH}?uid=A&toInject=x", who=ALICE).status, 403)
        self.ask.asking.door.check_access = lambda request, access: None  # type: ignore[method-assign]
        self.assertEqual(self.ask("DELETE", PATH, who=ALICE).status, 501)

    def test_many_callers(self) -> None:
        """Who spoke longest ago is forgotten."""
        self.patch(injectors, "MAX_SPEAKERS", 2)
        area = injectors.InjectorsArea(self.router, 4096)
        self.ask.asking = Asking(area, clock=self.ask.clock)
        for name in ("alice", "bob"):
            self.post(marker(name), principal(name))
        bob = area._speakers[True, "bob"]
        for name in ("alice", "carol"):
            self.post(marker(name), principal(name))
        self.assertTrue(bob.closed)
        self.assertEqual([name for _, name in area._speakers], ["alice", "carol"])
