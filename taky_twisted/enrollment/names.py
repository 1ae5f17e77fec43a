"""Which names people and their certificates may have."""

from __future__ import annotations

import re
import unicodedata

from taky_twisted.enrollment.errors import BadName

MAX_CHARACTERS = 63
MAX_BYTES = 200
"""In UTF-8: the name becomes part of a file's name, of which systems take 255 bytes."""

ALLOWED = (
    f"allowed: 1 to {MAX_CHARACTERS} characters, without control characters, '/' and '\\',"
    " and not with '.' or '-' first"
)


def check_name(text: str) -> str:
    """Return a name as certificates spell it: composed characters, no spaces around it.

    Raises:
        BadName: it cannot be one.
    """
    name = unicodedata.normalize("NFC", text.strip())
    if not name:
        raise BadName(f"the name is empty; {ALLOWED}")
    if len(name) > MAX_CHARACTERS:
        raise BadName(f"the name '{_shown(name[:20])}...' has {len(name)} characters; {ALLOWED}")
    for character in name:
        # Also what is invisible or turns the writing around: nobody could tell two such names apart.
        if unicodedata.category(character)[0] == "C" or character in "/\\\u2028\u2029":
            raise BadName(f"the name '{_shown(name)}' holds the character '{_shown(character)}'; {ALLOWED}")
    if name[0] in ".-":
        raise BadName(f"the name '{name}' begins with '{name[0]}'; {ALLOWED}")
    if len(name.encode()) > MAX_BYTES:
        raise BadName(f"the name '{name[:20]}...' has more than {MAX_BYTES} bytes in UTF-8; choose a shorter one")
    return name


def plain(name: str, fallback: str = "client") -> str:
    """Spell a name with letters, digits, '-' and '_' of ASCII only, for names of files on phones."""
    decomposed = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "-", decomposed).strip("-") or fallback


def _shown(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
