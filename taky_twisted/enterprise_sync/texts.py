"""Words of clients, made fit to be kept, listed, and written into a header."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME = 255
"""Characters of a file name."""

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,79}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,79}")


def clean(text: str) -> str:
    """Leave out what cannot be shown: control and formatting characters, and what is no character at all."""
    return "".join(character for character in text if unicodedata.category(character)[0] != "C").strip()


def clean_name(name: str) -> str:
    """Take the last part of a path as a file's name; empty if there is none. Receivers save the file under it."""
    last = clean(re.split(r"[/\\]", name)[-1])
    if len(last) > MAX_NAME:
        stem, dot, suffix = last.rpartition(".")
        tail = dot + suffix if stem and len(suffix) < 16 else ""
        last = (last[: MAX_NAME - len(tail)] + tail).rstrip()
    return last if last.strip(".") else ""


def clean_type(mime_type: str) -> str:
    """Take a MIME type without its parameters; empty if it is none."""
    bare = mime_type.partition(";")[0].strip()
    return bare if _TYPE.fullmatch(bare) else ""
