"""Several processes that are one server, for people with real sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.end_to_end.node_site import Load, NodesTestCase
from tests.end_to_end.stream_client import Closed, StreamClient, link_uid
from tests.samples import cancel, chat, delete, emergency, marker, sa, to, xml

SOAK_SECONDS = 60
SOAK_RATE = 500
"""Events in a second, by all together."""
GONE_SECONDS = 10
AGREED_SECONDS = 10
"""When nodes agree after an outage, also on a machine that has much else to do; else it takes less than five."""
"""Within what time everybody is told of the clients of a node that died."""


def private(sender: str, uid: str, number: int = 1) -> bytes:
    """Spell a chat to one person."""
    return chat(sender, number=number, room=uid, uids=(uid,), marti=f'<dest uid="{uid}"/>', now=time.time())


class NodesTests(NodesTestCase):
    def test_broadcast_and_direct(self) -> None:
        """What is said on one node is heard on all, once; what is for somebody only by him, wherever he is."""
        a, b, c = self.team("A", "B", "C")
        a.say(marker("M-1", now=time.time()), xml("X", marti=to("C"), now=time.time()))
        heard = self.settle(a, b, c)
        self.assertEqual([[event.get("uid") for event in each] for each in heard], [[], ["M-1"], ["M-1", "X"]])
        self.assertIn("M-1", self.shown(2))

    def test_chat(self) -> None:
        """Chat reaches its receiver on another node; one that is away gets it where he comes back, and once."""
        a, b, c = self.team("A", "B", "C")
        a.say(private("A", "B"))
        self.assertEqual([len(each) for each in self.settle(a, b, c)], [0, 1, 0])
        b.close()
        self.assertEqual(link_uid(c.wait_for_type("t-x-d-d")), "B")
        a.say(private("A", "B", 2), private("A", "B", 3))
        self.settle(a, c)
        again = StreamClient(self, self.nodes[2].port())
        again.say(sa("B", "B", now=time.time()))
        uids = [event.get("uid") for event in self.settle(again, a)[0] if event.get("type") == "b-t-f"]
        self.assertEqual([str(uid)[-1] for uid in uids], ["2", "3"])
        again.close()
        other = StreamClient(self, self.nodes[0].port())
        other.say(sa("B", "B", now=time.time()))
        self.assertEqual([event for event in self.settle(other, c)[0] if event.get("type") == "b-t-f"], [])

    def test_nobody(self) -> None:
        """Who writes to somebody whom no node knows is told so."""
        (a,) = self.team("A")
        a.say(private("A", "NOBODY"))
        a.wait_for_type("b-t-f-s")

    def test_delete(self) -> None:
        """A marker is on the map of all nodes, and after its delete of none."""
        a, b, _ = self.team("A", "B", "C")
        a.say(marker("M-1", now=time.time()))
        for node in range(3):
            self.eventually(lambda node=node: "M-1" in self.shown(node), "shown")  # type: ignore[misc]
        b.say(delete("M-1", now=time.time()))
        for node in range(3):
            self.eventually(lambda node=node: "M-1" not in self.shown(node), "deleted")  # type: ignore[misc]

    def test_emergency(self) -> None:
        """An emergency is repeated to all, once a period; it goes on when its node dies, and ends when canceled."""
        raiser = self.pki.ca.issue("raiser")
        a = self.join(0, "A", raiser)
        _, b, c = self.team("X", "B", "C")
        a.say(emergency("A", "A", now=time.time()))
        for client in (b, c):
            client.wait_for_uid("A-9-1-1")
        begin = time.monotonic()
        for _ in range(3):
            for client in (b, c):
                client.wait_for_uid("A-9-1-1")
        self.assertGreater(time.monotonic() - begin, 1.5, "they came too often")
        self.nodes[0].kill()
        for _ in range(3):
            for client in (b, c):
                client.wait_for_uid("A-9-1-1")
        again = self.join(1, "A", raiser)
        again.say(cancel("A", "A", now=time.time()))
        for client in (b, c):
            client.wait_for_type("b-a-o-can")
        for node in (1, 2):
            self.eventually(lambda node=node: self.quiet(node), "the emergency ended", 25)  # type: ignore[misc]

    def quiet(self, node: int) -> bool:
        return "A-9-1-1" not in self.shown(node)

    def test_moves(self) -> None:
        """Who is cut off and connects to another node is not reported gone, and gets what is directed to it there."""
        credentials = self.pki.ca.issue("alpha")
        a = self.join(0, "A", credentials)
        _, b, c = self.team("X", "B", "C")
        a.reset()
        again = self.join(1, "A", credentials)
        time.sleep(6)
        for heard in self.settle(b, c):
            self.assertEqual([event.get("type") for event in heard if event.get("type") == "t-x-d-d"], [])
        c.say(private("C", "A"))
        again.wait_for_type("b-t-f")

    def test_moves_first(self) -> None:
        """Who connects to another node while the old connection still seems good has the old one closed."""
        credentials = self.pki.ca.issue("alpha")
        old = self.join(0, "A", credentials)
        self.join(1, "A", credentials)
        old.until_closed()
        self.eventually(lambda: [each["node"] != "" for each in self.status(2)["clients"]] == [True], "one of them")

    def test_kickban(self) -> None:
        """Who is banned on one node is cut off from another at once, and let in by none."""
        credentials = self.pki.ca.issue("mallory")
        bad = self.join(1, "BAD", credentials)
        bad.so_far()
        self.takyctl(0, "kickban", "mallory")
        begin = time.monotonic()
        bad.until_closed()
        self.assertLess(time.monotonic() - begin, 5)
        for node in range(3):
            self.eventually(lambda node=node: self.is_refused(node, credentials), f"refused by {node}")  # type: ignore[misc]

    def is_refused(self, node: int, credentials: object) -> bool:
        try:
            client = self.join(node, "BAD", credentials)  # type: ignore[arg-type]
            client.so_far()
        except (OSError, Closed):
            return True
        client.close()
        return False

    def test_kickban_of_a_node_that_is_down(self) -> None:
        """A node that was down when somebody was banned does not let him in when it is back."""
        credentials = self.pki.ca.issue("mallory")
        self.join(2, "BAD", credentials)
        self.nodes[2].kill()
        self.takyctl(0, "kickban", "mallory")
        self.nodes[0].kill()  # nobody but Redis can tell
        self.nodes[2].launch()
        self.wait_until_open(self.nodes[2])
        self.assertTrue(self.is_refused(2, credentials))

    def test_status(self) -> None:
        """Every node tells of the clients of all, and names the nodes."""
        self.team("A", "B", "C")
        for node in range(3):
            told = self.status(node)
            self.assertEqual(sorted(client["uid"] for client in told["clients"]), ["A", "B", "C"])
            self.assertEqual(len(told["nodes"]), 2)
            self.assertEqual(sum(client["node"] == "" for client in told["clients"]), 1)
        table = self.takyctl(0, "status")
        self.assertIn("Other Nodes: ", table)
        with urlopen(self.marti(1, "/Marti/api/clientEndPoints"), timeout=10) as answer:
            said = answer.read().decode()
        for uid in ("A", "B", "C"):
            self.assertIn(f'"uid":"{uid}"', said.replace('": "', '":"'))

    def marti(self, node: int, path: str) -> str:
        return f"http://127.0.0.1:{self.nodes[node].port(2)}{path}"

    def test_file(self) -> None:
        """A data package that was uploaded to one node is served by the others, also after that one died."""
        content = os.urandom(700_000)
        upload = Request(
            self.marti(0, "/Marti/sync/upload?name=map.zip"), data=content, headers={"Content-Type": "application/zip"}
        )
        with urlopen(upload, timeout=20) as answer:
            digest = answer.read().decode().partition('"Hash"')[2].split('"')[1]

        def is_served(node: int) -> bool:
            with contextlib.suppress(HTTPError):  # it is not told of the file yet
                with urlopen(self.marti(node, f"/Marti/sync/content?hash={digest}"), timeout=20) as answer:
                    self.assertEqual(answer.read(), content, f"node {node}")
                return True
            return False

        for node in range(3):
            self.eventually(lambda node=node: is_served(node), f"node {node}")  # type: ignore[misc]
        self.nodes[0].kill()
        with urlopen(self.marti(2, f"/Marti/sync/content?hash={digest}"), timeout=20) as answer:
            self.assertEqual(answer.read(), content)

    def test_users(self) -> None:
        """Groups that an operator gives on one node count on all at once, also for who is connected elsewhere."""
        credentials = self.pki.ca.issue("anna")
        anna = self.join(1, "ANNA", credentials)
        _, b, _ = self.team("X", "B", "C")
        self.takyctl(0, "users", "add", "anna", "--no-password", "--group", "red")
        self.assertEqual(link_uid(b.wait_for_type("t-x-d-d")), "ANNA")
        anna.so_far()
        b.say(marker("M-1", now=time.time()))
        time.sleep(0.5)
        self.assertNotIn("M-1", anna.uids())

    def test_newcomer(self) -> None:
        """A node that joins has the map and everybody who is there before its doors open."""
        a, b, _ = self.team("A", "B", "C")
        a.say(*(marker(f"M-{number}", now=time.time()) for number in range(200)), delete("M-7", now=time.time()))
        b.say(emergency("B", "B", now=time.time()))
        self.settle(a, b)
        late = self.make(7)
        self.nodes.append(late)
        late.launch()
        self.wait_until_open(late)
        shown = self.shown(3)
        for uid in ("A", "B", "C", "M-0", "M-199", "B-9-1-1"):
            self.assertIn(uid, shown)
        self.assertNotIn("M-7", shown)

    def test_restart_of_all(self) -> None:
        """After a restart of all nodes everything is there again; what was deleted is not."""
        a, b, _ = self.team("A", "B", "C")
        a.say(marker("M-1", now=time.time()), marker("M-2", now=time.time()))
        b.say(marker("M-3", now=time.time()))
        self.settle(a, b)
        b.say(delete("M-1", now=time.time()))
        self.settle(a, b)
        time.sleep(2)
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            node.wait()
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            self.wait_until_open(node)
        for number in range(3):
            shown = self.shown(number)
            self.assertEqual([uid for uid in sorted(map(str, shown)) if uid.startswith("M-")], ["M-2", "M-3"])


class KilledNodeTests(NodesTestCase):
    def test_kill(self) -> None:
        """One of three nodes is killed under load: nobody else loses anything, and its clients are told of, once."""
        clients = {f"C-{number}": self.join(number % 3, f"C-{number}") for number in range(9)}
        for client in clients.values():
            client.so_far()
        load = Load(clients)
        self.addCleanup(load.close)
        load.run(2, 300)
        dead = [uid for number, uid in enumerate(list(clients)) if number % 3 == 0]
        witness = self.connect(1)
        witness.so_far()
        killed = time.monotonic()
        self.nodes[0].kill()
        for uid in dead:
            load.drop(uid)
        load.run(3, 300)
        self.assertEqual(load.finish(), [])
        told: list[str | None] = []
        while len(told) < len(dead):
            told.append(link_uid(witness.wait_for_type("t-x-d-d", GONE_SECONDS)))
        self.assertLess(time.monotonic() - killed, GONE_SECONDS)
        self.assertEqual(sorted(map(str, told)), sorted(dead))
        back = self.join(2, "C-0")
        shown = set(map(str, self.shown(2)))
        self.assertTrue({f"M-C-{number}" for number in range(9)} <= shown, shown)
        back.close()


class SoakTests(NodesTestCase):
    def test_soak(self) -> None:
        """For a minute everybody hears everybody, wherever they are: nothing is lost, doubled, or out of order."""
        clients = {f"C-{number}": self.join(number % 3, f"C-{number}") for number in range(9)}
        for client in clients.values():
            client.so_far()
        load = Load(clients)
        self.addCleanup(load.close)
        load.run(SOAK_SECONDS, SOAK_RATE)
        self.assertEqual(load.finish(), [])
        self.assertEqual(load.heard, SOAK_SECONDS * SOAK_RATE * 8)


class OutageTests(NodesTestCase):
    count = 2

    def test_outage(self) -> None:
        """Redis stops, hangs, is killed and starts empty: each node goes on, nothing said on one node is lost there."""
        a, b = self.join(0, "A"), self.join(1, "B")
        a2 = self.join(0, "A2")
        self.settle(a, b, a2)
        for number, (away, back) in enumerate(
            (
                (self.redis.stop, self.redis.start),
                (self.redis.pause, self.redis.resume),
                (self.redis.kill, self.redis.start),
            )
        ):
            away()
            for at in range(20):
                a.say(private("A", "A2", 100 * number + at), marker(f"M-{number}-{at}", now=time.time()))
                time.sleep(0.05)
            b.say(marker(f"B-{number}", now=time.time()))
            time.sleep(2.5)
            heard = [event.get("uid") for event in a2.so_far()]
            self.assertEqual(sum("GeoChat" in str(uid) for uid in heard), 20)
            back()
            wanted = {f"M-{number}-{at}" for at in range(20)} | {f"B-{number}"}
            self.eventually(lambda wanted=wanted: self.everywhere(wanted), f"agreed {wanted}", AGREED_SECONDS)  # type: ignore[misc]
            self.settle(a, b, a2)
        for node in self.nodes:
            self.assertEqual(len(node.lines("are reached again")), 3, node.log)

    def everywhere(self, wanted: set[str]) -> bool:
        return all(wanted <= set(map(str, self.shown(node))) for node in range(self.count))

    def test_chat_waits(self) -> None:
        """Chat for somebody on another node waits for Redis a while, and is delivered once."""
        a, b = self.join(0, "A"), self.join(1, "B")
        self.settle(a, b)
        self.redis.stop()
        a.say(private("A", "B", 1), private("A", "B", 2))
        time.sleep(1)
        self.redis.start()
        for number in "12":
            self.assertEqual(str(b.wait_for_type("b-t-f").get("uid"))[-1], number)
        self.assertEqual([event.get("type") for event in self.settle(a, b)[1] if event.get("type") == "b-t-f"], [])

    def test_paused_node(self) -> None:
        """A node that hung so long that it was thought dead is back with its clients when it goes on."""
        a, b = self.join(0, "A"), self.join(1, "B")
        self.settle(a, b)
        os.kill(self.nodes[0].pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.nodes[0].pid, signal.SIGCONT)
        self.assertEqual(link_uid(b.wait_for_type("t-x-d-d", GONE_SECONDS)), "A")
        b.say(marker("M-1", now=time.time()))
        os.kill(self.nodes[0].pid, signal.SIGCONT)
        a.wait_for_uid("M-1")
        b.wait_for_uid("A")
        self.assertIn("A", self.shown(1))
