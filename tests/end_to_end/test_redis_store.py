"""A server process that keeps its map in Redis, while Redis stops, hangs, is killed, and comes back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import Closed, StreamClient
from tests.pki import PKI, write_private
from tests.redis_server import RedisServer
from tests.samples import chat, marker, sa, to

PERSIST = "taky:taky.local:persist:"
EVENTS_PER_SECOND = 200
ITEMS = 50
"""Markers that move all the time."""
BEFORE_SECONDS, AWAY_SECONDS, AFTER_SECONDS = 1.0, 3.0, 2.0
AGREE_SECONDS = 5.0
"""So soon after it is back Redis has the newest of everything."""
GROWTH_BYTES = 30 << 20
"""By so much the server's memory may grow meanwhile."""
SECRET = "hunter2"


class Load:
    """Two clients: one says things all the time, every other to the second, which counts what it hears."""

    def __init__(self, test: SynchronousTestCase, port: int) -> None:
        self._sender, self._reader = StreamClient(test, port), StreamClient(test, port)
        for client, name in ((self._sender, "A"), (self._reader, "B")):
            client.say(sa(name, name, now=time.time()))
            client.so_far()
        self.sent = 0
        self.newest: dict[str, str] = {}
        """The callsign of each marker, which changes with each event."""
        self.heard: list[str] = []
        """The directed messages that arrived, in order."""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def run(self, seconds: float) -> None:
        """Say things at a constant rate."""
        begin, count = time.monotonic(), 0
        while count < seconds * EVENTS_PER_SECOND:
            now, number = time.time(), self.sent
            if number % 2:
                self._sender.say(chat("A", number=number, marti=to("B"), now=now))
            else:
                uid = f"M-{number // 2 % ITEMS}"
                self.newest[uid] = f"n{number}"
                self._sender.say(marker(uid, f"n{number}", now=now, stale=600))
            self.sent += 1
            count += 1
            time.sleep(max(0.0, begin + count / EVENTS_PER_SECOND - time.monotonic()))

    def missing(self) -> list[str]:
        """Name the directed messages that did not arrive; those that did are in order, each once."""
        wanted = [f"m-{number}" for number in range(1, self.sent, 2)]
        end = time.monotonic() + 10
        while len(self.heard) < len(wanted) and time.monotonic() < end:
            time.sleep(0.01)
        assert self.heard == [each for each in wanted if each in set(self.heard)], "out of order, or twice"
        return sorted(set(wanted) - set(self.heard))

    def _listen(self) -> None:
        try:
            while True:
                event = self._reader.hear(600)
                if event.get("type") == "b-t-f":
                    self.heard.append(event.attrib["uid"].rpartition(".")[2])
        except (Closed, AssertionError, OSError, ValueError):
            return  # the test is over


class RedisStoreTestCase(SynchronousTestCase):
    def warnings(self, server: ServerProcess) -> list[str]:
        """Read the lines about the store."""
        return server.lines("cannot write redis:") + server.lines("is written again")

    def stored(self, redis: RedisServer) -> dict[str, str]:
        """Read the callsigns of all markers, as another program does."""
        found = {}
        for key in redis.keys(PERSIST + "*"):
            contact = ElementTree.fromstring(redis.shell("GET", key)).find("detail/contact")
            assert contact is not None
            found[key.decode().removeprefix(PERSIST)] = contact.attrib["callsign"]
        return found

    def wait_until(self, is_so: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is so; tell whether it is."""
        end = time.monotonic() + seconds
        while not (now := is_so()) and time.monotonic() < end:
            time.sleep(0.02)
        return now


class OutageTests(RedisStoreTestCase):
    """Under 200 events a second."""

    def outage(self, redis: RedisServer, leave: Callable[[], None], come_back: Callable[[], None]) -> ServerProcess:
        """Go through an outage, and count what was lost."""
        server = ServerProcess(self, f"--store=redis:{redis.endpoint}").start()
        load = Load(self, server.port())
        load.run(BEFORE_SECONDS)
        memory = server.memory()
        leave()
        load.run(AWAY_SECONDS)
        come_back()
        back = time.monotonic()
        load.run(AFTER_SECONDS)
        self.assertEqual(load.missing(), [], "directed messages between clients of one node")
        left = back + AGREE_SECONDS - time.monotonic()
        self.assertTrue(
            self.wait_until(lambda: self.stored(redis) == load.newest, max(left, 5)), "the newest of everything"
        )
        self.assertEqual(len(load.newest), ITEMS)
        self.assertLess(server.memory() - memory, GROWTH_BYTES)
        server.wait_for_log("is written again")
        self.assertEqual(len(self.warnings(server)), 2, server.log)
        self.assertNotIn("Traceback", server.log)
        server.kill()
        server.start()
        shown = {event.get("uid"): event for event in StreamClient(self, server.port()).so_far()}
        for uid, callsign in load.newest.items():
            contact = shown[uid].find("detail/contact")
            assert contact is not None
            self.assertEqual(contact.get("callsign"), callsign)
        return server

    def test_stop(self) -> None:
        """Redis is stopped, and comes back empty."""
        redis = RedisServer(self)
        self.outage(redis, redis.stop, redis.start)

    def test_pause(self) -> None:
        """Redis hangs, and goes on."""
        redis = RedisServer(self)
        self.outage(redis, redis.pause, redis.resume)

    def test_kill(self) -> None:
        """Redis is killed, and comes back with what it had."""
        redis = RedisServer(self, keeps=True)
        self.outage(redis, redis.kill, redis.start)

    def test_quick_restart(self) -> None:
        """Redis is killed and started again at once."""
        redis = RedisServer(self)
        self.outage(redis, redis.restart, lambda: None)


class StartTests(RedisStoreTestCase):
    """How it starts, and when it does not."""

    def fails(self, *options: str) -> str:
        """Start a server that cannot; read the one line about it."""
        server = ServerProcess(self, *options)
        server.launch()
        self.assertEqual(server.wait(30), 1, server.log)
        (line,) = [line for line in server.log.splitlines() if "taky: " in line]
        self.assertNotIn("Traceback", server.log)
        self.assertNotIn(SECRET, server.log)
        return line

    def test_nobody_there(self) -> None:
        """Without Redis it does not start, and says what was tried and what to do."""
        redis = RedisServer(self)
        redis.stop()
        line = self.fails(f"--store=redis:{redis.endpoint}")
        self.assertRegex(line, rf"cannot use redis:{redis.endpoint} as store: .*refused.*Start Redis")

    def test_wrong_password(self) -> None:
        """A password that is wrong, or missing, is told in one line, without it."""
        redis = RedisServer(self, password=SECRET)
        self.assertRegex(self.fails(f"--store=redis:{redis.endpoint}"), "NOAUTH.*redis_password_file")
        path = Path(self.mktemp()).absolute()
        write_private(path, SECRET[:-1].encode())
        options = (f"--store=redis:{redis.endpoint}", f"--redis-password-file={path}")
        self.assertRegex(self.fails(*options), "WRONGPASS.*redis_password_file")
        path.chmod(0o644)
        self.assertIn("chmod 600", self.fails(*options))

    def test_daemon(self) -> None:
        """In the background it says so in its log, and does not stay."""
        redis = RedisServer(self, password=SECRET)
        server = ServerProcess(self, f"--store=redis:{redis.endpoint}")
        log, pid = server.folder / "twistd.log", server.folder / "twistd.pid"
        server.launch(f"--logfile={log}", f"--pidfile={pid}")
        self.assertEqual(server.wait(), 0)
        ended = self.wait_until(lambda: log.exists() and "Server Shut Down" in log.read_text() and not pid.exists(), 20)
        self.assertTrue(ended, log.read_text())
        self.assertIn("taky: cannot use redis:", log.read_text())
        self.assertNotIn("Traceback", log.read_text())

    def test_terminate_while_it_waits(self) -> None:
        """Who stops it while it waits for Redis gets exit status 0, and the folder is free again."""
        redis = RedisServer(self)
        redis.pause()
        server = ServerProcess(self, f"--store=redis:{redis.endpoint}")
        server.launch()
        server.wait_for_log("is open on")
        self.assertTrue(self.wait_until(lambda: self.catches_signals(server), 20))
        server.terminate()
        self.assertEqual(server.wait(), 0, server.log)
        redis.resume()
        server.start()

    def catches_signals(self, server: ServerProcess) -> bool:
        """Whether it has its functions for signals in place, as the kernel tells: that for SIGHUP comes with them."""
        status = Path(f"/proc/{server.pid}/status").read_text("ascii")
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught & 1 << signal.SIGHUP - 1)

    def test_late(self) -> None:
        """A Redis that comes a moment later than the server is waited for; who connects meanwhile is served then."""
        redis = RedisServer(self)
        redis.shell("SET", PERSIST + "M-1", marker("M-1", now=time.time()))
        redis.pause()
        server = ServerProcess(self, f"--store=redis:{redis.endpoint}")
        server.launch()
        server.wait_for_log("is open on")
        client = StreamClient(self, server.port())
        client.say(sa("A", "A", now=time.time()))
        time.sleep(1)
        redis.resume()
        self.assertEqual(client.uids(), ["M-1"])


class WaysTests(RedisStoreTestCase):
    """The ways to Redis."""

    def works(self, redis: RedisServer, *options: str, conf: str = "") -> None:
        """Keep a marker, restart, and find it."""
        server = ServerProcess(self, *options)
        (server.folder / "taky.conf").write_text(conf, "utf-8")
        server.start()
        client = StreamClient(self, server.port())
        client.say(sa("A", "A", now=time.time()), marker("M-1", now=time.time()))
        client.so_far()
        self.assertTrue(self.wait_until(lambda: redis.shell("HLEN", "taky:taky.local:store:items") == 1, 10))
        server.terminate()
        self.assertEqual(server.wait(), 0)
        server.start()
        self.assertIn("M-1", StreamClient(self, server.port()).uids())
        self.assertNotIn(SECRET, server.log)
        self.assertEqual(self.warnings(server), [])
        server.kill()

    def test_unix(self) -> None:
        """A unix socket."""
        redis = RedisServer(self)
        self.works(redis, f"--store=redis:{redis.unix_endpoint}")

    def test_tls_and_user(self) -> None:
        """TLS, and a user with the rights that the manual lists, and a password from a file."""
        redis = RedisServer(self, tls=PKI(self.mktemp()), acl=[f"taky on >{SECRET} {manual_rules('user taky on')}"])
        path = Path(self.mktemp()).absolute()
        write_private(path, f"{SECRET}\n".encode())
        conf = f"[taky]\nstore = redis:{redis.tls_endpoint}\nredis_user = taky\nredis_password_file = {path}\n"
        self.works(redis, conf=conf)

    def test_user_of_nodes(self) -> None:
        """A user with the rights that the manual lists for nodes, which meet in the same Redis."""
        rules = manual_rules("user taky on") + " " + manual_rules("+xadd")
        redis = RedisServer(self, acl=[f"taky on >{SECRET} {rules}"])
        path = Path(self.mktemp()).absolute()
        write_private(path, f"{SECRET}\n".encode())
        options = ["--redis-user=taky", f"--redis-password-file={path}", f"--bus=redis:{redis.endpoint}"]
        servers = [ServerProcess(self, f"--store=redis:{redis.endpoint}", *options, "--node-id=T") for _ in range(2)]
        a, b = (StreamClient(self, server.start().port()) for server in servers)
        a.say(sa("A", "A", now=time.time()), marker("M-1", now=time.time()))
        b.wait_for_uid("M-1")
        for server in servers:
            self.assertNotIn("NOPERM", server.log)
            self.assertNotIn("Traceback", server.log)
        self.assertEqual(redis.shell("ACL", "LOG"), [])

    def test_address_of_taky(self) -> None:
        """An address as taky's, with the password in it."""
        redis = RedisServer(self, password=SECRET)
        self.works(redis, conf=f"[taky]\nredis = redis://:{SECRET}@127.0.0.1:{redis.port}/0\n")


def manual_rules(start: str) -> str:
    """Read what the manual allows the server's user in Redis, from the line that starts so."""
    text = (Path(__file__).parents[2] / "doc" / "how-to" / "redis.rst").read_text("utf-8")
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return " ".join(word for word in line.split() if word[0] in "~+")
