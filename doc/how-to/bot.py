"""A bot with a place on the map, which prints the chat that it hears."""

import asyncio
import os
import xml.etree.ElementTree as ET
from configparser import ConfigParser

import pytak


class Report(pytak.QueueWorker):
    """Say once a minute who and where the bot is."""

    async def run(self):
        while True:
            event = pytak.gen_cot_xml(uid="bot-1", cot_type="a-f-G-U-C", lat=52.1, lon=4.3, stale=120)
            ET.SubElement(event.find("detail"), "contact", callsign="Bot", endpoint="*:-1:stcp")
            await self.put_queue(ET.tostring(event))
            await asyncio.sleep(60)


class PrintChat(pytak.QueueWorker):
    """Print what is said to all and to the bot."""

    async def run(self):
        while True:
            event = ET.fromstring(await self.queue.get())
            if event.get("type") == "b-t-f":
                print(event.find("detail/__chat").get("senderCallsign"), "says", event.findtext("detail/remarks"))


async def main():
    config = ConfigParser()
    config["bot"] = {
        name: value for name, value in os.environ.items() if name == "COT_URL" or name.startswith("PYTAK_")
    }
    tool = pytak.CLITool(config["bot"])
    await tool.setup()
    tool.add_tasks({Report(tool.tx_queue, config["bot"]), PrintChat(tool.rx_queue, config["bot"])})
    await tool.run()


asyncio.run(main())
