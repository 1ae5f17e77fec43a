"""Two groups with a world of their own each: people, items, files, videos and a past that the other must not see."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from taky_twisted.enterprise_sync.files import Caller
from tests.fakes import MemorySink
from tests.marti.file_server import FORM, form
from tests.samples import chat, emergency, event, marker, sa
from tests.security.people import BLUE, RED, People
from tests.security.world import Reply, World

OWNERS = {RED: "fox", BLUE: "wolf"}
"""Who has everything in a group."""
SIDES = (RED, BLUE)
JSON = {"Content-Type": "application/json"}


def other(group: str) -> str:
    """Name the other group."""
    return BLUE if group == RED else RED


class Things:
    """What there is in both groups. What one of them may see alone begins with the group's name and a dash."""

    def __init__(self, world: World, people: People) -> None:
        self.world, self.people = world, people
        self.phones: dict[str, MemorySink] = {}
        for group in SIDES:
            self._fill(group)
        world.clock.advance(1)

    def _fill(self, group: str) -> None:
        world, owner = self.world, OWNERS[group]
        # One more, so that something can be switched off.
        world.accounts.set_groups(owner, [group, f"{group}-SPARE"], [group, f"{group}-SPARE"])
        certificate = world.accounts.principal(owner)
        self.phones[group] = MemorySink()
        stream = world.router.subscribe(certificate, self.phones[group], f"192.0.2.{ord(group[0])}:4000 at ssl:8089")
        now = world.now()
        for document in (
            sa(f"{group}-PHONE", f"{group}-CALLSIGN", now=now),
            marker(f"{group}-MARK", f"{group}-NAME", now=now),
            emergency(f"{group}-PHONE", f"{group}-CALLSIGN", now=now),
            chat(f"{group}-PHONE", f"{group}-WORDS", now=now),
        ):
            stream.publish(event(document))
        reply = self.ask(
            owner,
            "POST",
            f"/Marti/sync/missionupload?filename={group}-FILE.zip&creatorUid={group}-PHONE&tool=public",
            form(self.content(group)),
            FORM,
        )
        assert reply.status == 200, reply
        reply = self.ask(owner, "POST", "/Marti/api/video", json.dumps(self.video(group)).encode(), JSON)
        assert reply.status == 200, reply

    def ask(
        self, who: str, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Reply:
        """Ask on the door for certificates."""
        reply = self.world.ask("cert", method, target, body, headers, self.people.certificates[who])
        assert reply is not None
        return reply

    @staticmethod
    def content(group: str) -> bytes:
        """Make up the content of the group's file."""
        return f"{group}-CONTENT".encode()

    def hash(self, group: str) -> str:
        """Name that content."""
        return sha256(self.content(group)).hexdigest()

    def number(self, group: str) -> str:
        """Tell the number of the group's file."""
        (file,) = [file for file in self.world.api.files.all(self._caller(group)) if file.hash == self.hash(group)]
        return str(file.number)

    def _caller(self, group: str) -> Caller:
        return Caller(self.world.accounts.principal(OWNERS[group]))

    @staticmethod
    def video(group: str, alias: str = "ALIAS", more: str = "") -> dict[str, Any]:
        """Make up a video connection."""
        feed = {
            "uuid": f"{group}-FEED{more}",
            "alias": f"{group}-{alias}",
            "url": f"rtsp://198.51.100.1/{group}-STREAM",
            "active": True,
        }
        return {
            "videoConnections": [
                {"uuid": f"{group}-VIDEO{more}", "alias": f"{group}-{alias}", "active": True, "feeds": [feed]}
            ]
        }

    def told(self, text: str, group: str) -> str:
        """Fill in what belongs to a group."""
        for name, value in (("G", group), ("HASH", self.hash(group))):
            text = text.replace("{" + name + "}", value)
        return text.replace("{NUMBER}", self.number(group)) if "{NUMBER}" in text else text

    def secrets(self, group: str) -> list[bytes]:
        """List what somebody of another group must not find in an answer."""
        return [f"{group}-".encode(), self.hash(group).encode(), OWNERS[group].encode()]

    def state(self, group: str) -> dict[str, bytes]:
        """Show all that somebody of a group sees."""
        targets = (
            "/Marti/api/files/metadata",
            "/Marti/sync/search",
            "/Marti/sync/content?hash={HASH}",
            "/Marti/api/video",
            "/Marti/vcm",
            "/Marti/api/cot/xml/{G}-MARK/all",
            "/Marti/api/cot/xml/{G}-PHONE/all",
            "/Marti/api/cot/xml/{G}-MARK",
            "/Marti/api/cot/xml/{G}-PHONE",
            "/Marti/LatestKML",
            "/Marti/api/contacts/all",
            "/Marti/api/groups/all",
        )
        shown = {}
        for target in targets:
            reply = self.ask(OWNERS[group], "GET", self.told(target, group))
            shown[target] = f"{reply.status} ".encode() + reply.body
        return shown
