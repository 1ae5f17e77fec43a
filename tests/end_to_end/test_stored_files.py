"""Stored files of a real server: what a sudden end leaves, how little memory an upload takes, and taky's packages."""

from __future__ import annotations

import http.client
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.enterprise_sync.taky_folder import TakyFolder
from tests.marti.file_server import BOUNDARY, FORM, form

DOORS = ("--cot-endpoint=tcp:0:interface=127.0.0.1", "--marti-endpoint=tcp:0:interface=127.0.0.1")
KILLS = 8
LONGEST_SECONDS = 0.4
"""How long clients are busy before a kill."""
PATIENCE = 30.0


class FilesTestCase(SynchronousTestCase):
    server: ServerProcess

    def ask(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Ask, on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port(1), timeout=PATIENCE)) as connection:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()

    def search(self) -> list[dict[str, Any]]:
        """List everything."""
        status, body = self.ask("GET", "/Marti/sync/search")
        self.assertEqual(status, 200)
        results: list[dict[str, Any]] = json.loads(body)["results"]
        return results

    def download(self, digest: str) -> bytes:
        """Fetch a content, which must be there."""
        status, body = self.ask("GET", f"/Marti/sync/content?hash={digest}")
        self.assertEqual(status, 200)
        return body


class KillTests(FilesTestCase):
    def setUp(self) -> None:
        self.server = ServerProcess(self, *DOORS).start()
        self.random = random.Random(5)
        self.stored: dict[str, str] = {}
        """What a client was told is stored: names and hashes."""
        self.tools: list[str] = []
        """What a client has set, the last one perhaps not yet."""

    def upload_for_ever(self, prefix: str) -> None:
        for number in range(1_000_000):
            name, data = f"{prefix}-{number}", os.urandom(self.random.choice((10, 5000, 300_000, 2_000_000)))
            try:
                status, _ = self.ask("POST", f"/Marti/sync/missionupload?filename={name}", form(data), FORM)
            except (OSError, http.client.HTTPException):
                return
            if status == 200:
                self.stored[name] = sha256(data).hexdigest()

    def change_for_ever(self, digest: str) -> None:
        for number in range(1_000_000):
            tool = f"tool-{len(self.tools)}-{number}"
            self.tools.append(tool)
            try:
                status, _ = self.ask("PUT", f"/Marti/api/sync/metadata/{digest}/tool", tool.encode())
            except (OSError, http.client.HTTPException):
                return
            if status == 200:
                self.tools = [tool]

    def kill_and_start(self) -> None:
        time.sleep(self.random.uniform(0.02, LONGEST_SECONDS))
        self.server.kill()
        for thread in self.threads:
            thread.join(PATIENCE)
        self.server.start()

    def run_threads(self, *threads: Thread) -> None:
        self.threads = threads
        for thread in threads:
            thread.start()

    def check(self) -> int:
        """All that is there is whole, all that was confirmed is there, and nothing else is on the disk."""
        files = self.search()
        names = {file["Name"]: file["Hash"] for file in files}
        self.assertEqual({name: names.get(name) for name in self.stored}, self.stored)
        for digest in set(names.values()):
            self.assertEqual(sha256(self.download(digest)).hexdigest(), digest)
        blobs = self.server.data_dir / "dp-user" / "blobs"
        self.assertEqual({path.name for path in blobs.glob("??/*")}, set(names.values()))
        self.assertEqual(list((blobs / "incoming").iterdir()), [])
        return len(files)

    def test_upload(self) -> None:
        """However a server dies while files are uploaded: what it said is stored is, and nothing is there by half."""
        for number in range(KILLS):
            self.run_threads(*(Thread(target=self.upload_for_ever, args=(f"{number}-{one}",)) for one in "ab"))
            self.kill_and_start()
            self.check()
        self.assertGreater(len(self.stored), 0)

    def test_half_an_upload(self) -> None:
        """An upload that was half there when the server died is gone, and can be repeated."""
        data = os.urandom(2_000_000)
        wire = form(data)
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port(1), timeout=PATIENCE)) as connection:
            connection.putrequest("POST", "/Marti/sync/missionupload?filename=a.zip")
            connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
            connection.putheader("Content-Length", str(len(wire)))
            connection.endheaders(wire[: len(wire) // 2])
            incoming = self.server.data_dir / "dp-user" / "blobs" / "incoming"
            end = time.monotonic() + PATIENCE
            while not any(path.stat().st_size for path in incoming.glob("*")):  # the folder may not be there yet
                self.assertLess(time.monotonic(), end)
                time.sleep(0.01)
            self.server.kill()
        self.assertEqual(len(list(incoming.iterdir())), 1)
        self.server.start()
        self.assertEqual(self.check(), 0)
        digest = sha256(data).hexdigest()
        self.assertEqual(self.ask("GET", f"/Marti/sync/missionquery?hash={digest}")[0], 404)
        self.assertEqual(self.ask("POST", "/Marti/sync/missionupload?filename=a.zip", wire, FORM)[0], 200)
        self.assertEqual(self.download(digest), data)

    def test_change(self) -> None:
        """However a server dies while a file is changed: it is as was confirmed last, or as was asked for next."""
        data = b"data" * 1000
        digest = sha256(data).hexdigest()
        for number in range(KILLS):
            # One of its own: what somebody anonymous has uploaded is changed by nobody after a restart.
            self.tools = ["public"]
            self.ask("POST", f"/Marti/sync/missionupload?filename={number}.zip", form(data), FORM)
            self.run_threads(Thread(target=self.change_for_ever, args=(digest,)))
            self.kill_and_start()
            (file,) = (file for file in self.search() if file["Name"] == f"{number}.zip")
            self.assertIn(file["Tool"], self.tools)
            self.assertEqual(self.check(), number + 1)


class MemoryTests(FilesTestCase):
    def test_upload(self) -> None:
        """A large file goes through the server, in and out, without growing it."""
        self.server = ServerProcess(self, *DOORS).start()
        size = 60_000_000
        self.ask("POST", "/Marti/sync/missionupload?filename=warm", form(b"warm"), FORM)
        before = self.server.memory()
        head, tail = form(b"\0").split(b"\0")
        data, sha = os.urandom(1_000_000), sha256()

        def body() -> Iterator[bytes]:
            yield head
            for _ in range(size // len(data)):
                sha.update(data)
                yield data
            yield tail

        length = {"Content-Length": str(len(head) + size + len(tail))}
        status, answer = self.ask("POST", "/Marti/sync/missionupload?filename=big.zip", body(), FORM | length)
        self.assertEqual((status, answer[-64:].decode()), (200, sha.hexdigest()))
        self.assertEqual(sha256(self.download(sha.hexdigest())).hexdigest(), sha.hexdigest())
        self.assertLess(self.server.memory() - before, 8_000_000)


class TakyTests(FilesTestCase):
    def test_takeover(self) -> None:
        """A site of taky: its packages are listed as it listed them, and are downloaded byte by byte."""
        folder = Path(self.mktemp()).absolute()
        taky = TakyFolder(folder / "dp-user")
        contents = {"public.zip": os.urandom(100_000), "old.zip": os.urandom(1000), "private.zip": os.urandom(1000)}
        taky.upload("ANDROID-1", "public.zip", contents["public.zip"], Visibility="public")
        taky.upload("ANDROID-1", "old.zip", contents["old.zip"], Visibility=None)
        taky.upload("ANDROID-2", "private.zip", contents["private.zip"])
        before = taky.snapshot()
        (folder / "taky.conf").write_text("[dp_server]\nupload_path = dp-user\n")
        self.server = ServerProcess(self, *DOORS, folder=folder).start()
        self.server.wait_for_log("3 data packages of taky were taken over")
        for _ in range(2):
            _, body = self.ask("GET", "/Marti/sync/search?keywords=missionpackage&tool=public")
            self.assertEqual({file["Name"] for file in json.loads(body)["results"]}, {"public.zip", "old.zip"})
            for data in contents.values():
                self.assertEqual(self.download(sha256(data).hexdigest()), data)
            self.assertEqual(taky.snapshot(), before)
            self.server.terminate()
            self.assertEqual(self.server.wait(), 0)
            self.server.start()
        self.assertNotIn("taken over", self.server.log)
