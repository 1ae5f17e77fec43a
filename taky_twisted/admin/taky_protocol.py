"""taky's protocol: a JSON object and a NUL ask, a JSON object and a NUL answer.

For programs that know taky's ``taky-mgmt.sock``. Members and texts are taky's, no others.

Source: taky 0.10, ``taky/cot/mgmt.py``.
"""

from __future__ import annotations

import json
from typing import Any

from taky_twisted.admin.commands import Admin, AdminError
from taky_twisted.admin.requests import RequestProtocol


class TakyProtocol(RequestProtocol):
    """Answer as taky does."""

    delimiter = b"\0"

    def __init__(self, admin: Admin) -> None:
        super().__init__()
        self._admin = admin

    async def answer(self, request: bytes) -> None:
        try:
            asked = json.loads(request.decode())
        except (ValueError, RecursionError) as error:
            self.refuse(str(error))
            return
        self._say(await self._answered_to(asked if isinstance(asked, dict) else {}))

    def refuse(self, why: str) -> None:
        self._say({"error": why})

    async def _answered_to(self, asked: dict[str, Any]) -> dict[str, Any]:
        command = asked.get("cmd")
        if command == "ping":
            return {"pong": "taky"}
        if command == "status":
            return await self._admin.takys_status()
        if command == "kickban":
            user = asked.get("user")
            if not isinstance(user, str) or not user:
                return {"error": "user is missing"}
            try:
                done = await self._admin.kickban(user)
            except AdminError as error:
                return {"error": str(error)}
            return {"revoked_sns": done["revoked_sns"]}
        return {"error": f"Invalid cmd: {command}"}

    def _say(self, said: dict[str, Any]) -> None:
        self.transport.write(json.dumps(said).encode() + b"\0")
