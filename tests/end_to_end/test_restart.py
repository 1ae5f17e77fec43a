"""What is there again after a server was killed, and why one does not start."""

from __future__ import annotations

import socket
import time

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import link_uid
from tests.end_to_end.test_lifecycle import ServerTestCase
from tests.samples import cancel, chat, delete, emergency, marker, sa, to

STORE_SECONDS = 3
"""Longer than what the store may lose, with time for a busy disk."""


class KillTests(ServerTestCase):
    def setUp(self) -> None:
        self.server = ServerProcess(self, "--emergency-period=1").start()

    def kill_and_start(self) -> None:
        """Kill -9, and start again on the same data folder."""
        time.sleep(STORE_SECONDS)
        self.server.kill()
        self.server.start()

    def test_T58_deletes_stay_deleted(self) -> None:
        """Markers are there again; what was deleted before is not, and an old copy of it does not come back."""
        a = self.join("A")
        now = time.time()
        a.say(marker("M-1", now=now), marker("M-2", now=now), delete("M-1", now=now))
        a.so_far()
        self.kill_and_start()
        b = self.connect()
        uids = b.uids()
        self.assertIn("M-2", uids)
        self.assertNotIn("M-1", uids)
        b.say(marker("M-1", now=now - 1))
        b.so_far()
        self.assertNotIn("M-1", self.connect().uids())
        b.say(marker("M-1", now=now + 1))
        b.so_far()
        self.assertIn("M-1", self.connect().uids())

    def test_T34_contacts(self) -> None:
        """Who was there is shown as gone until it connects again, and then as there."""
        self.join("A")
        self.kill_and_start()
        b = self.connect()
        report, notice = b.so_far()
        self.assertEqual((report.get("uid"), notice.get("type"), link_uid(notice)), ("A", "t-x-d-d", "A"))
        a = self.join("A")
        self.assertEqual(b.uids(), ["A"])
        self.assertEqual([event.get("type") for event in self.connect().so_far()], ["a-f-G-U-C"])
        a.close()

    def test_T67_missed_chat(self) -> None:
        """A chat for somebody who is away waits, also while the server is killed, and arrives once and in order."""
        a, b = self.join("A"), self.join("B")
        a.so_far()
        b.so_far()
        b.close()
        a.wait_for_type("t-x-d-d")
        for number in (1, 2, 3):
            a.say(chat("A", number=number, marti=to("B"), now=time.time()))
        self.assertEqual(a.so_far(), [], "it was stored, so nothing failed")
        self.kill_and_start()
        b = self.connect()
        b.so_far()
        b.say(sa("B", "B", now=time.time()))
        self.assertEqual([str(uid).rpartition(".")[2] for uid in b.uids()], ["m-1", "m-2", "m-3"])
        b.close()
        self.assertNotIn("b-t-f", [event.get("type") for event in self.join("B").so_far()])

    def test_T71_emergency(self) -> None:
        """An emergency is repeated with fresh times, also after kill -9 without its raiser, until canceled."""
        a = self.join("A")
        a.say(emergency("A", "A", now=time.time()))
        a.so_far()
        self.kill_and_start()
        b = self.connect()
        first = b.wait_for_uid("A-9-1-1")
        second = b.wait_for_uid("A-9-1-1")
        self.assertEqual((first.get("type"), first.get("start")), ("b-a-o-tbl", second.get("start")))
        self.assertLess(str(first.get("time")), str(second.get("time")))
        a = self.join("A")
        a.say(cancel("A", "A", now=time.time()))
        b.wait_for_type("b-a-o-can")
        time.sleep(1.5)
        self.assertNotIn("b-a-o-tbl", [event.get("type") for event in b.so_far()])
        self.assertNotIn("b-a-o-tbl", [event.get("type") for event in self.connect().so_far()])

    def test_T86_terminated(self) -> None:
        """A server that is told to stop has kept everything when it ends, without any delay."""
        a = self.join("A")
        a.say(marker(now=time.time()))
        a.so_far()
        self.server.terminate()
        self.assertEqual(self.server.wait(), 0)
        self.server.start()
        uids = self.connect().uids()
        self.assertTrue({"A", "MARK-1"} <= set(uids), uids)


class CannotStartTests(ServerTestCase):
    def fails(self, server: ServerProcess, *twistd_options: str) -> str:
        """Start a server that cannot start; read the line that says why."""
        server.launch(*twistd_options)
        self.assertEqual(server.wait(), 1)
        self.assertNotIn("Traceback", server.log)
        (line,) = [line for line in server.log.splitlines() if "taky: " in line]
        return line

    def test_folder_in_use(self) -> None:
        """A second server on a data folder ends with status 1, names the first, and leaves it alone."""
        self.server = ServerProcess(self).start()
        second = ServerProcess(self, folder=self.server.folder / "second")
        second.data_dir = self.server.data_dir
        line = self.fails(second)
        self.assertIn(f"another server (process {self.server.pid}, running since", line)
        self.assertEqual(self.join("A").so_far(), [])

    def test_port_in_use(self) -> None:
        """A port where somebody listens ends the start with status 1 and one line."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            line = self.fails(ServerProcess(self, f"--cot-endpoint=tcp:{port}:interface=127.0.0.1"))
            self.assertIn(f"cannot open CoT door tcp:{port}: another program listens there already", line)

    def test_port_in_use_in_the_background(self) -> None:
        """So does a daemon that cannot start: whoever started it is told, and no pid file stays."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = ServerProcess(self, f"--cot-endpoint=tcp:{taken.getsockname()[1]}:interface=127.0.0.1")
            line = self.fails(server, "--pidfile=taky.pid", "--logfile=taky.log")
        self.assertIn("cannot open CoT door", line)
        self.assertFalse((server.folder / "taky.pid").exists())
        self.assertIn("another program listens there already", (server.folder / "taky.log").read_text())

    def test_bad_option(self) -> None:
        """A bad value ends the start with status 1 and one line."""
        self.assertIn("--udp-port=http: ", self.fails(ServerProcess(self, "--udp-port=http")))
