"""Limits of operators' tools and files that have no test at their edge beside their module."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli import build_client, checks, kickban
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.running import RunningServer
from taky_twisted.config.values import parse_group_names
from taky_twisted.data_folder import SocketError, checked_socket
from taky_twisted.enterprise_sync.takeover import take_over as take_over_files
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.video.takeover import MAX_FILES, take_over
from taky_twisted.video.videos import Videos
from tests.cli.answering import AnsweringTestCase
from tests.cli.test_backup import BackupTestCase
from tests.cli.test_checks import ChecksTestCase
from tests.cli.tool import takyctl
from tests.enterprise_sync.stored_files import ALICE, StoredFiles
from tests.enterprise_sync.taky_folder import TakyFolder
from tests.fakes import LogLines
from tests.limits.edges import Edges
from tests.threaded_clock import ThreadedClock
from tests.video.test_takeover import kept_by_taky


class NameTests(Edges, SynchronousTestCase):
    def test_groups(self) -> None:
        """Names of groups in ``taky.conf`` and for ``build_client`` may be so long."""

        def configured(size: int) -> bool:
            try:
                return parse_group_names("x" * size) == ("x" * size,)
            except ValueError:
                return False

        def given(size: int) -> bool:
            try:
                return build_client._group("x" * size) == "x" * size
            except CommandError:
                return False

        self.assert_edge("config.values.MAX_GROUP_NAME", configured)
        self.assert_edge("cli.build_client.MAX_GROUP", given)

    def test_serial(self) -> None:
        """A serial number may have so many digits."""

        def fits(digits: int) -> bool:
            try:
                return kickban._serial("f" * digits) > 0
            except CommandError:
                return False

        self.assert_edge("cli.kickban.MAX_SERIAL_DIGITS", fits)

    def test_days(self) -> None:
        """A certificate may be for so many days."""

        def fits(days: int) -> bool:
            try:
                return build_client._days(days) == days
            except CommandError:
                return False

        self.assert_edge("enrollment.authority.MAX_DAYS", fits)

    def test_socket(self) -> None:
        """The path of a socket is as long as the system takes it, counted in bytes."""

        def fits(size: int) -> bool:
            path = Path("/" + "ü" + "x" * (size - 3))
            self.assertEqual(len(os.fsencode(path)), size)
            try:
                return checked_socket(path) == path
            except SocketError:
                return False

        self.assert_edge("data_folder.SOCKET_PATH_BYTES", fits)


class AnswerTests(Edges, AnsweringTestCase):
    def test_size(self) -> None:
        """An answer of a running server may have so many bytes."""

        def fits(size: int) -> bool:
            said = json.dumps({"v": 1, "ok": True, "x": ""})
            said = said.replace('""', '"' + "x" * (size - len(said)) + '"')
            self.assertEqual(len(said), size)
            try:
                return len(RunningServer(self.answer(said.encode() + b"\n")).ask("ping")["x"]) > 0
            except CommandError as error:
                self.assertIn("answers more than", str(error))
                return False

        self.assert_edge("cli.running.MAX_ANSWER_BYTES", fits, small=100_000)


class DoctorTests(ChecksTestCase):
    def test_store(self) -> None:
        """A store up to a size is read through, so that damage is found; a larger one is opened only."""
        path = self.data / "taky.sqlite"
        with closing(sqlite3.connect(path)) as made:
            made.execute("CREATE TABLE t (x)")
            made.executemany("INSERT INTO t VALUES (?)", [("y" * 500,)] * 100)
            made.commit()
        content = bytearray(path.read_bytes())
        content[5000:9000] = b"z" * 4000
        path.write_bytes(content)
        for more, level in ((-1, "problem"), (0, "problem"), (1, "ok")):
            self.patch(checks, "CHECKED_STORE_BYTES", len(content) - more)
            self.assert_found(self.checks().store(), level, "is damaged" if level == "problem" else "is whole")


class BackupTests(Edges, BackupTestCase):
    def test_passphrase(self) -> None:
        """A passphrase has 8 to 1024 characters, and all of them count."""
        made = 0

        def fits(size: int) -> bool:
            nonlocal made
            made += 1
            Path("phrase").write_text("x" * size + "\r\n", "utf-8")
            ran = takyctl("-c", self.conf, "backup", "--passphrase-file", "phrase", f"b{made}")
            if ran.status:
                self.assertIn("characters; nothing was written", ran.err)
                return False
            Path("other").write_text("x" * (size - 1) + "\n", "utf-8")
            self.assertNotEqual(takyctl("restore", "--passphrase-file", "other", f"b{made}", f"o{made}").status, 0)
            return takyctl("restore", "--passphrase-file", "phrase", f"b{made}", f"r{made}").status == 0

        self.assert_edge("cli.backup.MIN_PASSPHRASE", fits, least=True)
        self.assert_edge("cli.backup.MAX_PASSPHRASE", fits)

    def test_names_of_profiles(self) -> None:
        """A file of a profile is backed up if its name, with its folders, is no longer than that."""
        folder = self.layout.data / "profiles/enrollment"

        def fits(size: int) -> bool:
            name = "x" * (size - len("data/profiles/enrollment/"))
            (folder / name).write_bytes(b"")
            ran = self.run_well("backup", "--plain", f"b{size}.tar.gz")
            (folder / name).unlink()
            return "is not in the backup" not in ran.err

        self.assert_edge("cli.backup_names.PROFILE_BYTES", fits)


class TakeOverTests(Edges, SynchronousTestCase):
    def test_videos(self) -> None:
        """So many of taky's video feeds are taken over, and the log says if there are more."""
        log = LogLines(self)

        def all_of(count: int) -> bool:
            clock = ThreadedClock()
            folder = Path(self.mktemp()) / "video_feed"
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.xml").write_text(kept_by_taky(f"f-{number}"), "utf-8")
            videos = Videos(MemoryStore(clock), clock, 1000)
            clock.wait(Deferred.fromCoroutine(take_over(folder.parent, videos, None, clock)))
            told = any("the others were not taken over" in line for line in log())
            self.assertEqual(told, count > 3)
            return len(list(videos.visible(frozenset({"__ANON__"})))) == count

        self.assertGreater(MAX_FILES, 1000)
        self.assert_edge("video.takeover.MAX_FILES", all_of, small=3)

    def test_descriptions(self) -> None:
        """A description among taky's files may have so many bytes; a longer one is named in the log."""
        log = LogLines(self)

        def taken(size: int) -> bool:
            stored = StoredFiles(self)
            taky = TakyFolder(stored.upload_path)
            taky.upload("A", "a.zip", b"data")
            for path in (taky.path / "meta").glob("*.json"):  # two names of one file
                path.write_bytes(path.read_bytes().ljust(size))
            stored.run(take_over_files(taky.path, stored.files, stored.blobs, None))
            return len(stored.files.all(ALICE)) == 1

        self.assert_edge("enterprise_sync.takeover.MAX_DESCRIPTION", taken)
        self.assertEqual(len([line for line in log() if "it is too long" in line]), 1)
