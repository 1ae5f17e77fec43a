from __future__ import annotations

import json
import re
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import PROLOG
from taky_twisted.identity.principal import Principal
from taky_twisted.marti.cot import MAX_UIDS
from tests.fakes import MemorySink, principal
from tests.marti.history_server import HistoryServer
from tests.samples import NOW, chat, delete, event, marker, sa, to, xml

ALICE, BOB, CAROL = principal("alice"), principal("bob"), principal("carol")
RED = principal("rose", ["red"], ["red"])


def at(seconds: float, digits: int = 3) -> str:
    """Spell a time so many seconds after the beginning (up to a minute)."""
    return f"2026-03-01T10:00:{seconds:0{3 + digits}.{digits}f}Z"


class CotTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = HistoryServer(self)

    def texts(self, body: bytes) -> list[str]:
        """Cut ``<events>`` up by words, as ATAK does; read what is found."""
        text = body.decode()
        self.assertTrue(text.startswith(PROLOG.decode() + "<events>"), text[:100])
        self.assertTrue(text.endswith("</events>"))
        return re.findall(r"<event .*?</event>", text, re.DOTALL)

    def uids(self, body: bytes) -> list[str]:
        """Name the events in ``<events>``."""
        return [event(one.encode()).uid for one in self.texts(body)]


class NewestTests(CotTests):
    def test_contact(self) -> None:
        """The newest report of somebody who is there is one document, as it is delivered to clients."""
        subscription = self.ask.router.subscribe(Principal(), MemorySink(), "test")
        said = event(sa("A", "ALPHA", marti='<dest group="__ANON__"/>'))
        subscription.publish(said)
        answer = self.ask("GET", "/Marti/api/cot/xml/A")
        self.assertEqual((answer.status, answer.type, answer.body), (200, "application/xml", said.xml))
        self.assertNotIn(b"marti", answer.body)
        subscription.close()

    def test_item(self) -> None:
        """So is an item that is on the map, also with a uid of slashes and blanks."""
        uid = "a/b c/ü?"
        self.ask.say(marker(uid))
        answer = self.ask("GET", f"/Marti/api/cot/xml/{quote(uid, safe='')}")
        self.assertEqual((answer.status, answer.body), (200, event(marker(uid)).xml))

    def test_history(self) -> None:
        """What is not on the map any more is still known."""
        self.ask.say(marker("M", "OLD"), marker("M", "NEW"), delete("M"))
        self.assertIsNone(self.ask.router.find("M", ALICE.groups_out))
        answer = self.ask("GET", "/Marti/api/cot/xml/M")
        self.assertEqual(
            (answer.status, answer.type, answer.body), (200, "application/xml", event(marker("M", "NEW")).xml)
        )

    def test_unknown(self) -> None:
        """Of what nobody has said there is nothing."""
        answer = self.ask("GET", "/Marti/api/cot/xml/X")
        self.assertEqual((answer.status, answer.json["code"]), (404, 1))

    def test_groups(self) -> None:
        """Nobody is shown what was said to others, now or in the past."""
        self.ask.say(marker("M"), marker("OLD"), delete("OLD"), who=RED)
        for uid in ("M", "OLD"):
            self.assertEqual(self.ask("GET", f"/Marti/api/cot/xml/{uid}", who=RED).status, 200)
            self.assertEqual(self.ask("GET", f"/Marti/api/cot/xml/{uid}", who=ALICE).status, 404)
            self.assertEqual(self.ask("GET", f"/Marti/api/cot/xml/{uid}").status, 404)

    def test_head(self) -> None:
        """Asking for the headers alone works."""
        self.ask.say(marker("M"))
        answer = self.ask("HEAD", "/Marti/api/cot/xml/M")
        self.assertEqual((answer.status, answer.body), (200, b""))


class AllOfTests(CotTests):
    def test_row27_all(self) -> None:
        """ATAK finds all that a uid said, newest first; no event is without an end tag of its own."""
        documents = [xml("M", "b-m-p-s-m", f"<x n='{n}'/>") for n in range(3)]
        self.ask.say(*documents, marker("N"), step=1)
        answer = self.ask("GET", "/Marti/api/cot/xml/M/all", headers={"Accept": "application/xml"})
        self.assertEqual((answer.status, answer.type), (200, "application/xml"))
        self.assertEqual([one.encode() for one in self.texts(answer.body)], documents[::-1])
        self.assertIsNone(re.search(rb"<event[^>]*/>", answer.body))

    def test_times(self) -> None:
        """A part of it can be asked for, from a moment on, or since some seconds."""
        self.ask.say(*(xml("M", "b-m-p", f"<n>{n}</n>") for n in range(10)), step=1)
        for query, numbers in (
            ("", "9876543210"),
            (f"?start={at(3)}&end={at(5)}", "543"),
            (f"?start={at(7, 6)}", "987"),
            (f"?end={at(1, 0)[:17] + '01Z'}", "10"),
            ("?secago=3", "987"),
            (f"?secago=2&start={at(0)}&end={at(1)}", "98"),
            (f"?start={at(5)}&end={at(3)}", ""),
        ):
            answer = self.ask("GET", f"/Marti/api/cot/xml/M/all{query}")
            self.assertEqual("".join(re.findall("<n>(.)</n>", answer.body.decode())), numbers, query)

    def test_nothing(self) -> None:
        """Of what nobody has said there is an empty list."""
        answer = self.ask("GET", "/Marti/api/cot/xml/X/all")
        self.assertEqual((answer.status, self.uids(answer.body)), (200, []))

    def test_wrong(self) -> None:
        """Times that are none are refused."""
        for query in ("secago=x", "secago=-1", "start=yesterday", "end=2026-13-01T00:00:00Z", "secago=1e400"):
            self.assertEqual(self.ask("GET", f"/Marti/api/cot/xml/M/all?{query}").status, 400, query)

    def test_private(self) -> None:
        """A message to somebody is shown to him and to who said it, and not to others in the same group."""
        sinks = [self.ask.router.subscribe(who, MemorySink(), "test") for who in (ALICE, BOB, CAROL)]
        for subscription, uid in zip(sinks, ("A", "B", "C"), strict=True):
            subscription.publish(event(sa(uid, uid)))
        sinks[0].publish(event(chat("A", "secret", room="B", uids=("B",), marti=to("B"))))
        uid = quote("GeoChat.A.B.m-1")
        for who, count in ((ALICE, 1), (BOB, 1), (CAROL, 0), (None, 0)):
            answer = self.ask("GET", f"/Marti/api/cot/xml/{uid}/all", who=who)
            self.assertEqual(len(self.texts(answer.body)), count, who)
            self.assertEqual(self.ask("GET", f"/Marti/api/cot/xml/{uid}", who=who).status, 200 if count else 404)
            known = self.ask("POST", "/Marti/api/cot", json.dumps(["GeoChat.A.B.m-1"]).encode(), who=who)
            self.assertEqual(len(self.texts(known.body)), count, who)
        for subscription in sinks:
            subscription.close(clean=True)


class NewestOfTests(CotTests):
    def test_uids(self) -> None:
        """Of several uids the newest events are shown, wherever they are known from, each once."""
        self.ask.say(marker("M"), marker("OLD"), delete("OLD"))
        for method in ("GET", "POST"):
            headers = {"Content-Length": "22"}
            answer = self.ask(method, "/Marti/api/cot", b'["OLD","X","M","OLD"] ', headers)
            self.assertEqual((answer.status, answer.type), (200, "application/xml"))
            self.assertEqual(sorted(self.uids(answer.body)), ["M", "OLD"])

    def test_only_known(self) -> None:
        """If all of them are on the map, that is all."""
        self.ask.say(marker("M"))
        self.assertEqual(self.uids(self.ask("POST", "/Marti/api/cot", b'["M"]').body), ["M"])

    def test_odd(self) -> None:
        """What is no uid is not found; what is no list, or endless, is refused."""
        for body in (b"[]", b"[1, null, {}, []]", b'["\\ud800", "\\u0000"]'):
            answer = self.ask("POST", "/Marti/api/cot", body)
            self.assertEqual((answer.status, self.uids(answer.body)), (200, []))
        for body in (b"", b"{}", b"[", b"[" * 100_000, json.dumps(["x"] * (MAX_UIDS + 1)).encode()):
            self.assertEqual(self.ask("POST", "/Marti/api/cot", body).status, 400, body[:10])


class PositionsTests(CotTests):
    def sa(self, query: str = "", start: float = 0, end: float = 59, who: Principal | None = None) -> list[str]:
        """Ask as PyTAK does."""
        answer = self.ask("GET", f"/Marti/api/cot/sa?start={at(start, 6)}&end={at(end, 6)}{query}", who=who)
        self.assertIn(answer.status, (200, 404))
        return self.uids(answer.body) if answer.status == 200 else []

    def test_window(self) -> None:
        """In a time the newest position of everybody is shown, and nothing but positions."""
        self.ask.say(sa("A", "OLD"), marker("M"), chat("A"), sa("B", "B"), step=2)
        self.ask.say(sa("A", "NEW"))  # eight seconds later
        self.assertEqual(self.sa(), ["A", "B", "M"])
        self.assertEqual(self.sa(end=7), ["B", "M", "A"])
        self.assertEqual(self.sa(start=6, end=8), ["A", "B"])
        self.assertEqual(self.sa(start=8.5), [])
        self.assertEqual(self.sa(who=RED), [])

    def test_box(self) -> None:
        """So it is for a part of the map."""
        for uid, lat, lon in (("A", 10, 20), ("B", -10, 20)):
            self.ask.say(sa(uid, uid, point=f'<point lat="{lat}" lon="{lon}" hae="0" ce="1" le="1"/>'))
        self.assertEqual(self.sa("&left=19&right=21&bottom=9.5&top=11&isFiltered=true"), ["A"])
        self.assertEqual(sorted(self.sa("&left=19&right=21&bottom=-10&top=10")), ["A", "B"])

    def test_nobody(self) -> None:
        """If there is nobody, that is 404."""
        answer = self.ask("GET", f"/Marti/api/cot/sa?start={at(0)}&end={at(1)}")
        self.assertEqual((answer.status, answer.json["code"]), (404, 1))

    def test_wrong(self) -> None:
        """The time must be there, in order, and a day at most; the part of the map must be whole."""
        day = "start=2026-03-01T10:00:00Z&end=2026-03-02T10:00:00"
        for query in (
            "",
            f"start={at(0)}",
            f"end={at(0)}",
            f"start={at(1)}&end={at(0)}",
            f"{day}.001Z",
            f"{day}Z&left=1&right=2&top=3",
            f"{day}Z&left=1&right=2&top=3&bottom=x",
            f"{day}Z&left=1&right=2&top=3&bottom=nan",
            "start=&end=",
        ):
            self.assertEqual(self.ask("GET", f"/Marti/api/cot/sa?{query}").status, 400, query)
        self.assertEqual(self.ask("GET", f"/Marti/api/cot/sa?{day}Z").status, 404)


class WithoutHistoryTests(SynchronousTestCase):
    def test_off(self) -> None:
        """A server that keeps no history shows what is on the map; the rest is not there."""
        ask = HistoryServer(self, keeps=False)
        ask.say(marker("M"))
        self.assertEqual(ask("GET", "/Marti/api/cot/xml/M").status, 200)
        for path in ("xml/X", "xml/M/all", f"sa?start={at(0)}&end={at(1)}"):
            answer = ask("GET", f"/Marti/api/cot/{path}")
            self.assertEqual(answer.status, 404, path)
            self.assertIn("no history", answer.json["message"])
        self.assertEqual(NOW, ask.clock.seconds())
