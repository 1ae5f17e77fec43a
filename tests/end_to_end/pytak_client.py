"""A PyTAK client for tests: it says what it reads on stdin, and prints what it hears; one JSON string a line each.

Run it with PyTAK's settings as one JSON object in the first argument.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from configparser import ConfigParser
from xml.sax.saxutils import quoteattr

import pytak


class Speaker(pytak.QueueWorker):  # type: ignore[misc]  # PyTAK has no types
    """Send what is read."""

    async def run(self, _: int = -1) -> None:
        reader = asyncio.StreamReader(limit=1 << 20)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            await self.put_queue(json.loads(line).encode())


class Listener(pytak.QueueWorker):  # type: ignore[misc]
    """Print what is heard."""

    async def run(self, _: int = -1) -> None:
        while True:
            event = await self.queue.get()
            if not isinstance(event, bytes):  # with TAK_PROTO=1 PyTAK hands out messages
                said = event.cotEvent
                event = f"<event uid={quoteattr(said.uid)} type={quoteattr(said.type)}/>".encode()
            print(json.dumps(event.decode()), flush=True)


async def main() -> None:
    """Run until the connection ends."""
    config = ConfigParser(interpolation=None)  # links have percent signs
    config["client"] = json.loads(sys.argv[1])
    os.environ["HOME"] = config["client"].get("HOME", os.environ.get("HOME", ""))  # it keeps certificates there
    if config["client"]["COT_URL"].startswith("tak:"):
        config["client"].update(await pytak.client_functions.resolve_tak_url(config["client"]["COT_URL"]))
    tool = pytak.CLITool(config["client"])
    await tool.setup()
    tool.add_tasks({Speaker(tool.tx_queue, config["client"]), Listener(tool.rx_queue, config["client"])})
    await tool.run()


if __name__ == "__main__":
    asyncio.run(main())
