"""What phones scan instead of importing a package, as text and as pictures.

Source: ``tak://`` links as TAK clients since ATAK 5.1 take them (pytak ``client_functions.py``, qrtak); the line and
the JSON of iTAK (OpenTAKServer ``blueprints/``, TAK Aware).
"""

from __future__ import annotations

import io
import json
from typing import Literal
from urllib.parse import quote

import segno

COT_PORT = 8089


def atak_enroll(host: str, username: str, token: str) -> str:
    """Make the link with which ATAK enrolls; the token stands in place of a password."""
    values = {"host": host, "username": username, "token": token}
    return "tak://com.atakmap.app/enroll?" + _query(values)


def atak_import(url: str) -> str:
    """Make the link with which ATAK imports the package at an address; it shows no certificate there."""
    return "tak://com.atakmap.app/import?" + _query({"url": url})


def itak_server(description: str, host: str, port: int = COT_PORT, *, encrypted: bool = True) -> str:
    """Make the line with which iTAK knows a server; it then asks for name and password."""
    # iTAK splits at every comma, quoted or not.
    name = " ".join(description.replace(",", " ").split())
    return f"{name},{host},{port},{'SSL' if encrypted else 'TCP'}"


def itak_enroll(host: str, username: str, password: str, port: int = COT_PORT) -> str:
    """Make what newer iTAK and TAK Aware enroll with."""
    told = {
        "serverCredentials": {"connectionString": f"{host}:{port}:ssl"},
        "userCredentials": {"username": username, "password": password},
    }
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False)


def terminal(text: str) -> str:
    """Draw the code with characters, two rows in a line, readable on dark and on light terminals."""
    drawn = io.StringIO()
    _code(text).terminal(drawn, compact=True, border=2)
    return drawn.getvalue()


def picture(text: str, kind: Literal["svg", "png"]) -> bytes:
    """Draw the code as a picture."""
    drawn = io.BytesIO()
    _code(text).save(drawn, kind=kind, scale=8, border=4)
    return drawn.getvalue()


def inline(text: str) -> str:
    """Draw the code as an ``<svg>`` that stands in a page; its size is the page's business."""
    return _code(text).svg_inline(border=4, omitsize=True)


def _code(text: str) -> segno.QRCode:
    return segno.make_qr(text, error="m")


def _query(values: dict[str, str]) -> str:
    return "&".join(f"{key}={quote(value, safe='')}" for key, value in values.items())
