"""What stands inside ``<detail>``: cut out of an event's XML, and looked into.

Expat reads and tells where things stand; what is kept is the sender's bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from taky_twisted.cot.errors import MalformedEvent

_START_TAG = re.compile(rb"<[^\"'>]*(?:\"[^\"]*\"[^\"'>]*|'[^']*'[^\"'>]*)*>")


class DetailReader:
    """One pass of expat over a delivered event: its attributes, and the children of its ``<detail>`` as bytes."""

    def __init__(self, document: bytes, wanted: Collection[str]) -> None:
        """Read.

        Args:
            document: `Event.xml`, which is known to be well-formed.
            wanted: names of the children that `candidates` tells of.
        """
        self.root: dict[str, str] = {}
        """The attributes of ``<event>``."""
        self.point: dict[str, str] = {}
        """The attributes of ``<point>``."""
        self.pieces: list[bytes] = []
        """What stands inside ``<detail>``, in order: children, and text that is not blank."""
        self.candidates: dict[str, tuple[int, dict[str, str]]] = {}
        """Place in `pieces` and attributes of each wanted child that is empty and the only one of its name."""
        self._document = document
        self._wanted = wanted
        self._seen: set[str] = set()
        self._inherited: dict[str, str] = {}  # the namespaces that <event> declares, by attribute
        self._namespaces = self._inherited  # those that <detail> declares, too
        self._has_namespaces = b"xmlns" in document
        self._depth = 0
        self._in_detail = False
        self._text_at = 0  # where the text behind the last tag inside <detail> begins
        self._child_at = 0
        self._has_elements = False  # the child that we are in
        self._attributes: dict[str, str] = {}  # its own
        self._parser = parser = expat.ParserCreate("UTF-8")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(document, True)
        finally:
            # The parser holds our methods and we hold it.
            del self._parser

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth = depth = self._depth + 1
        if depth == 3:
            if self._in_detail:
                self._child_at = at = self._parser.CurrentByteIndex
                if at != self._text_at:
                    self._take_text(at)
                self._has_elements = False
                self._attributes = attributes
        elif depth > 3:
            self._has_elements = True
        elif depth == 2:
            if name == "detail":
                self._in_detail = True
                self._text_at = self._tag_end(self._parser.CurrentByteIndex)
                self._namespaces = self._declared(self._inherited, attributes)
            elif name == "point" and not self.point:
                self.point = attributes
        else:
            self.root = attributes
            self._inherited = self._declared({}, attributes)

    def _end(self, name: str) -> None:
        self._depth = depth = self._depth - 1
        if depth == 2:
            if self._in_detail:
                self._take_child(name)
        elif depth == 1 and self._in_detail:
            self._take_text(self._parser.CurrentByteIndex)
            self._in_detail = False

    def _take_text(self, end: int) -> None:
        text = self._document[self._text_at : end]
        if text.strip():
            self.pieces.append(text)

    def _take_child(self, name: str) -> None:
        document, begin, at = self._document, self._child_at, self._parser.CurrentByteIndex
        # Behind an empty-element tag expat already stands at its end, where the end tag of <detail> may follow.
        empty, end = True, at
        if document.startswith(b"</", at):
            empty = not self._has_elements and self._tag_end(begin) == at
            if not (empty and document.endswith(b"/>", begin, at)):
                end = document.index(b">", at) + 1
        self._text_at = end
        if name in self._wanted:
            if name in self._seen:
                self.candidates.pop(name, None)
            elif empty and "xmlns" not in self._namespaces:
                self.candidates[name] = len(self.pieces), self._attributes
            self._seen.add(name)
        child = document[begin:end]
        if self._namespaces:
            child = _with_namespaces(child, name, self._attributes, self._namespaces)
        self.pieces.append(child)

    def _tag_end(self, at: int) -> int:
        match = _START_TAG.match(self._document, at)
        assert match is not None
        return match.end()

    def _declared(self, outer: dict[str, str], attributes: Mapping[str, str]) -> dict[str, str]:
        if not self._has_namespaces:
            return outer
        own = {name: uri for name, uri in attributes.items() if name == "xmlns" or name.startswith("xmlns:")}
        return {name: uri for name, uri in {**outer, **own}.items() if uri}


def child_names(xml_detail: str) -> set[str]:
    """Name the elements that stand directly in ``xmlDetail``.

    Raises:
        MalformedEvent: it is not what may stand inside ``<detail>``.
    """
    names: set[str] = set()
    depth = 0

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 2:
            names.add(name)

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        parser.Parse(f"<detail>{xml_detail}</detail>".encode(), True)
    except expat.ExpatError as error:
        raise MalformedEvent(f"xmlDetail is not well-formed XML: {error}") from error
    return names


def _with_namespaces(child: bytes, name: str, attributes: Mapping[str, str], namespaces: Mapping[str, str]) -> bytes:
    """Declare on a child the namespaces from above that it uses, or may use: prefixes stand in values as well."""
    declarations = [
        f" {declaration}={quoteattr(uri)}"
        for declaration, uri in namespaces.items()
        if declaration not in attributes and (declaration == "xmlns" or _uses(child, declaration))
    ]
    at = 1 + len(name.encode())
    return child[:at] + "".join(declarations).encode() + child[at:]


def _uses(child: bytes, declaration: str) -> bool:
    return f"{declaration[len('xmlns:') :]}:".encode() in child
