"""The messages of TAK protocol version 1, made from their field numbers when this is imported.

Generated code wants a runtime as new as its generator, and puts its names into a pool that all packages of a process
share. What is made here stands in a pool of our own and runs on every protobuf from 4.25 on. `takproto.proto` says the
same with comments.

Source: ATAK-CIV ``commoncommo/core/impl/protobuf/*.proto``; TAK Server ``takmessage.proto`` and ``cotevent.proto`` for
what it added.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "taky.wire.v1"

FIELDS: dict[str, tuple[tuple[int, str, str], ...]] = {
    "TakMessage": (
        (1, "TakControl", "takControl"),
        (2, "CotEvent", "cotEvent"),
        (3, "uint64", "submissionTime"),
        (4, "uint64", "creationTime"),
    ),
    "TakControl": ((1, "uint32", "minProtoVersion"), (2, "uint32", "maxProtoVersion"), (3, "string", "contactUid")),
    "CotEvent": (
        (1, "string", "type"),
        (2, "string", "access"),
        (3, "string", "qos"),
        (4, "string", "opex"),
        (5, "string", "uid"),
        (6, "uint64", "sendTime"),
        (7, "uint64", "startTime"),
        (8, "uint64", "staleTime"),
        (9, "string", "how"),
        (10, "double", "lat"),
        (11, "double", "lon"),
        (12, "double", "hae"),
        (13, "double", "ce"),
        (14, "double", "le"),
        (15, "Detail", "detail"),
        (16, "string", "caveat"),
        (17, "string", "releaseableTo"),
    ),
    "Detail": (
        (1, "string", "xmlDetail"),
        (2, "Contact", "contact"),
        (3, "Group", "group"),
        (4, "PrecisionLocation", "precisionLocation"),
        (5, "Status", "status"),
        (6, "Takv", "takv"),
        (7, "Track", "track"),
    ),
    "Contact": ((1, "string", "endpoint"), (2, "string", "callsign")),
    "Group": ((1, "string", "name"), (2, "string", "role")),
    "PrecisionLocation": ((1, "string", "geopointsrc"), (2, "string", "altsrc")),
    "Status": ((1, "uint32", "battery"),),
    "Takv": ((1, "string", "device"), (2, "string", "platform"), (3, "string", "os"), (4, "string", "version")),
    "Track": ((1, "double", "speed"), (2, "double", "course")),
}
"""Number, type and name of the fields of each message."""

_SCALARS = {
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="takproto.proto", package=PACKAGE, syntax="proto3")
    for message_name, fields in FIELDS.items():
        message = file.message_type.add(name=message_name)
        for number, type_, name in fields:
            field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            if type_ in _SCALARS:
                field.type = _SCALARS[type_]
            else:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{type_}"
    return file


_pool = DescriptorPool()
_pool.AddSerializedFile(_file().SerializeToString())

# Any: what protobuf makes at run time has no types that a checker could read.
TakMessage: Any = GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.TakMessage"))
