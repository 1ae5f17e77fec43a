r"""Endpoint strings in pieces: words and keys, and whether the keys are known and their values possible.

Only what Twisted's own parser does not say in plain words is here; it does the rest.
"""

from __future__ import annotations

import difflib
import socket
from collections.abc import Mapping, Sequence

from twisted.internet.abstract import isIPAddress, isIPv6Address

from taky_twisted.identity.errors import EndpointError

COLON_HINT = r"a ':' inside a value is written '\:'"


def split(description: str) -> tuple[list[str], dict[str, str]]:
    r"""Split a string as Twisted does: ``:`` between arguments, ``key=value``, ``\`` before what means itself.

    Unlike in Twisted, a key that is there twice is an error.
    """
    if "\0" in description:
        raise EndpointError("it holds a NUL character, which is in no name of a file")
    words: list[str] = []
    keys: dict[str, str] = {}
    key: str | None = None
    current = ""

    def end() -> None:
        if key is None:
            words.append(current)
        elif key in keys:
            raise EndpointError(f"{key}= is there twice")
        else:
            keys[key] = current

    characters = iter(description)
    for character in characters:
        if character == "\\":
            current += next(characters, "")
        elif character == "=" and key is None:
            key, current = current, ""
        elif character == ":":
            end()
            key, current = None, ""
        else:
            current += character
    end()
    return words, keys


def joined(words: Sequence[str], keys: Mapping[str, str]) -> str:
    """Write words and keys as one string, the opposite of `split`."""
    return ":".join([*map(quoted, words), *(f"{quoted(key)}={quoted(value)}" for key, value in keys.items())])


def quoted(text: str) -> str:
    r"""Write a text so that it stands for itself: ``\``, ``:`` and ``=`` escaped."""
    # Twisted's quoteStringArgument leaves '=' alone, which makes a key of a path with one.
    return text.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")


def named_keys(words: Sequence[str], keys: Mapping[str, str], known: Sequence[str]) -> dict[str, str]:
    """Check the keys; the first word without a key is the port, there may be no other."""
    if len(words) > 1 or (words and not words[0]):
        stray = words[1] if len(words) > 1 else words[0]
        raise EndpointError(f"{stray!r} has no key in front of it; write key=value, and {COLON_HINT}")
    if words and "port" in keys:
        raise EndpointError("the port is given twice")
    for key in keys:
        if key not in known:
            lower = {each.lower(): each for each in known}
            near = difflib.get_close_matches(key.lower(), lower, n=1)
            hint = f"did you mean {lower[near[0]]}?" if near else f"allowed are {', '.join(known)}"
            raise EndpointError(f"unknown key {key!r}; {hint}")
    return {**({"port": words[0]} if words else {}), **keys}


def port_of(description: str) -> int | None:
    """Tell the TCP port of an endpoint string; None for one that has none, or whichever is free."""
    words, keys = split(description)
    if "inner" in keys:
        return port_of(keys["inner"])
    if words and words[0].lower() == "haproxy":
        words = words[1:]
    text = keys.get("port") or (words[1] if len(words) > 1 else "")
    return (int(text) or None) if text.isdecimal() and len(text) <= 5 else None


def check_number(key: str, text: str, high: int) -> None:
    """Refuse what is not a whole number from 0 to ``high``."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= high):
        raise EndpointError(f"{key}={text}: not a whole number from 0 to {high}")


def interface_address(text: str) -> str:
    """Check the address to listen on; ``localhost`` is 127.0.0.1, other names are not looked up."""
    if text == "localhost":
        return "127.0.0.1"
    if not isIPAddress(text) and not isIPv6Address(text):
        raise EndpointError(
            rf"interface={text}: not an IP address like 127.0.0.1, 0.0.0.0 or \:\: (all, also IPv6); {COLON_HINT}"
        )
    _, _, scope = text.partition("%")
    if scope and not scope.isdigit() and scope not in (name for _, name in socket.if_nameindex()):
        raise EndpointError(f"interface={text}: this machine has no network interface {scope}")
    return text
