"""Samples that several targets begin with, and where they keep files."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

SHM = Path("/dev/shm")
"""Where files are in memory; a fuzzer writes many."""
BOUNDARY = "------------------------0123456789abcdef"
FORM_HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
VIDEO = (
    b"<videoConnections><feed><protocol>rtsp</protocol><alias>cam</alias><uid>v1</uid><address>1.2.3.4</address>"
    b"<port>554</port><path>/live</path><active>true</active></feed></videoConnections>"
)
TRACK = (
    b'<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2"><Placemark><gx:Track>'
    b"<when>2026-03-01T09:00:00.000Z</when><gx:coord>4.3 52.1 1</gx:coord></gx:Track></Placemark></kml>"
)
FEED = {"uuid": "f", "alias": "a", "url": "rtsp://1.2.3.4:554/x", "active": True, "order": 1, "bitrate": "3"}


def form(data: bytes, field: str = "assetfile", name: str = "Fotos.zip") -> bytes:
    """Spell a file as curl does in a form."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: application/x-zip-compressed\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def memory_folder(name: str) -> Path:
    """Make a folder, in memory where that is possible; it is gone when the process ends."""
    path = Path(tempfile.mkdtemp(prefix=f"taky-fuzz-{name}-", dir=SHM if SHM.is_dir() else None))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
