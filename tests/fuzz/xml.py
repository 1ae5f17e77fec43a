"""What XML says, read by another parser than the server's own way."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

Element = tuple[str, tuple[tuple[str, str], ...], "list[object]"]
"""Name, attributes, and what is inside: texts and elements."""


@dataclass
class Read:
    """A document in pieces."""

    root: list[object] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    """Comments, CDATA sections and document types that it has."""


def read(document: bytes) -> Read:
    """Read a document without regard to namespaces.

    Raises:
        expat.ExpatError: it is not well-formed.
    """
    found = Read()
    inside: list[list[object]] = [found.root]

    def start(name: str, attributes: dict[str, str]) -> None:
        children: list[object] = []
        inside[-1].append((name, tuple(sorted(attributes.items())), children))
        inside.append(children)

    def text(data: str) -> None:
        here = inside[-1]
        if here and isinstance(here[-1], str):
            here[-1] += data
        else:
            here.append(data)

    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: inside.pop() and None
    parser.CharacterDataHandler = text
    parser.CommentHandler = lambda _text: found.forbidden.append("a comment")
    parser.StartCdataSectionHandler = lambda: found.forbidden.append("CDATA")
    parser.StartDoctypeDeclHandler = lambda *_: found.forbidden.append("a document type")
    parser.Parse(document, True)
    return found


def without(children: list[object], *names: str) -> list[object]:
    """Leave out elements of some names, and join the texts around them."""
    kept: list[object] = []
    for child in children:
        if isinstance(child, tuple) and child[0] in names:
            continue
        if isinstance(child, str) and kept and isinstance(kept[-1], str):
            kept[-1] += child
        else:
            kept.append(child)
    return kept
