"""What a route shows and changes: the columns of the manual's tables say whose, and this looks whether that is so.

Two groups have the same things. Whoever asks for his own must be shown them, or the look proves nothing; whoever asks
for the others' must not be shown a trace of them, and must leave them as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.files import Caller
from taky_twisted.marti.groups import positions
from tests.fakes import MemorySink
from tests.marti.file_server import FORM, form
from tests.marti.websocket_client import UPGRADE
from tests.samples import control, delete, event, marker, sa
from tests.security.people import BLUE, RED, People, basic
from tests.security.tables import table
from tests.security.things import JSON, OWNERS, SIDES, Things, other
from tests.security.world import PASSWORD, World, signing_request

Route = tuple[str, str]
SPAN = "start=2026-03-01T09:00:00Z&end=2026-03-01T23:00:00Z"
TIMES = "startTime=2026-03-01T09:00:00Z&endTime=2026-03-01T23:00:00Z"
BOTH = b'["RED-MARK", "BLUE-MARK"]'


@dataclass(frozen=True)
class Look:
    """A question about the things of a group, ``{G}``."""

    target: str
    stranger: int = 200
    """How it ends for somebody of the other group."""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    shows: str = "{G}-"
    """What the answer has for whoever may see it."""


LOOKS: dict[Route, Look] = {
    ("GET", "/Marti/api/clientEndPoints"): Look("/Marti/api/clientEndPoints"),
    ("GET", "/Marti/api/contacts/all"): Look("/Marti/api/contacts/all"),
    ("GET", "/Marti/api/contacts/all/full"): Look("/Marti/api/contacts/all/full"),
    ("GET", "/Marti/api/contacts/all/lite"): Look("/Marti/api/contacts/all/lite"),
    ("GET", "/Marti/api/subscriptions/all"): Look("/Marti/api/subscriptions/all"),
    ("GET", "/Marti/api/subscription/<path:uid>"): Look("/Marti/api/subscription/{G}-PHONE", 404),
    ("GET", "/Marti/sync/content"): Look("/Marti/sync/content?hash={HASH}", 404),
    ("GET", "/Marti/sync/missionquery"): Look("/Marti/sync/missionquery?hash={HASH}", 404, shows="{HASH}"),
    ("GET", "/Marti/sync/search"): Look("/Marti/sync/search"),
    ("GET", "/Marti/api/sync/metadata/<hash:hash>/tool"): Look("/Marti/api/sync/metadata/{HASH}/tool", 404),
    ("GET", "/Marti/api/sync/search"): Look("/Marti/api/sync/search"),
    ("GET", "/Marti/api/files/<hash:hash>"): Look("/Marti/api/files/{HASH}", 404),
    ("GET", "/Marti/api/files/metadata/count"): Look("/Marti/api/files/metadata/count", shows='"data":1'),
    ("GET", "/Marti/api/files/metadata"): Look("/Marti/api/files/metadata"),
    ("GET", "/Marti/api/resources/<hash:hash>"): Look("/Marti/api/resources/{HASH}", 404),
    ("GET", "/Marti/api/cot/xml/<path:uid>/all"): Look("/Marti/api/cot/xml/{G}-MARK/all"),
    ("GET", "/Marti/api/cot/xml/<path:uid>"): Look("/Marti/api/cot/xml/{G}-MARK", 404),
    ("GET", "/Marti/api/cot"): Look("/Marti/api/cot", 200, BOTH, JSON),
    ("POST", "/Marti/api/cot"): Look("/Marti/api/cot", 200, BOTH, JSON),
    ("GET", "/Marti/api/cot/sa"): Look(f"/Marti/api/cot/sa?{SPAN}"),
    ("GET", "/Marti/ExportMissionKML"): Look(f"/Marti/ExportMissionKML?{TIMES}&groups={{G}}"),
    ("POST", "/Marti/ExportMissionKML"): Look(f"/Marti/ExportMissionKML?{TIMES}"),
    ("GET", "/Marti/LatestKML"): Look("/Marti/LatestKML"),
    ("GET", "/Marti/api/video/<path:uid>"): Look("/Marti/api/video/{G}-VIDEO", 404),
    ("GET", "/Marti/api/video"): Look("/Marti/api/video"),
    ("GET", "/Marti/vcm"): Look("/Marti/vcm"),
    # What is one's own.
    ("GET", "/Marti/api/groups/all"): Look("/Marti/api/groups/all"),
    ("GET", "/Marti/api/groups/<name>/<direction>"): Look("/Marti/api/groups/{G}-SPARE/IN", 404),
}
"""Every route that shows what is a group's, or the caller's own."""

Change = Callable[["GroupsTestCase", str, str], None]
CHANGES: dict[Route, Change] = {}
"""Every route that changes something: has somebody of a group ask it about the things of a group."""


def change(method: str, path: str) -> Callable[[Change], Change]:
    """Enter what asks a route."""

    def entered(call: Change) -> Change:
        CHANGES[method, path] = call
        return call

    return entered


class GroupsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(self)
        self.people = People(self.world)
        self.things = Things(self.world, self.people)
        self.status: list[int] = []

    def ask(self, who: str, method: str, target: str, group: str, body: Any = b"", **headers: str) -> None:
        """Ask as the owner of a group's things about the things of a group, and note how that ended."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if not isinstance(body, bytes):
            body, said = json.dumps(body).encode(), {**said, **JSON}
        reply = self.things.ask(OWNERS[who], method, self.things.told(target, group), body, said)
        self.status.append(reply.status)
        self.world.clock.advance(0)


@change("DELETE", "/Marti/sync/delete")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "DELETE", "/Marti/sync/delete?hash={HASH}", group)


@change("GET", "/Marti/sync/delete")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "GET", "/Marti/sync/delete?PrimaryKey={NUMBER}", group)


@change("POST", "/Marti/sync/delete")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "POST", "/Marti/sync/delete?PrimaryKey={NUMBER}", group)


@change("DELETE", "/Marti/api/files/<hash:hash>")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "DELETE", "/Marti/api/files/{HASH}", group)


@change("PUT", "/Marti/api/files/<hash:hash>/metadata")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "PUT", "/Marti/api/files/{HASH}/metadata?keywords=spoiled", group)


@change("PUT", "/Marti/api/sync/metadata/<hash:hash>/<field>")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "PUT", "/Marti/api/sync/metadata/{HASH}/keywords", group, ["spoiled"])


@change("PUT", "/Marti/api/groups/active")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    spare = f"{group}-SPARE"
    test.ask(who, "PUT", "/Marti/api/groups/active", group, [{"name": spare, "direction": "OUT", "active": False}])


@change("PUT", "/Marti/api/groups/activebits")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    # As the owner's list gives them, whoever says them.
    bits = positions([group, f"{group}-SPARE"])
    test.ask(who, "PUT", "/Marti/api/groups/activebits", group, [bits[group]])


@change("PUT", "/Marti/api/video/<path:uid>")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    said = test.things.video(group, "SPOILED")["videoConnections"][0]
    test.ask(who, "PUT", "/Marti/api/video/{G}-VIDEO", group, said)


@change("DELETE", "/Marti/api/video/<path:uid>")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "DELETE", "/Marti/api/video/{G}-VIDEO", group)


@change("DELETE", "/Marti/vcm")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "DELETE", "/Marti/vcm?id={G}-FEED", group)


@change("POST", "/Marti/api/video")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "POST", "/Marti/api/video", group, test.things.video(group, "SPOILED"))
    test.ask(who, "POST", "/Marti/api/video?group={G}", group, test.things.video(group, "NEW", "-2"))


@change("POST", "/Marti/vcm")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    feed = (
        "<videoConnections><feed><protocol>udp</protocol><alias>{G}-SPOILED</alias><uid>{G}-FEED</uid>"
        "<address>198.51.100.9</address><port>1</port></feed></videoConnections>"
    )
    test.ask(who, "POST", "/Marti/vcm", group, test.things.told(feed, group).encode())
    test.ask(who, "POST", "/Marti/vcm?id={G}-FEED&active=false&action=setActive", group)


@change("POST", "/Marti/sync/missionupload")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    target = "/Marti/sync/missionupload?filename={G}-FILE.zip&creatorUid={G}-PHONE&keywords=spoiled"
    test.ask(who, "POST", f"{target}&groups={{G}}", group, form(test.things.content(group)), **_FORM)
    test.ask(who, "POST", target, group, form(test.things.content(group)), **_FORM)


@change("POST", "/Marti/sync/upload")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "POST", "/Marti/sync/upload?name={G}-2.txt&groups={G}", group, b"new")
    test.ask(who, "POST", "/Marti/sync/upload?name={G}-2.txt", group, b"new")


@change("POST", "/Marti/api/injectors/cot/uid")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    now = test.world.now()
    for document in (
        marker(f"{group}-MARK", f"{group}-SPOILED", now=now),
        marker(f"{group}-MARK", f"{group}-SPOILED", now=now, marti=f'<dest group="{group}"/>'),
        marker(f"{group}-MARK", f"{group}-SPOILED", now=now, marti=f'<dest uid="{group}-PHONE"/>'),
        delete(f"{group}-MARK", now=now),
    ):
        test.ask(who, "POST", "/Marti/api/injectors/cot/uid", group, {"uid": "X", "toInject": document.decode()})


@change("POST", "/Marti/TracksKML")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    track = (
        '<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2"><Document><Placemark>'
        "<gx:Track><when>2026-03-01T09:30:00Z</when><gx:coord>1 2 3</gx:coord></gx:Track></Placemark></Document></kml>"
    )
    test.ask(who, "POST", "/Marti/TracksKML?uid={G}-PHONE&callsign={G}-SPOILED", group, track.encode())


@change("GET", "/takproto/1")
def _(test: GroupsTestCase, who: str, group: str) -> None:
    test.ask(who, "GET", "/takproto/1", group, b"", **{name.replace("-", "_"): v for name, v in UPGRADE.items()})
    (*_, stream) = [each for each in test.world.router.subscriptions if "WebSocket" in each.peer]
    test.assertEqual(stream.principal.groups_out, {who, f"{who}-SPARE"})
    test.assertEqual(stream.principal.name, OWNERS[who])
    stream.publish(event(marker(f"{group}-MARK", f"{group}-SPOILED", now=test.world.now())))
    stream.publish(event(delete(f"{group}-MARK", now=test.world.now())))
    test.world.clock.advance(0)


_FORM = {name.replace("-", "_"): value for name, value in FORM.items()}


class LooksTests(GroupsTestCase):
    """What is shown."""

    def test_complete(self) -> None:
        """Every route of which the table says that it shows what belongs to somebody is looked at here."""
        wanted = {
            (row["method"], row["path"])
            for row in table("marti")
            if row["shows"] in ("own groups", "own")
            and row["path"] not in ("/takproto/1", "/Marti/api/util/user/roles")
        }
        self.assertEqual(set(LOOKS), wanted)

    def test_own(self) -> None:
        """Everybody is shown what is his group's, and not a trace of the others'."""
        wrong = []
        for route, look in LOOKS.items():
            administers = route[1].startswith("/Marti/api/resources")
            for group in SIDES:
                owner = OWNERS[group]
                if administers:
                    self.world.accounts.set_admin(owner, True)
                reply = self.things.ask(owner, route[0], self.things.told(look.target, group), look.body, look.headers)
                shown = self.things.told(look.shows, group).encode()
                if reply.status != 200 or shown not in reply.body:
                    wrong.append(f"{owner} is not shown his own by {route}: {reply}")
                wrong += self.traces(route, group, reply.body)
                if administers:
                    self.world.accounts.set_admin(owner, False)
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_others(self) -> None:
        """Whoever asks for what is another group's finds nothing, as if it were not there."""
        wrong = []
        for route, look in LOOKS.items():
            administers = route[1].startswith("/Marti/api/resources")
            for group in SIDES:
                owner, target = OWNERS[group], self.things.told(look.target, other(group))
                if administers:
                    self.world.accounts.set_admin(owner, True)
                reply = self.things.ask(owner, route[0], target, look.body, look.headers)
                if reply.status != look.stranger:
                    wrong.append(f"{owner} asks {route} for others': {reply.status}, not {look.stranger}")
                wrong += self.traces(route, group, reply.body)
                missing = self.things.ask(
                    owner, route[0], target.replace(other(group), "NOBODY"), look.body, look.headers
                )
                if "hash" not in look.target.lower() and missing.status != reply.status:
                    wrong.append(f"{owner} can tell by {route} what others have: {reply.status}, {missing.status}")
                if administers:
                    self.world.accounts.set_admin(owner, False)
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_switched_off(self) -> None:
        """What somebody has switched off is not shown to him either."""
        self.world.accounts.set_groups("fox", [RED, BLUE], [RED, BLUE])
        off = [{"name": RED, "direction": direction, "active": False} for direction in ("IN", "OUT")]
        self.ask(RED, "PUT", "/Marti/api/groups/active", RED, off)
        self.assertEqual(self.status, [200])
        for route, look in LOOKS.items():
            if "groups" in route[1] or "resources" in route[1] or "ndpoints" in route[1] or "/hash" in route[1]:
                continue
            reply = self.things.ask("fox", route[0], self.things.told(look.target, BLUE), look.body, look.headers)
            self.assertEqual(reply.status, 200, route)
            self.assertNotIn(b"RED-MARK", reply.body, route)
            self.assertNotIn(b"RED-FILE", reply.body, route)
            self.assertNotIn(b"RED-VIDEO", reply.body, route)

    def test_anonymous(self) -> None:
        """Who is nobody in particular is shown nothing of a group."""
        for route, look in LOOKS.items():
            if "resources" in route[1]:
                continue
            for group in SIDES:
                target = self.things.told(look.target, group)
                reply = self.world.ask("plain", route[0], target, look.body, look.headers)
                assert reply is not None
                self.assertIn(reply.status, (200, 404), route)
                self.assertEqual(self.traces(route, other(group), reply.body), [])

    def test_directed(self) -> None:
        """What was said to somebody in particular is shown to him and its sender, and to nobody else of the group."""
        world = self.world
        world.accounts.set_groups("newcomer", [RED], [RED])
        fox = world.accounts.principal("fox")
        fox_stream = world.router.subscribe(fox, MemorySink(), "192.0.2.9:4001 at ssl:8089")
        mate = world.router.subscribe(world.accounts.principal("newcomer"), MemorySink(), "192.0.2.9:4002 at ssl:8089")
        mate.publish(event(sa("MATE", "MATE", now=world.now())))
        fox_stream.publish(event(marker("RED-LETTER", now=world.now(), marti='<dest uid="MATE"/>')))
        world.clock.advance(1)
        for who, status in (
            ("fox", 200),
            ("newcomer", 200),
            ("root", 404),
            ("wolf", 404),
            ("nobody in particular", 404),
        ):
            self.assertEqual(self.things.ask(who, "GET", "/Marti/api/cot/xml/RED-LETTER").status, status, who)
            reply = self.things.ask(who, "GET", "/Marti/api/cot/xml/RED-LETTER/all")
            self.assertEqual(b"RED-LETTER" in reply.body, status == 200, who)

    def test_private(self) -> None:
        """A private file is listed for its owner alone; who knows its hash may fetch it."""
        target = self.things.told("/Marti/api/sync/metadata/{HASH}/tool", RED)
        self.assertEqual(self.things.ask("fox", "PUT", target, b"private").status, 200)
        for who, shown in (("fox", True), ("root", False), ("newcomer", False)):
            for path in ("/Marti/sync/search", "/Marti/api/sync/search", "/Marti/api/files/metadata"):
                self.assertEqual(b"RED-FILE" in self.things.ask(who, "GET", path).body, shown, (who, path))

    def test_incognito(self) -> None:
        """Whoever went incognito is shown to nobody but himself."""
        (stream,) = [each for each in self.world.router.subscriptions if each.principal.name == "fox"]
        stream.publish(event(control("t-x-c-i-e")))
        for path in ("contacts/all", "contacts/all/full", "contacts/all/lite", "clientEndPoints", "subscriptions/all"):
            self.assertNotIn(b"RED-PHONE", self.things.ask("root", "GET", f"/Marti/api/{path}").body, path)
        self.assertEqual(self.things.ask("root", "GET", "/Marti/api/subscription/RED-PHONE").status, 404)
        self.assertEqual(self.things.ask("root", "GET", "/Marti/api/cot/xml/RED-PHONE").body.count(b"<event"), 1)
        self.assertIn(b"RED-PHONE", self.things.ask("fox", "GET", "/Marti/api/subscriptions/all").body)

    def test_group_by_name(self) -> None:
        """Nobody may even name a group that he does not hear."""
        for who, group, status in (("wolf", RED, 403), ("fox", RED, 200), ("nobody in particular", RED, 403)):
            reply = self.things.ask(who, "GET", f"/Marti/api/clientEndPoints?group={group}")
            self.assertEqual(reply.status, status, who)

    def test_others_groups(self) -> None:
        """Of somebody whom one hears, one sees the groups that one has oneself, and no others."""
        shown = self.things.ask("root", "GET", "/Marti/api/subscription/RED-PHONE").body
        self.assertIn(b'"RED"', shown)
        self.assertNotIn(b"RED-SPARE", shown)

    def test_others_callsigns(self) -> None:
        """A file may say that it comes from somebody of another group; his callsign is not told for that."""
        self.ask(RED, "POST", "/Marti/sync/upload?name=x.txt&creatorUid=BLUE-PHONE", RED, b"mine")
        self.ask(RED, "POST", "/Marti/sync/upload?name=y.txt&creatorUid=RED-PHONE", RED, b"mine too")
        listed = self.things.ask("fox", "GET", "/Marti/api/files/metadata").body
        self.assertIn(b"RED-CALLSIGN", listed)
        self.assertIn(b"BLUE-PHONE", listed)
        self.assertNotIn(b"BLUE-CALLSIGN", listed)

    def test_roles(self) -> None:
        """Nobody is told that he is more than he is."""
        for who, roles in (("fox", []), ("root", ["ROLE_ADMIN"]), ("disabled", []), ("hearer", ["ROLE_READONLY"])):
            said = json.loads(self.things.ask(who, "GET", "/Marti/api/util/user/roles").body)
            self.assertEqual(sorted(set(said) - {"ROLE_ANONYMOUS", "ROLE_WEBTAK"}), roles)

    def traces(self, route: Route, group: str, body: bytes) -> list[str]:
        """Find what is the other group's in an answer for somebody of a group."""
        return [
            f"somebody of {group} is shown {secret!r} by {route}: {body[:300]!r}"
            for secret in self.things.secrets(other(group))
            if secret in body
        ]


class ChangesTests(GroupsTestCase):
    """What is changed."""

    def test_complete(self) -> None:
        """Every route of which the table says that it changes something is tried here, or it is an administrator's."""
        wanted = {(row["method"], row["path"]) for row in table("marti") if row["changes"] in ("own groups", "own")}
        self.assertEqual(set(CHANGES), wanted)
        for row in table("marti"):
            if row["changes"] == "everything":
                self.assertEqual(row["somebody"], "403", row)

    def test_strangers(self) -> None:
        """Whatever somebody of another group does with a route, what he has no part in stays as it is."""
        before = self.things.state(RED)
        phone = list(self.things.phones[RED].events)
        for route, call in CHANGES.items():
            self.status.clear()
            call(self, BLUE, RED)
            self.assertNotIn(500, self.status)
            after = self.things.state(RED)
            self.assertEqual({key for key in before if before[key] != after[key]}, set(), route)
            self.assertEqual(self.things.phones[RED].events, phone, route)
            for secret in (b"RED-SPOILED", b"spoiled"):
                self.assertNotIn(secret, b"".join(after.values()), route)

    def test_how_strangers_are_refused(self) -> None:
        """A stranger is answered as if there were nothing; only where a name is taken he has to be told so."""
        for route, statuses in (
            (("DELETE", "/Marti/sync/delete"), [404]),
            (("GET", "/Marti/sync/delete"), [404]),
            (("POST", "/Marti/sync/delete"), [404]),
            (("DELETE", "/Marti/api/files/<hash:hash>"), [404]),
            (("PUT", "/Marti/api/files/<hash:hash>/metadata"), [404]),
            (("PUT", "/Marti/api/sync/metadata/<hash:hash>/<field>"), [404]),
            (("PUT", "/Marti/api/video/<path:uid>"), [404]),
            (("DELETE", "/Marti/api/video/<path:uid>"), [404]),
            (("DELETE", "/Marti/vcm"), [404]),
            (("POST", "/Marti/api/video"), [403, 403]),
            (("POST", "/Marti/vcm"), [403, 404]),
            (("POST", "/Marti/sync/missionupload"), [403, 200]),
            (("POST", "/Marti/sync/upload"), [403, 200]),
        ):
            self.status.clear()
            CHANGES[route](self, BLUE, RED)
            self.assertEqual(self.status, statuses, route)

    def test_mates(self) -> None:
        """Who sees a thing may not change it for that: it is its owner's, or an administrator's to delete."""
        self.world.accounts.set_groups("newcomer", [RED], [RED])
        before = self.things.state(RED)
        video = json.dumps(self.things.video(RED, "SPOILED")["videoConnections"][0]).encode()
        for method, target, body, status in (
            ("DELETE", "/Marti/api/files/{HASH}", b"", 403),
            ("PUT", "/Marti/api/files/{HASH}/metadata?keywords=spoiled", b"", 200),
            ("PUT", "/Marti/api/sync/metadata/{HASH}/keywords", b'["spoiled"]', 200),
            ("PUT", "/Marti/api/video/{G}-VIDEO", video, 403),
            ("DELETE", "/Marti/api/video/{G}-VIDEO", b"", 403),
            ("DELETE", "/Marti/vcm?id={G}-FEED", b"", 403),
        ):
            reply = self.things.ask("newcomer", method, self.things.told(target, RED), body)
            self.assertEqual(reply.status, status, (method, target))
        self.assertEqual(self.things.state(RED), before)
        self.assertEqual(
            self.things.ask("root", "DELETE", self.things.told("/Marti/api/files/{HASH}", RED)).status, 200
        )

    def test_feeds_of_others(self) -> None:
        """A feed that is somebody's cannot be put into another connection."""
        said = self.things.video(BLUE, "SPOILED", "-2")
        said["videoConnections"][0]["feeds"][0]["uuid"] = "RED-FEED"
        self.ask(BLUE, "POST", "/Marti/api/video", RED, said)
        self.assertEqual(self.status, [403])

    def test_anonymous(self) -> None:
        """Who is anonymous changes what came from his address, switches no groups, and has no private files."""
        files, here, there = self.world.api.files, Caller(address="198.51.100.7"), Caller(address="198.51.100.8")
        reply = self.world.ask("plain", "POST", "/Marti/sync/upload?name=x.txt&tool=private", b"anonymous")
        assert reply is not None
        digest = json.loads(reply.body)["Hash"]
        for caller, changed in ((there, False), (here, True)):
            change_it = files.change(caller, digest, lambda file: replace(file, remarks="changed"))
            self.world.clock.wait(Deferred.fromCoroutine(change_it))
            self.assertEqual(files.find(here, hash=digest).remarks == "changed", changed)
        searched = self.world.ask("plain", "GET", "/Marti/sync/search")
        self.assertNotIn(b"x.txt", searched.body if searched is not None else b"x.txt")
        off = json.dumps([{"name": "__ANON__", "direction": "OUT", "active": False}]).encode()
        refused = self.world.ask("plain", "PUT", "/Marti/api/groups/active", off, JSON)
        self.assertEqual(refused and refused.status, 403)

    def test_nothing_else_changes(self) -> None:
        """Routes that change nothing say so in the table; what is not only asked for with GET is looked at twice."""
        for row in table("marti"):
            if row["changes"] == "nothing" and row["method"] != "GET" and row["somebody"] == "yes":
                self.assertIn(
                    row["path"],
                    ("/Marti/ErrorLog", "/Marti/api/cot", "/Marti/ExportMissionKML", "/Marti/vcu", "/Marti/vcs"),
                )


class OwnersTests(GroupsTestCase):
    """The owner can do what strangers cannot, or that would prove nothing. One test for each route, made below."""

    def change(self, route: Route) -> None:
        """Whoever has a thing changes it."""
        before = self.things.state(RED)
        phone = list(self.things.phones[RED].events)
        CHANGES[route](self, RED, RED)
        self.assertLessEqual(set(self.status), {101, 200}, self.status)
        changed = before != self.things.state(RED) or self.things.phones[RED].events != phone
        self.assertTrue(changed, "nothing was changed")


def _add_tests() -> None:
    for number, route in enumerate(sorted(CHANGES)):

        def run(self: OwnersTests, route: Route = route) -> None:
            self.change(route)

        run.__doc__ = f"Whoever has a thing changes it with {' '.join(route)}."
        title = f"test_{number:02}_{route[0].lower()}_{route[1].rpartition('/Marti/')[2]}"
        run.__name__ = "".join(c if c.isalnum() else "_" for c in title)
        setattr(OwnersTests, run.__name__, run)


_add_tests()


class CertificatesTests(GroupsTestCase):
    """What whoever enrolls gets."""

    def sign(self, proof: dict[str, str], path: str = "signClient/v2", name: str | None = None) -> tuple[int, bytes]:
        """Ask for a certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        reply = self.world.ask(
            "enroll", "POST", f"/Marti/api/tls/{path}?clientUid=X", signing_request(key, name), proof
        )
        assert reply is not None
        return reply.status, reply.body

    def test_own_name(self) -> None:
        """A certificate is for who has shown a password or an invite, whatever the request says."""
        for proof, own in (
            (basic("fox", PASSWORD), "fox"),
            (self.people.proofs["token: root"].headers, "root"),
            (self.people.proofs["invite: good"].headers, "newcomer"),
        ):
            for name in (None, own, own.upper()):
                status, body = self.sign(proof, name=name)
                self.assertEqual(status, 200)
                pem = f"-----BEGIN CERTIFICATE-----\n{json.loads(body)['signedCert']}\n-----END CERTIFICATE-----\n"
                subject = x509.load_pem_x509_certificate(pem.encode()).subject
                self.assertEqual(
                    [each.value for each in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)], [own]
                )
                status, body = self.sign(proof, "signClient", name)
                loaded = pkcs12.load_pkcs12(body, b"atakatak")
                self.assertIn(
                    f"CN={own}", {c.certificate.subject.rfc4514_string().split(",")[0] for c in loaded.additional_certs}
                )
            for path in ("signClient", "signClient/v2"):
                self.assertEqual(self.sign(proof, path, "wolf")[0], 403)

    def test_one_use(self) -> None:
        """An invite for one device is good for one."""
        token = self.world.api.enrolling.invites.invite("newcomer")
        self.assertEqual(self.sign(basic("newcomer", token))[0], 200)
        self.assertEqual(self.sign(basic("newcomer", token))[0], 401)

    def test_no_admin(self) -> None:
        """An administrator's invite administers nothing."""
        token = self.world.api.enrolling.invites.invite("root")
        for path, status in (("util/isAdmin", 403), ("certadmin/cert", 403), ("tls/config?clientUid=X", 200)):
            reply = self.world.ask("enroll", "GET", f"/Marti/api/{path}", b"", basic("root", token))
            self.assertEqual(reply and reply.status, status)

    def test_own_token(self) -> None:
        """A token is for who has shown the password, and for nobody else."""
        for name, password, status in (
            ("fox", PASSWORD, 200),
            ("fox", "wrong password", 401),
            ("banned", PASSWORD, 401),
            ("disabled", PASSWORD, 401),
            ("newcomer", "", 400),
            ("newcomer", "x", 401),
        ):
            target = f"/oauth/token?grant_type=password&username={name}&password={password.replace(' ', '%20')}"
            reply = self.world.ask("enroll", "POST", target)
            assert reply is not None
            self.assertEqual(reply.status, status, (name, password))
            if status == 200:
                token = json.loads(reply.body)["access_token"]
                got = self.world.ask(
                    "enroll", "GET", "/Marti/api/util/isAdmin", b"", {"Authorization": f"Bearer {token}"}
                )
                self.assertEqual(got and got.status, 403)

    def test_revoking(self) -> None:
        """An administrator revokes certificates; others of the group cannot, and his own connection ends as well."""
        self.assertEqual(self.sign(basic("fox", PASSWORD))[0], 200)
        entries = json.loads(self.things.ask("root", "GET", "/Marti/api/certadmin/cert?username=fox").body)["data"]
        self.assertGreater(len(entries), 0)
        for method, path in (("DELETE", "{hash}"), ("DELETE", "revoke/{id}"), ("DELETE", "delete/{id}")):
            target = f"/Marti/api/certadmin/cert/{path}".format(**entries[0])
            self.assertEqual(self.things.ask("fox", method, target).status, 403)
            self.assertEqual(self.revoked(), 0)
        target = f"/Marti/api/certadmin/cert/{entries[0]['hash']}"
        self.assertEqual(self.things.ask("root", "DELETE", target).status, 200)
        self.assertEqual(self.revoked(), 1)

    def revoked(self) -> int:
        """Count what the register has of revoked certificates that the server has issued."""
        listed = json.loads(self.things.ask("root", "GET", "/Marti/api/certadmin/cert/revoked").body)["data"]
        return sum(entry["userDn"] == "fox" for entry in listed)
