from __future__ import annotations

import re
from pathlib import Path

from google.protobuf import descriptor_pool
from takproto.proto import TakMessage as TheirMessage
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.takproto import messages
from taky_twisted.takproto.messages import FIELDS, PACKAGE, TakMessage

SCHEMA = Path(messages.__file__).with_name("takproto.proto")


class MessagesTests(SynchronousTestCase):
    def test_schema(self) -> None:
        """Whoever generates code from our .proto file gets the messages that the server speaks."""
        text = re.sub(r"//.*", "", SCHEMA.read_text("utf-8"))
        said = {
            name: tuple(
                (int(number), type_, field)
                for type_, field, number in re.findall(r"(\w+)\s+(\w+)\s*=\s*(\d+)\s*;", body)
            )
            for name, body in re.findall(r"message\s+(\w+)\s*\{([^}]*)\}", text)
        }
        self.assertEqual(said, FIELDS)
        self.assertIn('syntax = "proto3";', text)
        self.assertIn(f"package {PACKAGE};", text)

    def test_numbers(self) -> None:
        """The messages have the numbers, the types and the names of the table."""
        seen = set()
        todo = [TakMessage.DESCRIPTOR]
        while todo:
            message = todo.pop()
            seen.add(message.name)
            fields = tuple(
                (field.number, field.message_type.name if field.message_type else _SCALARS[field.type], field.name)
                for field in message.fields
            )
            self.assertEqual(fields, FIELDS[message.name])
            todo += [field.message_type for field in message.fields if field.message_type]
        self.assertEqual(seen, set(FIELDS))

    def test_private(self) -> None:
        """Other TAK libraries and their names live in the same process."""
        self.assertRaises(KeyError, descriptor_pool.Default().FindMessageTypeByName, f"{PACKAGE}.TakMessage")
        self.assertNotEqual(TheirMessage.DESCRIPTOR.full_name, TakMessage.DESCRIPTOR.full_name)

    def test_same_bytes(self) -> None:
        """What a widely used library writes for all fields that it knows, we write to the byte."""
        event = {
            "type": "a-f-G",
            "access": "a",
            "qos": "b",
            "opex": "c",
            "uid": "U",
            "sendTime": 1,
            "startTime": 2,
            "staleTime": (1 << 64) - 1,
            "how": "m-g",
            "lat": 1.5,
            "lon": -2.5,
            "hae": 3.5,
            "ce": 4.5,
            "le": 5.5,
            "detail": {
                "xmlDetail": "<é/>",
                "contact": {"endpoint": "e", "callsign": "c"},
                "group": {"name": "n", "role": "r"},
                "precisionLocation": {"geopointsrc": "g", "altsrc": "a"},
                "status": {"battery": (1 << 32) - 1},
                "takv": {"device": "d", "platform": "p", "os": "o", "version": "v"},
                "track": {"speed": 6.5, "course": 7.5},
            },
        }
        control = {"minProtoVersion": 1, "maxProtoVersion": 2, "contactUid": "u"}
        ours, theirs = (kind(takControl=control, cotEvent=event) for kind in (TakMessage, TheirMessage))
        self.assertEqual(ours.SerializeToString(), theirs.SerializeToString())


_SCALARS = {1: "double", 4: "uint64", 9: "string", 13: "uint32"}
