"""A server of several nodes is started, and every part of it is ended."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.nodes import Redis, Site, make_server
from bench.proc import memory_kb
from bench.servers import Server, ServerFailed, Side

ROOT = Path(__file__).resolve().parent.parent.parent


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.site = Site(Side("2 nodes", ROOT, nodes=2), self.folder)
        self.addCleanup(self.site.stop)

    def test_life(self) -> None:
        """Each node has a port and a process, Redis too; when it is stopped none of them is left."""
        self.assertEqual(self.site.pid, 0)
        self.site.start()
        ports, pids, redis = self.site.ports, self.site.pids, self.site.redis_pid
        self.assertEqual((len(set(ports)), len({*pids, redis}), self.site.pid), (2, 3, pids[0]))
        self.assertTrue(all(map(memory_kb, (*pids, redis))))
        self.assertEqual(self.site.log().count("CoT door tcp:"), 2)
        self.site.stop()
        self.assertFalse(any(map(memory_kb, (*pids, redis))))
        self.assertEqual(self.site.pid, 0)

    def test_node_ends(self) -> None:
        """A node that cannot run is reported with what it said, and nothing is left running."""
        self.site.side = Side("2 nodes", ROOT, nodes=2, options=("--no-such-option",))
        error = self.assertRaises(ServerFailed, self.site.start)
        self.assertIn("no-such-option", str(error))
        self.assertEqual((self.site.pid, memory_kb(self.site.redis_pid)), (0, 0))


class RedisTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def test_none(self) -> None:
        """Without a redis-server it is said what to install."""
        self.patch(shutil, "which", lambda name: None)
        error = self.assertRaises(ServerFailed, Redis(self.folder).start)
        self.assertIn("Debian: redis-server", str(error))

    def test_does_not_start(self) -> None:
        """One that ends at once is reported with what it said."""
        self.patch(shutil, "which", lambda name: sys.executable)  # which knows no --bind
        redis = Redis(self.folder)
        error = self.assertRaises(ServerFailed, redis.start)
        self.assertIn("bind", str(error))
        self.assertEqual(redis.pid, 0)
        redis.stop()


class SideTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """What has nodes is a site; what has none is one process, which counts if it is asked to and can."""
        folder = Path(self.mktemp()).absolute()
        self.assertIsInstance(make_server(Side("2 nodes", ROOT, nodes=2), folder, None, True), Site)
        server = make_server(Side("ours", ROOT), folder, None, True)
        self.assertEqual((type(server), server.counting), (Server, True))
        self.assertTrue(Side("ours", ROOT).has_metrics)
        self.assertFalse(Side("taky", taky=Path("taky")).has_metrics)
        self.assertIn("--metrics-endpoint=tcp:3:interface=127.0.0.1", Side("ours", ROOT).command(folder, 1, 2, None, 3))
        self.assertNotIn("metrics", " ".join(Side("ours", ROOT).command(folder, 1, 2, None)))
